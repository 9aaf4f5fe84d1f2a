"""Rows that begin otherwise than on Unix and go on as there: NetWare and Connect:Enterprise."""

from __future__ import annotations

import re
from collections.abc import Callable

from cluster.listing.ftp.dates import DATE, Date, Dates, dated
from cluster.listing.ftp.lines import number, put
from cluster.listing.rows import Names
from cluster.model import Entry, Kind, Listing

_NETWARE = re.compile(rb"[-d] ?\[[-RWCEAFMSVN]{7,9}\] +\S").match
_ENTERPRISE = re.compile(rb"-[-A-Z]{9}[A-Z]+ +[A-Z] +\S+ +\d+(?= )").match
_TAIL = re.compile(rb"(?<= )(\d+) +" + DATE + rb" +(?=\S)").search


def netware(lines: list[bytes], names: Names, now: int, size: int) -> Listing | int:
    """Rights in brackets, owner, size, time, name. The rights are our user's own, not the file's mode."""
    return _listing(lines, names, Dates(now), size, _NETWARE, "netware")


def enterprise(lines: list[bytes], names: Names, now: int, size: int) -> Listing | int:
    """Flags, format, owner, batch, size, time, name. Several batches may have one name."""
    return _listing(lines, names, Dates(now), size, _ENTERPRISE, "connect:enterprise")


def _listing(
    lines: list[bytes],
    names: Names,
    dates: Dates,
    size: int,
    head: Callable[[bytes], re.Match[bytes] | None],
    form: str,
) -> Listing | int:
    rows: list[tuple[Kind, bytes, Date, bytes]] = []
    first = 1 if lines[0].startswith(b"total ") else 0
    for index, line in enumerate(lines[first:], first):
        begun = head(line)
        tail = dated(_TAIL, line, begun.end() - 1) if begun else None
        if tail is None:
            return index
        date = dates.read(tail)
        if date is None:
            return index
        rows.append((Kind.DIRECTORY if line[:1] == b"d" else Kind.FILE, tail[1], date, line[tail.end() :]))
    if not rows or not dates.one_language():
        return 0
    for kind, told, date, name in rows:
        if name not in (b".", b".."):
            put(names, Entry(name, kind, number(told), mtime=dates.stamp(date)))
    return names.listing(form, size, zone_known=dates.zoned)
