"""Where the bytes of one file come from: a sibling that holds this version, else the origin, else later.

Facts come from the origin: a sibling's file counts only where the origin has told exact size and time and
both agree (invariant 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cluster.model import Claim, Entry, Held, Kind, Offer, Offered, Row, Stamp, Trust, join, value
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
    return offer.kind is Kind.FILE and offer.sha256 is not None and as_listed(entry.size, entry.mtime, offer)


def is_version(entry: Entry, offer: Offer, sha256: bytes | None) -> bool:
    """The same where what the bytes must be may be known by a digest that the origin publishes."""
    if sha256 is None:
        return same_version(entry, offer)
    return offer.kind is Kind.FILE and offer.sha256 == sha256


def as_listed(size: int | None, mtime: Stamp | None, held: Offer | Held) -> bool:
    """Whether a file is the one that an origin lists with this size and time: both must be told exactly."""
    if size is None or mtime is None or held.size != size:
        return False
    then = held.row.mtime or held.mtime
    if then is None:
        return False
    return mtime.agrees(then) or (held.mtime is not None and mtime.agrees(held.mtime))


def finer(listed: Stamp | None, told: Stamp | None) -> Stamp | None:
    """The time of a file: a sibling's where it is the listed one, told more exactly."""
    return told if told is not None and listed is not None and told.agrees(listed) else listed


def same_row(entry: Entry, row: Row) -> bool:
    """Whether a claim is for the version that the origin lists now."""
    if entry.size is not None and row.size is not None and entry.size != row.size:
        return False
    if entry.mtime is not None and row.mtime is not None:
        return entry.mtime.agrees(row.mtime)
    return True


def named_so(offered: Sequence[Offered], etag: str) -> list[Offered]:
    """Of what siblings hold, that for which the origin gave them this strong validator. What was read within
    the second of its own time has none (`compare.validator`), so that it is not among them. What they are
    fetching stays."""
    return [
        replace(one, held={name: offer for name, offer in one.held.items() if offer.etag == etag})
        for one in offered
    ]


def choose(
    path: bytes,
    entry: Entry,
    offered: Sequence[Offered],
    *,
    own: str,
    trust: Trust,
    patience: float,
    sha256: bytes | None = None,
) -> Source:
    """The source of one file in directory `path`, given what the siblings that answered said."""
    holders = [(o.site, o.held[entry.name]) for o in offered if entry.name in o.held]
    claims = [(o.site, o.claims[entry.name]) for o in offered if entry.name in o.claims]
    return decide(
        join(path, entry.name),
        entry,
        holders,
        claims,
        own=own,
        trust=trust,
        patience=patience,
        sha256=sha256,
    )


def decide(
    path: bytes,
    entry: Entry,
    holders: Sequence[tuple[str, Offer]],
    claims: Sequence[tuple[str, Claim]],
    *,
    own: str,
    trust: Trust,
    patience: float,
    sha256: bytes | None = None,
) -> Source:
    """The source of the file `path`, given who says that it holds it and who that it is fetching it. `sha256`
    is what the origin's repository says that it must have: then any one sibling's bytes will do, with
    whatever trust (HAZARDS section 4)."""
    held = [(site, offer) for site, offer in holders if is_version(entry, offer, sha256)]
    if held:
        found = _accepted(held, trust if sha256 is None else Trust.SIBLINGS)
        if found is not None:
            return found
    contested: PutOff | None = None
    for site, claim in claims:
        if claim.idle >= patience or not same_row(entry, claim.row):
            continue
        if claim.started or yields(path, own, site):
            return PutOff(site)
        contested = PutOff(site, contested=True)
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
