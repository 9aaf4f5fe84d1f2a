"""What is recorded in a directory, laid beside what is on disk. Blocking."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable, Sequence

from cluster.errors import SidewaysError
from cluster.model import SECOND, Held, Kind, join
from cluster.store import agreement, rows, suspects
from cluster.store.changes import kind_of
from cluster.store.records import Glance, View
from cluster.store.recovery import is_damaged
from cluster.store.tree import Stat, Tree
from cluster.store.values import Shape, looks_of


def look(connection: sqlite3.Connection, tree: Tree, directory: bytes) -> View:
    """Raises Blocked where something else stands in the place of the directory or above it."""
    names = tree.scan(directory)
    present = names is not None
    names = names or {}
    identity = rows.directory_id(connection, directory)
    if identity is None:
        return View({}, strangers=_strangers(connection, directory, names), present=present)
    held = rows.entries(connection, identity)
    token = agreement.token(connection, identity)
    damaged, worn, doubted = [], [], False
    strange = dict(names)
    for name, record in held.items():
        found = strange.pop(name, None)
        doubted = doubted or record.unknown
        if is_damaged(record, found) or (record.unknown and record.kind is not Kind.FILE):
            damaged.append(name)
        elif found is not None and record.kind is Kind.DIRECTORY and not _keeps_time(record, found):
            worn.append(name)
    exact = present and bool(token) and not (strange or damaged or worn or doubted)
    return View(
        held,
        frozenset(damaged),
        _strangers(connection, directory, strange),
        present,
        rows.skipped(connection, identity),
        rows.failures(connection, identity),
        frozenset(rows.missing(connection, identity)),
        frozenset(worn),
        suspects.within(connection, identity, held),
        token,
        looks_of(_shapes(names)) if exact else b"",
    )


_GLANCE = """
    SELECT id, token, looks, (SELECT count(*) FROM skipped WHERE directory = d.id)
    FROM directories d WHERE path = ? AND token IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM failures WHERE directory = d.id)
    AND NOT EXISTS (SELECT 1 FROM missing WHERE directory = d.id)
    AND NOT EXISTS (SELECT 1 FROM suspects WHERE directory = d.id)
"""


_BLANK = """
    SELECT 1 FROM directories d WHERE path = ? AND (token IS NOT NULL
    OR EXISTS (SELECT 1 FROM entries WHERE directory = d.id)
    OR EXISTS (SELECT 1 FROM skipped WHERE directory = d.id)
    OR EXISTS (SELECT 1 FROM failures WHERE directory = d.id)
    OR EXISTS (SELECT 1 FROM missing WHERE directory = d.id))
"""


def glances(
    connection: sqlite3.Connection, tree: Tree, directories: Iterable[bytes]
) -> dict[bytes, Glance | View]:
    """Those of the directories of which one glance shows that they are as they were left, or (a view) that
    nothing is in them and nothing was recorded of them; all others need a `look`, which also tells what is
    wrong."""
    found: dict[bytes, Glance | View] = {}
    for directory in directories:
        row = connection.execute(_GLANCE, (directory,)).fetchone()
        seen = (
            _blank(connection, tree, directory) if row is None else _glance(connection, tree, directory, *row)
        )
        if seen is not None:
            found[directory] = seen
    return found


def _blank(connection: sqlite3.Connection, tree: Tree, directory: bytes) -> View | None:
    """What `look` says of a directory that is new to us, and empty or not there."""
    if connection.execute(_BLANK, (directory,)).fetchone():
        return None
    try:
        names = tree.shapes(directory)
    except SidewaysError:
        return None
    return None if names else View({}, present=names is not None)


def _glance(
    connection: sqlite3.Connection,
    tree: Tree,
    directory: bytes,
    identity: int,
    token: bytes,
    looks: bytes | None,
    skipped: int,
) -> Glance | None:
    try:
        shapes = tree.shapes(directory)
    except SidewaysError:
        return None  # `look` says what it is
    if shapes is None:
        return None
    seen = looks_of(shapes)
    if seen != looks and (looks is not None or not _as_recorded(connection, identity, shapes)):
        return None
    kinds = [shape[1] for shape in shapes]
    below = rows.directories_in(connection, identity) if stat.S_IFDIR in kinds else []
    new = seen if looks is None else b""
    return Glance(token, kinds.count(stat.S_IFREG), len(kinds), skipped, tuple(below), new)


def _as_recorded(connection: sqlite3.Connection, directory: int, shapes: Sequence[Shape]) -> bool:
    """Whether all of this is what the records say, and nothing is lacking or doubted: what `look` finds by
    taking every record apart, which costs several times as much."""
    found = {shape[0]: shape for shape in shapes}
    left = len(shapes)
    for name, size, disk_mtime, inode in rows.files_on_disk(connection, directory):
        told = os.fsdecode(name)
        if found.get(told) != (told, stat.S_IFREG, size, disk_mtime, inode):
            return False
        left -= 1
    for held in rows.no_files(connection, directory):
        shape = found.get(os.fsdecode(held.name))
        if shape is None or held.unknown:
            return False
        there = Stat(kind_of(shape[1]), *shape[2:], shape[1])
        if is_damaged(held, there) or (held.kind is Kind.DIRECTORY and not _keeps_time(held, there)):
            return False
        left -= 1
    return left == 0


def _shapes(names: dict[bytes, Stat]) -> list[Shape]:
    return [
        (os.fsdecode(name), stat.S_IFMT(found.mode), found.size, found.mtime, found.inode)
        for name, found in names.items()
    ]


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
