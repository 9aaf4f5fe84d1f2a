"""The answers that bring bytes: of one file, of a part of one that arrives, of many small ones, of pieces.

A file is found by its name in the store, never by a path made from the request (HAZARDS 123).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from cluster.model import Claim, Held, Kind, join
from cluster.peer import bundlewire, ranges
from cluster.peer.arriving import count, part_here
from cluster.peer.claims import Claims
from cluster.peer.differing import Differing
from cluster.peer.query import Query
from cluster.peer.sending import Sender, delivered, open_file, write
from cluster.peer.shared import Shared, body_of, refusal
from cluster.plan import steal
from cluster.plan.source import as_listed
from cluster.store import blocks


class Bodies:
    """`clock` is monotonic seconds, the one that the claims were made with. Each method answers one path of
    the protocol; they raise what those of `cluster.peer.answers.Answers` raise."""

    def __init__(self, shared: Shared, claims: Claims, clock: Callable[[], float]) -> None:
        self._shared, self._claims, self._clock = shared, claims, clock
        self._sender, self._differing = Sender(), Differing()

    def close(self) -> None:
        self._sender.close()
        self._differing.close()

    async def file(self, request: web.Request) -> web.StreamResponse:
        query = Query(request)
        mirror, path = query.text("mirror"), query.path("path")
        reader = await self._shared.reader(request, mirror)
        opened = await open_file(reader, path)
        if opened is None:
            raise web.HTTPNotFound
        descriptor, held = opened
        uncopied = self._claims.uncopied(mirror)

        def sent(at: int) -> None:
            now = self._clock()
            uncopied.reads(now)
            if at == held.size and not first:
                uncopied.copied(path, now)

        with contextlib.ExitStack() as unsent:
            unsent.callback(os.close, descriptor)
            tag = f'"{held.sha256.hex()}"' if held.sha256 else '""'
            if request.headers.get("If-Match", tag) != tag:
                return refusal(412, "this site holds another version")
            text = request.headers.get("Range")
            wanted = ranges.parse(text, held.size)
            if wanted is None:
                return refusal(416, "no such range", {"Content-Range": f"bytes */{held.size}"})
            first, end = wanted
            response = web.StreamResponse(status=200 if text is None else 206, headers={"ETag": tag})
            if text is not None:
                response.headers["Content-Range"] = f"bytes {first}-{end - 1}/{held.size}"
            response.content_length = end - first
            await response.prepare(request)
            unsent.pop_all()
        await delivered(request, self._sender.file(response, request, descriptor, first, end, sent))
        return response

    async def part(self, request: web.Request) -> web.StreamResponse:
        query = Query(request)
        mirror, version = query.text("mirror"), query.version()
        first, end = query.integer("first", 0), query.integer("end", 0)
        self._shared.granted(request, mirror)
        ends = end % blocks.BLOCK == 0 or end == version.size
        if first % blocks.BLOCK or not ends or not first < end <= min(version.size, first + steal.RANGE):
            raise ValueError("not blocks of this file")
        reader = await self._shared.reader_or_none(request, mirror)
        growing, spread = self._claims.arriving.of(mirror, version), self._claims.arriving.spread(mirror)

        def sent(at: int) -> None:
            whole = at if at == version.size else at - at % blocks.BLOCK
            if growing is not None and whole > first:
                spread.copied(version.path, first, whole, self._clock())

        found = await part_here(growing, reader, version, first, end)
        if found is None:
            raise web.HTTPNotFound
        descriptor, hashes = found

        async def hashes_and_bytes() -> None:
            with contextlib.ExitStack() as unsent:
                unsent.callback(os.close, descriptor)
                await write(response, request, await hashes())
                unsent.pop_all()
            await self._sender.file(response, request, descriptor, first, end, sent)

        with contextlib.ExitStack() as unsent:
            unsent.callback(os.close, descriptor)
            response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            response.content_length = 32 * count(first, end) + end - first
            await response.prepare(request)
            unsent.pop_all()
        await delivered(request, hashes_and_bytes())
        return response

    async def files(self, request: web.Request) -> web.StreamResponse:
        asked = bundlewire.question_read(await body_of(request, bundlewire.MAX_QUESTION))
        self._shared.granted(request, asked.mirror)
        reader = await self._shared.reader_or_none(request, asked.mirror)
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
            paths = {place: join(directory, record.name) for place, directory, record in files}
            uncopied = self._claims.uncopied(asked.mirror)

            def sent(places: Sequence[int]) -> None:
                now = self._clock()
                for place in places:
                    uncopied.copied(paths[place], now)

            await delivered(request, self._sender.bundle(response, request, reader, files, sent))
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

    async def sums(self, request: web.Request) -> web.StreamResponse:
        reader = await self._shared.reader(request, Query(request).text("mirror"))
        return await self._differing.sums(request, reader)

    async def pieces(self, request: web.Request) -> web.StreamResponse:
        reader = await self._shared.reader(request, Query(request).text("mirror"))
        return await self._differing.pieces(request, reader)


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
