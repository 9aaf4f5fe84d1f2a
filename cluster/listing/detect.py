"""Which kind of listing a body is, and its reading."""

from __future__ import annotations

import re

from cluster.errors import NotAListing, TooLarge
from cluster.listing.names import Place
from cluster.listing.rows import Rows
from cluster.listing.shapes import shaped
from cluster.model import Listing

MAX_BODY = 64 * 2**20  # decoded; HAZARDS section 5
ENTRIES = 250_000  # a table of this size costs half a gigabyte while it is read

_HREF = re.compile(rb"<a\s[^>]{0,500}?href\s*=\s*[\"']?([^\"'\s>]*)", re.IGNORECASE)
_READ = ("text/html", "application/xhtml+xml", "application/json", "text/json", "application/xml", "text/xml")


def parse(
    body: bytes, url: str, content_type: str = "", *, limit: int = ENTRIES, path: str | None = None
) -> Listing:
    """The listing that `body`, fetched from `url` after all redirects, is.

    `content_type` is the header's value, or empty where there was none. `path` is how errors name the
    directory; the URL if it is not given. Raises NotAListing, IncompleteListing, or TooLarge beyond
    `limit` entries or 64 MiB.
    """
    path = url if path is None else path
    if len(body) > MAX_BODY:
        raise TooLarge(path, f"a listing of {len(body)} bytes, more than {MAX_BODY}")
    served = content_type.partition(";")[0].strip().lower()
    if served and served not in _READ:
        raise NotAListing(path, f"served as {served}")
    if b"\0" in body:
        raise NotAListing(path, "not a text")
    body_start = body[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    rows = Rows(Place(url), path, limit)
    if served.endswith("json") or (not served and body_start[:1] in (b"[", b"{")):
        from cluster.listing.json_pages import json_listing

        return json_listing(body, rows, served)
    if body_start.startswith(b"<?xml") or served.endswith("/xml"):
        from cluster.listing.xml_pages import xml_listing

        found = xml_listing(body, rows)
        if found:
            return found
    if not body_start:
        raise NotAListing(path, "an empty page")
    _bounded(body, path, limit)
    found = shaped(body, rows)
    if found is None:  # most passes never come here: what reads all other pages takes a while to load
        from cluster.listing.html import html_listing

        found = html_listing(body, rows)
    return found


def _bounded(body: bytes, path: str, limit: int) -> None:
    """Refuses a page with too many names before anything is built from it. Raises TooLarge.

    A name may be linked twice in its row, once around its icon.
    """
    if body.count(b"<a ") + body.count(b"<A ") <= limit + 64:
        return
    names, last = 0, b""
    for found in _HREF.finditer(body):
        if found[1] != last:
            names, last = names + 1, found[1]
            if names > limit + 64:
                raise TooLarge(path, f"more than {limit} entries")
