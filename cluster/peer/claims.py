"""What this site is fetching right now: told to siblings, renewed by progress, void without it.

A state object fed with the time (seconds, monotonic); it never asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.model import Claim, Row
from cluster.peer.arriving import Arriving
from cluster.peer.heard import MAX_CLAIMS, Heard
from cluster.peer.uncopied import Uncopied
from cluster.plan.slow import Headway, done_without

RETOLD = 0.5  # s between two words about the progress of one fetch: well below every patience
MAX_TOLD = MAX_CLAIMS - 1_000  # at once; what is claimed beyond that is told to whoever asks

Part = tuple[bytes, int]  # name, first byte


@dataclass(slots=True)
class _Fetch:
    row: Row
    received: int
    progressed: float
    end: int | None = None
    etag: str | None = None
    started: bool = False
    told: float | None = None  # when siblings were last told of it

    def claim(self, part: Part, now: float) -> Claim:
        idle = max(0.0, now - self.progressed)
        return Claim(part[0], self.row, self.received, idle, self.started, part[1], self.end, self.etag)


@dataclass(slots=True)
class Changes:
    """What siblings have not been told yet: to be told in this order."""

    cleared: list[str] = field(default_factory=list)
    released: list[tuple[str, bytes, Part]] = field(default_factory=list)
    claimed: list[tuple[str, bytes, Claim]] = field(default_factory=list)
    going: dict[str, Headway] = field(default_factory=dict)  # by mirror


@dataclass(slots=True)
class Claims:
    """One per site; the engine writes, what talks to siblings reads. `first` names a part of a large file by
    its first byte.

    Where they are not `kept`, because the site has no siblings that could ask, none is remembered.
    `heard` is the other half: what the siblings say that they are fetching. `arriving` is what is here
    already of the files that are fetched by parts.
    """

    kept: bool = True
    heard: Heard = field(default_factory=Heard)
    arriving: Arriving = field(default_factory=Arriving)
    going: dict[str, Headway] = field(default_factory=dict)  # how our own passes go, by mirror
    _mirrors: dict[str, dict[bytes, dict[Part, _Fetch]]] = field(default_factory=dict)
    _changed: Callable[[], None] | None = None  # somebody wants to be told
    _dirty: dict[tuple[str, bytes, Part], None] = field(default_factory=dict)
    _cleared: dict[str, None] = field(default_factory=dict)
    _went: dict[str, Headway] = field(default_factory=dict)
    _uncopied: dict[str, Uncopied] = field(default_factory=dict)
    _told: int = 0

    # -- the engine

    def claim(
        self,
        mirror: str,
        directory: bytes,
        name: bytes,
        row: Row,
        now: float,
        *,
        first: int = 0,
        end: int | None = None,
        etag: str | None = None,
    ) -> None:
        """Say that this file, or its bytes from `first` to `end` (exclusive), will be fetched from the
        origin, unless a sibling turns out to have it."""
        if not self.kept:
            return
        parts = self._mirrors.setdefault(mirror, {}).setdefault(directory, {})
        before = parts.get((name, first))
        fetch = parts[name, first] = _Fetch(row, 0, now, end, etag)
        if before is not None:
            fetch.told = before.told
        self._touch(mirror, directory, (name, first))

    def start(self, mirror: str, directory: bytes, name: bytes, now: float, *, first: int = 0) -> None:
        """The siblings have been asked: it is fetched from now on."""
        fetch = self._fetch(mirror, directory, name, first)
        if fetch is not None:
            fetch.started, fetch.progressed = True, now
            self._touch(mirror, directory, (name, first))

    def progress(
        self, mirror: str, directory: bytes, name: bytes, received: int, now: float, *, first: int = 0
    ) -> None:
        """`received` bytes of the body (or part) have arrived."""
        fetch = self._fetch(mirror, directory, name, first)
        if fetch is not None:
            fetch.received, fetch.progressed = received, now
            if fetch.told is not None and now - fetch.told >= RETOLD:
                self._touch(mirror, directory, (name, first))

    def release(self, mirror: str, directory: bytes, name: bytes, *, first: int = 0) -> None:
        """Done, given up, or put off: the claim is gone."""
        directories = self._mirrors.get(mirror)
        if not directories:
            return
        parts = directories.get(directory)
        fetch = parts.pop((name, first), None) if parts is not None else None
        if fetch is None:
            return
        if not parts:
            del directories[directory]
        if fetch.told is None:
            self._dirty.pop((mirror, directory, (name, first)), None)
        else:
            self._told -= 1
            self._touch(mirror, directory, (name, first))

    def goes(self, mirror: str, headway: Headway) -> None:
        """How our pass over this mirror goes."""
        if self.going.get(mirror) != headway:
            self.going[mirror] = headway
            if self._changed is not None:
                self._went[mirror] = headway
                self._changed()

    def without(self, mirror: str) -> frozenset[str]:
        """The siblings that our pass does as if they were not there: they are too slow for it."""
        return done_without(self.going.get(mirror), self.heard.going(mirror))

    def uncopied(self, mirror: str) -> Uncopied:
        """What came from the origin in this pass and no sibling has read yet."""
        return self._uncopied.setdefault(mirror, Uncopied())

    def clear(self, mirror: str) -> None:
        """The pass over this mirror has ended: nothing is being fetched."""
        self.arriving.clear(mirror)
        self._uncopied.pop(mirror, None)
        self.going.pop(mirror, None)
        self._went.pop(mirror, None)
        gone = self._mirrors.pop(mirror, {})
        self._told -= sum(fetch.told is not None for parts in gone.values() for fetch in parts.values())
        if self._changed is not None:
            self._dirty = {key: None for key in self._dirty if key[0] != mirror}
            self._cleared[mirror] = None
            self._changed()

    def any(self, mirror: str) -> bool:
        """Whether anything of a mirror is claimed."""
        return bool(self._mirrors.get(mirror))

    def _fetch(self, mirror: str, directory: bytes, name: bytes, first: int) -> _Fetch | None:
        directories = self._mirrors.get(mirror)
        parts = directories.get(directory) if directories else None
        return parts.get((name, first)) if parts else None

    def _touch(self, mirror: str, directory: bytes, part: Part) -> None:
        if self._changed is not None:
            self._dirty[mirror, directory, part] = None
            self._changed()

    # -- who tells the siblings

    def within(self, mirror: str, directory: bytes, now: float) -> list[Claim]:
        """The claims in one directory, with how long each has been idle."""
        parts = self._mirrors.get(mirror, {}).get(directory, {})
        return [fetch.claim(part, now) for part, fetch in parts.items()]

    def all(self, mirror: str, now: float) -> list[tuple[bytes, Claim]]:
        """Every claim on a mirror with its directory. Whoever asks tells a sibling."""
        told = []
        for directory, parts in self._mirrors.get(mirror, {}).items():
            for part, fetch in parts.items():
                if self._tell(fetch, now):
                    told.append((directory, fetch.claim(part, now)))
        return told

    def _tell(self, fetch: _Fetch, now: float) -> bool:
        if fetch.told is None:
            if self._told >= MAX_TOLD:
                return False
            self._told += 1
        fetch.told = now
        return True

    def listen(self, changed: Callable[[], None] | None) -> None:
        """`changed` is called after every change from now on, and asks for `changes` soon; None: nobody."""
        self._changed = changed
        self._dirty.clear()
        self._cleared.clear()
        self._went.clear()

    def changes(self, now: float) -> Changes:
        """What changed since they were last asked for; a claim that came and went meanwhile is not among
        them."""
        told = Changes(list(self._cleared), going=self._went)
        dirty, self._dirty, self._went = self._dirty, {}, {}
        self._cleared.clear()
        for mirror, directory, part in dirty:
            fetch = self._fetch(mirror, directory, *part)
            if fetch is None:
                told.released.append((mirror, directory, part))
            elif self._tell(fetch, now):
                told.claimed.append((mirror, directory, fetch.claim(part, now)))
        return told

    def __repr__(self) -> str:
        count = sum(len(n) for d in self._mirrors.values() for n in d.values())
        return f"<Claims {count} files in flight>"
