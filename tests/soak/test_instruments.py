"""The instruments of the long runs: what they tell is true."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.invariants import Ledger
from tests.soak.accounts import Account, Trouble, account, read
from tests.soak.changing import Changing
from tests.soak.network import Network, State

# -- what the origin sent

OLD = '"5f5e36e8-64"'  # of 100 bytes, made in 2020
KENT, OSLO, YORK = ("1000000.0 0.0 kent", "1000010.0 0.0 oslo", "1000020.0 0.0 york")


def line(who: str, sent: int = 100, version: str = OLD, first: int | None = None) -> str:
    part = "200" if first is None else "206", "" if first is None else f"bytes={first}-{first + sent - 1}"
    return f"{who} {part[0]} {sent} {version} GET {part[1]} /d/f"


def told(*lines: str, deaths: list[Trouble] | None = None, troubles: list[Trouble] | None = None) -> Account:
    moved = [f"{float(one.split()[0]) + 1_700_000_000} {one.split(' ', 1)[1]}" for one in lines]
    return account(read(moved), deaths or [], troubles or [])


def trouble(begin: float, end: float, *sites: str) -> Trouble:
    return Trouble(1_700_000_000 + begin, 1_700_000_000 + end, frozenset(sites))


def test_what_is_sent_once_is_1() -> None:
    assert told(line(KENT), line(OSLO, version='"5f5e36e9-64"')).dup == 1.0


def test_parts_of_one_version_count_together() -> None:
    assert told(line(KENT, 60, first=0), line(OSLO, 40, first=60)).dup == 1.0
    assert told(line(KENT, 60, first=0), line(OSLO, 90, first=10)).dup == 1.5
    assert told(line(KENT, 60, first=0), line(OSLO, 60, first=0)).dup == 2.0


def test_of_parts_only_who_had_the_same_could_have_given_it() -> None:
    apart = trouble(999_990, 1_000_030, "kent", "york")
    lines = [line(KENT, 50, first=0), line(OSLO, 50, first=50), line(YORK, 50, first=0)]
    assert told(*lines, troubles=[apart]).inexcusable == 0


def test_listings_and_answers_without_a_body_do_not_count() -> None:
    lines = [line(KENT), line(OSLO, 0), f"{OSLO} 200 5000 - GET  /d/", f"{OSLO} 404 150 - GET  /x"]
    assert told(*lines).sent == 100


def test_what_comes_again_while_a_sibling_was_within_reach_is_told_apart() -> None:
    found = told(line(KENT), line(OSLO))
    assert (found.dup, found.inexcusable) == (2.0, 100)
    for apart in (trouble(1_000_000, 1_000_009, "kent", "oslo"), trouble(999_999, 1_000_005, "kent")):
        found = told(line(KENT), line(OSLO), troubles=[apart])
        assert (found.dup, found.inexcusable, found.apart) == (2.0, 0, 0), "it was over a moment ago"
    for elsewhere in (trouble(1_000_000, 1_000_009, "kent", "york"), trouble(1, 2, "kent")):
        assert told(line(KENT), line(OSLO), troubles=[elsewhere]).inexcusable == 100


def test_one_within_reach_is_enough() -> None:
    apart = [trouble(999_990, 1_000_030, "kent", "york"), trouble(999_990, 1_000_030, "kent", "oslo")]
    found = told(line(KENT), line(OSLO), line(YORK), troubles=apart)
    assert (found.dup, found.inexcusable) == (2.0, 100), "of the three, york could have had it from oslo"


def test_what_nobody_within_reach_can_have_had_is_counted_by_itself() -> None:
    cut = trouble(1_000_000, 1_000_011, "kent", "oslo")
    found = told(line(KENT), line(OSLO), troubles=[cut])
    assert (found.dup, found.apart, found.inexcusable) == (1.0, 100, 0)
    third = trouble(1, 2, "york")  # it was there all the time, and could have handed it on
    assert told(line(KENT), line(OSLO), troubles=[cut, third]).dup == 2.0
    for away in (trouble(1_000_001, 1_000_002, "kent", "york"), trouble(1_000_009, 1_000_011, "york")):
        assert told(line(KENT), line(OSLO), troubles=[cut, away]).dup == 1.0
    soon = "1000001.5 0.0 oslo"
    assert told(line(KENT), line(soon), troubles=[cut, third]).dup == 1.0


def test_who_asks_again_for_what_it_had_is_not_excused() -> None:
    found = told(line(KENT), line("1000010.0 0.0 kent"), troubles=[trouble(1_000_000, 1_000_020, "oslo")])
    assert (found.dup, found.inexcusable) == (2.0, 100)


def test_what_was_on_its_way_to_a_site_that_died_is_forgiven() -> None:
    found = told(line(KENT), line(OSLO), deaths=[trouble(1_000_002, 1_000_002, "kent")])
    assert (found.dup, found.forgiven) == (1.0, 100)
    assert told(line(KENT), line(OSLO), deaths=[trouble(1_000_100, 1_000_100, "kent")]).dup == 2.0


def test_what_was_read_in_the_second_of_its_own_time_may_be_read_again() -> None:
    young = f'"{1_701_000_000:x}-64"'
    assert told(line(KENT, version=young), line(OSLO, version=young)).dup == 1.0


# -- what lies between sites


@asynccontextmanager
async def echo(network: Network) -> AsyncIterator[int]:
    """The port at which a finds b, who says everything again."""

    async def again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(again, "127.0.0.1", 0)
    try:
        yield network.way(("a", "b"), server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def test_a_way_carries_both_ways_and_can_be_cut() -> None:
    with Network() as network:
        async with echo(network) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            network.set(("a", "b"), State.CUT)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()


async def test_what_goes_into_a_hole_arrives_when_it_is_open_again() -> None:
    with Network() as network:
        async with echo(network) as port:
            before, old = await asyncio.open_connection("127.0.0.1", port)
            old.write(b"1")
            assert await before.readexactly(1) == b"1"
            network.set(("a", "b"), State.HOLE)
            assert network.troubled() == {("a", "b"): State.HOLE}
            after, new = await asyncio.open_connection("127.0.0.1", port)
            old.write(b"2")
            new.write(b"3")
            for reader in (before, after):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.1)
            network.heal()
            assert await before.readexactly(1) == b"2"
            assert await after.readexactly(1) == b"3"
            old.close()
            new.close()


async def test_a_slow_way_loses_nothing() -> None:
    with Network() as network:
        async with echo(network) as port:
            network.set(("a", "b"), State.SLOW)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(bytes(20_000))
            assert await reader.readexactly(20_000) == bytes(20_000)
            writer.close()


# -- the origin


def files(root: bytes) -> dict[bytes, int]:
    return {
        os.path.relpath(os.path.join(folder, name), root): os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(root)
        for name in names
    }


def test_a_changing_origin_is_what_its_ledger_knows_and_its_seed_tells(tmp_path: Path) -> None:
    seen = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ledger = Ledger()
        origin = Changing(tmp_path / name, ledger, random.Random(5), large=2**20)
        steps = [origin.step() for _ in range(300)]
        assert files(origin.root) == origin.files
        for path in origin.files:
            assert ledger.hash(os.path.join(origin.root, path)) in ledger.versions[path]
        gone = ledger.versions.keys() - origin.files.keys()
        assert gone
        assert all(ledger.justified(path) for path in gone)
        seen.append((steps, origin.files))
    assert seen[0] == seen[1]
