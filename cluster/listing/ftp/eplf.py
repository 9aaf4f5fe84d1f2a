"""Easily Parsed LIST Format: `+`, facts with a comma each, a tab, the name. Times are seconds UTC."""

from __future__ import annotations

import re

from cluster.listing.ftp.lines import number, put
from cluster.listing.rows import Names
from cluster.model import SECOND, Entry, Kind, Listing, Stamp

_ROW = re.compile(rb"\+((?:[^,\t]*,)*)\t(.+)", re.DOTALL).fullmatch
_SECONDS = re.compile(rb"-?\d{1,10}").fullmatch
_LAST = 2**63 // SECOND
_MODE = re.compile(rb"[0-7]{1,6}").fullmatch


def eplf(lines: list[bytes], names: Names, now: int, size: int) -> Listing | int:
    """The listing, or how many lines are of this dialect before the first that is not."""
    for index, line in enumerate(lines):
        found = _ROW(line)
        if found is None:
            return index
        if found[2] not in (b".", b".."):
            put(names, _entry(found[2], found[1].split(b",")[:-1]))
    return names.listing("eplf", size, zone_known=True)


def _entry(name: bytes, facts: list[bytes]) -> Entry:
    """What can neither be entered (`/`) nor retrieved (`r`) is special."""
    told = {fact[:2] if fact[:1] == b"u" else fact[:1]: fact for fact in facts}
    kind = Kind.DIRECTORY if b"/" in facts else Kind.FILE if b"r" in facts else Kind.SPECIAL
    size, seconds, mode = told.get(b"s", b"")[1:], told.get(b"m", b"")[1:], told.get(b"up", b"")[2:]
    return Entry(
        name,
        kind,
        size=number(size) if size.isdigit() else None,
        mtime=Stamp(int(seconds) * SECOND, SECOND)
        if _SECONDS(seconds) and abs(int(seconds)) < _LAST
        else None,
        mode=int(mode, 8) & 0o7777 if _MODE(mode) else None,
    )
