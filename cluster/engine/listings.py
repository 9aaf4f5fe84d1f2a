"""Listings that a sibling had from the origin a moment ago, in place of our own request.

Of several sites that walk at one time, each asks the origin for the directories that it ranks first for, and
takes the others' word for theirs afterwards. What a sibling's listing lacks proves nothing: the walker asks
the origin then.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Literal

from cluster.engine.context import Context
from cluster.errors import PeerError
from cluster.model import SECOND, Listing, Trust
from cluster.peer.client import Relayed, Sibling
from cluster.plan.order import owner, ranking

ANSWER = 2.0  # s that a sibling has to answer
WAIT = 3.0  # s for a directory whose turn at a sibling it is, and so much longer for each further one
BUSY = 30.0  # s at most where that sibling goes on listing others meanwhile
AGAIN = 0.05  # s that a worker leaves siblings alone when one of them was not yet there
AFTER = 15.0  # s for which a sibling that was waited for in vain is not waited for again
HOLDS = 1.0  # s for which what a sibling said of its own state is believed


class Relays:
    """What siblings tell of the origin's directories, during one pass."""

    def __init__(self, context: Context) -> None:
        sideways = context.mirror.sideways
        self._context = context
        self.enabled = sideways.enabled and sideways.listings > 0 and sideways.trust is Trust.SIBLINGS
        self._said: dict[str, tuple[float, Relayed]] = {}  # by site: when we asked, and what it said
        self._oldest = sideways.listings  # s
        self._late: dict[str, float] = {}  # by site: when we last waited for it in vain
        self.used = 0

    def __repr__(self) -> str:
        return f"<Relays {self.used} used>"

    @property
    def _age(self) -> float:
        """Seconds that a listing may be old now: what has changed since must be in it."""
        news = self._context.news
        if news is None:
            return self._oldest
        return max(0.0, min(self._oldest, self._context.clock.now() - news))

    def ours(self, directories: Iterable[bytes]) -> set[bytes]:
        """Those for which it is this site that asks the origin first."""
        own = self._context.site
        sites = [own, *(sibling.name for sibling in self._context.siblings if sibling.up)]
        return {path for path in directories if owner(path, sites) == own}

    async def find(
        self, directory: bytes, known: bytes, waited: float
    ) -> tuple[Listing, int] | Literal["later"] | None:
        """A sibling's listing, and when (ns since 1970) the origin was asked for it; None where our own
        request is due; "later" where a sibling is about to ask. `known` is the token of a listing that need
        not be sent again, `waited` how many seconds we have put this directory off already."""
        context = self._context
        siblings = {sibling.name: sibling for sibling in context.siblings if sibling.up}
        if not self.enabled or not siblings:
            return None
        ranked = ranking(directory, [context.site, *siblings])
        soon = False
        for name in ranked:
            if name in siblings and self._worth(name, ranked[0]):
                found = await self._ask(siblings[name], directory, known)
                if found == "later":
                    soon = True
                elif found is not None:
                    return found
        if soon and waited < BUSY:
            return "later"
        turns = [name for name in ranked if name == context.site or self._expected(name)]
        first, place = turns[0], turns.index(context.site)
        if not place:
            return None
        if waited < (BUSY if self._busy(first) else WAIT) + WAIT * (place - 1):
            return "later"
        self._late[first] = context.clock.monotonic()
        return None

    def _worth(self, name: str, first: str) -> bool:
        """Whether this sibling can have the listing: it ranks first for it, or was there before us."""
        context, said = self._context, self._said.get(name)
        if said is None or context.clock.monotonic() - said[0] > HOLDS:
            return True
        asked = context.listings.last_asked_by(context.mirror.name, name)
        if asked is not None and asked > said[0]:
            return True  # it has begun to walk since
        state = said[1].state
        if name == first:
            return state.walking or state.newest is not None
        if state.strayed is not None and state.strayed <= self._age:
            return True
        # Those that walk as we do have what they rank first for; those that are through have everything.
        return not state.walking and state.newest is not None and state.newest <= self._age

    def _expected(self, name: str) -> bool:
        """Whether this sibling is likely to list it when it is its turn: whose turn it is goes by the ranking
        of those that walk, so that nobody waits for a site that does not, and of those that waited one goes
        first."""
        late = self._late.get(name)
        if late is not None and self._context.clock.monotonic() - late < AFTER:
            return False
        said = self._said.get(name)
        return said is not None and said[1].state.walking

    def _busy(self, name: str) -> bool:
        """Whether this sibling has listed something within the last seconds, and so is getting there."""
        said = self._said.get(name)
        newest = None if said is None else said[1].state.newest
        return newest is not None and newest < WAIT

    async def _ask(
        self, sibling: Sibling, directory: bytes, known: bytes
    ) -> tuple[Listing, int] | Literal["later"] | None:
        context = self._context
        context.report.requests_sideways += 1
        asked = context.clock.monotonic()
        try:
            told = await sibling.listing(
                context.mirror.name, directory, context.origin.url, self._age, known, ANSWER
            )
        except PeerError:
            return None  # its breaker knows
        self._said[sibling.name] = (asked, told)
        if told.asking:
            return "later"
        if told.listing is None or told.age > self._age or (told.listing.same and not known):
            return None
        self.used += 1
        return told.listing, int((context.clock.now() - told.age) * SECOND)

    def asking(self, directory: bytes) -> AbstractContextManager[None]:
        """Around our own request to the origin."""
        context = self._context
        return context.listings.asking(context.mirror.name, directory, context.origin.url)

    def keep(self, directory: bytes, listing: Listing, asked: float) -> None:
        """What the origin itself told us, for siblings. `asked` is monotonic s."""
        if self.enabled:
            context = self._context
            sites = [context.site, *(sibling.name for sibling in context.siblings)]
            strayed = directory != b"" and owner(directory, sites) != context.site  # all begin at the root
            context.listings.keep(
                context.mirror.name, directory, context.origin.url, listing, asked, strayed=strayed
            )
