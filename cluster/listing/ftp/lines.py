"""The lines of an answer, and what their rows have in common."""

from __future__ import annotations

from dataclasses import replace

from cluster.errors import IncompleteListing, NotAListing, TooLarge, UnsafeName
from cluster.listing.detect import MAX_BODY
from cluster.listing.rows import Names
from cluster.listing.sizes import LARGEST
from cluster.model import Entry, Kind, checked_name

_LARGEST_DIGITS = len(str(LARGEST))


def lines_of(body: bytes, path: str, limit: int) -> list[bytes]:
    """The lines without their ends, and without empty ones before the first and after the last.

    Where lines end in CR LF a bare LF belongs to a name. Raises IncompleteListing where the last line does
    not end as others do: it may have been longer (HAZARDS 34).
    """
    if len(body) > MAX_BODY:
        raise TooLarge(path, f"a listing of {len(body)} bytes, more than {MAX_BODY}")
    if b"\0" in body:
        raise NotAListing(path, "not a text")
    end = b"\r\n" if b"\r\n" in body else b"\n"
    if body and not body.endswith(end):
        raise IncompleteListing(path, "its last line has no end")
    if body.count(end) > 4 * limit + 1000:  # OpenVMS breaks a row with a long name into several lines
        raise TooLarge(path, f"more than {limit} entries")
    lines = body.split(end)
    first, last = 0, len(lines)
    while last > first and not lines[last - 1]:
        last -= 1
    while first < last and not lines[first]:
        first += 1
    return lines[first:last]


def put(names: Names, entry: Entry) -> None:
    """A row with the name as the server shows it, `.` and `..` apart; sizes count for files only."""
    try:
        checked_name(entry.name)
    except UnsafeName as problem:
        names.reject(entry.name, str(problem), entry.kind)
        return
    names.put(entry if entry.kind is Kind.FILE else replace(entry, size=None, rounded=None))


def number(digits: bytes) -> int | None:
    """A size or an id; None beyond what a file can have."""
    if len(digits) > _LARGEST_DIGITS:
        digits = digits.lstrip(b"0") or b"0"
        if len(digits) > _LARGEST_DIGITS:
            return None
    value = int(digits)
    return value if value <= LARGEST else None
