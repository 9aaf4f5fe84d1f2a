"""What the store tells and is told: the values that pass between a mirror's records and everybody else.

Paths are bytes, times are seconds since 1970 unless a field says otherwise.
"""

from __future__ import annotations

from dataclasses import field

from cluster.model import Entry, Failure, Held, Kind, Skipped, value


@value
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
    worn: frozenset[bytes] = frozenset()  # directories that have another time on disk than was recorded
    suspects: frozenset[bytes] = frozenset()  # files that came from a sibling which was caught since
    token: bytes = b""  # of the listing with which everything here agreed when it was last compared
    looks: bytes = b""  # a digest of what is on disk, where that is exactly what is recorded


@value
class Glance:
    """A directory in which nothing has happened since `seen`: on disk is what was there then, all of it as
    recorded, and nothing is known to be wrong, missing or doubted. `token` is as in `View`, and so is `looks`
    where that was not recorded yet."""

    token: bytes
    files: int
    entries: int
    skipped: int
    directories: tuple[Held, ...]
    looks: bytes = b""


@value
class Compared:
    """The outcome of comparing one directory in this pass; only what deviates is stored.

    `missing` are held names that a complete listing lacked (or shows with another kind); names recorded as
    missing before and not in it have come back. `complete` False: no proof, missing is not touched, and the
    directory keeps the time at which it was last compared.
    """

    directory: bytes
    skipped: tuple[Skipped, ...] = ()
    failures: tuple[tuple[bytes, str], ...] = ()  # (name, error); replaces what was recorded
    missing: frozenset[bytes] = frozenset()
    entries_listed: int = 0
    complete: bool = True
    notable: bool = True  # False: nothing differs from what is stored, nothing need be written


@value
class Later:
    """A file to be fetched in a later stage of this pass, with the row that was listed."""

    directory: bytes
    entry: Entry


@value
class PassRecord:
    """One pass in the books. `counts` is the JSON of `sideways pass --json` once it has ended."""

    id: int
    started: int
    ended: int | None
    outcome: str | None
    origin: str
    counts: dict[str, object]
    resumed: bool = False
    scope: bytes = b""  # the directory that it was limited to


@value
class Rechecked:
    """Files from one sibling that have been compared with the origin's bytes: how many were right, and which
    were not and have been replaced (the first 100 of `wrong_count`)."""

    site: str
    right: int
    wrong: tuple[bytes, ...]
    wrong_count: int


@value
class JournalRecord:
    seq: int
    at: int
    action: str  # "publish" or "delete"
    path: bytes
    kind: Kind
    size: int
    sha256: bytes | None
    source: str


@value
class Planned:
    """One name in a deletion plan, with what lies below it: `files` counts every name but directories."""

    path: bytes
    kind: Kind
    files: int
    bytes: int
    first_missing: int  # s
    sightings: int


@value
class Plan:
    """The names whose time has come, judged as a whole. `hash` names exactly this set of (path, kind, sha256
    or subtree digest): SHA-256 over them, sorted. `held_because` is empty when it may be carried out."""

    hash: str
    items: int
    files: int
    bytes: int
    held_because: str = ""
    waiting: int = 0  # files below names that wait for their time
    sample: tuple[Planned, ...] = ()  # the first 1000 by path


@value
class Totals:
    files: int
    bytes: int
    directories: int
    symlinks: int
    newest: int | None  # ns
