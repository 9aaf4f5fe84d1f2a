"""Rows of `dir`: IIS and other servers on Windows, Windows CE, and OS/2.

IIS prints month, day, year whatever its language; a server that runs `dir` itself prints dates as its locale
has them, which is settled by all rows together. The clock is that of the server's zone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cluster.errors import IncompleteListing
from cluster.listing.ftp.dates import clock
from cluster.listing.ftp.lines import number, put
from cluster.listing.rows import Names
from cluster.listing.times import day_ns
from cluster.model import Entry, Kind, Listing, Stamp

_DATE = rb"(\d{1,4})([-/.])(\d{1,2})\2(\d{4}|\d{2})"
_CLOCK = rb"(\d{1,2}):(\d\d)(?::(\d\d))?(?: ?([AaPp])\.?[Mm]\.?)?"
_ROW = re.compile(
    rb" *%b +%b +(?:<([A-Z]+)>|(\d{1,3}(?:[,.]\d{3})+|\d+)) +(\S.*)" % (_DATE, _CLOCK), re.DOTALL
).fullmatch
_HEAD = re.compile(rb" *(?:Volume (?:in drive|Serial Number) .*|Directory of .*)?").fullmatch
_FOOT = re.compile(
    rb" *([\d,.]+) (files?|File\(s\)|director(?:y|ies)|Dir\(s\))(?: +[\d,.]+ bytes(?: free)?)? *"
).fullmatch
_LINK = re.compile(rb"(.+?) \[.*\]", re.DOTALL).fullmatch
_OS2 = re.compile(
    rb" *(\d+)(?: +[RHSA]{1,4})?( +DIR)? +(\d\d)-(\d\d)-(\d{4}|\d{2}) +(\d\d):(\d\d) +(\S.*)", re.DOTALL
).fullmatch
_CENTURY = 69  # a year of two digits, as POSIX reads it (strptime, %y)


class _Row(NamedTuple):
    parts: tuple[bytes, bytes, bytes]
    separator: bytes
    time: tuple[int, int]
    halves: bool
    word: bytes | None  # DIR, JUNCTION, SYMLINK, SYMLINKD
    size: bytes | None
    field_end: int
    name_start: int
    line: bytes


def dos(lines: list[bytes], names: Names, now: int, size: int) -> Listing | int:
    """The listing, or how many lines are of this dialect before the first that is not.

    Raises IncompleteListing where the sum below the rows tells another number of files.
    """
    rows: list[_Row] = []
    counted: int | None = None
    footed = False
    for index, line in enumerate(lines):
        row = None if footed else _row(line)
        if row is not None:
            if rows and row.separator != rows[0].separator:
                return index
            rows.append(row)
        elif found := _FOOT(line):
            footed = True
            if found[2][:1] in b"fF":
                counted = number(re.sub(rb"\D", b"", found[1]))
        elif rows or not _HEAD(line):
            return index
    order = _order(rows)
    if not rows or order == "":
        return 0
    files = sum(1 for row in rows if row.word is None)
    if counted is not None and counted != files:
        raise IncompleteListing(names.path, f"{files} files where the listing counts {counted}")
    starts = _columns(rows)
    for row in rows:
        name = row.line[min(starts[row.word is None], row.name_start) :]
        if name not in (b".", b".."):
            put(names, _entry(row, name, order))
    return names.listing("dos", size, zone_known=False)


def _row(line: bytes) -> _Row | None:
    found = _ROW(line)
    if found is None:
        return None
    one, separator, two, three, hour, minute, second, half, word, size, _ = found.groups()
    time = clock(hour, minute, second)
    if half:
        time = (
            clock(b"%d" % (int(hour) % 12 + (12 if half in b"Pp" else 0)), minute, second)
            if 1 <= int(hour) <= 12
            else None
        )
    if time is None or (word is not None and word not in (b"DIR", b"JUNCTION", b"SYMLINK", b"SYMLINKD")):
        return None
    end = found.end(9) + 1 if word else found.end(10)
    return _Row((one, two, three), separator, time, half is not None, word, size, end, found.start(11), line)


def _order(rows: list[_Row]) -> str | None:
    """Which of `ymd`, `mdy`, `dmy` all dates are in; None where it cannot be known, "" for none."""
    fitting = [order for order in ("mdy", "dmy", "ymd") if all(_day(row, order)[0] for row in rows)]
    separator = rows[0].separator if rows else b""
    if separator == b"-":
        fitting = [order for order in fitting if order != "dmy"]
    elif separator == b".":
        fitting = [order for order in fitting if order != "mdy"]
    if len(fitting) > 1:
        return "mdy" if any(row.halves for row in rows) else None
    return fitting[0] if fitting else ""


def _day(row: _Row, order: str) -> tuple[bool, int, int, int]:
    """Whether the parts can be a date in this order, and which."""
    told = dict(zip(order, row.parts, strict=True))
    year, month, day = int(told["y"]), int(told["m"]), int(told["d"])
    fits = len(told["y"]) in (2, 4) and len(told["m"]) < 3 and len(told["d"]) < 3
    fits = fits and 1 <= month <= 12 and 1 <= day <= 31 and (order != "ymd" or len(told["y"]) == 4)
    return fits, full_year(told["y"]) if fits else year, month, day


def full_year(digits: bytes) -> int:
    """Two digits are of 1969 to 2068."""
    year = int(digits)
    return year if len(digits) > 2 else year + (1900 if year >= _CENTURY else 2000)


def _columns(rows: list[_Row]) -> dict[bool, int]:
    """Where names start, in rows of files (True) and of directories: blanks behind that column are the
    name's own. Where the rows keep no column no name begins with a blank."""
    starts = {}
    for files in (True, False):
        these = [row for row in rows if (row.word is None) is files]
        column = min((row.name_start for row in these), default=0)
        kept = len(these) > 1 and all(row.field_end < column for row in these)
        starts[files] = column if kept else max((len(row.line) for row in these), default=0)
    return starts


def _entry(row: _Row, name: bytes, order: str | None) -> Entry:
    mtime = None
    if order is not None:
        midnight = day_ns(*_day(row, order)[1:])
        mtime = None if midnight is None else Stamp(midnight + row.time[0], row.time[1])
    if row.word == b"DIR":
        return Entry(name, Kind.DIRECTORY, mtime=mtime)
    if row.word is not None:  # its target is a path of that machine
        linked = _LINK(name)
        return Entry(linked[1] if linked else name, Kind.SYMLINK, mtime=mtime)
    return Entry(name, size=number(re.sub(rb"\D", b"", row.size or b"")), mtime=mtime)


def os2(lines: list[bytes], names: Names, now: int, size: int) -> Listing | int:
    """The same for OS/2: size, attributes, `DIR`, month-day-year, clock, name."""
    for index, line in enumerate(lines):
        found = _OS2(line)
        if found is None:
            return index
        told, directory, month, day, year, hour, minute, name = found.groups()
        time = clock(hour, minute)
        if time is None or not 1 <= int(month) <= 12 or not 1 <= int(day) <= 31:
            return index
        midnight = day_ns(full_year(year), int(month), int(day))
        mtime = None if midnight is None else Stamp(midnight + time[0], time[1])
        if name not in (b".", b".."):
            put(names, Entry(name, Kind.DIRECTORY if directory else Kind.FILE, number(told), mtime=mtime))
    return names.listing("os/2", size, zone_known=False)
