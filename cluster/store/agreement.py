"""Which listings of the origin the records agree with: a token for each directory, and sums of them.

Two sites whose sums of a directory are equal agree, in it and in everything below it, with the very same
listings of the origin, as far as either agrees with any; `undecided` are the directories where this one does
not. A sum is kept up by what changes, so that it costs the depth of a change and never the size of the tree.

The term of a directory is BLAKE2b of 32 bytes over 2 bytes length of its path, the path and the token; a sum
is the sum of the terms modulo 2**256 (AdHash: Bellare and Micciancio, 1997). Numbers are big-endian.
Blocking; the caller has the transaction.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cluster.model import split

WIDTH = 32  # bytes of a term and of a sum
NOTHING = bytes(WIDTH)  # the sum where nothing agrees with anything
PAGE = 2000  # subdirectories told at once
_MODULUS = 2 ** (8 * WIDTH)


@dataclass(frozen=True, slots=True)
class Agreed:
    """One directory: its sum, its own term (None: it agrees with no listing), and the subdirectories whose
    sums are not NOTHING by name, ascending; `more` of them follow."""

    sum: bytes = NOTHING
    own: bytes | None = None
    below: tuple[tuple[bytes, bytes], ...] = ()
    more: bool = False


def token(connection: sqlite3.Connection, directory: int) -> bytes:
    """Of the listing that everything in a directory (its id) agrees with; empty where there is none."""
    row = connection.execute("SELECT token FROM directories WHERE id = ?", (directory,)).fetchone()
    return b"" if row is None or row[0] is None else bytes(row[0])


def told(connection: sqlite3.Connection, path: bytes) -> bytes:
    """The token of a directory; empty where nothing is known of it, or where it agrees with none."""
    row = connection.execute("SELECT token FROM directories WHERE path = ?", (path,)).fetchone()
    return row[0] or b"" if row else b""


def put(connection: sqlite3.Connection, tokens: Mapping[bytes, bytes]) -> None:
    """These directories agree with the listings of these tokens from now on; with none where it is empty.
    Directories that are not recorded are passed over."""
    changes: dict[bytes, int] = {}
    written = []
    for path, new in tokens.items():
        row = connection.execute("SELECT id, token FROM directories WHERE path = ?", (path,)).fetchone()
        if row is None or (row[1] or b"") == new:
            continue
        written.append((new or None, row[0]))
        change = (_number(path, new) if new else 0) - (_number(path, row[1]) if row[1] else 0)
        for above in _upwards(path):
            changes[above] = changes.get(above, 0) + change
    connection.executemany("UPDATE directories SET token = ? WHERE id = ?", written)
    _add(connection, changes)


def forget(connection: sqlite3.Connection, path: bytes) -> None:
    """Before a directory and everything below it are taken out of the records."""
    gone = int.from_bytes(_sum(connection, path))
    if gone and path:
        _add(connection, dict.fromkeys(_upwards(split(path)[0]), -gone))


def agreed(connection: sqlite3.Connection, path: bytes, known: bytes = b"", after: bytes = b"") -> Agreed:
    """What is told of a directory: without subdirectories to who knows its sum, else those with names above
    `after`."""
    row = connection.execute("SELECT id, token, agreed FROM directories WHERE path = ?", (path,)).fetchone()
    if row is None:
        return Agreed()
    identity, token, total = row
    total = total or NOTHING
    own = None if token is None else _term(path, token)
    if total == known:
        return Agreed(total, own)
    first = path + b"/" + after if path else after
    found = connection.execute(
        """SELECT path, agreed FROM directories WHERE parent = ? AND path > ? AND agreed IS NOT NULL
           ORDER BY path LIMIT ?""",
        (identity, first, PAGE + 1),
    ).fetchall()
    below = tuple((split(one)[1], value) for one, value in found[:PAGE])
    return Agreed(total, own, below, len(found) > PAGE)


def undecided(connection: sqlite3.Connection, limit: int) -> list[bytes]:
    """Up to `limit` directories of which no listing says that nothing is to be done there: they agree with
    none, or something of them failed, is missing at the origin, or is suspect."""
    found = connection.execute(
        """SELECT path FROM directories WHERE token IS NULL
           UNION SELECT d.path FROM failures f JOIN directories d ON d.id = f.directory
           UNION SELECT d.path FROM missing m JOIN directories d ON d.id = m.directory
           UNION SELECT d.path FROM suspects s JOIN directories d ON d.id = s.directory
           LIMIT ?""",
        (limit,),
    )
    return [path for (path,) in found]


def _add(connection: sqlite3.Connection, changes: Mapping[bytes, int]) -> None:
    written = []
    for path, change in changes.items():
        total = (int.from_bytes(_sum(connection, path)) + change) % _MODULUS
        written.append((total.to_bytes(WIDTH) if total else None, path))
    connection.executemany("UPDATE directories SET agreed = ? WHERE path = ?", written)


def _sum(connection: sqlite3.Connection, path: bytes) -> bytes:
    row = connection.execute("SELECT agreed FROM directories WHERE path = ?", (path,)).fetchone()
    return NOTHING if row is None or row[0] is None else bytes(row[0])


def _upwards(path: bytes) -> Iterator[bytes]:
    yield path
    while path:
        path = split(path)[0]
        yield path


def _term(path: bytes, token: bytes) -> bytes:
    return hashlib.blake2b(len(path).to_bytes(2) + path + token, digest_size=WIDTH).digest()


def _number(path: bytes, token: bytes) -> int:
    return int.from_bytes(_term(path, token))
