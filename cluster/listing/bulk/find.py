r"""What `find` prints: `-ls`, and `-printf` with a time, a kind, a size and the path.

    find . -ls > find-ls
    find . -printf '%T@ %y %s %P\n'        the first three in any order, blanks or tabs between

`-ls` prints rows of `ls -l` behind inode and blocks, with odd bytes of names escaped as in C (GNU findutils);
`-printf` into a file escapes nothing, and leaves out where a link leads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cluster.errors import NotAListing
from cluster.listing.bulk import ls
from cluster.listing.bulk.base import KINDS, Gathered, Numbered, Piece, collected, plain
from cluster.listing.ftp.lines import number
from cluster.model import SECOND, Entry, Kind, Listing, Stamp, split

LS, PRINTF = "find -ls", "find -printf"

is_ls = re.compile(rb" *\d+ +\d+ +([-dlbcpsD][-rwxsStT]{9}[.+@]? .*)", re.DOTALL).fullmatch
_ESCAPED = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_BROKEN = b"!"  # makes a row one that nobody reads: the directory is asked for at the origin
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"a": b"\a"}
_FIELD = {
    "time": re.compile(rb"-?\d+\.\d+").fullmatch,
    "kind": re.compile(rb"[fdlbcpsDU?]").fullmatch,
    "size": re.compile(rb"\d+").fullmatch,
}


class FindLs:
    """See `Form`. Says nowhere that it has ended."""

    name, facts, ended = LS, True, False

    def __init__(self, path: str, now: int) -> None:
        self._lines, self._gathered = Numbered(path), Gathered(path)
        self._base: bytes | None = None

    def take(self, lines: Sequence[bytes]) -> Iterator[Piece]:
        for line in lines:
            self._lines.number += 1
            found = is_ls(line)
            if found is None:
                if line:
                    raise self._lines.strange(line, "the rows of find -ls")
                continue
            self._row(found[1])
        yield from self._gathered.full()

    def rest(self) -> Iterator[Piece]:
        yield from self._gathered.all()

    def _row(self, row: bytes) -> None:
        if self._base is None:  # what was asked for comes first
            self._base = row.rpartition(b" ")[2].rstrip(b"/") or b"/"
            if row[:1] != b"d":
                raise self._lines.strange(row, "a directory, which comes first")
            return
        begin = row.find(b" " + self._base.rstrip(b"/") + b"/")
        if begin < 0:
            raise self._lines.strange(row, "what lies below the first row")
        told = row[begin + 2 + len(self._base.rstrip(b"/")) :]
        path, arrow, target = told.partition(b" -> ") if row[:1] == b"l" else (told, b"", b"")
        path = unescaped(path)
        # With the name alone, and nothing escaped, it is a row of `ls -l`: but not with a line break in it.
        clean = split(path)[1] + arrow + unescaped(target)
        kept = _BROKEN + row if b"\n" in clean else row[: begin + 1] + clean
        self._gathered.add(path, kept, directory=row[:1] == b"d")


class FindPrintf:
    """See `Form`. Says nowhere that it has ended."""

    name, facts, ended = PRINTF, True, False

    def __init__(self, path: str, now: int) -> None:
        self._lines, self._gathered = Numbered(path), Gathered(path)
        self._order: tuple[str, ...] = ()
        self._mark = b" "
        self._base = b""

    def take(self, lines: Sequence[bytes]) -> Iterator[Piece]:
        for line in lines:
            self._lines.number += 1
            if line:
                self._row(line)
        yield from self._gathered.full()

    def rest(self) -> Iterator[Piece]:
        yield from self._gathered.all()

    def _row(self, line: bytes) -> None:
        first = not self._order
        if first:
            self._order, self._mark = order_of(line)
        fields = line.split(self._mark, 3)
        told = dict(zip(self._order, fields, strict=False))
        right = len(fields) == 4 and all(_FIELD[name](told[name]) for name in self._order)
        if not right:
            raise self._lines.strange(line, "time, kind, size and path")
        path = fields[3].rstrip(b"/")
        if first and path and told["kind"] == b"d":
            self._base = path
            return
        if self._base and path.startswith(self._base + b"/"):
            path = path[len(self._base) + 1 :]
        elif self._base:
            raise self._lines.strange(line, "what lies below the first row")
        if path:
            row = b"\t".join((told["time"], told["kind"], told["size"], split(path)[1]))
            self._gathered.add(path, row, directory=told["kind"] == b"d")


def order_of(line: bytes) -> tuple[tuple[str, ...], bytes]:
    """Which field stands where, and what is between them; nothing where this is no such row."""
    for mark in (b"\t", b" "):
        fields = line.split(mark, 3)
        if len(fields) == 4:
            order = tuple(next((n for n, is_one in _FIELD.items() if is_one(f)), "") for f in fields[:3])
            if set(order) == set(_FIELD):
                return order, mark
    return (), b""


def unescaped(name: bytes) -> bytes:
    """As `find -ls` prints it, in bytes."""
    return _ESCAPED.sub(_byte, name) if b"\\" in name else name


def _byte(found: re.Match[bytes]) -> bytes:
    if len(found[1]) == 3:
        return bytes((int(found[1], 8) & 255,))
    return _LETTERS.get(found[1], found[1])


def read_ls(rows: Sequence[bytes], *, now: int, limit: int, path: str) -> Listing:
    """One directory's rows, see `ls.read`."""
    return ls.read(rows, now=now, limit=limit, path=path)


def read_printf(rows: Sequence[bytes], *, path: str) -> Listing:
    """One directory's rows. Raises NotAListing for what is no name."""
    entries = []
    for row in rows:
        time, letter, size, name = row.split(b"\t", 3)
        if plain(name) is None:
            raise NotAListing(path, f"a row that is none: {row[:80]!r}")
        kind = KINDS.get(letter, Kind.SPECIAL)
        whole, _, fraction = time.partition(b".")
        digits = fraction[:9]
        ns = int(whole) * SECOND + (-1 if time[:1] == b"-" else 1) * int(digits.ljust(9, b"0"))
        stamp = Stamp(ns, 10 ** (9 - len(digits)))
        entries.append(Entry(name, kind, size=number(size) if kind is Kind.FILE else None, mtime=stamp))
    return collected(entries, PRINTF, sum(map(len, rows)))
