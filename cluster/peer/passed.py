"""Which passes of this site over whole mirrors came to their end lately, for siblings that may follow them.

A state object fed with the time (seconds, monotonic); it never asks for it. Forgotten when the program ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.peer.client import Through


@dataclass(frozen=True, slots=True)
class _Pass:
    origin: str  # its URL
    asked: float  # when the origin gave the oldest of the answers that it rests on
    rules: bytes


@dataclass(slots=True)
class Passed:
    """By mirror, the newest one. A later pass that is under way or failed does not undo it: what it has
    compared is newer, and what it has not is as it was."""

    _newest: dict[str, _Pass] = field(default_factory=dict)

    def begins(self, mirror: str, origin: str, rules: bytes) -> None:
        """A pass over some of the mirror begins. By another origin or other rules, what is recorded of what
        it comes to says nothing any more of the former."""
        found = self._newest.get(mirror)
        if found is not None and (found.origin, found.rules) != (origin, rules):
            del self._newest[mirror]

    def ended(self, mirror: str, origin: str, asked: float, rules: bytes) -> None:
        """A pass over the whole mirror compared everything with this origin."""
        self._newest[mirror] = _Pass(origin, asked, rules)

    def told(self, mirror: str, origin: str, now: float) -> Through | None:
        """The newest one, if it was this origin that it asked."""
        found = self._newest.get(mirror)
        if found is None or found.origin != origin:
            return None
        return Through(max(0.0, now - found.asked), found.rules)
