"""One data connection: what a server sends after LIST, MLSD or RETR, and whether all of it came.

A transfer is complete only if the data connection ended cleanly and the server then said so (2xx); either
alone proves nothing (HAZARDS 34, 86). How many bytes there should have been, the caller knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Self

from cluster.errors import Unreachable
from cluster.model import href
from cluster.origin.ftp_control import Asked, Control, Lost
from cluster.origin.ftp_refusals import unwelcome
from cluster.origin.ftp_replies import UNKNOWN, Reply, passive_port
from cluster.origin.http_session import too_slow, worded

if TYPE_CHECKING:
    from cluster.origin.ftp_session import FtpSession

CHUNK = 256 * 2**10


class Ending(ssl.SSLObject):
    """Knows whether the other end has said that it ends (RFC 8446 section 6.1): asyncio shows a connection
    that somebody has cut like one that is over."""

    ended = False

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: ANN401  # as it is called
        data = super().read(len) if buffer is None else super().read(len, buffer)
        self.ended = self.ended or not data
        return data


class Resumed(ssl.SSLContext):
    """A context whose connections go on with the TLS session of a control connection, as vsftpd and ProFTPD
    demand of every data connection. asyncio has no argument for it."""

    session: ssl.SSLSession | None
    context: ssl.SSLContext

    def __new__(cls, context: ssl.SSLContext, session: ssl.SSLSession | None) -> Self:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        made.context, made.session = context, session
        return made

    def __init__(self, context: ssl.SSLContext, session: ssl.SSLSession | None) -> None:
        """Both are taken by `__new__`."""

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:  # noqa: ANN401  # whatever asyncio says
        named["session"] = self.session
        self.context.sslobject_class = Ending
        return self.context.wrap_bio(*arguments, **named)


async def passive(session: FtpSession, control: Control, path: bytes) -> int:
    """A port for the next data connection. Raises Lost, OriginError."""
    return await port_told(session, control, await control.say(way_in(session)), path)


def way_in(session: FtpSession) -> bytes:
    """The command that asks for a port. May be sent together with those before it: a turn less."""
    return b"EPSV" if session.manners.extended else b"PASV"


async def port_told(session: FtpSession, control: Control, reply: Reply, path: bytes) -> int:
    """The port in the reply to `way_in`; by PASV where the server does not know EPSV and IPv4 is spoken
    (RFC 2428). Raises Lost, OriginError."""
    if reply.code in UNKNOWN and len(control.peer) <= 2:
        session.manners.extended = False
        reply = await control.say(b"PASV")
    return port_of(reply, path)


def port_of(reply: Reply, path: bytes) -> int:
    """Raises Unreachable for a reply that names no port, or one that no data connection has."""
    if not reply.good:
        raise unwelcome(reply, path)
    port = passive_port(reply)
    if port is None:
        raise Unreachable(href(path), f"no port for a data connection: {reply}")
    return port


class Transfer:
    """One command with a data connection. `begin` it, take `piece` after piece, and `end` it."""

    def __init__(self, session: FtpSession, control: Control, path: bytes) -> None:
        self.received = 0
        self.refusal: Reply | None = None  # what the server said instead
        self._session, self._control, self._path = session, control, path
        self._loop = asyncio.get_running_loop()
        self._asked: Asked
        self._data: socket.socket | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waited, self._mark = 0.0, 0

    async def begin(self, command: bytes, port: int, *, small: bool = False) -> None:
        """Ask. `small`: it is one of many, and the way is known to be open. Raises Lost, OriginError; then
        nothing stays open."""
        try:
            await self._begin(command, port, small)
        except BaseException:
            self.close()
            raise

    async def _begin(self, command: bytes, port: int, small: bool) -> None:
        session, control = self._session, self._control
        try:
            self._data, where = session.data_socket(control, port)
            self._asked = control.ask(command)
            if small and not session.secured:
                # It is connected by the time that the server says anything: a turn of the event loop less.
                with contextlib.suppress(BlockingIOError):
                    self._data.connect(where)
            else:
                async with asyncio.timeout(session.patience.connect):
                    await self._loop.sock_connect(self._data, where)
        except (OSError, TimeoutError) as error:
            await self._explained()
            words = worded(error) if str(error) else f"none in {session.patience.connect:g} s"
            raise Lost(f"data connection: {words}") from None
        self._judged(await control.opened(self._asked))
        if session.secured:
            await self._secure()

    def _judged(self, reply: Reply) -> Reply:
        if reply.code >= 300:
            self.refusal = reply
            raise unwelcome(reply, self._path)
        return reply

    async def _explained(self) -> None:
        """No data connection came about. Where the server has refused the command, that is why."""
        asked = getattr(self, "_asked", None)
        if asked is not None and asked.final.done() and not asked.final.exception():
            self._judged(asked.final.result())

    async def _secure(self) -> None:
        session, inner = self._session, self._control.tls()
        context = Resumed(session.context(), inner.session if inner else None)
        try:
            async with asyncio.timeout(session.patience.connect):
                self._reader, self._writer = await asyncio.open_connection(
                    sock=self._data, ssl=context, server_hostname=session.host, limit=CHUNK
                )
        except (OSError, TimeoutError) as error:
            raise Lost(f"data connection: TLS: {worded(error)}") from None
        self._data = None  # it is the writer's now

    async def piece(self) -> bytes:
        """What has come, or `b""` at the end of the data connection. Raises Unreachable."""
        try:
            data = b""
            if self._data is not None:
                with contextlib.suppress(BlockingIOError):
                    data = self._data.recv(CHUNK)
                    self.received += len(data)
                    return data
            data = await self._wait()
        except OSError as error:
            raise Unreachable(href(self._path), f"{worded(error)}, after {self.received} bytes") from None
        self.received += len(data)
        if not data:
            self._over()
        if data and self._waited >= self._session.patience.low_window:
            came = self.received - self._mark
            too_slow(self._path, came, self._waited, self.received, self._session.patience)
            self._mark, self._waited = self.received, 0.0
        return data

    def _over(self) -> None:
        """The end of the data connection. Over TLS, one without its alert is not believed of a server
        that has been heard to give it: anybody on the way can cut a connection there. Raises Unreachable."""
        if self._writer is None:
            return
        if self._writer.get_extra_info("ssl_object").ended:
            self._session.manners.alerts = True
        elif self._session.manners.alerts:
            words = f"TLS was cut off, without an alert, after {self.received} bytes"
            raise Unreachable(href(self._path), words)

    async def _wait(self) -> bytes:
        deadline, before = self._session.deadline, time.monotonic()
        waiting = deadline.begin()
        try:
            if self._reader is not None:
                return await self._reader.read(CHUNK)
            assert self._data is not None, "a transfer was begun"
            return await self._loop.sock_recv(self._data, CHUNK)
        except asyncio.CancelledError:
            if deadline.expired(waiting):
                words = f"silent for {deadline.within:g} s after {self.received} bytes"
                raise Unreachable(href(self._path), words) from None
            raise
        finally:
            deadline.end(waiting)
            self._waited += time.monotonic() - before

    def socket(self) -> socket.socket | None:
        """Where the rest arrives, for a thread that takes it; None over TLS. Who has taken some says how much
        by `took`."""
        return self._data

    def took(self, count: int) -> None:
        self.received += count

    async def end(self) -> Reply:
        """The server's word that everything was sent; ProFTPD gives it when we have closed our end too.
        Raises Lost, and Unreachable where it says something else."""
        self.close()
        reply = await self._control.final(self._asked)
        if not reply.good:
            raise Unreachable(href(self._path), f"{reply}, after {self.received} bytes")
        return reply

    def close(self) -> None:
        """Whatever still comes is not wanted. If anything may, the control connection goes with it."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        if self._data is not None:
            self._data.close()
            self._data = None
