"""Which files came to this site from the origin and are nowhere else, as far as siblings have read them here;
and whether no more should come before they have read some.

What is nowhere else is lost with the site. A state object fed with the time (seconds, monotonic); pure. What
comes by ranges is counted by `cluster.peer.arriving.Spread`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LEAST = 4 * 2**20  # bytes that may be here alone in any case: the next answers to questions
AHEAD = 0.5  # s: or what siblings read here in so many
IDLE = 3.0  # s after which siblings that have read nothing are not about to; a batch may take 2 to the disk
LONGEST = 30.0  # s that one pass waits for all siblings together
TICK = 0.1  # s: whoever waits looks at least so often
MOST = 2**15  # files that are remembered: some 5 MB


@dataclass(slots=True)
class Uncopied:
    """One per mirror and pass."""

    size: int = 0  # bytes here alone
    waited: float = 0.0  # s so far
    _alone: dict[bytes, int] = field(default_factory=dict)  # by path: size
    _since: float | None = None  # when it became too much
    _read: float = float("-inf")  # when anything was last read
    _second: float = float("-inf")  # when the second began in which
    _now: int = 0  # bytes were copied for the first time; and
    _before: int = 0  # in the one before
    _looked: float = 0.0  # when somebody last waited

    def came(self, path: bytes, size: int) -> None:
        """All of this file is here."""
        self.size += size - self._alone.pop(path, 0)
        self._alone[path] = size
        while len(self._alone) > MOST:
            self.forget(next(iter(self._alone)))

    def forget(self, path: bytes) -> None:
        """It was not published after all."""
        self.size -= self._alone.pop(path, 0)

    def reads(self, now: float) -> None:
        """A sibling has been sent something."""
        self._read = now

    def copied(self, path: bytes, now: float) -> None:
        """A sibling has been sent all of it."""
        self._read = now
        if (size := self._alone.pop(path, None)) is None:
            return
        self.size -= size
        if now - self._second >= AHEAD:
            self._before = self._now if now - self._second < 2 * AHEAD else 0
            self._second, self._now = now, 0
        self._now += size

    def too_much(self, now: float) -> bool:
        """Whether what is here alone is more than siblings read in a moment, while they read or may be about
        to. They are not waited for any more where they read nothing for `IDLE` s, nor for more than `LONGEST`
        s of one pass: the origin is faster than they are."""
        lately = max(self._now, self._before) if now - self._second < 2 * AHEAD else 0
        if self.size <= max(LEAST, lately) or self.waited >= LONGEST:
            self._since = None
            return False
        if self._since is None:
            self._since = self._looked = now
        if now - max(self._read, self._since) >= IDLE:
            return False
        self.waited += min(now - self._looked, TICK)
        self._looked = now
        return True
