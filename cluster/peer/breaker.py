"""When a sibling is worth asking again. A state object fed with the time (seconds, monotonic); pure.

Three failures of one sort in a row keep it aside for a minute, then for twice as long each time, up to an
hour (HAZARDS 129). Answers to questions and bodies of files are counted apart: a sibling that answers every
question and delivers no file must not look healthy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FAILURES = 3
REST = 60.0
MAX_REST = 3_600.0


@dataclass(slots=True)
class Breaker:
    """One per sibling."""

    _failures: dict[str, int] = field(default_factory=dict)
    _until: float = 0.0
    _rest: float = REST
    _opened_by: str = ""

    def closed(self, now: float) -> bool:
        return now >= self._until

    def wait(self, now: float) -> float:
        """Seconds until it may be tried again."""
        return max(0.0, self._until - now)

    def succeeded(self, sort: str) -> None:
        """An answer of this sort was complete and in time."""
        self._failures.pop(sort, None)
        if sort == self._opened_by:
            self._rest, self._opened_by = REST, ""

    def failed(self, sort: str, now: float) -> None:
        """After a rest, the first failure of the sort that opened it opens it again, for twice as long."""
        if not self.closed(now):
            return
        count = self._failures[sort] = self._failures.get(sort, 0) + 1
        if count >= FAILURES or sort == self._opened_by:
            self._until = now + self._rest
            self._rest = min(2 * self._rest, MAX_REST)
            self._opened_by = sort
            self._failures.pop(sort)

    def deceived(self, now: float) -> None:
        """Its bytes were not what it promised: set aside for the longest time at once (HAZARDS 118)."""
        self._until = now + MAX_REST
        self._rest, self._opened_by = MAX_REST, "body"

    def __repr__(self) -> str:
        return f"<Breaker {self._failures or 'no failures'} until {self._until:.0f}>"
