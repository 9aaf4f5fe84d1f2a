"""For siblings that hold an older version of a file: the sums of its blocks, and compressed pieces of it.

One thread computes for all of them, so that they cannot take this site's processors; whoever would have to
wait long is told at once that there is none of this here, and takes the whole file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from cluster.errors import StoreError
from cluster.model import shown
from cluster.peer import deltawire
from cluster.peer.arriving import count
from cluster.peer.query import Query
from cluster.peer.sending import delivered, open_file, write
from cluster.store import blocks

if TYPE_CHECKING:
    from cluster.model import Held
    from cluster.store.mirror import Reader

MOST = 8  # answers that are being made at once
READ = 4 * 2**20  # bytes read and summed at once

Ranges = Sequence[tuple[int, int]]


class Differing:
    """One per server."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="peer-delta")
        self._making = 0

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def sums(self, request: web.Request, reader: Reader) -> web.StreamResponse:
        """`GET /v1/sums`. Raises HTTPException, WireError, ValueError."""
        query = Query(request)
        block = query.integer("block", 0)
        if block and block not in deltawire.BLOCKS:
            raise ValueError(f"block: no sums are made of {block} bytes")
        with self._room():
            descriptor, held = await _version(request, reader, query)
            with contextlib.ExitStack() as unsent:
                unsent.callback(os.close, descriptor)
                if not block:
                    size = 32 * count(0, held.size) if held.size > blocks.BLOCK else 0
                    response = await _begun(request, size)
                    await delivered(request, _hashes(response, request, reader, query, held, descriptor))
                    return response
                wanted = deltawire.ranges(query.text("ranges"), held.size // block)
                number = sum(end - first for first, end in wanted)
                if number > min(deltawire.MAX_SUMS, deltawire.MAX_SUMMED // block):
                    raise ValueError("ranges: more than are summed at once")
                response = await _begun(request, number * deltawire.SUM)
                unsent.pop_all()
            await delivered(request, self._sums(response, request, descriptor, block, wanted))
            return response

    async def pieces(self, request: web.Request, reader: Reader) -> web.StreamResponse:
        """`GET /v1/pieces`. Raises HTTPException, WireError."""
        query = Query(request)
        with self._room():
            descriptor, held = await _version(request, reader, query)
            with contextlib.ExitStack() as unsent:
                unsent.callback(os.close, descriptor)
                wanted = deltawire.ranges(query.text("ranges"), held.size)
                response = await _begun(request, None)
                unsent.pop_all()
            await delivered(request, self._pieces(response, request, descriptor, wanted))
            return response

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        if self._making >= MOST:
            raise web.HTTPNotFound(reason="no differences are worked out here just now")
        self._making += 1
        try:
            yield
        finally:
            self._making -= 1

    async def _sums(
        self, response: web.StreamResponse, request: web.Request, descriptor: int, block: int, wanted: Ranges
    ) -> None:
        step = READ // block
        steps = [(at, min(end, at + step)) for first, end in wanted for at in range(first, end, step)]
        await self._made(
            response, request, descriptor, (partial(_summed, descriptor, block, *one) for one in steps)
        )

    async def _pieces(
        self, response: web.StreamResponse, request: web.Request, descriptor: int, wanted: Ranges
    ) -> None:
        units = deltawire.units(wanted)
        await self._made(
            response, request, descriptor, (partial(_framed, descriptor, unit) for unit in units)
        )

    async def _made(
        self,
        response: web.StreamResponse,
        request: web.Request,
        descriptor: int,
        making: Iterable[Callable[[], bytes]],
    ) -> None:
        """One after the other is made and sent; then the descriptor is closed."""
        working: Future[bytes] = self._thread.submit(bytes)
        try:
            for make in making:
                working = self._thread.submit(make)
                made = await asyncio.wrap_future(working)
                await write(response, request, made)
        finally:
            # The thread may still be reading: the number must not stand for another file before it is done.
            working.add_done_callback(lambda _: os.close(descriptor))

    def __repr__(self) -> str:
        return f"<Differing {self._making} of {MOST}>"


async def _version(request: web.Request, reader: Reader, query: Query) -> tuple[int, Held]:
    """An open file of exactly the version that `If-Match` names."""
    opened = await open_file(reader, query.path("path"))
    if opened is None:
        raise web.HTTPNotFound
    descriptor, held = opened
    if held.sha256 is None or request.headers.get("If-Match") != f'"{held.sha256.hex()}"':
        os.close(descriptor)
        raise web.HTTPPreconditionFailed(reason="this site holds another version")
    return descriptor, held


async def _hashes(
    response: web.StreamResponse,
    request: web.Request,
    reader: Reader,
    query: Query,
    held: Held,
    descriptor: int,
) -> None:
    path = query.path("path")
    hashes = await reader.block_hashes(path, held, descriptor)
    if len(hashes) != response.content_length:
        raise StoreError(f"{shown(path)}: another version is recorded by now")
    await write(response, request, hashes)


async def _begun(request: web.Request, size: int | None) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    if size is not None:
        response.content_length = size
    await response.prepare(request)
    return response


def _summed(descriptor: int, block: int, first: int, end: int) -> bytes:
    """The sums of blocks `first` to `end`."""
    import numpy as np

    from cluster.delta import rolling

    data = memoryview(_read(descriptor, first * block, (end - first) * block))
    found = np.empty((end - first, deltawire.SUM), np.uint8)
    found[:, :4] = rolling.of_blocks(data, block).astype(">u4").view(np.uint8).reshape(-1, 4)
    strong = b"".join(deltawire.strong(data[at : at + block]) for at in range(0, len(data), block))
    found[:, 4:] = np.frombuffer(strong, np.uint8).reshape(-1, deltawire.STRONG)
    return found.tobytes()


def _framed(descriptor: int, unit: Ranges) -> bytes:
    return deltawire.frame(b"".join(_read(descriptor, first, end - first) for first, end in unit))


def _read(descriptor: int, at: int, size: int) -> bytes:
    data = os.pread(descriptor, size, at)
    if len(data) != size:
        raise OSError("a file became shorter while it was read")
    return data
