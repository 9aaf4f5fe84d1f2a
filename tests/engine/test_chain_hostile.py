"""Siblings that say they have, or fetch, a large file and never hand it on: nobody waits for ever.

The clock goes on by a second with every question that is put to one of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest

from cluster.engine import chaining
from cluster.model import Sideways
from tests.engine.test_chaining import grows, offer, ranked, whole
from tests.engine.test_gathering import BIG, BLOCK, RANGE, _shrunk, reads
from tests.engine.world import FakeSibling, World

__all__ = ["_shrunk"]

Version = tuple[bytes, int, str]
PATIENCE = 5.0


@pytest.fixture(autouse=True)
def _quick(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.mirror = replace(world.mirror, sideways=Sideways(patience=PATIENCE))
    monkeypatch.setattr(chaining, "ASK", 0.0)
    monkeypatch.setattr(chaining, "TICK", 0.005)
    monkeypatch.setattr(chaining, "TURN", 2.0)
    monkeypatch.setattr(chaining, "FAILURES", 10**9)


def answers(world: World, sibling: FakeSibling, step: Callable[[int], None]) -> None:
    """`step` is called before each of its answers, with their number."""

    async def told() -> None:
        world.clock.moved += 1.0
        step(sibling.asked_parts)

    sibling.on_parts = told


def blinks(sibling: FakeSibling, version: Version, asked: int) -> None:
    """It has a block, then nothing, then a block: each time it seems to have grown."""
    sibling.grown = {version: ([(0, BLOCK * (asked % 2))], BIG)} if asked % 2 else {}


def creeps(sibling: FakeSibling, version: Version, asked: int) -> None:
    """It has one byte more each time."""
    sibling.grown[version] = [(0, asked)], BIG


def claims_anew(sibling: FakeSibling, version: Version, asked: int) -> None:
    """It begins to fetch, gives up, and begins to fetch."""
    sibling.part_claims = [whole(version, 0)] if asked % 4 else []
    sibling.claims = {version[0]: whole(version, 0)}


def claims_progress(sibling: FakeSibling, version: Version, asked: int) -> None:
    """It receives more and more, from the start again when that is all, and has nothing."""
    sibling.part_claims = [whole(version, (asked * 100_000) % len(BIG))]
    sibling.claims = {version[0]: sibling.part_claims[0]}
    sibling.arriving = True


def keeps_its_digest(sibling: FakeSibling, version: Version, asked: int) -> None:
    """It has all of it, and never says by what that can be checked."""
    sibling.grown[version] = [(0, len(BIG))], BIG


LIES = (blinks, creeps, claims_anew, claims_progress, keeps_its_digest)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_who_brings_nothing_is_done_without_in_the_end(
    world: World, caplog: pytest.LogCaptureFixture, lie: Callable[[FakeSibling, Version, int], None]
) -> None:
    version = offer(world, ranked("oslo", "kent"), "time")
    liar = world.sibling()
    answers(world, liar, lambda asked: lie(liar, version, asked))
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin, reads(world)) == ("complete", len(BIG), 1)
    said = [line for line in caplog.messages if "not waited for any more" in line]
    assert len(said) <= 1 and all(line.startswith("oslo: ") for line in said)


async def test_rings_in_which_each_waits_for_another_that_fetches_are_left(
    world: World,
) -> None:
    """The claim goes round, from one to the next, and nobody has a byte more than we."""
    version = offer(world, ranked("oslo", "york", "lund", "kent"))
    ring = [world.sibling(name) for name in ("oslo", "york", "lund")]
    turns = cycle(range(3))

    def step(_: int) -> None:
        head = ring[next(turns)]
        for sibling in ring:
            sibling.arriving = True
            sibling.part_claims = [whole(version, 1)] if sibling is head else []

    for sibling in ring:
        answers(world, sibling, step)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin) == ("complete", len(BIG))


async def test_beside_one_that_brings_nothing_the_honest_one_is_read_from(world: World) -> None:
    """The liar stands between us and one that goes on only when it is read from."""
    version = offer(world, ranked("oslo", "york", "kent"))
    honest, liar = world.sibling("oslo"), world.sibling("york")

    def step(asked: int) -> None:
        creeps(liar, version, asked)
        world.clock.moved -= 1.0 if honest.delivered_parts else 0.0

    answers(world, liar, step)

    async def told() -> None:
        honest.grown[version] = [(0, len(BIG) if honest.delivered_parts else RANGE)], BIG

    honest.on_parts = told
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin) == ("complete", 0)
    assert liar.delivered_parts, "it was read from"


async def test_who_brings_enough_is_waited_for_however_long_it_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All comes just as fast as a sibling has to send, and it takes much longer than one that sends nothing
    is waited for."""
    monkeypatch.setattr(chaining, "LEAST", 1024)
    monkeypatch.setattr(chaining, "IN_VAIN", 40.0)
    world.mirror = replace(world.mirror, sideways=Sideways(patience=60.0))
    version = offer(world, ranked("oslo", "kent"))
    slow = world.sibling()
    grows(world, slow, version, claims=False)
    part = slow.part

    @asynccontextmanager
    async def slowly(*asked: Any) -> AsyncIterator[Any]:
        world.clock.moved += (asked[-1] - asked[-2]) / 2048
        async with part(*asked) as body:
            yield body

    slow.part = slowly  # type: ignore[method-assign, assignment]
    report = await world.run()
    world.equal()
    assert (report.bytes_origin, report.bytes_sideways) == (0, len(BIG))
    assert world.clock.moved > 100.0
