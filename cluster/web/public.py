"""The public tree: mirrored files, directory pages, and the list of mirrors above them."""

from __future__ import annotations

import asyncio
import os
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from cluster.errors import UnsafeName
from cluster.model import Held, Mirror, checked_name, checked_path, href, shown
from cluster.store import lists
from cluster.store.mirror import Reader
from cluster.web.context import Context
from cluster.web.directory import JSON_PAGE, PAGE, Asked, directory_facts, origin_link, printable
from cluster.web.files import send_file
from cluster.web.overview import index_facts
from cluster.web.pages import Pages, wants_json
from cluster.web.resolve import Found, resolve
from cluster.web.trace import own_list, own_trace

CHECKING = "The copy here is not what was recorded, and is being checked."


class PublicTree:
    """Answers every path that is not our own. Raises SidewaysError where a store cannot be read."""

    def __init__(self, context: Context, pages: Pages) -> None:
        self._context, self._pages = context, pages
        self._mirrors: dict[bytes, Mirror] = {}
        self.reload()

    def reload(self) -> None:
        """Take up the paths and aliases of the context's cluster."""
        self._mirrors = {
            path.strip("/").encode(): mirror
            for mirror in self._context.mirrors()
            if mirror.serve.http
            for path in (*mirror.aliases, mirror.path)
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"])
        try:
            names, slash = url_names(request.rel_url.raw_path)
        except UnsafeName:
            return self.refuse(request, 404)
        if names[:1] == [b"-"]:
            return self.refuse(request, 404)
        for length in range(len(names), -1, -1):
            base = b"/".join(names[:length])
            mirror = self._mirrors.get(base)
            if mirror is not None:
                return await self._mirrored(request, mirror, base, b"/".join(names[length:]), slash)
        return await self._index(request, b"/".join(names), slash)

    async def _index(self, request: web.Request, below: bytes, slash: bool) -> web.StreamResponse:
        facts = await index_facts(self._context, below)
        if below and not facts["mirrors"]:
            return self.refuse(request, 404)
        if not slash:
            return _redirect(request, below)
        return self._pages.answer(request, "index.html", facts)

    async def _mirrored(
        self, request: web.Request, mirror: Mirror, base: bytes, path: bytes, slash: bool
    ) -> web.StreamResponse:
        """Files are sent when the reader is free again: a slow client keeps nothing but its descriptor."""
        async with self._context.reading(mirror.name) as reader:
            found = await self._find(request, reader, mirror, base, path, slash)
        if isinstance(found, web.StreamResponse):
            return found
        descriptor, held = found
        return await send_file(request, descriptor, held, self._context.clock())

    async def _find(
        self, request: web.Request, reader: Reader, mirror: Mirror, base: bytes, path: bytes, slash: bool
    ) -> web.StreamResponse | tuple[int, Held]:
        if not slash and (listed := await own_list(self._context.site, mirror, path)):
            return listed
        found = await resolve(reader, path)
        if found is None:
            ours = await own_trace(self._context.site, mirror, path)
            ours = ours or await asyncio.to_thread(lists.opened, mirror, self._context.site, path)
            return ours or await self._absent(request, mirror, reader, path)
        if found.directory:
            if not slash:
                return _redirect(request, b"/".join(filter(None, (base, path))))
            return await self._directory(request, reader, Asked(mirror, base, path, found.path))
        if slash:
            return self.refuse(request, 404)
        opened = await reader.open_file(found.path)
        if opened is None:
            return self.refuse(request, 503, CHECKING)
        if opened[1].private:  # since it was resolved
            os.close(opened[0])
            return self.refuse(request, 404)
        return opened

    async def _directory(self, request: web.Request, reader: Reader, asked: Asked) -> web.StreamResponse:
        after = _query(request, "after")
        if after is not None:
            try:
                checked_name(after)
            except UnsafeName:
                return self.refuse(request, 400, "`after` is not the name of an entry.")
        asked = Asked(asked.mirror, asked.base, asked.shown_path, asked.path, after)
        limit = JSON_PAGE if wants_json(request) else PAGE
        facts = await directory_facts(self._context, reader, asked, limit)
        if not wants_json(request):
            facts["crumbs"] = _crumbs(asked)
        return self._pages.answer(request, "directory.html", facts)

    async def _absent(
        self, request: web.Request, mirror: Mirror, reader: Reader, path: bytes
    ) -> web.StreamResponse:
        """404; where the name was left out or its update failed, the page says so and links to the origin."""
        directory, _, name = path.rpartition(b"/")
        parent = await resolve(reader, directory)
        if parent is None or not parent.directory:
            return self.refuse(request, 404)
        _, origin = await reader.compared_at(parent.path)
        skipped, failures, _ = await reader.notes(parent.path)
        link = origin_link(mirror, origin, Found(parent.path + b"/" + name, None).path.lstrip(b"/"))
        for entry in skipped:
            if entry.name == name:
                why = f"The origin has it, but it is left out here: {printable(entry.reason)}"
                return self.refuse(request, 404, why, link=link)
        for failure in failures:
            if failure.name == name:
                why = f"The origin has it, but fetching it failed: {printable(failure.error)}"
                return self.refuse(request, 404, why, link=link)
        return self.refuse(request, 404)

    def refuse(
        self,
        request: web.Request,
        status: int,
        message: str = "",
        *,
        link: str | None = None,
        allow: str | None = None,
    ) -> web.Response:
        """An error as a page, or as JSON with `error`."""
        phrase = HTTPStatus(status).phrase
        facts: dict[str, Any] = {
            "status": status,
            "error": phrase,
            "message": printable(message) if message and message != phrase else "",
            "path": shown(unquote_to_bytes(request.rel_url.raw_path.encode("utf-8", "surrogateescape"))),
            "origin": link,
        }
        response = self._pages.answer(request, "error.html", facts, status)
        if allow is not None:
            response.headers["Allow"] = allow
        if status == 503:
            response.headers["Retry-After"] = "60"
        return response


def url_names(raw_path: str) -> tuple[list[bytes], bool]:
    """The names in the path of a URL, and whether it ended in a slash. Raises UnsafeName: an escaped slash,
    `..`, NUL or an empty name is never a way to anything (HAZARDS 123, 138)."""
    raw = raw_path.encode("utf-8", "surrogateescape")
    if raw in (b"", b"/"):
        return [], True
    slash = raw.endswith(b"/")
    parts = raw.removeprefix(b"/").removesuffix(b"/").split(b"/")
    names = [checked_name(unquote_to_bytes(part)) for part in parts]
    checked_path(b"/".join(names))
    return names, slash


def _query(request: web.Request, key: str) -> bytes | None:
    """A value of the query as the bytes that it stands for."""
    for part in request.rel_url.raw_query_string.split("&"):
        name, equals, value = part.partition("=")
        if name == key and equals:
            return unquote_to_bytes(value.encode("utf-8", "surrogateescape"))
    return None


def _redirect(request: web.Request, path: bytes) -> web.Response:
    """To the same path with a slash at its end: never to another host."""
    query = request.rel_url.raw_query_string
    location = f"/{href(path)}/" + (f"?{query}" if query else "")
    return web.Response(status=HTTPStatus.MOVED_PERMANENTLY, headers={"Location": location})


def _crumbs(asked: Asked) -> list[tuple[str, str]]:
    """`(label, href)` of every directory above this one, from the list of mirrors down."""
    names = asked.public.split(b"/") if asked.public else []
    return [(shown(name), "/" + href(b"/".join(names[: at + 1])) + "/") for at, name in enumerate(names)][:-1]
