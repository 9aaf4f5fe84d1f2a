"""XML listings: nginx (`autoindex_format xml`) and the object stores' ListBucketResult.

nginx writes names as they are on disk, control characters and bytes outside UTF-8 included, which no XML
parser accepts or keeps: its rows are read as bytes.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from lxml import etree

from cluster.errors import IncompleteListing, NotAListing, TooLarge, UnsafeName
from cluster.listing.sizes import NO_SIZE, Size, size_of
from cluster.listing.times import iso_stamp
from cluster.model import Kind, Listing, Stamp, checked_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.listing.rows import Rows

_HEAD = re.compile(rb"\s*<\?xml version=\"1\.0\"[^<>]*\?>\s*<list>\s*").match
_ROW = re.compile(
    rb"<(file|directory|other)(?: mtime=\"([^\"<>]*)\")?(?: size=\"([^\"<>]*)\")?>([^<]*)</\1>\s*"
)
_TAIL = re.compile(rb"</list>\s*").fullmatch
_KINDS = {b"file": Kind.FILE, b"directory": Kind.DIRECTORY, b"other": Kind.SPECIAL}
_ENTITIES = ((b"&lt;", b"<"), (b"&gt;", b">"), (b"&quot;", b'"'), (b"&apos;", b"'"), (b"&amp;", b"&"))
_BUCKET = re.compile(rb"<(?:\w+:)?ListBucketResult[\s>]").search


def xml_listing(body: bytes, rows: Rows) -> Listing | None:
    """None where the page is XML of another kind (XHTML is HTML to us).

    Raises NotAListing, IncompleteListing (no end, or the store says that there is more) or TooLarge.
    """
    head = _HEAD(body)
    if head:
        return _nginx(body, head.end(), rows)
    return _bucket(body, rows) if _BUCKET(body, 0, 4096) else None


def _nginx(body: bytes, end: int, rows: Rows) -> Listing:
    for row in _ROW.finditer(body, end):
        if row.start() != end:
            break
        end = row.end()
        kind, name = _KINDS[row[1]], row[4]
        if b"&" in name:
            for entity, char in _ENTITIES:
                name = name.replace(entity, char)
        size = (size_of(row[3].decode("latin-1")) if row[3] is not None else None) or NO_SIZE
        _add(rows, name, kind, size, iso_stamp((row[2] or b"").decode("latin-1")))
    if not _TAIL(body, end):
        if body.rstrip().endswith(b"</list>"):
            raise NotAListing(rows.path, "XML with a row that nginx does not write")
        raise IncompleteListing(rows.path, "the XML ends before </list>")
    return rows.listing("nginx xml", len(body), zone_known=True)


def _bucket(body: bytes, rows: Rows) -> Listing:
    """Keys below the prefix that the store repeats; a key with more slashes names a directory."""
    if b"<!DOCTYPE" in body:
        raise NotAListing(rows.path, "XML with a document type")
    if body.count(b"<Key>") + body.count(b"<Prefix>") > rows.limit + 2:
        raise TooLarge(rows.path, f"more than {rows.limit} entries")
    facts: dict[str, str] = {}
    contents: list[tuple[str, Size, Stamp | None]] = []
    try:
        for name, element in _children(body):
            if name == "Contents":
                size = size_of(_text(element, "Size")) or NO_SIZE
                contents.append((_text(element, "Key"), size, iso_stamp(_text(element, "LastModified"))))
            elif name == "CommonPrefixes":
                contents.append((_text(element, "Prefix"), NO_SIZE, None))
            else:
                facts[name] = element.text or ""
            element.clear()
    except etree.XMLSyntaxError as problem:
        raise IncompleteListing(rows.path, f"XML that cannot be read to its end: {problem.msg}") from None
    if facts.get("IsTruncated") != "false":
        raise IncompleteListing(rows.path, "the store says that the bucket has more names, or does not say")
    escaped = facts.get("EncodingType") == "url"
    prefix = _key(facts.get("Prefix", ""), escaped)
    folder = prefix.rpartition(b"/")[0] + b"/" if b"/" in prefix else b""
    if prefix != folder:
        raise NotAListing(rows.path, "a bucket listing of a prefix that is no directory")
    for text, size, mtime in contents:
        _bucket_key(rows, _key(text, escaped), prefix, size, mtime)
    return rows.listing("bucket", len(body), zone_known=True)


def _bucket_key(rows: Rows, key: bytes, prefix: bytes, size: Size, mtime: Stamp | None) -> None:
    if not key.startswith(prefix):
        rows.reject(key, "outside the prefix that was listed")
        return
    if key == prefix:  # consoles store an empty object of the directory's own name
        return
    name, slash, _ = key[len(prefix) :].partition(b"/")
    known = rows.entries.get(name)
    if not slash:
        _add(rows, name, Kind.FILE, size, mtime)
    elif known is None or known.kind is not Kind.DIRECTORY:
        _add(rows, name, Kind.DIRECTORY, NO_SIZE, None)


def _children(body: bytes) -> Iterator[tuple[str, etree._Element]]:
    """The root's children by their local names, one at a time."""
    depth = 0
    for event, element in etree.iterparse(
        io.BytesIO(body), ("start", "end"), resolve_entities=False, no_network=True, load_dtd=False
    ):
        depth += 1 if event == "start" else -1
        if event == "end" and depth == 1:
            yield etree.QName(element).localname, element
            parent = element.getparent()
            while parent is not None and len(parent) > 1:
                del parent[0]


def _text(element: etree._Element, child: str) -> str:
    return next((e.text or "" for e in element if etree.QName(e).localname == child), "")


def _key(text: str, escaped: bool) -> bytes:
    return unquote_to_bytes(text.replace("+", " ")) if escaped else text.encode()


def _add(rows: Rows, name: bytes, kind: Kind, size: Size, mtime: Stamp | None) -> None:
    try:
        checked_name(name)
    except UnsafeName as problem:
        rows.reject(name, str(problem), kind)
    else:
        rows.add(name, kind, size, mtime)
