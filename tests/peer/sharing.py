"""Sites that share a budget on lines and clocks that are only numbers."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from cluster.peer import linewire
from cluster.peer.leases import Leases, Pool, Terms

POOL: Pool = ("connections", "origin.example")
STEP = 0.5  # s


@dataclass
class Station:
    """One site: its leases, its clock (`ahead` s, running `fast` times too fast), its requests."""

    name: str
    leases: Leases
    ahead: float
    fast: float
    demand: int = 0
    open: list[float] = field(default_factory=list)  # when each request ends
    served: int = 0  # requests begun
    news: bool = True  # something may have to be said


class World:
    """`names` share `budget`; a request takes `takes` s, a word `delay` s. Time passes by `advance`."""

    def __init__(
        self, budget: int, names: list[str], *, takes: float = 5.0, delay: float = 0.0, seed: int = 0
    ):
        self.budget, self.names, self.takes, self.delay = budget, names, takes, delay
        self.chance = random.Random(seed)
        self.now = 0.0
        self.up: dict[str, Station] = {}
        self.cut: set[frozenset[str]] = set()
        self.refusing: set[str] = set()
        self.words: dict[tuple[str, str], deque[tuple[float, bytes]]] = {}
        self.most = 0  # requests at once so far

    # -- what happens

    def start(self, name: str) -> None:
        chance = self.chance
        leases = Leases(name, chance.randrange(1, 2**40), self.refusing.__contains__)
        station = Station(name, leases, chance.uniform(0, 10**6), chance.uniform(0.99, 1.01))
        self.up[name] = station
        self.refusing.discard(name)
        leases.listen(lambda: setattr(station, "news", True))
        leases.configure({POOL: Terms(self.budget, tuple(self.names))}, self.clock(station))

    def kill(self, name: str, *, refuses: bool = False) -> None:
        """Its requests end with it. `refuses`: its machine is still there."""
        del self.up[name]
        if refuses:
            self.refusing.add(name)
        for pair in self.words:
            if name in pair:
                self.words[pair].clear()

    def part(self, *groups: list[str]) -> None:
        """Only the sites of one group hear each other."""
        self.cut = {
            frozenset((a, b))
            for one in groups
            for other in groups
            if one is not other
            for a in one
            for b in other
        }
        for a, b in self.words:
            if frozenset((a, b)) in self.cut:
                self.words[a, b].clear()

    def demand(self, name: str, count: int) -> None:
        if name in self.up:
            self.up[name].demand = count

    # -- time

    def clock(self, station: Station) -> float:
        return station.ahead + self.now * station.fast

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            self._deliver()
            for station in self.up.values():
                self._work(station)
            self._say()
            self.most = max(self.most, self.running())

    def _deliver(self) -> None:
        for (sender, reader), queue in self.words.items():
            while queue and queue[0][0] <= self.now and reader in self.up:
                message = linewire.read(queue.popleft()[1])
                assert isinstance(message, linewire.Shares)
                station = self.up[reader]
                station.leases.hear(sender, message, self.clock(station))
                station.news = True
        for station in self.up.values():
            if station.news:
                station.leases.look(self.clock(station))

    def _work(self, station: Station) -> None:
        leases = station.leases
        station.open = [end for end in station.open if end > self.now]
        self._use(station)
        if int(self.now) != int(self.now - STEP):
            leases.look(self.clock(station))
            station.news = True
        while len(station.open) < min(station.demand, leases.allowed(POOL)):
            station.open.append(self.now + self.takes * self.chance.uniform(0.2, 1.0))
            station.served += 1
            self._use(station)

    def _use(self, station: Station) -> None:
        count = len(station.open)
        station.leases.use(POOL, count, max(count, station.demand), self.clock(station))

    def _say(self) -> None:
        for name, station in self.up.items():
            told = station.news
            station.news = False
            for other in self.names if told else ():
                if other == name or other not in self.up or frozenset((name, other)) in self.cut:
                    continue
                message = station.leases.say(other, self.clock(station))
                if message is not None:
                    queue = self.words.setdefault((name, other), deque())
                    queue.append((self.now + self.delay, linewire.shares(message)))

    # -- what is

    def running(self, *names: str) -> int:
        return sum(len(s.open) for n, s in self.up.items() if not names or n in names)

    def counts(self) -> dict[str, int]:
        return {name: len(station.open) for name, station in self.up.items()}
