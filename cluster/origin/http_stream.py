"""Large bodies over connections of our own, received where they are written from.

On its way through a general client every byte is copied three times in the process: a sixth of what a large
copy cost. Here the kernel puts them into buffers that go to the disk and to the hashes as they are. What is
asked and what is judged stays with `http_file`; only an answer with one Content-Length is taken.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, cast

from cluster.errors import Unreachable
from cluster.model import href
from cluster.origin.http_answer import MAX_HEADER, Answer, Odd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.origin.http_dial import Dialer
    from cluster.origin.http_session import HttpSession

LARGE = 8 * 2**20  # bytes that are worth a connection
BUFFER = 2**20  # bytes
ROOM = 2**15  # bytes that are left in a buffer when the next one is begun
AHEAD = 3 * 2**20  # bytes that arrive before anybody takes them, but for one buffer


class Streams:
    """Asks for large files. Who asks holds one of the session's places."""

    def __init__(self, session: HttpSession, dialer: Dialer) -> None:
        self._session, self._dialer = session, dialer

    async def ask(self, target: str, path: bytes, extra: Mapping[str, str] | None) -> Stream | None:
        """The answer to a GET for a `href` below the root, its body still to come. None where it has to be
        asked for in the ordinary way, as redirects have. Raises Unreachable: no answer in time."""
        stream = await self._dialer.open(Stream)
        way = self._dialer.way
        if stream is None or way is None:
            return None
        lines = "".join(f"{name}: {value}\r\n" for name, value in (extra or {}).items())
        request = b"%s%s%s%s\r\n" % (way.head, target.encode("ascii"), way.tail[:-2], lines.encode("ascii"))
        session = self._session
        session.traffic.requests += 1
        waiting = session.deadline.begin()
        try:
            await stream.header(request)
        except asyncio.CancelledError:
            stream.release()
            if session.deadline.expired(waiting):
                raise Unreachable(href(path), f"no answer in {session.deadline.within:g} s") from None
            raise
        except (Odd, OSError):
            stream.release()
            self._dialer.odd()
            return None
        finally:
            session.deadline.end(waiting)
        self._dialer.answered()
        return stream


class Stream(asyncio.BufferedProtocol):
    """One request and its answer: to `http_file` what aiohttp's response is, and its `content` too."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._answer = Answer()
        self._buffer, self._filled = bytearray(BUFFER), 0
        self._taken = 0  # bytes of `_buffer` that were given away
        self._ready: deque[memoryview] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._length = 0
        self._begun = self._paused = False
        self._error: Exception | None = None
        self.total_bytes = 0

    # -- what `http_file` asks of an answer, and of its content

    @property
    def content(self) -> Stream:
        return self

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def reason(self) -> str:
        return self._answer.reason

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    def release(self) -> None:
        self._transport.abort()

    def at_eof(self) -> bool:
        return self.total_bytes == self._length and not self._ready and self._taken == self._filled

    def read_nowait(self) -> bytes:
        """What is here: a view, which whoever takes bytes takes as well. Raises what ended the connection too
        early, when all of it was given away."""
        if self._ready:
            piece = self._ready.popleft()
        elif self._filled > self._taken:
            piece = memoryview(self._buffer)[self._taken : self._filled]
            self._taken = self._filled
        elif self._error is not None and self.total_bytes < self._length:
            raise self._error
        else:
            return b""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return cast("bytes", piece)

    def detach(self) -> tuple[list[memoryview], socket.socket] | None:
        """The rest of the body, for a thread: what of it is here, and the connection on which the rest comes,
        with a descriptor of its own. Nothing more arrives here. None where its bytes are not the body's."""
        if self._error is not None or self._transport.get_extra_info("ssl_object") is not None:
            return None
        if not self._paused:
            self._transport.pause_reading()
        connection = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
        here = [*self._ready, memoryview(self._buffer)[self._taken : self._filled]]
        self._ready.clear()
        self._taken, self._paused = self._filled, True
        return here, connection

    @property
    def left(self) -> int:
        """Bytes of the body that nobody has taken."""
        here = sum(map(len, self._ready)) + self._filled - self._taken
        return self._length - self.total_bytes + here

    async def readany(self) -> bytes:
        """Waits for it; `b""` at the end."""
        while not (piece := self.read_nowait()) and not self.at_eof():
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return piece

    async def header(self, request: bytes) -> None:
        """Ask, and wait for the header. Raises Odd, OSError."""
        self._transport.write(request)
        while not self._begun:
            if self._error is not None:
                raise self._error
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        if len(self._buffer) - self._filled < ROOM:
            if self._filled > self._taken:
                self._ready.append(memoryview(self._buffer)[self._taken : self._filled])
            self._buffer, self._filled, self._taken = bytearray(BUFFER), 0, 0
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._begun:
            self.total_bytes += nbytes
            if self.total_bytes > self._length:  # what nobody asked for is not looked at
                self._filled -= self.total_bytes - self._length
                self.total_bytes = self._length
        else:
            try:
                self._begin()
            except Odd as odd:
                self._error = odd
        if len(self._ready) * BUFFER >= AHEAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _begin(self) -> None:
        """Where the header is complete, what follows it is the body."""
        end = self._buffer.find(b"\r\n\r\n", 0, self._filled)
        if end < 0:
            if self._filled > MAX_HEADER:
                raise Odd("its header does not end")
            return
        self._answer.feed(bytes(self._buffer[: end + 4]))
        fits = self.status in (200, 206) or self.status >= 400
        if not fits or "Transfer-Encoding" in self.headers:
            raise Odd("not the plain answer")
        self._begun, self._length = True, int(self.headers["Content-Length"])
        self._taken = end + 4
        self.total_bytes = min(self._filled - self._taken, self._length)
        self._filled = self._taken + self.total_bytes

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._error = self._error or error or ConnectionError("the connection broke")
        if not self._begun and not isinstance(self._error, OSError):
            self._error = Odd("no answer")
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
