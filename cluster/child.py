"""Child processes that lead a group of their own: what they say is read, and the whole group is ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

CHUNK = 2**16  # bytes read at once


async def drained(descriptor: int, take: Callable[[bytes], object]) -> None:
    """Read to the end, so that nobody who writes there is blocked, and give each piece to `take`; closes
    `descriptor`.

    Not by a pipe transport: uvloop's and the file object that it wants close the same number twice.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        try:
            chunk = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        take(chunk)
        if not chunk and not ended.done():
            ended.set_result(None)

    os.set_blocking(descriptor, False)
    loop.add_reader(descriptor, readable)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def end_group(process: asyncio.subprocess.Process, mercy: float) -> None:
    """End all of its group: asked first, and `mercy` seconds later made to, also where whoever waits is
    cancelled. Raises PermissionError where the group is somebody else's."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        ending = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((ending,), timeout=mercy)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
