"""What lies between sites: one relay for each of them towards each other, which can be cut, silenced, slowed.

    with Network() as network:
        port = network.way(("kent", "oslo"), 8443)   # kent finds oslo at this port
        network.set(("kent", "oslo"), State.HOLE)

The relays run in a thread of their own, so that what a test does in its own loop delays nobody.
"""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Callable
from typing import Self, TypeVar, cast

import uvloop

Pair = tuple[str, str]  # who connects, to whom
T = TypeVar("T")

SLOW = 200_000  # bytes/s of each connection, either way
PATIENCE = 30.0  # s for what a thread does at once


class State(enum.Enum):
    OPEN = "open"
    CUT = "cut"  # what is open breaks; whoever connects is refused
    HOLE = "hole"  # everything is accepted, nothing arrives until the way is open again
    SLOW = "slow"


class _End(asyncio.Protocol):
    """One of two ends of a connection through a relay."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self.resting = False  # reads nothing: the other end is full, or the way slow
        self._held = bytearray()  # what came although nothing should be read, or nobody is there yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.way.ends.add(self)
        if self.other is None:
            self.way.accepted(self)
        else:
            self.other.settle()
        self.settle()

    def data_received(self, data: bytes) -> None:
        if not self._flows():
            self._held += data
            self.settle()
            return
        assert self.other is not None and self.other.transport is not None
        self.other.transport.write(data)
        if self.way.state is State.SLOW:
            self.resting = True
            self.settle()
            asyncio.get_running_loop().call_later(len(data) / SLOW, self.rested)

    def rested(self) -> None:
        self.resting = False
        self.settle()

    def settle(self) -> None:
        """Read, or do not."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if self._flows() and self._held:
            held, self._held = bytes(self._held), bytearray()
            self.data_received(held)
        if self._flows() and not self.resting:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _flows(self) -> bool:
        there = self.other is not None and self.other.transport is not None
        return there and self.way.state is not State.HOLE

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.resting = True
            self.other.settle()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.rested()

    def eof_received(self) -> bool:
        if (
            self.other is not None
            and self.other.transport is not None
            and self.other.transport.can_write_eof()
        ):
            self.other.transport.write_eof()
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        self.way.ends.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Way:
    """From one site to another: a listening port, and where it leads."""

    def __init__(self, port: int) -> None:
        self.target, self.port, self.state = port, 0, State.OPEN
        self.ends: set[_End] = set()
        self._waiting: list[_End] = []  # accepted in a hole: they are connected when it is open again
        self._dialling: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _End(self), "127.0.0.1", 0, backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def accepted(self, end: _End) -> None:
        if self.state is State.CUT:
            end.abort()
        elif self.state is State.HOLE:
            self._waiting.append(end)
        else:
            task = asyncio.ensure_future(self._dial(end))
            self._dialling.add(task)
            task.add_done_callback(self._dialling.discard)

    async def _dial(self, end: _End) -> None:
        far = _End(self)
        far.other = end
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, "127.0.0.1", self.target)
        except OSError:
            end.abort()
        else:
            end.other = far
            end.settle()
            if end.transport is None or end.transport.is_closing():
                far.abort()

    def set(self, state: State) -> None:
        self.state = state
        if state is State.CUT:
            for end in list(self.ends):
                end.abort()
        for end in list(self.ends):
            end.settle()
        if state is not State.HOLE:
            waiting, self._waiting = self._waiting, []
            for end in waiting:
                self.accepted(end)

    def close(self) -> None:
        self._server.close()
        for task in self._dialling:
            task.cancel()
        for end in list(self.ends):
            end.abort()


class Network:
    """Every way between sites. Use it as a context."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.ways: dict[Pair, Way] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def way(self, pair: Pair, port: int) -> int:
        """Where the first of a pair finds the second, which listens on `port`."""
        way = self.ways[pair] = Way(port)
        asyncio.run_coroutine_threadsafe(way.open(), self._loop).result(PATIENCE)
        return way.port

    def set(self, pair: Pair, state: State) -> None:
        self._done(lambda: self.ways[pair].set(state))

    def heal(self) -> None:
        for pair in self.ways:
            self.set(pair, State.OPEN)

    def troubled(self) -> dict[Pair, State]:
        return {pair: way.state for pair, way in self.ways.items() if way.state is not State.OPEN}

    def _done(self, act: Callable[[], T]) -> T:
        async def call() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(PATIENCE)

    def _close(self) -> None:
        for way in self.ways.values():
            way.close()
