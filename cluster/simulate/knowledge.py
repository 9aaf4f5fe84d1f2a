"""What happened in a run, and what one site knows of it: its own pieces at once, those of others by news."""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from cluster.model import Entry, Kind, Offer, Offered, Stamp, Trust, value
from cluster.plan.source import FromSibling, choose
from cluster.plan.steal import Backlog, Piece, SeenClaim

WHEN = Stamp(0)  # files do not change in a run: one time for all


class News(enum.Enum):
    """What sites tell each other of a piece."""

    HELD = "held"
    CLAIMED = "claimed"
    DROPPED = "dropped"  # claimed no more, and not held either


@value
class Fact:
    """At this time, `site` could tell this. `first` says that its bytes came from the origin."""

    at: float
    news: News
    site: str
    piece: Piece
    first: bool = False


Work = OrderedDict[Piece, None]  # a list that anything can be taken out of


class View:
    """One site's knowledge.

    What is *open* for it (not here, not on its way here, and nobody known to hold it) stands in `open`, by
    owner; what a sibling is known to hold, in `offered`.
    """

    def __init__(self, own: str, divided: Iterable[tuple[Piece, str]]) -> None:
        self.own = own
        self.here: dict[Piece, bool] = {}  # whether it came from the origin
        self.busy: set[Piece] = set()
        self.prefix: dict[Piece, int] = {}  # verified bytes of what broke off
        self.offered: Work = OrderedDict()
        self.open: dict[str, Work] = {}
        self.left: dict[str, int] = {}  # bytes that are open, by owner
        self.shown: dict[str, int] = {}  # bytes that a sibling is known to have brought from the origin
        self.read = 0  # facts taken in so far
        self._owners = dict(divided)
        self._holders: dict[Piece, dict[str, bool]] = {}
        self._claims: dict[bytes, dict[tuple[str, int], Piece]] = {}
        self._gone: dict[
            str, dict[Piece, bool]
        ] = {}  # who cannot be reached, and what they are known to hold
        for piece, owner in self._owners.items():
            self.open.setdefault(owner, OrderedDict())[piece] = None
            self.left[owner] = self.left.get(owner, 0) + piece.size

    @property
    def complete(self) -> bool:
        return len(self.here) == len(self._owners)

    def __repr__(self) -> str:
        return f"<View {self.own}: {len(self.here)} here, {len(self.offered)} offered>"

    # -- its own doing

    def begin(self, piece: Piece) -> None:
        """It is on its way here."""
        self._close(piece)
        self.offered.pop(piece, None)
        self.busy.add(piece)

    def arrived(self, piece: Piece, *, first: bool) -> None:
        """It is here."""
        self.busy.discard(piece)
        self.prefix.pop(piece, None)
        self.here[piece] = first

    def broke_off(self, piece: Piece) -> None:
        """It is not on its way any more."""
        self.busy.discard(piece)
        self._place(piece)

    # -- what others tell

    def learn(self, fact: Fact) -> None:
        """Take in what a sibling told."""
        if fact.site in self._gone:
            if fact.news is News.HELD:
                self._gone[fact.site][fact.piece] = fact.first
            return
        piece, claims = fact.piece, self._claims.setdefault(fact.piece.path, {})
        if fact.news is News.CLAIMED:
            claims[fact.site, piece.start] = piece
            return
        claims.pop((fact.site, piece.start), None)
        if fact.news is News.HELD:
            self._holders.setdefault(piece, {})[fact.site] = fact.first
            if fact.first:
                self.shown[fact.site] = self.shown.get(fact.site, 0) + piece.size
            self._close(piece)
            self._place(piece)

    def lose(self, site: str) -> None:
        """Its connection broke: nothing can be had from it. Its claims stand until they lapse."""
        held = self._gone.setdefault(site, {})
        for piece in [piece for piece, sites in self._holders.items() if site in sites]:
            held[piece] = self._holders[piece].pop(site)
            if not self._holders[piece]:
                del self._holders[piece]
                self.offered.pop(piece, None)
                self._place(piece)

    def find(self, site: str) -> None:
        """It can be reached again, and has what it had."""
        for piece, first in self._gone.pop(site, {}).items():
            self._holders.setdefault(piece, {})[site] = first
            self._close(piece)
            self._place(piece)

    def forget_claims(self, site: str) -> None:
        """It has begun anew: what it was fetching, it is not."""
        for claims in self._claims.values():
            for key in [key for key in claims if key[0] == site]:
                del claims[key]

    def divide_anew(self, owner_of: Callable[[Piece], str]) -> None:
        """Somebody is known to be gone: what is open gets its owners again."""
        still = [piece for work in self.open.values() for piece in work]
        self._owners = {piece: owner_of(piece) for piece in self._owners}
        self.open.clear()
        self.left.clear()
        for piece in sorted(still, key=lambda piece: (piece.path, piece.start)):
            self._place(piece)

    def _place(self, piece: Piece) -> None:
        """Where a piece belongs that is neither here nor on its way."""
        if piece in self.here or piece in self.busy:
            return
        if piece in self._holders:
            self.offered[piece] = None
            return
        owner = self._owners[piece]
        work = self.open.setdefault(owner, OrderedDict())
        if piece not in work:
            work[piece] = None
            self.left[owner] = self.left.get(owner, 0) + piece.size

    def _close(self, piece: Piece) -> None:
        owner = self._owners[piece]
        if piece in self.open.get(owner, ()):
            del self.open[owner][piece]
            self.left[owner] -= piece.size

    # -- what decisions ask

    def tails(self) -> dict[str, Iterable[Piece]]:
        """What each sibling owns and is open, last first."""
        return {owner: reversed(work) for owner, work in self.open.items() if owner != self.own and work}

    def backlogs(self, seconds: float) -> Mapping[str, Backlog]:
        """What each sibling has left, and its pace over the `seconds` since it began."""
        lasted = max(seconds, 1e-3)
        return {s: Backlog(left, self.shown.get(s, 0) / lasted) for s, left in self.left.items()}

    def claims(self, path: bytes, pulse: Callable[[str], float]) -> Sequence[SeenClaim]:
        """The claims on one path; `pulse` says when a sibling was last seen to be alive."""
        found = self._claims.get(path)
        if not found:
            return ()
        return [
            SeenClaim(site, pulse(site), piece.start, piece.stop if piece.part else None)
            for (site, _), piece in found.items()
        ]

    def source(self, piece: Piece) -> str | None:
        """Which sibling's bytes a pass would take, or None."""
        stated = Entry(piece.key, size=piece.size, mtime=WHEN)
        holders = self._holders.get(piece, {})
        offers = [
            Offered(
                site,
                {
                    piece.key: Offer(
                        piece.key,
                        Kind.FILE,
                        piece.size,
                        b"",
                        WHEN,
                        stated.row,
                        source="origin" if first else "",
                    )
                },
                {},
            )
            for site, first in holders.items()
        ]
        found = choose(b"", stated, offers, own=self.own, trust=Trust.SIBLINGS, patience=0.0)
        return found.site if isinstance(found, FromSibling) else None
