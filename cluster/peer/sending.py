"""File bytes onto a connection: read on threads, written in large pieces, to readers that keep up.

Over TLS from Python the cost is in the number of writes, and per file in the number of thread switches: small
files are read and leave about a megabyte at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from aiohttp import web

from cluster.courier.groups import MAX_BODIES, MAX_FILE, MAX_PLACES
from cluster.errors import SidewaysError
from cluster.model import Held
from cluster.peer import bundlewire

if TYPE_CHECKING:
    from cluster.store.mirror import Reader

PIECE = 2**20  # bytes read and written at once
WRITE = 2**20  # bytes of small files that are read, and leave, together
STALL = 30.0  # s for one write: a reader slower than this is cut off

log = logging.getLogger(__name__)

Opened = tuple[int, Held]
Group = list[tuple[int, bytes, Held]]  # place, directory, record


class Sender:
    """One per server: the threads that read files for siblings."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="peer-read")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def file(
        self,
        response: web.StreamResponse,
        request: web.Request,
        descriptor: int,
        first: int,
        end: int,
        sent: Callable[[int], None] = lambda at: None,
    ) -> None:
        """Bytes `first` to `end` of an open file, which is closed afterwards. The next piece is read while
        one is being written. `sent` is told how far it has come.

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
                await write(response, request, piece)
                sent(at)
        finally:
            # A thread may still be reading: the number must not stand for another file before it is done.
            reading.add_done_callback(lambda _: os.close(descriptor))

    async def bundle(
        self,
        response: web.StreamResponse,
        request: web.Request,
        reader: Reader,
        files: Sequence[tuple[int, bytes, Held]],
        told: Callable[[Sequence[int]], None],
    ) -> None:
        """The bodies of these files (place, directory, record), then how many they were. The next group is
        read while one is being written. `told` has the places of those that were sent."""
        sent = 0
        groups = _groups(files)
        reading = self._reading(reader, next(groups, None))
        while reading is not None:
            found = await asyncio.wrap_future(reading)
            reading = self._reading(reader, next(groups, None))
            if found:
                await write(response, request, bundlewire.group(found))
                told([place for place, _ in found])
            sent += len(found)
        await write(response, request, bundlewire.last(sent))

    def _reading(self, reader: Reader, group: Group | None) -> Future[list[tuple[int, bytes]]] | None:
        return None if group is None else self._threads.submit(_bodies, reader, group)


def _bodies(reader: Reader, group: Group) -> list[tuple[int, bytes]]:
    """On a thread: place and bytes of what is here as recorded."""
    found = reader.bodies([(directory, held) for _, directory, held in group])
    return [(group[number][0], body) for number, body in found]


def _groups(files: Sequence[tuple[int, bytes, Held]]) -> Iterator[Group]:
    """What is read and written together; no more in all than a bundle may hold."""
    group: Group = []
    size = total = 0
    for one in files:
        if one[2].size > MAX_FILE:
            continue
        total += one[2].size
        if total > MAX_BODIES:
            break
        group.append(one)
        size += one[2].size
        if size >= WRITE or len(group) >= MAX_PLACES:
            yield group
            group, size = [], 0
    if group:
        yield group


async def delivered(request: web.Request, sending: Awaitable[None]) -> None:
    """Wait for a body to be sent. Its header is on its way, so whatever fails now cuts the connection."""
    try:
        await sending
    except ConnectionError:  # the sibling went away
        pass
    except (SidewaysError, OSError) as error:
        _abort(request, str(error))


async def open_file(reader: Reader, path: bytes) -> Opened | None:
    """Open a file of the committed index; None for what it lacks. Cancelled, it leaves nothing open."""
    opening = asyncio.ensure_future(reader.open_file(path))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_closed)
        raise


def _closed(opening: asyncio.Future[Opened | None]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opened = opening.result()
        if opened is not None:
            os.close(opened[0])


async def write(response: web.StreamResponse, request: web.Request, data: bytes | bytearray) -> None:
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
