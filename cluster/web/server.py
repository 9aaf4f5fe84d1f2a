"""The built-in web server: one listening socket, and which path is answered by what.

Mirrored files and directories are reached by the public paths of the descriptors; everything of our own lies
under `/-/`. Nothing is changed by GET, and the Host header is never read (HAZARDS 144).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web

from cluster.errors import SidewaysError, StoreError, UsageError
from cluster.model import Cluster, Site
from cluster.store.mirror import Reader
from cluster.web import metrics
from cluster.web.context import Context
from cluster.web.overview import cluster_facts, own_summaries
from cluster.web.pages import Pages
from cluster.web.public import PublicTree
from cluster.web.view import SiteView
from cluster.web.wake import authorised
from cluster.wirelog import wire_log

MAX_BODY = 2**20  # of a webhook; forges send some ten kilobytes
HEADER_PATIENCE = 10  # s for a request's header, and between requests (HAZARDS section 5)
STOP_PATIENCE = 5.0  # s for answers under way when the server stops

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class WebServer:
    """One site's web server. `open_reader` opens a mirror's Reader, which is kept and closed here; it raises
    SidewaysError where there is nothing to read. `clock` tells seconds since 1970."""

    def __init__(
        self,
        site: Site,
        cluster: Cluster,
        *,
        open_reader: Callable[[str], Awaitable[Reader]],
        view: SiteView,
        clock: Callable[[], float],
    ) -> None:
        self._context = Context(site, cluster, view, clock, open_reader)
        self._pages = Pages()
        self._tree = PublicTree(self._context, self._pages)
        self._responses: Counter[int] = Counter()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on `site.web`. Raises UsageError for what is no address, StoreError where it is taken."""
        site = self._context.site
        host, colon, port = (site.web or "").rpartition(":")
        if not colon or not port.isdecimal():
            raise UsageError(f"{site.name}: web: {site.web!r} is not ADDRESS:PORT")
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY)
        app.on_response_prepare.append(self._prepare)
        app.router.add_route("*", "/-/wake/{mirror}", self._wake)
        app.router.add_get("/-/cluster", self._cluster)
        app.router.add_get("/-/health", self._health)
        app.router.add_get("/-/metrics", self._metrics)
        app.router.add_get("/-/style.css", self._style)
        app.router.add_route("*", r"/{path:[\s\S]*}", self._tree.answer)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=wire_log("cluster.web.wire"),
            auto_decompress=False,
            keepalive_timeout=HEADER_PATIENCE,
            shutdown_timeout=STOP_PATIENCE,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise StoreError(f"{site.name}: web: cannot listen on {site.web}: {reason}") from error
        self._runner = runner

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on; the port is the real one where 0 was asked for."""
        assert self._runner is not None, "started"
        host, port = self._runner.addresses[0][:2]
        return str(host), int(port)

    async def stop(self) -> None:
        """Let answers under way come to their end for a few seconds, then close everything."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        await self._context.close()

    async def reload(self, cluster: Cluster) -> None:
        """Serve the mirrors of `cluster` from now on; the readers of those that are gone are closed."""
        self._context.cluster = cluster
        self._tree.reload()
        await self._context.close(keep=frozenset(mirror.name for mirror in self._context.mirrors()))

    # -- every answer

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Whatever goes wrong ends as one plain page that says so."""
        try:
            return await handler(request)
        except web.HTTPException as refused:
            allow = refused.headers.get("Allow")
            return self._tree.refuse(request, refused.status, refused.reason, allow=allow)
        except ConnectionError:  # nobody is there any more to read this
            return self._tree.refuse(request, 400, "The body of this request never came.")
        except SidewaysError as error:
            log.warning("%s: %s", request.rel_url.raw_path, error)
            return self._tree.refuse(request, 503, str(error))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("%s %s", request.method, request.rel_url.raw_path)
            return self._tree.refuse(request, 500, "Something is broken here; the log says what.")

    async def _prepare(self, _request: web.Request, response: web.StreamResponse) -> None:
        self._responses[response.status] += 1
        response.headers["Server"] = "Sideways"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"

    # -- our own paths

    async def _cluster(self, request: web.Request) -> web.StreamResponse:
        return self._pages.answer(request, "cluster.html", await cluster_facts(self._context))

    async def _health(self, request: web.Request) -> web.StreamResponse:
        """200 while this process answers; with `?mirror=NAME`, 503 where that mirror cannot be read."""
        name = request.query.get("mirror")
        if name is not None:
            if name not in {mirror.name for mirror in self._context.mirrors()}:
                return web.Response(status=404, text=f"{name!r}: no such mirror here\n")
            try:
                async with self._context.reading(name) as reader:
                    await reader.totals()
            except SidewaysError as error:
                return web.Response(status=503, text=f"{error}\n")
        return web.Response(text="ok\n", headers={"Cache-Control": "no-store"})

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        view = self._context.view
        text = metrics.render(
            await own_summaries(self._context),
            view.running(),
            view.siblings(),
            len(view.config_errors()),
            self._responses,
            view.budgets(),
        )
        return web.Response(body=text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _style(self, _request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": "text/css; charset=utf-8", "Cache-Control": "public, max-age=31536000"}
        return web.Response(body=self._pages.style, headers=headers)

    async def _wake(self, request: web.Request) -> web.StreamResponse:
        """A push from an origin, or from whoever knows its secret: the mirror's next pass is due now."""
        if request.method != "POST":
            raise web.HTTPMethodNotAllowed(request.method, ["POST"])
        name = request.match_info["mirror"]
        mirror = next((mirror for mirror in self._context.mirrors() if mirror.name == name), None)
        if mirror is None or mirror.schedule.webhook is None:
            return web.json_response({"error": "no mirror of that name takes a webhook here"}, status=404)
        secret = await asyncio.to_thread(_secret, mirror.schedule.webhook)
        if not secret:
            log.warning("%s: webhook: %s holds no secret", name, mirror.schedule.webhook)
        if not authorised(secret, request.headers, await request.read()):
            headers = {"WWW-Authenticate": 'Bearer realm="wake"'}
            return web.json_response({"error": "the secret is not right"}, status=401, headers=headers)
        self._context.view.wake(name)
        return web.json_response({"mirror": name, "woken": True}, status=202)

    def __repr__(self) -> str:
        return f"<WebServer {self._context.site.name}: {self._responses.total()} answers>"


def _secret(path: str) -> bytes:
    """What the file holds, without the line's end; b"" where it cannot be read, which lets nobody in."""
    try:
        with open(path, "rb") as file:
            return file.read(4096).strip()
    except OSError:
        return b""
