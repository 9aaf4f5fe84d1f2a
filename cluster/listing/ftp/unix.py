"""Rows of `ls -l`: permissions, links, owner, group, size, time, name.

Owner and group may be missing, numeric, or hold spaces; the size is what stands before the time. Evidence:
vsftpd 3.0.3, ProFTPD 1.3.8, Pure-FTPd 1.0.50, GNU, BSD and AIX `ls`, NetPresenz for Macintosh.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from cluster.listing.ftp.dates import DATE, Date, Dates, dated
from cluster.listing.ftp.lines import number, put
from cluster.listing.rows import Names
from cluster.model import Entry, Kind, Listing

_HEAD = re.compile(
    rb"([-dlbcpsDPnmwfCME?])((?:[-r][-w][-xsSlL]){2}[-r][-w][-xtT]|\?{9})[.+@*]?(?=[ \d])"
).match
_SIZE = rb"(?<=[ ,])(\d+(?:, *\d+)?|0x[0-9a-fA-F]+) +"
_TAIL = re.compile(_SIZE + DATE + rb" (?s:(?=.))").search
_UNTOLD = re.compile(rb"(?: +\?){4,6} +(\S.*)", re.DOTALL).fullmatch  # GNU ls of what it could not look at
is_total = re.compile(
    rb"(?:total[et]?|totalt|insgesamt|gesamt|summe|totaal|razem|celkem|celkom|skupno|ukupno|kokku|jumlah|summa"
    rb"|i alt|iomlan|toplam|[\x80-\xff]+|\S*[\x80-\xff]\S*):? *[\d.,]+ ?[KMGTkmgt]?i?[bB]?",
    re.IGNORECASE,
).fullmatch
_KINDS = {
    b"-": Kind.FILE,
    b"f": Kind.FILE,
    b"C": Kind.FILE,  # contiguous data
    b"M": Kind.FILE,  # migrated: on tape, and back when it is read
    b"d": Kind.DIRECTORY,
    b"l": Kind.SYMLINK,
    **dict.fromkeys((b"b", b"c", b"p", b"s", b"D", b"P", b"n", b"m", b"w"), Kind.SPECIAL),
}


class _Row(NamedTuple):
    letter: bytes
    permissions: bytes
    owners: list[bytes]
    size: bytes
    date: Date | None
    name: bytes


def unix(lines: list[bytes], names: Names, now: int, size: int) -> Listing | int:
    """The listing, or how many lines are of this dialect before the first that is not.

    A row with a time that no clock shows is of no dialect; a day that no calendar has is no time.
    """
    first = 1 if is_total(lines[0]) else 0
    dates = Dates(now)
    rows: list[_Row] = []
    for number_, line in enumerate(lines[first:], first):
        row = _row(line, dates)
        if row is None:
            return number_
        rows.append(row)
    if not dates.one_language():
        return first
    own: Entry | None = None
    for row in rows:
        entry = _entry(row, dates)
        if row.name == b".":
            own = Entry(b"", Kind.DIRECTORY, mode=entry.mode, uid=entry.uid, gid=entry.gid)
        elif entry.target and b" -> " in entry.target:
            names.reject(row.name, "a link of which it cannot be told where its name ends", Kind.SYMLINK)
        elif row.name != b"..":
            put(names, entry)
    return names.listing("unix", size, zone_known=dates.zoned, own=own)


def _row(line: bytes, dates: Dates) -> _Row | None:
    head = _HEAD(line)
    if head is None:
        return None
    tail = dated(_TAIL, line, head.end())
    if tail is None:
        untold = _UNTOLD(line, head.end())
        return _Row(head[1], head[2], [], b"", None, untold[1]) if untold and head[2][:1] == b"?" else None
    owners = line[head.end() : tail.start()].split()
    if not owners or not (owners[0].isdigit() or owners == [b"folder"]):
        return None
    date = dates.read(tail)
    if date is None:
        return None
    name = line[tail.end() :]
    if date.left_aligned and name[:1] == b" " and name.strip():
        name = name[1:]
    return _Row(head[1], head[2], owners, tail[1], date, name)


def _entry(row: _Row, dates: Dates) -> Entry:
    """A type that only its server knows, or facts that it could not find out, prove nothing."""
    kind = _KINDS.get(row.letter)
    uid, gid = [_id(word) for word in row.owners[1:]] if len(row.owners) == 3 else (None, None)
    name, target = row.name, None
    if kind is Kind.SYMLINK:
        name, _, target = row.name.partition(b" -> ")
    return Entry(
        name,
        kind or Kind.FILE,
        size=number(row.size) if row.size.isdigit() else None,
        mtime=dates.stamp(row.date) if row.date else None,
        mode=None if row.permissions[:1] == b"?" else _mode(row.permissions),
        uid=uid,
        gid=gid,
        target=target or None,
        ambiguous=kind is None or row.date is None,
    )


def _id(word: bytes) -> int | None:
    return number(word) if word.isdigit() else None


@lru_cache(maxsize=512)
def _mode(letters: bytes) -> int:
    mode = 0
    for index in range(9):
        mode = mode << 1 | (letters[index : index + 1] in (b"r", b"w", b"x", b"s", b"t"))
    for index, bit in ((2, 0o4000), (5, 0o2000), (8, 0o1000)):
        if letters[index : index + 1] in (b"s", b"S", b"t", b"T"):
            mode |= bit
    return mode
