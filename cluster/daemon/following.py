"""How a site's daemon follows its siblings: the lines to them, their journals, and what their news brings."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

from cluster.engine.clock import Clock
from cluster.model import Cluster, Site
from cluster.peer.claims import Claims
from cluster.peer.cursors import Cursors
from cluster.peer.differences import differing
from cluster.peer.journals import Journals
from cluster.peer.lines import Lines
from cluster.peer.listings import Listings
from cluster.peer.siblings import Siblings
from cluster.scheduler.loop import Scheduler
from cluster.scheduler.news import News
from cluster.store.mirror import Reader

log = logging.getLogger("sideways.daemon")


class Following:
    """One per daemon. `start` when the peer port is open, `stop` before it is closed."""

    def __init__(
        self,
        site: Site,
        cluster: Cluster,
        siblings: Siblings,
        claims: Claims,
        listings: Listings,
        scheduler: Scheduler,
        open_reader: Callable[[str], Awaitable[Reader]],
        clock: Clock,
    ) -> None:
        self._site, self._cluster, self._siblings = site, cluster, siblings
        cursors = Cursors.load(os.path.join(site.state, "followed.json"))
        self._news = News(
            scheduler.wake,
            lambda mirror: mirror in scheduler.running,
            open_reader,
            self._differing,
            cursors.put,
            clock,
        )
        self._journals = Journals(cursors, open_reader, self._followed, self._news.take, self._news.lost)
        self.lines = Lines(site, cluster, siblings, claims, time.monotonic, self._journals, listings)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self.lines.start()
        for work in (self._journals.run(), self._news.run()):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: siblings are not followed any more: %r", self._site.name, error, exc_info=error)

    async def stop(self) -> None:
        await self.lines.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reload(self, cluster: Cluster) -> None:
        """Another set of siblings or mirrors, after `Siblings` and `PeerServer` have taken it up."""
        self._cluster = cluster
        self.lines.reload(cluster)
        self._journals.reload()

    def recorded(self, mirror: str) -> None:
        """Our journal has grown: who follows it is told."""
        self._journals.changed(mirror)

    def ended(self, mirror: str, scope: bytes, changed: int | None) -> None:
        """A pass has ended: `News.ended`."""
        self._news.ended(mirror, scope, changed)

    def _followed(self, site: str) -> list[str]:
        """The mirrors whose news from a sibling is worth having."""
        carried = self._cluster.mirrors_of(self._site.name)
        return [mirror.name for mirror in carried if site in mirror.sites and mirror.sideways.enabled]

    async def _differing(self, site: str, mirror: str, reader: Reader) -> list[bytes] | None:
        sibling = self._siblings.all.get(site)
        return None if sibling is None else await differing(sibling, mirror, reader)
