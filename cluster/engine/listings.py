"""Listings that a sibling had from the origin a moment ago, in place of our own request.

Of several sites that walk at one time, each asks the origin for the directories that it ranks first for, and
is told of the others by those who asked. Nothing is polled: what a sibling lists it says on its line. What a
sibling's listing lacks proves nothing: the walker asks the origin then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import inf

from cluster.engine.clock import Clock
from cluster.engine.patience import Patience
from cluster.engine.report import Report
from cluster.errors import OriginError, PeerError
from cluster.model import SECOND, Listing, Mirror, value
from cluster.origin.base import Origin
from cluster.peer.client import Sibling
from cluster.peer.codec import WireError
from cluster.peer.elsewhere import Told
from cluster.peer.listings import Listings
from cluster.peer.walkwire import Walk
from cluster.plan.order import ranking

ON_ITS_WAY = 5.0  # s that a word may take: its age is that of when it was said
ASKING = 30.0  # s for a listing for which a sibling is asking the origin
ENDLESS = 3  # listings for which it did so for longer, and its word that it asks counts no more
SLUGGISH, SPENT = 1.0, 30.0  # s from which on an answer is a slow one; s of these, and it is not asked again
SLOW = 3.0  # times the patience with a silent one, for what is left to one that goes on

log = logging.getLogger(__name__)


@value
class First:
    """The listing where a walk begins, and when (ns since 1970) the origin was asked for it; `relayed` where
    not by us."""

    path: bytes
    listing: Listing
    listed_at: int
    relayed: bool = False


class Relays:
    """What siblings tell of the origin's directories, during one pass. What was asked before `after`, when we
    compared last, or before the `news` (s since 1970) of a change, says nothing new. `empty`: nothing is held
    here yet that a token could stand for. `walks`: whether a site mirrors a directory."""

    def __init__(
        self,
        mirror: Mirror,
        site: str,
        siblings: Sequence[Sibling],
        listings: Listings,
        clock: Clock,
        report: Report,
        after: float,
        news: float | None = None,
        *,
        empty: bool = False,
        walks: Callable[[str, bytes], bool] = lambda site, directory: True,
    ) -> None:
        self.enabled = mirror.sideways.relays and bool(siblings)
        self._mirror, self._site, self._clock, self._report = mirror, site, clock, report
        self._siblings = {sibling.name: sibling for sibling in siblings}
        self._listings, self._elsewhere = listings, listings.elsewhere
        ahead = clock.monotonic() - clock.now()
        self._after = after + ahead
        self._news = -inf if news is None else news + ahead
        self._empty, self._walks = empty, walks
        self._walk: Walk | None = None
        self._number = 0
        self._began = 0.0
        self._idle: float | None = None  # since when nothing is left to do but what siblings are to list
        self._late: dict[str, float] = {}  # by site: when it had said nothing for too long
        self._slow: set[str] = set()  # those that went on, but did not list what was left to them
        self._slower = 0.0  # when the newest of them was found out
        self._stuck: set[bytes] = set()  # for which a sibling has asked the origin for too long
        self._endless: Counter[str] = Counter()  # how many of them, by site
        self._spent: Counter[str] = Counter()  # by site: s that its slow answers took
        self._said = asyncio.Event()
        self._heard: Callable[[Iterable[bytes] | None], None] = lambda directories: None
        self.patience = Patience()
        self.used = 0

    def __repr__(self) -> str:
        return f"<Relays {self.used} used, {len(self._late)} late, {len(self._slow)} slow>"

    # -- a walk

    def begin(self, origin: str, scope: bytes, *, shares: bool) -> None:
        """Tell the siblings that this site walks, and want to know what they know. `shares`: what it ranks
        first for it will list."""
        if not self.enabled:
            return
        self._began = self._clock.monotonic()
        name, age = self._mirror.name, self._began - self._oldest(scope)
        self._elsewhere.begin(name, origin, self._began, self._tell)
        self._walk = Walk(name, 0, origin, scope, int(max(0.0, age) * 1000), 0, shares, self._empty)
        self._number = self._listings.walk(self._walk, self._began)

    def end(self) -> None:
        """However the pass ended."""
        if self._walk is not None:
            self._walk = None
            self._listings.walked(self._mirror.name)
            self._elsewhere.end(self._mirror.name)

    def listen(self, heard: Callable[[Iterable[bytes] | None], None]) -> None:
        """`heard` is called with directories of which something was said; None: with who walks."""
        self._heard = heard

    def _tell(self, directories: Iterable[bytes] | None) -> None:
        self._said.set()
        self._heard(directories)

    async def first(self, origin: Origin, directory: bytes, known: bytes) -> First:
        """Begin a walk by this origin with the listing of one directory. A walk of everything waits for
        whoever ranks first; one that begins below is for something new, and asks at once. `known` is the
        token of a listing that need not be taken apart again, if it turns out that everything still agrees
        with it. Raises what `origin.listing` does."""
        self.begin(origin.url, directory, shares=True)
        if not directory:
            await self._ready()
            await self._left(directory)
            found = await self.find(directory, b"")
            if found is not None:
                return First(directory, *found, relayed=True)
        listed_at = int(self._clock.now() * SECOND)
        listing = await self.ask(origin, directory, known)
        return First(directory, listing, listed_at - int(listing.age * SECOND))

    async def resume(self, origin: Origin, scope: bytes) -> None:
        """Begin a walk of a part of what is held, for which no sibling is to wait."""
        self.begin(origin.url, scope, shares=False)
        await self._ready()

    async def _ready(self) -> None:
        """Wait until the siblings have said what they know; for a moment, since one may be mute."""
        while self._walk is not None and self._elsewhere.owing(self._mirror.name, self._number):
            now = self._clock.monotonic()
            if now - self._began > self.patience.seconds:
                mute = self._elsewhere.owing(self._mirror.name, self._number)
                self._late |= dict.fromkeys(mute, now)
                return
            await self._pause()

    async def _left(self, directory: bytes) -> None:
        """Wait while it is left to siblings."""
        self.idle(True)
        began = self._clock.monotonic()
        while self.elsewhere(directory):
            await self._pause()
            self.look()
            self.overdue(directory, began)
        self.idle(False)

    async def _pause(self) -> None:
        self._said.clear()
        await self.patience.tick(self._said)

    # -- whose turn it is

    def elsewhere(self, directory: bytes) -> bool:
        """Whether a sibling is asking the origin for it, or is to."""
        if self._walk is None or directory in self._stuck:
            return False
        words = self._words(directory)
        if any(self._usable(word, directory) for word in words):
            return False
        return self._asked(directory) or self._ranked(directory)[0] != self._site

    def _ranked(self, directory: bytes) -> list[str]:
        """Who is to ask for it, first first. Where we go on with part of a pass nobody waits for us."""
        assert self._walk is not None
        expected = self._elsewhere.expected(self._mirror.name, directory)
        out = self._late.keys() | self._slow
        able = (site for site in expected if site in self._siblings and site not in out)
        sites = [site for site in able if self._walks(site, directory)]
        if self._walk.shares or not sites:
            sites.append(self._site)
        return ranking(directory, sites)

    def _words(self, directory: bytes) -> list[Told]:
        return self._elsewhere.words(self._mirror.name, directory)

    def _asked(self, directory: bytes) -> bool:
        """Whether the origin is being asked for it."""
        return any(self._believed(word) for word in self._words(directory) if word.asked is None)

    def _believed(self, word: Told) -> bool:
        return word.site not in self._late and self._endless[word.site] < ENDLESS

    def idle(self, yes: bool) -> None:
        """Whether nothing is left to do but what siblings are to list."""
        if yes != (self._idle is not None):
            self._idle = self._clock.monotonic() if yes else None

    def look(self) -> None:
        """Leave out who has said nothing for too long while we waited; who speaks again is counted again."""
        now, before = self._clock.monotonic(), set(self._late)
        for site, heard in self._elsewhere.walking(self._mirror.name):
            if site in self._late:
                if heard > self._late[site]:
                    del self._late[site]
            elif self._idle is not None and now - max(heard, self._idle) > self.patience.seconds:
                log.info("%s: %s said nothing for %.1f s", self._mirror.name, site, now - heard)
                self._late[site] = now
        if before != set(self._late):
            self._tell(None)

    def overdue(self, directory: bytes, since: float) -> None:
        """It has been left to a sibling since then (monotonic s). Where we have waited for it too long, that
        sibling is waited for no more in this pass, and the next by rank is to list what it had to."""
        if self._idle is None or not self.elsewhere(directory):
            return
        now, asked = self._clock.monotonic(), self._asked(directory)
        if now - max(since, self._idle, self._slower) <= (ASKING if asked else SLOW * self.patience.seconds):
            return
        if asked:
            self._stuck.add(directory)
            self._endless.update(word.site for word in self._words(directory) if word.asked is None)
        else:
            self._slow.add(self._ranked(directory)[0])
            self._slower = now
        log.info("%s: siblings list too little: %r", self._mirror.name, self)
        self._tell(None)

    # -- what was said

    def _oldest(self, directory: bytes) -> float:
        """When (monotonic s) the origin must have been asked: what has changed since must be in it, and what
        we compared with it ourselves is not to be undone."""
        compared = self._listings.last_compared(self._mirror.name, directory)
        after = self._after if compared is None else compared
        return max(after, self._news, self._clock.monotonic() - self._mirror.sideways.listings)

    def _usable(self, word: Told, directory: bytes) -> bool:
        oldest = self._oldest(directory)
        young = word.asked is not None and (word.asked >= oldest + ON_ITS_WAY or word.surely >= oldest)
        return young and bool(word.token)

    async def find(self, directory: bytes, known: bytes) -> tuple[Listing, int] | None:
        """A sibling's listing, and when (ns since 1970) the origin was asked for it; None where our own
        request is due. `known` is the token of a listing that need not be sent again."""
        if self._walk is None:
            return None
        name = self._mirror.name
        words = [word for word in self._words(directory) if self._usable(word, directory)]
        found = None
        for word in words:
            found = self._read(word, directory, known) or await self._ask(word.site, directory, known)
            if found is not None:
                break
        else:
            for site in self._elsewhere.reticent(name):
                found = found or await self._ask(site, directory, known)
        self._elsewhere.drop(name, directory)
        if found is None:
            return None
        self.used += 1
        listing, asked = found
        self._listings.learnt(name, directory, listing, asked)
        return listing, int((self._clock.now() - (self._clock.monotonic() - asked)) * SECOND)

    def _read(self, word: Told, directory: bytes, known: bytes) -> tuple[Listing, float] | None:
        from cluster.peer import listingwire  # with a first listing that a sibling told

        assert word.asked is not None
        if known and word.token == known:
            return Listing((), token=known, same=True), word.asked
        rows = word.rows or self._listings.rows(self._mirror.name, directory, word.token)
        try:
            return (listingwire.rows_read(rows, word.token), word.asked) if rows else None
        except WireError as error:
            log.warning("%s: %s: a listing that is none: %s", self._mirror.name, word.site, error)
            return None

    async def _ask(self, site: str, directory: bytes, known: bytes) -> tuple[Listing, float] | None:
        sibling = self._siblings.get(site)
        if sibling is None or not sibling.up or self._walk is None or self._spent[site] >= SPENT:
            return None
        self._report.requests_sideways += 1
        now = self._clock.monotonic()
        age = now - self._oldest(directory)
        try:
            told = await sibling.listing(
                self._mirror.name, directory, self._walk.origin, age, known, self.patience.answer
            )
        except PeerError:
            return None  # its breaker knows
        took = self._clock.monotonic() - now
        self._spent[site] += round(took) if took >= SLUGGISH else 0
        if told.listing is None or told.age > age or (told.listing.same and not known):
            return None
        return told.listing, self._clock.monotonic() - told.age

    # -- what we ask ourselves

    async def ask(self, origin: Origin, directory: bytes, known: bytes = b"") -> Listing:
        """What the origin itself tells us; siblings are told as well. Raises OriginError."""
        if not self.enabled:
            return await origin.listing(directory, known)
        name, asked = self._mirror.name, self._clock.monotonic()
        try:
            with self._listings.asking(name, directory, origin.url):
                listing = await origin.listing(directory, known)
        except OriginError:
            self._listings.failed(name, directory, origin.url, asked)
            raise
        self._listings.keep(name, directory, origin.url, listing, asked - listing.age)
        return listing
