"""`ls -lR`: a header for each directory, its rows, an empty line.

GNU `ls` writes `.:` first and then `./pool:`, BSD `ls` and vsftpd no header for the root, ProFTPD `pool:`;
who named a folder has that in every header. A name may hold line breaks, and with them what looks like a
header: where headers hold a slash, no name can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.errors import NotAListing
from cluster.listing.bulk.base import GATHERED, Numbered, Piece, place
from cluster.listing.ftp.unix import is_total, unix
from cluster.listing.rows import Names
from cluster.model import Kind, Listing, join

NAME = "ls-lR"


def is_row(line: bytes) -> bool:
    """Whether a line may be the first of a directory: its sum, or a row."""
    return bool(is_total(line)) or isinstance(unix([line], Names("", 1), 0, 0), Listing)


class LsLR:
    """See `Form`. Says nowhere that it has ended."""

    name, facts, ended = NAME, True, False

    def __init__(self, path: str, now: int) -> None:
        """`now`: ns since 1970 when the list was made, for rows without a year."""
        self._lines, self._now = Numbered(path), now
        self._base: bytes | None = None
        self._directory: bytes | None = None  # None: before the first row and header
        self._rows: list[bytes] = []
        self._below: list[bytes] = []
        self._begins = True
        self._after_blank = True

    def take(self, lines: Sequence[bytes]) -> Iterator[Piece]:
        counted, rows = self._lines, self._rows
        for line in lines:
            counted.number += 1
            if not line:
                self._after_blank = True
            elif self._after_blank and line[-1:] == b":":
                yield from self.rest()
                self._begin(line[:-1])
                rows, self._after_blank = self._rows, False
            else:
                if self._directory is None:
                    self._directory, self._base = b"", b""
                self._after_blank = False
                if line[:1] == b"d":
                    self._note(line)
                rows.append(line)
                if len(rows) >= GATHERED:
                    yield self._piece()
                    rows = self._rows

    def rest(self) -> Iterator[Piece]:
        if self._directory is not None:
            yield self._piece()

    def _piece(self) -> Piece:
        assert self._directory is not None
        rows = [row for row in self._rows if not is_total(row)]
        piece = Piece(self._directory, rows, self._below, self._begins)
        self._rows, self._below, self._begins = [], [], False
        return piece

    def _begin(self, header: bytes) -> None:
        self._directory, self._begins = self._place(header), True

    def _place(self, header: bytes) -> bytes:
        if self._base is None:
            self._base = header.rstrip(b"/") or b"/"
            return b""
        if self._base == b"":
            path = header.removeprefix(b"./")
        elif header.startswith(self._base.rstrip(b"/") + b"/"):
            path = header[len(self._base.rstrip(b"/")) + 1 :]
        else:
            raise self._lines.strange(header + b":", "the headers below the first one")
        if not path:
            raise self._lines.strange(header + b":", "directories")
        return place(path, self._lines.path)

    def _note(self, line: bytes) -> None:
        """The directory that this row tells of."""
        found = unix([line], Names(self._lines.path, 1), self._now, 0)
        if isinstance(found, Listing):
            assert self._directory is not None
            self._below.extend(
                join(self._directory, one.name) for one in found.entries if one.kind is Kind.DIRECTORY
            )


def read(rows: Sequence[bytes], *, now: int, limit: int, path: str) -> Listing:
    """One directory's rows. Raises NotAListing where one of them is none, TooLarge beyond `limit`."""
    names = Names(path, limit)
    if not rows:
        return names.listing(NAME, 0, zone_known=True)
    found = unix(list(rows), names, now, sum(map(len, rows)))
    if isinstance(found, int):
        raise NotAListing(path, f"a row that is none: {rows[found][:80]!r}")
    return found
