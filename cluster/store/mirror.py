"""One mirror's store: the records and the tree joined by the order of effects (HAZARDS 3.2, 3.4).

Async; SQLite runs on threads of its own, the tree on others. Paths are bytes, times that are passed in
are seconds since 1970 (`now`). Only this package writes `STATE/MIRROR.db`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from cluster.errors import Locked, StoreError
from cluster.model import Deletion, Entry, Held, Kind, Mirror, Once, Site, join
from cluster.plan.origins import Health
from cluster.store import (
    adoption,
    agreement,
    deletion,
    digest,
    intents,
    leftout,
    origins,
    passes,
    rows,
    schema,
    suspects,
)
from cluster.store.agreement import Agreed
from cluster.store.beginnings import Beginnings
from cluster.store.connections import Connections
from cluster.store.contents import Contents
from cluster.store.disk import Disk
from cluster.store.effects import Effects
from cluster.store.landing import Landing, Taken
from cluster.store.lock import Lock
from cluster.store.once import StoredOnce
from cluster.store.opening import Opened, book_refusal, open_copy, open_store
from cluster.store.publishing import Batch, Following
from cluster.store.reader import Reader
from cluster.store.records import (
    Compared,
    Glance,
    JournalRecord,
    Later,
    PassRecord,
    Plan,
    Planned,
    Rechecked,
    Totals,
    View,
)
from cluster.store.small import Order
from cluster.store.staging import Staging
from cluster.store.switching import Repositories
from cluster.store.telling import Telling
from cluster.store.tree import Change, Staged
from cluster.store.viewing import glances, look

__all__ = [
    "Batch",
    "Compared",
    "Glance",
    "JournalRecord",
    "Later",
    "MirrorStore",
    "PassRecord",
    "Plan",
    "Planned",
    "Reader",
    "Rechecked",
    "Staging",
    "Totals",
    "View",
]

_log = logging.getLogger(__name__)

DIRECTORIES_AT_ONCE = 1000  # of one answer of `later_directories`
LIKE = 500  # names of one directory that are looked at for one that is like another
STATUS_AT_START = 5.0  # s that status files may take when a mirror is opened after a crash


class MirrorStore:
    """See the module. Opened by one process at a time for writing (`STATE/MIRROR.lock`)."""

    def __init__(
        self,
        mirror: Mirror,
        lock: Lock,
        opened: Opened,
        disk: Disk,
        *,
        writing: bool = True,
    ) -> None:
        self._name, self._writing = mirror.name, writing
        self._lock, self._tree, self._disk = lock, opened.tree, disk
        self._records: Connections = opened.records
        self._telling = Telling(self._records, disk, opened.publicity)
        self.beginnings = Beginnings(self._records, self._tree, disk)
        self._effects = Effects(self._records, self._tree, disk, self._telling, self.beginnings.grown)
        self.repositories = Repositories(self._records, self._tree, disk.run, self.publish)

    @classmethod
    async def open(cls, mirror: Mirror, site: Site, now: int) -> MirrorStore:
        """Lock, check the marker, migrate, recover (HAZARDS 3.4).

        Records that cannot be read are moved aside: what is on disk is then unknown and taken over by
        `adopt`. Raises Locked, DataMissing, StoreError (newer schema); all but Locked are booked as a failed
        pass, where there are records.
        """
        disk = Disk(f"disk {mirror.name}")
        lock = Lock(os.path.join(site.state, f"{mirror.name}.lock"), mirror.name)
        try:
            opened = await disk.run(open_store, mirror, site, lock, now)
        except BaseException as error:
            if isinstance(error, StoreError) and not isinstance(error, Locked):
                await disk.run(book_refusal, mirror, site, lock, str(error), now)
            lock.release()
            disk.threads.shutdown(wait=False)
            raise
        store = cls(mirror, lock, opened, disk)
        try:
            await store._effects.finish_removals(now)
            await store.repositories.finish(now)
            if opened.recovered:
                touched = sorted(opened.recovered)
                await store._records.read(lambda c: opened.publicity.write(c, touched, now))
            if not opened.clean:
                await store.write_status(STATUS_AT_START)
        except StoreError as error:
            _log.warning("%s: after a crash: %s", mirror.name, error)
        except BaseException:
            await store.close()
            raise
        return store

    @classmethod
    @contextlib.asynccontextmanager
    async def copied(cls, mirror: Mirror, site: Site, now: int) -> AsyncIterator[MirrorStore]:
        """A store on a copy of the committed records, beside whoever writes them: for a pass that only looks.
        What is recorded in it is gone afterwards; it neither publishes nor deletes. Raises StoreError.
        """
        with tempfile.TemporaryDirectory(prefix="sideways-look-") as folder:
            opened = await asyncio.to_thread(open_copy, mirror, site, folder, now)
            lock = Lock(os.path.join(folder, f"{mirror.name}.lock"), mirror.name)
            disk = Disk(f"look {mirror.name}")
            store = cls(mirror, lock, opened, disk, writing=False)
            try:
                yield store
            finally:
                await store.close()

    async def close(self) -> None:
        """Waits for what is under way. Temporaries that nobody goes on with are gone afterwards."""
        await self._disk.settled()
        try:
            await asyncio.to_thread(self._disk.threads.shutdown)
            if self._writing:
                now = int(time.time())
                keep = await self._records.write(lambda c, _: adoption.partial_names(c, now))
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._tree.remove_orphans, keep)
        finally:
            await self._records.close()
            self._telling.close()
            self._tree.close()
            self._lock.release()

    def __repr__(self) -> str:
        return f"<MirrorStore {self._name}>"

    # -- what we hold

    async def view(self, directory: bytes) -> View:
        """Raises Blocked where something else stands in the place of the directory or above it."""
        moves = self._effects.moves
        seen = await self._records.read(lambda c: look(c, self._tree, directory))
        if (seen.damaged or seen.strangers or seen.worn) and (moves % 2 or moves != self._effects.moves):
            async with self._effects.between_batches():  # names moved while we looked: again while none does
                seen = await self._records.read(lambda c: look(c, self._tree, directory))
        return seen

    async def glances(self, directories: Sequence[bytes]) -> dict[bytes, Glance | View]:
        """Those of these directories that are as they were left, and (with a view of nothing) those that are
        new and empty; of all others ask for a `view`."""
        return await self._records.read(lambda c: glances(c, self._tree, directories))

    async def held(self, path: bytes) -> Held | None:
        """The record of one path."""
        return await self._records.read(lambda c: rows.held(c, path))

    async def totals(self, directory: bytes = b"") -> Totals:
        return await self._records.read(lambda c: digest.totals(c, directory))

    async def open_file(self, path: bytes) -> tuple[int, Held] | None:
        """An open descriptor, the caller's to close, of a public file that is as its record says; None where
        there is none. Raises StoreError."""
        held = await self.held(path)
        if held is None or held.kind is not Kind.FILE or held.unknown:
            return None
        descriptor = await self._disk.run(self._tree.open_file, path)
        if descriptor is None:
            return None
        found = os.fstat(descriptor)
        if (found.st_size, found.st_mtime_ns, found.st_ino) == (held.size, held.disk_mtime, held.inode):
            return descriptor, held
        os.close(descriptor)
        return None

    async def blocks(self, path: bytes) -> bytes:
        """The BLAKE3 of each 8 MiB block, concatenated; empty for files up to 8 MiB."""
        return await self._records.read(lambda c: rows.blocks(c, path))

    async def files_like(self, directory: bytes, prefix: bytes) -> list[bytes]:
        """The first names in a directory that begin so, `LIKE` of them at most."""

        def some(connection: sqlite3.Connection) -> list[bytes]:
            identity = rows.directory_id(connection, directory)
            found = [] if identity is None else rows.page(connection, identity, prefix, LIKE)
            return [one.name for one in found if one.kind is Kind.FILE and one.name.startswith(prefix)]

        return await self._records.read(some)

    async def skipped(self) -> int:
        """How many names are left out, in all directories together."""
        return await self._records.read(
            lambda c: int(c.execute("SELECT count(*) FROM skipped").fetchone()[0])
        )

    async def left_out(self) -> list[dict[str, object]]:
        """How much is left out for which reason: see `cluster.store.leftout`."""
        return await self._records.read(leftout.by_reason)

    async def silent(self, rules: str) -> set[str] | None:
        """The rules that have matched nothing since they are these."""
        return await self._records.read(lambda c: leftout.silent(c, rules))

    async def by_link(self, link: str) -> bytes | None:
        """The path of a published file that belongs to this hard-link group of the origin."""
        return await self._records.read(lambda c: rows.by_link(c, link))

    async def linked(self, link: str) -> list[tuple[bytes, Held]]:
        """Every name that is recorded with this hard-link group: (directory, record)."""
        return await self._records.read(lambda c: rows.linked(c, link))

    # -- a pass

    async def pass_begin(self, now: int, fingerprint: str, origin: str, *, scope: bytes = b"") -> PassRecord:
        """A new pass, or the open one if it was interrupted less than 24 h ago with the same fingerprint."""
        return await self._records.write(lambda c, _: passes.begin(c, now, fingerprint, origin, scope))

    async def pass_end(
        self,
        record: PassRecord,
        outcome: str,
        counts: dict[str, object],
        now: int,
        since: int | None = None,
    ) -> None:
        """A complete or held pass says that all of its scope was compared. An incomplete one says so where
        its last checkpoint is empty (or there is none), a failed one never. `since` (s): a listing that a
        sibling relayed was that old."""
        await self._records.write(
            lambda c, _: passes.end(c, record, outcome, counts, now, since), durable=True
        )

    async def pass_stopped(self, reason: str, counts: dict[str, object], now: int) -> None:
        """The open pass was cut off, by `reason` where that is told, and had come to `counts`; the next one
        goes on with it."""
        await self._records.write(lambda c, _: passes.stopped(c, reason, counts, now), durable=True)

    async def last_through(self) -> tuple[int, int] | None:
        """As of when (s) everything was compared last, and when this site last looked at everything itself;
        None where it never did, or where a pass is open, to be gone on with."""
        return await self._records.read(passes.last_through)

    async def origins(self) -> dict[str, Health]:
        """How each origin has done, by its URL."""
        return await self._records.read(origins.known)

    async def note_origins(self, health: Mapping[str, Health]) -> None:
        """Remember how these did."""
        await self._records.write(lambda c, _: origins.note(c, health))

    async def last_origin(self) -> str | None:
        """The origin of the newest pass that chose one; None where there was none."""
        return await self._records.read(origins.last)

    async def sample_directories(self, lately: int, spread: int) -> list[bytes]:
        """Directories that tell how old a copy is: see `cluster.store.origins`."""
        return await self._records.read(lambda c: origins.sample(c, lately, spread))

    async def directory(self, path: bytes) -> dict[bytes, Held]:
        """What is recorded of one directory, without a look at the disk."""

        def recorded(connection: sqlite3.Connection) -> dict[bytes, Held]:
            identity = rows.directory_id(connection, path)
            return {} if identity is None else rows.entries(connection, identity)

        return await self._records.read(recorded)

    async def last_ended(self) -> float | None:
        """When (s) a pass last ended, over whatever part; infinity where one is open, to be gone on with;
        None where there was none."""
        return await self._records.read(passes.last_ended)

    async def compared_at(self, directory: bytes) -> int | None:
        """When (s) this directory was last compared with its origin."""
        return (await self._records.read(lambda c: passes.compared_at(c, directory)))[0]

    async def frontier_save(
        self, record: PassRecord, paths: Sequence[bytes], cursor: dict[str, object]
    ) -> None:
        """Checkpoint: these directories are still to do. Unsynced is fine; replaces the last checkpoint."""
        await self._records.write(lambda c, _: passes.frontier_save(c, record, paths, cursor))

    async def frontier_load(self, record: PassRecord) -> tuple[list[bytes], dict[str, Any]]:
        return await self._records.read(lambda c: passes.frontier_load(c, record))

    async def compared(self, results: Sequence[Compared], record: PassRecord, now: int) -> None:
        """Write what deviates; nothing at all for results that are not notable. It is written also where
        the caller is cancelled meanwhile."""
        if any(result.notable or result.missing for result in results):
            await self._disk.whole(
                self._records.write(lambda c, ids: passes.compared(c, ids, results, record, now))
            )

    async def note_failures(self, failures: Mapping[bytes, Sequence[tuple[bytes, str]]], now: int) -> None:
        """Failures `(name, error)` by directory, found after it had been compared; others stay. As
        `compared`."""
        await self._disk.whole(
            self._records.write(lambda c, ids: passes.note_failures(c, ids, failures, now))
        )

    async def token(self, directory: bytes) -> bytes:
        """Of the listing that the directory agreed with when it was last compared (`View.token`), whatever
        has happened to it since."""
        return await self._records.read(lambda c: agreement.told(c, directory))

    async def agreed(self, tokens: Mapping[bytes, bytes]) -> None:
        """By directory: the token of the listing that everything in it agrees with now (`View.token`);
        empty where there is none any more."""
        await self._disk.whole(self._records.write(lambda c, _: agreement.put(c, tokens)))

    async def agreement(self, directory: bytes, known: bytes = b"", after: bytes = b"") -> Agreed:
        """With which listings a directory and what is below it agree; see `cluster.store.agreement`."""
        return await self._records.read(lambda c: agreement.agreed(c, directory, known, after))

    async def undecided(self, limit: int) -> list[bytes]:
        """Up to `limit` directories that have to be looked at whatever a sibling found."""
        return await self._records.read(lambda c: agreement.undecided(c, limit))

    async def seen(self, seen: Mapping[bytes, tuple[bytes, bytes]]) -> None:
        """By directory: (`View.token`, `View.looks`) of one that agreed with its listing. From now on a
        glance tells that it still does, until anything is recorded of what is in it."""
        await self._records.write(lambda c, ids: rows.set_looks(c, ids, seen))

    async def later_add(self, record: PassRecord, stage: int, items: Sequence[Later]) -> None:
        await self._records.write(lambda c, _: passes.later_add(c, record, stage, items))

    async def later_directories(
        self, record: PassRecord, stage: int, *, reverse: bool = False
    ) -> list[bytes]:
        """Directories with work left in a stage, by path; at most 1000."""

        def first(connection: Any) -> list[bytes]:  # noqa: ANN401  # sqlite3.Connection
            found = passes.later_directories(connection, record, stage, reverse=reverse)
            return list(islice(found, DIRECTORIES_AT_ONCE))

        return await self._records.read(first)

    async def later_take(self, record: PassRecord, stage: int, directory: bytes) -> list[Entry]:
        """The work of one directory. It stays until `later_done`, so that a crash repeats it."""
        return await self._records.read(lambda c: passes.later_take(c, record, stage, directory))

    async def later_entry(
        self, record: PassRecord, stage: int, directory: bytes, name: bytes
    ) -> Entry | None:
        """What is kept of one name for a stage, if anything."""
        return await self._records.read(lambda c: passes.later_entry(c, record, stage, directory, name))

    async def later_done(self, record: PassRecord, over: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Stage, directory and name of what nobody need come back to."""
        await self._records.write(lambda c, _: passes.later_done(c, record, over))

    # -- siblings that were caught

    async def suspect(self, site: str, caught: float) -> int | None:
        """A sibling was caught (s since 1970): what came from it within the window, and was never compared
        with the origin, is in `View.suspects` until it has been. How many files; None where this was done
        for this very time before.
        """
        key = suspects.handled_key(site)
        if await self._records.read(lambda c: schema.meta_get(c, key)) == repr(caught):
            return None
        count = 0
        after: suspects.Place | None = suspects.FIRST
        while after is not None:
            found, after = await self._records.read(partial(suspects.find, site=site, at=caught, after=after))
            count += len(found)
            if found:
                await self._records.write(lambda c, _: suspects.add(c, found))  # noqa: B023  # awaited
        await self._records.write(lambda c, _: schema.meta_set(c, key, repr(caught)), durable=True)
        return count

    async def settle_suspects(self) -> list[Rechecked]:
        """Those whose bytes have come from the origin since are suspects no longer: what came of them."""
        if not await self._records.read(suspects.any_left):
            return []
        return await self._records.write(lambda c, _: suspects.settle(c), durable=True)

    # -- bytes

    async def stage_small(self, files: Sequence[tuple[Held, bytes | memoryview]]) -> list[Staged]:
        """Write complete small bodies to temporaries. Raises DiskFull, StoreError."""
        return await self._disk.run(self._tree.stage_small, files)

    @property
    def temporaries_folder(self) -> int:
        """The open folder into which the courier writes; it stays ours."""
        return self._tree.temporaries.folder

    async def room_for(self, size: int, files: int) -> None:
        """So many files of `size` bytes together are about to be written. Raises DiskFull."""
        await self._disk.run(self._tree.space.require, size, files)

    def looks(self, held: Held) -> Order:
        """What is to be set on the temporary of this record."""
        return self._tree.temporaries.order(held)

    def explain(self, path: bytes, code: int) -> StoreError:
        """Why writing `path` failed with this errno."""
        return self._tree.space.explain(path, OSError(code, os.strerror(code)))

    async def forget_temporaries(self, names: Iterable[bytes]) -> None:
        """Remove those of them that exist."""
        await self._disk.run(self._tree.temporaries.remove, list(names))

    async def landed(
        self, landing: Landing, files: Sequence[tuple[bytes, Held]], *, parts: bool
    ) -> list[Taken]:
        """See `Landing.take`."""
        return await self._disk.run(partial(landing.take, files, parts=parts))

    async def landing_growth(self, landing: Landing, paths: Sequence[bytes]) -> list[int]:
        """See `Landing.growth`."""
        return await self._disk.run(landing.growth, paths)

    async def stage_copy(self, held: Held, descriptor: int) -> Staged:
        """Copy an open local file: sparse-safe, hashed, fstat before and after. Closes the descriptor.
        Raises Changed when the source changed meanwhile."""

        def copy() -> Staged:
            try:
                return self._tree.copy(descriptor, held)
            finally:
                os.close(descriptor)

        return await self._disk.run(copy)

    async def stage_own(self, path: bytes, held: Held) -> Staged | None:
        """Copy one of our public files, so that its name can have a body of its own; None where it is not
        there, or its content is not that of `held`. Raises DiskFull, StoreError, Changed."""

        def copy() -> Staged | None:
            descriptor = self._tree.open_file(path)
            if descriptor is None:
                return None
            try:
                staged = self._tree.copy(descriptor, held)
            finally:
                os.close(descriptor)
            if staged.held.sha256 == held.sha256:
                return staged
            self._tree.discard([staged])
            return None

        return await self._disk.run(copy)

    def stored_once(self, site: Site, neighbours: Iterable[str], once: Once, *, parts: bool) -> StoredOnce:
        """What is here already, of this mirror and of these others of the site. `parts`: siblings may ask for
        ranges of large files."""
        found = Contents(self._tree, site, neighbours, once, parts=parts)
        return StoredOnce(self._records, found, self._disk, self.beginnings.replaced)

    async def names(self, path: bytes) -> int:
        """How many names a public file has on this disk; 0 where there is none. Raises StoreError."""
        return await self._disk.run(self._tree.names, path)

    async def staged_range(self, staged: Staged, start: int, length: int) -> bytes:
        """Bytes of a complete temporary, to be compared with somebody else's. Raises StoreError."""
        return await self._disk.run(adoption.staged_range, self._tree, staged, start, length)

    async def discard(self, *staged: Staged) -> None:
        """Remove complete temporaries that will not be published."""
        await self._disk.run(self._tree.discard, staged)

    async def adopt(self, directory: bytes, entry: Entry) -> Held | None:
        """A file on disk that the store does not know or doubts: hash it, and the record if it is the listed
        version (exact size, agreeing time). Publish it with a Change of `attributes`."""
        known = await self.held(join(directory, entry.name))
        found = await self._disk.run(adoption.examine, self._tree, directory, entry, known)
        if found is None:
            return None
        held, blocks = found
        if blocks:
            await self._records.write(
                lambda c, ids: adoption.keep_blocks(c, ids, directory, held.name, blocks)
            )
        return held

    async def publish(
        self, changes: Sequence[Change], attributes: dict[bytes, Held], now: int, *, ordered: bool = False
    ) -> list[Exception | None]:
        """One batch by the order of effects: intent, sync, renames, directories synced, result and journal.

        `attributes`: directories whose own mode, owner and mtime are set afterwards (path -> record; with b""
        for the root). Per change None, or why it was not done (Blocked, DiskFull, OSError); the rest is.
        `ordered` as in Batch. Raises DiskFull, StoreError where the records cannot be written; what was
        renamed by then is found again by the next call, or when the store is opened."""
        told: list[list[Exception | None]] = []
        await self.publish_all(Batch(changes, attributes, now, told.append, ordered), lambda: None)
        return told[0]

    async def publish_all(self, first: Batch, following: Following) -> None:
        """A batch, and then those that follow it, as long as `following` has one when it is asked: once for
        each, when its names are renamed and nothing of it is durable yet. The next one's temporaries and its
        intent are made durable with what the one before has left to be made so. Each batch is told as soon as
        it is over. Raises as `publish`.
        """
        await self._effects.publish_all(first, following)

    async def refresh(self, directory: bytes, records: Sequence[Held]) -> None:
        """Records change, the disk does not: a new listed row, a settled minute."""
        await self._records.write(lambda c, ids: intents.refresh(c, ids, directory, records))

    # -- deletions

    async def plan(
        self, record: PassRecord, policy: Deletion, now: int, spared: Sequence[bytes] = ()
    ) -> Plan:
        """What is due after this complete pass, judged by `plan.guard`. Stored as held if it may not go.
        Names at and below `spared` wait."""
        await self.scrub_digests()
        return await self._records.write(
            lambda c, _: deletion.make(c, record, policy, now, spared), durable=True
        )

    async def delete(self, plan: Plan, now: int) -> tuple[int, int]:
        """Carry out a plan as a whole: tombstones committed, status rewritten, then renames to the trash.
        Returns (files, bytes). A rename that fails is told in the status, and tried again later.

        Raises StoreError, with nothing deleted, where the plan is held or no longer what the records say.
        """
        return await self._effects.delete(plan, now)

    async def held_plan(self) -> Plan | None:
        return await self._records.read(deletion.held_plan)

    async def approve(self, hash: str, now: int) -> Plan:
        """The held plan, which `delete` takes from now on. Raises UsageError when it has another hash.
        A later `plan` with this hash is not held; an approval is used once."""
        return await self._records.write(lambda c, _: deletion.approve(c, hash), durable=True)

    async def empty_trash(self, older_than: int) -> None:
        """Remove for good what was deleted at `older_than` (s) or before."""
        await self._disk.run(self._tree.empty_trash, older_than)

    # -- what others are told

    async def scrub_digests(self) -> bytes:
        """Bring the directory digests up to date after changes; the root's digest."""
        return await self._telling.scrub_digests()

    async def write_status(self, limit_seconds: float | None = None) -> None:
        """Rewrite the status files of directories that changed, and the mirror's.

        With a limit it stops after that many seconds, and passes over large directories that were written
        lately; without one everything is up to date afterwards. Raises DiskFull, StoreError; what was
        there stays then.
        """
        await self._telling.write_status(limit_seconds)
