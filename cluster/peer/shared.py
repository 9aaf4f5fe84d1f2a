"""What all answers to siblings need: who may ask for what, the records, and how anything is said."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from cluster.errors import SidewaysError
from cluster.model import Cluster, Site

if TYPE_CHECKING:
    from cluster.store.mirror import Reader

MESSAGE = "application/vnd.msgpack"
DEADLINE = 10.0  # s for a request's header, its body, and between two requests

SITE = web.RequestKey("site", str)  # who asks


class Shared:
    """What this site shares with its siblings. `open_reader` opens the records of a mirror; readers are kept
    and closed here."""

    def __init__(self, site: Site, cluster: Cluster, open_reader: Callable[[str], Awaitable[Reader]]) -> None:
        self.site, self.cluster, self._open_reader = site, cluster, open_reader
        self._readers: dict[str, Reader] = {}
        self._opening = asyncio.Lock()

    def siblings(self) -> list[Site]:
        return [s for s in self.cluster.sites.values() if s.name != self.site.name and s.peer]

    def granted(self, request: web.Request, mirror: str) -> None:
        """Sites that carry a mirror share it, no others; names say nothing about what exists (117)."""
        known = self.cluster.mirrors.get(mirror)
        if known is None or request[SITE] not in known.sites or self.site.name not in known.sites:
            raise web.HTTPForbidden(reason="not shared between these sites")

    async def reader(self, request: web.Request, mirror: str) -> Reader:
        """The mirror's records. Raises HTTPForbidden, and HTTPNotFound while there are none."""
        self.granted(request, mirror)
        async with self._opening:
            reader = self._readers.get(mirror)
            if reader is None:
                try:
                    reader = self._readers[mirror] = await self._open_reader(mirror)
                except (SidewaysError, FileNotFoundError):
                    raise web.HTTPNotFound from None
        return reader

    async def reader_or_none(self, request: web.Request, mirror: str) -> Reader | None:
        with contextlib.suppress(web.HTTPNotFound):
            return await self.reader(request, mirror)
        return None

    async def close(self, keep: frozenset[str] = frozenset()) -> None:
        """The records of all mirrors but those to `keep`."""
        for mirror in self._readers.keys() - keep:
            await self._readers.pop(mirror).close()

    def __repr__(self) -> str:
        return f"<Shared {self.site.name} {len(self._readers)} records open>"


async def body_of(request: web.Request, limit: int) -> bytes:
    """Of a question. Raises HTTPRequestTimeout, HTTPRequestEntityTooLarge."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(DEADLINE):
            async for part in request.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise web.HTTPRequestEntityTooLarge(limit, size)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return b"".join(parts)


def answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type=MESSAGE)


def refusal(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{why}\n", headers=headers)
