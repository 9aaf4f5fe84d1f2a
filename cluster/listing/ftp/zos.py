"""z/OS: data sets and members. What lies in its UNIX file system is listed as on Unix.

A sequential data set is a file and a partitioned one a directory of members. Neither has an exact size, and a
data set shows when it was last used, which reading it changes: such a time is none. What is migrated, on tape
or of another organisation is refused.
"""

from __future__ import annotations

import re

from cluster.listing.ftp.dates import clock
from cluster.listing.ftp.lines import put
from cluster.listing.rows import Names
from cluster.listing.times import day_ns
from cluster.model import Entry, Kind, Listing, Stamp

_VOLUMES = re.compile(rb"Volume +Unit +Referred +Ext +Used +Recfm +Lrecl +BlkSz +Dsorg +Dsname *").fullmatch
_DATASET = re.compile(
    rb"\S{1,6} +\S+ +(?:\d{4}/\d\d/\d\d|\*\*NONE\*\*) +\d+(?: +(\d+))? +[A-Z]{1,5} +\d+ +\d+"
    rb" +([A-Z][A-Z-]{1,4}) +(\S+)"
).fullmatch
_AWAY = re.compile(
    rb"(Migrated|\S+ +Not Direct Access Device|\S+ +\S+ +VSAM|\S+ +Tape|Pseudo Directory) +(\S+) *",
    re.IGNORECASE,
).fullmatch
_MEMBERS = re.compile(rb" ?Name +VV\.MM +Created +Changed +Size +Init +Mod +Id *").fullmatch
_MEMBER = re.compile(
    rb" ?([A-Z0-9@#$]{1,8})(?: +\d\d\.\d\d +\d{4}/\d\d/\d\d +(\d{4})/(\d\d)/(\d\d) +(\d\d):(\d\d)(?::(\d\d))?"
    rb" +(\d{1,9}) +\d+ +\d+ +\S+)? *",
    re.IGNORECASE,
).fullmatch


def datasets(lines: list[bytes], names: Names, now: int, size: int) -> Listing | int:
    """What one qualifier holds, or how many lines are of this dialect before the first that is not."""
    first = 1 if _VOLUMES(lines[0]) else 0
    for index, line in enumerate(lines[first:], first):
        found, away = _DATASET(line), _AWAY(line)
        if found is None and away is None:
            return index
        name = found[3] if found else away[2] if away else b""
        what = found[2] if found else away[1] if away else b""
        if name[:1] == b"'":
            names.reject(name, "a data set of another qualifier")
        elif what[:2] == b"PO" or what.lower() == b"pseudo directory":
            put(names, Entry(name, Kind.DIRECTORY))
        elif what[:2] == b"PS":
            put(names, Entry(name, rounded=f"{int(found[1])} used" if found and found[1] else None))
        else:
            names.reject(name, f"a data set that is no file: {' '.join(what.decode('latin-1').split())}")
    return names.listing("z/os data sets", size, zone_known=True)


def members(lines: list[bytes], names: Names, now: int, size: int) -> Listing | int:
    """What a partitioned data set holds. Members without statistics tell nothing but their names."""
    if not _MEMBERS(lines[0]):
        return 0
    for index, line in enumerate(lines[1:], 1):
        found = _MEMBER(line)
        if found is None:
            return index
        name, year, month, day, hour, minute, second, records = found.groups()
        time = clock(hour, minute, second) if year else None
        if year is None:
            put(names, Entry(name))
        elif time is None:
            return index
        else:
            midnight = day_ns(int(year), int(month), int(day))
            mtime = None if midnight is None else Stamp(midnight + time[0], time[1])
            put(names, Entry(name, rounded=f"{int(records)} records", mtime=mtime))
    return names.listing("z/os members", size, zone_known=False)
