"""An FTP server that does what others do, except where a test tells it otherwise. Raw asyncio, loopback.

`async with HostileFtp({b"a": b"bytes"}) as server:`; what `server.say[b"CWD"]` has answers every CWD: bytes,
or a coroutine function of `(session, argument)`. `b""` is the moment of the connection.
`server.data[b"LIST"]` replaces the bytes that a transfer sends, or is a coroutine function of
`(session, writer)` that returns the final reply.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

FEATURES = (b"EPSV", b"MDTM", b"SIZE", b"REST STREAM", b"UTF8")
OLD = 1_600_000_000  # s: when every file was changed

Say = bytes | Callable[["Session", bytes], Awaitable[None]]
Send = bytes | Callable[["Session", asyncio.StreamWriter], Awaitable[bytes]]


async def hang(session: Session, argument: bytes) -> None:
    """Never answer."""
    await asyncio.Event().wait()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class HostileFtp:
    def __init__(
        self,
        files: Mapping[bytes, bytes] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls`: on every connection, from the first byte."""
        self.files = dict(files or {})
        self.tls = tls
        self.times: dict[bytes, int] = {}  # s since 1970, where not OLD
        self.features = FEATURES
        self.say: dict[bytes, Say] = {}
        self.data: dict[bytes, Send] = {}
        self.commands: list[bytes] = []
        self.batches = 0  # how often commands came in, however many at once
        self.open = self.most = self.sessions = 0
        self.dots = True  # LIST -a shows the directory itself
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"{'ftps' if self.tls else 'ftp'}://127.0.0.1:{self.port}/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def asked(self, word: bytes) -> list[bytes]:
        """The arguments of every such command so far."""
        return [c.partition(b" ")[2] for c in self.commands if c.partition(b" ")[0] == word]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = Session(self, reader, writer)
        self.sessions += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await session.run()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            session.leave()
            writer.close()


class Session:
    def __init__(
        self, server: HostileFtp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.offset = 0
        self._listener: asyncio.Server | None = None
        self._arrived: asyncio.Future[asyncio.StreamWriter]
        self._directory = b"/"

    def reply(self, line: bytes) -> None:
        self.writer.write(line + b"\r\n")

    def leave(self) -> None:
        if self._listener is not None:
            self._listener.close()

    async def run(self) -> None:
        await self._answer(b"", b"", b"220 Hello.\r\n")
        rest = b""
        while came := await self.reader.read(65536):
            self.server.batches += 1
            *lines, rest = (rest + came).split(b"\r\n")
            for line in lines:
                self.server.commands.append(line)
                word, _, argument = line.partition(b" ")
                if word == b"QUIT":
                    return
                await self._answer(word, argument, None)
                await self.writer.drain()

    async def _answer(self, word: bytes, argument: bytes, otherwise: bytes | None) -> None:
        said = self.server.say.get(word, otherwise)
        if callable(said):
            await said(self, argument)
        elif said is not None:
            self.writer.write(said)
        else:
            await getattr(self, f"on_{word.decode().lower()}", self._unknown)(argument)

    async def _unknown(self, argument: bytes) -> None:
        self.reply(b"500 Unknown.")

    async def on_user(self, argument: bytes) -> None:
        self.reply(b"331 Password?")

    async def on_pass(self, argument: bytes) -> None:
        self.reply(b"230 Welcome.")

    async def on_type(self, argument: bytes) -> None:
        self.reply(b"200 Yes.")

    on_opts = on_type

    async def on_pwd(self, argument: bytes) -> None:
        self.reply(b'257 "/" it is')

    async def on_feat(self, argument: bytes) -> None:
        self.writer.write(
            b"211-Features:\r\n%b211 End\r\n" % b"".join(b" %b\r\n" % f for f in self.server.features)
        )

    async def on_cwd(self, argument: bytes) -> None:
        below = argument.strip(b"/") + b"/"
        if below != b"/" and not any(path.startswith(below) for path in self.server.files):
            self.reply(b"550 No such directory.")
            return
        self._directory = below.lstrip(b"/")
        self.reply(b"250 There.")

    async def on_epsv(self, argument: bytes) -> None:
        self.reply(b"229 Ready (|||%d|)" % await self.passive())

    async def on_pasv(self, argument: bytes) -> None:
        self.reply(b"227 Ready (127,0,0,1,%d,%d)" % divmod(await self.passive(), 256))

    async def passive(self) -> int:
        self.leave()
        arrived: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

        def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not arrived.done():
                arrived.set_result(writer)

        self._arrived = arrived
        self._listener = await asyncio.start_server(came, "127.0.0.1", 0, ssl=self.server.tls)
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def on_size(self, argument: bytes) -> None:
        body = self.server.files.get(argument.strip(b"/"))
        self.reply(b"550 No such file." if body is None else b"213 %d" % len(body))

    async def on_mdtm(self, argument: bytes) -> None:
        path = argument.strip(b"/")
        known = path in self.server.files
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(self.server.times.get(path, OLD))).encode()
        self.reply(b"213 " + stamp if known else b"550 No such file.")

    async def on_rest(self, argument: bytes) -> None:
        self.offset = int(argument)
        self.reply(b"350 From there.")

    async def on_retr(self, argument: bytes) -> None:
        body = self.server.files.get(argument.strip(b"/"))
        if body is None:
            self.reply(b"550 No such file.")
            return
        offset, self.offset = self.offset, 0
        await self.send(b"RETR", body[offset:])

    async def on_list(self, argument: bytes) -> None:
        await self.send(b"LIST", self.rows(dots=argument == b"-a" and self.server.dots))

    async def on_nlst(self, argument: bytes) -> None:
        await self.send(b"NLST", b"".join(name + b"\r\n" for name in self._names()))

    def _names(self) -> list[bytes]:
        inside = self._directory if self._directory != b"/" else b""
        below = [path[len(inside) :] for path in self.server.files if path.startswith(inside)]
        return sorted({path.split(b"/")[0] for path in below})

    def rows(self, *, dots: bool) -> bytes:
        inside = self._directory if self._directory != b"/" else b""
        rows = [b"drwxr-xr-x 2 ftp ftp 4096 Jan 02 2020 ." for _ in range(dots)]
        for name in self._names():
            body, seconds = self.server.files.get(inside + name), self.server.times.get(inside + name, OLD)
            form = "%b %d %H:%M" if abs(time.time() - seconds) < 15e6 else "%b %d  %Y"
            when = time.strftime(form, time.gmtime(seconds)).encode()
            kind = b"drwxr-xr-x" if body is None else b"-rw-r--r--"
            rows.append(b"%b 1 ftp ftp %d %b %b" % (kind, len(body or b""), when, name))
        return b"".join(row + b"\r\n" for row in rows)

    async def send(self, word: bytes, body: bytes) -> None:
        self.reply(b"150 Here it comes.")
        writer = await self._arrived
        sending = self.server.data.get(word, body)
        if callable(sending):
            final = await sending(self, writer)
        else:
            writer.write(sending)
            final = b"226 Done."
        writer.close()
        if final:
            self.reply(final)
