"""What sites received from where, and what that spared an origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from cluster.model import value

DAY = 86_400  # s
MONTH = 30  # days that are shown one by one
_EPOCH = date(1970, 1, 1).toordinal()
LAST_DAY = date.max.toordinal() - _EPOCH


def saving(origin: int, sideways: int) -> float | None:
    """The share, 0 to 1, of what lone mirrors would have fetched that the origin did not have to send.

    Both are bytes of files that the same sites received; alone, each of them would have fetched every one of
    these bytes from the origin. None where nothing was received.
    """
    received = origin + sideways
    return sideways / received if received else None


@value
class Received:
    """Bytes of files, discarded ones included."""

    origin: int = 0
    sideways: int = 0

    @property
    def saved(self) -> float | None:
        return saving(self.origin, self.sideways)


Days = Mapping[int, Received]  # by days since 1970, UTC


def added(parts: Iterable[Received]) -> Received:
    """All of them together."""
    origin = sideways = 0
    for part in parts:
        origin, sideways = origin + part.origin, sideways + part.sideways
    return Received(origin, sideways)


def by_day(parts: Iterable[Days]) -> dict[int, Received]:
    """All of them together, day by day, in order."""
    every = list(parts)
    days = sorted({day for part in every for day in part})
    return {day: added(part[day] for part in every if day in part) for day in days}


def last(days: Days, now: float, count: int) -> Received:
    """What came on the day of `now` (s since 1970) and the `count` - 1 days before."""
    today = int(now // DAY)
    return added(received for day, received in days.items() if today - count < day <= today)


def iso(day: int) -> str:
    """`2026-11-21`."""
    return date.fromordinal(_EPOCH + min(max(day, 0), LAST_DAY)).isoformat()
