"""How fresh a mirror is, in one word for its users."""

from __future__ import annotations

from cluster.model import Mirror
from cluster.plan import due


def freshness(mirror: Mirror, compared: float | None, now: float) -> str:
    """`fresh`, `stale` (twice the schedule's interval has passed), `error` (four times) or `never`.

    A schedule by cron line tells no interval: what was ever compared is `fresh`, and its age is shown
    beside it.
    """
    every = mirror.schedule.every if mirror.schedule.cron is None else None
    return str(due.freshness(now, compared, every))
