"""The event loop that everything runs on: uvloop, with one of its faults covered."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h

COLLECT = (50_000, 20, 50)  # objects made until the youngest are looked at; and so on by generation


class Loop(uvloop.Loop):
    """TLS costs a quarter of what it does on the stock loop.

    uvloop 0.23 closes the descriptor of `sock` where a connection fails before its transport is ready (a
    peer that resets at once is enough), and leaves the number in the socket object, which closes it again
    when it is collected: by then it may be a file of another thread, or a data base.
    """

    async def create_connection(  # type: ignore[override]  # uvloop's stub spells out two overloads
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *args: Any,  # noqa: ANN401  # handed on
        sock: socket.socket | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """As in asyncio. After a failure, `sock` is either open or knows that it is closed."""
        identity = None if sock is None else _identity(sock.fileno())
        try:
            made: Any = await super().create_connection(protocol_factory, *args, sock=sock, **kwargs)
        except BaseException:
            if sock is not None and sock.fileno() >= 0 and _identity(sock.fileno()) != identity:
                sock.detach()
            raise
        transport, protocol = made
        return transport, protocol

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """As in asyncio, but for what uvloop tells as a mistake of ours where only a connection has ended."""
        if not (_nobody_waits(context) or _is_closed(context)):
            super().default_exception_handler(context)


def _nobody_waits(context: dict[str, Any]) -> bool:
    """A connection broke when whoever dialled had given up: it is put into a future that nobody has."""
    future = context.get("future")
    left = future is not None and not isinstance(future, asyncio.Task)
    return left and isinstance(context.get("exception"), ConnectionError)


def _is_closed(context: dict[str, Any]) -> bool:
    """TLS had something to answer on a connection that was closed in the same turn of the loop. Where libuv's
    handle went first, only uvloop's words tell: the transport does not know yet that it is closing."""
    transport, error = context.get("transport"), context.get("exception")
    if transport is None or not isinstance(error, RuntimeError | ConnectionError):
        return False
    return bool(transport.is_closing()) or str(error).endswith("; the handler is closed")


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, as `asyncio.run` does.

    What was imported will stay, so the collector need not look at it again; and it looks for cycles less
    often than by default, because a pass makes some fifty objects for each file, which reference counts
    free. Together a tenth of the processor time of a first copy.
    """
    gc.freeze()
    gc.set_threshold(*COLLECT)
    _keep_memory()
    return uvloop.run(work, loop_factory=Loop)


def _keep_memory() -> None:
    """Let malloc keep what is freed at its end, up to 64 MiB, as a large file needs it again at once.

    By default glibc gives it back to the kernel, which has to clear every page anew: 120 page faults for
    each MB received, a tenth of the processor time of a large copy. Another libc has its own ways.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_TRIM_THRESHOLD, 2**26)
    mallopt(_MMAP_THRESHOLD, 2**25)
