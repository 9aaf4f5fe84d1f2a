"""Sending one file that is open: all of it, a part, or only what is said of it."""

from __future__ import annotations

import asyncio
import logging
import os
from http import HTTPStatus

from aiohttp import web

from cluster.errors import StoreError
from cluster.model import SECOND, Held
from cluster.web.conditions import Answer, Version, answer, http_date
from cluster.web.mediatype import may_script, media_type

CHUNK = 512 * 1024  # bytes read at once on a thread; smaller ones cost more hops than bytes
PATIENCE = 120.0  # s in which a client must take one chunk, else it is let go

# What an origin wrote is shown, but neither runs scripts nor counts as ours (HAZARDS 143). Not for PDF:
# browsers refuse to show one in a sandbox.
SANDBOX = "sandbox allow-downloads allow-popups"

log = logging.getLogger(__name__)


async def send_file(request: web.Request, descriptor: int, held: Held, now: float) -> web.StreamResponse:
    """Answer GET or HEAD for the open file `descriptor`, which is closed here. Raises StoreError."""
    try:
        version = _version(held, now)
        due = answer(request.method, request.headers, version, now)
        headers = _headers(held, version, due)
        if request.method == "HEAD" or due.status in (304, 412, 416):
            return _without_body(due, headers)
        if due.end - due.start <= CHUNK:
            body = await asyncio.to_thread(_read, descriptor, due.end - due.start, due.start)
            return web.Response(status=due.status, headers=headers, body=body)
        return await _stream(request, descriptor, due, headers)
    finally:
        os.close(descriptor)


def _version(held: Held, now: float) -> Version:
    etag = f'"{held.sha256.hex()}"' if held.sha256 else None
    modified = None if held.mtime is None else min(held.mtime.ns // SECOND, int(now))
    return Version(held.size, etag, modified)


def _headers(held: Held, version: Version, due: Answer) -> dict[str, str]:
    headers = {"Accept-Ranges": "bytes"}
    if version.etag is not None:
        headers["ETag"] = version.etag
    if version.modified is not None and version.modified >= 0:
        headers["Last-Modified"] = http_date(version.modified)
    if due.status == 206:
        headers["Content-Range"] = f"bytes {due.start}-{due.end - 1}/{version.size}"
    if due.status == 416:
        headers["Content-Range"] = f"bytes */{version.size}"
    if due.status in (200, 206):
        headers["Content-Type"] = media_type(held.name)
        if may_script(headers["Content-Type"]):
            headers["Content-Security-Policy"] = SANDBOX
    return headers


def _without_body(due: Answer, headers: dict[str, str]) -> web.Response:
    if due.status in (412, 416):
        headers["Content-Type"] = "text/plain; charset=utf-8"
        return web.Response(status=due.status, headers=headers, body=HTTPStatus(due.status).phrase + "\n")
    if due.status == 200:
        headers["Content-Length"] = str(due.end)
    return web.Response(status=due.status, headers=headers)


def _read(descriptor: int, size: int, at: int) -> bytes:
    """Exactly these bytes. Raises StoreError where the file ends before its recorded size."""
    parts = []
    while size:
        part = os.pread(descriptor, size, at)
        if not part:
            raise StoreError(f"a file being sent ends at {at}, {at + size} expected: changed in place")
        parts.append(part)
        at, size = at + len(part), size - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _stream(
    request: web.Request, descriptor: int, due: Answer, headers: dict[str, str]
) -> web.StreamResponse:
    """Once the header is out, all that is left to say that something is wrong is to cut the connection."""
    response = web.StreamResponse(status=due.status, headers=headers)
    response.content_length = due.end - due.start
    await response.prepare(request)
    at = due.start
    try:
        while at < due.end:
            chunk = await asyncio.to_thread(_read, descriptor, min(CHUNK, due.end - at), at)
            async with asyncio.timeout(PATIENCE):
                await response.write(chunk)
            at += len(chunk)
        await response.write_eof()
    except (OSError, TimeoutError, StoreError) as error:  # also a client that went away: ConnectionResetError
        if not isinstance(error, ConnectionError):
            log.warning("%s: not sent to its end: %s", request.rel_url.raw_path, error)
        if request.transport is not None:
            request.transport.abort()
    return response
