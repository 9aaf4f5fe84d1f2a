"""JSON listings: nginx (`autoindex_format json`), Caddy 1 and 2.

nginx writes a name's bytes as they are, so a listing need not be UTF-8. Caddy replaces what is
not UTF-8 in `name` but keeps the bytes in `url`, which is what counts.
"""

from __future__ import annotations

import json
import re
from typing import Any

from cluster.errors import IncompleteListing, NotAListing, TooLarge, UnsafeName
from cluster.listing.rows import Rows
from cluster.listing.sizes import LARGEST, NO_SIZE, Size
from cluster.listing.times import iso_stamp, time_of
from cluster.model import Kind, Listing, Stamp, checked_name

_NGINX_EMPTY = re.compile(rb"\[\r?\n\]\s*").fullmatch
_KINDS = {"file": Kind.FILE, "directory": Kind.DIRECTORY, "other": Kind.SPECIAL}


def json_listing(body: bytes, rows: Rows, content_type: str) -> Listing:
    """Raises NotAListing, IncompleteListing (it cannot be read to its end) or TooLarge."""
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"[", b"{")):
        raise NotAListing(rows.path, "JSON, but not a list of names")
    if body.count(b'"name"') + body.count(b'"Name"') > rows.limit + 1:  # a file may be called "name"
        raise TooLarge(rows.path, f"more than {rows.limit} entries")
    try:
        document = json.loads(body.decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError) as problem:
        raise IncompleteListing(rows.path, f"JSON that cannot be read: {problem}") from None
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
        raise NotAListing(rows.path, "JSON, but not a list of names")
    if not document:
        if _NGINX_EMPTY(body) or (body.strip() == b"[]" and content_type.startswith("application/json")):
            return rows.listing("json", len(body), zone_known=True)
        raise NotAListing(rows.path, "JSON without anything in it")
    form, read = _dialect(document[0], rows.path)
    for item in document:
        try:
            read(item, rows)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise NotAListing(rows.path, f"JSON with a row that {form} does not write") from None
    return rows.listing(form, len(body), zone_known=True)


def _dialect(item: dict[str, Any], path: str) -> tuple[str, Any]:
    if {"name", "type", "mtime"} <= item.keys():
        return "nginx json", _nginx
    if {"name", "url", "is_dir", "mod_time"} <= item.keys():
        return "caddy json", _caddy
    if {"Name", "URL", "IsDir", "ModTime"} <= item.keys():
        return "caddy 1 json", _caddy_1
    raise NotAListing(path, "JSON of a kind that is not known as a listing")


def _nginx(item: dict[str, Any], rows: Rows) -> None:
    kind = _KINDS[item["type"]]
    time = time_of(item["mtime"])
    _named(item["name"], kind, _size(item.get("size")), time.stamp if time else None, rows)


def _caddy(item: dict[str, Any], rows: Rows) -> None:
    href, directory = item["url"].encode("utf-8", "surrogateescape"), bool(item["is_dir"])
    # A link to a file carries its own time here, which says nothing about the file (Caddy 2.6.2).
    mtime = None if item.get("is_symlink") else iso_stamp(item["mod_time"])
    rows.link(href, _size(item.get("size")), mtime, directory=directory)


def _caddy_1(item: dict[str, Any], rows: Rows) -> None:
    href, directory = item["URL"].encode("utf-8", "surrogateescape"), bool(item["IsDir"])
    rows.link(href, _size(item.get("Size")), iso_stamp(item["ModTime"]), directory=directory)


def _named(text: str, kind: Kind, size: Size, mtime: Stamp | None, rows: Rows) -> None:
    name = text.encode("utf-8", "surrogateescape")
    try:
        checked_name(name)
    except UnsafeName as problem:
        rows.reject(name, str(problem), kind)
    else:
        rows.add(name, kind, size, mtime)


def _size(value: object) -> Size:
    if isinstance(value, bool) or not isinstance(value, int):
        return NO_SIZE
    return Size(value) if 0 <= value <= LARGEST else Size(None, str(value)[:40])
