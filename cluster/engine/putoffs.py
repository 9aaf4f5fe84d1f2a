"""The claims of siblings that a pass waits for, and when one is not worth waiting for any more.

Fed with what siblings say and with our own clock; it asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.engine.context import IN_LINE, Job
from cluster.engine.pace import Pace
from cluster.peer.pace import LEAST

WATCHED = 2.0  # s after which a claim's progress tells how fast it is
UNTOLD = 180.0  # s that a file takes at most, as far as is known, where its size or our own pace is not
LENIENT = 10  # times as long as a file should take, and no claim on it is worth waiting for any more


@dataclass(slots=True)
class _Watched:
    """When we first saw a claim; how it was when something of it began to arrive, and when it last moved:
    bytes received, and our own clock."""

    begun: float
    first: tuple[int, float]
    last: tuple[int, float]


@dataclass(slots=True)
class PutOffs:
    """The claims that we wait for, as they move on our own clock: a sibling's word that it is still busy is
    not enough. By path and site.
    """

    pace: Pace
    seen: dict[bytes, dict[str, _Watched]] = field(default_factory=dict)

    def lapsed(self, site: str, job: Job, received: int, now: float, patience: float) -> bool:
        """Whether this claim is not worth waiting for: no progress for `patience` seconds, or so little that
        it is done much later than we would be. A file of which nothing has come yet may wait in line behind
        others: for `IN_LINE` as long as those arrive, or until we would long have had its turn.
        """
        sites = self.seen.setdefault(job.path, {})
        watched = sites.get(site)
        if watched is None:
            sites[site] = _Watched(now, (received, now), (received, now))
            return False
        if now - watched.begun >= self._longest(job.entry.size, patience):
            return True
        if watched.last[0] > received:  # it begins again
            watched.first = watched.last = (received, now)
            return False
        if not received:
            waits = now - watched.last[1]
            return waits >= max(patience, self.pace.in_line() or IN_LINE)
        if watched.last[0] != received:
            if not watched.last[0]:
                watched.first = received, now  # before that it stood in line
            watched.last = received, now
            return self._drips(watched, job.entry.size)
        return now - watched.last[1] >= patience

    def _longest(self, size: int | None, patience: float) -> float:
        """Seconds after which no claim on so many bytes is worth waiting for, however it moves."""
        ours = None if size is None else self.pace.patience(size)
        if ours is None:
            ours = UNTOLD if size is None else min(UNTOLD, size / LEAST)
        return max(patience, self.pace.in_line() or IN_LINE) + LENIENT * ours

    def _drips(self, watched: _Watched, size: int | None) -> bool:
        (before, since), (received, now) = watched.first, watched.last
        ours = None if size is None else self.pace.patience(size)
        if size is None or ours is None or now - since < WATCHED:
            return False
        return (size - received) * (now - since) > ours * (received - before)

    def forget(self, path: bytes) -> None:
        self.seen.pop(path, None)
