"""Which answer a request for a file deserves: conditions and ranges of RFC 9110, values in and value out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

MAX_RANGES = 16  # more in one request is an attack or a mistake: the whole file is sent

_RANGE = re.compile(r"(\d{0,19})-(\d{0,19})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Version:
    """What a file is now. `etag` is strong and quoted; `modified` is seconds since 1970; None: not known."""

    size: int
    etag: str | None
    modified: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, and the bytes from `start` up to but without `end` where a body is due (200 and 206)."""

    status: int
    start: int = 0
    end: int = 0


def http_date(seconds: int) -> str:
    """The one date format that may be sent (RFC 9110 section 5.6.7)."""
    return formatdate(seconds, usegmt=True)


def answer(method: str, headers: Mapping[str, str], version: Version, now: float) -> Answer:
    """200, 206, 304, 412 or 416 for GET or HEAD, in the order of RFC 9110 section 13.2.2.

    Several satisfiable ranges are answered by the whole file, which section 14.2 allows: every client of a
    mirror asks for one.
    """
    if not _preconditions(headers, version):
        return Answer(412)
    if _unchanged(headers, version):
        return Answer(304)
    whole = Answer(200, 0, version.size)
    asked = headers.get("Range")
    if method != "GET" or asked is None or not _if_range(headers.get("If-Range"), version, now):
        return whole
    ranges = byte_ranges(asked, version.size)
    if ranges is None:
        return whole
    if not ranges:
        return Answer(416)
    return Answer(206, *ranges[0]) if len(ranges) == 1 and "," not in asked else whole


def byte_ranges(field: str, size: int) -> list[tuple[int, int]] | None:
    """The satisfiable ranges as `(start, end)`, `end` exclusive; None where the field is to be ignored
    (another unit, bad syntax, too many). An empty list means that none can be satisfied."""
    unit, equals, rest = field.partition("=")
    parts = [part.strip(" \t") for part in rest.split(",")]
    if unit.strip().lower() != "bytes" or not equals or len(parts) > MAX_RANGES:
        return None
    found = []
    for part in filter(None, parts):
        match = _RANGE.match(part)
        if match is None or part == "-":
            return None
        first, last = match.groups()
        if first and last and int(last) < int(first):
            return None
        start = int(first) if first else max(0, size - int(last))
        end = min(int(last) + 1, size) if first and last else size
        if start < end:
            found.append((start, end))
    return found if any(parts) else None


def _preconditions(headers: Mapping[str, str], version: Version) -> bool:
    match, since = headers.get("If-Match"), _seconds(headers.get("If-Unmodified-Since"))
    if match is not None:
        return _listed(match, version.etag, weakly=False)
    return since is None or version.modified is None or version.modified <= since


def _unchanged(headers: Mapping[str, str], version: Version) -> bool:
    match, since = headers.get("If-None-Match"), _seconds(headers.get("If-Modified-Since"))
    if match is not None:
        return _listed(match, version.etag, weakly=True)
    return since is not None and version.modified is not None and version.modified <= since


def _if_range(field: str | None, version: Version, now: float) -> bool:
    """Whether a range may be sent. A date must be the very one, and old enough to be a strong validator."""
    if field is None:
        return True
    if field.lstrip().startswith(('"', "W/")):
        return version.etag is not None and field.strip() == version.etag
    since = _seconds(field)
    return since is not None and since == version.modified and since + 1 <= now


def _listed(field: str, etag: str | None, *, weakly: bool) -> bool:
    if field.strip() == "*":
        return True
    tags = [tag.strip() for tag in field.split(",")]
    if weakly:
        tags = [tag.removeprefix("W/") for tag in tags]
    return etag is not None and etag in tags


def _seconds(field: str | None) -> int | None:
    """An HTTP date as seconds since 1970; None where it is none, which section 13.1 wants ignored."""
    if field is None:
        return None
    try:
        return int(parsedate_to_datetime(field).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
