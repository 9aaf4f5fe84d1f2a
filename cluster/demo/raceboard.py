"""What the race shows: a bar for each site, one team above the other, and what passed over their links."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.demo.show import say, size

COLUMNS = 5, 8, 8, 8  # as wide as they ever are, so that bars keep their length
TOLD_EVERY = 5.0  # s between lines where there is no terminal


@dataclass(slots=True)
class Lane:
    """One site in the race; `whole` is what it has to have at the end, in bytes."""

    site: str
    whole: int
    received: dict[str, tuple[int, int]] = field(default_factory=dict)  # by mirror: origin, sideways
    seconds: float | None = None  # until it was complete

    @property
    def origin(self) -> int:
        return sum(origin for origin, _ in self.received.values())

    @property
    def sideways(self) -> int:
        return sum(sideways for _, sideways in self.received.values())

    @property
    def share(self) -> float:
        """0 to 1; 1 only when it is complete: bytes that came twice are not progress."""
        if self.seconds is not None:
            return 1.0
        return min(0.99, (self.origin + self.sideways) / max(1, self.whole))


@dataclass(slots=True)
class Side:
    """One team: its lanes, and bytes over its link so far."""

    name: str
    title: str
    lanes: list[Lane]
    carried: Callable[[], int]


class RaceBoard:
    """Drawn in place on a terminal, told every few seconds elsewhere."""

    def __init__(self, title: str, sides: Sequence[Side]) -> None:
        self._title, self._sides = title, sides
        self._begun = time.monotonic()
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, get_renderable=self.picture)
        self._teller: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        if self._console.is_terminal:
            self._live.start()
        else:
            say(self._title)
            self._teller = asyncio.ensure_future(self._tell())
        return self

    def __exit__(self, *_: object) -> None:
        if self._teller is None:
            self._live.stop()
        else:
            self._teller.cancel()
            self._console.print(self.picture())

    async def _tell(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(TOLD_EVERY)
                sides = "; ".join(_line(side) for side in self._sides)
                say(f"  {time.monotonic() - self._begun:3.0f} s  {sides}")

    def picture(self) -> RenderableType:
        """The board as it stands."""
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        for width in COLUMNS:
            table.add_column(justify="right", no_wrap=True, min_width=width)
        for side in self._sides:
            table.add_row(
                Text(side.name, style="bold"), Text(side.title), "", "origin", "sideways", "complete"
            )
            for lane in side.lanes:
                table.add_row(*_cells(lane))
            table.add_row("", Text(f"{size(side.carried())} over the link", style="bold"))
            table.add_row()
        clock = "" if all(_done(side) for side in self._sides) else f"  {self._elapsed():.0f} s"
        return Group(Text(self._title + clock, style="italic"), table)

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun


def _done(side: Side) -> bool:
    return all(lane.seconds is not None for lane in side.lanes)


def _cells(lane: Lane) -> tuple[RenderableType, ...]:
    bar = ProgressBar(total=1.0, completed=lane.share)
    complete = "" if lane.seconds is None else f"{lane.seconds:.1f} s"
    return (
        "  " + lane.site,
        bar,
        f"{int(100 * lane.share)} %",
        size(lane.origin),
        size(lane.sideways),
        complete,
    )


def _line(side: Side) -> str:
    lanes = ", ".join(
        f"{lane.site} {int(100 * lane.share)} %" if lane.seconds is None else f"{lane.site} complete"
        for lane in side.lanes
    )
    return f"{side.name}: {lanes}, {size(side.carried())} over the link"
