"""Deletion plans in the books: gathered from what passes missed, judged, kept until carried out.

Blocking; the caller has the transaction. Digests and sums are up to date when `make` and `take` are called.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cluster.errors import StoreError, UsageError
from cluster.model import Deletion, Held, Kind, join, shown
from cluster.plan import guard
from cluster.store import agreement, digest, intents, protection, rows
from cluster.store.records import PassRecord, Plan, Planned, Totals
from cluster.store.schema import ROOT

SAMPLE = 1000  # names of a plan that are shown


@dataclass(frozen=True, slots=True)
class _Item:
    candidate: guard.Candidate
    directory: int
    held: Held
    evidence: bytes


def make(
    connection: sqlite3.Connection,
    record: PassRecord,
    policy: Deletion,
    now: int,
    spared: Sequence[bytes] = (),
) -> Plan:
    """What this pass missed and whose time has come, judged as a whole and stored. What is at or below
    `spared` waits, and what a state of a repository names that clients may still use.

    A plan that was approved and has not changed since is not judged again.
    """
    missed = list(_outermost(_missed(connection, record)))
    due: list[_Item] = []
    waiting = 0
    protection.over(connection, [i.candidate for i in missed if not guard.waits(i.candidate, policy, now)])
    protection.lapse(connection, now - int(policy.grace))
    for item in missed:
        path = item.candidate.path
        if guard.waits(item.candidate, policy, now) or protection.holds(connection, path, spared):
            waiting += item.candidate.files
        else:
            due.append(item)
    name = _hash(due)
    before = connection.execute("SELECT hash, approved FROM plans").fetchone()
    approved = before is not None and before[0] == name and bool(before[1])
    held_because = ""
    if due and not approved:
        held_because = guard.held([i.candidate for i in due], _stock(connection, policy, now), policy)
    _store(connection, due, name, held_because, waiting, now, approved=approved)
    found = stored(connection)
    return found if found is not None else Plan(name, 0, 0, 0, waiting=waiting)


def _missed(connection: sqlite3.Connection, record: PassRecord) -> Iterator[_Item]:
    """Every recorded name that this pass did not find, by path. A directory that was recovered after a crash
    proves nothing until it has been listed once."""
    emptied = {
        directory: guard.Emptied(first, last, names, listed)
        for directory, first, last, names, listed in connection.execute("SELECT * FROM emptied")
    }
    found = connection.execute(
        f"""SELECT d.path, m.directory, m.first, m.sightings,
                   {", ".join("e." + column for column in rows.COLUMNS.split(", "))}
            FROM missing m JOIN directories d ON d.id = m.directory
            JOIN entries e ON e.directory = m.directory AND e.name = m.name
            WHERE m.pass = ? AND d.recovered = 0""",  # noqa: S608
        (record.id,),
    ).fetchall()
    for path, directory, first, sightings, *columns in found:
        held = rows.unpack(tuple(columns))
        full = join(path, held.name)
        below, evidence = _weigh(connection, full, held)
        candidate = guard.Candidate(
            full, below.files + below.symlinks, below.bytes, first, sightings, emptied.get(directory)
        )
        yield _Item(candidate, directory, held, evidence)


def _weigh(connection: sqlite3.Connection, path: bytes, held: Held) -> tuple[Totals, bytes]:
    """What goes with this name, and what says that it is still the same."""
    if held.kind is Kind.DIRECTORY:
        evidence = digest.stored_digest(connection, path) or digest.EMPTY
        return digest.totals(connection, path), evidence
    if held.kind is Kind.SYMLINK:
        return Totals(0, 0, 0, 1, None), hashlib.sha256(held.target or b"").digest()
    return Totals(1, held.size, 0, 0, None), held.sha256 or b""


def _outermost(items: Iterator[_Item]) -> Iterator[_Item]:
    """By path, without what lies below another of them."""
    above = b""
    for item in sorted(items, key=lambda item: item.candidate.path + b"/"):
        path = item.candidate.path
        if above and path.startswith(above):
            continue
        if item.held.kind is Kind.DIRECTORY:
            above = path + b"/"
        yield item


def _hash(items: Sequence[_Item]) -> str:
    """SHA-256 over the items by path: 2 bytes length of the path, the path, the kind's first letter,
    1 byte length of the evidence, the evidence."""
    value = hashlib.sha256(b"sideways deletions 1\n")
    for item in sorted(items, key=lambda item: item.candidate.path):
        path, evidence = item.candidate.path, item.evidence
        value.update(struct.pack(">H", len(path)) + path + item.held.kind[:1].encode())
        value.update(struct.pack(">B", len(evidence)) + evidence)
    return value.hexdigest()


def _stock(connection: sqlite3.Connection, policy: Deletion, now: int) -> guard.Stock:
    connection.execute("DELETE FROM window WHERE at <= ?", (now - policy.window,))
    (lately,) = connection.execute("SELECT coalesce(sum(files), 0) FROM window").fetchone()
    have = digest.totals(connection, b"")
    return guard.Stock(have.files + have.symlinks, have.bytes, lately)


def _store(
    connection: sqlite3.Connection,
    due: Sequence[_Item],
    name: str,
    held_because: str,
    waiting: int,
    now: int,
    *,
    approved: bool,
) -> None:
    connection.execute("DELETE FROM plan_items")
    connection.execute("DELETE FROM plans")
    if not due:
        return
    files, size = sum(i.candidate.files for i in due), sum(i.candidate.bytes for i in due)
    connection.execute(
        "INSERT INTO plans VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
        (name, now, files, size, held_because, waiting, approved),
    )
    connection.executemany(
        "INSERT INTO plan_items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                item.candidate.path,
                item.directory,
                item.held.name,
                rows.CODES[item.held.kind],
                item.evidence,
                item.candidate.files,
                item.candidate.bytes,
                item.candidate.first,
                item.candidate.sightings,
            )
            for item in due
        ],
    )


def stored(connection: sqlite3.Connection) -> Plan | None:
    """The plan of the last judgement that had anything in it."""
    row = connection.execute("SELECT hash, files, bytes, held_because, waiting FROM plans").fetchone()
    if row is None:
        return None
    (items,) = connection.execute("SELECT count(*) FROM plan_items").fetchone()
    sample = connection.execute(
        "SELECT path, kind, files, bytes, first, sightings FROM plan_items ORDER BY path LIMIT ?", (SAMPLE,)
    )
    name, files, size, held_because, waiting = row
    planned = tuple(Planned(path, rows.KINDS[kind], *rest) for path, kind, *rest in sample)
    return Plan(name, items, files, size, held_because, waiting, planned)


def held_plan(connection: sqlite3.Connection) -> Plan | None:
    found = stored(connection)
    return found if found is not None and found.held_because else None


def approve(connection: sqlite3.Connection, name: str) -> Plan:
    """The held plan, from now on not held. Raises UsageError."""
    found = stored(connection)
    if found is None:
        raise UsageError(f"{name}: no deletions are held")
    if found.hash != name:
        raise UsageError(f"{name}: the deletions that are held are {found.hash}")
    connection.execute("UPDATE plans SET approved = 1, held_because = ''")
    return replace(found, held_because="")


# -- carrying out


@dataclass(frozen=True, slots=True)
class Taken:
    """What was deleted in the records, and is to be moved to the trash now."""

    paths: list[bytes]
    folders: list[bytes]  # those of them that are directories
    files: int
    bytes: int


def take(connection: sqlite3.Connection, ids: rows.Ids, plan: Plan, now: int) -> Taken:
    """Delete the whole plan in the records: tombstones, journal, window. All or nothing.

    Raises StoreError where the plan is held, or is not any more what the records say.
    """
    found = connection.execute("SELECT hash, held_because, approved FROM plans").fetchone()
    if not plan.items and found is None:
        return Taken([], [], 0, 0)
    if found is None or found[0] != plan.hash:
        raise StoreError(f"deletions {plan.hash}: replaced by a later plan")
    if found[1]:
        raise StoreError(f"deletions {plan.hash}: held: {found[1]}")
    items = connection.execute("SELECT * FROM plan_items ORDER BY path").fetchall()
    _check_unchanged(connection, items)
    news = [
        (now, intents.DELETE, path, kind, size, evidence if kind == rows.FILE else None, "origin")
        for path, _, _, kind, evidence, _, size, _, _ in items
    ]
    intents.journal(connection, news)
    connection.executemany(
        "INSERT OR REPLACE INTO removals VALUES (?, ?, NULL)", [(i[0], now) for i in items]
    )
    folders = [item[0] for item in items if item[3] == rows.DIRECTORY]
    for folder in folders:
        _drop_below(connection, folder)
    for table in ("entries", "blocks", "missing", "failures"):
        connection.executemany(
            f"DELETE FROM {table} WHERE directory = ? AND name = ?",  # noqa: S608
            [(item[1], item[2]) for item in items],
        )
    connection.execute("DELETE FROM emptied WHERE directory NOT IN (SELECT directory FROM missing)")
    rows.mark_changed(connection, {path.rpartition(b"/")[0] for path, *_ in items})
    ids.forget()
    files, size = sum(item[5] for item in items), sum(item[6] for item in items)
    if not found[2]:
        connection.execute("INSERT INTO window VALUES (?, ?, ?)", (now, files, size))
    connection.execute("DELETE FROM plan_items")
    connection.execute("DELETE FROM plans")
    return Taken([item[0] for item in items], folders, files, size)


def _check_unchanged(
    connection: sqlite3.Connection, items: Sequence[tuple[bytes, int, bytes, int, bytes]]
) -> None:
    """A name that came back, or holds something else by now, makes the whole plan void."""
    for path, directory, name, kind, evidence, *_ in items:
        query = "SELECT 1 FROM missing WHERE directory = ? AND name = ?"
        missed = connection.execute(query, (directory, name)).fetchone()
        held = rows.held(connection, path)
        if missed is None or held is None:
            raise StoreError(f"{shown(path)}: came back after its deletion was planned: nothing is deleted")
        if rows.CODES[held.kind] != kind or _weigh(connection, path, held)[1] != evidence:
            raise StoreError(f"{shown(path)}: changed after its deletion was planned: nothing is deleted")


def _drop_below(connection: sqlite3.Connection, path: bytes) -> None:
    """Forget a directory and everything below it."""
    agreement.forget(connection, path)
    first, beyond = rows.below(path)
    within = "SELECT id FROM directories WHERE path = :path OR path >= :first AND path < :beyond"
    values = {"path": path, "first": first, "beyond": beyond, "root": ROOT}
    for table in ("entries", "blocks", "missing", "failures", "skipped", "emptied"):
        connection.execute(f"DELETE FROM {table} WHERE directory IN ({within})", values)  # noqa: S608
    connection.execute(f"DELETE FROM directories WHERE id IN ({within}) AND id <> :root", values)  # noqa: S608
