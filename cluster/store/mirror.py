"""One mirror's store: the records and the tree joined by the order of effects (HAZARDS 3.2, 3.4).

Async; SQLite runs on one thread of its own, the tree on others. Paths are bytes, times that are passed in
are seconds since 1970 (`now`). Only this module and `records` write `STATE/MIRROR.db`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from cluster.model import Deletion, Entry, Failure, Held, Kind, Mirror, Site, Skipped
from cluster.store.tree import Change, Staged


@dataclass(frozen=True, slots=True)
class View:
    """What we hold in one directory, compared with the disk in the same breath.

    `damaged`: names whose lstat is not what was recorded (edited, gone). `strangers`: names on disk that the
    store does not know, with (kind, size, mtime ns). `present`: the directory exists on disk.
    """

    held: dict[bytes, Held]
    damaged: frozenset[bytes] = frozenset()
    strangers: dict[bytes, tuple[Kind, int, int]] = field(default_factory=dict)
    present: bool = True
    skipped: tuple[Skipped, ...] = ()
    failures: tuple[Failure, ...] = ()
    missing: frozenset[bytes] = frozenset()  # names recorded as missing at the origin by earlier passes


@dataclass(frozen=True, slots=True)
class Compared:
    """The outcome of comparing one directory in this pass; only what deviates is stored.

    `missing` are held names that a complete listing lacked (or shows with another kind); names recorded as
    missing before and not in it have come back. `complete` False: no proof, missing is not touched.
    """

    directory: bytes
    skipped: tuple[Skipped, ...] = ()
    failures: tuple[tuple[bytes, str], ...] = ()  # (name, error); replaces what was recorded
    missing: frozenset[bytes] = frozenset()
    entries_listed: int = 0
    complete: bool = True
    notable: bool = True  # False: nothing differs from what is stored, nothing need be written


@dataclass(frozen=True, slots=True)
class Later:
    """A file to be fetched in a later stage of this pass, with the row that was listed."""

    directory: bytes
    entry: Entry


@dataclass(frozen=True, slots=True)
class PassRecord:
    """One pass in the books. `counts` is the JSON of `sideways pass --json` once it has ended."""

    id: int
    started: int
    ended: int | None
    outcome: str | None
    origin: str
    counts: dict[str, object]
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class JournalRecord:
    seq: int
    at: int
    action: str  # "publish" or "delete"
    path: bytes
    kind: Kind
    size: int
    sha256: bytes | None
    source: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One name in a deletion plan, with what lies below it."""

    path: bytes
    kind: Kind
    files: int
    bytes: int
    first_missing: int  # s
    sightings: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The names whose time has come, judged as a whole. `hash` names exactly this set of (path, kind, sha256
    or subtree digest): SHA-256 over them, sorted. `held_because` is empty when the plan may be carried out."""

    hash: str
    items: int
    files: int
    bytes: int
    held_because: str = ""
    waiting: int = 0  # files below names that wait for their time
    sample: tuple[Planned, ...] = ()  # the first 1000 by path


@dataclass(frozen=True, slots=True)
class Totals:
    files: int
    bytes: int
    directories: int
    symlinks: int
    newest: int | None  # ns


class MirrorStore:
    """See the module. Opened by one process at a time for writing (`STATE/MIRROR.lock`)."""

    @classmethod
    async def open(cls, mirror: Mirror, site: Site, now: int) -> MirrorStore:
        """Lock, check the marker, migrate, recover (HAZARDS 3.4).

        Raises Locked, DataMissing, StoreError (newer schema)."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    # -- what we hold

    async def view(self, directory: bytes) -> View:
        raise NotImplementedError

    async def held(self, path: bytes) -> Held | None:
        raise NotImplementedError

    async def totals(self, directory: bytes = b"") -> Totals:
        raise NotImplementedError

    async def by_link(self, link: str) -> bytes | None:
        """The path of a published file that belongs to this hard-link group of the origin."""
        raise NotImplementedError

    # -- a pass

    async def pass_begin(self, now: int, fingerprint: str, origin: str, *, scope: bytes = b"") -> PassRecord:
        """A new pass, or the open one where it was interrupted with the same fingerprint less than 24 h ago."""
        raise NotImplementedError

    async def pass_end(self, record: PassRecord, outcome: str, counts: dict[str, object], now: int) -> None:
        raise NotImplementedError

    async def frontier_save(self, record: PassRecord, paths: Sequence[bytes], cursor: dict[str, object]) -> None:
        """Checkpoint: these directories are still to do. Unsynced is fine; replaces the last checkpoint."""
        raise NotImplementedError

    async def frontier_load(self, record: PassRecord) -> tuple[list[bytes], dict[str, object]]:
        raise NotImplementedError

    async def compared(self, results: Sequence[Compared], record: PassRecord, now: int) -> None:
        raise NotImplementedError

    async def later_add(self, record: PassRecord, stage: int, items: Sequence[Later]) -> None:
        raise NotImplementedError

    async def later_directories(self, record: PassRecord, stage: int, *, reverse: bool = False) -> list[bytes]:
        """Directories with work left in a stage, by path; at most 1000."""
        raise NotImplementedError

    async def later_take(self, record: PassRecord, stage: int, directory: bytes) -> list[Entry]:
        """The work of one directory. It stays until `later_done`, so that a crash repeats it."""
        raise NotImplementedError

    async def later_done(self, record: PassRecord, stage: int, directory: bytes, names: Iterable[bytes]) -> None:
        raise NotImplementedError

    # -- bytes

    async def stage_small(self, files: Sequence[tuple[Held, bytes]]) -> list[Staged]:
        """Write complete small bodies to temporaries. Raises DiskFull, StoreError."""
        raise NotImplementedError

    async def stage(self, path: bytes, size: int | None) -> Staging:
        """A temporary for one large file; goes on with a partial of an earlier attempt where there is one."""
        raise NotImplementedError

    async def stage_copy(self, held: Held, descriptor: int) -> Staged:
        """Copy an open local file: sparse-safe, hashed, fstat before and after. Closes the descriptor.
        Raises Changed when the source changed meanwhile."""
        raise NotImplementedError

    async def adopt(self, directory: bytes, entry: Entry) -> Held | None:
        """A file on disk that the store does not know or doubts: hash it, and the record if it is the listed
        version (exact size, agreeing time). Publish it with a Change of `attributes`."""
        raise NotImplementedError

    async def publish(self, changes: Sequence[Change], attributes: dict[bytes, Held], now: int) -> list[Exception | None]:
        """One batch by the order of effects: sync, intent, renames, directories synced, result and journal.

        `attributes`: directories whose own mode, owner and mtime are set afterwards (path -> record; with b""
        for the root). Per change None, or why it was not done (Blocked, DiskFull, OSError); the rest is."""
        raise NotImplementedError

    async def refresh(self, directory: bytes, records: Sequence[Held]) -> None:
        """Records change, the disk does not: a new listed row, a settled minute."""
        raise NotImplementedError

    # -- deletions

    async def plan(self, record: PassRecord, policy: Deletion, now: int) -> Plan:
        """What is due after this complete pass, judged by `plan.guard`. Stored as held where it may not go."""
        raise NotImplementedError

    async def delete(self, plan: Plan, now: int) -> tuple[int, int]:
        """Carry out a plan as a whole: tombstones committed, status rewritten, then renames to the trash.
        Returns (files, bytes)."""
        raise NotImplementedError

    async def held_plan(self) -> Plan | None:
        raise NotImplementedError

    async def approve(self, hash: str, now: int) -> Plan:
        """Raises UsageError when the held plan has another hash. The next `plan` with this hash is not held."""
        raise NotImplementedError

    async def empty_trash(self, older_than: int) -> None:
        raise NotImplementedError

    async def scrub_digests(self) -> bytes:
        """Bring the directory digests up to date after changes; the root's digest."""
        raise NotImplementedError


class Staging:
    """One large file on its way to a temporary. Writes and hashing run on threads."""

    start: int  # bytes of an earlier attempt that are there already (verified on open)
    etag: str | None  # the strong validator they belong to

    async def restart(self) -> None:
        """Throw away what is there."""
        raise NotImplementedError

    async def write(self, chunk: bytes) -> None:
        raise NotImplementedError

    async def finish(self, held: Held) -> Staged:
        """Set times and modes; `held` gets size, sha256 filled in."""
        raise NotImplementedError

    async def abandon(self, etag: str | None) -> None:
        """Keep what arrived for a resume when `etag` names its version, else remove it."""
        raise NotImplementedError


class Reader:
    """Reading a mirror's committed records from another thread or process: web, peer server, CLI. No lock."""

    @classmethod
    async def open(cls, mirror: str, site: Site) -> Reader:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def directory(self, directory: bytes) -> dict[bytes, Held] | None:
        """None where this mirror has no such directory."""
        raise NotImplementedError

    async def page(self, directory: bytes, after: bytes | None, limit: int) -> list[Held]:
        """Entries by name, for large directories."""
        raise NotImplementedError

    async def held(self, path: bytes) -> Held | None:
        raise NotImplementedError

    async def notes(self, directory: bytes) -> tuple[list[Skipped], list[Failure], dict[bytes, int]]:
        """Skipped, failures, and names that are missing at the origin with when they were first missed (s)."""
        raise NotImplementedError

    async def compared_at(self, directory: bytes) -> tuple[int | None, str]:
        """When (s) this directory was last compared with its origin, and which origin (its public URL)."""
        raise NotImplementedError

    async def totals(self, directory: bytes = b"") -> Totals:
        raise NotImplementedError

    async def passes(self, limit: int = 10) -> list[PassRecord]:
        raise NotImplementedError

    async def errors(self, limit: int = 100) -> list[tuple[bytes, Failure]]:
        """(directory, failure), newest first."""
        raise NotImplementedError

    def journal(self, after: int = 0, limit: int = 10_000) -> AsyncIterator[JournalRecord]:
        raise NotImplementedError

    async def held_plan(self) -> Plan | None:
        raise NotImplementedError

    async def digest(self, directory: bytes) -> bytes | None:
        raise NotImplementedError

    async def blocks(self, path: bytes) -> bytes:
        raise NotImplementedError

    async def open_file(self, path: bytes) -> tuple[int, Held] | None:
        """An open descriptor of a committed, undoubted public file (fstat agrees with its record), or None."""
        raise NotImplementedError
