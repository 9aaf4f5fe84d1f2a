"""Bringing the status files up to the records: which directories are out of date is itself recorded, so that
a crash forgets none. Blocking."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable

from cluster.store import rows, snapshot
from cluster.store.status import StatusFiles

LARGE = 1000  # names; the file of such a directory is not rewritten more than once in (names / LARGE) seconds
_CHUNK = 512  # directories written together: two syncs for all of them
_CHUNK_NAMES = 20_000

_STALE = "SELECT id, dirty, path FROM directories WHERE dirty > 0 AND id > ? ORDER BY id LIMIT 1"


class Publicity:
    """The status files of one mirror. For one caller at a time."""

    def __init__(self, mirror: str, files: StatusFiles) -> None:
        self._mirror, self.files = mirror, files
        self._written: dict[int, float] = {}  # large directories: when, monotonic

    def write_some(
        self, connection: sqlite3.Connection, after: int, now: int, *, patient: bool
    ) -> tuple[int, list[tuple[int, int]]]:
        """Write the status of the next directories that are out of date, in the order of their ids above
        `after`: (last id, [(id, generation)] for `done`). The list is empty when all have been looked at.

        With `patient`, large directories that were written lately are passed over.
        """
        chunk: list[tuple[int, int]] = []
        facts: list[tuple[bytes, dict[str, object] | None]] = []
        names = 0
        with snapshot.consistent(connection):
            while len(chunk) < _CHUNK and names < _CHUNK_NAMES:
                stale = connection.execute(_STALE, (after,)).fetchone()
                if stale is None:
                    break
                after, generation, path = stale
                count = _count(connection, after)
                if patient and self._is_fresh(after, count):
                    continue
                names += count
                chunk.append((after, generation))
                facts.append((path, self._facts(connection, path, now)))
        self._publish(facts)
        return after, chunk

    def write(self, connection: sqlite3.Connection, paths: Iterable[bytes], now: int) -> None:
        """Write the status of these directories, as far as they are recorded."""
        with snapshot.consistent(connection):
            facts = [
                (path, self._facts(connection, path, now))
                for path in paths
                if rows.directory_id(connection, path) is not None
            ]
        self._publish(facts)

    def write_mirror(self, connection: sqlite3.Connection, now: int) -> None:
        with snapshot.consistent(connection):
            status = snapshot.mirror(connection, self._mirror, now)
        self.files.write_mirror(status)

    def _facts(self, connection: sqlite3.Connection, path: bytes, now: int) -> dict[str, object] | None:
        if snapshot.is_hidden(connection, path) or not rows.is_recorded(connection, path):
            return None
        return snapshot.directory(connection, self._mirror, path, now)

    def _publish(self, facts: list[tuple[bytes, dict[str, object] | None]]) -> None:
        self.files.write([(path, status) for path, status in facts if status is not None])
        for path, status in facts:
            if status is None:
                self.files.forget(path)

    def _is_fresh(self, identity: int, names: int) -> bool:
        if names < LARGE:
            return False
        now = time.monotonic()
        if now - self._written.get(identity, now - names) < names / LARGE:
            return True
        self._written[identity] = now
        return False


def _count(connection: sqlite3.Connection, directory: int) -> int:
    query = "SELECT count(*) FROM entries WHERE directory = ?"
    return int(connection.execute(query, (directory,)).fetchone()[0])


def done(connection: sqlite3.Connection, written: Iterable[tuple[int, int]]) -> None:
    """These are up to date, unless they changed again meanwhile. The caller has the transaction."""
    connection.executemany(
        "UPDATE directories SET dirty = 0 WHERE id = ? AND dirty = ?", [(i, g) for i, g in written]
    )
