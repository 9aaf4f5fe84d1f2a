"""What every page is made from: who we are, what there is, and where it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cluster.model import Cluster, Mirror, Site
from cluster.store.mirror import Reader
from cluster.web.view import SiteView


@dataclass(slots=True)
class Context:
    """`cluster` is replaced on reload. `open_reader` raises SidewaysError where a store cannot be read; a
    reader that was opened is kept until `close`."""

    site: Site
    cluster: Cluster
    view: SiteView
    clock: Callable[[], float]  # s since 1970
    open_reader: Callable[[str], Awaitable[Reader]]
    _readers: dict[str, Reader] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def reader(self, mirror: str) -> Reader:
        """The reader of one mirror, opened when it is first asked for. Raises SidewaysError."""
        found = self._readers.get(mirror)
        if found is not None:
            return found
        async with self._opening:
            if mirror not in self._readers:
                self._readers[mirror] = await self.open_reader(mirror)
            return self._readers[mirror]

    def mirrors(self) -> list[Mirror]:
        """The mirrors that this site carries."""
        return self.cluster.mirrors_of(self.site.name)

    async def close(self, keep: frozenset[str] = frozenset()) -> None:
        """Close all readers but those of `keep`."""
        for name in [name for name in self._readers if name not in keep]:
            await self._readers.pop(name).close()

    def __repr__(self) -> str:
        return f"<Context {self.site.name}: {len(self.mirrors())} mirrors, {len(self._readers)} readers>"
