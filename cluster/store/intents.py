"""What a batch is about to do, committed before it does it; and what it did, committed afterwards.

An intent holds everything that recovery needs to tell, name by name, whether the disk has the new version.
Blocking; the caller has the transaction.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import msgpack  # type: ignore[import-untyped]

from cluster.model import Held, Kind, Stamp, join, split, value
from cluster.store import rows
from cluster.store.schema import ABOVE
from cluster.store.tree import Change

PUBLISH, DELETE = 0, 1  # journal.action
ACTIONS = ("publish", "delete")


class Way(enum.IntEnum):
    """How a name gets its new version, and so how one sees that it has it."""

    RENAMED = 0
    LINKED = 1
    MADE = 2
    ATTRIBUTES = 3


@value
class Intended:
    """One change of an open intent. `inode` is what the name will have, 0 where that was not known; `packed`
    is what `rows.pack` makes of `held`."""

    directory: bytes
    held: Held
    packed: rows.Packed
    way: Way
    inode: int
    blocks: bytes | None  # None: what is recorded of them stays
    link_to: bytes

    @property
    def path(self) -> bytes:
        return join(self.directory, self.held.name)


def intended(connection: sqlite3.Connection, change: Change) -> Intended:
    staged, held = change.staged, change.held
    packed = rows.pack(held)
    if staged is not None:
        return Intended(change.directory, held, packed, Way.RENAMED, staged.inode, staged.blocks, b"")
    if change.link_to is not None:
        blocks = rows.blocks(connection, change.link_to)
        return Intended(change.directory, held, packed, Way.LINKED, 0, blocks, change.link_to)
    if change.attributes and held.kind is Kind.FILE:
        known = held if held.inode else change.previous
        inode = known.inode if known else 0
        return Intended(change.directory, held, packed, Way.ATTRIBUTES, inode, None, b"")
    return Intended(change.directory, held, packed, Way.MADE, 0, None, b"")


def open_intent(connection: sqlite3.Connection, batch: Iterable[Intended], now: int) -> int:
    """Returns its id."""
    told = [(one.directory, one.packed, int(one.way), one.inode, one.blocks, one.link_to) for one in batch]
    whole = msgpack.packb(told, unicode_errors="surrogateescape")
    cursor = connection.execute("INSERT INTO intents (at, batch) VALUES (?, ?)", (now, whole))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def close_intent(connection: sqlite3.Connection, identity: int) -> None:
    connection.execute("DELETE FROM intents WHERE id = ?", (identity,))


def open_intents(connection: sqlite3.Connection) -> list[tuple[int, list[Intended]]]:
    """What was begun and not concluded, oldest first."""
    found = []
    for identity, packed in connection.execute("SELECT id, batch FROM intents ORDER BY id").fetchall():
        batch = msgpack.unpackb(packed, use_list=False, unicode_errors="surrogateescape")
        found.append(
            (
                identity,
                [
                    Intended(directory, rows.unpack(columns), columns, Way(way), inode, blocks, link_to)
                    for directory, columns, way, inode, blocks, link_to in batch
                ],
            )
        )
    return found


def coming(connection: sqlite3.Connection, path: bytes) -> Held | None:
    """The record that a file will have when the batch that has renamed it, or is about to, is concluded."""
    for _, batch in reversed(open_intents(connection)):
        for one in batch:
            if one.way is Way.RENAMED and one.path == path:
                return one.held
    return None


# -- what is true afterwards

Published = tuple[bytes, Held, rows.Packed, bytes | None]
"""Directory, record, what `rows.pack` makes of it, block hashes; None where those that are recorded stay."""


def record(
    connection: sqlite3.Connection,
    ids: rows.Ids,
    published: Sequence[Published],
    now: int,
    *,
    quiet: Iterable[tuple[bytes, Held]] = (),
) -> None:
    """Names of the public tree have new versions. With journal.

    `quiet` are records of directories whose own attributes changed: they are no news to anybody.
    """
    _put(connection, ids, [(directory, packed) for directory, _, packed, _ in published])
    _put(connection, ids, [(directory, rows.pack(held)) for directory, held in quiet])
    directories = {directory for directory, _, _, _ in published}
    have = _with_blocks(connection, {ids.of(directory): directory for directory in directories})
    block_rows, gone, news = [], [], []
    sources = {held.source for _, held, _, _ in published}
    texts = {source: rows.text(source) for source in sources}
    for directory, held, (name, code, size, sha256, *_), blocks in published:
        path = join(directory, name)
        if blocks:
            block_rows.append((ids.of(directory), name, blocks))
        elif blocks is not None and directory in have:
            gone.append((ids.of(directory), name))
        if code == rows.DIRECTORY:
            ids.of(path)
        news.append((now, PUBLISH, path, code, size, sha256, texts[held.source]))
    connection.executemany("DELETE FROM blocks WHERE directory = ? AND name = ?", gone)
    connection.executemany("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", block_rows)
    journal(connection, news)
    rows.mark_changed(connection, directories)


def _with_blocks(connection: sqlite3.Connection, directories: Mapping[int, bytes]) -> set[bytes]:
    """Those of these directories (path by id) in which block hashes of anything are recorded."""
    query = "SELECT 1 FROM blocks WHERE directory = ? LIMIT 1"
    return {path for one, path in directories.items() if connection.execute(query, (one,)).fetchone()}


def journal(connection: sqlite3.Connection, news: Iterable[tuple[object, ...]]) -> None:
    connection.executemany(
        """INSERT INTO journal (at, action, path, kind, size, sha256, source)
           VALUES (?, ?, ?, ?, ?, ?, ?)""",
        news,
    )


def refresh(connection: sqlite3.Connection, ids: rows.Ids, directory: bytes, records: Sequence[Held]) -> None:
    """New facts about names that stay as they are on disk. A name that is not recorded is left out."""
    known = rows.directory_id(connection, directory)
    if known is None:
        return
    query = "SELECT 1 FROM entries WHERE directory = ? AND name = ?"
    there = [held for held in records if connection.execute(query, (known, held.name)).fetchone()]
    _put(connection, ids, [(directory, rows.pack(held)) for held in there])
    if there:
        rows.mark_changed(connection, [directory])


def doubt(connection: sqlite3.Connection, directory: int, names: Iterable[bytes]) -> None:
    """What is recorded under these names must be verified before it is believed."""
    connection.executemany(
        "UPDATE entries SET unknown = 1 WHERE directory = ? AND name = ?", [(directory, n) for n in names]
    )
    rows.void_looks(connection, [directory])


def _put(connection: sqlite3.Connection, ids: rows.Ids, records: Sequence[tuple[bytes, rows.Packed]]) -> None:
    """By the directory above; the record of the root itself has no name."""
    known = {directory: ids.of(directory) for directory in {directory for directory, _ in records}}
    found = [(known[directory] if packed[0] else ABOVE, *packed) for directory, packed in records]
    connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", found)
    rows.void_looks(connection, {row[0] for row in found} - {ABOVE})


def own_records(attributes: dict[bytes, Held]) -> list[tuple[bytes, Held]]:
    """(directory above, record) for directories by their paths; the root has no name."""
    return [(split(path)[0], held) for path, held in attributes.items() if path or not held.name]


def agrees(mtime: Stamp | None, disk: int) -> bool:
    """Whether a time on disk (ns) is the one that was to be set."""
    return mtime is None or mtime.ns == disk
