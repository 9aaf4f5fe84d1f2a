"""Small files over plain `http://`: a request in one write, the answer from one parser, nothing in between.

aiohttp does much for a request that a small file from a proven origin does not need, and most of a first copy
is small files: `docs/decisions/0010-small-files.md`. This asks only for such files, and takes only answers
with a Content-Length; what else comes is asked for again through aiohttp.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import httptools
from aiohttp import ClientPayloadError, ServerDisconnectedError
from multidict import CIMultiDict

from cluster.origin.http_redirect import REDIRECTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractResolver, ResolveResult
    from yarl import URL

    from cluster.origin.http_guard import Guard

MAX_HEADER = 2**16  # bytes; aiohttp takes 8190 of a line
ADDRESSES_HOLD = 300.0  # s, as in aiohttp's own cache
IDLE = 15.0  # s that a connection is kept for the next request, as in aiohttp


class NotPlain(Exception):
    """What came, or did not come, is aiohttp's affair: ask there. Where `never`, the origin's answers are of
    a kind that is not taken here at all.
    """

    def __init__(self, *, never: bool = False) -> None:
        super().__init__()
        self.never = never


class Exchange:
    """One request and its answer: what a reader needs of aiohttp's response, and its own `content`."""

    __slots__ = (
        "_connection",
        "_parts",
        "_waiting",
        "complete",
        "failure",
        "headers",
        "reason",
        "status",
        "total_bytes",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parts: list[bytes] = []
        self._waiting: asyncio.Future[None] | None = None
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.status = 0  # until the header is complete
        self.reason = ""
        self.total_bytes = 0
        self.complete = False
        self.failure: Exception | None = None

    @property
    def content(self) -> Exchange:
        return self

    def read_nowait(self) -> bytes:
        """What has arrived and was not read, perhaps nothing. Raises what broke the connection."""
        parts = self._parts
        if not parts:
            if self.failure is not None:
                raise self.failure
            return b""
        self._parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def at_eof(self) -> bool:
        return self.complete and not self._parts

    async def readany(self) -> bytes:
        """Wait for bytes; empty at the end of the body."""
        while not (self._parts or self.complete or self.failure):
            await self.news()
        return self.read_nowait()

    def release(self) -> None:
        """Done with it: the connection is kept for the next request where the answer is at its end."""
        self._connection.free(self)

    # -- fed by the connection

    async def news(self) -> None:
        """Until something happens."""
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def more(self, body: bytes) -> None:
        self._parts.append(body)
        self.total_bytes += len(body)

    def broke(self, failure: Exception) -> None:
        if not self.complete and self.failure is None:
            self.failure = failure
        self.wake()


class Connection(asyncio.Protocol):
    """One connection: one exchange at a time. The names of the `on_` methods are httptools'."""

    def __init__(self, pool: Plain) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._header_bytes = 0
        self._keep = False
        self._fresh = True  # nothing was answered on it yet
        self.freed = 0.0  # when it was last used, by the loop's clock

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Exchange:
        """The answer when its header is there. Raises NotPlain, and OSError or aiohttp's errors."""
        assert self._transport is not None
        exchange = self._exchange = Exchange(self)
        self._fields, self._reason, self._header_bytes = [], b"", 0
        self._transport.write(request)
        try:
            while not (exchange.status or exchange.failure):
                await exchange.news()
        except BaseException:
            self.abort()
            raise
        if exchange.failure is not None and not exchange.status:
            self.abort()
            raise exchange.failure
        self._fresh = False
        return exchange

    def free(self, exchange: Exchange) -> None:
        """The exchange is over for whoever asked."""
        if exchange is not self._exchange:
            return
        self._exchange = None
        if exchange.complete and self._keep and self.open:
            self._pool.back(self)
        else:
            self.abort()

    def abort(self) -> None:
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    # -- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nobody asked
            self.abort()
            return
        if not exchange.status:
            self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            exchange.broke(ClientPayloadError() if exchange.status else NotPlain())
            return
        if not exchange.status and self._header_bytes > MAX_HEADER:
            exchange.broke(NotPlain())
        exchange.wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._pool.gone(self)
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.status:
            exchange.broke(ClientPayloadError())  # what aiohttp raises
        else:
            exchange.broke(ServerDisconnectedError() if self._fresh else NotPlain())

    # -- from the parser

    def on_message_begin(self) -> None:
        if self._exchange is None or self._exchange.status:
            self._keep = False  # an answer that nobody asked for follows the one that was

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or exchange.status or exchange.failure is not None:
            return
        headers = CIMultiDict(
            [
                (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
                for name, value in self._fields
            ]
        )
        status = self._parser.get_status_code()
        if status < 200:
            exchange.broke(NotPlain())
            return
        if status in REDIRECTS or (status == 200 and "Content-Length" not in headers):
            exchange.broke(NotPlain(never=True))
            return
        self._keep = self._parser.should_keep_alive()  # the parser forgets it with the body
        exchange.headers, exchange.reason = headers, self._reason.decode("utf-8", "surrogateescape")
        exchange.status = status

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.status == 200 and not exchange.complete:
            exchange.more(body)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.status == 200:
            exchange.complete = True


class Plain:
    """The connections to the host of `base`, and the head that every request to it has.

    As many are opened as there are requests at once: who asks holds a place of the session.
    """

    def __init__(
        self,
        base: URL,
        headers: Mapping[str, str],
        *,
        resolver: AbstractResolver,
        guard: Guard,
        bind: str | None,
        patience: float,
    ) -> None:
        self._host, self._port = base.host or "", base.port or 80
        lines = [
            f"Host: {base.host_port_subcomponent}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._root = base.raw_path
        self._head = " HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"
        self._resolver, self._guard, self._bind, self._patience = resolver, guard, bind, patience
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._found: list[ResolveResult] = []
        self._found_at = 0.0
        self._sweeping: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Plain {self._host}:{self._port} {len(self._open)} connections>"

    def request(self, target: str) -> bytes:
        """GET of `target`, percent-encoded and below the root."""
        return f"GET {self._root}{target}{self._head}".encode("ascii")

    async def connection(self) -> Connection:
        """One that nobody uses. Raises NotPlain where none can be made: aiohttp says why."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        try:
            async with asyncio.timeout(self._patience):
                return await self._connected()
        except (OSError, ValueError):  # TimeoutError is an OSError
            self._found = []
            raise NotPlain from None

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        if not self._found or loop.time() - self._found_at > ADDRESSES_HOLD:
            self._found = await self._resolver.resolve(self._host, self._port, self._guard.family)
            self._found_at = loop.time()
        first = self._found[0]
        where = (first["host"], first["port"])
        made = self._guard.open_socket((first["family"], socket.SOCK_STREAM, first["proto"], "", where))
        try:
            made.setblocking(False)
            if self._bind is not None:
                made.bind((self._bind, 0))
            await loop.sock_connect(made, where)
            _, connection = await loop.create_connection(lambda: Connection(self), sock=made)
        except BaseException:
            made.close()
            raise
        self._open.add(connection)
        return connection

    def back(self, connection: Connection) -> None:
        """It can be used again."""
        loop = asyncio.get_running_loop()
        connection.freed = loop.time()
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(IDLE, self._sweep, loop)

    def gone(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in list(self._open):
            connection.abort()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeping = None
        for connection in [c for c in self._idle if loop.time() - c.freed >= IDLE]:
            self._idle.remove(connection)
            connection.abort()
        if self._idle:
            self._sweeping = loop.call_later(IDLE, self._sweep, loop)
