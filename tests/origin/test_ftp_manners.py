"""What servers do that mean no harm: other dialects, other words, other ideas of LIST."""

from __future__ import annotations

import pytest

from cluster.errors import Refused, Unreachable, Vanished
from cluster.model import Kind
from cluster.origin.ftp_file import SMALL
from tests.origin.conformance import received
from tests.origin.hostile_ftp import HostileFtp, Session
from tests.origin.test_ftp_hostile import opened


async def names(server: HostileFtp, directory: bytes = b"") -> list[bytes]:
    async with opened(server) as origin:
        return [e.name for e in (await origin.listing(directory)).entries]


@pytest.mark.parametrize(
    "said",
    [
        b'226 Successfully transferred "/pub/errors"',
        b"226-Listed /pub/errors and /access-denied/failed\r\n226 Closing data connection",
        b"226 Transfer complete.",
    ],
)
async def test_a_path_in_the_last_word_is_not_an_admission_of_failure(said: bytes) -> None:
    """FileZilla Server quotes it."""
    async with HostileFtp({b"errors/a": b"1"}) as server:

        async def listed(session: Session, argument: bytes) -> None:
            session.reply(b"150 Opening.")
            writer = await session._arrived
            writer.write(b"-rw-r--r-- 1 ftp ftp 1 Jan 02  2020 a\r\n")
            writer.close()
            session.reply(said)

        server.say[b"LIST"] = listed
        assert await names(server, b"errors") == [b"a"]


@pytest.mark.parametrize(
    "code", [b"550 -a: no such file", b"553 Invalid name", b"450 -a: not there", b"504 What?"]
)
async def test_a_server_that_takes_an_option_for_a_name_is_asked_without(code: bytes) -> None:
    async with HostileFtp({b"a": b"1", b"d/b": b"2"}) as server:

        async def strict(session: Session, argument: bytes) -> None:
            if argument:
                session.reply(code)
            else:
                await session.on_list(argument)

        server.say[b"LIST"] = strict
        async with opened(server) as origin:
            assert [e.name for e in (await origin.listing(b"")).entries] == [b"a", b"d"]
            assert [e.name for e in (await origin.listing(b"d")).entries] == [b"b"]
        assert server.asked(b"LIST") == [b"-a", b"", b""]


async def test_a_directory_that_cannot_be_listed_is_refused_though_it_can_be_entered() -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        server.say[b"LIST"] = b"550 Permission denied.\r\n"
        async with opened(server) as origin:
            with pytest.raises(Refused):
                await origin.listing(b"")


async def test_a_file_that_is_named_like_the_directory_itself_is_seen_to_change() -> None:
    async with HostileFtp({b"x .": b"1", b"y ..": b"1"}) as server, opened(server) as origin:
        before = await origin.listing(b"")
        assert [e.name for e in before.entries] == [b"x .", b"y .."]
        assert (await origin.listing(b"", before.token)).same
        server.files[b"x ."] = b"123"
        after = await origin.listing(b"", before.token)
        assert not after.same and [e.size for e in after.entries] == [3, 1]


async def test_a_listing_of_iis_is_read_and_its_minutes_are_made_exact() -> None:
    async with HostileFtp({b"a": b"12345", b"d/b": b"2"}) as server:
        server.data[b"LIST"] = (
            b"09-13-20  12:26PM                    5 a\r\n09-13-20  12:26PM       <DIR>          d\r\n"
        )
        async with opened(server) as origin:
            listing = await origin.listing(b"")
        assert [(e.name, e.kind, e.size) for e in listing.entries] == [
            (b"a", Kind.FILE, 5),
            (b"d", Kind.DIRECTORY, None),
        ]
        assert listing.entries[0].mtime and listing.entries[0].mtime.ns == 1_600_000_000 * 10**9


async def test_a_target_that_the_server_has_made_absolute_is_looked_up_in_list() -> None:
    """ProFTPD with `FactsOptions UseSlink`."""
    async with HostileFtp({b"a": b"1"}) as server:
        server.features = (*server.features, b"MLST type*;size*;modify*;")
        server.say[b"MLSD"] = mlsd
        server.data[b"MLSD"] = b"type=OS.unix=slink:/pub/a;modify=20200913122640; l\r\n"
        server.data[b"LIST"] = b"lrwxrwxrwx 1 ftp ftp 1 Jan 02  2020 l -> a\r\n"
        async with opened(server) as origin:
            (link,) = (await origin.listing(b"")).entries
        assert (link.name, link.kind, link.target) == (b"l", Kind.SYMLINK, b"a")


async def mlsd(session: Session, argument: bytes) -> None:
    await session.send(b"MLSD", b"")


async def test_a_server_that_answers_once_too_often_tells_no_file_s_facts_of_another() -> None:
    async with HostileFtp({b"a": b"1", b"b": b"22"}) as server:

        async def twice(session: Session, argument: bytes) -> None:
            if not server.asked(b"NOOP"):
                server.commands.append(b"NOOP")
                session.reply(b"226 Done once more.")
            await session.on_size(argument)

        server.say[b"SIZE"] = twice
        async with opened(server) as origin:
            with pytest.raises(Unreachable, match="not an answer to SIZE: 226 Done once more"):
                await origin.facts(b"a")
            assert (await origin.facts(b"b")).size == 2
        assert server.sessions == 2


async def test_what_needs_no_answer_in_between_is_asked_at_once() -> None:
    """Two turns for a directory; three for a file of which time and size are asked before and after."""
    async with HostileFtp({b"d/e/f": b"1", b"large": b"x" * (SMALL + 1)}) as server, opened(server) as origin:
        await origin.listing(b"")
        before = server.batches
        assert [e.name for e in (await origin.listing(b"d")).entries] == [b"e"]
        assert server.batches - before == 2, server.commands
        before = server.batches
        assert await received(origin, b"large") == b"x" * (SMALL + 1)
        assert server.batches - before == 3, server.commands


async def test_a_directory_that_is_gone_costs_no_connection() -> None:
    async with HostileFtp({b"d/a": b"1"}) as server, opened(server) as origin:
        for name in (b"gone", b"d", b"gone-as-well"):
            if name == b"d":
                assert [e.name for e in (await origin.listing(name)).entries] == [b"a"]
                continue
            with pytest.raises(Vanished):
                await origin.listing(name)
        assert server.sessions == 1


async def test_who_does_not_know_epsv_is_asked_by_pasv_from_then_on() -> None:
    async with HostileFtp({b"d/a": b"1" * (SMALL + 1)}) as server, opened(server) as origin:
        server.say[b"EPSV"] = b"500 What?\r\n"
        for _ in range(2):
            assert [e.name for e in (await origin.listing(b"d")).entries] == [b"a"]
            assert len(await received(origin, b"d/a")) == SMALL + 1
        assert len(server.asked(b"EPSV")) == 1
        assert len(server.asked(b"PASV")) == 4
