"""`STATE/MIRROR.db`: its tables, its versions, and how a connection to it is made: `docs/design/store.md`."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from cluster.errors import DiskFull, StoreError

ROOT = 1  # id of the directory b""
ABOVE = 0  # "directory" of the root's own record, whose name is b""

LARGE = 256 * 2**20  # bytes; beyond this a full integrity_check takes minutes, quick_check seconds

# Step i brings version i to i + 1; a new file begins at 0.
STEPS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE directories (
        id INTEGER PRIMARY KEY,
        path BLOB NOT NULL UNIQUE,
        parent INTEGER NOT NULL,
        digest BLOB,                    -- NULL: stale, and so are the four sums
        files INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        directories INTEGER NOT NULL DEFAULT 0,
        symlinks INTEGER NOT NULL DEFAULT 0,
        newest INTEGER,
        compared INTEGER,               -- s; its own time, where it deviates from that of the passes
        origin TEXT,                    -- compared with
        fail_first INTEGER,             -- ids of the passes from .. to which it could not be compared
        fail_last INTEGER,
        recovered INTEGER NOT NULL DEFAULT 0,
        token BLOB,                     -- of the listing that everything here agrees with
        dirty INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX directories_parent ON directories (parent);
    CREATE INDEX directories_stale ON directories (path) WHERE digest IS NULL;
    CREATE INDEX directories_dirty ON directories (id) WHERE dirty > 0;
    CREATE INDEX directories_failed ON directories (path) WHERE fail_last IS NOT NULL;
    CREATE INDEX directories_recovered ON directories (id) WHERE recovered > 0;

    CREATE TABLE entries (
        directory INTEGER NOT NULL,
        name BLOB NOT NULL,
        kind INTEGER NOT NULL,          -- 0 file, 1 directory, 2 symlink
        size INTEGER NOT NULL,
        sha256 BLOB,
        mtime INTEGER,                  -- ns
        link TEXT,
        unknown INTEGER NOT NULL,
        more BLOB NOT NULL,             -- msgpack: everything else of Held
        PRIMARY KEY (directory, name)
    ) WITHOUT ROWID;
    CREATE INDEX entries_link ON entries (link) WHERE link IS NOT NULL;

    CREATE TABLE blocks (
        directory INTEGER NOT NULL, name BLOB NOT NULL, hashes BLOB NOT NULL,
        PRIMARY KEY (directory, name)
    ) WITHOUT ROWID;

    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL, action INTEGER NOT NULL, path BLOB NOT NULL, kind INTEGER NOT NULL,
        size INTEGER NOT NULL, sha256 BLOB, source TEXT NOT NULL
    );

    CREATE TABLE skipped (
        directory INTEGER NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL, reason TEXT NOT NULL,
        size INTEGER, mtime INTEGER, precision INTEGER,
        PRIMARY KEY (directory, name)
    ) WITHOUT ROWID;
    CREATE TABLE failures (
        directory INTEGER NOT NULL, name BLOB NOT NULL, error TEXT NOT NULL,
        at INTEGER NOT NULL, since INTEGER NOT NULL,
        PRIMARY KEY (directory, name)
    ) WITHOUT ROWID;
    CREATE TABLE missing (
        directory INTEGER NOT NULL, name BLOB NOT NULL,
        first INTEGER NOT NULL, sightings INTEGER NOT NULL, pass INTEGER NOT NULL,
        PRIMARY KEY (directory, name)
    ) WITHOUT ROWID;
    CREATE INDEX missing_pass ON missing (pass);
    CREATE TABLE emptied (
        directory INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL,
        entries INTEGER NOT NULL, listed INTEGER NOT NULL
    );

    CREATE TABLE passes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        started INTEGER NOT NULL, ended INTEGER, outcome TEXT, origin TEXT NOT NULL, scope BLOB NOT NULL,
        fingerprint TEXT NOT NULL, covers INTEGER NOT NULL DEFAULT 0, counts TEXT NOT NULL DEFAULT '{}'
    );
    CREATE INDEX passes_covering ON passes (id) WHERE covers = 1;
    CREATE TABLE frontier (pass INTEGER PRIMARY KEY, paths BLOB NOT NULL, cursor BLOB NOT NULL);
    CREATE TABLE later (
        pass INTEGER NOT NULL, stage INTEGER NOT NULL, directory BLOB NOT NULL, name BLOB NOT NULL,
        entry BLOB NOT NULL,
        PRIMARY KEY (pass, stage, directory, name)
    ) WITHOUT ROWID;

    CREATE TABLE plans (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        hash TEXT NOT NULL, at INTEGER NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
        held_because TEXT NOT NULL, waiting INTEGER NOT NULL, approved INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE plan_items (
        path BLOB PRIMARY KEY, directory INTEGER NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL,
        evidence BLOB NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
        first INTEGER NOT NULL, sightings INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE removals (path BLOB PRIMARY KEY, at INTEGER NOT NULL, error TEXT) WITHOUT ROWID;
    CREATE TABLE window (at INTEGER NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL);

    CREATE TABLE intents (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, batch BLOB NOT NULL);
    CREATE TABLE partials (
        path BLOB PRIMARY KEY, temporary BLOB NOT NULL, etag TEXT NOT NULL, size INTEGER,
        length INTEGER NOT NULL, sha256 BLOB NOT NULL, at INTEGER NOT NULL
    ) WITHOUT ROWID;

    INSERT INTO directories (id, path, parent) VALUES (1, x'', 0);
    """,
    """
    CREATE TABLE suspects (             -- to be compared with the origin's bytes: `cluster.store.suspects`
        directory INTEGER NOT NULL, name BLOB NOT NULL, site TEXT NOT NULL,
        size INTEGER NOT NULL, sha256 BLOB, mtime INTEGER, precision INTEGER NOT NULL,
        PRIMARY KEY (directory, name)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE received (             -- bytes of files: `cluster.store.received`
        day INTEGER PRIMARY KEY,        -- since 1970, UTC; -1 stands for all days before those that are kept
        origin INTEGER NOT NULL, sideways INTEGER NOT NULL
    );
    INSERT INTO received
        SELECT max(0, ended / 86400), sum(ifnull(json_extract(counts, '$.bytes.origin'), 0)),
               sum(ifnull(json_extract(counts, '$.bytes.sideways'), 0))
        FROM passes WHERE ended IS NOT NULL AND json_extract(counts, '$.bytes') IS NOT NULL GROUP BY 1;
    """,
    """
    CREATE TABLE growing (              -- large files that arrive by parts: `cluster.store.growing`
        path BLOB PRIMARY KEY, temporary BLOB NOT NULL, etag TEXT NOT NULL, size INTEGER NOT NULL,
        at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE grown (                -- runs of their blocks that are on disk
        path BLOB NOT NULL, first INTEGER NOT NULL, source TEXT NOT NULL, hashes BLOB NOT NULL,
        PRIMARY KEY (path, first)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE directories ADD COLUMN looks BLOB;  -- what is on disk, when that was all as recorded
    """,
    """
    ALTER TABLE directories ADD COLUMN agreed BLOB; -- `cluster.store.agreement`
    UPDATE directories SET token = NULL; -- so that all sums are nothing
    CREATE INDEX directories_undecided ON directories (path) WHERE token IS NULL;
    DROP INDEX directories_parent;
    CREATE INDEX directories_below ON directories (parent, path);
    """,
    """
    CREATE TABLE roots (                -- of repositories: `cluster.store.states`
        name BLOB PRIMARY KEY, type TEXT NOT NULL, parts BLOB NOT NULL,
        trouble TEXT NOT NULL DEFAULT '', since INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE states (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        root BLOB NOT NULL, stand INTEGER NOT NULL, sha256 BLOB NOT NULL, label TEXT NOT NULL,
        kind TEXT NOT NULL, key INTEGER NOT NULL,  -- of the order in which states follow each other
        valid_until INTEGER, at INTEGER NOT NULL, read INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX states_root ON states (root);
    CREATE TABLE named (
        state INTEGER NOT NULL, directory BLOB NOT NULL, name BLOB NOT NULL,
        role INTEGER NOT NULL, turn INTEGER NOT NULL, size INTEGER,
        algorithm TEXT NOT NULL, digest BLOB NOT NULL, sha256 BLOB, optional INTEGER NOT NULL,
        PRIMARY KEY (state, directory, name)
    ) WITHOUT ROWID;
    CREATE INDEX named_path ON named (directory, name);
    CREATE TABLE waiting (              -- complete temporaries, to be published with their state
        directory BLOB NOT NULL, name BLOB NOT NULL, temporary BLOB NOT NULL, inode INTEGER NOT NULL,
        sha256 BLOB NOT NULL, held BLOB NOT NULL, blocks BLOB NOT NULL,
        PRIMARY KEY (directory, name)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE roots ADD COLUMN older BLOB;    -- SHA-256 of a root that is held, since it is older
    ALTER TABLE roots ADD COLUMN approved BLOB; -- of one that is published all the same
    """,
)


def connect(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode. It may be made on one thread and used on another, by one at a time."""
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode={'ro' if read_only else 'rwc'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=30.0,
        cached_statements=256,
    )
    connection.execute("PRAGMA cache_size = -8192")
    return connection


def prepare(connection: sqlite3.Connection, name: str, steps: tuple[str, ...] = STEPS) -> None:
    """Create what is missing, or bring an older version forward, in one transaction.

    Raises StoreError for a version that a newer program wrote, sqlite3.DatabaseError for a damaged file.
    """
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 2000")
    connection.execute("PRAGMA synchronous = FULL")
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(steps):
        raise StoreError(
            f"{name}: its records have schema {version}, this program knows up to {len(steps)}: "
            f"use the newer program"
        )
    if version == len(steps):
        return
    script = ["BEGIN IMMEDIATE;", *steps[version:], f"PRAGMA user_version = {len(steps)};", "COMMIT;"]
    try:
        connection.executescript("\n".join(script))
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if version == 0:
        meta_set(connection, "epoch", secrets.token_hex(8))  # new with every new store: followers notice


def meta_get(connection: sqlite3.Connection, key: str) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def meta_set(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def verify(connection: sqlite3.Connection, path: str) -> None:
    """SQLite's own check of the whole file. Raises sqlite3.DatabaseError with what it found."""
    check = "quick_check" if os.stat(path).st_size > LARGE else "integrity_check"
    found = connection.execute(f"PRAGMA {check}(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(str(found))


@contextmanager
def transaction(connection: sqlite3.Connection, *, durable: bool = False) -> Iterator[None]:
    """All or nothing. `durable` commits are on disk when this ends; others survive a crash of the program
    and may be lost, in order, with the power. Raises DiskFull, StoreError."""
    try:
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise refusal(error, _file(connection)) from error
        raise


def refusal(error: sqlite3.Error, file: str) -> StoreError:
    """What SQLite could not do with these records, in our words."""
    mirror = os.path.basename(file).removesuffix(".db")
    if getattr(error, "sqlite_errorname", "") != "SQLITE_FULL":
        return StoreError(f"{mirror}: records: {error}")
    disk = os.statvfs(os.path.dirname(file))
    free = disk.f_bavail * disk.f_frsize
    return DiskFull(f"{mirror}: records: the disk of {file} is full: {free} bytes are free")


def _file(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA database_list").fetchone()[2])


def why(path: str, error: sqlite3.Error) -> OSError | None:
    """What the kernel says where SQLite says no more than that it cannot open the file; else None."""
    if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_CANTOPEN:
        return None
    try:
        with open(path, "rb"):
            return None
    except OSError as reason:
        return reason
