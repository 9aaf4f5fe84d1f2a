"""Sites as real processes over nginx: what cooperation saves, and that nobody needs anybody."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.cluster_of import AT_ONCE, ClusterOf, differences
from tests.scenarios.trees import change, many_small, write
from tests.servers import Server, nginx

LIMIT = 1.05  # times the unique bytes


def bodies(server: Server) -> int:
    """Bytes of files that the origin sent, by its own log."""
    return sum(r.sent for r in server.requests() if r.status in (200, 206) and not r.target.endswith("/"))


def equal(cluster: ClusterOf, origin: Path, *sites: str) -> None:
    for site in sites or cluster.names:
        assert not differences(origin, cluster.public(site, "m"), links=False), site


@contextmanager
def sites(folder: Path, *names: str) -> Iterator[ClusterOf]:
    (folder / "cluster-of").mkdir()
    with ClusterOf(folder / "cluster-of", names) as cluster:
        yield cluster


async def test_two_sites_that_walk_towards_each_other_cost_the_origin_one_copy(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    total = many_small(origin, 2000)
    with sites(tmp_path, "kent", "oslo") as cluster, nginx(origin) as server:
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, order="forward")
        cluster.order_of("oslo", "m", "backward")
        await cluster.start()
        results = await cluster.passes("m")
        assert {r["outcome"] for r in results.values()} == {"complete"}
        equal(cluster, origin)
        assert bodies(server) <= LIMIT * total, f"{bodies(server) / total:.3f} times the unique bytes"
        assert sum(r["files"]["sideways"] for r in results.values()) > 1900
        await cluster.check("m")


async def test_what_waits_for_a_slow_origin_stays_claimed(tmp_path: Path) -> None:
    """Files wait for their turn for several times the patience of siblings that have nothing left to do."""
    origin = tmp_path / "origin"
    total = many_small(origin, 48, per_folder=16, size=6_000)
    slow = '<limits connections="3"/>\n  <sideways patience="4s"/>'
    with (
        sites(tmp_path, "kent", "oslo", "york") as cluster,
        nginx(origin, limit=2_000) as server,
    ):
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=f"{AT_ONCE}\n  {slow}")
        await cluster.start()
        results = await cluster.passes("m")
        assert {r["outcome"] for r in results.values()} == {"complete"}
        equal(cluster, origin)
        assert bodies(server) <= LIMIT * total, f"{bodies(server) / total:.3f} times the unique bytes"
        await cluster.check("m")


async def test_sites_that_relay_listings_ask_the_origin_for_each_directory_about_once(
    tmp_path: Path,
) -> None:
    origin = tmp_path / "origin"
    many_small(origin, 2000, per_folder=20)
    with sites(tmp_path, "kent", "oslo", "york") as cluster, nginx(origin) as server:
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=f'{AT_ONCE}\n  <sideways listings="5m"/>')
        await cluster.start()
        for round_ in range(2):
            server.forget()
            results = await cluster.passes("m")
            assert {r["outcome"] for r in results.values()} == {"complete"}
            equal(cluster, origin)
            asked = [r.target for r in server.requests() if r.target.endswith("/")]
            assert len(asked) <= 1.3 * 101, f"round {round_}: {len(asked)} listings of 101 directories"
        (origin / "d007").rename(origin / "moved")
        cluster.ledger.tree(origin)
        await cluster.passes("m")
        results = await cluster.passes("m")
        equal(cluster, origin)
        await cluster.check("m")


async def test_a_site_follows_what_a_sibling_compared_while_it_was_away(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    many_small(origin, 400, per_folder=10)
    with sites(tmp_path, "kent", "oslo") as cluster, nginx(origin) as server:
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=f'{AT_ONCE}\n  <sideways listings="15m"/>')
        await cluster.start()
        await cluster.passes("m")
        for _ in range(4):  # on a machine that does much else, kent may not answer in time
            cluster.stop("oslo")  # else kent's walk rests on what oslo was told, and is no newer than that
            await asyncio.sleep(1.1)  # passes are known by the second
            assert (await cluster.one_pass("kent", "m"))["followed"] == ""
            await cluster.start("oslo")
            told = await cluster.one_pass("oslo", "m")
            assert (told["outcome"], told["files"]["unchanged"]) == ("complete", 400)
            if told["followed"]:
                break
        assert told["followed"] == "kent"
        equal(cluster, origin)
        await cluster.check("m")


async def test_three_sites_by_rendezvous_cost_the_origin_one_copy_and_one_of_them_may_die(
    tmp_path: Path,
) -> None:
    origin = tmp_path / "origin"
    total = many_small(origin, 1500)
    for i in range(3):
        write(origin / "iso" / f"large-{i}", random.Random(i).randbytes(6_000_000), at=1_700_000_000)
        total += 6_000_000
    with sites(tmp_path, "kent", "oslo", "york") as cluster, nginx(origin) as server:
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url)
        await cluster.start()
        results = await cluster.passes("m")
        equal(cluster, origin)
        assert bodies(server) <= LIMIT * total, f"{bodies(server) / total:.3f} times the unique bytes"
        assert {r["outcome"] for r in results.values()} == {"complete"}
        await cluster.check("m")

        change(origin, 3, links=False)
        cluster.ledger.tree(origin)

        async def kill() -> None:
            await asyncio.sleep(0.15)
            cluster.kill("york")

        _, results = await asyncio.gather(kill(), cluster.passes("m", may_die="york"))
        equal(cluster, origin, "kent", "oslo")
        await cluster.check("m", "kent", "oslo")
        await cluster.start("york")
        result = await cluster.one_pass("york", "m")
        assert result["outcome"] == "complete", result
        equal(cluster, origin)
        await cluster.check("m")


@contextmanager
def black_hole(port: int) -> Iterator[list[socket.socket]]:
    """Accepts every connection, reads nothing and never answers."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(0.2)
        over = threading.Event()

        def accept() -> None:
            while not over.is_set():
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield held
        finally:
            over.set()
            thread.join()
            for connection in held:
                connection.close()


async def test_129_a_sibling_that_accepts_and_never_answers_costs_seconds_and_no_file(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    many_small(origin, 800)
    with sites(tmp_path, "kent", "oslo") as cluster, nginx(origin) as server:
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url)
        cluster.make_keys()
        with black_hole(cluster.ports["oslo"]) as connections:
            await cluster.start("kent")
            began = time.monotonic()
            result = await cluster.one_pass("kent", "m")
            took = time.monotonic() - began
        assert (result["outcome"], result["files"]["origin"]) == ("complete", 800)
        assert connections, "the sibling was never tried"
        assert took < 15
        equal(cluster, origin, "kent")
        await cluster.check("m", "kent")


async def test_what_the_origin_keeps_from_the_world_is_shared_sideways_and_not_served(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    many_small(origin, 60)
    write(origin / "embargo" / "secret.iso", random.Random(1).randbytes(400_000), at=1_700_000_000)
    write(origin / "embargo" / "note", b"not yet", at=1_700_000_000)
    for name in ("secret.iso", "note"):
        (origin / "embargo" / name).chmod(0o640)
    with sites(tmp_path, "kent", "oslo") as cluster:
        cluster.ledger.tree(origin)
        cluster.mirror("m", f"file://{origin}/")
        await cluster.start()
        await cluster.one_pass("kent", "m")
        result = await cluster.one_pass("oslo", "m")
        assert (result["outcome"], result["files"]["sideways"]) == ("complete", 62)
        public = cluster.public("oslo", "m") / "embargo"
        assert (public / "note").read_bytes() == b"not yet"
        assert (public / "secret.iso").stat().st_mode & 0o007 == 0
        async with aiohttp.ClientSession() as session:
            for path, status in (
                ("embargo/note", {403, 404}),
                ("embargo/secret.iso", {403, 404}),
                ("d000/file-00001", {200}),
            ):
                async with session.get(f"http://{cluster.site('oslo').web}/m/{path}") as answer:
                    assert answer.status in status, path
        await cluster.check("m")


@pytest.mark.parametrize("scheme", ["http", "file"])
async def test_a_cluster_follows_its_origin_through_many_changes(tmp_path: Path, scheme: str) -> None:
    origin = tmp_path / "origin"
    many_small(origin, 150, per_folder=15)
    with sites(tmp_path, "kent", "oslo") as cluster, nginx(origin) as server:
        cluster.mirror("m", server.url if scheme == "http" else f"file://{origin}/", order="shuffled")
        await cluster.start()
        for number in range(3):
            change(origin, number, links=scheme == "file")
            cluster.ledger.tree(origin)
            results = await cluster.passes("m")
            assert {r["outcome"] for r in results.values()} == {"complete"}, results
            for site in cluster.names:
                assert not differences(origin, cluster.public(site, "m"), links=scheme == "file")
            await cluster.check("m")
