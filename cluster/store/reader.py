"""Reading a mirror's committed records beside its writer, from any thread or process, without its lock."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from cluster.errors import DataMissing, NoRecords, StoreError
from cluster.model import Attributes, Failure, Held, Kind, Site, Skipped
from cluster.plan.origins import Health
from cluster.plan.saving import Received
from cluster.store import (
    agreement,
    blocks,
    deletion,
    digest,
    intents,
    origins,
    passes,
    received,
    rows,
    schema,
    states,
    suspects,
)
from cluster.store.agreement import Agreed
from cluster.store.late import LateHashes
from cluster.store.records import JournalRecord, PassRecord, Plan, Totals
from cluster.store.tree import Tree

_T = TypeVar("_T")
_JOURNAL_PAGE = 1000  # records read at once
LOOKS = 3  # at a file whose record is being replaced


class Reader:
    """Only what is committed. Every method raises StoreError where the records cannot be read."""

    def __init__(
        self, name: str, connection: sqlite3.Connection, tree: Tree, thread: ThreadPoolExecutor
    ) -> None:
        self._name, self._connection, self._tree, self._thread = name, connection, tree, thread
        self._tree_open = False
        self._late = LateHashes()

    @classmethod
    async def open(cls, mirror: str, site: Site) -> Reader:
        """Raises NoRecords where there are none yet; StoreError where they cannot be read, or a newer program
        wrote them."""
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"read {mirror}")
        try:
            connection, public = await asyncio.get_running_loop().run_in_executor(
                thread, _connect, os.path.join(site.state, f"{mirror}.db"), mirror
            )
        except BaseException:
            thread.shutdown(wait=False)
            raise
        tree = Tree(
            site.data,
            mirror,
            public,
            site=site.name,
            state=site.state,
            reserve=site.reserve,
            attributes=Attributes(),
        )
        return cls(mirror, connection, tree, thread)

    async def close(self) -> None:
        self._late.close()
        await self._ask(self._close)
        self._thread.shutdown(wait=False)

    def _close(self, connection: sqlite3.Connection) -> None:
        connection.close()
        if self._tree_open:
            self._tree.close()

    async def _ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, question, self._connection)
        except sqlite3.Error as error:
            raise StoreError(f"{self._name}: {error}") from error

    # -- what is held

    async def directory(self, directory: bytes) -> dict[bytes, Held] | None:
        """None where this mirror has no such directory."""
        return await self._ask(lambda c: _directory(c, directory))

    async def page(self, directory: bytes, after: bytes | None, limit: int) -> list[Held]:
        """Entries by name, for large directories."""

        def page(connection: sqlite3.Connection) -> list[Held]:
            identity = rows.directory_id(connection, directory)
            return [] if identity is None else rows.page(connection, identity, after, limit)

        return await self._ask(page)

    async def held(self, path: bytes) -> Held | None:
        return await self._ask(lambda c: rows.held(c, path))

    async def having(self, directory: bytes, *prefixes: bytes) -> list[bytes]:
        """Directories below this one that have a file whose name begins so."""
        return await self._ask(lambda c: _having(c, directory, prefixes))

    async def totals(self, directory: bytes = b"") -> Totals:
        """What lies below a directory."""
        return await self._ask(lambda c: digest.totals(c, directory))

    async def digest(self, directory: bytes) -> bytes | None:
        """None where the directory is not held, or changed since the digests were last brought up to date."""
        return await self._ask(lambda c: digest.stored_digest(c, directory))

    async def agreement(self, directory: bytes, known: bytes = b"", after: bytes = b"") -> Agreed:
        """With which listings of the origin a directory and what is below it agree."""
        return await self._ask(lambda c: agreement.agreed(c, directory, known, after))

    async def blocks(self, path: bytes) -> bytes:
        """What is recorded as the BLAKE3 of each 8 MiB block, concatenated."""
        return await self._ask(lambda c: rows.blocks(c, path))

    async def block_hashes(self, path: bytes, held: Held, descriptor: int) -> bytes:
        """The BLAKE3 of each 8 MiB block of an open file of this record, concatenated; empty for files up to
        8 MiB. Takes as long as to read the file where they were not recorded with it. Raises StoreError."""
        recorded = await self.blocks(path)
        if recorded or held.size <= blocks.BLOCK or held.sha256 is None:
            return recorded
        return await self._late.of(path, held, descriptor)

    async def open_file(self, path: bytes) -> tuple[int, Held] | None:
        """An open descriptor of a committed, undoubted public file (fstat agrees with its record), or None.

        The caller closes it.
        """
        return await self._ask(lambda c: self._open_file(c, path))

    async def named(self, wanted: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[dict[bytes, Held]]:
        """The records of some names of directories, in one question for all."""

        def named(connection: sqlite3.Connection) -> list[dict[bytes, Held]]:
            self._opened()  # for `bodies`
            return [rows.named(connection, directory, names) for directory, names in wanted]

        return await self._ask(named)

    def bodies(self, files: Sequence[tuple[bytes, Held]]) -> list[tuple[int, bytes]]:
        """Blocking, on any thread: which of these files (directory, and what `named` told) are on disk as
        recorded, and their bytes. Together they are in memory; for small files."""
        return self._tree.read_small(files) if self._tree_open else []

    def _open_file(self, connection: sqlite3.Connection, path: bytes) -> tuple[int, Held] | None:
        for _ in range(LOOKS):
            held = rows.held(connection, path) if path else None
            if held is None or held.kind is not Kind.FILE or held.unknown or not self._opened():
                return None
            descriptor = self._tree.open_file(path)
            if descriptor is None:
                return None
            found = os.fstat(descriptor)
            if _is(found, held):
                return descriptor, held
            coming = intents.coming(connection, path)
            if coming is not None and _is(found, coming):
                return descriptor, coming
            os.close(descriptor)
        return None

    def _opened(self) -> bool:
        """Whether the tree is there to be read."""
        if not self._tree_open:
            try:
                self._tree.open(writing=False)
            except DataMissing:
                return False
            self._tree_open = True
        return True

    # -- what is known about it

    async def notes(self, directory: bytes) -> tuple[list[Skipped], list[Failure], dict[bytes, int]]:
        """Skipped, failures, and names that are missing at the origin with when that began (s)."""

        def notes(connection: sqlite3.Connection) -> tuple[list[Skipped], list[Failure], dict[bytes, int]]:
            identity = rows.directory_id(connection, directory)
            if identity is None:
                return [], [], {}
            return (
                list(rows.skipped(connection, identity)),
                list(rows.failures(connection, identity)),
                rows.missing(connection, identity),
            )

        return await self._ask(notes)

    async def compared_at(self, directory: bytes) -> tuple[int | None, str]:
        """When (s) this directory was last compared with its origin, and which origin (its public URL)."""
        return await self._ask(lambda c: passes.compared_at(c, directory))

    async def passes(self, limit: int = 10) -> list[PassRecord]:
        """Newest first; the one that is going on has no end."""
        return await self._ask(lambda c: passes.latest(c, limit))

    async def errors(self, limit: int = 100) -> list[tuple[bytes, Failure]]:
        """(directory, failure), newest first."""

        def errors(connection: sqlite3.Connection) -> list[tuple[bytes, Failure]]:
            found = connection.execute(
                """SELECT d.path, f.name, f.error, f.at, f.since
                   FROM failures f JOIN directories d ON d.id = f.directory
                   ORDER BY f.at DESC, d.path, f.name LIMIT ?""",
                (limit,),
            )
            return [(path, Failure(*rest)) for path, *rest in found]

        return await self._ask(errors)

    async def received(self, limit: int = received.KEPT) -> tuple[dict[int, Received], Received]:
        """What the passes received: on each of the newest `limit` days that saw anything (days since 1970,
        UTC), and in all since the records began."""
        return await self._ask(lambda c: (received.days(c, limit), received.total(c)))

    async def origins(self) -> dict[str, Health]:
        """How each origin has done, by its URL."""
        return await self._ask(origins.known)

    async def suspects(self) -> dict[str, int]:
        """Files that have still to be compared with the origin, by the caught sibling that they came from."""
        return await self._ask(suspects.counted)

    async def repositories(self) -> list[dict[str, object]]:
        """What is known of each root of a repository: `cluster.store.states.told`."""
        return await self._ask(states.told)

    async def held_plan(self) -> Plan | None:
        return await self._ask(deletion.held_plan)

    # -- what changed

    async def journal(self, after: int = 0, limit: int = 10_000) -> AsyncIterator[JournalRecord]:
        """Records with a number above `after`, in order. A directory's deletion stands for all below it."""
        while limit > 0:
            asked = min(limit, _JOURNAL_PAGE)
            page = await self._ask(partial(_journal, after=after, limit=asked))
            for record in page:
                yield record
            if len(page) < asked:
                return
            after = page[-1].seq
            limit -= asked

    async def position(self) -> tuple[str, int, int]:
        """(epoch, first, last): the journal's epoch is new when its numbers begin anew; records before
        `first` are gone. 1, 0 where it is empty."""

        def position(connection: sqlite3.Connection) -> tuple[str, int, int]:
            first, last = connection.execute("SELECT min(seq), max(seq) FROM journal").fetchone()
            return schema.meta_get(connection, "epoch") or "", first or 1, last or 0

        return await self._ask(position)


def _is(found: os.stat_result, held: Held) -> bool:
    """Whether an open file is the one of this record."""
    return (found.st_size, found.st_mtime_ns, found.st_ino) == (held.size, held.disk_mtime, held.inode)


def _connect(path: str, mirror: str) -> tuple[sqlite3.Connection, str]:
    try:
        connection = schema.connect(path, read_only=True)
    except sqlite3.DatabaseError as error:
        reason = schema.why(path, error)
        if isinstance(reason, FileNotFoundError):
            raise NoRecords(mirror) from error
        raise StoreError(f"{path}: {reason.strerror}" if reason else f"{mirror}: {error}") from error
    try:
        with closing_on_error(connection):
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            public = schema.meta_get(connection, "path") if version == len(schema.STEPS) else None
    except sqlite3.Error as error:
        raise StoreError(f"{mirror}: {error}") from error
    if public is None:
        connection.close()
        raise StoreError(f"{mirror}: its records have schema {version}, not {len(schema.STEPS)}")
    return connection, public


@contextmanager
def closing_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Leave it open only where nothing is raised."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _having(connection: sqlite3.Connection, directory: bytes, prefixes: Sequence[bytes]) -> list[bytes]:
    found: set[bytes] = set()
    for prefix in prefixes:
        query = f"""SELECT d.path FROM directories d WHERE d.path >= ? AND d.path < ? AND EXISTS
                    (SELECT 1 FROM entries e WHERE e.directory = d.id AND e.name >= ? AND e.name < ?
                     AND e.kind = {rows.FILE} AND e.unknown = 0)"""  # noqa: S608
        values = *rows.below(directory), prefix, prefix + b"\xff"
        found.update(path for (path,) in connection.execute(query, values))
    return sorted(found)


def _directory(connection: sqlite3.Connection, directory: bytes) -> dict[bytes, Held] | None:
    if not rows.is_recorded(connection, directory):
        return None
    identity = rows.directory_id(connection, directory)
    return {} if identity is None else rows.entries(connection, identity)


def _journal(connection: sqlite3.Connection, after: int, limit: int) -> list[JournalRecord]:
    found = connection.execute(
        """SELECT seq, at, action, path, kind, size, sha256, source FROM journal
           WHERE seq > ? ORDER BY seq LIMIT ?""",
        (after, limit),
    )
    return [
        JournalRecord(seq, at, intents.ACTIONS[action], path, rows.KINDS[kind], *rest)
        for seq, at, action, path, kind, *rest in found
    ]
