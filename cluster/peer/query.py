"""The query of a request from a sibling, one parameter at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from aiohttp import web

from cluster.errors import UnsafeName
from cluster.model import checked_name, checked_path
from cluster.peer import fields
from cluster.peer.arriving import Version


class Query:
    """A request's query as bytes: names need not be UTF-8. Raises HTTPNotFound for names that cannot be."""

    def __init__(self, request: web.Request) -> None:
        self._fields: dict[bytes, list[bytes]] = {}
        text = request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape")
        for part in text.split(b"&"):
            key, _, value = part.partition(b"=")
            self._fields.setdefault(key, []).append(unquote_to_bytes(value) if b"%" in value else value)

    def _last(self, key: str) -> bytes | None:
        return self._fields.get(key.encode(), [None])[-1]

    def text(self, key: str) -> str:
        return (self._last(key) or b"").decode("utf-8", "replace")

    def integer(self, key: str, default: int) -> int:
        """Raises ValueError outside 0 to 2**63 - 1."""
        value = self._last(key)
        if value is None:
            return default
        if not value.isdigit() or len(value) > 19 or int(value) > fields.MAX_INT:
            raise ValueError(f"{key}: not a number from 0 to {fields.MAX_INT}")
        return int(value)

    def digest(self, key: str) -> bytes:
        """From hexadecimal digits; empty where there is none. Raises ValueError."""
        return bytes.fromhex(self.text(key))

    def path(self, key: str) -> bytes:
        with _absent():
            return checked_path(self._last(key) or b"")

    def name(self, key: str) -> bytes | None:
        value = self._last(key)
        with _absent():
            return checked_name(value) if value else None

    def version(self) -> Version:
        """A file as `path`, `size` and `etag` name it."""
        return Version(self.path("path"), self.integer("size", 0), self.text("etag"))


@contextlib.contextmanager
def _absent() -> Iterator[None]:
    """What cannot be a name does not exist (123)."""
    try:
        yield
    except UnsafeName:
        raise web.HTTPNotFound from None
