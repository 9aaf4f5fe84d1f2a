"""Bytes that are on disk already: files nobody recorded, and the beginnings of files. Blocking."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace

from cluster.errors import StoreError
from cluster.model import Entry, Held, Kind, Stamp, join
from cluster.store import rows
from cluster.store.grown import Grown, Run
from cluster.store.staging import Partial
from cluster.store.tree import Staged, Tree

FOUND = "found on disk"  # by what an adopted file was accepted


def examine(tree: Tree, directory: bytes, entry: Entry, known: Held | None) -> tuple[Held, bytes] | None:
    """Hash a public file: its record and its block hashes, if it is the listed version.

    That is so where its content is what we recorded for this very listing row; or where it has the listed
    size, exactly, and the listed time. A rounded size or an untold time proves nothing.
    """
    found = tree.hash_file(join(directory, entry.name))
    if found is None:
        return None
    sha256, blocks, stat = found
    ours = known is not None and known.kind is Kind.FILE and known.sha256 == sha256
    if ours and known is not None and known.row == entry.row:
        mtime = known.mtime
    elif stat.size == entry.size and entry.mtime is not None and entry.mtime.agrees(Stamp(stat.mtime)):
        mtime = entry.mtime
    else:
        return None
    base = known if ours and known is not None else Held(entry.name, Kind.FILE, source="disk", verified=FOUND)
    return (
        replace(
            base,
            size=stat.size,
            sha256=sha256,
            mtime=mtime,
            row=entry.row,
            mode=entry.mode if entry.mode is not None else base.mode,
            uid=entry.uid if entry.uid is not None else base.uid,
            gid=entry.gid if entry.gid is not None else base.gid,
            link=entry.link,
            unknown=False,
            copied=base.copied or stat.mtime // 10**9,
            disk_mtime=stat.mtime,
            inode=stat.inode,
        ),
        blocks,
    )


def keep_blocks(
    connection: sqlite3.Connection, ids: rows.Ids, directory: bytes, name: bytes, blocks: bytes
) -> None:
    connection.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", (ids.of(directory), name, blocks))


def staged_range(tree: Tree, staged: Staged, start: int, length: int) -> bytes:
    """Bytes of a complete temporary. Raises StoreError."""
    try:
        descriptor = tree.temporaries.read(staged.temporary)
    except OSError as error:
        raise StoreError(f"{os.fsdecode(staged.temporary)}: {error.strerror}") from error
    try:
        parts = []
        while length > 0 and (part := os.pread(descriptor, length, start)):
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


# -- partials


_COLUMNS = "temporary, path, etag, size, length, sha256"
BROUGHT = 2**20  # bytes of a file that another program has begun to bring, to be gone on with
KEPT = 7 * 86_400  # s; an attempt that nobody went on with


def partial(connection: sqlite3.Connection, path: bytes) -> Partial | None:
    query = f"SELECT {_COLUMNS} FROM partials WHERE path = ?"  # noqa: S608
    row = connection.execute(query, (path,)).fetchone()
    return None if row is None else Partial(*row)


def take_partial(connection: sqlite3.Connection, path: bytes) -> Partial | None:
    """What arrived of an earlier attempt. It belongs to the caller from now on."""
    found = partial(connection, path)
    connection.execute("DELETE FROM partials WHERE path = ?", (path,))
    return found


def keep_partial(connection: sqlite3.Connection, kept: Partial, now: int) -> bytes | None:
    """Returns the temporary that it replaces, if any."""
    before = take_partial(connection, kept.path)
    connection.execute(
        f"INSERT INTO partials ({_COLUMNS}, at) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (kept.temporary, kept.path, kept.etag, kept.size, kept.length, kept.sha256, now),
    )
    return before.temporary if before is not None and before.temporary != kept.temporary else None


def rescue(connection: sqlite3.Connection, tree: Tree, now: int) -> None:
    """What another program had begun to bring of large files when this one died is kept for the next attempt
    in the place of what there was before."""
    for path, temporary, length in tree.rescue(BROUGHT):
        keep_partial(connection, Partial(temporary, path, "", None, length, b""), now)


def partial_names(connection: sqlite3.Connection, now: int) -> set[bytes]:
    """Temporaries that a later attempt goes on with; forgets those that are too old."""
    connection.execute("DELETE FROM partials WHERE at < ?", (now - KEPT,))
    for (path,) in connection.execute("SELECT path FROM growing WHERE at < ?", (now - KEPT,)).fetchall():
        forget_growing(connection, path)
    query = """SELECT temporary FROM partials UNION ALL SELECT temporary FROM growing
               UNION ALL SELECT temporary FROM waiting"""
    return {name for (name,) in connection.execute(query)}


def begun(connection: sqlite3.Connection) -> bool:
    """Whether anything of a file is here that is not all of it."""
    query = "SELECT EXISTS (SELECT 1 FROM partials) OR EXISTS (SELECT 1 FROM growing)"
    return bool(connection.execute(query).fetchone()[0])


def forget_begun(connection: sqlite3.Connection) -> list[bytes]:
    """The temporaries of all that was begun; they are nobody's from now on."""
    query = "SELECT temporary FROM partials UNION ALL SELECT temporary FROM growing"
    names = [name for (name,) in connection.execute(query)]
    for table in ("partials", "growing", "grown"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608
    return names


# -- what grows by parts


def growing(connection: sqlite3.Connection, path: bytes) -> Grown | None:
    """What is noted of the parts of a file."""
    query = "SELECT temporary, path, etag, size FROM growing WHERE path = ?"
    row = connection.execute(query, (path,)).fetchone()
    if row is None:
        return None
    temporary, _, etag, size = row
    query = "SELECT first, source, hashes FROM grown WHERE path = ? ORDER BY first"
    runs = tuple(Run(*run) for run in connection.execute(query, (path,)))
    return Grown(temporary, path, etag, size, runs)


def note_growing(connection: sqlite3.Connection, new: Grown, now: int) -> None:
    """Its runs, in addition to those that are noted of the same temporary."""
    found = connection.execute("SELECT temporary FROM growing WHERE path = ?", (new.path,)).fetchone()
    if found is not None and found[0] != new.temporary:
        forget_growing(connection, new.path)
    connection.execute(
        "INSERT OR REPLACE INTO growing VALUES (?, ?, ?, ?, ?)",
        (new.path, new.temporary, new.etag, new.size, now),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO grown VALUES (?, ?, ?, ?)",
        [(new.path, run.first, run.source, run.hashes) for run in new.runs],
    )


def forget_growing(connection: sqlite3.Connection, path: bytes) -> bytes | None:
    """The temporary that is nobody's from now on, if there is one."""
    found: tuple[bytes] | None = connection.execute(
        "SELECT temporary FROM growing WHERE path = ?", (path,)
    ).fetchone()
    connection.execute("DELETE FROM growing WHERE path = ?", (path,))
    connection.execute("DELETE FROM grown WHERE path = ?", (path,))
    return found[0] if found is not None else None
