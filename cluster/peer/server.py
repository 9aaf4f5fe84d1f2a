"""Answering siblings: what this site's committed store holds, the whole blocks of what arrives by parts, and
nothing else.

Nothing here asks anybody: a question that came from a sibling is never passed on (HAZARDS 128). A file is
found by its name in the store, never by a path made from the request (123).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from cluster.errors import SidewaysError
from cluster.model import Claim, Cluster, Held, Kind, Site, join, split
from cluster.peer import agreedwire, bundlewire, keys, listingwire, partwire, ranges, tls, wire
from cluster.peer.arriving import here, part_here
from cluster.peer.claims import Claims
from cluster.peer.codec import WireError
from cluster.peer.differences import digests
from cluster.peer.differing import Differing
from cluster.peer.lines import Lines
from cluster.peer.linewire import MAX_MESSAGE
from cluster.peer.listener import Listener, bind, streams_for
from cluster.peer.listings import Listings
from cluster.peer.query import Query
from cluster.peer.sending import Sender, delivered, open_file
from cluster.plan import steal
from cluster.plan.source import as_listed
from cluster.store import blocks
from cluster.store.summary import summarise
from cluster.wirelog import wire_log

if TYPE_CHECKING:
    from cluster.store.mirror import JournalRecord, Reader

MESSAGE = "application/vnd.msgpack"
MAX_REQUEST_LINE = 40 * 1024  # the longest path, percent-encoded
MAX_BODY = 64 * 1024  # of a word that something changed
DEADLINE = 10.0  # s for a request's header, its body, and between two requests

_VERSION = re.compile(r"/v([0-9]{1,9})/")

SITE = web.RequestKey("site", str)  # who asks

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
        self._listings = listings or Listings()
        self._site, self._cluster, self._lines = site, cluster, lines
        self._claims, self._open_reader, self._wake, self._clock = claims, open_reader, wake, clock
        self._seen = seen
        self._readers: dict[str, Reader] = {}
        self._opening = asyncio.Lock()
        self._busy: set[object] = set()
        self._sender, self._differing = Sender(), Differing()
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self._listens = ""  # the configured address that it has
        self.address: tuple[str, int] | None = None  # where it listens, once started

    # -- life

    async def start(self) -> None:
        """Open the port. Raises ConfigError for key and certificate (134), OSError for the address."""
        context = tls.accepting(keys.load(self._site, self._site.state), self._siblings())
        assert self._site.peer is not None
        listening = bind(self._site.peer.listen)
        self._listens = self._site.peer.listen
        app = web.Application(middlewares=[self._guard])
        for path, answer in (
            ("hello", self._hello),
            ("mirrors", self._mirrors),
            ("directory", self._directory),
            ("journal", self._journal),
            ("file", self._file),
            ("line", self._line),
            ("digests", self._digests),
            ("listing", self._listing),
            ("agreement", self._agreement),
            ("parts", self._parts),
            ("part", self._part),
            ("sums", self._sums),
            ("pieces", self._pieces),
        ):
            app.router.add_get(f"/v{wire.MAJOR}/{path}", answer, allow_head=False)
        app.router.add_post(f"/v{wire.MAJOR}/files", self._files)
        app.router.add_post(f"/v{wire.MAJOR}/wake", self._woken)
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
        self._listener.admit(context, tls.identities(self._siblings()), self._streams())
        self._listener.start()
        if self._lines is not None:
            self._lines.answer = runner.server

    async def stop(self) -> None:
        if self._listener is not None:
            await self._listener.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        for reader in self._readers.values():
            await reader.close()
        self._readers.clear()
        self._sender.close()
        self._differing.close()

    async def reload(self, cluster: Cluster) -> None:
        """Another set of siblings or mirrors. Who is no longer a sibling is cut off at once (133).

        Another address is taken before the old one is given up; where it cannot be had, a line in the log
        says so and the old one stays. Raises ConfigError for key and certificate, and changes nothing then.
        """
        site = cluster.sites.get(self._site.name, self._site)
        own_files = keys.load(site, site.state)
        self._cluster, self._site = cluster, site
        context = tls.accepting(own_files, self._siblings())
        if self._listener is not None:
            self._listener.admit(context, tls.identities(self._siblings()), self._streams())
            await self._move(self._listener)
        for mirror in [m for m in self._readers if m not in cluster.mirrors]:
            await self._readers.pop(mirror).close()

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

    def _siblings(self) -> list[Site]:
        return [s for s in self._cluster.sites.values() if s.name != self._site.name and s.peer]

    def _streams(self) -> int:
        return streams_for(len(self._siblings()))

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
            return _refusal(403, "not a sibling of this site")
        request[SITE] = site
        major = _VERSION.match(request.raw_path)
        if major is not None and int(major[1]) != wire.MAJOR:
            return _refusal(
                501, f"this site speaks version {wire.MAJOR} of the peer protocol, not {major[1]}"
            )
        self._busy.add(request.protocol)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _refusal(error.status, error.reason)
        except (WireError, ValueError) as error:
            return _refusal(400, str(error))
        except (SidewaysError, OSError) as error:
            log.warning("peer port: %s asked for %s: %s", site, request.path, error)
            return _refusal(503, "this site cannot answer now")
        finally:
            self._busy.discard(request.protocol)

    def _granted(self, request: web.Request, mirror: str) -> None:
        """Sites that carry a mirror share it, no others; names say nothing about what exists (117)."""
        known = self._cluster.mirrors.get(mirror)
        if known is None or request[SITE] not in known.sites or self._site.name not in known.sites:
            raise web.HTTPForbidden(reason="not shared between these sites")

    async def _reader(self, request: web.Request, mirror: str) -> Reader:
        """The mirror's records. Raises HTTPForbidden, and HTTPNotFound while there are none."""
        self._granted(request, mirror)
        async with self._opening:
            reader = self._readers.get(mirror)
            if reader is None:
                try:
                    reader = self._readers[mirror] = await self._open_reader(mirror)
                except (SidewaysError, FileNotFoundError):
                    raise web.HTTPNotFound from None
        return reader

    # -- questions

    async def _hello(self, request: web.Request) -> web.Response:
        return _answer(wire.hello(wire.Hello(self._site.name, self._cluster.name, self._streams())))

    async def _mirrors(self, request: web.Request) -> web.Response:
        told = []
        for mirror in self._cluster.mirrors_of(self._site.name):
            if request[SITE] in mirror.sites:
                with contextlib.suppress(web.HTTPNotFound):
                    told.append(await _carried(mirror.name, await self._reader(request, mirror.name)))
        return _answer(wire.carried(told))

    async def _directory(self, request: web.Request) -> web.Response:
        query = Query(request)
        mirror, directory = query.text("mirror"), query.path("directory")
        first, last, after = query.name("first"), query.name("last"), query.name("after")
        claims = [
            claim
            for claim in self._claims.within(mirror, directory, self._clock())
            if (first or b"") <= claim.name and (last is None or claim.name <= last)
        ]
        try:
            reader = await self._reader(request, mirror)
        except web.HTTPNotFound:  # no records yet, but a first pass may be under way
            return _answer(wire.page([], claims, known=False, more=False))
        sure, seen, more = await _entries(reader, directory, first, last, after)
        known = seen or after is not None or await reader.directory(directory) is not None
        return _answer(wire.page(sure, [] if after is not None else claims, known=known, more=more))

    async def _journal(self, request: web.Request) -> web.Response:
        query = Query(request)
        after, epoch = query.integer("after", 0), query.text("epoch")
        limit = max(1, min(query.integer("limit", wire.MAX_ENTRIES), wire.MAX_ENTRIES))
        reader = await self._reader(request, query.text("mirror"))
        own, first, last = await reader.position()
        if (epoch and epoch != own) or after > last or after < first - 1:
            return _answer(wire.journal([], own, last, lost=True, more=False))
        records: list[JournalRecord] = []
        async for record in reader.journal(after, limit + 1):
            records.append(record)
            if len(records) > limit:
                break
        more = len(records) > limit
        return _answer(wire.journal(records[:limit], own, last, lost=False, more=more))

    async def _digests(self, request: web.Request) -> web.Response:
        query = Query(request)
        reader = await self._reader(request, query.text("mirror"))
        return _answer(wire.digests(await digests(reader, query.path("directory"))))

    async def _listing(self, request: web.Request) -> web.Response:
        query = Query(request)
        mirror, now = query.text("mirror"), self._clock()
        self._granted(request, mirror)
        directory, origin = query.path("directory"), query.text("origin")
        kept = self._listings.fresh(mirror, directory, origin, query.integer("age", 0) / 1000, now)
        same = kept is not None and query.text("known") == kept.token.hex()
        walking = mirror in self._listings.walking()
        if kept is None or not (same or kept.packed):
            return _answer(listingwire.told(walking=walking))
        rows = b"" if same else kept.packed
        return _answer(listingwire.told(now - kept.asked, kept.token, rows, walking=walking))

    async def _agreement(self, request: web.Request) -> web.Response:
        query = Query(request)
        mirror, now = query.text("mirror"), self._clock()
        reader = await self._reader(request, mirror)
        # Asked in this order: a pass that ends meanwhile is not yet told of.
        through = self._listings.passed.told(mirror, query.text("origin"), now)
        known, after = query.digest("known"), query.name("after") or b""
        found = await reader.agreement(query.path("directory"), known, after)
        return _answer(agreedwire.told(through, found))

    async def _parts(self, request: web.Request) -> web.Response:
        query = Query(request)
        mirror, version = query.text("mirror"), query.version()
        self._granted(request, mirror)
        reader = await self._reader_or_none(request, mirror)
        parts = await here(self._claims.arriving.of(mirror, version), reader, version)
        directory, name = split(version.path)
        claims = [one for one in self._claims.within(mirror, directory, self._clock()) if one.name == name]
        return _answer(partwire.told(replace(parts, claims=tuple(claims))))

    async def _reader_or_none(self, request: web.Request, mirror: str) -> Reader | None:
        with contextlib.suppress(web.HTTPNotFound):
            return await self._reader(request, mirror)
        return None

    async def _woken(self, request: web.Request) -> web.Response:
        message = wire.wake_read(await _body(request, MAX_BODY))
        self._granted(request, message.mirror)
        self._wake(request[SITE], message.mirror, message.path)
        return web.Response(status=204)

    async def _line(self, request: web.Request) -> web.StreamResponse:
        lines, site = self._lines, request[SITE]
        if lines is None:
            raise web.HTTPNotFound
        if not lines.welcome(site):
            raise web.HTTPServiceUnavailable(reason="no line now")
        socket = web.WebSocketResponse(
            timeout=1.0, compress=False, max_msg_size=MAX_MESSAGE, decode_text=False
        )
        await socket.prepare(request)
        await lines.accept(site, socket)
        return socket

    # -- bytes

    async def _file(self, request: web.Request) -> web.StreamResponse:
        query = Query(request)
        reader = await self._reader(request, query.text("mirror"))
        opened = await open_file(reader, query.path("path"))
        if opened is None:
            raise web.HTTPNotFound
        descriptor, held = opened
        with contextlib.ExitStack() as unsent:
            unsent.callback(os.close, descriptor)
            tag = f'"{held.sha256.hex()}"' if held.sha256 else '""'
            if request.headers.get("If-Match", tag) != tag:
                return _refusal(412, "this site holds another version")
            text = request.headers.get("Range")
            wanted = ranges.parse(text, held.size)
            if wanted is None:
                return _refusal(416, "no such range", {"Content-Range": f"bytes */{held.size}"})
            first, end = wanted
            response = web.StreamResponse(status=200 if text is None else 206, headers={"ETag": tag})
            if text is not None:
                response.headers["Content-Range"] = f"bytes {first}-{end - 1}/{held.size}"
            response.content_length = end - first
            await response.prepare(request)
            unsent.pop_all()
        await delivered(request, self._sender.file(response, request, descriptor, first, end))
        return response

    async def _part(self, request: web.Request) -> web.StreamResponse:
        query = Query(request)
        mirror, version = query.text("mirror"), query.version()
        first, end = query.integer("first", 0), query.integer("end", 0)
        self._granted(request, mirror)
        ends = end % blocks.BLOCK == 0 or end == version.size
        if first % blocks.BLOCK or not ends or not first < end <= min(version.size, first + steal.RANGE):
            raise ValueError("not blocks of this file")
        reader = await self._reader_or_none(request, mirror)
        growing, spread = self._claims.arriving.of(mirror, version), self._claims.arriving.spread(mirror)

        def sent(at: int) -> None:
            whole = at if at == version.size else at - at % blocks.BLOCK
            if growing is not None and whole > first:
                spread.copied(version.path, first, whole, self._clock())

        found = await part_here(growing, reader, version, first, end)
        if found is None:
            raise web.HTTPNotFound
        descriptor, hashes = found
        with contextlib.ExitStack() as unsent:
            unsent.callback(os.close, descriptor)
            response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            response.content_length = len(hashes) + end - first
            await response.prepare(request)
            await response.write(hashes)
            unsent.pop_all()
        await delivered(request, self._sender.file(response, request, descriptor, first, end, sent))
        return response

    async def _files(self, request: web.Request) -> web.StreamResponse:
        asked = bundlewire.question_read(await _body(request, bundlewire.MAX_QUESTION))
        self._granted(request, asked.mirror)
        reader = await self._reader_or_none(request, asked.mirror)
        records: list[dict[bytes, Held]] = [{}] * len(asked.wanted)
        if reader is not None:
            records = await reader.named([(d, [row.name for row in rows]) for d, rows in asked.wanted])
        held, wanted = _as_wanted(asked, records)
        head, told = bundlewire.told(held, self._fetched(asked), columns=asked.columns)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        await response.write(head)
        if reader is None:
            await response.write(bundlewire.last(0))
        else:
            files = [one for one in wanted if one[0] in told]
            await delivered(request, self._sender.bundle(response, request, reader, files))
        return response

    def _fetched(self, asked: bundlewire.Question) -> dict[int, Claim]:
        """By place, what is being fetched here of what was asked for."""
        found: dict[int, Claim] = {}
        first, now = 0, self._clock()
        for directory, rows in asked.wanted:
            claims = {one.name: one for one in self._claims.within(asked.mirror, directory, now)}
            if claims:
                places = ((place, claims.get(row.name)) for place, row in enumerate(rows, first))
                found.update((place, claim) for place, claim in places if claim is not None)
            first += len(rows)
        return found

    async def _sums(self, request: web.Request) -> web.StreamResponse:
        reader = await self._reader(request, Query(request).text("mirror"))
        return await self._differing.sums(request, reader)

    async def _pieces(self, request: web.Request) -> web.StreamResponse:
        reader = await self._reader(request, Query(request).text("mirror"))
        return await self._differing.pieces(request, reader)

    def __repr__(self) -> str:
        return f"<PeerServer {self._site.name} {self.address} {self._listener!r} {len(self._busy)} busy>"


async def _entries(
    reader: Reader, directory: bytes, first: bytes | None, last: bytes | None, after: bytes | None
) -> tuple[list[Held], bool, bool]:
    """`(records, whether there is anything, whether there is more)` from `first` or above `after`, to `last`.

    Records that must be verified on disk first are not offered; a page is empty only where nothing follows.
    """
    held = await reader.page(directory, first if after is None else after, wire.MAX_ENTRIES)
    own = await reader.held(join(directory, first)) if first and after is None else None
    seen = bool(held) or own is not None
    records = [own] if own else []
    while True:
        records += held
        more = len(held) == wire.MAX_ENTRIES and (last is None or held[-1].name < last)
        sure = [r for r in records if not r.unknown and (last is None or r.name <= last)]
        if sure or not more:
            return sure, seen, more
        held = await reader.page(directory, held[-1].name, wire.MAX_ENTRIES)


async def _body(request: web.Request, limit: int) -> bytes:
    """Of a question. Raises HTTPRequestTimeout, HTTPRequestEntityTooLarge."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(DEADLINE):
            async for part in request.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise web.HTTPRequestEntityTooLarge(limit, size)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return b"".join(parts)


def _as_wanted(
    asked: bundlewire.Question, records: Sequence[Mapping[bytes, Held]]
) -> tuple[dict[int, Held], list[tuple[int, bytes, Held]]]:
    """Of the records that are known, those in the version that is asked for, by place; and of these the
    files that are to be sent, with their directory."""
    held: dict[int, Held] = {}
    wanted: list[tuple[int, bytes, Held]] = []
    place = -1
    for (directory, rows), known in zip(asked.wanted, records, strict=True):
        for row in rows:
            place += 1
            record = known.get(row.name)
            if record is None or not _is_wanted(row, record):
                continue
            held[place] = record
            if row.send:
                wanted.append((place, directory, record))
    return held, wanted


def _is_wanted(row: bundlewire.Row, held: Held) -> bool:
    """Records that must be verified on disk first are not offered."""
    if held.kind is not Kind.FILE or held.sha256 is None or held.unknown:
        return False
    return row.sha256 == held.sha256 if row.sha256 else as_listed(row.size, row.mtime, held)


async def _carried(mirror: str, reader: Reader) -> wire.Carried:
    epoch, _, position = await reader.position()
    told = await summarise(reader)
    return wire.Carried(
        mirror,
        await reader.digest(b""),
        epoch,
        position,
        told.files,
        told.bytes,
        told.fresh,
        told.ended,
        told.outcome,
        told.origin_bytes,
        told.sideways_bytes,
        told.errors,
        told.held,
        told.received,
        told.days,
    )


def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type=MESSAGE)


def _refusal(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{why}\n", headers=headers)
