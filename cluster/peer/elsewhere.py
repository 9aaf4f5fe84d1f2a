"""What siblings said on their lines of their walks, and of what origins listed to them.

A state object fed with the time (seconds, monotonic); pure. A sibling's word is bounded here and judged by
whoever uses it (`cluster.engine.listings`). Words are taken only for mirrors that this site walks itself, of
the origin that it asks, and are forgotten when that walk is over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from cluster.peer.walkwire import Known, Listed, Walk

MAX_WORDS = 20_000  # of one sibling about one mirror, and
MAX_ROWS = 8 * 2**20  # bytes of rows with them: the oldest go first, and can be asked for
SLACK = 1.0  # s by which one word may have been on its way for longer than another

Changed = Callable[[Iterable[bytes] | None], None]  # directories that something was said of; None: a walk


@dataclass(frozen=True, slots=True)
class Told:
    """One word of a sibling. `asked`: when it asked the origin, by our clock, if its word came at once; None:
    it is asking now. Not before `surely`, since it said so in answer to our walk. Without a token it was told
    no listing."""

    site: str
    asked: float | None
    surely: float
    token: bytes
    rows: bytes


@dataclass(slots=True)
class _Said:
    """What one sibling said of one mirror."""

    walk: Walk
    began: float  # when that walk did, by our clock
    heard: float  # when it last said anything of it
    answered: int = 0  # the newest of our walks that it told all it knew for
    reticent: bool = False  # some of that was too much
    words: OrderedDict[bytes, Told] = field(default_factory=OrderedDict)
    size: int = 0  # bytes of rows

    def put(self, directory: bytes, told: Told) -> None:
        self.drop(directory)
        self.words[directory] = told
        self.size += len(told.rows)
        while len(self.words) > MAX_WORDS or self.size > MAX_ROWS:
            self.drop(next(iter(self.words)))
            self.reticent = True

    def drop(self, directory: bytes) -> None:
        old = self.words.pop(directory, None)
        self.size -= len(old.rows) if old is not None else 0


class Elsewhere:
    """One per site; `Listings.elsewhere` is it."""

    def __init__(self) -> None:
        self._sites: dict[str, dict[str, _Said]] = {}  # by site, by mirror
        self._ours: dict[str, tuple[str, float, Changed]] = {}  # by mirror: origin that we ask, since when

    # -- hearing

    def gone(self, site: str) -> None:
        """There is no line to it any more: what it said counts no longer."""
        for mirror in self._sites.pop(site, {}):
            self._notify(mirror, None)

    def walk(self, site: str, message: Walk, now: float) -> None:
        """A pass has begun there, or is over."""
        said = self._sites.setdefault(site, {})
        began = now - message.since / 1000
        old = said.get(message.mirror)
        if old is None:
            said[message.mirror] = _Said(message, began, now)
        else:
            old.walk, old.began, old.heard = message, began, now
            if not message.origin:
                for directory in [path for path, told in old.words.items() if told.asked is None]:
                    old.drop(directory)
        self._notify(message.mirror, None)

    def listed(self, site: str, message: Listed, now: float) -> None:
        """It asks, or was told."""
        said = self._sites.get(site, {}).get(message.mirror)
        ours = self._ours.get(message.mirror)
        if said is None:
            return
        said.heard = now
        if ours is None or ours[0] != message.origin:
            return
        for word in message.words:
            age = None if word.age is None else word.age / 1000
            asked, surely = (None, -inf) if age is None else (now - age, ours[1] - age)
            said.put(word.directory, Told(site, asked, surely, word.token, word.rows))
        self._notify(message.mirror, [word.directory for word in message.words])

    def known(self, site: str, message: Known) -> None:
        """All of what we wanted has been said."""
        said = self._sites.get(site, {}).get(message.mirror)
        if said is not None:
            said.answered = max(said.answered, message.number)
            said.reticent = said.reticent or not message.whole
            self._notify(message.mirror, None)

    def _notify(self, mirror: str, directories: Iterable[bytes] | None) -> None:
        if mirror in self._ours:
            self._ours[mirror][2](directories)

    # -- our own walk

    def begin(self, mirror: str, origin: str, now: float, changed: Changed) -> None:
        """This site walks the mirror: `changed` is called with what is said of it."""
        self.end(mirror)
        self._ours[mirror] = origin, now, changed

    def end(self, mirror: str) -> None:
        """It is over: what was said is not wanted any more."""
        self._ours.pop(mirror, None)
        for said in self._said(mirror):
            said.words.clear()
            said.size, said.reticent = 0, False

    def words(self, mirror: str, directory: bytes) -> list[Told]:
        """Of all siblings, the newest first."""
        found = [said.words[directory] for said in self._said(mirror) if directory in said.words]
        return sorted(found, key=lambda told: told.asked or 0.0, reverse=True)

    def drop(self, mirror: str, directory: bytes) -> None:
        """It has been used."""
        for said in self._said(mirror):
            said.drop(directory)

    def expected(self, mirror: str, directory: bytes) -> Iterator[str]:
        """The siblings that are to list it where they rank first for it, and have not yet."""
        ours = self._ours.get(mirror)
        for site, mirrors in self._sites.items():
            said = mirrors.get(mirror)
            if said is None or ours is None or said.walk.origin != ours[0] or not said.walk.shares:
                continue
            scope, word = said.walk.scope, said.words.get(directory)
            within = not scope or directory == scope or directory.startswith(scope + b"/")
            if within and (word is None or word.asked is None or word.asked < said.began - SLACK):
                yield site

    def walking(self, mirror: str) -> list[tuple[str, float]]:
        """The siblings that walk by the origin that we ask; and when each was last heard of."""
        origin = self._ours[mirror][0] if mirror in self._ours else ""
        found = ((site, mirrors.get(mirror)) for site, mirrors in self._sites.items())
        return [(site, said.heard) for site, said in found if said and said.walk.origin == origin != ""]

    def owing(self, mirror: str, number: int) -> list[str]:
        """Those that have not yet told all that our walk wanted to know."""
        return [
            site
            for site, mirrors in self._sites.items()
            if mirror in mirrors and mirrors[mirror].answered < number
        ]

    def reticent(self, mirror: str) -> list[str]:
        """Those that had more to tell than they did."""
        found = ((site, mirrors.get(mirror)) for site, mirrors in self._sites.items())
        return [site for site, said in found if said is not None and said.reticent]

    # -- who is to be told

    def wanted(self, site: str, mirror: str, origin: str) -> Walk | None:
        """That sibling's walk, where it wants to know what this origin tells."""
        said = self._sites.get(site, {}).get(mirror)
        return said.walk if said is not None and said.walk.origin == origin != "" else None

    def curious(self, mirror: str) -> bool:
        """Whether any sibling walks the mirror."""
        return any(said.walk.origin for said in self._said(mirror))

    def _said(self, mirror: str) -> Iterator[_Said]:
        return (mirrors[mirror] for mirrors in self._sites.values() if mirror in mirrors)

    def __repr__(self) -> str:
        walking = sum(bool(said.walk.origin) for mirrors in self._sites.values() for said in mirrors.values())
        return f"<Elsewhere {len(self._sites)} sites, {walking} walks>"
