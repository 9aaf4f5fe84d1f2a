"""Whether a body arrives fast enough to be worth it (HAZARDS section 5). Pure.

Only the time spent waiting for the sibling counts: a pass whose own disk is slow must not blame it.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST = 64 * 1024  # bytes/s: slower than this, the origin is the better source
WINDOW = 10.0  # s of waiting over which it is judged


@dataclass(slots=True)
class Pace:
    """One per body. A single piece may take a whole `window` (s); those that come are judged together."""

    window: float = WINDOW
    least: int = LEAST
    _waited: float = 0.0
    _bytes: int = 0

    def slow(self, waited: float, received: int) -> bool:
        """Whether the window that this piece completes was below the least speed."""
        self._waited += waited
        self._bytes += received
        if self._waited < self.window:
            if self._bytes >= self.least * self.window:
                self._waited, self._bytes = 0.0, 0
            return False
        slow = self._bytes < self.least * self._waited
        self._waited, self._bytes = 0.0, 0
        return slow
