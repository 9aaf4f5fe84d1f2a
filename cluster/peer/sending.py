"""File bytes onto a connection: read on threads, written in large pieces, to readers that keep up.

Over TLS from Python the cost is in the number of writes, and per file in the number of thread switches: small
files are read some 64 at a time and leave in writes of 256 KiB and more.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from aiohttp import web

from cluster.errors import SidewaysError
from cluster.model import Held
from cluster.peer import frames

if TYPE_CHECKING:
    from cluster.store.mirror import Reader

PIECE = 2**20  # bytes read and written at once
WRITE = 256 * 1024  # a bundle's least write
FILES = 64  # small files opened and read together
READ_AHEAD = 4 * 2**20  # bytes of small files read together
STALL = 30.0  # s for one write: a reader slower than this is cut off

log = logging.getLogger(__name__)

Opened = tuple[int, Held]


class Sender:
    """One per server: the threads that read files for siblings."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="peer-read")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def file(
        self, response: web.StreamResponse, request: web.Request, descriptor: int, first: int, end: int
    ) -> None:
        """Bytes `first` to `end` of an open file, which is closed afterwards. The next piece is read while
        one is being written.

        A file that turns out shorter than its record cuts the connection: the reader must not take what it
        got for the whole.
        """
        at = first
        reading = self._threads.submit(os.pread, descriptor, min(PIECE, end - at), at)
        try:
            while at < end:
                piece = await asyncio.wrap_future(reading)
                at += len(piece)
                if not piece:
                    _abort(request, "a file became shorter while it was read")
                    return
                reading = self._threads.submit(os.pread, descriptor, min(PIECE, end - at), at)
                await _write(response, request, piece)
        finally:
            # A thread may still be reading: the number must not stand for another file before it is done.
            reading.add_done_callback(lambda _: os.close(descriptor))

    async def bundle(
        self, response: web.StreamResponse, request: web.Request, reader: Reader, paths: Sequence[bytes]
    ) -> None:
        """Every file of `paths` that is held, up to 64 MiB, each after its header; then how far it came."""
        buffer = bytearray()
        sent, done = 0, 0
        while done < len(paths):
            opened = _small(await open_files(reader, paths[done : done + FILES]))
            taken, size = _fitting(opened, frames.MAX_BODIES - sent)
            _close(opened[taken:])
            if not taken:
                break
            buffer += await self._read(opened[:taken])
            sent += size
            done += taken
            if len(buffer) >= WRITE:
                await _write(response, request, buffer)
                buffer = bytearray()
        await _write(response, request, buffer + frames.last(done))

    async def _read(self, opened: Sequence[Opened | None]) -> bytes:
        reading = self._threads.submit(_read, opened)
        reading.add_done_callback(lambda done: _close(opened) if done.cancelled() else None)
        return await asyncio.wrap_future(reading)


async def delivered(request: web.Request, sending: Awaitable[None]) -> None:
    """Wait for a body to be sent. Its header is on its way, so whatever fails now cuts the connection."""
    try:
        await sending
    except ConnectionError:  # the sibling went away
        pass
    except (SidewaysError, OSError) as error:
        _abort(request, str(error))


async def open_files(reader: Reader, paths: Sequence[bytes]) -> list[Opened | None]:
    """Open files of the committed index; None for what it lacks. Cancelled, it leaves nothing open."""
    opening = asyncio.ensure_future(reader.open_files(paths))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_closed)
        raise


def _closed(opening: asyncio.Future[list[Opened | None]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _close(opening.result())


def _small(opened: Sequence[Opened | None]) -> list[Opened | None]:
    """Files that are too large for a bundle are left out of it, and asked for by themselves."""
    _close([one for one in opened if one is not None and one[1].size > frames.MAX_FILE])
    return [None if one is not None and one[1].size > frames.MAX_FILE else one for one in opened]


def _fitting(opened: Sequence[Opened | None], room: int) -> tuple[int, int]:
    """How many of them are sent now, and their bytes: what fits into this bundle and is read at once."""
    size = 0
    for count, one in enumerate(opened):
        if one is None:
            continue
        more = one[1].size
        if size and size + more > READ_AHEAD:
            return count, size
        if more > room - size:
            return count, size
        size += more
    return len(opened), size


def _read(opened: Sequence[Opened | None]) -> bytes:
    """The frames of some files, on a thread. A file that is not as long as its record is left out."""
    parts: list[bytes] = []
    for one in opened:
        if one is None:
            continue
        descriptor, held = one
        try:
            body = os.pread(descriptor, held.size + 1, 0) if held.sha256 else b""
        except OSError as error:
            log.warning("a file could not be read for a sibling: %s", error)
            continue
        finally:
            os.close(descriptor)
        if held.sha256 and len(body) == held.size:
            parts += (frames.frame(held), body)
    return b"".join(parts)


def _close(opened: Sequence[Opened | None]) -> None:
    for one in opened:
        if one is not None:
            os.close(one[0])


async def _write(response: web.StreamResponse, request: web.Request, data: bytes | bytearray) -> None:
    """Hand it to the connection and wait until there is room again."""
    try:
        async with asyncio.timeout(STALL):
            await response.write(data)
    except TimeoutError:
        _abort(request, f"reads too slowly: {len(data)} bytes took more than {STALL:.0f} s")
        raise ConnectionResetError("a sibling reads too slowly") from None


def _abort(request: web.Request, why: str) -> None:
    log.warning("peer port: %s: %s", request.path, why)
    if request.transport is not None:
        request.transport.abort()
