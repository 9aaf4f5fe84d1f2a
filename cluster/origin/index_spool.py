"""A list of a whole tree, directory by directory, in a file beside a mirror's records.

One SQLite file, written once and then only read: what an older program or a crash left of it is made anew
from the origin. The rows are the list's own bytes; each directory has the token of its rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from cluster.errors import IncompleteListing, NotAListing
from cluster.listing import bulk
from cluster.model import shown

FORMAT = 1  # of this file
PIECE = 2**18
PENDING = 64  # pieces that are written together
CACHE = 4096  # KiB of the database in memory

SCHEMA = f"""
PRAGMA journal_mode = off;
PRAGMA synchronous = off;
PRAGMA cache_size = -{CACHE};
PRAGMA user_version = {FORMAT};
CREATE TABLE part (directory BLOB, begins INTEGER, rows BLOB);
CREATE TABLE named (path BLOB);
CREATE TABLE listed (id INTEGER PRIMARY KEY, directory BLOB, token BLOB, asked INTEGER DEFAULT 0);
CREATE TABLE meta (key TEXT PRIMARY KEY, value);
"""


@dataclass(slots=True)
class Meta:
    """What is known of a list. Times are s since 1970, `mtime` ns; `walked` is when the tree was last walked
    instead, `last` the directory that came last; `zoned`: its clock is that of another zone than UTC."""

    path: str = ""
    size: int = -1
    mtime: int = 0
    etag: str = ""
    form: str = ""
    facts: bool = False
    zoned: bool = False
    ended: bool = False
    names: int = 0
    directories: int = 0
    files: int = 0
    walked: int = 0
    last: bytes = b""


class Told(NamedTuple):
    """A directory of the list: its number, the token of its rows, and whether the origin has been asked for
    it since."""

    number: int
    token: bytes
    asked: bool


class Spool:
    """A list that was read. For one thread at a time."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base
        stored = dict(base.execute("SELECT key, value FROM meta"))
        self.meta = Meta(**{key: value for key, value in stored.items() if key in Meta.__slots__})

    def told(self, directory: bytes) -> Told | None:
        """None where the list does not tell of it."""
        query = "SELECT id, token, asked FROM listed WHERE directory = ?"
        found = self._base.execute(query, (directory,)).fetchone()
        return None if found is None else Told(found[0], found[1], bool(found[2]))

    def rows(self, directory: bytes) -> list[bytes]:
        """Sorted."""
        query = "SELECT rows FROM part WHERE directory = ?"
        return sorted(row for (rows,) in self._base.execute(query, (directory,)) for row in _cut(rows))

    def directory(self, number: int) -> bytes:
        """The one of this number, from 1 to `meta.directories`."""
        found = self._base.execute("SELECT directory FROM listed WHERE id >= ? LIMIT 1", (number,)).fetchone()
        return b"" if found is None else bytes(found[0])

    def asked(self, numbers: Iterable[int]) -> None:
        """The origin has said something newer of these directories."""
        marks = ((number,) for number in numbers)
        with self._base:
            self._base.execute("BEGIN")
            self._base.executemany("UPDATE listed SET asked = 1 WHERE id = ?", marks)

    def note(self, **values: object) -> None:
        """Change what is known of it."""
        for key, value in values.items():
            setattr(self.meta, key, value)
        self._base.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def close(self) -> None:
        self._base.close()


def opened(path: str) -> Spool | None:
    """The list that was kept there; None where there is none that this program wrote to its end."""
    if not path or not os.path.exists(path):
        return None
    base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        if base.execute("PRAGMA user_version").fetchone()[0] == FORMAT:
            base.execute(f"PRAGMA cache_size = -{CACHE}")
            return Spool(base)
    except (sqlite3.Error, TypeError):
        pass
    base.close()
    return None


class Intake:
    """A new list on its way into a file of its own, which replaces the old one when it is `kept`.

    Blocking. `read` raises NotAListing, IncompleteListing, and what `lines` does; OSError and sqlite3.Error
    where the disk does.
    """

    def __init__(self, place: str, most: int) -> None:
        """It is made beside `place`, where it will be kept; empty for one that nobody keeps. At most so many
        names are taken."""
        self._most, self._place = most, place
        self._path = ""
        if place:
            sweep(place)
            descriptor, self._path = tempfile.mkstemp(prefix=_new(place), dir=os.path.dirname(place))
            os.close(descriptor)
        self.base = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self.base.executescript(SCHEMA)
        self._parts: list[tuple[bytes, bool, bytes]] = []
        self._named: list[tuple[bytes]] = []
        self._names = 0
        self._last = b""

    def read(self, lines: Iterable[Sequence[bytes]], path: str, now: int) -> None:
        """All of it: lines without their ends, in pieces. `now` (ns) is when it was made."""
        form: bulk.Form | None = None
        self.base.execute("BEGIN")
        for some in lines:
            if form is None:
                form = bulk.form_of(some, path, now=now)
            self._take(form.take(some), path)
        if form is None:
            raise NotAListing(path, "an empty list")
        self._take(form.rest(), path)
        self._write()
        self._seal(form, path)
        self.base.execute("COMMIT")

    def _take(self, pieces: Iterator[bulk.Piece], path: str) -> None:
        for piece in pieces:
            self._names += len(piece.rows)
            if self._names > self._most:
                raise NotAListing(path, f"tells of more than {self._most} names")
            self._parts.append((piece.directory, piece.begins, b"\n".join(piece.rows)))
            self._named.extend((below,) for below in piece.below)
            self._last = piece.directory
            if len(self._parts) >= PENDING:
                self._write()

    def _write(self) -> None:
        self.base.executemany("INSERT INTO part VALUES (?, ?, ?)", self._parts)
        self.base.executemany("INSERT INTO named VALUES (?)", self._named)
        self._parts.clear()
        self._named.clear()

    def _seal(self, form: bulk.Form, path: str) -> None:
        """Every directory that is told of is named in the one above it, and the other way round: what was
        broken off in the middle, or written over, is not."""
        base = self.base
        base.execute("CREATE INDEX part_of ON part (directory)")
        twice = "SELECT directory FROM part WHERE begins GROUP BY directory HAVING count(*) > 1 LIMIT 1"
        if found := base.execute(twice).fetchone():
            raise NotAListing(path, f"tells twice of {shown(found[0]) or 'the root'}")
        base.execute("CREATE INDEX named_at ON named (path)")
        (named,) = base.execute("SELECT count(*) FROM named").fetchone()
        together = form.name == bulk.LS_LR  # where a directory without a name has its place too
        if together:
            query = "SELECT count(*) FROM named WHERE path NOT IN (SELECT directory FROM part)"
            (untold,) = base.execute(query).fetchone()
            if untold > max(UNTOLD, named // 100):
                raise IncompleteListing(path, f"names {named} directories and does not tell of {untold}")
        unnamed = (
            "SELECT directory FROM part WHERE directory NOT IN (SELECT path FROM named UNION SELECT x'')"
        )
        if found := base.execute(f"{unnamed} LIMIT 1").fetchone():
            raise NotAListing(path, f"tells of {shown(found[0])}, which it does not name")
        tokens = _tokens(base, form.name, empty=not together)
        base.executemany("INSERT INTO listed (directory, token) VALUES (?, ?)", tokens)
        base.execute("CREATE UNIQUE INDEX listed_at ON listed (directory)")
        (count,) = base.execute("SELECT count(*) FROM listed").fetchone()
        told = Meta(
            form=form.name,
            facts=form.facts,
            ended=form.ended,
            names=self._names,
            directories=count,
            files=max(0, self._names - (0 if form.name == bulk.FULL_FILE_LIST else named)),
            last=self._last,
        )
        base.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", asdict(told).items())

    def kept(self, **facts: object) -> Spool:
        """It is the list from now on, with these facts in `meta`."""
        spool = Spool(self.base)
        spool.note(**facts)
        if self._path:
            with open(self._path, "rb") as file:
                os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):  # a look beside this pass has swept it away
                os.replace(self._path, self._place)
            self._path = ""
        return spool

    def drop(self) -> None:
        """It is none."""
        self.base.close()
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


UNTOLD = 8  # directories that a list may name and not tell of: whoever made it could not read them


def _tokens(base: sqlite3.Connection, form: str, *, empty: bool) -> Iterator[tuple[bytes, bytes]]:
    """Of each directory, in the order of paths. `empty`: those that are named and have no rows are told."""
    query = "SELECT directory, rows FROM part"
    if empty:
        query += " UNION ALL SELECT path, x'' FROM named WHERE path NOT IN (SELECT directory FROM part)"
    at: bytes | None = None
    rows: list[bytes] = []
    for directory, part in base.execute(f"{query} ORDER BY 1"):
        if at is not None and directory != at:
            yield at, token(form, rows)
            rows = []
        at = directory
        rows.extend(_cut(part))
    if at is not None:
        yield at, token(form, rows)


def token(form: str, rows: Iterable[bytes]) -> bytes:
    """The same for the same rows."""
    digest = hashlib.blake2b(form.encode(), digest_size=16)
    for row in sorted(rows):
        digest.update(b"\n" + row)
    return digest.digest()


def _cut(rows: bytes) -> list[bytes]:
    return rows.split(b"\n") if rows else []


def lines_of(pieces: Iterable[bytes], path: str) -> Iterator[list[bytes]]:
    """The lines of a text without their ends, LF or CR LF. Raises IncompleteListing where the last has no
    end, NotAListing where one is longer than any row."""
    rest = b""
    crlf: bool | None = None
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > bulk.MAX_LINE:
            raise NotAListing(path, f"has a line of more than {bulk.MAX_LINE} bytes")
        if lines and crlf is None:
            crlf = lines[0].endswith(b"\r")
        if lines:
            yield [line.removesuffix(b"\r") for line in lines] if crlf else lines
    if rest:
        raise IncompleteListing(path, "its last line has no end")


def sweep(place: str) -> None:
    """Remove what a crash left half made of the list that is kept at `place`; make its folder. Blocking."""
    folder = os.path.dirname(place)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for name in os.listdir(folder):
        if name.startswith(_new(place)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))


def _new(place: str) -> str:
    return f".new-{os.path.basename(place)}-"
