"""Answering siblings: what this site's committed store holds, the whole blocks of what arrives by parts, and
nothing else.

Nothing here asks anybody: a question that came from a sibling is never passed on (HAZARDS 128). A file is
found by its name in the store, never by a path made from the request (123).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from cluster.errors import SidewaysError
from cluster.model import Cluster, Site
from cluster.peer import keys, tls, wire
from cluster.peer.answers import Answers
from cluster.peer.bodies import Bodies
from cluster.peer.claims import Claims
from cluster.peer.codec import WireError
from cluster.peer.lines import Lines
from cluster.peer.listener import Listener, bind, streams_for
from cluster.peer.listings import Listings
from cluster.peer.shared import DEADLINE, SITE, Shared, refusal
from cluster.wirelog import wire_log

if TYPE_CHECKING:
    from cluster.store.mirror import Reader

MAX_REQUEST_LINE = 40 * 1024  # the longest path, percent-encoded

_VERSION = re.compile(r"/v([0-9]{1,9})/")

log = logging.getLogger(__name__)


class PeerServer:
    """One site's peer port.

    `open_reader` opens the records of a mirror; readers are kept and closed here. `wake(site, mirror, path)`
    is called for a sibling's word that something changed, `seen(site)` when a sibling connects; `lines` talk
    to those that dial a line; `listings` are what origins told this site lately. `clock` is monotonic
    seconds, the one that the claims were made with.
    """

    def __init__(
        self,
        site: Site,
        cluster: Cluster,
        *,
        claims: Claims,
        open_reader: Callable[[str], Awaitable[Reader]],
        wake: Callable[[str, str, bytes], None],
        clock: Callable[[], float],
        seen: Callable[[str], None] = lambda site: None,
        lines: Lines | None = None,
        listings: Listings | None = None,
    ) -> None:
        self._shared, self._lines, self._seen = Shared(site, cluster, open_reader), lines, seen
        self._answers = Answers(self._shared, claims, listings or Listings(), lines, wake, clock)
        self._bodies = Bodies(self._shared, claims, clock)
        self._busy: set[object] = set()
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self._listens = ""  # the configured address that it has
        self.address: tuple[str, int] | None = None  # where it listens, once started

    @property
    def _site(self) -> Site:
        return self._shared.site

    # -- life

    async def start(self) -> None:
        """Open the port. Raises ConfigError for key and certificate (134), OSError for the address."""
        context = tls.accepting(keys.load(self._site, self._site.state), self._shared.siblings())
        assert self._site.peer is not None
        listening = bind(self._site.peer.listen)
        self._listens = self._site.peer.listen
        app = web.Application(middlewares=[self._guard])
        for path, answer in (
            ("hello", self._answers.hello),
            ("mirrors", self._answers.mirrors),
            ("directory", self._answers.directory),
            ("journal", self._answers.journal),
            ("file", self._bodies.file),
            ("line", self._answers.line),
            ("digests", self._answers.digests),
            ("listing", self._answers.listing),
            ("agreement", self._answers.agreement),
            ("parts", self._answers.parts),
            ("part", self._bodies.part),
            ("sums", self._bodies.sums),
            ("pieces", self._bodies.pieces),
        ):
            app.router.add_get(f"/v{wire.MAJOR}/{path}", answer, allow_head=False)
        app.router.add_post(f"/v{wire.MAJOR}/files", self._bodies.files)
        app.router.add_post(f"/v{wire.MAJOR}/wake", self._answers.woken)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=wire_log("cluster.peer.wire"),
            auto_decompress=False,  # nothing of this protocol is compressed by HTTP
            keepalive_timeout=DEADLINE,
            max_line_size=MAX_REQUEST_LINE,
            lingering_time=1.0,
            handler_cancellation=True,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        assert runner.server is not None
        self.address = listening.getsockname()[:2]
        self._runner = runner
        self._listener = Listener(listening, runner.server, self._idle, self._seen)
        self._listener.admit(context, tls.identities(self._shared.siblings()), self._streams())
        self._listener.start()
        if self._lines is not None:
            self._lines.answer = runner.server

    async def stop(self) -> None:
        if self._listener is not None:
            await self._listener.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._shared.close()
        self._bodies.close()

    async def reload(self, cluster: Cluster) -> None:
        """Another set of siblings or mirrors. Who is no longer a sibling is cut off at once (133).

        Another address is taken before the old one is given up; where it cannot be had, a line in the log
        says so and the old one stays. Raises ConfigError for key and certificate, and changes nothing then.
        """
        site = cluster.sites.get(self._site.name, self._site)
        own_files = keys.load(site, site.state)
        self._shared.cluster, self._shared.site = cluster, site
        context = tls.accepting(own_files, self._shared.siblings())
        if self._listener is not None:
            self._listener.admit(context, tls.identities(self._shared.siblings()), self._streams())
            await self._move(self._listener)
        await self._shared.close(keep=frozenset(cluster.mirrors))

    async def _move(self, listener: Listener) -> None:
        wanted = self._site.peer.listen if self._site.peer is not None else self._listens
        if wanted == self._listens:
            return
        try:
            listening = bind(wanted)
        except OSError as error:
            log.error(  # noqa: TRY400  # its line says all
                "%s: peer: cannot listen on %s: %s; it goes on at %s until it is reloaded or started again",
                self._site.name,
                wanted,
                os.strerror(error.errno) if error.errno else error,
                self._listens,
            )
            return
        await listener.move(listening)
        log.info("%s: peer: listens on %s, no more on %s", self._site.name, wanted, self._listens)
        self._listens, self.address = wanted, listening.getsockname()[:2]

    def _streams(self) -> int:
        return streams_for(len(self._shared.siblings()))

    def _idle(self, protocol: object) -> bool:
        return protocol not in self._busy

    # -- every request

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Who asks, is it our version, and one line for whatever goes wrong."""
        listener = self._listener
        site = listener.site(request.transport) if listener is not None else None
        if site is None:
            return refusal(403, "not a sibling of this site")
        request[SITE] = site
        major = _VERSION.match(request.raw_path)
        if major is not None and int(major[1]) != wire.MAJOR:
            return refusal(501, f"this site speaks version {wire.MAJOR} of the peer protocol, not {major[1]}")
        self._busy.add(request.protocol)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return refusal(error.status, error.reason)
        except (WireError, ValueError) as error:
            return refusal(400, str(error))
        except (SidewaysError, OSError) as error:
            log.warning("peer port: %s asked for %s: %s", site, request.path, error)
            return refusal(503, "this site cannot answer now")
        finally:
            self._busy.discard(request.protocol)

    def __repr__(self) -> str:
        return f"<PeerServer {self._site.name} {self.address} {self._listener!r} {len(self._busy)} busy>"
