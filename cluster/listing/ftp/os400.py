"""Rows of OS/400: owner, size, time, type, name.

The order of the date is that of the server's job; where the rows fit several it is not guessed. The size of
what is not a stream file is what is allocated.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cluster.listing.ftp.dates import AHEAD, clock
from cluster.listing.ftp.dos import full_year
from cluster.listing.ftp.lines import number, put
from cluster.listing.rows import Names
from cluster.listing.times import day_ns
from cluster.model import Entry, Kind, Listing, Stamp

_ROW = re.compile(
    rb"\S+ +(\d+) +(\d\d)([/.-])(\d\d)\3(\d\d) +(\d\d):(\d\d):(\d\d) +\*(?!MEM)([A-Z0-9]+) +(\S.*)", re.DOTALL
).fullmatch
_MEMBER = re.compile(rb"\S+ +\*MEM +(\S.*)", re.DOTALL).fullmatch
_DIRECTORIES = frozenset((b"DIR", b"DDIR", b"FLR", b"LIB"))
_STREAMS = frozenset((b"STMF", b"DSTMF", b"DOC"))
_ORDERS = ("ymd", "mdy", "dmy")


class _Row(NamedTuple):
    name: bytes
    kind: Kind
    size: int | None = None
    rounded: str | None = None
    date: tuple[bytes, bytes, bytes] | None = None
    time: tuple[int, int] = (0, 0)


def os400(lines: list[bytes], names: Names, now: int, size: int) -> Listing | int:
    """The listing, or how many lines are of this dialect before the first that is not."""
    rows = []
    for index, line in enumerate(lines):
        row = _row(line)
        if row is None:
            return index
        rows.append(row)
    dated = [row.date for row in rows if row.date]
    orders = [order for order in _ORDERS if all(_day(date, order, now) is not None for date in dated)]
    if not orders:
        return 0
    above = {row.name.rpartition(b"/")[0] for row in rows}
    for row in rows:
        name, mtime = row.name, None
        if name[:1] == b"/" and len(above) == 1:  # each with the path of the directory
            name = name.rpartition(b"/")[2]
        if row.date and len(orders) == 1:
            mtime = Stamp((_day(row.date, orders[0], now) or 0) + row.time[0], row.time[1])
        if name not in (b".", b".."):
            put(names, Entry(name, row.kind, row.size, row.rounded, mtime))
    return names.listing("os/400", size, zone_known=False)


def _row(line: bytes) -> _Row | None:
    """A member's name has the name of its file before it and is refused as such."""
    member = _MEMBER(line)
    if member:
        return _Row(member[1], Kind.FILE)
    found = _ROW(line)
    time = clock(found[6], found[7], found[8]) if found else None
    if found is None or time is None:
        return None
    date, word, name = (found[2], found[4], found[5]), found[9], found[10]
    if word in _STREAMS:
        return _Row(name, Kind.FILE, number(found[1]), None, date, time)
    if word in _DIRECTORIES:
        return _Row(name.rstrip(b"/"), Kind.DIRECTORY, None, None, date, time)
    if word == b"FILE" and name.upper().endswith(b".SAVF"):
        return _Row(name, Kind.FILE, None, found[1].decode("ascii"), date, time)
    return _Row(name, Kind.SYMLINK if word == b"SYMLNK" else Kind.SPECIAL, None, None, date, time)


def _day(parts: tuple[bytes, bytes, bytes], order: str, now: int) -> int | None:
    """Midnight in ns, or None where the parts are in another order."""
    told = dict(zip(order, parts, strict=True))
    midnight = day_ns(full_year(told["y"]), int(told["m"]), int(told["d"]))
    return midnight if midnight is not None and midnight <= now + AHEAD else None
