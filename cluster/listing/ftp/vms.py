"""Rows of OpenVMS: NAME.TYPE;VERSION, blocks, time, owner, protection.

A long name stands on a line of its own. Of a file's versions only the highest is listed here; it is what the
name without a version means. A directory is named without its `.DIR`, as CWD takes it. Blocks of 512 bytes
are no exact size.
"""

from __future__ import annotations

import re

from cluster.errors import IncompleteListing
from cluster.listing.ftp.dates import clock
from cluster.listing.ftp.lines import put
from cluster.listing.rows import Names
from cluster.listing.times import day_ns
from cluster.model import Entry, Kind, Listing, Stamp

_BROKEN = 3  # lines that one row takes at most
_ROW = re.compile(
    rb"(?P<name>[^\s;]+);(?P<version>\d{1,5})\s+(?P<blocks>\d+)(?:/\d+)?"
    rb"\s+(?P<day>\d{1,2})-(?P<month>[A-Za-z]{3})-(?P<year>\d{4})\s+(?P<H>\d\d):(?P<M>\d\d)(?::(?P<S>\d\d)(?:\.\d+)?)?"
    rb"(?:\s+\[[\w$]+(?:,[\w$]+)?(?:\]|(?=\s)))?(?:\s+\((?P<protection>[RWED]*(?:,[RWED]*){3})\))?\s*"
).fullmatch
_LOCKED = re.compile(
    rb"(?P<name>[^\s;]+);(?P<version>\d{1,5})\s+(?:%|\*+ ?)?(?:RMS-E-PRV|no priv|insufficient priv).*",
    re.IGNORECASE,
).fullmatch
_HEAD = re.compile(rb"Directory \S+\s*", re.IGNORECASE).fullmatch
_FOOT = re.compile(rb"Total (?:of )?(\d+) files?(?:, *\d+(?:/\d+)? blocks?)?\.?\s*", re.IGNORECASE).fullmatch
_MONTHS = (b"JAN", b"FEB", b"MAR", b"APR", b"MAY", b"JUN", b"JUL", b"AUG", b"SEP", b"OCT", b"NOV", b"DEC")


def vms(lines: list[bytes], names: Names, now: int, size: int) -> Listing | int:
    """The listing, or how many lines are of this dialect before the first that is not.

    Raises IncompleteListing where the total below the rows is another one.
    """
    found: dict[bytes, tuple[int, Entry]] = {}
    rows, index, end = 0, 0, len(lines)
    if _HEAD(lines[0]):
        index = 1
    foot = _FOOT(lines[-1])
    if foot:
        end -= 1
    while index < end:
        start, line = index, lines[index]
        index += 1
        if not line.strip():
            continue
        while (
            index < min(end, start + _BROKEN) and lines[index][:1] in (b" ", b"\t") and lines[index].strip()
        ):
            line += lines[index]
            index += 1
        row = _row(line)
        if row is None:
            return start
        rows += 1
        name, version, entry = row
        if name not in found or found[name][0] < version:
            found[name] = version, entry
    if foot and int(foot[1]) != rows:
        raise IncompleteListing(names.path, f"{rows} files where the listing counts {int(foot[1])}")
    if not rows and not foot:
        return 0
    for _, entry in found.values():
        put(names, entry)
    return names.listing("vms", size, zone_known=False)


def _row(line: bytes) -> tuple[bytes, int, Entry] | None:
    """The name with its type, the version, and what the row tells."""
    row = _ROW(line)
    locked = None if row else _LOCKED(line)
    told = row or locked
    if told is None:
        return None
    full: bytes = told["name"]
    kind = Kind.DIRECTORY if full[-4:].upper() == b".DIR" else Kind.FILE
    name = full[:-4] if kind is Kind.DIRECTORY else full
    if row is None:
        return full, int(told["version"]), Entry(name, kind, ambiguous=True)
    month, time = row["month"].upper(), clock(row["H"], row["M"], row["S"])
    if month not in _MONTHS or time is None:
        return None
    midnight = day_ns(int(row["year"]), _MONTHS.index(month) + 1, int(row["day"]))
    mtime = None if midnight is None else Stamp(midnight + time[0], time[1])
    blocks = int(row["blocks"][:18])
    mode = _mode(row["protection"], kind) if row["protection"] else None
    return full, int(row["version"]), Entry(name, kind, rounded=f"{blocks} blocks", mtime=mtime, mode=mode)


def _mode(protection: bytes, kind: Kind) -> int:
    """Of owner, group and world; the system's own rights have no place in a mode, nor has deleting."""
    mode = 0
    for rights in protection.split(b",")[1:]:
        entering = kind is Kind.DIRECTORY and (b"R" in rights or b"E" in rights)
        mode = mode << 3 | (b"R" in rights) << 2 | (b"W" in rights) << 1 | entering
    return mode
