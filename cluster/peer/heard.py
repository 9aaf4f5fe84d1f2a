"""What siblings said on their lines that they are fetching: a bounded table that is asked without waiting.

A state object fed with the time (seconds, monotonic); pure. A sibling's word is a hint: how long it counts is
decided by whoever asks, from `Claim.idle`, which goes on growing here while nothing is heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from cluster.model import Claim, split, value
from cluster.peer.codec import WireError
from cluster.peer.ended import Ended
from cluster.plan.slow import Headway

MAX_CLAIMS = 10_000  # of one sibling: some 5 MB
MAX_PARTS = 1_024  # of one file: 64 GiB in parts of 64 MiB


@value
class Told:
    """A claim of a sibling. Its `idle` is what the sibling says, grown since then; `advanced` is when we,
    on our own clock, last saw that more had been received.
    """

    site: str
    claim: Claim
    advanced: float


@dataclass(slots=True)
class _Said:
    claim: Claim
    heard: float
    advanced: float

    def told(self, site: str, now: float) -> Told:
        idle = self.claim.idle + max(0.0, now - self.heard)
        return Told(site, replace(self.claim, idle=idle), self.advanced)


@dataclass(slots=True)
class _Site:
    """`claims`: mirror, directory, name, first byte. `going`: by mirror."""

    claims: dict[str, dict[bytes, dict[bytes, dict[int, _Said]]]] = field(default_factory=dict)
    going: dict[str, Headway] = field(default_factory=dict)
    count: int = 0
    whole: bool = False


class Heard:
    """One per site of ours; `Claims.heard` is it. `ended` is what they fetch no more."""

    def __init__(self) -> None:
        self.ended = Ended()
        self._sites: dict[str, _Site] = {}

    # -- asking

    def knows(self, site: str) -> bool:
        """Whether everything that this sibling is fetching has been told: what is not here, it is not
        fetching, give or take the time that a word is on its way."""
        known = self._sites.get(site)
        return known is not None and known.whole

    def at(self, mirror: str, path: bytes, now: float) -> list[Told]:
        """Who is fetching a file, or parts of it, by site and first byte."""
        directory, name = split(path)
        found = []
        for site, known in sorted(self._sites.items()):
            parts = known.claims.get(mirror, {}).get(directory, {}).get(name, {})
            found += [parts[first].told(site, now) for first in sorted(parts)]
        return found

    def within(self, mirror: str, directory: bytes, now: float) -> list[Told]:
        """What the siblings are fetching in a directory, by site."""
        return [
            said.told(site, now)
            for site, known in sorted(self._sites.items())
            for parts in known.claims.get(mirror, {}).get(directory, {}).values()
            for said in parts.values()
        ]

    def going(self, mirror: str) -> dict[str, Headway]:
        """How the passes over a mirror go, by site; those of whom nothing is known, or do nothing, are not
        among them."""
        return {site: known.going[mirror] for site, known in self._sites.items() if mirror in known.going}

    def passing(self, mirror: str) -> bool:
        """Whether a sibling is fetching anything of a mirror."""
        return any(known.claims.get(mirror) or mirror in known.going for known in self._sites.values())

    # -- hearing

    def begin(self, site: str) -> None:
        """Everything is told anew from here on; what was told before is forgotten."""
        self._sites[site] = _Site()

    def whole(self, site: str) -> None:
        """That was everything; changes follow."""
        self._sites[site].whole = True

    def gone(self, site: str) -> None:
        """Its line has ended: what it said there counts no longer."""
        self._sites.pop(site, None)
        self.ended.forget(site)

    def claimed(self, site: str, mirror: str, directory: bytes, claims: Sequence[Claim], now: float) -> None:
        """Raises WireError for more than MAX_CLAIMS of one sibling, MAX_PARTS of one file."""
        known = self._sites[site]
        if not claims:  # a name of a directory alone must not take up memory
            return
        names = known.claims.setdefault(mirror, {}).setdefault(directory, {})
        for claim in claims:
            parts = names.setdefault(claim.name, {})
            if claim.first not in parts:
                known.count += 1
                if known.count > MAX_CLAIMS:
                    raise WireError(f"claims: more than {MAX_CLAIMS} at once")
                if len(parts) >= MAX_PARTS:
                    raise WireError(f"claims: more than {MAX_PARTS} parts of one file")
            before = parts.get(claim.first)
            advanced = now if before is None or _differ(before.claim, claim) else before.advanced
            parts[claim.first] = _Said(claim, now, advanced)

    def released(self, site: str, mirror: str, directory: bytes, parts: Iterable[tuple[bytes, int]]) -> None:
        """What was never claimed may be released as well."""
        known = self._sites[site]
        directories = known.claims.get(mirror, {})
        names = directories.get(directory, {})
        ended: list[bytes] = []
        for name, first in parts:
            of_name = names.get(name, {})
            said = of_name.pop(first, None)
            if said is not None:
                known.count -= 1
                if said.claim.started and said.claim.end is None:
                    ended.append(name)
            if not of_name:
                names.pop(name, None)
        if not names:
            directories.pop(directory, None)
        if ended:
            self.ended.add(site, mirror, directory, ended)

    def goes(self, site: str, mirror: str, headway: Headway) -> None:
        self._sites[site].going[mirror] = headway

    def cleared(self, site: str, mirror: str) -> None:
        """It fetches nothing of this mirror any more."""
        known = self._sites[site]
        known.going.pop(mirror, None)
        gone = known.claims.pop(mirror, {})
        known.count -= sum(len(parts) for names in gone.values() for parts in names.values())
        self.ended.forget(site, mirror)

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {known.count}" for name, known in sorted(self._sites.items()))
        return f"<Heard {told or 'nobody'}>"


def _differ(before: Claim, claim: Claim) -> bool:
    """Whether a claim that was said again says anything new."""
    return (before.received, before.started, before.row) != (claim.received, claim.started, claim.row)
