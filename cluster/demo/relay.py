"""A link as a process of its own: a TCP relay on loopback with a rate and a round trip.

    python -m cluster.demo.relay RATE DELAY PORT

RATE is bytes/s from the origin towards the sites, shared fairly by all connections; DELAY is s one way; PORT
is the origin's. On standard output it tells the port on which it listens, then, five times a second and only
when it has changed, how many bytes it has carried. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque

from cluster import eventloop

PIECE = 16 * 2**10  # bytes that one connection sends until it is another one's turn
WINDOW = 256 * 2**10  # bytes of one connection under way, as a TCP window bounds them
BURST = 0.05  # s by which a link may make up for a late wake-up of this process
TOLD_EVERY = 0.2  # s


class Link:
    """The bottleneck: pieces of all connections in turn, each as long as its bytes take at `rate`. Of one
    connection at most `window` bytes are under way, and `piece` go at a time."""

    def __init__(self, rate: float, delay: float, *, piece: int = PIECE, window: int = WINDOW) -> None:
        self.rate, self.delay = rate, delay
        self.piece, self.window = piece, window
        self.carried = 0  # bytes
        self._turns: deque[Flow] = deque()
        self._work = asyncio.Event()
        self._free = 0.0

    def queue(self, flow: Flow) -> None:
        """`flow` has bytes to send."""
        if not flow.queued:
            flow.queued = True
            self._turns.append(flow)
            self._work.set()

    async def run(self) -> None:
        """Carry until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            while not self._turns:
                self._work.clear()
                await self._work.wait()
            flow = self._turns.popleft()
            piece = flow.piece()
            self._free = max(self._free, now() - BURST) + len(piece) / self.rate
            if (wait := self._free - now()) > 0:
                await asyncio.sleep(wait)
            self.carried += len(piece)
            flow.sent(piece, now() + self.delay)
            flow.queued = bool(flow.waiting)
            if flow.queued:
                self._turns.append(flow)


class Flow:
    """What one connection has on the link, from the origin to the site. At most a window is under way, so
    that a site that does not read holds up itself and nobody else."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.waiting = bytearray()
        self.queued = False  # has its turn at the link
        self._link, self._reader, self._writer = link, reader, writer
        self._air: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._under_way = 0
        self._room = asyncio.Event()

    def piece(self) -> bytes:
        piece = bytes(self.waiting[: self._link.piece])
        del self.waiting[: self._link.piece]
        return piece

    def sent(self, piece: bytes, arrives: float) -> None:
        self._air.put_nowait((arrives, piece))

    async def run(self) -> None:
        """Carry until the origin has closed and everything has arrived. Raises OSError."""
        arriving = asyncio.ensure_future(self._arrive())
        try:
            while data := await self._reader.read(self._link.piece):
                self.waiting += data
                self._under_way += len(data)
                self._link.queue(self)
                while self._under_way >= self._link.window and not arriving.done():
                    self._room.clear()
                    await self._room.wait()
            while self._under_way and not arriving.done():
                self._room.clear()
                await self._room.wait()
        finally:
            self.waiting.clear()
            arriving.cancel()
            await asyncio.gather(arriving, return_exceptions=True)

    async def _arrive(self) -> None:
        try:
            while True:
                at, piece = await self._air.get()
                await _until(at)
                self._writer.write(piece)
                await self._writer.drain()
                self._under_way -= len(piece)
                self._room.set()
        finally:
            self._room.set()


async def _until(moment: float) -> None:
    if (wait := moment - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(wait)


async def _late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Requests: few bytes, so that they are only late."""
    air: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

    async def read() -> None:
        data = b"-"
        while data:
            data = await reader.read(PIECE)
            await air.put((asyncio.get_running_loop().time() + delay, data))

    reading = asyncio.ensure_future(read())
    reading.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        while True:
            at, data = await air.get()
            await _until(at)
            if not data:
                return
            writer.write(data)
            await writer.drain()
    finally:
        reading.cancel()


class Relay:
    """Connections from sites, each with one of its own to the origin at `port`."""

    def __init__(self, link: Link, port: int) -> None:
        self.link, self._port = link, port

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end, whichever side ends it."""
        origin: asyncio.StreamWriter | None = None
        with contextlib.suppress(OSError):
            await asyncio.sleep(2 * self.link.delay)  # what a TCP handshake takes
            answers, origin = await asyncio.open_connection("127.0.0.1", self._port)
            both = [
                asyncio.ensure_future(Flow(self.link, answers, writer).run()),
                asyncio.ensure_future(_late(reader, origin, self.link.delay)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for half in both:
                    half.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        writer.close()
        if origin is not None:
            origin.close()


async def serve(rate: float, delay: float, port: int) -> None:
    """Relay until standard input ends."""
    link = Link(rate, delay)
    relay = Relay(link, port)
    open_ones: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(relay.connected(reader, writer))
        open_ones.add(task)
        task.add_done_callback(open_ones.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, backlog=512)
    _tell(server.sockets[0].getsockname()[1])
    work = [asyncio.ensure_future(link.run()), asyncio.ensure_future(_report(link))]
    parent = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(parent), sys.stdin.buffer
    )
    try:
        await parent.read()
    finally:
        server.close()
        for task in (*work, *open_ones):
            task.cancel()
        await asyncio.gather(*work, *open_ones, return_exceptions=True)


async def _report(link: Link) -> None:
    told = 0
    while True:
        await asyncio.sleep(TOLD_EVERY)
        if link.carried != told:
            told = link.carried
            _tell(told)


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    eventloop.run(serve(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
