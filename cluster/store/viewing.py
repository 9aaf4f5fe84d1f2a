"""What is recorded in a directory, laid beside what is on disk. Blocking."""

from __future__ import annotations

import sqlite3

from cluster.model import SECOND, Held, Kind, join
from cluster.store import rows, suspects
from cluster.store.records import View
from cluster.store.recovery import is_damaged
from cluster.store.tree import Stat, Tree


def look(connection: sqlite3.Connection, tree: Tree, directory: bytes) -> View:
    """Raises Blocked where something else stands in the place of the directory or above it."""
    names = tree.scan(directory)
    present = names is not None
    names = names or {}
    identity = rows.directory_id(connection, directory)
    if identity is None:
        return View({}, strangers=_strangers(connection, directory, names), present=present)
    held = rows.entries(connection, identity)
    damaged, worn = [], []
    for name, record in held.items():
        stat = names.pop(name, None)
        if is_damaged(record, stat) or (record.unknown and record.kind is not Kind.FILE):
            damaged.append(name)
        elif stat is not None and record.kind is Kind.DIRECTORY and not _keeps_time(record, stat):
            worn.append(name)
    return View(
        held,
        frozenset(damaged),
        _strangers(connection, directory, names),
        present,
        rows.skipped(connection, identity),
        rows.failures(connection, identity),
        frozenset(rows.missing(connection, identity)),
        frozenset(worn),
        suspects.within(connection, identity, held),
        rows.token(connection, identity),
    )


def _keeps_time(record: Held, stat: Stat) -> bool:
    """Whether a directory has its time, as finely as the file system keeps it. A crash, and whoever puts
    something into it, leave another one."""
    if record.mtime is None:
        return True
    wanted = record.mtime.ns
    return stat.mtime in (wanted, wanted // 1000 * 1000, wanted // SECOND * SECOND)


def _strangers(
    connection: sqlite3.Connection, directory: bytes, names: dict[bytes, Stat]
) -> dict[bytes, tuple[Kind, int, int]]:
    """Names that no record accounts for; what is only waiting to be moved to the trash is no stranger."""
    if not names:
        return {}
    removed = set(rows.removals(connection))
    return {
        name: (Kind(stat.kind), stat.size, stat.mtime)
        for name, stat in names.items()
        if not removed or join(directory, name) not in removed
    }
