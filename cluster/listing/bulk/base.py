"""What the lists of whole trees have in common: lines in, pieces of directories out.

A list is read line by line and never as a whole. Its rows stay the bytes that they are: equal rows in two
lists say that nothing changed in a directory, and only those that differ are taken apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cluster.errors import NotAListing, UnsafeName
from cluster.model import Entry, Kind, Listing, checked_name, checked_path, shown, split, value

GATHERED = 8192  # rows that are handed on together, at most
MAX_LINE = 64 * 2**10  # bytes: a path, a link's target, escapes


@value
class Piece:
    """Some rows of one directory, and the paths of the directories that they name. `begins`: they are the
    first that the list has of it, where all of them stand together."""

    directory: bytes
    rows: list[bytes]
    below: list[bytes]
    begins: bool = False


class Form(Protocol):
    """One kind of list, while it is read.

    `facts`: its rows say what a listing of the directory would; else they only tell whether something
    changed, and a size. `ended`: it said itself that it was complete.
    """

    name: str
    facts: bool
    ended: bool

    def take(self, lines: Sequence[bytes]) -> Iterator[Piece]:
        """The lines, without their ends, in order. Raises NotAListing for one that is none of this kind."""
        ...

    def rest(self) -> Iterator[Piece]:
        """After the last line. Raises IncompleteListing where more was to come."""
        ...


class Gathered:
    """Rows that come in the order of paths, or in none, on their way into pieces."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows: dict[bytes, Piece] = {}
        self._count = 0

    def add(self, path: bytes, row: bytes, *, directory: bool) -> None:
        """`row` tells of `path`, which is not the root. Raises NotAListing where that is no path."""
        above, _ = split(place(path, self._path))
        piece = self._rows.get(above)
        if piece is None:
            piece = self._rows[above] = Piece(above, [], [])
        piece.rows.append(row)
        if directory:
            piece.below.append(path)
        self._count += 1

    def full(self) -> Iterator[Piece]:
        """All of them, once there are enough."""
        if self._count >= GATHERED:
            yield from self.all()

    def all(self) -> Iterator[Piece]:
        yield from self._rows.values()
        self._rows, self._count = {}, 0


def place(path: bytes, name: str) -> bytes:
    """The path of a row. Raises NotAListing: whoever writes such a one is not to be believed the rest."""
    try:
        return checked_path(path)
    except UnsafeName as error:
        raise NotAListing(name, f"a row of {error}") from None


class Numbered:
    """A number for whoever tells of a line."""

    def __init__(self, path: str) -> None:
        self.path, self.number = path, 0

    def strange(self, line: bytes, form: str) -> NotAListing:
        return NotAListing(self.path, f"line {self.number} is none of {form}: {shown(line[:80])!r}")


def collected(rows: Sequence[Entry], form: str, size: int) -> Listing:
    """A listing of rows whose names have been told once; what is no name is left out by the caller."""
    found = {entry.name: entry for entry in rows}
    return Listing(tuple(found[name] for name in sorted(found)), format=form, size=size)


def plain(name: bytes) -> bytes | None:
    """The name, or None where it is none."""
    try:
        return checked_name(name)
    except UnsafeName:
        return None


KINDS = {b"f": Kind.FILE, b"-": Kind.FILE, b"d": Kind.DIRECTORY, b"l": Kind.SYMLINK}
"""By the letter of `find -printf %y` and of Fedora's lists; all others are special."""
