"""What sites received from where: facts for pages and JSON, and bars for the eye. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cluster.plan.saving import DAY, MONTH, Days, Received, added, by_day, iso, last
from cluster.store.summary import MirrorSummary

Facts = dict[str, Any]

WIDE, HIGH = 600, 96  # of the picture, in its own units
GAP = 4


def facts(days: Days, total: Received, now: float, shown: int = MONTH) -> Facts:
    """Today (UTC), the last MONTH days, everything, and each of the last `shown` days that saw anything."""
    first = int(now // DAY) - shown + 1
    lately = {day: told for day, told in days.items() if first <= day < first + shown}
    return {
        "today": spelt(last(days, now, 1)),
        "month": spelt(last(days, now, MONTH)),
        "total": spelt(total),
        "days": [{"day": iso(day), **spelt(told)} for day, told in sorted(lately.items())],
    }


def spelt(told: Received) -> Facts:
    """`saved` is 0 to 1, None where nothing came."""
    saved = told.saved
    return {
        "origin": told.origin,
        "sideways": told.sideways,
        "saved": None if saved is None else round(saved, 4),
    }


def merged(parts: Iterable[Facts]) -> Facts:
    """Several of what `facts` makes as one."""
    every = list(parts)
    days: dict[str, list[Facts]] = {}
    for part in every:
        for row in part["days"]:
            days.setdefault(row["day"], []).append(row)
    spans = {span: _sum(part[span] for part in every) for span in ("today", "month", "total")}
    return spans | {"days": [{"day": day, **_sum(rows)} for day, rows in sorted(days.items())]}


def _sum(parts: Iterable[Facts]) -> Facts:
    return spelt(added(Received(part["origin"], part["sideways"]) for part in parts))


def percent(share: float | None) -> str:
    """One digit after the point; nothing where there is no share. Never 100 for what is not all."""
    if share is None:
        return ""
    return f"{share if share == 1 else min(share, 0.999):.1%}".replace("%", " %")


def cluster_facts(lines: Mapping[str, list[MirrorSummary]], now: float) -> Facts:
    """All sites together, and each of them, from the lines of all their mirrors."""
    every = [line for told in lines.values() for line in told]
    return together(every, now) | {"sites": {site: together(told, now) for site, told in lines.items()}}


def together(lines: Iterable[MirrorSummary], now: float) -> Facts:
    """Several lines as one."""
    lines = list(lines)
    return facts(by_day(line.days for line in lines), added(line.received for line in lines), now)


class Bar(NamedTuple):
    """One day: what came from the origin stands on the ground, what came sideways on top of it."""

    day: str
    origin: int
    sideways: int
    left: float
    width: float
    origin_top: float
    origin_height: float
    sideways_top: float
    sideways_height: float

    @property
    def both(self) -> int:
        return self.origin + self.sideways


def bars(days: list[Facts], now: float) -> list[Bar]:
    """MONTH bars up to the day of `now`, those of days on which nothing came without height."""
    told = {row["day"]: (row["origin"], row["sideways"]) for row in days}
    highest = max([1, *(sum(pair) for pair in told.values())])
    width, out = WIDE / MONTH, []
    for place in range(MONTH):
        day = iso(int(now // DAY) - MONTH + 1 + place)
        origin, sideways = told.get(day, (0, 0))
        low, high = (round(HIGH * part / highest, 2) for part in (origin, sideways))
        left = round(place * width + GAP / 2, 2)
        out.append(
            Bar(day, origin, sideways, left, width - GAP, round(HIGH - low, 2), low,
                round(HIGH - low - high, 2), high)
        )  # fmt: skip
    return out
