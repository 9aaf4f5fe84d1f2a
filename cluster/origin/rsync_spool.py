"""Rows of directories, kept out of memory until they are asked for.

A database without a name: SQLite holds a few megabytes of it in memory and the rest in a file that nobody
else can open, and that goes with the process. What a child printed counts only once it has ended well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import NamedTuple

from cluster.listing.rsync import Name, placed, plain
from cluster.model import split

PENDING = 8192  # rows that are written together
CACHE = 4096  # KiB of the database in memory

SCHEMA = f"""
PRAGMA journal_mode = off;
PRAGMA synchronous = off;
PRAGMA cache_size = -{CACHE};
CREATE TABLE own (path BLOB, child INTEGER, row BLOB, PRIMARY KEY (path, child)) WITHOUT ROWID;
CREATE TABLE part (directory BLOB, child INTEGER, rows BLOB);
CREATE INDEX of_directory ON part (directory, child);
CREATE TABLE leader (directory BLOB, name BLOB, child INTEGER, further INTEGER,
    PRIMARY KEY (directory, name, child)) WITHOUT ROWID;
BEGIN;
"""


class Kept(NamedTuple):
    """One directory as child number `child` printed it: its own row, and the sorted ones in it. `leaders` are
    names in it that are first names of files with several, and how many further ones each has."""

    child: int
    own: bytes
    rows: list[bytes]
    leaders: dict[bytes, int]


class Spool:
    """See the module. For one thread at a time."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None)
        self._base.executescript(SCHEMA)
        self._children = 0
        self._proven: set[int] = set()

    def begin(self, asked: Collection[bytes], *, below: bool) -> Intake:
        """For a child that is asked for these directories, and with `below` for all in them."""
        self._children += 1
        return Intake(self._base, self._children, frozenset(asked), below)

    def keep(self, intake: Intake) -> None:
        """The child ended well: what it printed is what there is."""
        intake.write()
        self._proven.add(intake.child)

    def forget(self, intake: Intake) -> None:
        """It did not: nothing of it is believed."""
        self._base.execute("DELETE FROM own WHERE child = ?", (intake.child,))
        self._base.execute("DELETE FROM part WHERE child = ?", (intake.child,))
        self._base.execute("DELETE FROM leader WHERE child = ?", (intake.child,))

    def child_of(self, directory: bytes) -> int | None:
        """The latest child that has told of this directory, where that has not been taken yet."""
        found = self._base.execute("SELECT child FROM own WHERE path = ? ORDER BY child DESC", (directory,))
        return next((child for (child,) in found if child in self._proven), None)

    def take(self, directory: bytes) -> Kept | None:
        """All of it, once: who asks again wants to know what the origin says by then."""
        child = self.child_of(directory)
        if child is None:
            return None
        where = (directory, child)
        (own,) = self._base.execute("SELECT row FROM own WHERE path = ? AND child = ?", where).fetchone()
        found = self._base.execute("SELECT rows FROM part WHERE directory = ? AND child = ?", where)
        parts = [part for (part,) in found]
        rows = b"\n".join(parts).split(b"\n") if parts else []
        rows.sort()
        select = "SELECT name, further FROM leader WHERE directory = ? AND child = ?"
        leaders = dict(self._base.execute(select, where))
        self._base.execute("DELETE FROM own WHERE path = ? AND child <= ?", where)
        self._base.execute("DELETE FROM part WHERE directory = ? AND child <= ?", where)
        return Kept(child, own, rows, leaders)

    def further(self, path: bytes, child: int) -> int:
        """How many further names the file has of which `path` is the first."""
        directory, name = split(path)
        select = "SELECT further FROM leader WHERE directory = ? AND name = ? AND child = ?"
        found = self._base.execute(select, (directory, name, child)).fetchone()
        return int(found[0]) if found else 0

    def close(self) -> None:
        self._base.close()


class Intake:
    """What one child prints, on its way into the spool. `count` names came so far; what was asked for was
    `found` as directories, or is something else: `others` has the rows. `directories` are those in what is
    listed alone."""

    def __init__(self, base: sqlite3.Connection, child: int, asked: frozenset[bytes], below: bool) -> None:
        self._base, self.child, self._asked, self._below = base, child, asked, below
        self._above = {split(path)[0] for path in asked if path}
        self._pending: dict[bytes, list[bytes]] = {}
        self._owns: list[tuple[bytes, int, bytes]] = []
        self._leaders: list[tuple[bytes, bytes, int]] = []
        self._unwritten = 0
        self.count = 0
        self.found: set[bytes] = set()
        self.others: dict[bytes, bytes] = {}
        self.directories: list[bytes] = []

    def add(self, text: bytes) -> list[bytes]:
        """Complete lines as printed, each with its end; those that are no names are given back, without.

        Most are plain files, one beside the other: all that follow each other in one directory are taken in
        one go."""
        strange: list[bytes] = []
        lines = text.count(b"\n")
        at = 0
        while at < len(text):
            together = plain(text, at)
            if together is not None and together.directory not in self._above:
                self._pending.setdefault(together.directory, []).append(together.rows)
                at = together.end
                continue
            end = text.index(b"\n", at)
            line, at = text[at:end], end + 1
            name = placed(line)
            if name is None:
                strange.append(line)
            else:
                self._one(name)
        self.count += lines - len(strange)
        self._unwritten += lines
        if self._unwritten >= PENDING:
            self.write()
        return strange

    def _one(self, name: Name) -> None:
        wanted = name.path in self._asked
        if name.is_directory:
            if wanted or self._below:
                self._owns.append((name.path, self.child, name.row))
            else:
                self.directories.append(name.path)
        if wanted:  # of what is beside it nothing is known
            if name.is_directory:
                self.found.add(name.path)
            else:
                self.others[name.path] = name.row
            return
        self._pending.setdefault(name.directory, []).append(name.row)
        if name.leader is not None:
            self._leaders.append((*split(name.leader), self.child))

    def write(self) -> None:
        """Whatever is still in memory."""
        child, base = self.child, self._base
        parts = [(directory, child, b"\n".join(rows)) for directory, rows in self._pending.items()]
        base.executemany("INSERT INTO part VALUES (?, ?, ?)", parts)
        base.executemany("INSERT OR REPLACE INTO own VALUES (?, ?, ?)", self._owns)
        base.executemany(
            "INSERT INTO leader VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET further = further + 1",
            self._leaders,
        )
        self._pending.clear()
        self._owns.clear()
        self._leaders.clear()
        self._unwritten = 0
