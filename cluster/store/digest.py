r"""A digest and the sums of every directory, brought up to date lazily from the leaves to the root.

Two sites whose digests of a directory are equal hold the same names with the same contents below it. The
format, also in `docs/design/store.md`: SHA-256 over `b"sideways directory 1\n"` and then, for each name in
the order of its bytes, 2 bytes length of the name, the name, and

    file        b"f", 8 bytes size, 32 bytes SHA-256
    directory   b"d", 32 bytes digest of that directory
    symlink     b"l", 2 bytes length of the target, the target

Numbers are big-endian. No times, modes or owners; a record that is doubted is left out until it is verified.
Blocking; the caller has the transaction.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter

from cluster.model import Held, split
from cluster.store import rows
from cluster.store.records import Totals

_BEGIN = b"sideways directory 1\n"
_NO_DIGEST = bytes(32)
EMPTY = hashlib.sha256(_BEGIN).digest()


def directory_digest(entries: Iterable[Held], below: Mapping[bytes, bytes]) -> bytes:
    """The digest of a directory with these entries, in any order; `below` has its subdirectories' digests by
    name. A subdirectory that is not in it counts as empty."""
    known = (held for held in entries if not held.unknown)
    parts = ((h.name, rows.CODES[h.kind], h.size, h.sha256, h.target) for h in known)
    return _digest(sorted(parts, key=itemgetter(0)), below)


def _digest(parts: Iterable[rows.Content], below: Mapping[bytes, bytes]) -> bytes:
    """The same of what stands in a directory, sorted by name."""
    told = [_BEGIN]
    for name, kind, size, sha256, target in parts:
        if kind == rows.FILE:
            told += len(name).to_bytes(2), name, b"f", size.to_bytes(8), sha256 or _NO_DIGEST
        elif kind == rows.DIRECTORY:
            told += len(name).to_bytes(2), name, b"d", below.get(name, EMPTY)
        elif kind == rows.SYMLINK:
            to = target or b""
            told += len(name).to_bytes(2), name, b"l", len(to).to_bytes(2), to
    return hashlib.sha256(b"".join(told)).digest()


@dataclass(slots=True)
class _Sums:
    files: int = 0
    bytes: int = 0
    directories: int = 0
    symlinks: int = 0
    newest: int | None = None

    def add(self, other: Totals) -> None:
        self.files += other.files
        self.bytes += other.bytes
        self.directories += other.directories
        self.symlinks += other.symlinks
        if other.newest is not None:
            self.newest = other.newest if self.newest is None else max(self.newest, other.newest)

    def totals(self) -> Totals:
        return Totals(self.files, self.bytes, self.directories, self.symlinks, self.newest)


def scrub_some(connection: sqlite3.Connection, limit: int = 200) -> bool:
    """Recompute up to `limit` stale directories; whether any may be left. A path sorts before what is below
    it, so that the last ones first is the leaves first."""
    stale = connection.execute(
        "SELECT id, path FROM directories WHERE digest IS NULL ORDER BY path DESC LIMIT ?", (limit,)
    ).fetchall()
    for identity, _ in stale:
        below: dict[bytes, bytes] = {}
        children = connection.execute(
            "SELECT path, digest FROM directories WHERE parent = ?", (identity,)
        ).fetchall()
        for path, digest in children:
            below[split(path)[1]] = digest
        value = _digest(rows.contents(connection, identity), below)
        sums = _own(connection, identity)
        for totals in _stored_below(connection, identity):
            sums.add(totals)
        connection.execute(
            """UPDATE directories SET digest = ?, files = ?, bytes = ?, directories = ?, symlinks = ?,
               newest = ? WHERE id = ?""",
            (value, sums.files, sums.bytes, sums.directories, sums.symlinks, sums.newest, identity),
        )
    return len(stale) == limit


def _own(connection: sqlite3.Connection, directory: int) -> _Sums:
    sums = _Sums()
    for kind, count, size, newest in connection.execute(
        "SELECT kind, count(*), sum(size), max(mtime) FROM entries WHERE directory = ? GROUP BY kind",
        (directory,),
    ):
        if kind == rows.FILE:
            sums.files, sums.bytes, sums.newest = count, size, newest
        elif kind == rows.DIRECTORY:
            sums.directories = count
        elif kind == rows.SYMLINK:
            sums.symlinks = count
    return sums


def _stored_below(connection: sqlite3.Connection, directory: int) -> list[Totals]:
    query = "SELECT files, bytes, directories, symlinks, newest FROM directories WHERE parent = ?"
    return [Totals(*row) for row in connection.execute(query, (directory,))]


def totals(connection: sqlite3.Connection, path: bytes) -> Totals:
    """What lies below a directory, right at this moment; nothing where it is not recorded."""
    row = connection.execute(
        "SELECT id, digest, files, bytes, directories, symlinks, newest FROM directories WHERE path = ?",
        (path,),
    ).fetchone()
    return Totals(0, 0, 0, 0, None) if row is None else _current(connection, row)


def _current(
    connection: sqlite3.Connection, row: tuple[int, bytes | None, int, int, int, int, int | None]
) -> Totals:
    identity, digest, *stored = row
    if digest is not None:
        return Totals(*stored)  # type: ignore[arg-type]  # five columns
    sums = _own(connection, identity)
    for child in connection.execute(
        """SELECT id, digest, files, bytes, directories, symlinks, newest
           FROM directories WHERE parent = ?""",
        (identity,),
    ).fetchall():
        sums.add(_current(connection, child))
    return sums.totals()


def stored_digest(connection: sqlite3.Connection, path: bytes) -> bytes | None:
    """None where the directory is not recorded, or its digest is not up to date."""
    row = connection.execute("SELECT digest FROM directories WHERE path = ?", (path,)).fetchone()
    if row is None or not rows.is_recorded(connection, path):
        return None
    digest: bytes | None = row[0]
    return digest
