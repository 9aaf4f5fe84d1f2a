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
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from cluster.errors import Locked, StoreError
from cluster.model import Deletion, Entry, Held, Kind, Mirror, Site, join
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
    publicity,
    publishing,
    recovery,
    removing,
    rows,
    schema,
    suspects,
)
from cluster.store.agreement import Agreed
from cluster.store.connections import Connections
from cluster.store.growing import Growing
from cluster.store.grown import Grown, adopted
from cluster.store.landing import Landing, Taken
from cluster.store.lock import Lock
from cluster.store.opening import Opened, book_refusal, open_copy, open_store
from cluster.store.publishing import Batch, Begun, Following, staged_in
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
from cluster.store.staging import Partial, Staging
from cluster.store.switching import Repositories
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

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

DIRECTORIES_AT_ONCE = 1000  # of one answer of `later_directories`
LIKE = 500  # names of one directory that are looked at for one that is like another
TRASHED_AT_ONCE = 256  # names moved to the trash between two looks at the event loop
STATUS_AT_START = 5.0  # s that status files may take when a mirror is opened after a crash


@dataclass(frozen=True, slots=True)
class _Underway:
    """A batch whose intent is committed; what was `refused` of it has no part in that."""

    batch: Batch
    wanted: Sequence[Change]
    begun: Begun
    refused: Mapping[int, Exception] = field(default_factory=dict)
    synced: bool = False  # its temporaries are durable

    def tell(self, outcomes: Sequence[Exception | None]) -> None:
        """`outcomes` are those of `wanted`."""
        left, refused = iter(outcomes), self.refused
        self.batch.tell([refused[i] if i in refused else next(left) for i in range(len(self.batch.changes))])


class MirrorStore:
    """See the module. Opened by one process at a time for writing (`STATE/MIRROR.lock`)."""

    def __init__(
        self,
        mirror: Mirror,
        lock: Lock,
        opened: Opened,
        disk: ThreadPoolExecutor,
        *,
        writing: bool = True,
    ) -> None:
        self._name, self._writing = mirror.name, writing
        self._lock, self._tree, self._disk = lock, opened.tree, disk
        self._records: Connections = opened.records
        self._publicity = opened.publicity
        self._effects = asyncio.Lock()  # one batch after another, or one deletion, at a time
        self._waiting = 0  # for the end of the batches that are under way
        self._telling = asyncio.Lock()
        self._moves = 0  # odd while the public tree is being changed
        self._unfinished = False  # an intent is open whose batch is over
        self._removals = True  # there may be deletions whose renames are not done
        self._growing: dict[bytes, bytes] = {}  # temporary: path, of what comes by parts
        self._protected: set[asyncio.Task[Any]] = set()
        self.repositories = Repositories(self._records, self._tree, self._on_disk, self.publish)

    @classmethod
    async def open(cls, mirror: Mirror, site: Site, now: int) -> MirrorStore:
        """Lock, check the marker, migrate, recover (HAZARDS 3.4).

        Records that cannot be read are moved aside: what is on disk is then unknown and taken over by
        `adopt`. Raises Locked, DataMissing, StoreError (newer schema); all but Locked are booked as a failed
        pass, where there are records.
        """
        loop = asyncio.get_running_loop()
        disk = ThreadPoolExecutor(4, thread_name_prefix=f"disk {mirror.name}")
        lock = Lock(os.path.join(site.state, f"{mirror.name}.lock"), mirror.name)
        try:
            opened = await loop.run_in_executor(disk, open_store, mirror, site, lock, now)
        except BaseException as error:
            if isinstance(error, StoreError) and not isinstance(error, Locked):
                await loop.run_in_executor(disk, book_refusal, mirror, site, lock, str(error), now)
            lock.release()
            disk.shutdown(wait=False)
            raise
        store = cls(mirror, lock, opened, disk)
        try:
            await store._finish_removals(now)
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
            disk = ThreadPoolExecutor(4, thread_name_prefix=f"look {mirror.name}")
            store = cls(mirror, lock, opened, disk, writing=False)
            try:
                yield store
            finally:
                await store.close()

    async def close(self) -> None:
        """Waits for what is under way. Temporaries that nobody goes on with are gone afterwards."""
        if self._protected:
            await asyncio.wait(self._protected)
        try:
            await asyncio.to_thread(self._disk.shutdown)
            if self._writing:
                now = int(time.time())
                keep = await self._records.write(lambda c, _: adoption.partial_names(c, now))
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._tree.remove_orphans, keep)
        finally:
            await self._records.close()
            self._publicity.files.close()
            self._tree.close()
            self._lock.release()

    def __repr__(self) -> str:
        return f"<MirrorStore {self._name}>"

    async def _on_disk(self, work: Callable[..., _T], *arguments: Any) -> _T:  # noqa: ANN401  # passed on
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)

    async def _whole(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run to its end even where the caller is cancelled: effects are not left half told."""
        task = asyncio.create_task(work)
        self._protected.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._protected.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that was cancelled meanwhile does not ask for it

    # -- what we hold

    async def view(self, directory: bytes) -> View:
        """Raises Blocked where something else stands in the place of the directory or above it."""
        moves = self._moves
        seen = await self._records.read(lambda c: look(c, self._tree, directory))
        if (seen.damaged or seen.strangers or seen.worn) and (moves % 2 or moves != self._moves):
            async with self._between_batches():  # names moved while we looked: look again while none does
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
        descriptor = await self._on_disk(self._tree.open_file, path)
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
            await self._whole(
                self._records.write(lambda c, ids: passes.compared(c, ids, results, record, now))
            )

    async def note_failures(self, failures: Mapping[bytes, Sequence[tuple[bytes, str]]], now: int) -> None:
        """Failures `(name, error)` by directory, found after it had been compared; others stay. As
        `compared`."""
        await self._whole(self._records.write(lambda c, ids: passes.note_failures(c, ids, failures, now)))

    async def agreed(self, tokens: Mapping[bytes, bytes]) -> None:
        """By directory: the token of the listing that everything in it agrees with now (`View.token`);
        empty where there is none any more."""
        await self._whole(self._records.write(lambda c, _: agreement.put(c, tokens)))

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
        return await self._on_disk(self._tree.stage_small, files)

    @property
    def temporaries_folder(self) -> int:
        """The open folder into which the courier writes; it stays ours."""
        return self._tree.temporaries.folder

    async def room_for(self, size: int, files: int) -> None:
        """So many files of `size` bytes together are about to be written. Raises DiskFull."""
        await self._on_disk(self._tree.space.require, size, files)

    def looks(self, held: Held) -> Order:
        """What is to be set on the temporary of this record."""
        return self._tree.temporaries.order(held)

    def explain(self, path: bytes, code: int) -> StoreError:
        """Why writing `path` failed with this errno."""
        return self._tree.space.explain(path, OSError(code, os.strerror(code)))

    async def forget_temporaries(self, names: Iterable[bytes]) -> None:
        """Remove those of them that exist."""
        await self._on_disk(self._tree.temporaries.remove, list(names))

    async def land(self, begun: Sequence[bytes]) -> Landing:
        """A private folder into which another program may bring files. It goes on with what an earlier
        attempt has left of these paths. Raises DiskFull, StoreError."""
        found = [
            one
            for path in begun
            if (one := await self._records.read(partial(adoption.partial, path=path))) is not None
        ]
        landing = await self._on_disk(self._tree.landing)
        for one in found:
            await self._records.write(lambda c, _: adoption.take_partial(c, one.path))  # noqa: B023  # awaited
            await self._on_disk(landing.resume, one.path, one.temporary)
        return landing

    async def landed(
        self, landing: Landing, files: Sequence[tuple[bytes, Held]], *, parts: bool
    ) -> list[Taken]:
        """See `Landing.take`."""
        return await self._on_disk(partial(landing.take, files, parts=parts))

    async def landing_growth(self, landing: Landing, paths: Sequence[bytes]) -> list[int]:
        """See `Landing.growth`."""
        return await self._on_disk(landing.growth, paths)

    async def leave(self, landing: Landing, begun: Mapping[bytes, int]) -> None:
        """Nobody brings anything more. Of these paths (with their sizes) what has begun to come is kept for
        the next attempt; the folder is gone afterwards, also where the caller is cancelled meanwhile."""
        await self._whole(self._leave(landing, begun))

    async def _leave(self, landing: Landing, begun: Mapping[bytes, int]) -> None:
        try:
            for path, size in begun.items():
                found = await self._on_disk(landing.interrupted, path, adoption.BROUGHT)
                if found is not None:
                    await self._keep(Partial(found[0], path, "", size, found[1], b""))
        finally:
            await self._on_disk(landing.remove)

    async def stage(self, path: bytes, size: int | None) -> Staging:
        """A temporary for one large file; goes on with a partial of an earlier attempt where there is one."""
        if await self.is_growing(path):
            await self._forget_growing(path)
        begun = await self._records.read(lambda c: adoption.partial(c, path))
        if begun is not None:
            begun = await self._records.write(lambda c, _: adoption.take_partial(c, path))
        return await Staging.open(self._tree, path, size, partial=begun, keep=self._keep, executor=self._disk)

    async def _keep(self, kept: Partial) -> None:
        now = int(time.time())
        replaced = await self._records.write(lambda c, _: adoption.keep_partial(c, kept, now))
        if replaced:
            await self._on_disk(self._tree.temporaries.remove, [replaced])

    async def is_growing(self, path: bytes) -> bool:
        """Whether parts of it are here from an earlier attempt."""
        return await self._records.read(lambda c: adoption.growing(c, path)) is not None

    async def grow(self, path: bytes, size: int, etag: str) -> Growing:
        """A temporary for one large file that comes by parts; goes on with what is here of this very version,
        also where that was to come in one piece. It is noted until it has been published. Raises DiskFull,
        StoreError."""
        begun = await self._records.read(lambda c: adoption.growing(c, path))
        begun = begun or await self._beginning(path, size, etag)
        if begun is None or (begun.size, begun.etag) != (size, etag):
            await self._forget_growing(path)
            begun = Grown(b"", path, etag, size)
        growing = await Growing.open(self._tree, begun, self._note_growing, self._disk)
        self._growing[growing.temporary] = path
        return growing

    async def ungrow(self, growing: Growing) -> None:
        """Throw away what is here of it: it is not what it was taken for. Raises StoreError."""
        await growing.keep()
        self._growing.pop(growing.temporary, None)
        await self._forget_growing(growing.path)

    async def _beginning(self, path: bytes, size: int, etag: str) -> Grown | None:
        """The beginning of a file that was to come in one piece, as parts from now on."""
        partial = await self._records.read(lambda c: adoption.partial(c, path))
        if partial is None or (partial.size, partial.etag) != (size, etag):
            return None
        found = await self._on_disk(adopted, self._tree.temporaries, partial)
        if found is None or not found.runs:
            return None
        now = int(time.time())

        def noted(connection: sqlite3.Connection) -> None:
            adoption.take_partial(connection, path)
            adoption.note_growing(connection, found, now)

        await self._records.write(lambda c, _: noted(c))
        return found

    async def _note_growing(self, new: Grown) -> None:
        now = int(time.time())
        await self._records.write(lambda c, _: adoption.note_growing(c, new, now))

    async def _forget_growing(self, path: bytes) -> None:
        """Both its parts and its beginning."""

        def forget(connection: sqlite3.Connection) -> list[bytes]:
            partial = adoption.take_partial(connection, path)
            names = [partial.temporary if partial else None, adoption.forget_growing(connection, path)]
            return [name for name in names if name is not None]

        names = await self._records.write(lambda c, _: forget(c))
        await self._on_disk(self._tree.temporaries.remove, names)

    async def drop_begun(self) -> None:
        """Everything that the origin lists is here: what was begun is of versions that it has no more."""
        if await self._records.read(adoption.begun):
            names = await self._records.write(lambda c, _: adoption.forget_begun(c))
            await self._on_disk(self._tree.temporaries.remove, names)

    async def stage_copy(self, held: Held, descriptor: int) -> Staged:
        """Copy an open local file: sparse-safe, hashed, fstat before and after. Closes the descriptor.
        Raises Changed when the source changed meanwhile."""

        def copy() -> Staged:
            try:
                return self._tree.copy(descriptor, held)
            finally:
                os.close(descriptor)

        return await self._on_disk(copy)

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

        return await self._on_disk(copy)

    async def staged_range(self, staged: Staged, start: int, length: int) -> bytes:
        """Bytes of a complete temporary, to be compared with somebody else's. Raises StoreError."""
        return await self._on_disk(adoption.staged_range, self._tree, staged, start, length)

    async def discard(self, *staged: Staged) -> None:
        """Remove complete temporaries that will not be published."""
        await self._on_disk(self._tree.discard, staged)

    async def adopt(self, directory: bytes, entry: Entry) -> Held | None:
        """A file on disk that the store does not know or doubts: hash it, and the record if it is the listed
        version (exact size, agreeing time). Publish it with a Change of `attributes`."""
        known = await self.held(join(directory, entry.name))
        found = await self._on_disk(adoption.examine, self._tree, directory, entry, known)
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
        await self._whole(self._publish_all(first, following))

    async def _publish_all(self, first: Batch, following: Following) -> None:
        async with self._effects:
            underway: _Underway | None = await self._first(first)
            while underway is not None:
                underway = await self._effect(underway, following)

    async def _first(self, batch: Batch) -> _Underway:
        """Its intent is committed, synced; nothing is done yet."""
        changes, now = batch.changes, batch.now
        try:
            await self._repair(now)
            refused = await self._refused(changes)
            if refused and batch.ordered:
                refused = dict.fromkeys(range(len(changes)), next(iter(refused.values())))
            wanted = [change for i, change in enumerate(changes) if i not in refused]
            begun = await self._records.write(
                lambda c, _: publishing.begin(c, wanted, batch.attributes, now), durable=True
            )
        except BaseException:
            await self._on_disk(self._tree.discard, staged_in(changes))
            raise
        if refused:
            await self._on_disk(self._tree.discard, staged_in(changes[i] for i in refused))
        return _Underway(batch, wanted, begun, refused)

    async def _effect(self, underway: _Underway, following: Following) -> _Underway | None:
        """One batch from its intent to its result, and the intent of the one that follows it."""
        wanted, begun, attributes = underway.wanted, underway.begun, underway.batch.attributes
        self._unfinished = True
        self._moves += 1
        after: Batch | None = None
        try:
            work = partial(
                publishing.renamed, self._tree, wanted, synced=underway.synced, ordered=underway.batch.ordered
            )
            renamed = await self._on_disk(work)
            if not (self._removals or self._waiting):
                after = following()
            outcomes, own, lost = await self._on_disk(
                publishing.settled,
                self._tree,
                wanted,
                renamed,
                begun,
                attributes,
                after.changes if after else (),
            )
            if after is not None and lost is not None:
                await self._on_disk(self._tree.discard, staged_in(after.changes))
                after.tell([lost] * len(after.changes))
                after = None
            grown = [path for change in wanted if (path := self._grown(change)) is not None]

            def conclude(connection: sqlite3.Connection, ids: rows.Ids) -> Begun | None:
                publishing.conclude(connection, ids, begun, outcomes, own, underway.batch.now)
                for path in grown:
                    adoption.forget_growing(connection, path)
                if after is None:
                    return None
                return publishing.begin(connection, after.changes, after.attributes, after.now)

            next_begun = await self._records.write(conclude, durable=True)
        except publishing.NotSynced as failure:
            await self._on_disk(self._tree.discard, staged_in(wanted))
            await self._records.write(lambda c, _: intents.close_intent(c, begun.intent), durable=True)
            self._unfinished = False
            underway.tell([failure.error] * len(wanted))
            return None
        except BaseException:
            if after is not None:
                await self._on_disk(self._tree.discard, staged_in(after.changes))
            raise
        finally:
            self._moves += 1
        self._unfinished = next_begun is not None
        underway.tell([outcome if isinstance(outcome, Exception) else None for outcome in outcomes])
        if after is None or next_begun is None:
            return None
        return _Underway(after, after.changes, next_begun, synced=True)

    @contextlib.asynccontextmanager
    async def _between_batches(self) -> AsyncIterator[None]:
        """While no batch is under way; until then none follows another."""
        self._waiting += 1
        try:
            async with self._effects:
                yield
        finally:
            self._waiting -= 1

    def _grown(self, change: Change) -> bytes | None:
        """The path of what came by parts."""
        return self._growing.pop(change.staged.temporary, None) if change.staged is not None else None

    async def _refused(self, changes: Sequence[Change]) -> dict[int, Exception]:
        if not self._removals:
            return {}
        left = await self._records.read(rows.removals)
        why = (
            (i, publishing.in_the_way(join(c.directory, c.held.name), left)) for i, c in enumerate(changes)
        )
        return {i: error for i, error in why if error is not None}

    async def refresh(self, directory: bytes, records: Sequence[Held]) -> None:
        """Records change, the disk does not: a new listed row, a settled minute."""
        await self._records.write(lambda c, ids: intents.refresh(c, ids, directory, records))

    async def _repair(self, now: int) -> None:
        """Finish what an earlier batch or deletion could not."""
        if self._unfinished:
            await self._records.write_alone(lambda c, ids: recovery.roll_forward(c, ids, self._tree, now))
            self._unfinished = False
        if self._removals:
            await self._finish_removals(now)

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
        return await self._whole(self._delete(plan, now))

    async def _delete(self, plan: Plan, now: int) -> tuple[int, int]:
        async with self._between_batches():
            await self._repair(now)
            await self.scrub_digests()
            taken = await self._records.write(lambda c, ids: deletion.take(c, ids, plan, now), durable=True)
            self._removals = self._removals or bool(taken.paths)
            self._moves += 1
            try:
                await self._finish_removals(now)
            finally:
                self._moves += 1
            return taken.files, taken.bytes

    async def _finish_removals(self, now: int) -> None:
        """Whatever is deleted in the records: out of the status files, then off the public tree."""
        paths = await self._records.read(rows.removals)
        failed = 0
        if paths:
            above = await self._records.read(lambda c: removing.parents(c, paths))
            async with self._telling:
                await self._records.read(lambda c: self._publicity.write(c, sorted(above), now))
                await self._on_disk(self._publicity.files.remove, paths)
            for start in range(0, len(paths), TRASHED_AT_ONCE):
                some = paths[start : start + TRASHED_AT_ONCE]
                outcomes = await self._on_disk(removing.trash, self._tree, some, above, now)
                failed += sum(outcome is not None for outcome in outcomes)
                removed = partial(removing.removed, paths=some, outcomes=outcomes, now=now)
                await self._records.write(removed, durable=True)
        self._removals = failed > 0

    async def held_plan(self) -> Plan | None:
        return await self._records.read(deletion.held_plan)

    async def approve(self, hash: str, now: int) -> Plan:
        """The held plan, which `delete` takes from now on. Raises UsageError when it has another hash.
        A later `plan` with this hash is not held; an approval is used once."""
        return await self._records.write(lambda c, _: deletion.approve(c, hash), durable=True)

    async def empty_trash(self, older_than: int) -> None:
        """Remove for good what was deleted at `older_than` (s) or before."""
        await self._on_disk(self._tree.empty_trash, older_than)

    # -- what others are told

    async def scrub_digests(self) -> bytes:
        """Bring the directory digests up to date after changes; the root's digest."""
        while await self._records.write(lambda c, _: digest.scrub_some(c)):
            pass
        return await self._records.read(lambda c: digest.stored_digest(c, b"")) or digest.EMPTY

    async def write_status(self, limit_seconds: float | None = None) -> None:
        """Rewrite the status files of directories that changed, and the mirror's.

        With a limit it stops after that many seconds, and passes over large directories that were written
        lately; without one everything is up to date afterwards. Raises DiskFull, StoreError; what was
        there stays then.
        """
        await self._whole(self._write_status(limit_seconds))  # one at a time: they share file names

    async def _write_status(self, limit_seconds: float | None) -> None:
        started = time.monotonic()
        async with self._telling:
            await self.scrub_digests()
            after = 0
            while limit_seconds is None or time.monotonic() - started < limit_seconds:
                now, last = int(time.time()), after
                after, written = await self._records.read(
                    lambda c: self._publicity.write_some(c, last, now, patient=limit_seconds is not None)  # noqa: B023
                )
                if not written:
                    break
                await self._records.write(lambda c, _: publicity.done(c, written))  # noqa: B023
            now = int(time.time())
            await self._records.read(lambda c: self._publicity.write_mirror(c, now))
