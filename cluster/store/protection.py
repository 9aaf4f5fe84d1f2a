"""What repositories keep from being deleted (HAZARDS 41): names of states that clients may be using.

That are the published state, one that is to be published, and for `grace` one that was. Blocking; the caller
has the transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from cluster.plan.guard import Candidate
from cluster.store import rows, states


def over(connection: sqlite3.Connection, due: Iterable[Candidate]) -> None:
    """A root that is to be deleted itself protects nothing any more."""
    known = states.roots(connection)
    paths = [candidate.path for candidate in due] if known else []
    for root in known:
        first = root.group.read[0]
        if any(first == path or first.startswith(path + b"/") for path in paths):
            states.forget(connection, root.group.name)


def lapse(connection: sqlite3.Connection, before: int) -> None:
    """States that were replaced at `before` (s) or earlier are nobody's any more."""
    states.drop_retired(connection, before)


def holds(connection: sqlite3.Connection, path: bytes, spared: Sequence[bytes]) -> bool:
    """Whether `path` stays: it is in `spared`, or something at or below it is named by a state."""
    if any(not s or path == s or path.startswith(s + b"/") for s in spared):
        return True
    query = """SELECT EXISTS (SELECT 1 FROM named WHERE directory = ? AND name = ?)
               OR EXISTS (SELECT 1 FROM named WHERE directory = ?)
               OR EXISTS (SELECT 1 FROM named WHERE directory >= ? AND directory < ?)"""
    directory, _, name = path.rpartition(b"/")
    (found,) = connection.execute(query, (directory, name, path, *rows.below(path))).fetchone()
    return bool(found)
