"""The facts of status files, read from the records in one consistent view. Blocking."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.store import deletion, digest, passes, rows, states, status

PASSES = 20  # in the mirror's status


@contextmanager
def consistent(connection: sqlite3.Connection) -> Iterator[None]:
    """One moment of the records, whatever is committed meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def directory(connection: sqlite3.Connection, mirror: str, path: bytes, now: int) -> dict[str, object]:
    identity = rows.directory_id(connection, path)
    known = -1 if identity is None else identity
    return status.directory_status(
        mirror,
        path,
        generated=now,
        compared=passes.compared_at(connection, path),
        entries=status.encoded(rows.told(connection, known)),
        totals=digest.totals(connection, path),
        skipped=rows.skipped(connection, known),
        failures=rows.failures(connection, known),
        missing=rows.missing(connection, known),
    )


def mirror(connection: sqlite3.Connection, name: str, now: int) -> dict[str, object]:
    covered = connection.execute(
        """SELECT scope, started, origin FROM passes
           WHERE id IN (SELECT max(id) FROM passes WHERE covers = 1 GROUP BY scope) ORDER BY scope"""
    ).fetchall()
    failed = connection.execute("SELECT path FROM directories WHERE fail_last IS NOT NULL ORDER BY path")
    deviations = []
    for (path,) in failed.fetchall():
        at, origin = passes.covering(connection, path)
        if (at, origin) != _covered(covered, path):
            deviations.append((path, at, origin))
    return status.mirror_status(
        name,
        generated=now,
        passes=passes.latest(connection, PASSES),
        covered=covered,
        deviations=deviations,
        totals=digest.totals(connection, b""),
        plan=deletion.held_plan(connection),
        repositories=states.told(connection),
    )


def _covered(covered: list[tuple[bytes, int, str]], path: bytes) -> tuple[int | None, str]:
    above = set(rows.ancestors(path))
    found = [(at, origin) for scope, at, origin in covered if scope in above]
    return max(found, default=(None, ""), key=lambda one: one[0] or 0)


def is_hidden(connection: sqlite3.Connection, path: bytes) -> bool:
    """Whether the directory, or one above it, is kept unreadable for the world by the origin: its names are
    not published either."""
    for above in rows.ancestors(path):
        held = rows.held(connection, above)
        if held is not None and held.private:
            return True
    return False
