"""What is deleted in the records leaves the public tree. Blocking."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence

from cluster.errors import StoreError
from cluster.model import Held, shown, split
from cluster.store import rows
from cluster.store.tree import Tree

_log = logging.getLogger(__name__)

Parents = dict[bytes, Held | None]


def parents(connection: sqlite3.Connection, paths: Iterable[bytes]) -> Parents:
    """The records of the directories that these names are in."""
    return {path: rows.held(connection, path) for path in {split(path)[0] for path in paths}}


def trash(tree: Tree, paths: Sequence[bytes], above: Parents, now: int) -> list[Exception | None]:
    """Move names to the trash, a directory with all it holds as one rename, and make that durable.

    Per path None, or why it is still there. A directory that is gone itself needs no syncing.
    """
    outcomes = tree.trash(paths, now)
    for path in {split(path)[0] for path in paths}:
        try:
            if tree.scan(path) is not None:
                tree.settle({path: above.get(path)})
        except StoreError as error:
            outcomes = [
                error if split(gone)[0] == path and outcome is None else outcome
                for gone, outcome in zip(paths, outcomes, strict=True)
            ]
    return outcomes


def removed(
    connection: sqlite3.Connection,
    ids: rows.Ids,
    paths: Sequence[bytes],
    outcomes: Sequence[Exception | None],
    now: int,
) -> None:
    """Forget the tombstones of what is gone; say of the rest why it is not."""
    for path, outcome in zip(paths, outcomes, strict=True):
        if outcome is None:
            connection.execute("DELETE FROM removals WHERE path = ?", (path,))
            continue
        _log.warning("%s: could not be moved to the trash: %s", shown(path), outcome)
        error = rows.text(f"could not be moved to the trash: {outcome}")
        connection.execute("UPDATE removals SET error = ? WHERE path = ?", (error, path))
        directory, name = split(path)
        identity = ids.of(directory)
        connection.execute(
            """INSERT INTO failures VALUES (?, ?, ?, ?, ?)
               ON CONFLICT (directory, name) DO UPDATE SET error = excluded.error, at = excluded.at""",
            (identity, name, error, now, now),
        )
        rows.mark_noted(connection, [identity])
