"""Passes in the books: when they ran, what they found out about each directory, what they still have to do.

A directory's compare time is that of the newest pass that covers it. Only what deviates is stored with the
directory: its own time where something was written for it anyway, and the run of passes in which it could
not be compared, which holds for everything below it too. Blocking; the caller has the transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import msgpack  # type: ignore[import-untyped]

from cluster.model import Entry, Kind
from cluster.store import received, rows
from cluster.store.records import Compared, Later, PassRecord

RESUME_WITHIN = 86_400  # s; what was compared earlier must be compared again
KEPT_PASSES = 500
KEPT_JOURNAL = 1_000_000  # records; a follower further behind compares digests instead

_COLUMNS = "id, started, ended, outcome, origin, counts, scope"


def _record(row: tuple[int, int, int | None, str | None, str, str, bytes]) -> PassRecord:
    identity, started, ended, outcome, origin, counts, scope = row
    return PassRecord(identity, started, ended, outcome, origin, json.loads(counts), scope=scope)


def begin(
    connection: sqlite3.Connection, now: int, fingerprint: str, origin: str, scope: bytes
) -> PassRecord:
    """A new pass, or the open one to go on with; other open ones end as interrupted and cover nothing."""
    resumed: PassRecord | None = None
    query = f"SELECT {_COLUMNS}, fingerprint FROM passes WHERE ended IS NULL ORDER BY id DESC"  # noqa: S608
    for *columns, known in connection.execute(query).fetchall():
        record = _record(tuple(columns))
        same = known == fingerprint and record.scope == scope and record.origin == origin
        if resumed is None and same and 0 <= now - record.started < RESUME_WITHIN:
            resumed = replace(record, counts={}, resumed=True)
            continue
        connection.execute(
            "UPDATE passes SET ended = ?, outcome = 'interrupted' WHERE id = ?", (now, record.id)
        )
        _forget_work(connection, record.id)
    if resumed is not None:
        connection.execute("UPDATE passes SET counts = '{}' WHERE id = ?", (resumed.id,))
        return resumed
    cursor = connection.execute(
        "INSERT INTO passes (started, origin, scope, fingerprint) VALUES (?, ?, ?, ?)",
        (now, origin, scope, fingerprint),
    )
    assert cursor.lastrowid is not None
    return PassRecord(cursor.lastrowid, now, None, None, origin, {}, scope=scope)


def end(
    connection: sqlite3.Connection,
    record: PassRecord,
    outcome: str,
    counts: dict[str, object],
    now: int,
    since: int | None = None,
) -> None:
    """A complete or held pass covers its scope. An incomplete one does where nothing is left in its last
    checkpoint; a failed one covers nothing.

    `since` (s) is when the oldest of the listings was asked for, where that was before the pass began: what
    it says was compared, was compared then.
    """
    left = connection.execute("SELECT paths FROM frontier WHERE pass = ?", (record.id,)).fetchone()
    walked = left is None or not msgpack.unpackb(left[0])
    covers = outcome in ("complete", "held") or (outcome == "incomplete" and walked)
    connection.execute(
        "UPDATE passes SET ended = ?, outcome = ?, counts = ?, covers = ? WHERE id = ?",
        (now, outcome, json.dumps(counts), covers, record.id),
    )
    if since is not None and since < record.started:
        connection.execute("UPDATE passes SET started = ? WHERE id = ?", (since, record.id))
    received.add(connection, counts, now)
    _forget_work(connection, record.id)
    _prune(connection)


def stopped(connection: sqlite3.Connection, reason: str, counts: Mapping[str, object], now: int) -> None:
    """The open pass was cut off, by `reason` where that is told; it stays open, so that the next one goes on
    with it. What this run of it received is in `counts`. Does nothing where no pass is open."""
    (open_one,) = connection.execute("SELECT max(id) FROM passes WHERE ended IS NULL").fetchone()
    if open_one is None:
        return
    received.add(connection, counts, now)
    if reason:
        told = json.dumps(_only(reason) | {"stopped": now})
        connection.execute("UPDATE passes SET counts = ? WHERE id = ?", (told, open_one))


def refused(connection: sqlite3.Connection, reason: str, now: int) -> None:
    """A pass could not even begin."""
    connection.execute(
        "INSERT INTO passes (started, ended, outcome, origin, scope, fingerprint, counts) "
        "VALUES (?, ?, 'failed', '', x'', '', ?)",
        (now, now, json.dumps(_only(reason))),
    )
    _prune(connection)


def _only(reason: str) -> dict[str, object]:
    return {"errors": [reason], "error_count": 1}


def _forget_work(connection: sqlite3.Connection, identity: int) -> None:
    connection.execute("DELETE FROM frontier WHERE pass = ?", (identity,))
    connection.execute("DELETE FROM later WHERE pass = ?", (identity,))


def _prune(connection: sqlite3.Connection) -> None:
    """Old passes go, except the last one that covered a directory which has not been compared since."""
    connection.execute(
        """DELETE FROM passes WHERE id <= (SELECT max(id) FROM passes) - ?
           AND id NOT IN (SELECT (SELECT max(id) FROM passes p WHERE p.covers = 1 AND p.id < d.fail_first)
                          FROM directories d WHERE d.fail_last IS NOT NULL AND fail_first IS NOT NULL
                          AND EXISTS (SELECT 1 FROM passes q WHERE q.covers = 1 AND q.id < d.fail_first))
           AND id NOT IN (SELECT max(id) FROM passes WHERE covers = 1 GROUP BY scope)""",
        (KEPT_PASSES,),
    )
    connection.execute("DELETE FROM journal WHERE seq <= (SELECT max(seq) FROM journal) - ?", (KEPT_JOURNAL,))


def latest(connection: sqlite3.Connection, limit: int) -> list[PassRecord]:
    """Newest first; behind them the newest that compared everything, however long ago that was."""
    query = f"""SELECT {_COLUMNS} FROM passes
                WHERE id IN (SELECT id FROM passes ORDER BY id DESC LIMIT ?)
                OR id = (SELECT max(id) FROM passes WHERE outcome IN ('complete', 'held') AND scope = x'')
                ORDER BY id DESC"""  # noqa: S608
    return [_record(row) for row in connection.execute(query, (limit,))]


def last_through(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """See `MirrorStore.last_through`."""
    if connection.execute("SELECT 1 FROM passes WHERE ended IS NULL LIMIT 1").fetchone() is not None:
        return None
    through = "SELECT started FROM passes WHERE outcome IN ('complete', 'held') AND scope = x''"
    newest = connection.execute(f"{through} ORDER BY id DESC LIMIT 1").fetchone()
    walked = connection.execute(
        f"{through} AND coalesce(json_extract(counts, '$.followed'), '') = '' ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return None if walked is None else (newest[0], walked[0])


def last_ended(connection: sqlite3.Connection) -> float | None:
    """See `MirrorStore.last_ended`."""
    open_one, newest = connection.execute("SELECT max(ended IS NULL), max(ended) FROM passes").fetchone()
    return inf if open_one else None if newest is None else float(newest)


# -- when a directory was compared


def covering(connection: sqlite3.Connection, directory: bytes) -> tuple[int | None, str]:
    """When (s) the passes compared this directory, and with which origin: the start of the newest pass
    that covers it and in which neither it nor anything above it failed."""
    above = list(rows.ancestors(directory))
    marks = ", ".join("?" * len(above))
    runs = connection.execute(
        f"SELECT fail_first, fail_last FROM directories WHERE path IN ({marks}) AND fail_last IS NOT NULL",  # noqa: S608
        above,
    ).fetchall()
    found = connection.execute(
        f"SELECT id, started, origin FROM passes WHERE covers = 1 AND scope IN ({marks}) ORDER BY id DESC",  # noqa: S608
        above,
    )
    for identity, started, origin in found:
        if not any(first <= identity <= last for first, last in runs):
            return started, origin
    return None, ""


def compared_at(connection: sqlite3.Connection, directory: bytes) -> tuple[int | None, str]:
    """The later of the directory's own time and that of the passes that cover it."""
    query = "SELECT compared, origin FROM directories WHERE path = ?"
    own = connection.execute(query, (directory,)).fetchone()
    at, origin = covering(connection, directory)
    if own is not None and own[0] is not None and (at is None or own[0] > at):
        return own[0], own[1] or ""
    return at, origin


# -- what was compared


def compared(
    connection: sqlite3.Connection, ids: rows.Ids, results: Iterable[Compared], record: PassRecord, now: int
) -> None:
    for result in results:
        if not result.notable and not result.missing:
            continue
        directory = ids.of(result.directory)
        _note_failures(connection, directory, result, record, now)
        if result.complete:
            _note_skipped(connection, directory, result)
            _note_missing(connection, directory, result, record, now)
        rows.mark_noted(connection, [directory])


def _note_failures(
    connection: sqlite3.Connection, directory: int, result: Compared, record: PassRecord, now: int
) -> None:
    since = dict(connection.execute("SELECT name, since FROM failures WHERE directory = ?", (directory,)))
    connection.execute("DELETE FROM failures WHERE directory = ?", (directory,))
    connection.executemany(
        "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)",
        [(directory, name, rows.text(error), now, since.get(name, now)) for name, error in result.failures],
    )
    if result.complete:
        connection.execute(
            "UPDATE directories SET compared = ?, origin = ? WHERE id = ?", (now, record.origin, directory)
        )
        return
    run = connection.execute(
        "SELECT fail_first, fail_last FROM directories WHERE id = ?", (directory,)
    ).fetchone()
    first = record.id
    if run[1] is not None:
        between = connection.execute(
            "SELECT 1 FROM passes WHERE covers = 1 AND id > ? AND id < ? LIMIT 1", (run[1], record.id)
        ).fetchone()
        first = run[0] if between is None else record.id
    connection.execute(
        "UPDATE directories SET fail_first = ?, fail_last = ? WHERE id = ?", (first, record.id, directory)
    )


def note_failures(
    connection: sqlite3.Connection,
    ids: rows.Ids,
    failures: Mapping[bytes, Sequence[tuple[bytes, str]]],
    now: int,
) -> None:
    """See `MirrorStore.note_failures`. A failure that is there already keeps when it began."""
    for path, found in failures.items():
        directory = ids.of(path)
        connection.executemany(
            "INSERT INTO failures (directory, name, error, at, since) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (directory, name) DO UPDATE SET error = excluded.error, at = excluded.at",
            [(directory, name, rows.text(error), now, now) for name, error in found],
        )
        rows.mark_noted(connection, [directory])


def _note_skipped(connection: sqlite3.Connection, directory: int, result: Compared) -> None:
    connection.execute("DELETE FROM skipped WHERE directory = ?", (directory,))
    connection.executemany(
        "INSERT OR REPLACE INTO skipped VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                directory,
                one.name,
                rows.CODES[one.kind],
                rows.text(one.reason),
                one.size,
                one.mtime.ns if one.mtime else None,
                one.mtime.precision if one.mtime else None,
            )
            for one in result.skipped
        ],
    )


def _note_missing(
    connection: sqlite3.Connection, directory: int, result: Compared, record: PassRecord, now: int
) -> None:
    """One more sighting for what is missing, none left for what came back. A pass that goes on after an
    interruption and compares a directory again counts once. What another origin's listings lacked says
    nothing of this one's: sightings begin anew."""
    connection.execute("UPDATE directories SET recovered = 0 WHERE id = ? AND recovered = 1", (directory,))
    query = """SELECT m.name, m.first, m.sightings, m.pass, p.origin
               FROM missing m LEFT JOIN passes p ON p.id = m.pass WHERE m.directory = ?"""
    before = {
        name: (first, seen, last) if origin == record.origin else (now, 0, 0)
        for name, first, seen, last, origin in connection.execute(query, (directory,))
    }
    if any(seen == 0 for _, seen, _ in before.values()):
        connection.execute("DELETE FROM emptied WHERE directory = ?", (directory,))
    connection.executemany(
        "DELETE FROM missing WHERE directory = ? AND name = ?",
        [(directory, name) for name in before.keys() - result.missing],
    )
    noted = []
    for name in result.missing:
        first, seen, last = before.get(name, (now, 0, 0))
        noted.append((directory, name, first, seen + (last != record.id), record.id))
    connection.executemany("INSERT OR REPLACE INTO missing VALUES (?, ?, ?, ?, ?)", noted)
    if result.missing and _lost_everything(connection, directory, result.missing, record):
        connection.execute(
            """INSERT INTO emptied VALUES (?, ?, ?, ?, ?)
               ON CONFLICT (directory) DO UPDATE SET last = excluded.last, listed = excluded.listed""",
            (directory, now, now, len(result.missing), result.entries_listed),
        )
    else:
        connection.execute("DELETE FROM emptied WHERE directory = ?", (directory,))


def _lost_everything(
    connection: sqlite3.Connection, directory: int, missing: frozenset[bytes], record: PassRecord
) -> bool:
    """Whether all that was held before this pass is missing; what this pass itself brought does not count."""
    (count,) = connection.execute("SELECT count(*) FROM entries WHERE directory = ?", (directory,)).fetchone()
    if count <= len(missing):
        return True
    rest = (held for name, held in rows.entries(connection, directory).items() if name not in missing)
    return all(held.copied >= record.started and held.kind is not Kind.DIRECTORY for held in rest)


# -- what is still to do


def frontier_save(
    connection: sqlite3.Connection, record: PassRecord, paths: Sequence[bytes], cursor: dict[str, object]
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO frontier VALUES (?, ?, ?)",
        (record.id, msgpack.packb(list(paths)), msgpack.packb(cursor)),
    )


def frontier_load(connection: sqlite3.Connection, record: PassRecord) -> tuple[list[bytes], dict[str, Any]]:
    query = "SELECT paths, cursor FROM frontier WHERE pass = ?"
    row = connection.execute(query, (record.id,)).fetchone()
    if row is None:
        return [], {}
    return msgpack.unpackb(row[0]), msgpack.unpackb(row[1])


def later_add(connection: sqlite3.Connection, record: PassRecord, stage: int, items: Iterable[Later]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO later VALUES (?, ?, ?, ?, ?)",
        [(record.id, stage, one.directory, one.entry.name, rows.pack_entry(one.entry)) for one in items],
    )


def later_directories(
    connection: sqlite3.Connection, record: PassRecord, stage: int, *, reverse: bool
) -> Iterator[bytes]:
    """Leaps from one directory to the next, whatever lies in between."""
    extreme, beyond = ("max", "<") if reverse else ("min", ">")
    first = f"SELECT {extreme}(directory) FROM later WHERE pass = ? AND stage = ?"  # noqa: S608
    (found,) = connection.execute(first, (record.id, stage)).fetchone()
    while found is not None:
        yield found
        following = f"{first} AND directory {beyond} ?"
        (found,) = connection.execute(following, (record.id, stage, found)).fetchone()


def later_take(
    connection: sqlite3.Connection, record: PassRecord, stage: int, directory: bytes
) -> list[Entry]:
    found = connection.execute(
        "SELECT entry FROM later WHERE pass = ? AND stage = ? AND directory = ? ORDER BY name",
        (record.id, stage, directory),
    )
    return [rows.unpack_entry(entry) for (entry,) in found]


def later_entry(
    connection: sqlite3.Connection, record: PassRecord, stage: int, directory: bytes, name: bytes
) -> Entry | None:
    found = connection.execute(
        "SELECT entry FROM later WHERE pass = ? AND stage = ? AND directory = ? AND name = ?",
        (record.id, stage, directory, name),
    ).fetchone()
    return None if found is None else rows.unpack_entry(found[0])


def later_done(
    connection: sqlite3.Connection, record: PassRecord, over: Iterable[tuple[int, bytes, bytes]]
) -> None:
    connection.executemany(
        "DELETE FROM later WHERE pass = ? AND stage = ? AND directory = ? AND name = ?",
        [(record.id, *one) for one in over],
    )
