"""The answers to what siblings ask in a word: what is held here, what is fetched, what origins told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from cluster.model import Held, join, split
from cluster.peer import agreedwire, listingwire, partwire, wire
from cluster.peer.arriving import here
from cluster.peer.claims import Claims
from cluster.peer.differences import digests
from cluster.peer.lines import Lines
from cluster.peer.linewire import MAX_MESSAGE
from cluster.peer.listener import streams_for
from cluster.peer.listings import Listings
from cluster.peer.query import Query
from cluster.peer.shared import SITE, Shared, answer, body_of
from cluster.store.summary import summarise

if TYPE_CHECKING:
    from cluster.store.mirror import JournalRecord, Reader

MAX_BODY = 64 * 1024  # of a word that something changed


class Answers:
    """Arguments as for `cluster.peer.server.PeerServer`. Each method answers one path of the protocol; they
    raise WireError and ValueError for what was asked wrongly, HTTPException, SidewaysError and OSError."""

    def __init__(
        self,
        shared: Shared,
        claims: Claims,
        listings: Listings,
        lines: Lines | None,
        wake: Callable[[str, str, bytes], None],
        clock: Callable[[], float],
    ) -> None:
        self._shared, self._claims, self._listings, self._lines = shared, claims, listings, lines
        self._wake, self._clock = wake, clock

    async def hello(self, request: web.Request) -> web.Response:
        shared = self._shared
        told = wire.Hello(shared.site.name, shared.cluster.name, streams_for(len(shared.siblings())))
        return answer(wire.hello(told))

    async def mirrors(self, request: web.Request) -> web.Response:
        told = []
        for mirror in self._shared.cluster.mirrors_of(self._shared.site.name):
            if request[SITE] in mirror.sites:
                with contextlib.suppress(web.HTTPNotFound):
                    told.append(await _carried(mirror.name, await self._shared.reader(request, mirror.name)))
        return answer(wire.carried(told))

    async def directory(self, request: web.Request) -> web.Response:
        query = Query(request)
        mirror, directory = query.text("mirror"), query.path("directory")
        first, last, after = query.name("first"), query.name("last"), query.name("after")
        claims = [
            claim
            for claim in self._claims.within(mirror, directory, self._clock())
            if (first or b"") <= claim.name and (last is None or claim.name <= last)
        ]
        try:
            reader = await self._shared.reader(request, mirror)
        except web.HTTPNotFound:  # no records yet, but a first pass may be under way
            return answer(wire.page([], claims, known=False, more=False))
        sure, seen, more = await _entries(reader, directory, first, last, after)
        known = seen or after is not None or await reader.directory(directory) is not None
        return answer(wire.page(sure, [] if after is not None else claims, known=known, more=more))

    async def journal(self, request: web.Request) -> web.Response:
        query = Query(request)
        after, epoch = query.integer("after", 0), query.text("epoch")
        limit = max(1, min(query.integer("limit", wire.MAX_ENTRIES), wire.MAX_ENTRIES))
        reader = await self._shared.reader(request, query.text("mirror"))
        own, first, last = await reader.position()
        if (epoch and epoch != own) or after > last or after < first - 1:
            return answer(wire.journal([], own, last, lost=True, more=False))
        records: list[JournalRecord] = []
        async for record in reader.journal(after, limit + 1):
            records.append(record)
            if len(records) > limit:
                break
        more = len(records) > limit
        return answer(wire.journal(records[:limit], own, last, lost=False, more=more))

    async def digests(self, request: web.Request) -> web.Response:
        query = Query(request)
        reader = await self._shared.reader(request, query.text("mirror"))
        return answer(wire.digests(await digests(reader, query.path("directory"))))

    async def listing(self, request: web.Request) -> web.Response:
        query = Query(request)
        mirror, now = query.text("mirror"), self._clock()
        self._shared.granted(request, mirror)
        directory, origin = query.path("directory"), query.text("origin")
        kept = self._listings.fresh(mirror, directory, origin, query.integer("age", 0) / 1000, now)
        same = kept is not None and query.text("known") == kept.token.hex()
        walking = mirror in self._listings.walking()
        if kept is None or not (same or kept.packed):
            return answer(listingwire.told(walking=walking))
        rows = b"" if same else kept.packed
        return answer(listingwire.told(now - kept.asked, kept.token, rows, walking=walking))

    async def agreement(self, request: web.Request) -> web.Response:
        query = Query(request)
        mirror, now = query.text("mirror"), self._clock()
        reader = await self._shared.reader(request, mirror)
        # Asked in this order: a pass that ends meanwhile is not yet told of.
        through = self._listings.passed.told(mirror, query.text("origin"), now)
        known, after = query.digest("known"), query.name("after") or b""
        found = await reader.agreement(query.path("directory"), known, after)
        return answer(agreedwire.told(through, found))

    async def parts(self, request: web.Request) -> web.Response:
        query = Query(request)
        mirror, version = query.text("mirror"), query.version()
        self._shared.granted(request, mirror)
        reader = await self._shared.reader_or_none(request, mirror)
        parts = await here(self._claims.arriving.of(mirror, version), reader, version)
        directory, name = split(version.path)
        claims = [one for one in self._claims.within(mirror, directory, self._clock()) if one.name == name]
        return answer(partwire.told(replace(parts, claims=tuple(claims))))

    async def woken(self, request: web.Request) -> web.Response:
        message = wire.wake_read(await body_of(request, MAX_BODY))
        self._shared.granted(request, message.mirror)
        self._wake(request[SITE], message.mirror, message.path)
        return web.Response(status=204)

    async def line(self, request: web.Request) -> web.StreamResponse:
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
