"""Directory Lister (PHP): rows are links around their whole text, directories are queries of one page.

`?dir=a/b/c` is a directory and `a/b/file` a file, both relative to the application. The page names the
directory it shows by its download link and its breadcrumbs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from cluster.errors import NotAListing, UnsafeName
from cluster.listing.sizes import NO_SIZE, size_of
from cluster.listing.times import time_of
from cluster.model import Kind, checked_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from lxml.etree import _Element

    from cluster.listing.rows import Rows
    from cluster.model import Listing


def is_directory_lister(root: _Element) -> bool:
    return any("directorylister.com" in (a.get("href") or "") for a in root.iter("a"))


def lister_listing(root: _Element, encode: Callable[[str], bytes], rows: Rows, size: int) -> Listing:
    """Raises NotAListing where the page shows another directory than its URL asks for."""
    hrefs = [encode(a.get("href") or "") for a in root.iter("a")]
    shown = max((_query(h, b"dir") for h in hrefs[: _first_row(root)]), key=len, default=b"")
    shown = next((_query(h, b"zip") for h in hrefs if h.startswith(b"?zip=")), shown)
    asked = _query(b"?" + rows.place.query, b"dir")
    if rows.place.query and asked.strip(b"/") != shown:
        raise NotAListing(rows.path, "Directory Lister shows another directory than was asked for")
    lists = [e for e in root.iter("ul") if next(e.iter("a"), None) is not None]
    if not lists:
        raise NotAListing(rows.path, "Directory Lister without its list")
    for anchor in lists[0].iter("a"):
        _row(anchor, encode(anchor.get("href") or ""), shown, rows)
    return rows.listing("directory lister", size, zone_known=False)


def _row(anchor: _Element, href: bytes, shown: bytes, rows: Rows) -> None:
    query = href.startswith((b"?dir=", b"./?dir="))
    path = _query(href, b"dir") if query else unquote_to_bytes(href.removeprefix(b"./"))
    folder, _, name = path.rpartition(b"/")
    words = [" ".join(str(text).split()) for text in anchor.itertext() if text.strip()]
    if words[:1] == [".."] or path == b".":
        return
    if folder != shown or b"#" in href or (not query and b"?" in href):
        rows.reject(href, "not directly in the directory")
        return
    try:
        checked_name(name)
    except UnsafeName as problem:
        rows.reject(href, str(problem))
        return
    times = [time for word in words[1:] if (time := time_of(word))]
    sizes = [size for word in words[1:] if time_of(word) is None and (size := size_of(word))]
    kind = Kind.DIRECTORY if query else Kind.FILE
    rows.add(name, kind, sizes[0] if sizes else NO_SIZE, times[0].stamp if times else None)


def _first_row(root: _Element) -> int:
    """How many links stand before the first list."""
    before = 0
    for element in root.iter("a", "ul"):
        if element.tag == "ul":
            return before
        before += 1
    return before


def _query(href: bytes, key: bytes) -> bytes:
    """The decoded value of `?key=` in an href that is a query alone."""
    start = b"?" + key + b"="
    found = href.removeprefix(b".").removeprefix(b"/")
    return unquote_to_bytes(found.removeprefix(start)).strip(b"/") if found.startswith(start) else b""
