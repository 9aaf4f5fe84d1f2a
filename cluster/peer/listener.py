"""The door of the peer port: accepts connections, learns who they are, and keeps each sibling to its share.

Connections are accepted here rather than by the event loop's own server for three reasons: handshakes that
are not finished must not use up the room for siblings (HAZARDS 126), a changed set of certificates must hold
for the next connection at once, and a revoked sibling's connections must be found and cut (133).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable

from cluster.peer import tls

HANDSHAKES = 64  # unfinished at once; one more closes the oldest
HANDSHAKE = 10.0  # s
CONNECTIONS = 64  # of all siblings together
STREAMS = 8  # of one sibling, beside its line

log = logging.getLogger(__name__)


def streams_for(siblings: int) -> int:
    """Connections that one sibling may hold beside its line, so that all of them find room."""
    return max(1, min(STREAMS, CONNECTIONS // max(1, siblings) - 1))


def bind(address: str) -> socket.socket:
    """A listening socket for `HOST:PORT` or `[HOST]:PORT`. Raises OSError, ValueError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
    listening = socket.create_server((host, int(port)), family=family, backlog=128, dualstack_ipv6=both)
    listening.setblocking(False)
    return listening


class Listener:
    """`protocol` makes what talks on a connection once its certificate is one of ours.

    `idle` tells whether nothing is asked on a connection just now: of a sibling that opens too many, an idle
    one goes first, else the new one.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        idle: Callable[[asyncio.BaseProtocol], bool],
        seen: Callable[[str], None],
    ) -> None:
        self._socket, self._protocol, self._idle, self._seen = listening, protocol, idle, seen
        self._context: ssl.SSLContext | None = None
        self._known: dict[str, str] = {}
        self._streams = STREAMS
        self._shaking: deque[asyncio.Task[None]] = deque()
        self._open: dict[asyncio.Transport, tuple[str, asyncio.BaseProtocol]] = {}
        self._accepting: asyncio.Task[None] | None = None

    def admit(self, context: ssl.SSLContext, known: dict[str, str], streams: int) -> None:
        """From now on only these certificates (fingerprint -> site). Others' connections are cut at once."""
        self._context, self._known, self._streams = context, known, streams
        for transport, (fingerprint, _) in list(self._open.items()):
            if fingerprint not in known:
                transport.abort()

    def site(self, transport: asyncio.BaseTransport | None) -> str | None:
        """Which sibling is at the other end; None for a connection that is no longer welcome."""
        if transport is None:
            return None
        fingerprint = tls.seen(transport.get_extra_info("ssl_object"))
        return self._known.get(fingerprint) if fingerprint else None

    def start(self) -> None:
        self._accepting = asyncio.create_task(self._accept(), name="peer listener")

    async def move(self, listening: socket.socket) -> None:
        """Accept there from now on, and no more where it was; whoever is connected stays so."""
        before, accepting = self._socket, self._accepting
        self._socket = listening
        self.start()
        if accepting is not None:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
        before.close()

    async def stop(self) -> None:
        tasks = [task for task in (self._accepting, *self._shaking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()
        for transport in list(self._open):
            transport.abort()
        self._open.clear()

    async def _accept(self) -> None:
        loop, listening = asyncio.get_running_loop(), self._socket
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:  # no descriptors left, or the caller went away again
                log.warning("peer port: %s", error)
                await asyncio.sleep(0.2)
                continue
            if len(self._shaking) >= HANDSHAKES:
                self._shaking.popleft().cancel()
            task = asyncio.create_task(self._greet(connection))
            self._shaking.append(task)
            task.add_done_callback(self._greeted)

    def _greeted(self, task: asyncio.Task[None]) -> None:
        with contextlib.suppress(ValueError):
            self._shaking.remove(task)

    async def _greet(self, connection: socket.socket) -> None:
        """The handshake, and a place at the table."""
        loop = asyncio.get_running_loop()
        context = self._context
        assert context is not None
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport, protocol = await loop.connect_accepted_socket(
                self._protocol, connection, ssl=context, ssl_handshake_timeout=HANDSHAKE
            )
        except (OSError, asyncio.CancelledError) as error:  # ssl.SSLError and time-outs are OSErrors
            connection.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            log.info("peer port: a connection was refused: %s", error)
            return
        site = self.site(transport)
        if site is None or not self._room(site):
            transport.abort()
            return
        fingerprint = tls.seen(transport.get_extra_info("ssl_object")) or ""
        self._open[transport] = fingerprint, protocol
        self._seen(site)

    def _room(self, site: str) -> bool:
        """Whether this sibling may have one connection more; makes room by closing an idle one of its own."""
        for transport in [t for t in self._open if t.is_closing()]:
            del self._open[transport]
        own = [
            (transport, protocol)
            for transport, (fingerprint, protocol) in self._open.items()
            if self._known.get(fingerprint) == site
        ]
        if len(own) <= self._streams:  # one more, for the line
            return True
        for transport, protocol in own:
            if self._idle(protocol):
                transport.abort()
                del self._open[transport]
                return True
        return False

    def __repr__(self) -> str:
        return f"<Listener {len(self._open)} connections, {len(self._shaking)} handshakes>"
