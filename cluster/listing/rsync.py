r"""What the rsync program prints of names, taken apart.

It is asked to print each name by `FORMAT`. Names have no empty component, so that `//` ends them; whatever
is not printable comes as `\#ooo`, and so does a backslash that would look like it (HAZARDS 91): both are
unambiguous. Times are whole seconds in UTC, because the program is told to be there.
"""

from __future__ import annotations

import calendar
import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from cluster.errors import IncompleteListing, TooLarge, UnsafeName
from cluster.model import SECOND, Entry, Kind, Listing, Rejected, Stamp, checked_name, href, join, split

# Name, itemised changes, permissions, size, time, owner, group, and what a link points to.
FORMAT = "=%n//%i %B %l %M %U %G%L"

_ROW = re.compile(
    rb"(?P<name>[^/]*)//(?P<slash>/?).(?P<kind>.).{9,}? (?P<mode>[-rwxsStT]{9}) (?P<size>\d+) (?P<time>\S+)"
    rb" (?P<uid>\d+|DEFAULT) (?P<gid>\d+|DEFAULT)(?: -> (?P<target>.*)| => (?P<leader>.*))?",
    re.DOTALL,
)
# Whole lines: no directories, no further names of a file.
_TOGETHER = re.compile(rb"=((?:[^/\n]+/)*)[^/\n]+//(?![/h\n])[^\n]*+\n(?:=\1[^/\n]+//(?![/h\n])[^\n]*+\n)*+")
_ESCAPE = re.compile(rb"\\#([0-3][0-7]{2})")
_TIME = re.compile(r"(\d+)/(\d\d)/(\d\d)-(\d\d):(\d\d):(\d\d)")
_KINDS = {b"f": Kind.FILE, b"d": Kind.DIRECTORY, b"L": Kind.SYMLINK}
_FARTHEST = 2**63 - 1  # ns from 1970, either way


class Name(NamedTuple):
    """Where a printed row belongs. `row` is what `listing` needs of it."""

    directory: bytes
    path: bytes
    row: bytes
    is_directory: bool
    leader: bytes | None  # the path of the name that it is a further name of


def unescaped(text: bytes) -> bytes:
    """The bytes that the program prints as `text`."""
    return _ESCAPE.sub(lambda match: bytes((int(match[1], 8),)), text) if b"\\#" in text else text


def placed(line: bytes) -> Name | None:
    """Where a printed line belongs; None for what is no name."""
    end = line.find(b"//")
    if end < 0 or line[:1] != b"=":
        return None
    path = line[1:end]
    row = line[path.rfind(b"/") + 2 :]
    if b"\\#" in path:
        path = unescaped(path)
    if path == b".":
        path = b""
    at = path.rfind(b"/")
    leader = None
    if line[end + 2 : end + 3] == b"h" and (match := _ROW.fullmatch(row)) and match["leader"] is not None:
        leader = unescaped(match["leader"])
    return Name(path[:at] if at > 0 else b"", path, row, line[end + 2 : end + 3] == b"/", leader)


class Plain(NamedTuple):
    """Plain files that are printed one after the other, of one directory: their rows, and where the text goes
    on behind them."""

    directory: bytes
    rows: bytes
    end: int


def plain(text: bytes, start: int) -> Plain | None:
    """The plain files whose complete lines begin at `start`; None where something else is printed there."""
    match = _TOGETHER.match(text, start)
    if match is None:
        return None
    prefix = b"=" + match[1]
    rows = text[start + len(prefix) : match.end() - 1].replace(b"\n" + prefix, b"\n")
    return Plain(unescaped(match[1][:-1]), rows, match.end())


def token(own: bytes, rows: bytes, leaders: Mapping[bytes, int]) -> bytes:
    """The same for the same rows, which come sorted, each behind the end of a line."""
    digest = hashlib.blake2b(own + rows, digest_size=16)
    if leaders:
        digest.update(repr(sorted(leaders.items())).encode())
    return digest.digest()


def listing(
    directory: bytes,
    own: bytes,
    rows: Collection[bytes],
    *,
    limit: int,
    size: int = 0,
    further: Callable[[bytes], int] | None = None,
) -> Listing:
    """The rows of one directory. `own` is its own row, `limit` the largest number of names.

    Where the names of one file are known all over the tree, `further` says how many more names it has whose
    first name is at a path; without it, nothing is said of hard links. Raises TooLarge, and IncompleteListing
    for a row that cannot be read.
    """
    entries: dict[bytes, Entry] = {}
    rejected: list[Rejected] = []
    for row in rows:
        if len(entries) + len(rejected) >= limit:
            raise TooLarge(href(directory), f"more than {limit} entries")
        entry, leader = entry_of(directory, row)
        try:
            checked_name(entry.name)
        except UnsafeName as error:
            rejected.append(Rejected(entry.name, str(error), entry.kind))
            continue
        if further is not None and entry.kind is Kind.FILE:
            first = join(directory, entry.name) if leader is None else leader
            if more := further(first):
                entry = replace(entry, link=href(first), links=1 + more)
        entries[entry.name] = entry
    return Listing(
        tuple([entries[name] for name in sorted(entries)]),
        tuple(sorted(rejected, key=lambda r: r.name)),
        format="rsync",
        size=size,
        own=replace(entry_of(directory, own)[0], name=split(directory)[1]),
    )


def entry_of(directory: bytes, row: bytes) -> tuple[Entry, bytes | None]:
    """One row, and the printed path of the name that it is a further name of. Raises IncompleteListing."""
    match = _ROW.fullmatch(row)
    if match is None:
        raise IncompleteListing(href(directory), "rsync printed a row that cannot be read")
    name, _, letter, mode, size, time, uid, gid, target, leader = match.groups()
    kind = _KINDS.get(letter, Kind.SPECIAL)
    entry = Entry(
        unescaped(name),
        kind,
        size=int(size) if kind is Kind.FILE else None,
        mtime=_stamp(time.decode("ascii", "replace")),
        mode=_mode(mode),
        uid=int(uid) if uid != b"DEFAULT" else None,
        gid=int(gid) if gid != b"DEFAULT" else None,
        target=unescaped(target) if kind is Kind.SYMLINK and target is not None else None,
    )
    return entry, unescaped(leader) if leader is not None else None


@lru_cache(4096)
def _mode(text: bytes) -> int:
    """`rwxr-xr-t` as bits."""
    bits = 0
    for place, letter in enumerate(text.decode("ascii")):
        if letter not in "-ST":
            bits |= 0o400 >> place
        if letter in "sStT":
            bits |= 0o4000 >> place // 3
    return bits


@lru_cache(4096)
def _stamp(text: str) -> Stamp | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    try:
        seconds = calendar.timegm(tuple(int(part) for part in match.groups()))
    except (ValueError, OverflowError):
        return None
    return Stamp(max(-_FARTHEST, min(seconds * SECOND, _FARTHEST)), SECOND)
