"""Who fetches which piece of the work from the origin, and what a site does when its own share is done.

The work is divided by rendezvous hash: by directory, by file where a directory is large, and by range where a
file is. A site works through what it owns from the front, then steals from the back of the owner that will be
busy longest, so that thief and owner walk towards each other (`COOPERATION.md` has the figures). Claims keep
two sites off one piece; where both began at once, one stops, and where a claim died, one takes over.

Everything that is known comes in as values; times are seconds on the clock of the site that decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cluster.model import join, split, value
from cluster.plan.order import SPLIT, owner, ranking, yields

RANGE = 64 * 2**20
LARGE = 24 * 2**20  # files above this are fetched by ranges, where the origin allows it: those of up to
# two ranges by single blocks, since one of them may be much of what a site that dies has to itself
BLOCK = 8 * 2**20  # what has a hash of its own: a prefix is verified in whole blocks
HURRY = 10.0  # s that a sibling may still need for a piece without anybody else's fetching it
SLOWER = 3.0  # times what it would take us
TURN = 1.0  # s between the turns of those who may take a lost piece over: a claim has arrived by then


@value
class Piece:
    """What one site fetches at once: a file, or (`part`) a range of it. Size 0: the listing told none."""

    path: bytes
    size: int = 0
    start: int = 0
    part: bool = False

    @property
    def stop(self) -> int:
        return self.start + self.size

    @property
    def key(self) -> bytes:
        """What is hashed for its owner. No path holds NUL, so that a range is never taken for a file."""
        return b"%s\0%d" % (self.path, self.start) if self.part else self.path


@value
class SeenClaim:
    """A claim of a sibling as it is known here. `stop` is None where the whole file is claimed; `received`
    counts from `start`; `seen` is when, on our own clock, it last showed progress.
    """

    site: str
    seen: float
    start: int = 0
    stop: int | None = None
    received: int = 0

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of these bytes are claimed."""
        return self.stop is None or (self.start <= start < stop <= self.stop)

    def touches(self, piece: Piece) -> bool:
        """Whether any byte of `piece` is claimed."""
        return self.stop is None or not piece.part or (self.start < piece.stop and piece.start < self.stop)


@value
class Backlog:
    """What an owner still has before it: bytes that nobody is known to hold, and how many of its bytes were
    seen to come each second. A pace of 0 is a site that has shown nothing.
    """

    bytes: int
    pace: float = 0.0


@value
class Fetch:
    """Fetch this from the origin now, from byte `begin` of the file on. `owner` ranks first for it."""

    piece: Piece
    owner: str
    begin: int = 0


@value
class Wait:
    """Everything left is claimed. Without news, decide again at `until`: a claim may have lapsed by then."""

    until: float


Claims = Callable[[bytes], Sequence[SeenClaim]]  # those of siblings on one path


# -- division --------------------------------------------------------------------------------


def pieces(path: bytes, size: int | None, *, ranges: bool) -> tuple[Piece, ...]:
    """A file as it is fetched: whole, or, where it is larger than 24 MiB and the origin allows ranges, in
    blocks of 8 MiB, above 128 MiB in ranges of 64 MiB. Every byte is in exactly one of them.
    """
    if not ranges or size is None or size <= LARGE:
        return (Piece(path, size or 0),)
    step = BLOCK if is_medium(size) else RANGE
    return tuple(Piece(path, min(step, size - at), at, part=True) for at in range(0, size, step))


def is_medium(size: int) -> bool:
    """Whether it is a file that one site alone fetches as a whole, and several in pieces of one block."""
    return LARGE < size <= 2 * RANGE


def piece_owner(piece: Piece, beside: int, sites: Iterable[str]) -> str:
    """Who fetches `piece` first. `beside` counts the files of its directory: above `SPLIT` each file has an
    owner of its own. Every site computes the same from the same listing.
    """
    if piece.part or beside > SPLIT:
        return owner(piece.key, sites)
    return owner(split(piece.path)[0], sites)


def divided(
    directory: bytes, files: Sequence[tuple[bytes, int | None]], sites: Sequence[str], *, ranges: bool
) -> list[tuple[Piece, str]]:
    """The files (name and size) of one directory as pieces with their owners, in the order of `files`."""
    whole = owner(directory, sites) if len(files) <= SPLIT else None
    out: list[tuple[Piece, str]] = []
    for name, size in files:
        for piece in pieces(join(directory, name), size, ranges=ranges):
            mine = whole if whole is not None and not piece.part else owner(piece.key, sites)
            out.append((piece, mine))
    return out


# -- what to do next -------------------------------------------------------------------------


def slowest(backlogs: Mapping[str, Backlog]) -> list[str]:
    """The owners by how long what they have left will keep them, the longest first."""

    def lasting(site: str) -> tuple[float, int, str]:
        left = backlogs[site]
        seconds = left.bytes / left.pace if left.pace > 0 else float("inf")
        return (-seconds, -left.bytes, site)

    return sorted(backlogs, key=lasting)


def next_piece(
    own: str,
    mine: Iterable[Piece],
    tails: Mapping[str, Iterable[Piece]],
    backlogs: Mapping[str, Backlog],
    claims: Claims,
    *,
    sites: Sequence[str],
    now: float,
    patience: float,
    prefix: Callable[[Piece], int] = lambda piece: 0,
) -> Fetch | Wait | None:
    """What site `own` fetches from the origin next; None when nothing is left that nobody holds.

    `mine` is what it owns, first first; `tails` what each other owner has left, last first; it is empty where
    nothing is to be stolen. Neither holds what is here, in flight here, or known to be held by a sibling.
    Both are read only as far as the first piece that is free. `sites` are those believed alive, `patience` is
    how long a claim holds without progress, `prefix` how many verified bytes of a piece are here already.
    """
    again = float("inf")
    victims = [site for site in slowest(backlogs) if site != own and site in tails]
    for site, work in [(own, mine), *((victim, tails[victim]) for victim in victims)]:
        for piece in work:
            free = free_at(piece, own, claims(piece.path), sites=sites, now=now, patience=patience)
            if free <= now:
                return Fetch(piece, site, piece.start + verified(prefix(piece)))
            again = min(again, free)
    return None if again == float("inf") else Wait(again)


def free_at(
    piece: Piece, own: str, claims: Sequence[SeenClaim], *, sites: Sequence[str], now: float, patience: float
) -> float:
    """When `own` may fetch `piece`, as things stand: 0.0 where nobody claims it. A live claim is looked at
    again when it would lapse; after one that has lapsed, the heirs have their turns `TURN` seconds apart.
    """
    at = 0.0
    for claim in claims:
        if claim.touches(piece):
            lapses = claim.seen + patience
            if lapses <= now:
                heirs = successors(piece, claim.site, sites)
                lapses += TURN * (heirs.index(own) if own in heirs else len(heirs))
            at = max(at, lapses)
    return at


def heir(piece: Piece, own: str, lasts: float, ours: float, claimant: str, sites: Iterable[str]) -> bool:
    """Whether `own`, which has nothing else to fetch, fetches a piece beside `claimant`, which will be busy
    with it for `lasts` s more, where it takes us `ours`. One site does, and only where much is gained: the
    bytes are sent twice.
    """
    return lasts > max(HURRY, SLOWER * ours) and successors(piece, claimant, sites)[:1] == [own]


# -- claims that meet, claims that die -------------------------------------------------------


def gives_way(
    piece: Piece, own: str, received: int, rival: SeenClaim, *, now: float, patience: float
) -> bool:
    """Whether `own`, which has `received` bytes of `piece`, stops because `rival` fetches it too.

    The one that ranks higher for the path goes on; the other stops unless it has half of it already, or the
    rival does not fetch all that it lacks. Both judge by the path, so they never stop together.
    """
    if now - rival.seen >= patience or (piece.size and 2 * received >= piece.size):
        return False
    everything = rival.covers(piece.start + received, piece.stop)
    return everything and yields(piece.path, own, rival.site)


def successors(
    piece: Piece, lost: str, sites: Iterable[str], prefixes: Mapping[str, int] | None = None
) -> list[str]:
    """Who takes a piece over when the claim of `lost` dies, first first: whoever has the longest verified
    prefix (bytes, by site), then by rank.
    """
    held = prefixes or {}
    left = ranking(piece.key, (site for site in sites if site != lost))
    return sorted(left, key=lambda site: -verified(held.get(site, 0)))


def verified(prefix: int) -> int:
    """How much of a prefix need not be fetched again: its whole blocks."""
    return prefix - prefix % BLOCK
