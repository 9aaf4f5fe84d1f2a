"""A site's scheduler under a simulated clock: passes take the time that they are told to."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.model import Mirror, OriginSpec, Schedule, Site
from cluster.scheduler.hooks import Ended
from cluster.scheduler.loop import Scheduler
from cluster.scheduler.pauses import Pauses

MIDNIGHT = 1_772_409_600.0  # 2026-03-02 00:00 UTC
HOUR = 3600.0


async def settled() -> None:
    """Let everything run that can run without time going on."""
    for _ in range(30):
        await asyncio.sleep(0)


class SimulatedClock:
    def __init__(self, now: float = MIDNIGHT) -> None:
        self._now = now
        self._sleeping: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def now(self) -> float:
        return self._now

    monotonic = now

    async def sleep(self, seconds: float) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleeping, (self._now + seconds, next(self._count), done))
        await done

    async def advance(self, seconds: float) -> None:
        """Let time go on, waking each sleeper at its moment."""
        end = self._now + seconds
        await settled()
        while self._sleeping and self._sleeping[0][0] <= end:
            at, _, done = heapq.heappop(self._sleeping)
            if not done.done():
                self._now = max(self._now, at)
                done.set_result(None)
                await settled()
        self._now = end


@dataclass
class Passes:
    """What was started and when, in hours since midnight; how long passes take and how they end."""

    clock: SimulatedClock
    takes: float = 0.1  # h
    outcomes: dict[str, Any] = field(default_factory=dict)
    log: list[tuple[float, str, str]] = field(default_factory=list)
    news: list[float | None] = field(default_factory=list)  # of each pass, in hours since midnight
    running: int = 0
    most: int = 0
    cut: list[str] = field(default_factory=list)

    async def __call__(self, mirror: str, scope: bytes, news: float | None = None) -> Ended:
        self.log.append((round((self.clock.now() - MIDNIGHT) / HOUR, 3), mirror, scope.decode()))
        self.news.append(None if news is None else round((news - MIDNIGHT) / HOUR, 3))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.clock.sleep(self.takes * HOUR)
        except asyncio.CancelledError:
            self.cut.append(mirror)
            for _ in range(5):  # a pass that is cancelled tidies up
                await asyncio.sleep(0)
            raise
        finally:
            self.running -= 1
        outcome = self.outcomes.get(mirror, "complete")
        if isinstance(outcome, Exception):
            raise outcome
        return Ended(outcome)

    def of(self, mirror: str) -> list[float]:
        return [hour for hour, name, _ in self.log if name == mirror]


def mirror(
    name: str, every: float | None = 6.0, *, origins: tuple[OriginSpec, ...] = (), **changes: Any
) -> Mirror:
    """`every` in hours."""
    schedule = Schedule(every=None if every is None else every * HOUR, **changes)
    specs = origins or (OriginSpec(f"http://origin.example/{name}/"),)
    return Mirror(name, f"/{name}", specs, schedule=schedule)


@dataclass
class Simulation:
    scheduler: Scheduler
    clock: SimulatedClock
    passes: Passes

    async def hours(self, count: float) -> None:
        await self.clock.advance(count * HOUR)


@asynccontextmanager
async def site(
    state: Path, *mirrors: Mirror, passes: int = 2, takes: float = 0.1, start: float = 0.0, **given: Any
) -> AsyncIterator[Simulation]:
    """A running scheduler that has to end by itself when it is stopped."""
    clock = SimulatedClock(MIDNIGHT + start * HOUR)
    made = Passes(clock, takes)
    kent = Site("kent", data=str(state / "data"), state=str(state), passes=passes)
    pauses = Pauses.load(str(state / "paused.json"))
    sources: dict[str, Callable[..., Any]] = {k: v(clock) for k, v in given.items()}
    scheduler = Scheduler(kent, mirrors, made, clock=clock, pauses=pauses, **sources)  # type: ignore[arg-type]
    running = asyncio.create_task(scheduler.run())
    try:
        yield Simulation(scheduler, clock, made)
        scheduler.stop()
        await asyncio.wait_for(running, 5)
        assert made.running == 0, "a pass outlived its scheduler"
    finally:
        running.cancel()
