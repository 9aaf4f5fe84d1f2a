"""Ask one HTTP origin: connections, redirects, credentials, and what went wrong in our own words.

The wire stays as it is: no decompression, no cookies, no environment, URLs byte for byte as the origin
wrote them. Whatever aiohttp raises leaves here as an OriginError (`docs/decisions/0003-http-client.md`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import stat
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from yarl import URL

from cluster import __version__
from cluster.errors import Changed, OriginError, Refused, Unreachable, Vanished
from cluster.model import href, shown
from cluster.origin.base import Plain
from cluster.origin.http_deadline import Deadline
from cluster.origin.http_guard import Guard, GuardedResolver, SystemResolver
from cluster.origin.http_headers import retry_after
from cluster.origin.http_redirect import MAX_REDIRECTS, REDIRECTS, next_url

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    from cluster.model import Limits, OriginSpec
    from cluster.origin.base import Traffic
    from cluster.origin.http_stream import Stream

USER_AGENT = f"Sideways/{__version__}"
NAMES_HOLD = 300  # s for which the addresses of a name are not asked for again


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an origin is waited for, in seconds (HAZARDS section 5).

    `connect` bounds the name servers, and again TCP and TLS together. `low_rate` bytes/s over `low_window`
    s of waiting is too slow to go on; time in which the reader itself is busy does not count. The rest is
    `Limits.timeout`: the whole header of an answer, and then each silence in its body.
    """

    connect: float = 15.0
    low_rate: int = 1024
    low_window: float = 60.0


class Way(NamedTuple):
    """How to ask an origin over connections of one's own.

    `addresses` are (family, host, port), judged, in the order to be tried; `host` is whose certificate is
    expected where there is `tls`. A request is `head`, a path as `href` writes it, and `tail`.
    """

    addresses: tuple[tuple[int, str, int], ...]
    host: str
    tls: ssl.SSLContext | None
    head: bytes
    tail: bytes


class HttpSession:
    """The connections to one origin, opened with the first request.

    `base` is the URL of the mirror's root, with its slash and without credentials.
    """

    def __init__(
        self,
        spec: OriginSpec,
        limits: Limits,
        traffic: Traffic,
        *,
        user_agent: str | None = None,
        resolver: AbstractResolver | None = None,
        patience: Patience | None = None,
    ) -> None:
        url = URL(spec.url, encoded=True).with_user(None).with_query(None).with_fragment(None)
        self.base = url if url.raw_path.endswith("/") else url.with_path(url.raw_path + "/", encoded=True)
        self.prefix = str(self.base)
        self.traffic = traffic
        self.patience = patience or Patience()
        # A place is one connection. Waiting for one is not the origin's slowness, so no clock runs meanwhile.
        self.places = asyncio.Semaphore(limits.connections)
        self._spec, self._limits = spec, limits
        self._agent = user_agent or spec.user_agent or USER_AGENT
        self._guard = Guard(spec, self.base)
        self._resolver = resolver
        self._client: aiohttp.ClientSession | None = None
        self._guarded: GuardedResolver | None = None  # with the first request, as what follows
        self._fields = {"User-Agent": self._agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._home: dict[str, str] | None = None  # with credentials, for the origin alone
        self._proxy: URL | None = None
        self._asked = False
        self.answered = False  # by itself, without a redirect
        self._context: ssl.SSLContext | None = None  # for connections of our own
        self._resolved: tuple[float, list[ResolveResult]] = (0.0, [])  # for `plain`; s, monotonic
        self.has_head = True  # until an answer says otherwise
        self.deadline = Deadline(limits.timeout)

    def __repr__(self) -> str:
        return f"<HttpSession {self.prefix} {self.traffic.requests} requests>"

    async def close(self) -> None:
        self.deadline.close()
        if self._client is not None:
            await self._client.close()

    # -- asking --------------------------------------------------------------------------------

    async def ask(
        self,
        method: str,
        target: str,
        path: bytes,
        extra: dict[str, str] | None = None,
        *,
        listing: bool = False,
    ) -> aiohttp.ClientResponse:
        """The answer to `method` for the URL `target`, redirects followed; its body is still to come.

        The caller holds a place, judges the status (`refusal`) and releases the answer. `path` is what
        errors name. Raises OriginError.
        """
        self._asked = True
        client = self._client or self._opened(path)
        headers = self._home if extra is None else {**(self._home or {}), **extra}
        url = URL(target, encoded=True)
        answer = await self._once(client, method, url, path, headers)
        if answer.status not in REDIRECTS:
            self.answered = self.answered or answer.status == 200
            return answer
        for _ in range(MAX_REDIRECTS):
            answer.release()
            url = next_url(
                url,
                answer.headers.get("Location"),
                href(path),
                listing=listing,
                downgrade=self._spec.downgrade,
            )
            if objection := self._guard.objection(url):
                raise Refused(href(path), f"redirect: {objection}")
            home = url.origin() == self.base.origin()
            answer = await self._once(client, method, url, path, headers if home else extra)
            if answer.status not in REDIRECTS:
                return answer
        answer.release()
        raise Refused(href(path), f"redirect: more than {MAX_REDIRECTS}, the last to {url.host}")

    async def way(self) -> Way | None:
        """How to ask over connections of one's own: where no proxy is between, and an answer has shown that
        the origin can be asked as it is configured; or nothing was asked before."""
        if self._spec.proxy or (self._asked and not self.answered):
            return None
        self._asked = True
        host, port = self.base.raw_host or "", self.base.port or 80
        resolved, found = self._resolved
        if not found or time.monotonic() - resolved >= NAMES_HOLD:
            try:
                found = await self._prepared(b"").resolve(host, port, self._guard.family)
            except (OSError, OriginError):
                return None  # aiohttp says why
            self._resolved = time.monotonic(), found
        try:
            tls = self._own_tls()
        except OSError:
            return None  # the file of its authorities went away meanwhile
        fields = {"Host": self.base.host_port_subcomponent, **self._fields, **(self._home or {})}
        lines = "\r\n".join(f"{name}: {value}" for name, value in fields.items())
        return Way(
            tuple((int(one["family"]), one["host"], one["port"]) for one in found),
            host,
            tls,
            f"GET {self.base.raw_path}".encode(),
            f" HTTP/1.1\r\n{lines}\r\n\r\n".encode(),
        )

    async def plain(self, connections: int) -> Plain | None:
        """How small files are asked for by the courier, where the origin has answered. The caller holds as
        many places."""
        way = await self.way() if self.answered else None
        if way is None:
            return None
        return Plain(
            addresses=way.addresses,
            bind=self._spec.bind,
            head=way.head,
            tail=way.tail,
            connections=connections,
            connect=self.patience.connect,
            silence=self._limits.timeout,
            tls=None if way.tls is None else (way.host, self._spec.ca),
        )

    def socket_to(self, address: tuple[int, str, int]) -> socket.socket:
        """A socket that is about to be connected to one of the addresses of `way`. Raises OSError."""
        family, host, port = address
        made = self._guard.open_socket(
            (socket.AddressFamily(family), socket.SOCK_STREAM, 0, "", (host, port))
        )
        try:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._spec.bind:
                made.bind((self._spec.bind, 0))
        except OSError:
            made.close()
            raise
        return made

    def _own_tls(self) -> ssl.SSLContext | None:
        if self.base.scheme != "https":
            return None
        if self._context is None:
            self._context = ssl.create_default_context(cafile=self._spec.ca)
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context

    async def _once(
        self,
        client: aiohttp.ClientSession,
        method: str,
        url: URL,
        path: bytes,
        headers: dict[str, str] | None,
    ) -> aiohttp.ClientResponse:
        self.traffic.requests += 1
        waiting = self.deadline.begin()
        try:
            return await client.request(method, url, headers=headers, allow_redirects=False)
        except asyncio.CancelledError:
            if self.deadline.expired(waiting):
                raise Unreachable(href(path), f"no answer in {self.deadline.within:g} s") from None
            raise
        except Exception as error:  # noqa: BLE001  # sorted there
            raise told(path, error) from None
        finally:
            self.deadline.end(waiting)

    def refusal(self, answer: aiohttp.ClientResponse | Stream, path: bytes) -> OriginError:
        """The error that an answer with an unwelcome status means; the answer is released."""
        answer.release()
        return refused(answer.status, answer.reason or "", answer.headers, path)

    # -- opening -------------------------------------------------------------------------------

    def _prepared(self, path: bytes) -> GuardedResolver:
        """What every connection needs. Raises Refused where this site's own files are not usable, or the URL
        may not be asked."""
        if self._guarded is None:
            if objection := self._guard.objection(self.base):
                raise Refused(href(path), objection)
            proxy = URL(self._spec.proxy) if self._spec.proxy else None
            for who, user, password in self._credentials(path):
                if who == "origin":
                    token = b64encode(f"{user}:{password}".encode()).decode()
                    self._home = {"Authorization": f"Basic {token}"}
                elif proxy is not None:
                    proxy = proxy.with_user(user).with_password(password)
            self._proxy = proxy
            inner = self._resolver or SystemResolver()
            self._guarded = GuardedResolver(inner, self._guard, self.patience.connect)
        return self._guarded

    def _opened(self, path: bytes) -> aiohttp.ClientSession:
        """The general client. Raises Refused as `_prepared`."""
        from cluster.origin import http_client

        resolver = self._prepared(path)
        self._client = http_client.opened(
            self._spec,
            self._limits,
            self._guard,
            resolver,
            fields=self._fields,
            proxy=self._proxy,
            connect=self.patience.connect,
            names=NAMES_HOLD,
            tls=self._tls(path),
        )
        return self._client

    def _tls(self, path: bytes) -> ssl.SSLContext | bool:
        """Verified against the system's authorities, or against `ca` alone. Fails closed (HAZARDS 78)."""
        if self._context is not None:
            return self._context
        if self._spec.ca is None:
            return True  # aiohttp's: the system's authorities and host names checked, TLS 1.2 or newer
        try:
            return ssl.create_default_context(cafile=self._spec.ca)
        except OSError as error:
            raise Refused(href(path), f"{self._spec.ca}: not usable as CA file: {worded(error)}") from None

    def _credentials(self, path: bytes) -> list[tuple[str, str, str]]:
        """`(for whom, user, password)` of each line: `user:password`, or `proxy user:password`.

        Read with the first request, never shown. Raises Refused: unreadable, open to others, malformed.
        """
        file = self._spec.credentials
        if file is None:
            return []
        try:
            with open(file, encoding="utf-8") as lines:
                if stat.S_IMODE(os.fstat(lines.fileno()).st_mode) & 0o077:
                    raise Refused(href(path), f"{file}: open to others, must have mode 0600")
                words = [line.strip().split(" ") for line in lines if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(href(path), f"{file}: {worded(error)}") from None
        found = []
        for number, line in enumerate(words, 1):
            user, colon, password = line[-1].partition(":")
            if not colon or line[:-1] not in ([], ["proxy"]):
                raise Refused(href(path), f"{file}:{number}: neither user:password nor proxy user:password")
            found.append(("proxy" if line[:-1] else "origin", user, password))
        return found


def refused(status: int, reason: str, headers: Mapping[str, str], path: bytes) -> OriginError:
    """The error that an unwelcome status means."""
    name, said = href(path), f"{status} {worded(reason)}"
    if status in (404, 410):
        return Vanished(name, said)
    if status in (408, 425, 429) or status >= 500:
        return Unreachable(name, said, retry_after=retry_after(headers, time.time()))
    if 400 <= status < 500:
        return Refused(name, said)
    return Changed(name, f"{said}: not an answer to what was asked")


class Reader:
    """The body of one answer, piece by piece, with the low-speed rule. `received` counts its bytes."""

    __slots__ = ("_content", "_deadline", "_mark", "_path", "_patience", "_waited", "received")

    def __init__(self, session: HttpSession, answer: aiohttp.ClientResponse | Stream, path: bytes) -> None:
        self._content = answer.content
        self._deadline = session.deadline
        self._patience = session.patience
        self._path = path
        self._waited = 0.0
        self._mark = 0
        self.received = 0

    async def piece(self) -> bytes:
        """What has arrived, or `b""` at the end by the answer's own framing. Raises Unreachable."""
        content = self._content
        try:
            piece = content.read_nowait()
            if not piece and not content.at_eof():
                piece = await self._wait()
        except Exception as error:  # noqa: BLE001  # sorted there
            raise told(self._path, error, self.received) from None
        self.received += len(piece)
        if self._waited >= self._patience.low_window and piece:
            self._judge()
        return piece

    async def _wait(self) -> bytes:
        before = time.monotonic()
        waiting = self._deadline.begin()
        try:
            return await self._content.readany()
        except asyncio.CancelledError:
            if self._deadline.expired(waiting):
                silent = f"silent for {self._deadline.within:g} s after {self.received} bytes"
                raise Unreachable(href(self._path), silent) from None
            raise
        finally:
            self._deadline.end(waiting)
            self._waited += time.monotonic() - before

    def _judge(self) -> None:
        came = self.received - self._mark
        too_slow(self._path, came, self._waited, self.received, self._patience)
        self._mark, self._waited = self.received, 0.0

    @property
    def arrived(self) -> int:
        """Every byte of the body that came in, also those that nobody read."""
        return max(self._content.total_bytes, self.received)


def too_slow(path: bytes, came: int, waited: float, received: int, patience: Patience) -> None:
    """Too slow is as good as gone (HAZARDS 69): raises Unreachable where `came` bytes in `waited` s are."""
    rate = came / waited
    if rate < patience.low_rate:
        raise Unreachable(href(path), f"{rate:.0f} bytes/s for {waited:.0f} s, after {received} bytes")


def told(path: bytes, error: Exception, received: int | None = None) -> Exception:
    """What the general client or the system raised, as an OriginError; a mistake of ours stays what it is."""
    from cluster.origin.http_client import FAILURES, classified

    return classified(path, error, received) if isinstance(error, FAILURES) else error


def worded(error: object) -> str:
    """One short line of an error's own words."""
    text = getattr(error, "strerror", None) or getattr(error, "verify_message", None) or str(error)
    text = text.strip().partition("\n")[0]
    return shown(text[:160].encode("utf-8", "replace")) or type(error).__name__


def connecting(cause: object) -> str:
    """Why there is no connection. asyncio worded it otherwise for each address that it tried."""
    number = getattr(cause, "errno", None)
    if number == errno.ECONNREFUSED:
        return "refused"
    return os.strerror(number) if number else worded(cause)
