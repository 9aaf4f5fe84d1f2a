"""Fetch the page that lists one directory of an HTTP origin.

Only a whole page counts: one whose connection broke is an IncompleteListing, and whether a page that
only the end of its connection ended is whole, `cluster.listing` judges by its last words (HAZARDS 29, 30).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from cluster.errors import IncompleteListing, NotAListing, TooLarge, Unreachable
from cluster.model import href
from cluster.origin.http_headers import coding
from cluster.origin.http_session import HttpSession, Reader

if TYPE_CHECKING:
    from aiohttp import ClientResponse

MAX_LISTING = 64 * 2**20  # bytes of page: 250 000 rows of 250 bytes (HAZARDS section 5)
MAX_PACKED = 8 * 2**20  # bytes on the wire where the server packs it unasked

_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 47}  # zlib's: with gzip header; with either header


class Page(NamedTuple):
    """A directory's page: its bytes unpacked, the URL that answered, and what it says it is."""

    body: bytes
    url: str
    content_type: str
    wire: int  # bytes received


async def page(session: HttpSession, directory: bytes) -> Page:
    """The page of `directory`, complete by the answer's own framing. The caller holds a place.

    Raises OriginError; TooLarge beyond 64 MiB, or 8 MiB of packed bytes.
    """
    target = session.prefix + (href(directory) + "/" if directory else "")
    answer = await session.ask("GET", target, directory, listing=True)
    if answer.status != 200:
        error = session.refusal(answer, directory)
        if answer.status < 400:
            raise NotAListing(error.path, error.message)
        raise error
    try:
        wire = await _received(session, answer, directory)
    finally:
        answer.release()
    used = coding(answer.headers)
    body = wire if used is None else unpacked(wire, used, directory)
    return Page(body, str(answer.url), answer.headers.get("Content-Type", ""), len(wire))


async def _received(session: HttpSession, answer: ClientResponse, directory: bytes) -> bytes:
    most = MAX_LISTING if coding(answer.headers) is None else MAX_PACKED
    reader = Reader(session, answer, directory)
    pieces: list[bytes] = []
    try:
        while piece := await reader.piece():
            if reader.received > most:
                raise TooLarge(href(directory), f"a listing of more than {most} bytes")
            pieces.append(piece)
    except Unreachable as error:
        raise IncompleteListing(error.path, error.message) from None
    finally:
        session.traffic.listings += reader.arrived
    return b"".join(pieces)


def unpacked(wire: bytes, used: str, directory: bytes) -> bytes:
    """A page that the server packed although identity was asked for. Bounded (HAZARDS 67)."""
    if used not in _WINDOWS:
        raise NotAListing(href(directory), f"packed as {used[:20]!r} although that was not asked for")
    unpack = zlib.decompressobj(_WINDOWS[used])
    try:
        body = unpack.decompress(wire, MAX_LISTING + 1)
    except zlib.error:
        raise NotAListing(href(directory), f"not packed as {used}, as its header says") from None
    if len(body) > MAX_LISTING:
        raise TooLarge(href(directory), f"a listing of more than {MAX_LISTING} bytes")
    if not unpack.eof:
        raise IncompleteListing(href(directory), f"its {used} ends early")
    return body
