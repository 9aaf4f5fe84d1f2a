"""Following a sibling's pass: what it has just compared with the origin is not compared once more here.

A pass over everything that came to its end leaves, for every directory, the token of the listing with which
all of it agrees. Where this site's records agree with the very same listings, the origin would have told it
nothing new; sums of tokens say so for whole trees at once. What remains is looked at as in any pass: the
directories whose sums differ, and those of which this site itself has something open. The disk is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from math import inf

from cluster.engine.clock import Clock
from cluster.engine.report import Report
from cluster.errors import PeerError
from cluster.model import Mirror, join, value
from cluster.peer.client import Agreement, Sibling
from cluster.store.agreement import Agreed
from cluster.store.mirror import MirrorStore
from cluster.store.rows import ancestors

ANSWER = 5.0  # s that a sibling has to answer
QUESTIONS = 1000  # to one sibling; beyond that a walk of our own is as good
MOST = 2000  # directories that are looked at; as above
TELLING = 120.0  # s for all questions; as above
OWN = 24 * 3600.0  # s until this site walks itself: nothing else looks at what its disk holds

Due = dict[bytes, bool]  # directories to be looked at, and whether all below them is walked as well


@value
class Followed:
    """`since` (s since 1970): the oldest answer of the origin that this rests on."""

    site: str
    since: float
    due: Due


@dataclass(slots=True)
class Following:
    """What following needs of one pass: `origin` is the URL that it asks, `rules` a digest of the rules by
    which it compares listings."""

    store: MirrorStore
    clock: Clock
    report: Report
    mirror: Mirror
    origin: str
    rules: bytes
    _questions: int = 0
    _until: float = inf  # monotonic s: no question is asked any more

    async def find(self, siblings: Sequence[Sibling], news: float | None) -> Followed | None:
        """A sibling whose pass ours may follow; None where this site walks itself. By `news` (s since 1970)
        something had changed at the origin. Raises StoreError.

        One that is no newer than our last comparison tells nothing new: of all sites, that which
        compared last always walks.
        """
        self._until = self.clock.monotonic() + TELLING
        up = [sibling for sibling in siblings if sibling.up]
        last = await self.store.last_through()
        if not up or last is None or not 0 <= self.clock.now() - last[1] < OWN:
            return None
        oldest = min(self.mirror.sideways.listings, self.clock.now() - max(last[0] + 1, news or 0))
        own = await self.store.undecided(MOST + 1)
        ours = (await self.store.agreement(b"")).sum
        told = await asyncio.gather(*(self._asked(sibling, b"", ours) for sibling in up))
        found = [
            (s, one) for s, one in zip(up, told, strict=True) if one is not None and self._fits(one, oldest)
        ]
        for sibling, one in sorted(found, key=lambda each: (each[1].found.sum != ours, _age(each[1]))):
            due = await self._differing(sibling, one)
            if due is not None and len(due.keys() | set(own)) <= MOST:
                since = self.clock.now() - _age(one)
                return Followed(sibling.name, since, dict.fromkeys(own, False) | due)
        return None

    def _fits(self, told: Agreement, oldest: float) -> bool:
        """Whether a pass of the sibling's is behind it, at most `oldest` seconds ago and by our rules."""
        return told.through is not None and told.through.age <= oldest and told.through.rules == self.rules

    async def _differing(self, sibling: Sibling, root: Agreement) -> Due | None:
        """Where its records agree with other listings than ours. None where that takes too long to tell."""
        due: Due = {}
        left: list[tuple[bytes, Agreement | None]] = [(b"", root)]
        while left:
            path, told = left.pop()
            ours = await self._ours(path)
            theirs = await self._theirs(sibling, path, ours, told)
            if theirs is None or len(due) + len(left) > MOST:
                return None
            if theirs.sum == ours.sum:
                continue
            if theirs.own != ours.own:
                due[path] = False
            known = dict(theirs.below)
            for name, total in ours.below:
                if name not in known:
                    due[join(path, name)] = True  # nothing below it has been compared there
                elif known[name] != total:
                    left.append((join(path, name), None))
        return due

    async def _ours(self, path: bytes) -> Agreed:
        """With every subdirectory."""
        page = whole = await self.store.agreement(path)
        while page.more:
            page = await self.store.agreement(path, after=page.below[-1][0])
            whole = replace(whole, below=whole.below + page.below)
        return whole

    async def _theirs(
        self, sibling: Sibling, path: bytes, ours: Agreed, told: Agreement | None
    ) -> Agreed | None:
        """The same of a sibling, which has `told` the beginning; its subdirectories only where its sum is not
        ours. None where it has so many more of them that it differs anyway."""
        if told is None:
            told = await self._asked(sibling, path, ours.sum)
        if told is None or told.through is None:
            return None
        page = whole = told.found
        while page.more:
            more = await self._asked(sibling, path, ours.sum, page.below[-1][0])
            if more is None or len(whole.below) > len(ours.below) + MOST:
                return None
            page = more.found
            whole = replace(whole, below=whole.below + page.below)
        return whole

    async def _asked(
        self, sibling: Sibling, path: bytes, known: bytes, after: bytes = b""
    ) -> Agreement | None:
        self._questions += 1
        if self._questions > QUESTIONS or self.clock.monotonic() > self._until:
            return None
        self.report.requests_sideways += 1
        try:
            return await sibling.agreement(self.mirror.name, path, self.origin, known, after, ANSWER)
        except PeerError:
            return None  # its breaker knows; or it is of a former version


def _age(told: Agreement) -> float:
    return told.through.age if told.through is not None else inf


def outermost(due: Due) -> tuple[list[bytes], Due]:
    """Where walks begin, none below another, and what they take of what is held below: all that is due, and
    what leads to it, since a directory is looked for only where what is above still has it."""
    begin: list[bytes] = []
    taken: Due = {}
    for path in sorted(due, key=lambda path: path.split(b"/") if path else []):
        above = next((one for one in islice(ancestors(path), 1, None) if one in taken), None)
        if above is None:
            begin.append(path)
        else:
            between = takewhile(lambda one: one != above, islice(ancestors(path), 1, None))  # noqa: B023
            taken |= dict.fromkeys(between, False)
        taken[path] = due[path]
    return begin, taken
