"""What the siblings have of one large file, and what they are fetching of it.

What they fetch is known from their claims, on their lines at once. What they have they are asked: when a
claim has ended, since its piece may be there now, and otherwise now and then.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from cluster.engine.context import IN_LINE, Context
from cluster.errors import PeerError, PeerLacks
from cluster.model import Claim, Entry
from cluster.peer.client import Sibling
from cluster.peer.pace import LEAST, WINDOW
from cluster.plan.order import yields
from cluster.plan.source import same_row
from cluster.plan.steal import Piece, SeenClaim
from cluster.store.growing import Growing

ASK = 1.0  # s between two questions to one sibling about one file, where nothing seems to have changed
LOOK = 5.0  # s


@dataclass(slots=True)
class Known:
    """What one sibling told of this file."""

    sibling: Sibling
    starts: frozenset[int] = frozenset()  # of the pieces that it has
    runs: tuple[tuple[int, int], ...] = ()  # what it has, also of other pieces: first byte and end, ascending
    front: int = 0  # bytes that it has from the beginning on, without a gap
    grew: float = float("-inf")  # when that was last seen to be more than before
    there: bool = False  # it has some of the file, or more is on its way there
    sha256: bytes | None = None  # of the whole file, as it says
    useless: bool = False  # it lied, or does not know the question
    pace: float = 0.0  # bytes/s that it has got since it was first asked
    ended: frozenset[int] = frozenset()  # what it claimed no more, and has not been asked about since
    asking: asyncio.Task[None] | None = None
    _claims: tuple[Claim, ...] = ()
    _advanced: dict[int, tuple[int, float]] = field(default_factory=dict)  # by claim: bytes, since when
    _begun: dict[int, float] = field(default_factory=dict)  # by claim: since when it is known
    _flowing: dict[int, tuple[int, float]] = field(default_factory=dict)  # the first bytes of each, and when
    _claimed: frozenset[int] = frozenset()  # at the last look
    _asked: float = float("-inf")
    _first: tuple[float, int] | None = None  # when it told first, and how many bytes it had then
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # an older answer must not come last

    @property
    def name(self) -> str:
        return self.sibling.name


class Beside:
    """See the module. `siblings` are those that mirror it; `changed` is called when more is known. Whoever
    made it cancels the `asking` of all."""

    def __init__(
        self,
        context: Context,
        growing: Growing,
        pieces: Sequence[Piece],
        changed: Callable[[], None],
        siblings: Sequence[Sibling],
        every: float | None = None,
    ) -> None:
        self._context, self._growing, self._pieces, self._changed = context, growing, pieces, changed
        self._every = ASK if every is None else every  # s between two questions to one sibling
        self.all = {sibling.name: Known(sibling) for sibling in siblings}

    def up(self) -> list[Known]:
        asked = {sibling.name for sibling in self._context.up()}
        return [known for known in self.all.values() if known.name in asked and not known.useless]

    # -- what they have

    def holders(self, start: int) -> list[Known]:
        """Who has the piece that begins there."""
        return [known for known in self.up() if start in known.starts]

    def reaching(self, start: int, stop: int) -> list[tuple[Known, int]]:
        """Who has bytes from `start` on without a gap, and up to which byte before `stop`."""
        found: list[tuple[Known, int]] = []
        for known in self.up():
            place = bisect_right(known.runs, start, key=itemgetter(0)) - 1
            if place >= 0 and known.runs[place][1] > start:
                found.append((known, min(stop, known.runs[place][1])))
        return found

    def perhaps_held(self) -> frozenset[int]:
        """The pieces that somebody has, or has just stopped to fetch and may have."""
        none: frozenset[int] = frozenset()
        return none.union(*(known.starts | known.ended for known in self.up()))

    def listen(self, now: float) -> None:
        """Ask whoever has not been asked for a while, or has ended a claim since the last look."""
        for known in self.up():
            self._look(known, now)
            self.ask_soon(known, now, 0.0 if known.ended else self._every)

    def _look(self, known: Known, now: float) -> None:
        claimed = frozenset(claim.start for claim in self._claims_of(known, now))
        known.ended |= known._claimed - claimed - known.starts
        for start in known._claimed - claimed:
            for seen in (known._advanced, known._begun, known._flowing):
                seen.pop(start, None)
        known._claimed = claimed

    def ask_soon(self, known: Known, now: float, after: float) -> None:
        """Ask a sibling beside everything else, unless it was asked less than `after` s ago or is being
        asked."""
        if now - known._asked >= after and (known.asking is None or known.asking.done()):
            known.asking = asyncio.create_task(self.ask(known), name=f"parts at {known.name}")

    async def ask_all(self) -> None:
        await asyncio.gather(*(self.ask(known) for known in self.up()))

    async def ask(self, known: Known) -> None:
        """Ask a sibling what it has. No error of it is raised."""
        async with known._turn:
            known._asked = self._context.clock.monotonic()
            self._look(known, known._asked)
            asked_about = known.ended
            try:
                await self._asked(known)
            except PeerLacks:
                known.useless = True  # an older program, or it does not share this mirror
            except PeerError:
                known.starts, known.runs, known._claims, known.there = frozenset(), (), (), False
            finally:
                known.ended -= asked_about
        self._changed()

    async def _asked(self, known: Known) -> None:
        mirror, file = self._context.mirror.name, self._growing
        self._context.report.requests_sideways += 1
        told = await known.sibling.parts(mirror, file.path, file.size, file.etag, self._context.answer)
        known._claims = told.claims
        known.starts, known.runs = frozenset(_within(self._pieces, told.runs)), told.runs
        now, size = self._context.clock.monotonic(), sum(end - first for first, end in told.runs)
        front = told.runs[0][1] if told.runs and told.runs[0][0] == 0 else 0
        if front > known.front or not known.there:
            known.grew = now
        known.front, known.there, known.sha256 = front, told.arriving or bool(told.runs), told.sha256
        if known._first is None:
            known._first = (now, size)
        elif now > known._first[0]:
            known.pace = max(0.0, (size - known._first[1]) / (now - known._first[0]))

    # -- what they fetch

    def lasting(self, now: float) -> list[tuple[str, int, float]]:
        """Who is fetching which part of this version, by its first byte, and for how many s more at the pace
        that was seen for `LOOK` s at least."""
        found: list[tuple[str, int, float]] = []
        for known in self.up():
            for claim in self._claims_of(known, now):
                received, since = known._flowing.get(claim.start, (0, now))
                if claim.stop is not None and now - since >= LOOK:
                    pace = (claim.received - received) / (now - since)
                    left = claim.stop - claim.start - claim.received
                    found.append((known.name, claim.start, left / pace if pace > 0 else float("inf")))
        return found

    def claims(self, now: float) -> list[SeenClaim]:
        """What they are fetching of this version."""
        return [claim for known in self.up() for claim in self._claims_of(known, now)]

    def answered(self, now: float) -> list[SeenClaim]:
        """The claims on this version in their last answers: what a line has not brought yet may be among
        them."""
        return [
            _seen(known, claim, _advanced(known, claim, now), now)
            for known in self.up()
            for claim in known._claims
            if self._is_ours(claim)
        ]

    def foreign(self, entry: Entry, now: float) -> str | None:
        """A sibling that ranks before us and is fetching what is listed as ours is, under another name. What
        is listed otherwise is an older version, or a newer one."""
        patience, path, own = self._context.mirror.sideways.patience, self._growing.path, self._context.site
        for known in self.up():
            claims = [
                _seen(known, claim, at, now)
                for claim, at in self._said(known, now)
                if not self._is_ours(claim) and same_row(entry, claim.row)
            ]
            if any(now - claim.seen < patience for claim in claims) and yields(path, own, known.name):
                return known.name
        return None

    def _is_ours(self, claim: Claim) -> bool:
        return claim.etag in (None, self._growing.etag)

    def _claims_of(self, known: Known, now: float) -> list[SeenClaim]:
        return [_seen(known, claim, at, now) for claim, at in self._said(known, now) if self._is_ours(claim)]

    def _said(self, known: Known, now: float) -> list[tuple[Claim, float]]:
        """Its claims on this file, as it said on its line, or else in its last answer; and when each was last
        seen to advance."""
        heard = self._context.claims.heard
        if not heard.knows(known.name):
            return [(claim, _advanced(known, claim, now)) for claim in known._claims]
        told = heard.at(self._context.mirror.name, self._growing.path, now)
        return [(one.claim, one.advanced) for one in told if one.site == known.name]

    def __repr__(self) -> str:
        return f"<Beside {len(self.up())} of {len(self.all)} siblings>"


def _seen(known: Known, claim: Claim, at: float, now: float) -> SeenClaim:
    progressed = _progressed(known, claim, at, now)
    return SeenClaim(known.name, progressed, claim.first, claim.end, claim.received)


def _progressed(known: Known, claim: Claim, at: float, now: float) -> float:
    """When a claim last showed progress, on our clock, as far as its sibling is believed: what nothing has
    come of may wait in line at the origin, for `IN_LINE`; and what comes more slowly than a sibling may
    deliver is worth no more waiting, whatever it says.
    """
    begun = known._begun.setdefault(claim.first, now)
    if not claim.received:
        return min(now - claim.idle, begun + IN_LINE)
    received, since = known._flowing.setdefault(claim.first, (claim.received, now))
    if claim.received - received < LEAST * (now - since - WINDOW):
        return float("-inf")
    return min(at, now - claim.idle)


def _advanced(known: Known, claim: Claim, now: float) -> float:
    last = known._advanced.get(claim.first)
    if last is None or last[0] != claim.received:
        last = known._advanced[claim.first] = (claim.received, now)
    return last[1]


def _within(pieces: Sequence[Piece], runs: Sequence[tuple[int, int]]) -> list[int]:
    """Where the pieces begin of which every byte is in a run. Both ascend."""
    found: list[int] = []
    left = iter(runs)
    run = next(left, None)
    for piece in pieces:
        while run is not None and run[1] < piece.stop:
            run = next(left, None)
        if run is not None and run[0] <= piece.start:
            found.append(piece.start)
    return found
