"""The connections to one sibling: who it is, how long it may take, and whether it is worth asking.

A question is answered whole, a stream delivers bytes. Every wait is bounded, and when a sibling is declared
silent all of them end together, so that it costs a pass its patience once and not once a file (HAZARDS 129).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Literal

import aiohttp
from yarl import URL

from cluster.errors import PeerBroke, PeerError, PeerLacks, PeerSilent
from cluster.model import Site
from cluster.peer import tls, wire
from cluster.peer.breaker import Breaker
from cluster.peer.channel import ChannelConnector, Channels
from cluster.peer.codec import MAX_PAGE, WireError
from cluster.peer.linewire import MAX_MESSAGE
from cluster.peer.listener import STREAMS
from cluster.peer.pace import WINDOW, Pace

CONNECT = 3.0  # s, with the TLS handshake
FIRST_BYTE = 5.0  # s
KEEP = 8.0  # s an idle connection is kept: less than the server's 10
PROBE = 0.25  # s after which a sibling that is down is tried again, doubling
MAX_PROBE = 5.0
FOREIGN = 60.0  # s, where what answers is not what we expect
QUIET = 30.0  # s without an answer after which a sibling that is up is asked for a sign
RESOLVED = 300.0  # s for which an address that was looked up is used
MEASURED = 256 * 1024  # bytes of a body that tell how fast a link is
EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED (x509_vfy.h)
QUESTIONS = 2  # streams kept for questions, so that they do not queue behind bodies

if TYPE_CHECKING:
    from cluster.courier.said import Address, Place

log = logging.getLogger(__name__)


class _Gone(PeerSilent):
    """No connection can be made."""


class _Quiet(_Gone):
    """Nothing at all came for as long as somebody was willing to wait."""


class Link:
    """`own_files` is (key path, certificate path) of this site; `clock` is monotonic seconds."""

    def __init__(
        self, site: Site, own_files: tuple[str, str], cluster: str, clock: Callable[[], float]
    ) -> None:
        assert site.peer is not None
        self.name = site.name
        self.breaker = Breaker()
        self.trouble = ""  # what last went wrong
        self.refused = False  # its machine is there, and nobody answers on it
        self.patience = FIRST_BYTE
        self.window = WINDOW
        self.speed: float | None = None  # bytes/s of its bodies, the newest counting most; None: not measured
        self._base = site.peer.url.rstrip("/")
        self._context = tls.connecting(own_files, site)
        self._own_files, self._trusted = own_files, tuple(tls.pems(site))
        self._addresses: tuple[tuple[int, Address], ...] = ()
        self._resolved = -math.inf  # when these were looked up
        self._cluster, self.clock = cluster, clock
        self._session: aiohttp.ClientSession | None = None
        self._channels: Channels | None = None  # of the line that it dialled
        self._through = False  # it is asked through that line, since nobody answers at its address
        self._closing: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Timeout] = set()
        self._heard = 0  # pieces of anything that arrived
        self._heard_at = 0.0
        self._answered = False
        self.answering = asyncio.Event()  # set from one answer to `hello` until it is down
        self.looked = asyncio.Event()  # set once it was asked for a sign, whatever came of it
        self._poked = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None
        self._streams = STREAMS
        self._questions = asyncio.Semaphore(QUESTIONS)
        self._bodies = asyncio.Semaphore(STREAMS - QUESTIONS)

    # -- life

    @property
    def up(self) -> bool:
        return self._answered and self.breaker.closed(self.clock())

    def start(self) -> None:
        self._probing = asyncio.create_task(self._probe(), name=f"probe {self.name}")

    async def stop(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        self._answered = False
        self._expire()
        self._discard()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def nudge(self) -> None:
        """It has just connected to us: no need to wait for the next probe."""
        if not self._answered:
            self._poked.set()

    def carried(self, channels: Channels | None) -> None:
        """It has dialled a line, or the one that it had dialled has ended."""
        self._channels = channels
        if channels is not None:
            self.nudge()
        elif self._through:
            self._through = False
            self._gone(_Quiet(self.name, "its line has ended"))

    def doubt(self) -> None:
        """Its line broke: it is asked for a sign at once."""
        self._heard_at = -math.inf
        self._poked.set()

    async def _probe(self) -> None:
        """Ask for a sign of life: often while it is down, now and then while nothing else is asked."""
        delay = PROBE
        while True:
            rest = self.breaker.wait(self.clock())
            if rest:
                self.looked.set()
                await self._sleep(rest)
                continue
            try:
                if not self._answered or self.clock() - self._heard_at >= QUIET:
                    await self._look()
            except PeerError as error:
                if isinstance(error, PeerBroke) and error.message != self.trouble:
                    log.warning("%s", error)
                self.trouble = error.message
                self._gone(_Quiet(self.name, error.message))
                delay = FOREIGN if isinstance(error, PeerBroke) else min(2 * delay, MAX_PROBE)
                self.looked.set()
                await self._sleep(delay)
            else:
                delay = PROBE
                self.looked.set()
                await self._sleep(QUIET)

    async def _sleep(self, seconds: float) -> None:
        self._poked.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._poked.wait()

    async def _look(self) -> None:
        """Ask for a sign at its address; where nobody answers there, through the line that it dialled."""
        try:
            await self._hello()
        except PeerSilent:
            if self._channels is None or self._through:
                raise
            self._through = True
            self._discard()
            try:
                await self._hello()
            except PeerError:
                self._through = False
                self._discard()
                raise

    async def _hello(self) -> None:
        body = await self._asked("hello", CONNECT + self.patience, None)
        with self.broken():
            hello = wire.hello_read(body)
        if (hello.site, hello.cluster) != (self.name, self._cluster):
            raise PeerBroke(self.name, f"says it is {hello.site} of {hello.cluster}")
        streams = max(2, min(hello.streams, STREAMS))
        if streams != self._streams:
            self._streams = streams
            questions = min(QUESTIONS, streams - 1)
            self._questions = asyncio.Semaphore(questions)
            self._bodies = asyncio.Semaphore(streams - questions)
            self._discard()
        if not self._answered:
            log.info("%s: answers%s", self.name, " through the line that it dialled" * self._through)
        self._answered = True
        self.answering.set()

    def _down(self, reason: str) -> None:
        if self._answered:
            log.warning("%s; carrying on without it", reason)
        self._answered = False
        self.answering.clear()
        self._poked.set()

    # -- asking

    async def question(self, target: str, patience: float, *, body: bytes | None = None) -> bytes:
        """The whole answer, at most 1 MiB. Raises PeerError."""
        self.worth_asking()
        with self.judged("question"):
            answer = await self._asked(target, patience, body)
        self.breaker.succeeded("question")
        return answer

    async def _asked(self, target: str, patience: float, body: bytes | None) -> bytes:
        method = "GET" if body is None else "POST"
        async with (
            self._wait(patience),
            self._questions,
            self._opened().request(method, self._url(target), data=body, allow_redirects=False) as response,
        ):
            self.heard()
            await self._check(response)
            return await self._whole(response)

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        parts, size = [], 0
        async for part in response.content.iter_any():
            self.heard()
            parts.append(part)
            size += len(part)
            if size > MAX_PAGE:
                response.close()
                raise PeerBroke(self.name, f"an answer of more than {MAX_PAGE} bytes")
        return b"".join(parts)

    async def open(
        self, target: str, headers: dict[str, str], body: bytes | None = None, patience: float | None = None
    ) -> aiohttp.ClientResponse:
        """For Stream: the response once its header is here. The caller has a slot."""
        method = "GET" if body is None else "POST"
        async with self._wait(CONNECT + self.patience if patience is None else patience):
            response = await self._opened().request(
                method, self._url(target), data=body, headers=headers, allow_redirects=False
            )
            self.heard()
        try:
            await self._check(response)
        except BaseException:
            response.close()
            raise
        return response

    @property
    def lends(self) -> bool:
        """Whether a program beside ours can ask it: at its address, not through a line."""
        return not self._through

    async def place(self) -> Place:
        """Where it is, and who it is. Raises PeerSilent."""
        if self.clock() - self._resolved >= RESOLVED:
            url, loop = URL(self._base), asyncio.get_running_loop()
            async with self._wait(CONNECT):
                try:
                    found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
                except OSError as error:
                    raise _Gone(self.name, f"cannot look up {url.host}: {_cause(error)}") from None
            self._addresses = tuple((int(one[0]), one[4]) for one in found)
            self._resolved = self.clock()
        return self._addresses, *self._own_files, self._trusted

    def request(self, target: str, body: bytes) -> bytes:
        """A POST of this, as bytes on a connection of one's own."""
        url = self._url(target)
        head = (
            f"POST {url.raw_path} HTTP/1.1\r\nHost: {url.authority}\r\nAccept-Encoding: identity\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body

    @contextlib.asynccontextmanager
    async def elsewhere(self, seconds: float) -> AsyncIterator[None]:
        """While a program beside ours waits for this sibling, at most so long by its own reckoning, which is
        told by a TimeoutError. What goes wrong is raised as everywhere."""
        async with self._wait(seconds, counting=False):
            yield

    def unconnected(self, code: int, why: str) -> PeerError:
        """For a connection that could not be made."""
        self.refused = code == errno.ECONNREFUSED
        return _Gone(self.name, f"cannot connect to {self._base}: {why}")

    def foreign(self, code: int, why: str) -> PeerBroke:
        """For a certificate that was refused with OpenSSL's code and text."""
        return PeerBroke(self.name, _not_known(code, why))

    def refusal(self, status: int, text: bytes) -> PeerError:
        """For an answer that is not the thing."""
        words = "".join(c for c in text.decode("utf-8", "replace").strip() if c.isprintable())
        why = f"{status} {words}"
        if status in (403, 404, 412):
            return PeerLacks(self.name, why)
        if status in (429, 503):
            return PeerSilent(self.name, why)
        return PeerBroke(self.name, why)

    @contextlib.asynccontextmanager
    async def dialled(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse[Literal[False]]]:
        """A line to it, on a connection of its own (`cluster.peer.line`). Raises PeerLacks where it
        knows no lines, PeerError."""
        self.worth_asking()
        connector = aiohttp.TCPConnector(ssl=self._context, limit=1, force_close=True)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        ) as session:
            async with self._wait(CONNECT + self.patience):
                socket = await self._upgraded(session)
            self.heard()
            yield socket

    async def _upgraded(
        self, session: aiohttp.ClientSession
    ) -> aiohttp.ClientWebSocketResponse[Literal[False]]:
        try:
            return await session.ws_connect(
                self._url("line"),
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                max_msg_size=MAX_MESSAGE,
                decode_text=False,
            )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (403, 404, 501):
                raise PeerLacks(self.name, f"{error.status}: has no lines for us") from None
            raise PeerSilent(self.name, f"{error.status}: refuses a line") from None

    @property
    def slots(self) -> asyncio.Semaphore:
        return self._bodies

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise PeerError for an answer that is not the thing."""
        if response.status in (200, 204, 206):
            return
        async with self._wait(self.patience):
            text = await response.content.read(200)
        raise self.refusal(response.status, text.strip() or (response.reason or "").encode())

    def worth_asking(self) -> None:
        if not self.up:
            raise PeerSilent(self.name, self.trouble or "is not known to be up")

    # -- waiting

    def heard(self) -> None:
        self.refused = False
        self._heard += 1
        self._heard_at = self.clock()

    @contextlib.asynccontextmanager
    async def _wait(self, seconds: float, *, counting: bool = True) -> AsyncIterator[None]:
        """Whatever is awaited inside ends after `seconds`, if we are the one who is `counting` them, and when
        the sibling is declared silent."""
        heard = self._heard
        timeout = asyncio.timeout(seconds if counting else None)
        try:
            with self._translated():
                async with timeout:
                    self._waiting.add(timeout)
                    yield
        except TimeoutError:
            quiet = timeout in self._waiting and heard == self._heard
            why = f"no answer within {seconds:g} s"
            raise (_Quiet if quiet else PeerSilent)(self.name, why) from None
        finally:
            self._waiting.discard(timeout)

    async def next_part(self, response: aiohttp.ClientResponse, pace: Pace) -> bytes:
        """The next bytes of a body; empty at its end. Raises PeerSilent when they come too slowly."""
        began = self.clock()
        async with self._wait(pace.window):
            part = await response.content.readany()
        self.heard()
        if pace.slow(self.clock() - began, len(part)) and part:
            raise PeerSilent(self.name, f"slower than {pace.least // 1024} KiB/s")
        return part

    def measured(self, received: int, waited: float) -> None:
        """A body of so many bytes was waited for so long (s)."""
        if received >= MEASURED:
            speed = received / max(waited, 1e-6)
            self.speed = speed if self.speed is None else (self.speed + speed) / 2

    def _gone(self, error: _Gone) -> None:
        """It is down until a probe has been answered; where it fell silent, every wait ends with it."""
        self._down(str(error))
        if isinstance(error, _Quiet):
            self._expire()
            self._discard()

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        waiting, self._waiting = self._waiting, set()
        for timeout in waiting:
            with contextlib.suppress(RuntimeError):  # it is just ending
                timeout.reschedule(now)

    # -- errors

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """What goes wrong on a connection, as PeerError."""
        try:
            yield
        except aiohttp.ClientConnectorCertificateError as error:
            raise PeerBroke(self.name, _refused(error.certificate_error)) from None
        except TimeoutError as error:
            if isinstance(error, aiohttp.ClientError):
                raise _Gone(self.name, f"no connection within {CONNECT:g} s") from None
            raise
        except aiohttp.ClientConnectorError as error:
            self.refused = error.os_error.errno == errno.ECONNREFUSED
            why = f"cannot connect to {error.host}:{error.port}: {_cause(error.os_error)}"
            raise _Gone(self.name, why) from None
        except (aiohttp.ClientConnectionError, ssl.SSLError, OSError) as error:
            raise PeerSilent(self.name, str(error) or type(error).__name__) from None
        except RuntimeError as error:  # aiohttp, to whoever goes on reading where `_discard` has been
            raise PeerSilent(self.name, str(error)) from None
        except aiohttp.ClientPayloadError as error:
            raise PeerSilent(self.name, f"a body was cut off: {error}") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise PeerBroke(self.name, f"{type(error).__name__}: {error}") from None

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """What breaks the protocol, as PeerBroke."""
        try:
            yield
        except WireError as error:
            raise PeerBroke(self.name, str(error)) from None

    @contextlib.contextmanager
    def judged(self, sort: str) -> Iterator[None]:
        """What fails inside counts, once: of the requests that a dead connection takes along, the first."""
        try:
            yield
        except PeerLacks:
            raise
        except PeerError as error:
            if self._answered:
                self.trouble = error.message
                self.breaker.failed(sort, self.clock())
                if not self.breaker.closed(self.clock()):
                    self._down(str(error))
                if isinstance(error, _Gone):
                    self._gone(error)
                self.doubt()
            raise

    def broke(self, sort: str, message: str) -> PeerBroke:
        """The error for a broken promise, counted."""
        error = PeerBroke(self.name, message)
        with contextlib.suppress(PeerBroke), self.judged(sort):
            raise error
        return error

    def deceived(self, reason: str) -> None:
        log.error("%s: DECEIVED US: %s; it is not asked for an hour", self.name, reason)
        self.trouble = reason
        self.breaker.deceived(self.clock())
        self._down(f"{self.name}: {reason}")

    # -- connections

    def _url(self, target: str) -> URL:
        return URL(f"{self._base}/v{wire.MAJOR}/{target}", encoded=True)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
                read_bufsize=2**20,
            )
        return self._session

    def _connector(self) -> aiohttp.BaseConnector:
        if self._through and self._channels is not None:
            return ChannelConnector(self._channels, limit=self._streams, keepalive_timeout=KEEP)
        return aiohttp.TCPConnector(
            ssl=self._context, limit=self._streams, keepalive_timeout=KEEP, ttl_dns_cache=300
        )

    def _discard(self) -> None:
        """Drop every connection; the next request makes new ones."""
        session, self._session = self._session, None
        if session is not None:
            task = asyncio.get_running_loop().create_task(session.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def __repr__(self) -> str:
        return (
            f"<Link {self.name} {'up' if self.up else 'down'} {len(self._waiting)} waiting {self.breaker!r}>"
        )


def _refused(error: Exception) -> str:
    """Why a certificate was not accepted, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _not_known(error.verify_code, error.verify_message)
    return f"its certificate is not the one we know: {error}"


def _not_known(code: int, message: str) -> str:
    if code == EXPIRED:
        return "its certificate has ended; it has to make a new one: sideways keys --rotate"
    return f"its certificate is not the one we know: {message}"


def _cause(error: OSError) -> str:
    """`Connection refused`, where asyncio says [Errno 111] Connect call failed ('127.0.0.1', 8443)."""
    if isinstance(error, socket.gaierror) or not error.errno or error.errno < 0:
        return error.strerror or str(error)
    return os.strerror(error.errno)
