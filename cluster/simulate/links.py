"""Links as fluids: every flow gets its max-min fair share of the links it passes and of its connection.

No TCP: no slow start, no loss. A share is taken up at once when another flow ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Way:
    """Links (indexes of capacities) that some flows pass together, each at most with `cap` bytes/s, and so
    all with the same `rate`. `carried` is what each of them has brought since the way was first used.
    """

    links: tuple[int, ...]
    cap: float
    rate: float = 0.0
    carried: float = 0.0
    flows: dict[Flow, None] = field(default_factory=dict)  # a set that keeps its order: runs repeat


@dataclass(eq=False, slots=True)
class Flow:
    """Bytes on their way. `until` is what its way will have carried when it ends."""

    way: Way
    until: float

    @property
    def left(self) -> float:
        return self.until - self.way.carried


@dataclass(slots=True)
class Network:
    """The capacities of all links (bytes/s), and what flows over them."""

    capacities: Sequence[float]
    _ways: dict[tuple[tuple[int, ...], float], Way] = field(default_factory=dict)
    _used: dict[Way, None] = field(default_factory=dict)
    _stale: bool = False

    def begin(self, links: tuple[int, ...], cap: float, size: float) -> Flow:
        """`size` bytes set out over `links`, at most with `cap` bytes/s."""
        way = self._ways.setdefault((links, cap), Way(links, cap))
        flow = Flow(way, way.carried + size)
        way.flows[flow] = None
        self._used[way] = None
        self._stale = True
        return flow

    def end(self, flow: Flow) -> None:
        """`flow` has ended, or is cut off."""
        way = flow.way
        del way.flows[flow]
        if not way.flows:
            del self._used[way]
        self._stale = True

    def next_end(self) -> float:
        """Seconds until the first flow has brought everything, if nothing else happens."""
        if self._stale:
            share(self.capacities, self._used)
            self._stale = False
        first = float("inf")
        for way in self._used:
            if way.rate > 0:
                first = min(first, (min([flow.until for flow in way.flows]) - way.carried) / way.rate)
        return first

    def advance(self, seconds: float) -> None:
        """Let everything flow for so long; no flow may end before."""
        for way in self._used:
            way.carried += way.rate * seconds

    def ended(self, rest: float) -> list[Flow]:
        """The flows of which no more than `rest` bytes are left, in the order in which they set out on
        their ways."""
        return [flow for way in self._used for flow in way.flows if flow.until - way.carried <= rest]


def share(capacities: Sequence[float], ways: Iterable[Way]) -> None:
    """Set the rate of every way: progressive filling. The link that would give least to each of its flows
    gives them that, and what they do not take of other links is left to the rest.
    """
    waiting = dict.fromkeys(ways)
    over: dict[int, list[Way]] = {}
    left: dict[int, float] = {}
    count: dict[int, int] = {}
    for way in waiting:
        flows = len(way.flows)
        for link in way.links:
            if link in over:
                over[link].append(way)
                count[link] += flows
            else:
                over[link], left[link], count[link] = [way], capacities[link], flows
    by_cap = sorted(waiting, key=lambda way: way.cap, reverse=True)
    while waiting:
        each, tightest = min([(left[link] / flows, link) for link, flows in count.items()])
        while by_cap[-1] not in waiting:
            by_cap.pop()
        if by_cap[-1].cap <= each:
            each = by_cap[-1].cap
            settled = [way for way in waiting if way.cap == each]
        else:
            settled = [way for way in over[tightest] if way in waiting]
        for way in settled:
            way.rate = each
            del waiting[way]
            flows = len(way.flows)
            for link in way.links:
                rest = left[link] - each * flows
                left[link] = rest if rest > 0 else 0.0
                count[link] -= flows
                if not count[link]:
                    del count[link]
