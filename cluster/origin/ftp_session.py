"""Sessions with one FTP server: where it is, who we are there, and what it can do.

The rules for addresses, authorities, credentials and patience are those of HTTP origins.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from yarl import URL

from cluster.errors import OriginError, Refused, Unreachable
from cluster.model import href
from cluster.origin.base import PlainFtp
from cluster.origin.ftp_control import Control, Lost, sendable
from cluster.origin.ftp_refusals import unwelcome
from cluster.origin.ftp_replies import Reply, features, working_directory
from cluster.origin.http_deadline import Deadline
from cluster.origin.http_guard import ForbiddenAddress, Guard, GuardedResolver, SystemResolver
from cluster.origin.http_session import Patience, connecting, worded

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver, ResolveResult

    from cluster.model import Limits, OriginSpec
    from cluster.origin.base import Traffic

PORT, PORT_TLS = 21, 990  # 990 speaks TLS from its first byte
ANONYMOUS = ("anonymous", "sideways@")  # RFC 1635 asks for an address as password; servers only want the @


@dataclass(slots=True)
class Manners:
    """What is known of how a server wants to be asked. Learnt as it answers; the same for all sessions."""

    offers: frozenset[bytes] = frozenset()  # FEAT
    learnt: bool = False  # by somebody who has logged in
    told: bool = False  # it knows FEAT, so that what is not in `offers` is not there
    extended: bool = True  # EPSV
    facts: bool = True  # MLSD, where it is offered
    hidden: bool | None = None  # LIST -a shows the directory itself; None: not tried
    times: bool = True  # MDTM
    resumes: bool | None = None  # REST was seen to work, or not to
    alerts: bool = False  # over TLS it says when a data connection ends
    home: bytes = b""  # the login directory, without a slash at its end
    refused: set[bytes] = field(default_factory=set)  # commands that it does not know

    def has(self, command: bytes) -> bool:
        """Whether a command is worth a try."""
        return command not in self.refused and (command in self.offers or not self.told)


class FtpSession:
    """Opens control connections to one origin, logged in and set to binary.

    The path of the URL is relative to the login directory (RFC 1738 section 3.2.2); one that begins with
    `%2F` is absolute.
    """

    def __init__(
        self,
        spec: OriginSpec,
        limits: Limits,
        traffic: Traffic,
        *,
        resolver: AbstractResolver | None = None,
        patience: Patience | None = None,
    ) -> None:
        parts = urlsplit(spec.url)
        self.secured = parts.scheme == "ftps"
        self.host, self.port = parts.hostname or "", parts.port or PORT
        self.traffic, self.manners = traffic, Manners()
        self.patience = patience or Patience()
        self.deadline = Deadline(limits.timeout)
        self._path = unquote_to_bytes(parts.path.removeprefix("/")).rstrip(b"/")
        self._absolute = unquote_to_bytes(parts.path.removeprefix("/")).startswith(b"/")
        self._spec = spec
        where = URL.build(scheme="ftp", host=self.host, port=self.port)
        self._guard = Guard(spec, where)
        proxied = "an FTP origin is not asked through a proxy" if spec.proxy else None
        self._objection = proxied or self._guard.objection(where)
        self._resolver = GuardedResolver(resolver or SystemResolver(), self._guard, self.patience.connect)
        self._tls: ssl.SSLContext | None = None
        self._login: tuple[str, str] | None = None
        self._reached: tuple[int, str, int] | None = None  # where it let somebody in: family, host, port

    def __repr__(self) -> str:
        return f"<FtpSession {self.host}:{self.port} {self.traffic.requests} requests>"

    def absolute(self, path: bytes) -> bytes:
        """How the server is asked for a path of the mirror. Raises Refused where no command can hold it."""
        below = b"/".join(part for part in (self._path, path) if part)
        if self._absolute:
            whole = b"/" + below.lstrip(b"/")
        else:
            whole = self.manners.home + (b"/" + below if below else b"")
        if not sendable(whole):
            raise Refused(href(path), "a name with a line end in it cannot be asked for over FTP")
        return whole or b"/"

    async def open(self, path: bytes) -> Control:
        """A new connection, ready to be asked. `path` is what errors name. Raises OriginError, Lost."""
        if self._objection:
            raise Refused(href(path), self._objection)
        user, password = self._credentials(path)
        if self.secured:
            try:
                self.context()
            except OSError as error:
                words = f"{self._spec.ca}: not usable as CA file: {worded(error)}"
                raise Refused(href(path), words) from None
        control = await self._connected(path)
        try:
            await self._greeted(control, path)
            await self._logged_in(control, path, user, password)
            await self._settled(control, path)
        except BaseException:
            control.give_up(Lost("not opened"))
            raise
        return control

    def plain(self, connections: int) -> PlainFtp | None:
        """How small files are asked for by the courier, where the server has let us in."""
        if self._reached is None or not self.manners.learnt or self.secured:
            return None
        user, password = self._credentials(b"")
        return PlainFtp(
            addresses=(self._reached,),
            bind=self._spec.bind,
            user=user.encode(),
            password=password.encode(),
            folder=self.absolute(b"").rstrip(b"/") + b"/",
            utf8=b"UTF8" in self.manners.offers,
            extended=self.manners.extended,
            connections=connections,
            silence=self.deadline.within,
        )

    def close(self) -> None:
        self.deadline.close()

    # -- sockets

    def data_socket(self, control: Control, port: int) -> tuple[socket.socket, tuple[str | int, ...]]:
        """A socket that is about to be connected to a port of the very machine that `control` leads to, and
        its address (HAZARDS 84). Raises OSError."""
        peer = control.peer
        made = socket.socket(socket.AF_INET6 if len(peer) > 2 else socket.AF_INET, socket.SOCK_STREAM)
        return self._prepared(made), (peer[0], port, *peer[2:])

    def _prepared(self, made: socket.socket) -> socket.socket:
        try:
            made.setblocking(False)
            if self._spec.bind:
                made.bind((self._spec.bind, 0))
        except OSError:
            made.close()
            raise
        return made

    async def _connected(self, path: bytes) -> Control:
        """To the first of its addresses that can be connected to."""
        try:
            found = await self._resolver.resolve(self.host, self.port, self._guard.family)
        except ForbiddenAddress as error:
            raise Refused(href(path), worded(error)) from None
        except OSError as error:
            raise Unreachable(href(path), f"{self.host}: {worded(error)}") from None
        problem = "no address"
        for address in found:
            try:
                async with asyncio.timeout(self.patience.connect):
                    control = await self._dialled(address)
            except TimeoutError:
                problem = f"no connection in {self.patience.connect:g} s"
            except ssl.SSLCertVerificationError as error:
                raise Refused(href(path), f"{self.host}: {worded(error)}") from None
            except OSError as error:
                problem = worded(error) if isinstance(error, ssl.SSLError) else connecting(error)
            else:
                self._reached = (int(address["family"]), address["host"], address["port"])
                return control
        raise Unreachable(href(path), f"cannot connect to {self.host}:{self.port}: {problem}")

    async def _dialled(self, address: ResolveResult) -> Control:
        loop = asyncio.get_running_loop()
        where = (address["host"], address["port"])
        made = self._prepared(
            self._guard.open_socket(
                (socket.AddressFamily(address["family"]), socket.SOCK_STREAM, 0, "", where)
            )
        )
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(made, where)
            implicit = self.secured and self.port == PORT_TLS
            _, control = await loop.create_connection(
                lambda: Control(self.deadline, self.traffic),
                sock=made,
                ssl=self.context() if implicit else None,
                server_hostname=self.host if implicit else None,
            )
        except BaseException:
            with contextlib.suppress(OSError):
                made.close()
            raise
        return control

    def context(self) -> ssl.SSLContext:
        """The system's authorities, or `ca` alone. Raises OSError where that is not usable."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._spec.ca)
        return self._tls

    # -- the first words

    async def _greeted(self, control: Control, path: bytes) -> None:
        hello = await control.final(control.greeted)
        if hello.code != 220:
            raise unwelcome(hello, path)
        if not self.secured:
            return
        if self.port != PORT_TLS:
            ready = await control.say(b"AUTH TLS")
            if not ready.code == 234:
                raise Refused(href(path), f"no TLS: {ready}")
            try:
                await control.secure(self.context(), self.host, self.patience.connect)
            except (ssl.SSLCertVerificationError, ssl.CertificateError) as error:
                raise Refused(href(path), f"{self.host}: {worded(error)}") from None
            except TimeoutError:
                raise Lost(f"no TLS in {self.patience.connect:g} s") from None
            except OSError as error:
                raise Lost(f"TLS: {worded(error)}") from None
        size, protection = [await control.final(asked) for asked in control.ask_all([b"PBSZ 0", b"PROT P"])]
        if not (size.good and protection.good):
            raise Refused(href(path), f"no TLS for what is transferred: {protection}")

    async def _logged_in(self, control: Control, path: bytes, user: str, password: str) -> None:
        reply = await control.say(b"USER " + user.encode())
        if reply.code == 331:
            reply = await control.say(b"PASS " + password.encode())
        if reply.code not in (230, 232, 202):
            raise _not_let_in(reply, path)

    async def _settled(self, control: Control, path: bytes) -> None:
        """Binary, whatever else is said (HAZARDS 86); where we are, and what is offered, once."""
        manners = self.manners
        first = not manners.learnt
        commands = [b"TYPE I", *([b"PWD", b"FEAT"] if first else [])]
        binary, *others = [await control.final(asked) for asked in control.ask_all(commands)]
        if not binary.good:
            raise unwelcome(binary, path)
        if first:
            where, feat = others
            manners.home = working_directory(where) or b""
            manners.offers, manners.told, manners.learnt = features(feat), feat.code == 211, True
        if b"UTF8" in manners.offers:
            await control.say(
                b"OPTS UTF8 ON"
            )  # names as they are on its disk, where it would change them else

    def _credentials(self, path: bytes) -> tuple[str, str]:
        """Of the file, or anonymous. Raises Refused where it is unreadable, open to others or malformed."""
        if self._login is None:
            self._login = ANONYMOUS
            if self._spec.credentials is not None:
                self._login = _read(self._spec.credentials, path)
        return self._login


def _read(file: str, path: bytes) -> tuple[str, str]:
    try:
        with open(file, encoding="utf-8") as lines:
            if stat.S_IMODE(os.fstat(lines.fileno()).st_mode) & 0o077:
                raise Refused(href(path), f"{file}: open to others, must have mode 0600")
            words = [line.strip() for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(href(path), f"{file}: {worded(error)}") from None
    user, colon, password = (words or [""])[0].partition(":")
    if len(words) != 1 or not colon or not user or not sendable((user + password).encode()):
        raise Refused(href(path), f"{file}: not one line user:password")
    return user, password


def _not_let_in(reply: Reply, path: bytes) -> OriginError:
    """A 530 may mean that there are too many of us; its words tell."""
    crowded = reply.code == 530 and any(
        word in reply.last.lower() for word in (b"too many", b"maximum", b"limit")
    )
    if crowded:
        raise Lost(f"no further user: {reply}", dismissed=True)
    return unwelcome(reply, path)
