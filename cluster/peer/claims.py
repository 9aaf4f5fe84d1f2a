"""What this site is fetching right now: told to siblings, renewed by progress, void without it.

A state object fed with the time (seconds, monotonic); it never asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.model import Claim, Row


@dataclass(slots=True)
class _Fetch:
    row: Row
    received: int
    progressed: float
    started: bool = False


@dataclass(slots=True)
class Claims:
    """One per site; the engine writes, the peer server reads."""

    _mirrors: dict[str, dict[bytes, dict[bytes, _Fetch]]] = field(default_factory=dict)

    def claim(self, mirror: str, directory: bytes, name: bytes, row: Row, now: float) -> None:
        """Say that this file will be fetched from the origin, unless a sibling turns out to have it."""
        self._mirrors.setdefault(mirror, {}).setdefault(directory, {})[name] = _Fetch(row, 0, now)

    def start(self, mirror: str, directory: bytes, name: bytes, now: float) -> None:
        """The siblings have been asked: it is fetched from now on."""
        fetch = self._mirrors.get(mirror, {}).get(directory, {}).get(name)
        if fetch is not None:
            fetch.started, fetch.progressed = True, now

    def progress(self, mirror: str, directory: bytes, name: bytes, received: int, now: float) -> None:
        """`received` bytes of the body have arrived."""
        fetch = self._mirrors.get(mirror, {}).get(directory, {}).get(name)
        if fetch is not None:
            fetch.received, fetch.progressed = received, now

    def release(self, mirror: str, directory: bytes, name: bytes) -> None:
        """Done, given up, or put off: the claim is gone."""
        directories = self._mirrors.get(mirror, {})
        names = directories.get(directory)
        if names is not None:
            names.pop(name, None)
            if not names:
                del directories[directory]

    def clear(self, mirror: str) -> None:
        """The pass over this mirror has ended: nothing is being fetched."""
        self._mirrors.pop(mirror, None)

    def within(self, mirror: str, directory: bytes, now: float) -> list[Claim]:
        """The claims in one directory, with how long each has been idle."""
        names = self._mirrors.get(mirror, {}).get(directory, {})
        return [
            Claim(n, f.row, f.received, max(0.0, now - f.progressed), f.started) for n, f in names.items()
        ]

    def __repr__(self) -> str:
        count = sum(len(n) for d in self._mirrors.values() for n in d.values())
        return f"<Claims {count} files in flight>"
