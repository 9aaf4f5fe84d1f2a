"""Making records and disk agree again after a crash (HAZARDS 3.4). Idempotent; can itself be killed.

For every name of an open intent the disk decides: where it has the intended version (the inode of the
temporary, its size and time), the intent is rolled forward, otherwise nothing had happened to that name.
Whatever else in those directories is not as recorded is doubted: the next pass verifies it by hash.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import replace

from cluster.errors import StoreError
from cluster.model import Held, Kind, shown
from cluster.store import intents, rows, schema
from cluster.store.intents import Intended, Way
from cluster.store.tree import Stat, Tree

_log = logging.getLogger(__name__)


def open_records(path: str, mirror: str, now: int) -> tuple[sqlite3.Connection, bool, str]:
    """(connection, whether it was closed cleanly, where unreadable records were moved to or "").

    Records that were not closed cleanly are checked whole; unreadable ones are moved aside and begun
    anew: what is on disk is then unknown, and taken over by hash. Raises StoreError (newer schema, no
    access).
    """
    try:
        return (*_open_checked(path, mirror), "")
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            reason = schema.why(path, error)
            raise StoreError(f"{path}: {reason.strerror if reason else error}") from error
    aside = f"{path}.unreadable-{now}"
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(path + suffix, aside + suffix)
    try:
        return (*_open_checked(path, mirror), aside)
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: {error}") from error


def _open_checked(path: str, mirror: str) -> tuple[sqlite3.Connection, bool]:
    fresh = not os.path.exists(path) or os.path.getsize(path) == 0
    connection = schema.connect(path)
    try:
        clean = fresh
        if not fresh and connection.execute("PRAGMA user_version").fetchone()[0]:
            clean = schema.meta_get(connection, "clean") == "1"
        if not clean:
            schema.verify(connection, path)
        schema.prepare(connection, mirror)
        with schema.transaction(connection, durable=True):
            schema.meta_set(connection, "clean", "0")
    except BaseException:
        connection.close()
        raise
    return connection, clean


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Not a lock, a full disk or missing rights: those go away without us losing the records."""
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or name == "SQLITE_ERROR"


def roll_forward(connection: sqlite3.Connection, ids: rows.Ids, tree: Tree, now: int) -> set[bytes]:
    """Conclude every open intent; the directories that they touched.

    One durable transaction per intent, so that being killed here costs nothing.
    """
    touched: set[bytes] = set()
    for identity, batch in intents.open_intents(connection):
        directories = {one.directory for one in batch}
        own = {one.path: one.held for one in batch if one.held.kind is Kind.DIRECTORY}
        for path in own.keys() - directories:
            with contextlib.suppress(StoreError):  # it was not made, and is not recorded then
                tree.settle({path: own[path]})
        found = {directory: _settled(connection, tree, directory, own) for directory in directories}
        done = [one for one in batch if _happened(one, found[one.directory], tree)]
        with schema.transaction(connection, durable=True):
            records = [_as_found(one, found[one.directory][one.held.name]) for one in done]
            published = [
                (one.directory, held, rows.pack(held), one.blocks)
                for one, held in zip(done, records, strict=True)
            ]
            intents.record(connection, ids, published, now)
            for directory in directories:
                _doubt_changed(connection, directory, found[directory])
                connection.execute(
                    "UPDATE directories SET recovered = 1, dirty = dirty + 1 WHERE path = ?", (directory,)
                )
            rows.mark_changed(connection, directories)
            intents.close_intent(connection, identity)
        touched |= directories
    return touched


def _settled(
    connection: sqlite3.Connection, tree: Tree, directory: bytes, own: Mapping[bytes, Held]
) -> dict[bytes, Stat]:
    """What is in a directory, now that it is durable. Nothing, where it cannot be made so. `own` are the
    records of those whose own attributes were to change."""
    try:
        names = tree.scan(directory)
        if names is not None:
            tree.settle({directory: own.get(directory) or rows.held(connection, directory)})
    except StoreError as error:
        _log.warning("%s: could not be examined after a crash: %s", shown(directory) or "/", error)
        return {}
    return names or {}


def _happened(one: Intended, names: dict[bytes, Stat], tree: Tree) -> bool:
    stat = names.get(one.held.name)
    if stat is None or stat.kind != one.held.kind:
        return False
    if one.way is Way.RENAMED:
        return _same_file(one, stat, one.inode)
    if one.way is Way.LINKED:
        source = tree.lstat(one.link_to)
        return source is not None and stat.inode == source.inode and stat.size == one.held.size
    if one.way is Way.ATTRIBUTES:
        return _same_file(one, stat, one.inode or stat.inode)
    return one.held.kind in (Kind.DIRECTORY, Kind.SYMLINK)


def _same_file(one: Intended, stat: Stat, inode: int) -> bool:
    return stat.inode == inode and stat.size == one.held.size and intents.agrees(one.held.mtime, stat.mtime)


def _as_found(one: Intended, stat: Stat) -> Held:
    """A symlink is doubted: lstat does not tell where it leads."""
    doubted = one.held.kind is Kind.SYMLINK
    return replace(one.held, disk_mtime=stat.mtime, inode=stat.inode, unknown=doubted)


def _doubt_changed(connection: sqlite3.Connection, directory: bytes, names: dict[bytes, Stat]) -> None:
    identity = rows.directory_id(connection, directory)
    if identity is not None:
        recorded = rows.entries(connection, identity)
        intents.doubt(
            connection, identity, [n for n, held in recorded.items() if is_damaged(held, names.get(n))]
        )


def is_damaged(held: Held, stat: Stat | None) -> bool:
    """Whether the disk has something else than what was recorded: edited, replaced or gone (HAZARDS 109)."""
    if stat is None or stat.kind != held.kind:
        return True
    if held.kind is Kind.FILE:
        return stat.size != held.size or stat.mtime != held.disk_mtime or stat.inode != held.inode
    return held.kind is Kind.SYMLINK and stat.inode != held.inode
