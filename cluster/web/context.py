"""What every page is made from: who we are, what there is, and where it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cluster.errors import StoreError
from cluster.model import Cluster, Mirror, Site
from cluster.store.mirror import Reader
from cluster.web.view import SiteView


@dataclass(slots=True)
class _Opened:
    reader: Reader
    users: int = 0
    retired: bool = False  # to be closed by its last user


@dataclass(slots=True)
class Context:
    """`cluster` is replaced on reload. `open_reader` raises SidewaysError where a store cannot be read; a
    reader that was opened is kept until `close`.
    """

    site: Site
    cluster: Cluster
    view: SiteView
    clock: Callable[[], float]  # s since 1970
    open_reader: Callable[[str], Awaitable[Reader]]
    _opened: dict[str, _Opened] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def reading(self, mirror: str) -> AsyncIterator[Reader]:
        """The reader of one mirror, opened when it is first asked for, and anew after it failed: its file may
        have been replaced. Raises SidewaysError.
        """
        async with self._opening:
            if mirror not in self._opened:
                self._opened[mirror] = _Opened(await self.open_reader(mirror))
            opened = self._opened[mirror]
            opened.users += 1
        try:
            yield opened.reader
        except StoreError:
            opened.retired = True
            if self._opened.get(mirror) is opened:
                del self._opened[mirror]
            raise
        finally:
            opened.users -= 1
            if opened.retired and not opened.users:
                await opened.reader.close()

    def mirrors(self) -> list[Mirror]:
        """The mirrors that this site carries."""
        return self.cluster.mirrors_of(self.site.name)

    async def close(self, keep: frozenset[str] = frozenset()) -> None:
        """Close all readers but those of `keep`, each when nobody reads from it any more."""
        for name in [name for name in self._opened if name not in keep]:
            opened = self._opened.pop(name)
            opened.retired = True
            if not opened.users:
                await opened.reader.close()

    def __repr__(self) -> str:
        return f"<Context {self.site.name}: {len(self.mirrors())} mirrors, {len(self._opened)} readers>"
