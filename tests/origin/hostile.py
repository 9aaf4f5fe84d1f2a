"""An HTTP server that says exactly what a test tells it to, right or wrong. Raw asyncio, loopback only.

`async with Hostile(answers) as server:` where `answers` maps a path to bytes that are sent as they are, to
a list of such (one per request, the last repeated), or to a coroutine function of `(request, writer)`.
After what does not end with its own framing the connection is closed.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import NamedTuple, Self


class Request(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    connection: int  # which one, counted from 1


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]
Answer = bytes | list[bytes] | Handler

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def ok(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """An answer with Content-Length, which may lie."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def unframed(body: bytes, *headers: str) -> bytes:
    """An answer that only the end of the connection ends."""
    return "\r\n".join(["HTTP/1.1 200 OK", "Connection: close", *headers]).encode() + b"\r\n\r\n" + body


def chunked(*pieces: bytes, end: bool = True, headers: tuple[str, ...] = ()) -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers]).encode()
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"\r\n\r\n" + body + (b"0\r\n\r\n" if end else b"")


def redirect(location: str, status: str = "302 Found") -> bytes:
    return ok(b"", f"Location: {location}", status=status)


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Hostile:
    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answers: dict[str, Answer] = dict(answers or {})
        self.requests: list[Request] = []
        self.connections = 0
        self.busy = 0  # requests being answered now
        self.busiest = 0
        self._host, self._tls = host, tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls, limit=2**20)
        self.port: int = self._server.sockets[0].getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"{'https' if self._tls else 'http'}://{host}:{self.port}/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def targets(self) -> list[str]:
        return [f"{r.method} {r.target}" for r in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request = self._parsed(head, number)
                self.requests.append(request)
                self.busy += 1
                self.busiest = max(self.busiest, self.busy)
                try:
                    stays = await self._answer(request, writer)
                finally:
                    self.busy -= 1
                if not stays:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    @staticmethod
    def _parsed(head: bytes, number: int) -> Request:
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        pairs = (line.split(": ", 1) for line in lines[1:] if ": " in line)
        return Request(method, target, {name.lower(): value for name, value in pairs}, number)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Send; whether the connection may carry another request."""
        path = request.target.partition("?")[0]
        answer = self.answers.get(f"{request.method} {path}", self.answers.get(path, NOT_FOUND))
        if callable(answer):
            await answer(request, writer)
            return False
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        head, gap, body = answer.partition(b"\r\n\r\n")
        writer.write(head + gap if request.method == "HEAD" else answer)
        await writer.drain()
        said = re.search(rb"Content-Length: (\d+)", head)
        if request.method == "HEAD":
            return said is not None
        if b"chunked" in head:
            return body.endswith(b"0\r\n\r\n")
        return said is not None and int(said[1]) <= len(body)
