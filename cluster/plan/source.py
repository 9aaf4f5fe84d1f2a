"""Where the bytes of one file come from: a sibling that holds this version, else the origin, else later.

Facts come from the origin: a sibling's file counts only where the origin has told exact size and time and
both agree (invariant 1).
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.model import Entry, Kind, Offer, Offered, Row, Trust, join, value
from cluster.plan.order import yields

SPOT_CHECK = 2**20  # bytes from which on a strict mirror takes one sibling's word and checks ranges of it


@value
class FromOrigin:
    """Nobody else has it."""


@value
class FromSibling:
    """`site` holds it; `others` do as well. `verified` says what makes its bytes acceptable, `spot_check`
    that ranges of them must be compared with the origin first.
    """

    site: str
    offer: Offer
    others: tuple[str, ...] = ()
    verified: str = ""
    spot_check: bool = False


@value
class PutOff:
    """`site` is fetching it at this moment. `contested`: both only ask so far, and we are first in rank."""

    site: str
    contested: bool = False


Source = FromOrigin | FromSibling | PutOff


def same_version(entry: Entry, offer: Offer) -> bool:
    """Whether a sibling holds exactly the version that the origin lists."""
    if offer.kind is not Kind.FILE or offer.sha256 is None or entry.size is None or offer.size != entry.size:
        return False
    told = offer.row.mtime or offer.mtime
    if entry.mtime is None or told is None:
        return False
    return entry.mtime.agrees(told) or (offer.mtime is not None and entry.mtime.agrees(offer.mtime))


def same_row(entry: Entry, row: Row) -> bool:
    """Whether a claim is for the version that the origin lists now."""
    if entry.size is not None and row.size is not None and entry.size != row.size:
        return False
    if entry.mtime is not None and row.mtime is not None:
        return entry.mtime.agrees(row.mtime)
    return True


def choose(
    path: bytes, entry: Entry, offered: Sequence[Offered], *, own: str, trust: Trust, patience: float
) -> Source:
    """The source of one file in directory `path`, given what the siblings that answered said."""
    holders = [(o.site, o.held[entry.name]) for o in offered if entry.name in o.held]
    holders = [(site, offer) for site, offer in holders if same_version(entry, offer)]
    if holders:
        found = _accepted(holders, trust)
        if found is not None:
            return found
    contested: PutOff | None = None
    for one in offered:
        claim = one.claims.get(entry.name)
        if claim is None or claim.idle >= patience or not same_row(entry, claim.row):
            continue
        if claim.started or yields(join(path, entry.name), own, one.site):
            return PutOff(one.site)
        contested = PutOff(one.site, contested=True)
    return contested or FromOrigin()


def _accepted(holders: list[tuple[str, Offer]], trust: Trust) -> FromSibling | None:
    """Whose bytes are accepted: `HAZARDS.md` section 4."""
    if trust is Trust.SIBLINGS:
        # A copy that came straight from the origin is one hand nearer to it.
        holders = sorted(holders, key=lambda h: (h[1].source != "origin", h[0]))
        site, offer = holders[0]
        others = tuple(s for s, o in holders[1:] if o.sha256 == offer.sha256)
        return FromSibling(site, offer, others, verified=f"sibling {site}")
    digests: dict[bytes, list[tuple[str, Offer]]] = {}
    for site, offer in holders:
        if offer.sha256 is not None:
            digests.setdefault(offer.sha256, []).append((site, offer))
    if len(digests) > 1:
        return None  # they contradict each other: only the origin can tell
    agreed = next(iter(digests.values()))
    # A copy of a sibling's copy is not a second opinion.
    independent = [site for site, offer in agreed if offer.source == "origin"]
    if len(independent) >= 2:
        names = [s for s, _ in agreed]
        return FromSibling(
            agreed[0][0], agreed[0][1], tuple(names[1:]), verified=f"{len(independent)} siblings"
        )
    if agreed[0][1].size >= SPOT_CHECK:
        return FromSibling(agreed[0][0], agreed[0][1], verified="spot check", spot_check=True)
    return None
