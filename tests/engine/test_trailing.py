"""What siblings have fetched comes beside the walk, so that little is lost with a site that dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cluster.engine.report import Report
from cluster.model import Kind, split
from cluster.peer import uncopied
from cluster.plan.order import owner
from tests.engine.several import Several

LONG = 120.0  # s, on a machine that does much else
FOLDERS, FILES = 40, 10
SHARE = 40  # files that each site fetches before the story goes on


async def until(condition: Callable[[], bool], passes: list[asyncio.Task[Report]]) -> None:
    """Wait for this, unless one of the passes ends first."""
    async with asyncio.timeout(LONG):
        while not condition():
            assert not any(one.done() for one in passes), "a pass ended meanwhile"
            await asyncio.sleep(0.01)


class Gate:
    """Lets the first so many reads of each site's origin pass, and the others when it is opened."""

    def __init__(self, several: Several, first: int) -> None:
        self._left = dict.fromkeys(several.names, first)
        self._open = asyncio.Event()
        self.passed: dict[str, list[bytes]] = {name: [] for name in several.names}
        self.waiting: set[str] = set()
        for name, world in several.worlds.items():
            world.memory.before = self._before(name)

    def _before(self, name: str) -> Callable[[str, bytes], Awaitable[None]]:
        async def before(what: str, path: bytes) -> None:
            if what != "read":
                return
            self._left[name] -= 1
            if self._left[name] < 0:
                self.waiting.add(name)
                await self._open.wait()
            self.passed[name].append(path)

        return before

    def open(self) -> None:
        self._open.set()


@pytest.fixture
async def several(tmp_path: Path) -> AsyncIterator[Several]:
    made = Several(tmp_path, ["kent", "oslo", "york"])
    chance = random.Random(7)
    for folder in range(FOLDERS):
        for number in range(FILES):
            size = 400_000 if folder % 10 == 0 and not number else chance.randint(1, 2000)
            made.put(b"pool/%02d/file-%d" % (folder, number), chance.randbytes(size))
    yield made
    for world in made.worlds.values():
        await world.check()


def fetched(several: Several) -> set[bytes]:
    """Files that are somewhere, and came from an origin."""
    return {path for told in several.told.values() for path, source in told.files if source == "origin"}


def everywhere(several: Several) -> bool:
    """Whether everybody holds what anybody has fetched, and no more."""
    there = fetched(several)
    return all({path for path, _ in told.files} == there for told in several.told.values())


async def in_the_midst(several: Several, gate: Gate) -> dict[str, asyncio.Task[Report]]:
    """Everybody has fetched so much of its own share, and holds what the others have."""
    passes = {name: asyncio.create_task(several.one_pass(name)) for name in several.names}
    working = list(passes.values())
    await until(lambda: len(gate.waiting) == 3 and len(fetched(several)) == 3 * SHARE, working)
    await until(lambda: everywhere(several), working)
    return passes


async def test_of_a_site_that_dies_on_its_way_what_it_had_is_not_fetched_again(several: Several) -> None:
    gate = Gate(several, SHARE)
    passes = await in_the_midst(several, gate)
    several.die("york", passes["york"])
    await asyncio.wait([passes["york"]])
    gate.open()
    for name in ("kent", "oslo"):
        report = await passes[name]
        assert report.outcome == "complete", report.errors
        several.worlds[name].equal()
    sent = sum(map(len, gate.passed.values()))
    assert sent <= 1.05 * FOLDERS * FILES, f"{sent} bodies of {FOLDERS * FILES} files"


async def test_beside_the_walk_nothing_is_asked_of_the_origin_that_others_rank_first_for(
    several: Several,
) -> None:
    gate = Gate(several, SHARE)
    passes = await in_the_midst(several, gate)
    for name, world in several.worlds.items():
        assert all(owner(split(path)[0], several.names) == name for path in world.memory.asked("read"))
    gate.open()
    await asyncio.gather(*passes.values())


async def test_what_came_beside_the_walk_comes_once_and_leaves_its_directories_as_they_are_listed(
    several: Several,
) -> None:
    gate = Gate(several, SHARE)
    passes = await in_the_midst(several, gate)
    gate.open()
    await asyncio.gather(*passes.values())
    for name, world in several.worlds.items():
        world.equal()
        assert len(several.told[name].files) == FOLDERS * FILES
        for path, node in world.memory.tree().items():
            if node.kind is Kind.DIRECTORY:
                assert (world.public / path.decode()).stat().st_mtime_ns == node.mtime


async def test_a_pass_that_goes_on_after_a_crash_asks_for_none_of_it_again(several: Several) -> None:
    gate = Gate(several, SHARE)
    passes = await in_the_midst(several, gate)
    here = {path for path, _ in several.told["kent"].files}
    passes["kent"].cancel()
    await asyncio.wait([passes["kent"]])
    gate.open()
    for neighbour in several.seen["kent"].values():
        neighbour.delivered.clear()
    report = await several.one_pass("kent")
    assert report.outcome == "complete"
    assert "went on" in report.notes[0]
    delivered = {path for one in several.seen["kent"].values() for path in one.delivered}
    assert not here & delivered
    await asyncio.gather(passes["oslo"], passes["york"])


async def test_what_a_sibling_told_and_does_not_have_comes_in_its_stage(several: Several) -> None:
    """From somebody else, or from the origin."""
    gate = Gate(several, SHARE)
    liar = several.seen["kent"]["york"]
    liar.hold = lambda *_, **__: None  # type: ignore[method-assign]
    passes = {name: asyncio.create_task(several.one_pass(name)) for name in several.names}
    working = list(passes.values())
    await until(lambda: len(gate.waiting) == 3 and len(fetched(several)) == 3 * SHARE, working)
    await until(lambda: any(owner(path, several.names) == "york" for path in liar.asked), working)
    assert all(owner(split(path)[0], several.names) == "kent" for path in gate.passed["kent"])
    gate.open()
    reports = await asyncio.gather(*passes.values())
    assert {report.outcome for report in reports} == {"complete"}
    several.worlds["kent"].equal()
    assert not liar.delivered


def without_copies(
    several: Several, monkeypatch: pytest.MonkeyPatch, *, idle: float
) -> dict[str, asyncio.Task[Report]]:
    """Passes of all, while nobody sends anything to siblings."""
    monkeypatch.setattr(uncopied, "IDLE", idle)
    monkeypatch.setattr(uncopied, "LEAST", 20_000)
    monkeypatch.setattr(uncopied, "LONGEST", LONG)
    for seen in several.seen.values():
        for neighbour in seen.values():
            neighbour.sends.clear()
    return {name: asyncio.create_task(several.one_pass(name)) for name in several.names}


async def test_nobody_fetches_far_ahead_of_what_the_others_copy(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = without_copies(several, monkeypatch, idle=LONG)
    everybody = [world.claims for world in several.worlds.values()]
    await until(lambda: all(claims.uncopied("deb").waited for claims in everybody), list(passes.values()))
    assert len(fetched(several)) < FOLDERS * FILES / 2
    for seen in several.seen.values():
        for neighbour in seen.values():
            neighbour.sends.set()
    for name, its_pass in passes.items():
        assert (await its_pass).outcome == "complete"
        several.worlds[name].equal()
    assert len(several.read()) == FOLDERS * FILES


async def test_siblings_that_copy_nothing_hold_nobody_up(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = without_copies(several, monkeypatch, idle=0.2)
    await until(lambda: len(fetched(several)) == FOLDERS * FILES, list(passes.values()))
    for seen in several.seen.values():
        for neighbour in seen.values():
            neighbour.sends.set()
    for its_pass in passes.values():
        assert (await its_pass).outcome == "complete"
