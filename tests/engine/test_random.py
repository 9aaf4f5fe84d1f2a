"""Rounds of random changes, faults, interruptions and siblings: the invariants hold after each, and once all
is well again the mirror converges. `seed` repeats a story exactly, but for the order in which threads end.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from cluster.engine.passes import run_pass
from cluster.errors import (
    Changed,
    IncompleteListing,
    NotAListing,
    Refused,
    StoreError,
    Unreachable,
    Vanished,
)
from cluster.model import Kind, Order, Sideways, Trust
from tests.engine.world import World

ROUNDS = 6
ERRORS = (Changed, IncompleteListing, NotAListing, Refused, Unreachable, Vanished)


class Story:
    def __init__(self, world: World, seed: int) -> None:
        self.world, self.chance, self.time = world, random.Random(seed), 1_700_000_000 * 10**9
        self.origin = world.memory
        world.mirror = replace(
            world.mirror,
            order=self.chance.choice(list(Order)),
            last=self.chance.choice(((), ("d0/**",), ("**/index",))),
            sideways=Sideways(patience=0.1, trust=self.chance.choice(list(Trust))),
        )
        for name in self.chance.sample(["oslo", "york"], self.chance.randrange(3)):
            world.sibling(name)

    def path(self) -> bytes:
        depth = self.chance.randrange(1, 4)
        parts = [b"d%d" % self.chance.randrange(4) for _ in range(depth)]
        return b"/".join([*parts, self.chance.choice([b"index", b"f%d" % self.chance.randrange(12)])])

    def file(self) -> bytes | None:
        files = sorted(p for p, n in self.origin.tree().items() if n.kind is Kind.FILE)
        return self.chance.choice(files) if files else None

    def body(self) -> bytes:
        return self.chance.randbytes(self.chance.choice([0, 10, 500, 3000, 300_000]))

    def change(self) -> None:
        self.time += 10**9 * self.chance.randrange(1, 100)
        path, old = self.path(), self.file()
        try:
            match self.chance.randrange(8):
                case 0 | 1 | 2:
                    self.origin.put(path, self.body(), mtime=self.time)
                case 3 if old:
                    self.origin.remove(old)
                case 4 if old:
                    self.origin.put(old, self.body(), mtime=self.time)
                case 5:
                    self.origin.symlink(path, b"f1", mtime=self.time)
                case 6 if old:
                    self.origin.link(old, path)
                case 7 if old:
                    self.origin.remove(old)
                    self.origin.put(old + b"/%d" % self.time, self.body(), mtime=self.time)
        except ValueError:
            pass  # a directory stands there

    def fault(self) -> None:
        path = self.file() or b"x"
        folder = path.rpartition(b"/")[0]
        error, times = self.chance.choice(ERRORS), self.chance.randrange(1, 3)
        match self.chance.randrange(5):
            case 0:
                self.origin.fail("listing", folder, error, times=times)
            case 1:
                self.origin.fail("read", path, error, times=times)
            case 2:
                self.origin.truncate(path, self.chance.randrange(1, 100_000), times=times)
            case 3:
                self.origin.change_during_read(path, self.change)
            case 4:
                self.origin.change_during_read(path, lambda: self.origin.tree().get(path) and self.gone(path))

    def gone(self, path: bytes) -> None:
        self.origin.remove(path)

    def siblings(self) -> None:
        for sibling in self.world.siblings:
            sibling.up, sibling.silent, sibling.substitute = True, None, None
            match self.chance.randrange(5):
                case 0 | 1:
                    sibling.hold_all(self.origin)
                case 2:
                    sibling.substitute = b"lies"
                case 3:
                    sibling.silent = 0.02
                case 4:
                    sibling.files.clear()

    async def one_pass(self) -> None:
        """Cut off at a random moment, or not."""
        self.world.partials = 8
        cut = self.chance.randrange(1, 60) if self.chance.random() < 0.4 else 0
        count = 0

        async def before(method: str, path: bytes) -> None:
            nonlocal count
            count += 1
            if count == cut:
                task.cancel()
            await asyncio.sleep(0)

        self.origin.before = before
        task = asyncio.ensure_future(run_pass(self.world.around, self.world.mirror))
        done, _ = await asyncio.wait([task], timeout=60)
        assert done, "the pass hangs"
        self.origin.before = None
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, StoreError), error
        await self.world.check()

    async def converges(self) -> None:
        self.origin._faults.clear()
        for sibling in self.world.siblings:
            sibling.up, sibling.silent = True, None
        for _ in range(3):
            report = await self.world.run()
        self.world.equal()
        assert report.outcome == "complete", report
        assert report.bytes_origin == report.bytes_sideways == 0, report


async def told(world: World, seed: int) -> None:
    story = Story(world, seed)
    for _ in range(30):
        story.change()
    for _ in range(ROUNDS):
        for _ in range(story.chance.randrange(12)):
            story.change()
        for _ in range(story.chance.randrange(4)):
            story.fault()
        story.siblings()
        await story.one_pass()
    await story.converges()


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_the_invariants_hold_and_the_mirror_converges(world: World, seed: int) -> None:
    await told(world, seed)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(100, 600))
async def test_for_a_long_time_whatever_happens_the_invariants_hold(world: World, seed: int) -> None:
    await told(world, seed)
