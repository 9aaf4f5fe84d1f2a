"""Passes whose small files come by the courier for FTP: over real servers and hostile ones."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.courier import courier
from cluster.engine import bulk
from cluster.model import Limits, OriginSpec
from cluster.origin import ftp_pool
from cluster.origin.base import Loan, PlainFtp
from cluster.origin.ftp import FtpOrigin
from tests.courier.errands import PATIENCE
from tests.courier.test_bulk import Net, started, write
from tests.origin.conformance import received
from tests.origin.ftp_servers import open_to_all
from tests.origin.hostile_ftp import HostileFtp, Session
from tests.servers import Server, proftpd, vsftpd

__all__ = ["started"]


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    made = Net(tmp_path)
    yield made
    await made.check()


def put(net: Net, server: HostileFtp, count: int) -> None:
    for i in range(count):
        server.files[b"f%d" % i] = b"%d " % i * (i % 50 + 1)
    for name, body in server.files.items():
        net.ledger.file(name, body)
    net.at(server.url)


def limited(net: Net, connections: int) -> None:
    net.mirror = replace(net.mirror, limits=Limits(connections=connections))


# -- passes


@pytest.mark.parametrize("make", [vsftpd, proftpd])
async def test_a_tree_arrives_as_it_does_without_the_courier(
    net: Net,
    make: Callable[..., AbstractContextManager[Server]],
    started: list[courier.Courier],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same files, and the same records."""
    with open_to_all() as source:
        files = write(source, 300)
        net.ledger.tree(source)
        with make(source) as server:
            net.at(server.url)
            report = await net.run()
            assert report.outcome == "complete", report
            assert len(started) == 1
            assert net.bodies() == files
            net.clean()
            with_courier = await net.records()
            (net.top / "other").mkdir()
            other = Net(net.top / "other")
            other.ledger.tree(source)
            other.at(server.url)
            monkeypatch.setattr(bulk, "WORTH", 10**9)
            assert (await other.run()).bytes_origin == report.bytes_origin
            assert len(started) == 1
            without = await other.records()
    for path in files:
        one, two = (replace(held[path], inode=0, copied=0) for held in (with_courier, without))
        assert one == two
        found, expected = ((w.public / os.fsdecode(path)).stat() for w in (net, other))
        assert (found.st_mode, found.st_mtime_ns) == (expected.st_mode, expected.st_mtime_ns)


async def test_files_of_many_small_directories_come_by_the_courier(
    net: Net, started: list[courier.Courier]
) -> None:
    """No directory has enough of them to be worth a process by itself."""
    async with HostileFtp() as server:
        for i in range(bulk.WORTH):
            server.files[b"d%d/a" % i] = server.files[b"d%d/b" % i] = b"%d " % i * (i + 1)
            net.ledger.folders.add(b"d%d" % i)
        for name, body in server.files.items():
            net.ledger.file(name, body)
        net.at(server.url)
        report = await net.run()
        assert report.outcome == "complete", report
        assert net.bodies() == server.files
        assert len(started) == 1
        report = await net.run()
        assert (report.outcome, report.files.origin) == ("complete", 0), report
    assert len(started) == 1, "where nothing changed, nobody is sent for"
    net.clean()


@pytest.mark.parametrize("connections", [1, 2, 3, 8])
async def test_no_more_connections_are_open_than_the_descriptor_allows(
    net: Net, started: list[courier.Courier], connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = FtpOrigin.lend

    async def lend(self: FtpOrigin, most: int) -> PlainFtp | None:
        lent = await real(self, most)
        if lent is not None:
            seen.append(lent.connections + self._pool.open)
        return lent

    monkeypatch.setattr(FtpOrigin, "lend", lend)
    async with HostileFtp() as server:
        put(net, server, 200)
        server.files[b"large"] = b"x" * (bulk.SMALL + 1)
        net.ledger.file(b"large", server.files[b"large"])
        limited(net, connections)
        async with asyncio.timeout(PATIENCE):
            report = await net.run()
        assert report.outcome == "complete", report
        assert net.bodies() == server.files
        assert len(started) == (connections > 1), "with one connection, that is needed for listings"
    assert max(seen, default=0) <= connections
    net.clean()


async def test_a_file_of_this_very_second_is_not_left_to_the_courier(
    net: Net, started: list[courier.Courier]
) -> None:
    """A read that tells its time is what shows a second change within that second."""
    async with HostileFtp() as server:
        put(net, server, 50)
        server.times[b"f7"] = int(time.time()) + 1
        report = await net.run()
        assert report.outcome == "complete", report
        assert len(started) == 1
        told = server.asked(b"SIZE")
    assert set(told) == {b"/f7"}


async def test_what_the_courier_cannot_take_comes_all_the_same(
    net: Net, started: list[courier.Courier]
) -> None:
    async with HostileFtp() as server:
        put(net, server, 100)

        async def busy_once(session: Session, argument: bytes) -> None:
            if server.asked(b"RETR").count(argument) == 1 and argument.endswith(b"5"):
                session.reply(b"451 Not just now.")
            else:
                await session.on_retr(argument)

        server.say[b"RETR"] = busy_once
        report = await net.run()
        assert report.outcome == "complete", report
        assert net.bodies() == server.files
    assert len(started) == 1
    net.clean()


async def test_45_a_file_that_changed_since_its_listing_is_looked_at_again(net: Net) -> None:
    async with HostileFtp() as server:
        put(net, server, 50)
        listed: list[bytes] = []

        async def grown(session: Session, argument: bytes) -> None:
            await session.on_list(argument)
            if not listed:
                server.files[b"f3"], server.times[b"f3"] = b"longer than before", 1_650_000_000
                net.ledger.file(b"f3", server.files[b"f3"])
            listed.append(argument)

        server.say[b"LIST"] = grown
        report = await net.run()
        assert report.outcome == "complete", report
        assert net.bodies() == server.files
    net.clean()


async def test_a_server_that_lets_in_two_is_mirrored_by_two(net: Net) -> None:
    async with HostileFtp() as server:
        put(net, server, 200)
        limited(net, 8)

        async def crowded(session: Session, argument: bytes) -> None:
            if server.open > 2:
                session.reply(b"421 Too many users.")
                session.writer.close()
            else:
                session.reply(b"220 Hello.")

        server.say[b""] = crowded
        async with asyncio.timeout(PATIENCE):
            report = await net.run()
        assert report.outcome == "complete", report
        assert net.bodies() == server.files
    net.clean()


async def test_90_times_of_the_directory_where_a_pass_begins_are_asked_for_once(net: Net) -> None:
    async with HostileFtp() as server:
        put(net, server, 50)
        for _ in range(3):
            report = await net.run()
            assert report.outcome == "complete", report
        assert len(server.asked(b"MDTM")) == 50
        (net.public / "f7").unlink()
        report = await net.run()
        assert (report.outcome, report.files.origin) == ("complete", 1), (
            "that nothing changed there is not all"
        )
        assert net.bodies() == server.files


# -- who lends, and how much stays


async def lent_by(origin: FtpOrigin, most: int) -> Loan:
    lent = await origin.lend(most)
    assert lent is not None
    return lent


async def test_nothing_is_lent_before_the_server_has_let_somebody_in() -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        origin = FtpOrigin(OriginSpec(server.url), Limits(connections=4))
        assert await origin.lend(3) is None
        assert server.sessions == 0
        await origin.listing(b"")
        lent = await lent_by(origin, 3)
        assert (lent.connections, lent.target(b"x/\xff")) == (3, b"/x/\xff")
        await origin.close()


async def test_connections_that_are_lent_are_not_open_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ftp_pool, "RETURNED", 0.05)
    files = {b"f%d" % i: b"1" for i in range(8)}
    async with HostileFtp(files) as server:
        origin = FtpOrigin(OriginSpec(server.url), Limits(connections=4))
        reads = [received(origin, name) for name in files]
        await asyncio.gather(*reads)
        assert (origin._pool.open, server.most) == (4, 4)
        lent = await lent_by(origin, 3)
        assert origin._pool.open == 1
        await asyncio.gather(*[received(origin, name) for name in files])
        assert origin._pool.open == 1
        origin.back(lent)
        async with asyncio.timeout(PATIENCE):
            while origin._pool.most < 4:  # noqa: ASYNC110  # a timer of its own
                await asyncio.sleep(0.01)
        await asyncio.gather(*[received(origin, name) for name in files])
        assert origin._pool.open == 4
        await origin.close()


async def test_one_connection_is_never_lent() -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        for allowed, expected in ((1, None), (2, 1), (5, 4)):
            origin = FtpOrigin(OriginSpec(server.url), Limits(connections=allowed))
            assert origin.properties.lends is (allowed > 1)
            await origin.listing(b"")
            lent = await origin.lend(allowed)
            assert (lent and lent.connections) == expected
            await origin.close()


@pytest.mark.parametrize(
    ("path", "target"), [("", b"/a"), ("pub/x", b"/pub/x/a"), ("%2Fsrv", b"/srv/a"), ("%2F", b"/a")]
)
async def test_files_are_named_as_they_are_asked_for_otherwise(path: str, target: bytes) -> None:
    async with HostileFtp({b"pub/x/a": b"1", b"srv/a": b"1", b"a": b"1"}) as server:
        origin = FtpOrigin(OriginSpec(server.url + path), Limits(connections=2))
        await origin.listing(b"")
        assert (await lent_by(origin, 1)).target(b"a") == target == origin._session.absolute(b"a")
        await origin.close()
