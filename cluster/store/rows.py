"""Rows of `STATE/MIRROR.db` to the model's values and back, and the questions that are asked of them.

Blocking, on a connection that the caller may use. Nothing here writes but `Ids.of`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from sys import intern
from typing import Any

import msgpack  # type: ignore[import-untyped]

from cluster.model import Entry, Failure, Held, Kind, Row, Skipped, Stamp, join, split
from cluster.store import agreement
from cluster.store.schema import ABOVE, ROOT

KINDS = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.SPECIAL)
FILE, DIRECTORY, SYMLINK, SPECIAL = range(4)
CODES = {kind: code for code, kind in enumerate(KINDS)}

COLUMNS = "name, kind, size, sha256, mtime, link, unknown, more"
_SETTLED, _PRIVATE = 1, 2
_TARGET, _DISK_MTIME = 5, 11  # in `more`; the inode comes last
_NAMES = 64  # of one question: few sizes of statements, which SQLite keeps

Content = tuple[bytes, int, int, bytes | None, bytes | None]
"""Name, code of the kind, size, SHA-256, target: what the digest of a directory is made of."""

Told = tuple[bytes, int, int, bytes | None, int | None, int, bool, bytes | None, int, str, str]
"""Name, code of the kind, size, SHA-256, mtime (ns), whether it is doubted, whether it is private, target,
when it was copied (s), from where, and what made its bytes acceptable."""

Packed = tuple[bytes, int, int, bytes | None, int | None, str | None, int, bytes]


def pack(held: Held) -> Packed:
    """The values of COLUMNS."""
    mtime, row = held.mtime, held.row
    told = row.mtime is mtime or row.mtime == mtime
    plain = told and row.size == held.size and row.rounded is None
    more = msgpack.packb(
        (
            mtime.precision if mtime else 0,
            None if plain else pack_row(row),
            held.mode,
            held.uid,
            held.gid,
            held.target,
            held.etag,
            held.settled * _SETTLED | held.private * _PRIVATE,
            held.source,
            held.verified,
            held.copied,
            held.disk_mtime,
            held.inode,
        ),
        unicode_errors="surrogateescape",
    )
    code = CODES[held.kind]
    ns = mtime.ns if mtime else None
    return held.name, code, held.size, held.sha256, ns, held.link, int(held.unknown), more


def unpack(columns: tuple[Any, ...]) -> Held:
    """The record whose COLUMNS these are."""
    name, code, size, sha256, ns, link, unknown, more = columns
    (
        precision,
        row,
        mode,
        uid,
        gid,
        target,
        etag,
        flags,
        source,
        verified,
        copied,
        disk_mtime,
        inode,
    ) = _unpacked(more)
    mtime = None if ns is None else Stamp(ns, precision)
    return Held(
        name,
        KINDS[code],
        size,
        sha256,
        mtime,
        Row(size, None, mtime) if row is None else unpack_row(row),
        mode,
        uid,
        gid,
        target,
        link,
        etag,
        bool(flags & _SETTLED),
        bool(unknown),
        intern(source),
        intern(verified),
        copied,
        disk_mtime,
        inode,
        bool(flags & _PRIVATE),
    )


def unpack_whole(packed: bytes) -> Held:
    """The record whose COLUMNS were packed together."""
    return unpack(msgpack.unpackb(packed, use_list=False, unicode_errors="surrogateescape"))


def _unpacked(more: bytes) -> Any:  # noqa: ANN401  # as `pack` made it
    return msgpack.unpackb(more, unicode_errors="surrogateescape")


def pack_row(row: Row) -> tuple[int | None, str | None, int | None, int]:
    return row.size, row.rounded, row.mtime.ns if row.mtime else None, row.mtime.precision if row.mtime else 0


def unpack_row(packed: list[Any]) -> Row:
    size, rounded, ns, precision = packed
    return Row(size, rounded, None if ns is None else Stamp(ns, precision))


def pack_entry(entry: Entry) -> bytes:
    """A listed entry, to be fetched later."""
    return msgpack.packb(  # type: ignore[no-any-return]
        (
            entry.name,
            CODES[entry.kind],
            pack_row(entry.row),
            entry.mode,
            entry.uid,
            entry.gid,
            entry.target,
            entry.link,
            entry.links,
            entry.ambiguous,
        ),
        unicode_errors="surrogateescape",
    )


def unpack_entry(packed: bytes) -> Entry:
    name, code, row, *rest = msgpack.unpackb(packed, unicode_errors="surrogateescape")
    told = unpack_row(row)
    return Entry(name, KINDS[code], told.size, told.rounded, told.mtime, *rest)


def text(message: str) -> str:
    """What SQLite can store: a lone surrogate, from a name in a message, is written as its escape."""
    return message.encode("utf-8", "backslashreplace").decode()


def below(path: bytes) -> tuple[bytes, bytes]:
    """Every path below `path` lies in this half-open range. Not for the root."""
    return path + b"/", path + b"0"


def ancestors(path: bytes) -> Iterator[bytes]:
    """`path` itself and everything above it, up to the root."""
    yield path
    while path:
        path = split(path)[0]
        yield path


class Ids:
    """Ids of directories by path, for the one writer. Forgets all on rollback and deletion."""

    LIMIT = 20_000

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[bytes, int] = {b"": ROOT}

    def forget(self) -> None:
        self._known = {b"": ROOT}

    def of(self, path: bytes) -> int:
        """Its id; made, with those above it, where the path is new."""
        known = self._known.get(path)
        if known is not None:
            return known
        found = directory_id(self._connection, path)
        if found is None:
            parent = self.of(split(path)[0])
            cursor = self._connection.execute(
                "INSERT INTO directories (path, parent) VALUES (?, ?)", (path, parent)
            )
            found = cursor.lastrowid
            assert found is not None
        if len(self._known) >= self.LIMIT:
            self.forget()
        self._known[path] = found
        return found


def directory_id(connection: sqlite3.Connection, path: bytes) -> int | None:
    row = connection.execute("SELECT id FROM directories WHERE path = ?", (path,)).fetchone()
    return None if row is None else int(row[0])


def set_looks(connection: sqlite3.Connection, ids: Ids, seen: Mapping[bytes, tuple[bytes, bytes]]) -> None:
    """See `MirrorStore.seen`. A directory in which anything has been recorded since has no such token now."""
    connection.executemany(
        "UPDATE directories SET looks = ? WHERE id = ? AND token = ?",
        [(looks, ids.of(path), token) for path, (token, looks) in seen.items()],
    )


def void_looks(connection: sqlite3.Connection, directories: Iterable[int]) -> None:
    """Records of these directories change: what their disk looked like before says nothing about them."""
    connection.executemany(
        "UPDATE directories SET looks = NULL WHERE id = ? AND looks IS NOT NULL", [(d,) for d in directories]
    )


def is_recorded(connection: sqlite3.Connection, path: bytes) -> bool:
    """Whether we hold this directory: it has a record of its own, or names in it. The root always is."""
    if not path:
        return True
    identity = directory_id(connection, path)
    if identity is None:
        return False
    found = held(connection, path)
    if found is not None and found.kind is Kind.DIRECTORY:
        return True
    query = "SELECT 1 FROM entries WHERE directory = ? LIMIT 1"
    return connection.execute(query, (identity,)).fetchone() is not None


def entries(connection: sqlite3.Connection, directory: int) -> dict[bytes, Held]:
    """Everything recorded in a directory, by name and sorted by it."""
    found = connection.execute(
        f"SELECT {COLUMNS} FROM entries WHERE directory = ? ORDER BY name",  # noqa: S608
        (directory,),
    )
    return {columns[0]: unpack(columns) for columns in found}


def told(connection: sqlite3.Connection, directory: int) -> Iterator[Told]:
    """What others are told of everything recorded in a directory, sorted by name."""
    found = connection.execute(
        f"SELECT {COLUMNS} FROM entries WHERE directory = ? ORDER BY name",  # noqa: S608
        (directory,),
    )
    return map(told_of, found)


def told_of(columns: tuple[Any, ...]) -> Told:
    """Of the record whose COLUMNS these are: a quarter of what `unpack` costs."""
    name, code, size, sha256, ns, _, unknown, more = columns
    _, _, _, _, _, target, _, flags, source, verified, copied, *_ = _unpacked(more)
    return name, code, size, sha256, ns, unknown, bool(flags & _PRIVATE), target, copied, source, verified


def contents(connection: sqlite3.Connection, directory: int) -> Iterator[Content]:
    """What stands in a directory, sorted by name, without what is doubted."""
    found = connection.execute(
        """SELECT name, kind, size, sha256, CASE kind WHEN ? THEN more END FROM entries
           WHERE directory = ? AND NOT unknown ORDER BY name""",
        (SYMLINK, directory),
    )
    for name, kind, size, sha256, more in found:
        yield name, kind, size, sha256, None if more is None else _unpacked(more)[_TARGET]


def directories_in(connection: sqlite3.Connection, directory: int) -> list[Held]:
    """The records of the directories in a directory, sorted by name."""
    found = connection.execute(
        f"SELECT {COLUMNS} FROM entries WHERE directory = ? AND kind = ? ORDER BY name",  # noqa: S608
        (directory, DIRECTORY),
    )
    return [unpack(columns) for columns in found]


def files_on_disk(connection: sqlite3.Connection, directory: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Of every file in a directory: name, size, time (ns) and inode, as they were on disk; what is doubted
    has no inode."""
    query = "SELECT name, size, unknown, more FROM entries WHERE directory = ? AND kind = ?"
    for name, size, unknown, more in connection.execute(query, (directory, FILE)):
        disk_mtime, inode = _unpacked(more)[_DISK_MTIME:]
        yield name, size, disk_mtime, 0 if unknown else inode


def no_files(connection: sqlite3.Connection, directory: int) -> list[Held]:
    """The records of everything else in a directory."""
    found = connection.execute(
        f"SELECT {COLUMNS} FROM entries WHERE directory = ? AND kind <> ?",  # noqa: S608
        (directory, FILE),
    )
    return [unpack(columns) for columns in found]


def page(connection: sqlite3.Connection, directory: int, after: bytes | None, limit: int) -> list[Held]:
    found = connection.execute(
        f"SELECT {COLUMNS} FROM entries WHERE directory = ? AND name > ? ORDER BY name LIMIT ?",  # noqa: S608
        (directory, after or b"", limit),
    )
    return [unpack(columns) for columns in found]


def named(connection: sqlite3.Connection, directory: bytes, names: Sequence[bytes]) -> dict[bytes, Held]:
    """The records of these names of a directory, of those that have one."""
    identity = directory_id(connection, directory)
    found: dict[bytes, Held] = {}
    for at in range(0, len(names) if identity is not None else 0, _NAMES):
        some = names[at : at + _NAMES]
        places = ", ".join("?" * len(some))
        query = f"SELECT {COLUMNS} FROM entries WHERE directory = ? AND name IN ({places})"  # noqa: S608
        told = connection.execute(query, (identity, *some))
        found.update((columns[0], unpack(columns)) for columns in told)
    return found


def held(connection: sqlite3.Connection, path: bytes) -> Held | None:
    """The record of one path; that of the root is there once its attributes were published."""
    if path:
        directory, name = split(path)
        query = f"""SELECT {COLUMNS} FROM entries WHERE name = ?
                    AND directory = (SELECT id FROM directories WHERE path = ?)"""  # noqa: S608
        row = connection.execute(query, (name, directory)).fetchone()
    else:
        query = f"SELECT {COLUMNS} FROM entries WHERE directory = ? AND name = x''"  # noqa: S608
        row = connection.execute(query, (ABOVE,)).fetchone()
    return None if row is None else unpack(row)


def blocks(connection: sqlite3.Connection, path: bytes) -> bytes:
    """The BLAKE3 of each 8 MiB block of a file, concatenated; empty for files up to 8 MiB."""
    directory, name = split(path)
    row = connection.execute(
        """SELECT hashes FROM blocks WHERE name = ?
           AND directory = (SELECT id FROM directories WHERE path = ?)""",
        (name, directory),
    ).fetchone()
    return b"" if row is None else bytes(row[0])


def by_link(connection: sqlite3.Connection, link: str) -> bytes | None:
    row = connection.execute(
        """SELECT d.path, e.name FROM entries e JOIN directories d ON d.id = e.directory
           WHERE e.link = ? AND e.kind = 0 AND e.unknown = 0
           AND NOT EXISTS (SELECT 1 FROM suspects s WHERE s.directory = e.directory AND s.name = e.name)
           LIMIT 1""",
        (link,),
    ).fetchone()
    return None if row is None else join(row[0], row[1])


def linked(connection: sqlite3.Connection, link: str) -> list[tuple[bytes, Held]]:
    """Every name that is recorded with this hard-link group: (directory, record)."""
    columns = ", ".join("e." + column for column in COLUMNS.split(", "))
    found = connection.execute(
        f"""SELECT d.path, {columns} FROM entries e JOIN directories d ON d.id = e.directory
            WHERE e.link = ? AND e.kind = 0""",  # noqa: S608
        (link,),
    )
    return [(path, unpack(tuple(record))) for path, *record in found]


def skipped(connection: sqlite3.Connection, directory: int) -> tuple[Skipped, ...]:
    return tuple(
        Skipped(name, KINDS[kind], reason, size, None if ns is None else Stamp(ns, precision))
        for name, kind, reason, size, ns, precision in connection.execute(
            "SELECT name, kind, reason, size, mtime, precision FROM skipped WHERE directory = ?", (directory,)
        )
    )


def failures(connection: sqlite3.Connection, directory: int) -> tuple[Failure, ...]:
    query = "SELECT name, error, at, since FROM failures WHERE directory = ?"
    return tuple(Failure(*row) for row in connection.execute(query, (directory,)))


def missing(connection: sqlite3.Connection, directory: int) -> dict[bytes, int]:
    """Names that the origin no longer shows, with when they were first missed (s)."""
    return dict(connection.execute("SELECT name, first FROM missing WHERE directory = ?", (directory,)))


def removals(connection: sqlite3.Connection) -> list[bytes]:
    """Deleted in the records; still to be moved to the trash. Almost always empty."""
    return [path for (path,) in connection.execute("SELECT path FROM removals ORDER BY path")]


def mark_changed(connection: sqlite3.Connection, paths: Iterable[bytes]) -> None:
    """The names in these directories changed: their digests, sums and status files, and those of everything
    above them, are out of date; and no listing is known any more that these directories agree with."""
    changed = set(paths)
    every = {above for path in changed for above in ancestors(path)}
    connection.executemany(
        "UPDATE directories SET digest = NULL, dirty = dirty + 1 WHERE path = ?", [(path,) for path in every]
    )
    agreement.put(connection, dict.fromkeys(changed, b""))
    connection.executemany("UPDATE directories SET looks = NULL WHERE path = ?", [(p,) for p in changed])


def mark_noted(connection: sqlite3.Connection, directories: Iterable[int]) -> None:
    """What is said about these directories changed, not what they hold: only their status files are old."""
    connection.executemany(
        "UPDATE directories SET dirty = dirty + 1 WHERE id = ?", [(d,) for d in directories]
    )
