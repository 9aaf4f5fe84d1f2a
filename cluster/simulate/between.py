"""Who cannot reach whom, since when, and what has not been told for that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from cluster.simulate.knowledge import Fact


class Between:
    """The pairs of sites that are cut off from each other just now."""

    def __init__(self) -> None:
        self._since: dict[frozenset[str], float] = {}
        self._cuts: dict[frozenset[str], int] = {}  # that hold at once
        self._untold: dict[tuple[str, str], list[Fact]] = defaultdict(list)  # to whom, from whom

    def cut(self, one: str, other: str, now: float) -> bool:
        """Whether they could reach each other until now."""
        pair = frozenset((one, other))
        self._cuts[pair] = self._cuts.get(pair, 0) + 1
        return self._since.setdefault(pair, now) == now and self._cuts[pair] == 1

    def heal(self, one: str, other: str) -> bool:
        """One cut less; whether it was the last."""
        pair = frozenset((one, other))
        self._cuts[pair] -= 1
        if self._cuts[pair]:
            return False
        del self._cuts[pair], self._since[pair]
        return True

    def since(self, one: str, other: str) -> float | None:
        """When they were cut off; None where they can reach each other."""
        return self._since.get(frozenset((one, other)))

    def hold(self, site: str, fact: Fact) -> bool:
        """Whether `site` cannot hear of this now; it is kept for it."""
        if self.since(site, fact.site) is None:
            return False
        self._untold[site, fact.site].append(fact)
        return True

    def untold(self, site: str, other: str) -> Iterable[Fact]:
        """What `other` could not tell `site`, which hears of it now."""
        return self._untold.pop((site, other), ())

    def __repr__(self) -> str:
        return f"<Between {len(self._since)} pairs cut off>"
