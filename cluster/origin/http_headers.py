"""What the headers of one HTTP answer say, as values. Pure: no I/O, no clock.

Rules from RFC 9110 (semantics) unless another source is named. A header that is not in the form that
the RFC gives counts as absent: nothing is guessed from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from cluster.model import SECOND, Facts, Kind, Stamp
from cluster.origin.http_fields import fixed_date, kept, strong

RETRY_CAP = 3600.0  # s: an origin's word on when to come back, at most (HAZARDS 32)

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)

# Which codings a file's own name accounts for: Apache's AddEncoding labels `x.tar.gz` as
# Content-Encoding gzip, and the bytes on the wire are the file's own (HAZARDS 65).
_OWN_CODING = {
    "gzip": (b".gz", b".tgz", b".svgz", b".taz", b".cpgz", b".adz"),
    "x-gzip": (b".gz", b".tgz", b".svgz", b".taz", b".cpgz", b".adz"),
    "compress": (b".Z",),
    "x-compress": (b".Z",),
    "bzip2": (b".bz2", b".tbz", b".tbz2"),
    "x-bzip2": (b".bz2", b".tbz", b".tbz2"),
    "x-xz": (b".xz", b".txz"),
    "xz": (b".xz", b".txz"),
    "br": (b".br",),
    "zstd": (b".zst", b".tzst"),
}


class ContentRange(NamedTuple):
    """The part that a 206 carries: first and last byte, both included, and the size of the whole."""

    first: int
    last: int
    total: int


def seconds(value: str | None) -> int | None:
    """A date header as seconds since 1970, or None. Section 5.6.7: one fixed form, two obsolete ones."""
    if not value:
        return None
    try:
        if (at := fixed_date(value)) is not None:
            return at
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp())
    except (ValueError, KeyError, OverflowError, TypeError):
        return None


def modified(headers: Mapping[str, str]) -> Stamp | None:
    """Last-Modified, to the second."""
    at = kept(seconds(headers.get("Last-Modified")))
    return None if at is None else Stamp(at * SECOND, SECOND)


def length(headers: Mapping[str, str]) -> int | None:
    """Content-Length: the bytes on the wire. None where the answer is chunked or delimited by its end."""
    value = headers.get("Content-Length")
    if value is None or len(value) > 18 or not (value.isascii() and value.isdecimal()):
        return None
    return int(value)


def content_range(headers: Mapping[str, str]) -> ContentRange | None:
    """The part that a 206 carries, or None: several parts, an unknown total, or nonsense (HAZARDS 62)."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if found is None:
        return None
    first, last, total = map(int, found.groups())
    return ContentRange(first, last, total) if first <= last < total else None


def facts_of(headers: Mapping[str, str], *, part: ContentRange | None = None) -> Facts:
    """What an answer says of its file. `part` is the range that a 206 carries."""
    return Facts(
        part.total if part else length(headers),
        modified(headers),
        strong(headers.get("ETag")),
        Kind.FILE,
        part is not None or headers.get("Accept-Ranges") == "bytes",
    )


def coding(headers: Mapping[str, str]) -> str | None:
    """The content coding in lower case, or None for identity."""
    value = headers.get("Content-Encoding")
    if not value:
        return None
    value = value.strip().lower()
    return None if value in ("", "identity") else value


def own_coding(name: bytes, coding: str) -> bool:
    """Whether `coding` is what the file itself is packed in, by its name, and not the server's addition."""
    return name.endswith(_OWN_CODING.get(coding, ())) if coding in _OWN_CODING else False


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the origin wants to be asked again, at most an hour. None where it does not say.

    A date is taken relative to the answer's own Date: only their difference means anything to us.
    `now` (s since 1970) stands in where the answer has no Date.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdecimal():
        return min(float(value[:12]), RETRY_CAP)
    at = seconds(value)
    if at is None:
        return None
    said = seconds(headers.get("Date"))
    return min(max(at - (now if said is None else said), 0.0), RETRY_CAP)
