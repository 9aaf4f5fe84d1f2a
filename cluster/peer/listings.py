"""What origins told this site lately, and that it is asking them, for siblings that may use it instead of
asking the origin themselves.

A state object fed with the time (seconds, monotonic); it never asks for it. Only what this site asked an
origin for itself is told, never what a sibling told it: a listing's age is counted from the origin's answer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cluster.model import Listing, value
from cluster.peer.elsewhere import Elsewhere
from cluster.peer.passed import Passed
from cluster.peer.walkwire import Walk

MOST = 64 * 2**20  # bytes kept, of all mirrors together
MOST_SCOPES = 100  # of passes over parts of a mirror that are told apart
RECORD = 400  # of them, for each directory beside its rows
OLDEST = 900.0  # s: no descriptor lets a listing be older


@value
class Kept:
    """A listing as it goes over the wire, and when the origin was asked for it. Without a token the origin
    gave none."""

    origin: str  # its URL; empty: a sibling told it, and it is for ourselves
    asked: float
    token: bytes
    packed: bytes  # empty where the rows were not read, or do not fit: for those who know them by the token
    same: bool = False  # this site knew it already: who walks as we do is likely to know it as well


@dataclass(slots=True)
class Changes:
    """What siblings are to be told: walks that began or ended, listings of each mirror in their order."""

    walks: list[str]
    listed: dict[str, dict[bytes, Kept]]


@dataclass(slots=True)
class Listings:
    """One per site; the engine writes, the peer server and `cluster.peer.relaying` read. What siblings said
    is in `elsewhere`."""

    passed: Passed = field(default_factory=Passed)
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    _kept: OrderedDict[tuple[str, bytes], Kept] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _walks: dict[str, tuple[Walk, float]] = field(default_factory=dict)  # by mirror; and when it began
    _compared: dict[str, dict[bytes, float]] = field(default_factory=dict)  # by mirror and scope: when
    _asking: Counter[tuple[str, bytes, str]] = field(default_factory=Counter)
    _listed: dict[str, dict[bytes, Kept]] = field(default_factory=dict)
    _begun: dict[str, None] = field(default_factory=dict)  # mirrors whose walks are to be told
    _changed: Callable[[], None] | None = None

    # -- our own walks

    def walk(self, walk: Walk, now: float) -> int:
        """A pass is under way: what is not kept may be soon. Its number is given here, and returned."""
        old, began = self._walks.get(walk.mirror, (None, now))
        number = 1 if old is None else old.number + 1
        if old is None or not old.origin:
            began = now
        self._walks[walk.mirror] = replace(walk, number=number), began
        self._tell(walk.mirror)
        return number

    def walked(self, mirror: str) -> None:
        """It is over, however it ended."""
        old = self._walks.get(mirror)
        if old is not None and old[0].origin:
            self._walks[mirror] = Walk(mirror, old[0].number + 1), 0.0
            self._tell(mirror)

    def own(self, mirror: str, now: float) -> Walk:
        """The walk that is under way here, or that none is."""
        walk, began = self._walks.get(mirror, (Walk(mirror, 0), now))
        return replace(walk, since=int(max(0.0, now - began) * 1000)) if walk.origin else walk

    def walking(self) -> list[str]:
        """The mirrors that are being walked."""
        return [mirror for mirror, (walk, _) in self._walks.items() if walk.origin]

    def compared(self, mirror: str, scope: bytes, now: float) -> None:
        """All in and below `scope` has been compared; listings from before say nothing new of it."""
        scopes = self._compared.setdefault(mirror, {})
        scopes.pop(scope, None)
        for below in [path for path in scopes if not scope or path.startswith(scope + b"/")]:
            del scopes[below]
        scopes[scope] = now
        if len(scopes) > MOST_SCOPES:
            self._compared[mirror] = {b"": now}

    def last_compared(self, mirror: str, directory: bytes) -> float | None:
        """When this program last compared it, at the latest."""
        scopes = self._compared.get(mirror, {})
        found = [
            at for scope, at in scopes.items() if not scope or (directory + b"/").startswith(scope + b"/")
        ]
        return max(found, default=None)

    # -- what origins are asked, and tell

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

    def asked(self, mirror: str, origin: str) -> list[bytes]:
        """The directories for which our own requests are under way."""
        return [path for name, path, url in self._asking if (name, url) == (mirror, origin)]

    def keep(self, mirror: str, directory: bytes, origin: str, listing: Listing, asked: float) -> None:
        """`listing` is the origin's answer to a request that was sent at `asked`. One that is too large for a
        message is kept without its rows."""
        key = (mirror, directory)
        old = self._kept.get(key)
        if not listing.token:
            self.failed(mirror, directory, origin, asked)
            return
        from cluster.peer import listingwire  # with a first listing that siblings may want

        if not listing.same:
            packed = listingwire.packed(listing) or b""
        elif old is not None and old.token == listing.token:
            packed = old.packed
        else:
            packed = b""
        kept = Kept(origin, asked, listing.token, packed, listing.same)
        self._put(key, kept)
        self._told(mirror, directory, kept)

    def learnt(self, mirror: str, directory: bytes, listing: Listing, asked: float) -> None:
        """A listing that a sibling told: not told on, but where the origin says that it still holds, what it
        says is known."""
        if listing.same or self.rows(mirror, directory, listing.token) is not None:
            return
        from cluster.peer import listingwire  # as above

        packed = listingwire.packed(listing)
        if packed is not None:
            self._put((mirror, directory), Kept("", asked, listing.token, packed))

    def rows(self, mirror: str, directory: bytes, token: bytes) -> bytes | None:
        """The rows of a listing with this token, packed, where they are known."""
        kept = self._kept.get((mirror, directory))
        return kept.packed if kept is not None and kept.token == token and kept.packed else None

    def failed(self, mirror: str, directory: bytes, origin: str, asked: float) -> None:
        """There is nothing that siblings could use: they ask themselves."""
        self._told(mirror, directory, Kept(origin, asked, b"", b""))

    def fresh(self, mirror: str, directory: bytes, origin: str, age: float, now: float) -> Kept | None:
        """What this origin told of the directory at most `age` seconds ago."""
        kept = self._kept.get((mirror, directory))
        return kept if kept is not None and kept.origin == origin and now - kept.asked <= age else None

    def newest(self, walk: Walk, now: float) -> Iterator[tuple[bytes, Kept]]:
        """What is kept of what a sibling's walk wants to know, the newest first."""
        below = walk.scope + b"/" if walk.scope else b""
        for (mirror, path), kept in reversed(self._kept.items()):
            if (mirror, kept.origin) != (walk.mirror, walk.origin) or now - kept.asked > walk.age / 1000:
                continue
            if path == walk.scope or path.startswith(below):
                yield path, kept

    def _put(self, key: tuple[str, bytes], kept: Kept) -> None:
        self._forget(key)
        self._kept[key] = kept
        self._bytes += RECORD + len(kept.packed)
        while self._bytes > MOST or self._oldest().asked < kept.asked - OLDEST:
            self._forget(next(iter(self._kept)))

    def _oldest(self) -> Kept:
        return next(iter(self._kept.values()))

    def _forget(self, key: tuple[str, bytes]) -> None:
        old = self._kept.pop(key, None)
        if old is not None:
            self._bytes -= RECORD + len(old.packed)

    # -- who tells the siblings

    def listen(self, changed: Callable[[], None] | None) -> None:
        """`changed` is called after every change that siblings may want to know, and asks for `changes`
        soon; None: nobody does."""
        self._changed = changed
        self._listed.clear()
        self._begun.clear()

    def changes(self) -> Changes:
        """What changed since they were last asked for."""
        listed, self._listed = self._listed, {}
        begun, self._begun = self._begun, {}
        return Changes(list(begun), listed)

    def _tell(self, mirror: str) -> None:
        if self._changed is not None:
            self._begun[mirror] = None
            self._changed()

    def _told(self, mirror: str, directory: bytes, kept: Kept) -> None:
        if self._changed is not None and self.elsewhere.curious(mirror):
            self._listed.setdefault(mirror, {})[directory] = kept
            self._changed()

    def __repr__(self) -> str:
        return f"<Listings {len(self._kept)} directories, {self._bytes} bytes>"
