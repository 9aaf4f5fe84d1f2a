"""The siblings of one site, as the cluster's files name them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from cluster.model import Cluster, Mirror, Site
from cluster.peer import caught, keys
from cluster.peer.https import HttpsSibling


class Siblings:
    """One per site. `start` raises ConfigError where this site's key cannot be used (HAZARDS 134)."""

    def __init__(self, site: Site, cluster: Cluster, clock: Callable[[], float]) -> None:
        self._site, self._cluster, self._clock = site, cluster, clock
        self._own_files: tuple[str, str] = ("", "")
        self.all: dict[str, HttpsSibling] = {}

    def start(self) -> None:
        self._own_files = keys.load(self._site, self._site.state)
        for site in self._wanted().values():
            self._join(site)

    async def stop(self) -> None:
        for name in list(self.all):
            await self.all.pop(name).stop()

    async def reload(self, cluster: Cluster) -> None:
        """Siblings that came, went, moved or changed their certificate; the others go on undisturbed.

        Raises ConfigError for this site's key and certificate, and changes nothing then.
        """
        own = cluster.sites.get(self._site.name, self._site)
        self._own_files = keys.load(own, own.state)
        renewed, self._site, self._cluster = own.peer != self._site.peer, own, cluster
        wanted = self._wanted()
        for name, sibling in list(self.all.items()):
            site = wanted.get(name)
            if site is None or site.peer != sibling.site.peer or renewed:
                await self.all.pop(name).stop()
        for site in wanted.values():
            if site.name not in self.all:
                self._join(site)

    def of(self, mirror: Mirror) -> list[HttpsSibling]:
        """Who else carries this mirror, by name."""
        names = [site.name for site in self._cluster.siblings(self._site.name, mirror)]
        return [self.all[name] for name in names if name in self.all]

    async def looked_for(self, mirror: Mirror, patience: float) -> None:
        """Wait until each of them has answered once, or failed to; `patience` s at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await asyncio.gather(*(sibling.link.looked.wait() for sibling in self.of(mirror)))

    def heard(self, site: str) -> None:
        """A sibling has connected to this site: it is there, so it is asked for a sign at once."""
        sibling = self.all.get(site)
        if sibling is not None:
            sibling.link.nudge()

    def _wanted(self) -> dict[str, Site]:
        """Those with whom this site shares a mirror."""
        carried = self._cluster.mirrors_of(self._site.name)
        return {s.name: s for mirror in carried for s in self._cluster.siblings(self._site.name, mirror)}

    def _join(self, site: Site) -> None:
        sibling = HttpsSibling(site, self._own_files, self._cluster.name, self._clock, self._caught)
        self.all[site.name] = sibling
        sibling.start()

    def _caught(self, site: str) -> None:
        caught.note(self._site.state, site, time.time())

    def __repr__(self) -> str:
        return f"<Siblings {sum(s.up for s in self.all.values())} of {len(self.all)} up>"
