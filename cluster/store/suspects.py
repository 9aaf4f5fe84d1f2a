"""Files that came from a sibling which was caught since (HAZARDS section 4): who they are, and how each of
them stops being one. Blocking; the caller has the transaction.

A suspect is a name in the table whose record still says that its bytes came from that sibling and that no
origin has vouched for them. So a new version, a deletion or a fetch from the origin needs no word here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster.model import Held, Stamp, join
from cluster.store import rows
from cluster.store.records import Rechecked

WINDOW = (
    7 * 86_400
)  # s before the lie: HAZARDS section 4 says "the last window", section 5 has one, of 7 days
PROVEN = frozenset({"origin", "digest"})  # `Held.verified` of bytes that an origin vouched for
NAMED = 100  # wrong files that are told by name

_PAGE = 20_000  # entries looked at in one question

Place = tuple[int, bytes]  # directory and name
Suspect = tuple[int, bytes, str, int, bytes | None, int | None, int]

FIRST: Place = (0, b"")


def handled_key(site: str) -> str:
    """Of `meta`: when the sibling was caught for the last time that the table knows of."""
    return f"caught {site}"


def find(
    connection: sqlite3.Connection, *, site: str, at: float, after: Place
) -> tuple[list[Suspect], Place | None]:
    """Files beyond `after` that came from `site` within the window before `at`, and the place to go on from;
    None where there is no more."""
    # SQLite leaves out what cannot be the sibling's: taking a record apart costs 20 times as much.
    found = connection.execute(
        f"""SELECT directory, {rows.COLUMNS} FROM entries
            WHERE (directory, name) > (?, ?) AND kind = ? AND instr(more, ?) > 0
            ORDER BY directory, name LIMIT ?""",  # noqa: S608
        (*after, rows.FILE, site.encode("utf-8", "surrogateescape"), _PAGE),
    ).fetchall()
    records = [(directory, rows.unpack(tuple(columns))) for directory, *columns in found]
    suspects = [
        _packed(directory, held, site)
        for directory, held in records
        if _is_suspect(held, site) and held.copied >= at - WINDOW
    ]
    last = records[-1] if len(records) == _PAGE else None
    return suspects, (last[0], last[1].name) if last else None


def add(connection: sqlite3.Connection, suspects: Iterable[Suspect]) -> None:
    connection.executemany("INSERT OR REPLACE INTO suspects VALUES (?, ?, ?, ?, ?, ?, ?)", suspects)


def within(connection: sqlite3.Connection, directory: int, held: Mapping[bytes, Held]) -> frozenset[bytes]:
    """The suspects among the records of a directory."""
    found = connection.execute("SELECT name, site FROM suspects WHERE directory = ?", (directory,))
    return frozenset(name for name, site in found if name in held and _is_suspect(held[name], site))


def any_left(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM suspects LIMIT 1").fetchone() is not None


def counted(connection: sqlite3.Connection) -> dict[str, int]:
    """How many there are, by sibling."""
    return dict(connection.execute("SELECT site, count(*) FROM suspects GROUP BY site ORDER BY site"))


@dataclass(slots=True)
class _Tally:
    right: int = 0
    wrong: list[bytes] = field(default_factory=list)
    wrong_count: int = 0


def settle(connection: sqlite3.Connection) -> list[Rechecked]:
    """Forget those that are suspects no longer, and say by sibling what came of those that were compared."""
    tallies: dict[str, _Tally] = {}
    done: list[Place] = []
    columns = ", ".join("e." + column for column in rows.COLUMNS.split(", "))
    found = connection.execute(
        f"""SELECT s.directory, s.name, s.site, s.size, s.sha256, s.mtime, s.precision, d.path, {columns}
            FROM suspects s LEFT JOIN directories d ON d.id = s.directory
            LEFT JOIN entries e ON e.directory = s.directory AND e.name = s.name
            ORDER BY d.path, s.name"""  # noqa: S608
    )
    for directory, name, site, size, sha256, ns, precision, path, *record in found:
        if path is None or record[0] is None:
            done.append((directory, name))
            continue
        held = rows.unpack(tuple(record))
        if _is_suspect(held, site):
            continue
        done.append((directory, name))
        mtime = None if ns is None else Stamp(ns, precision)
        if held.verified in PROVEN and _same_version(held, size, mtime):
            tally = tallies.setdefault(site, _Tally())
            if held.sha256 == sha256:
                tally.right += 1
                continue
            tally.wrong_count += 1
            if len(tally.wrong) < NAMED:
                tally.wrong.append(join(path, name))
    connection.executemany("DELETE FROM suspects WHERE directory = ? AND name = ?", done)
    return [
        Rechecked(site, tally.right, tuple(tally.wrong), tally.wrong_count)
        for site, tally in sorted(tallies.items())
    ]


def _is_suspect(held: Held, site: str) -> bool:
    return held.source == site and held.verified not in PROVEN


def _same_version(held: Held, size: int, mtime: Stamp | None) -> bool:
    """Whether what came from the origin is the version that the sibling had: else it could not but differ."""
    return held.size == size and (mtime is None or held.mtime is None or held.mtime.agrees(mtime))


def _packed(directory: int, held: Held, site: str) -> Suspect:
    ns, precision = (held.mtime.ns, held.mtime.precision) if held.mtime else (None, 0)
    return directory, held.name, site, held.size, held.sha256, ns, precision
