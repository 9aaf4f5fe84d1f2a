"""How fast the origin delivers to this site, and what follows from it: how much is claimed ahead of its turn,
and when a sibling is too slow to wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.engine.context import Job

AHEAD = 1.0  # s of work that is claimed before its turn, and as much that is asked for at once
CLAIMED = 48 * 2**20  # bytes of it, at most
LEAST, FIRST = 2**18, 2**20  # bytes of it, at the least, and before the pace is known
PATIENT = 5.0  # s that a slow sibling is given in any case
SLOWER = 3.0  # times what the same would take us
MEASURED = 3.0  # s for which the origin must have been asked for something, for a pace that siblings are told


@dataclass(slots=True)
class Pace:
    """A state object fed with the time. `per_second` is bytes/s while something was asked for, the last
    seconds counting most; None before anything has come. `best` is the most that it ever was for `MEASURED`
    s: who has little left to fetch is not slow."""

    per_second: float | None = None
    longest_line: float | None = None  # s at most from a file's being claimed to its turn, or its arrival
    best: float | None = None
    _seen: tuple[float, int] | None = None
    _measured: tuple[float, int] = (0.0, 0)  # s, and the bytes that came in them

    def look(self, now: float, received: int, *, busy: bool) -> None:
        """`received` are the bytes that came from the origin so far; `busy` whether more is outstanding."""
        last, self._seen = self._seen, (now, received) if busy else None
        if last is None or now <= last[0] or (received == last[1] and self.per_second is None):
            return
        rate = (received - last[1]) / (now - last[0])
        self.per_second = rate if self.per_second is None else (self.per_second + rate) / 2
        took, came = self._measured[0] + now - last[0], self._measured[1] + received - last[1]
        self._measured = (took, came)
        if took >= MEASURED:
            self.best = max(self.best or 0.0, came / took)
            self._measured = (0.0, 0)

    def come(self, waited: float) -> None:
        """A file's turn has come, or all of a small file, `waited` s after it was claimed."""
        self.longest_line = max(self.longest_line or 0.0, waited)

    def ahead(self, most: int) -> int:
        """Bytes that may be claimed ahead of their turn, up to `most`: siblings wait for what is claimed."""
        if self.per_second is None:
            return min(most, FIRST)
        return min(most, max(LEAST, int(AHEAD * self.per_second)))

    def patience(self, size: int) -> float | None:
        """Seconds that so many bytes may take to come from a sibling; None where we cannot say."""
        if not self.per_second:
            return None
        return max(PATIENT, SLOWER * size / self.per_second)

    def in_line(self) -> float | None:
        """Seconds that a file may wait for its turn at a sibling while we have nothing else to do; None where
        we cannot say."""
        return None if self.longest_line is None else max(PATIENT, SLOWER * self.longest_line)


class InLine:
    """The files that are claimed and not yet asked for, whoever holds them."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._jobs: dict[int, Job] = {}
        self._bytes = 0
        self._less = asyncio.Event()

    def __repr__(self) -> str:
        return f"<InLine {len(self._jobs)} files>"

    async def room(self, jobs: Sequence[Job]) -> None:
        """Wait while so much is in line that nobody should have to wait for these as well."""
        while self._bytes > self._pace.ahead(CLAIMED) // 2 and any(id(job) not in self._jobs for job in jobs):
            self._less.clear()
            await self._less.wait()

    def add(self, job: Job) -> None:
        """It is claimed."""
        if id(job) not in self._jobs:
            self._jobs[id(job)] = job
            self._bytes += job.entry.size or 0

    def over(self, jobs: Sequence[Job]) -> None:
        """Their turn has come, or they need none."""
        if not self._jobs:
            return
        for job in jobs:
            if self._jobs.pop(id(job), None) is not None:
                self._bytes -= job.entry.size or 0
        self._less.set()

    def jobs(self) -> Sequence[Job]:
        return list(self._jobs.values())
