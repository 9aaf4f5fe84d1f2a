"""What origins told this site lately, for siblings that may use it instead of asking the origin themselves.

A state object fed with the time (seconds, monotonic); it never asks for it. Only what this site asked an
origin for itself is kept, never what a sibling told it: a listing's age is counted from the origin's answer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cluster.model import Listing
from cluster.peer.client import State
from cluster.peer.passed import Passed

MOST = 64 * 2**20  # bytes kept, of all mirrors together
RECORD = 400  # of them, for each directory beside its rows
OLDEST = 900.0  # s: no descriptor lets a listing be older


@dataclass(frozen=True, slots=True)
class Kept:
    """A listing as it goes over the wire, and when the origin was asked for it."""

    origin: str  # its URL
    asked: float
    token: bytes
    packed: bytes  # empty where the rows were not read: they are for those who know them by the token


@dataclass(slots=True)
class Listings:
    """One per site; the engine writes, the peer server reads."""

    passed: Passed = field(default_factory=Passed)
    _kept: OrderedDict[tuple[str, bytes], Kept] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _newest: dict[str, float] = field(default_factory=dict)
    _strayed: dict[str, float] = field(default_factory=dict)
    _walking: dict[str, int] = field(default_factory=dict)  # mirror -> passes under way
    _asking: Counter[tuple[str, bytes, str]] = field(default_factory=Counter)
    _curious: dict[tuple[str, str], float] = field(default_factory=dict)  # mirror, site -> when it asked us

    @contextmanager
    def walking(self, mirror: str) -> Iterator[None]:
        """A pass over the mirror is under way: what is not kept may be soon."""
        self._walking[mirror] = self._walking.get(mirror, 0) + 1
        try:
            yield
        finally:
            self._walking[mirror] -= 1

    def state(self, mirror: str, now: float) -> State:
        """Whether it is worth asking here for other directories of the mirror."""

        def ago(then: float | None) -> float | None:
            return None if then is None else max(0.0, now - then)

        walking = self._walking.get(mirror, 0) > 0
        return State(walking, ago(self._newest.get(mirror)), ago(self._strayed.get(mirror)))

    @contextmanager
    def asking(self, mirror: str, directory: bytes, origin: str) -> Iterator[None]:
        """The origin is being asked for this directory: siblings need not ask it as well."""
        key = (mirror, directory, origin)
        self._asking[key] += 1
        try:
            yield
        finally:
            self._asking[key] -= 1
            if not self._asking[key]:
                del self._asking[key]

    def is_asking(self, mirror: str, directory: bytes, origin: str) -> bool:
        """Whether our own request for it is under way."""
        return (mirror, directory, origin) in self._asking

    def asked_by(self, mirror: str, site: str, now: float) -> None:
        """A sibling wants to know: it walks the mirror itself."""
        self._curious[mirror, site] = now

    def last_asked_by(self, mirror: str, site: str) -> float | None:
        """When that sibling last wanted to know."""
        return self._curious.get((mirror, site))

    def keep(
        self,
        mirror: str,
        directory: bytes,
        origin: str,
        listing: Listing,
        asked: float,
        *,
        strayed: bool = False,
    ) -> None:
        """`listing` is the origin's answer to a request that was sent at `asked`; `strayed` where another
        site ranks first for the directory. One that is too large for a message is not kept."""
        key = (mirror, directory)
        old = self._kept.get(key)
        self._newest[mirror] = max(asked, self._newest.get(mirror, asked))
        if strayed:
            self._strayed[mirror] = max(asked, self._strayed.get(mirror, asked))
        if not listing.token:
            return
        from cluster.peer import listingwire  # with a first listing that siblings may want

        if not listing.same:
            packed = listingwire.packed(listing)
        elif old is not None and old.token == listing.token:
            packed = old.packed
        else:
            packed = b""
        self._forget(key)
        if packed is None:
            return
        self._kept[key] = Kept(origin, asked, listing.token, packed)
        self._bytes += RECORD + len(packed)
        while self._kept and (self._bytes > MOST or self._oldest().asked < asked - OLDEST):
            self._forget(next(iter(self._kept)))

    def fresh(self, mirror: str, directory: bytes, origin: str, age: float, now: float) -> Kept | None:
        """What this origin told of the directory at most `age` seconds ago."""
        kept = self._kept.get((mirror, directory))
        return kept if kept is not None and kept.origin == origin and now - kept.asked <= age else None

    def _oldest(self) -> Kept:
        return next(iter(self._kept.values()))

    def _forget(self, key: tuple[str, bytes]) -> None:
        old = self._kept.pop(key, None)
        if old is not None:
            self._bytes -= RECORD + len(old.packed)

    def __repr__(self) -> str:
        return f"<Listings {len(self._kept)} directories, {self._bytes} bytes>"
