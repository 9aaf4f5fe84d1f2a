"""Telling siblings, on the lines, what this site walks and what origins list to it; and taking their word.

Only those who walk the same mirror by the same origin are told: all that is kept of what they want to know
when they begin, and from then on what is new, gathered for 10 ms.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cluster.peer import walkwire
from cluster.peer.line import Line
from cluster.peer.listings import Kept, Listings
from cluster.peer.walkwire import MAX_ROWS, Known, Listed, Walk, Word

FLUSH = 0.01  # s in which changes are gathered
SIGN = 0.5  # s without a word after which siblings that walk as we do are told that we go on
MOST = 2**19  # bytes that are told of what is kept already: the rest is asked for
OFTEN, SOON = 8, 10.0  # walks of one sibling in so many s that are answered so: who begins more often asks


@dataclass(slots=True)
class _Reader:
    """The other end of one line."""

    line: Line
    mirrors: frozenset[str]  # of which both may tell the other
    gaps: set[str] = field(default_factory=set)  # mirrors of which something could not be said
    told: dict[str, float] = field(default_factory=dict)  # by mirror: when anything was
    answered: deque[float] = field(default_factory=lambda: deque(maxlen=OFTEN))  # when, of its walks


class Relaying:
    """One per site, beside its lines. `clock` is monotonic seconds."""

    def __init__(self, listings: Listings, clock: Callable[[], float]) -> None:
        self._listings, self._clock = listings, clock
        self._readers: dict[str, _Reader] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Tell what changes, for ever."""
        while True:
            try:
                async with asyncio.timeout(SIGN if self._readers and self._listings.walking() else None):
                    await self._changed.wait()
                await asyncio.sleep(FLUSH)
            except TimeoutError:
                self._signs()
                continue
            self._changed.clear()
            changes = self._listings.changes()
            for mirror, listed in changes.listed.items():
                for reader in self._readers.values():
                    self._listed(reader, mirror, listed)
            for mirror in changes.walks:
                for reader in self._readers.values():
                    if mirror in reader.mirrors:
                        self._walk(reader, mirror)
            self._signs()

    # -- lines

    def begun(self, line: Line, mirrors: Iterable[str]) -> None:
        """A line, or another set of mirrors on one: those that both sites carry, and whose descriptor here
        allows it."""
        if not self._readers:
            self._listings.listen(self._changed.set)
        self._readers[line.site] = reader = _Reader(line, frozenset(mirrors))
        for mirror in reader.mirrors:
            self._walk(reader, mirror)
        self._changed.set()  # signs may be due from now on

    def ended(self, line: Line) -> None:
        reader = self._readers.get(line.site)
        if reader is not None and reader.line is line:
            del self._readers[line.site]
            self._listings.elsewhere.gone(line.site)
            if not self._readers:
                self._listings.listen(None)

    def hear(self, line: Line, message: Walk | Listed | Known) -> None:
        """Raises nothing; what is said of other mirrors is passed over."""
        reader, elsewhere, now = self._readers.get(line.site), self._listings.elsewhere, self._clock()
        if reader is None or message.mirror not in reader.mirrors:
            return
        match message:
            case Walk():
                elsewhere.walk(line.site, message, now)
                if message.origin:
                    self._all(reader, message)
            case Listed():
                elsewhere.listed(line.site, message, now)
            case Known():
                elsewhere.known(line.site, message)

    # -- telling

    def _walk(self, reader: _Reader, mirror: str) -> None:
        reader.line.say(walkwire.walk(self._listings.own(mirror, self._clock())), always=True)

    def _all(self, reader: _Reader, walk: Walk) -> None:
        """What is kept, and what is being asked for."""
        now, size = self._clock(), 0
        whole = len(reader.answered) < OFTEN or now - reader.answered[0] > SOON
        reader.answered.append(now)
        words = [Word(directory) for directory in self._listings.asked(walk.mirror, walk.origin)]
        for directory, kept in self._listings.newest(walk, now) if whole else ():
            word = _word(directory, kept, walk, now, snapshot=True)
            size += len(directory) + len(word.rows) + 40
            if size > MOST:
                whole = False
                break
            words.append(word)
        self._say(reader, walk.mirror, walk.origin, words)
        whole = whole and walk.mirror not in reader.gaps
        reader.line.say(walkwire.known(Known(walk.mirror, walk.number, whole)), always=True)

    def _listed(self, reader: _Reader, mirror: str, listed: dict[bytes, Kept]) -> None:
        now, by_origin = self._clock(), dict[str, list[Word]]()
        for directory, kept in listed.items():
            walk = self._listings.elsewhere.wanted(reader.line.site, mirror, kept.origin)
            if walk is not None:
                by_origin.setdefault(kept.origin, []).append(_word(directory, kept, walk, now))
        for origin, words in by_origin.items():
            self._say(reader, mirror, origin, words)

    def _signs(self) -> None:
        now = self._clock()
        for mirror in self._listings.walking():
            origin = self._listings.own(mirror, now).origin
            for site, reader in self._readers.items():
                quiet = now - reader.told.get(mirror, 0.0) >= SIGN
                if quiet and self._listings.elsewhere.wanted(site, mirror, origin) is not None:
                    asked = self._listings.asked(mirror, origin)
                    self._say(reader, mirror, origin, [Word(directory) for directory in asked])

    def _say(self, reader: _Reader, mirror: str, origin: str, words: list[Word]) -> None:
        """Whoever reads too slowly is told that something was left out, when there is room again."""
        reader.told[mirror] = self._clock()
        for message in walkwire.listed(mirror, origin, words):
            if not reader.line.say(message):
                reader.gaps.add(mirror)
                return
        if mirror in reader.gaps and reader.line.say(walkwire.known(Known(mirror, 0, False))):
            reader.gaps.discard(mirror)


def _word(directory: bytes, kept: Kept, walk: Walk, now: float, *, snapshot: bool = False) -> Word:
    """Rows are for who is likely not to know them by their token."""
    wanted = kept.packed and len(kept.packed) <= MAX_ROWS and (walk.rows or not (kept.same or snapshot))
    age = int(max(0.0, now - kept.asked) * 1000)
    return Word(directory, age, kept.token, kept.packed if wanted else b"")
