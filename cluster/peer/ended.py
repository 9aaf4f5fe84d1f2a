"""Which files siblings have stopped fetching: told to the pass that may want them, kept for one that begins
while those of the siblings are under way.

A state object; pure. A hint: such a file was published, or could not be had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

MAX_NAMES = 2**15  # kept, of all mirrors: some 5 MB; beyond that the oldest are forgotten

Listener = Callable[[str, bytes, Sequence[bytes]], None]  # site, directory, names


@dataclass(slots=True)
class Ended:
    """`Heard.ended` is it."""

    _listeners: dict[str, Listener] = field(default_factory=dict)
    _kept: dict[tuple[str, str, bytes], list[bytes]] = field(default_factory=dict)  # mirror, site, directory
    _count: int = 0

    def listen(self, mirror: str, listener: Listener) -> None:
        """It is told at once what is kept, and then what happens, until `ignore`."""
        self._listeners[mirror] = listener
        kept = [(site, directory) for of, site, directory in self._kept if of == mirror]
        for site, directory in kept:
            listener(site, directory, self._pop((mirror, site, directory)))

    def ignore(self, mirror: str) -> None:
        """Nobody of ours wants to know any more."""
        self._listeners.pop(mirror, None)

    def add(self, site: str, mirror: str, directory: bytes, names: Sequence[bytes]) -> None:
        """These are not being fetched there any more."""
        listener = self._listeners.get(mirror)
        if listener is not None:
            listener(site, directory, names)
            return
        self._kept.setdefault((mirror, site, directory), []).extend(names)
        self._count += len(names)
        while self._count > MAX_NAMES:
            self._pop(next(iter(self._kept)))

    def forget(self, site: str, mirror: str | None = None) -> None:
        """Its pass over a mirror is over, or (None) it is not to be heard any more."""
        for key in [key for key in self._kept if key[1] == site and mirror in (None, key[0])]:
            self._pop(key)

    def _pop(self, key: tuple[str, str, bytes]) -> list[bytes]:
        names = self._kept.pop(key)
        self._count -= len(names)
        return names

    def __repr__(self) -> str:
        return f"<Ended {self._count} names kept, {len(self._listeners)} listening>"
