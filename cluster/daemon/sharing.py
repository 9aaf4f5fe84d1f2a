"""What a site shares with its siblings of its origins' limits: joins the slots that requests take
(`cluster.origin.limit`), the leases that say how many there may be, and the lines on which sites tell."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cluster.model import Cluster
from cluster.origin.limit import Hosts, Slots
from cluster.peer import linewire
from cluster.peer.leases import Leases, Pool, Terms
from cluster.plan.shares import Standing

if TYPE_CHECKING:
    from cluster.peer.line import Line
    from cluster.peer.lines import Lines
    from cluster.peer.siblings import Siblings

FLUSH = 0.02  # s in which changes are gathered
LOOK = 1.0  # s between two looks at the time
PARTS = 1000  # units of a bandwidth
CONNECTIONS, BANDWIDTH = "connections", "bandwidth"


def shared(cluster: Cluster, site: str) -> dict[Pool, Terms]:
    """What `site` shares, by sort and host, and with whom: all sites that carry a mirror of that host whose
    limits are shared. Of several such mirrors the smallest number of connections counts."""
    found: dict[Pool, Terms] = {}
    for mirror in cluster.mirrors_of(site):
        for host in {urlsplit(origin.url).hostname for origin in mirror.origins} - {None, ""}:
            if mirror.limits.shared and host is not None:
                for pool, budget in (
                    ((CONNECTIONS, host), mirror.limits.connections),
                    ((BANDWIDTH, host), PARTS),
                ):
                    known = found.get(pool) or Terms(budget, ())
                    members = tuple(sorted({*known.members, *mirror.sites}))
                    found[pool] = Terms(min(budget, known.budget), members)
    return found


class Sharing:
    """One per site. `run` for as long as anything is shared or may be."""

    def __init__(self, site: str, hosts: Hosts, clock: Callable[[], float]) -> None:
        self._site, self._hosts, self._clock = site, hosts, clock
        self._lines: Lines | None = None
        self._siblings: Siblings | None = None
        self._told: dict[str, Line] = {}
        self._news = asyncio.Event()
        self._leased: set[str] = set()
        # Another one for each process, and never 0.
        self.leases = Leases(site, secrets.randbits(48) + 1, self._refuses)
        self.leases.listen(self._news.set)

    def configure(self, cluster: Cluster) -> None:
        """What is shared from now on."""
        pools = shared(cluster, self._site)
        self.leases.configure(pools, self._clock())
        hosts = {host for _, host in pools}
        for host in self._leased - hosts:
            slots = self._hosts.of(host)
            slots.part = 1.0
            slots.lease(None, None)
        self._leased = hosts
        self._apply()

    def connect(self, lines: Lines, siblings: Siblings) -> None:
        """From now on siblings are told, and heard."""
        self._lines, self._siblings = lines, siblings
        lines.shares = self._hear

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK):
                    await self._news.wait()
                    await asyncio.sleep(FLUSH)
            except TimeoutError:
                pass
            self._news.clear()
            self.leases.look(self._clock())
            self._apply()
            self._tell()

    def standings(self) -> list[Standing]:
        return self.leases.standings(self._clock())

    # -- between the slots and the leases

    def _apply(self) -> None:
        for host in self._leased:
            self._leave(host, self._hosts.of(host))

    def _leave(self, host: str, slots: Slots) -> None:
        slots.part = self.leases.allowed((BANDWIDTH, host)) / PARTS
        slots.lease(self.leases.allowed((CONNECTIONS, host)), partial(self._used, host, slots))

    def _used(self, host: str, slots: Slots) -> None:
        """Somebody began, ended or waits."""
        now = self._clock()
        pools = (CONNECTIONS, host), (BANDWIDTH, host)
        before = [self.leases.allowed(pool) for pool in pools]
        self.leases.use(pools[0], slots.running, slots.demand, now)
        self.leases.use(pools[1], 0, PARTS if slots.bodies else 0, now)
        if [self.leases.allowed(pool) for pool in pools] != before:
            self._leave(host, slots)

    # -- between the leases and the lines

    def _refuses(self, site: str) -> bool:
        sibling = self._siblings.all.get(site) if self._siblings is not None else None
        return sibling is not None and sibling.link.refused

    def _hear(self, site: str, message: linewire.Shares) -> None:
        """Raises WireError."""
        self.leases.hear(site, message, self._clock())
        self._news.set()

    def _tell(self) -> None:
        if self._lines is None:
            return
        for site in self._siblings.all if self._siblings is not None else ():
            line = self._lines.to(site)
            if line is None:
                continue
            message = self.leases.say(site, self._clock(), always=self._told.get(site) is not line)
            self._told[site] = line
            if message is not None:
                line.say(linewire.shares(message), always=True)

    def __repr__(self) -> str:
        return f"<Sharing {self.leases!r}>"
