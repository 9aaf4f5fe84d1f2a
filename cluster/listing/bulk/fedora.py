"""Fedora's `fullfiletimelist-*` and `fullfilelist`, as quick-fedora-mirror makes and reads them.

    [Version]
    [Files]
    1767700953<TAB>f<TAB>282<TAB>linux/extras/README
    [Checksums SHA1]
    [End]

The time is the newer of mtime and ctime, so that it tells of every change and is no file's own; the letter
may be followed by one more for what not everybody may read. `fullfilelist` is what `find .` prints: names
alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cluster.errors import IncompleteListing
from cluster.listing.bulk.base import KINDS, Gathered, Numbered, Piece, collected, plain
from cluster.listing.ftp.lines import number
from cluster.model import Entry, Kind, Listing, split

TIMES, NAMES = "fullfiletimelist", "fullfilelist"

_SECTION = re.compile(rb"\[([A-Z][A-Za-z]*)(?: [A-Z0-9]+)?\] *").fullmatch
_SUM = re.compile(rb"([0-9a-f]{32,128})[ \t]+\*?(.+)", re.DOTALL).fullmatch
_NOTE = b"#"  # before a digest that is kept with a directory's rows


class TimeList:
    """See `Form`. It ends with `[End]`."""

    name, facts = TIMES, False

    def __init__(self, path: str, now: int) -> None:
        self._lines, self._gathered = Numbered(path), Gathered(path)
        self._section = b""
        self.ended = False

    def take(self, lines: Sequence[bytes]) -> Iterator[Piece]:
        counted = self._lines
        for line in lines:
            counted.number += 1
            found = _SECTION(line) if line[:1] == b"[" else None
            if found:
                self._section = found[1]
                self.ended = self._section == b"End"
            elif line and self._section == b"Files":
                self._file(line)
            elif line and self._section == b"Checksums":
                self._sum(line)
        yield from self._gathered.full()

    def rest(self) -> Iterator[Piece]:
        yield from self._gathered.all()
        if not self.ended:
            raise IncompleteListing(self._lines.path, "ends without [End]")

    def _file(self, line: bytes) -> None:
        fields = line.split(b"\t", 3)
        if len(fields) != 4 or not (fields[0].lstrip(b"-").isdigit() and fields[2].isdigit() and fields[1]):
            raise self._lines.strange(line, "time, kind, size and path")
        path = fields[3].removeprefix(b"./").rstrip(b"/")
        if path in (b"", b"."):
            return
        row = b"\t".join((*fields[:3], split(path)[1]))
        self._gathered.add(path, row, directory=fields[1][:1] == b"d")

    def _sum(self, line: bytes) -> None:
        """A file of which the digest is told: a change that kept size and time shows in it."""
        found = _SUM(line)
        if found is None:
            raise self._lines.strange(line, "digest and path")
        path = found[2].removeprefix(b"./")
        self._gathered.add(path, _NOTE + found[1] + b"\t" + split(path)[1], directory=False)


class NameList:
    """See `Form`. Nothing tells a directory without names from a file; no end."""

    name, facts, ended = NAMES, False, False

    def __init__(self, path: str, now: int) -> None:
        self._lines, self._gathered = Numbered(path), Gathered(path)

    def take(self, lines: Sequence[bytes]) -> Iterator[Piece]:
        for line in lines:
            self._lines.number += 1
            path = line.removeprefix(b"./").rstrip(b"/")
            if path not in (b"", b"."):
                self._gathered.add(path, split(path)[1], directory=True)
        yield from self._gathered.full()

    def rest(self) -> Iterator[Piece]:
        yield from self._gathered.all()


def read_times(rows: Sequence[bytes]) -> Listing:
    """Names, kinds and sizes of one directory. Times are left out: they are not those of a listing."""
    entries = []
    for row in rows:
        if row[:1] == _NOTE:
            continue
        _, letter, size, name = row.split(b"\t", 3)
        if plain(name) is None:
            continue
        kind = KINDS.get(letter[:1], Kind.SPECIAL)
        entries.append(Entry(name, kind, size=number(size) if kind is Kind.FILE else None))
    return collected(entries, TIMES, sum(map(len, rows)))


def read_names(rows: Sequence[bytes]) -> Listing:
    """Names of one directory; of what kind they are is not told, and all of them look like files."""
    entries = [Entry(name, ambiguous=True) for name in rows if plain(name) is not None]
    return collected(entries, NAMES, sum(map(len, rows)))
