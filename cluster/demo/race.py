"""The race: two teams mirror the same trees, each over a link of its own."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.demo.folder import Place
from cluster.demo.link import ShapedLink
from cluster.demo.origin import BY_HTTP, Counted, Origin
from cluster.demo.raceboard import Lane, RaceBoard, Side
from cluster.demo.team import Result, Team
from cluster.errors import StoreError

DELAY = 0.01  # s one way
LASTS = 75.0  # s that the lone mirrors' bytes take on their link: a demo is watched
STEP = 500_000  # bytes/s; also the slowest link that there is


@dataclass(slots=True)
class Runner:
    """One team in the race, and what became of it."""

    name: str
    title: str
    link: ShapedLink
    team: Team
    results: dict[tuple[str, str], Result] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # until each site was complete
    sent: Counted = field(default_factory=Counted)  # by the origin, as its log has it


def rate_for(origin: Origin, sites: int) -> int:
    """bytes/s, in steps of half a MB/s: so fast that `sites` lone mirrors take about `LASTS`."""
    total = sites * sum(origin.unique(mirror) for mirror in BY_HTTP)
    return max(STEP, math.ceil(total / LASTS / STEP) * STEP)


async def race(runners: list[Runner], origin: Origin, rate: int) -> None:
    """Run it to its end: one pass of every tree at every site of both teams, all begun at once.

    Raises StoreError where a pass could not be made."""
    whole = {mirror: origin.unique(mirror) for mirror in BY_HTTP}
    title = (
        f"1. The race: {sum(whole.values()) / 1e6:.0f} MB for every site, "
        f"links of {rate / 1e6:.1f} MB/s and {2000 * DELAY:.0f} ms"
    )
    before = {runner.name: origin.counted(runner.name) for runner in runners}
    sides = {runner.name: _side(runner, whole) for runner in runners}
    with RaceBoard(title, list(sides.values())):
        await asyncio.gather(*(_run(runner, sides[runner.name]) for runner in runners))
    for runner in runners:
        now, earlier = origin.counted(runner.name), before[runner.name]
        runner.sent = Counted(
            now.files - earlier.files, now.listings - earlier.listings, now.requests - earlier.requests
        )


def _side(runner: Runner, whole: dict[str, int]) -> Side:
    lanes = [Lane(place.name, sum(whole[mirror] for mirror in _trees(place))) for place in runner.team.places]
    return Side(runner.name, runner.title, lanes, lambda: runner.link.carried)


def _trees(place: Place) -> list[str]:
    return [mirror for mirror in place.carried() if mirror in BY_HTTP]


async def _run(runner: Runner, side: Side) -> None:
    begun = time.monotonic()
    await asyncio.gather(
        *(
            _site(runner, place, lane, begun)
            for place, lane in zip(runner.team.places, side.lanes, strict=True)
        )
    )


async def _site(runner: Runner, place: Place, lane: Lane, begun: float) -> None:
    async def one(mirror: str) -> None:
        result = await runner.team.run_pass(place, mirror, _told(lane, mirror))
        assert result is not None
        if result["outcome"] != "complete":
            raise StoreError(f"{place.name}/{mirror} ({runner.name}): {result['outcome']}; see {place.log}")
        runner.results[place.name, mirror] = result
        lane.received[mirror] = result["bytes"]["origin"], result["bytes"]["sideways"]

    await asyncio.gather(*(one(mirror) for mirror in _trees(place)))
    lane.seconds = runner.seconds[place.name] = time.monotonic() - begun


def _told(lane: Lane, mirror: str) -> Callable[[Result], None]:
    def event(message: Result) -> None:
        if message["event"] == "progress":
            lane.received[mirror] = message["bytes"], message["sideways"]

    return event
