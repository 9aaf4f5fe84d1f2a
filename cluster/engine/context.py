"""What the parts of one pass share, and the two units that they hand to each other: visits and jobs."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cluster.engine.batch import Batcher
from cluster.engine.clock import Clock
from cluster.engine.listings import Relays
from cluster.engine.report import Report, Reporter
from cluster.engine.verdicts import Verdicts
from cluster.errors import Changed, Vanished
from cluster.model import SECOND, Entry, Held, Mirror, join, shown, split
from cluster.origin.base import Origin
from cluster.peer.claims import Claims
from cluster.peer.client import Sibling
from cluster.plan.compare import Policy, Wanted
from cluster.plan.pattern import Patterns
from cluster.plan.select import Carriers
from cluster.store.mirror import MirrorStore, PassRecord
from cluster.store.once import StoredOnce

SMALL = 256 * 2**10  # bodies up to here are held in memory whole, and written many at a time
RULES = 8  # bytes of `Context.rules`, which every token in the store ends in
IN_LINE = 60.0  # s that a sibling which goes on receiving is waited for with what it has not begun


class Stage(enum.IntEnum):
    """The stages of a pass, in order. What a stage puts off is kept in the store for a later one."""

    WALK = 0
    REST = 1  # files that a sibling ranks first for
    PUT_OFF = 2  # files that a sibling was fetching
    LAST = 3  # `<publish last=...>`
    LAST_PUT_OFF = 4
    NAMED = 6  # what a repository names and is not here
    LINKS = 5  # names that the origin links otherwise than before: done after PUT_OFF


@dataclass(slots=True)
class Visit:
    """One directory in one stage. It is over when nothing of it is pending."""

    path: bytes
    stage: Stage
    own: Held | None = None  # the directory's own record, to be set after its names; None: as it is recorded
    listed_at: int = 0  # ns since 1970 when its listing was asked for
    digests: tuple[bytes, ...] = ()  # of the listings of its nearest ancestors
    token: bytes = b""  # of its listing
    files: int = 0  # that its listing shows
    agrees: bool = True  # nothing of it is put off, unsettled, missing or waiting
    descended: bool = False  # what lies below is on its way by itself
    relayed: bool = False  # its listing came from a sibling
    put_off: float | None = None  # since when (monotonic s) it is left to a sibling to list it
    alone: bool = False  # listed again by itself: of what lies below, only what is new is walked
    from_above: bool = False  # the directory that it is in was listed in this pass
    ahead: bool = False  # before the walk: the directory may not be here yet
    pending: int = 0
    failures: tuple[tuple[bytes, str], ...] = ()

    @property
    def attributes(self) -> dict[bytes, Held]:
        return {self.path: self.own} if self.own is not None else {}


@dataclass(slots=True)
class Job:
    """One file of a visit. `claimed` is when (monotonic s) siblings were told of it."""

    visit: Visit
    wanted: Wanted
    claimed: float = 0.0
    started: bool = False  # its bytes are on their way, or asked for
    tries: int = 0
    opened: bool = False  # the origin began to send: what fails now broke off
    entry: Entry = field(init=False)  # of `wanted`
    path: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.entry = self.wanted.entry
        self.path = join(self.visit.path, self.entry.name)


def slices(jobs: Sequence[Job], files: int, size: int) -> Iterator[list[Job]]:
    """Runs of at most so many files and about so many bytes."""
    some: list[Job] = []
    total = 0
    for job in jobs:
        some.append(job)
        total += job.entry.size or 0
        if len(some) >= files or total >= size:
            yield some
            some, total = [], 0
    if some:
        yield some


def renewal(patience: float) -> float:
    """Seconds between two renewals of claims that siblings hold void after `patience` s without progress."""
    return min(1.0, patience / 3)


@dataclass(slots=True)
class Context:
    """Everything that one pass works with."""

    mirror: Mirror
    site: str
    store: MirrorStore
    origin: Origin
    siblings: Sequence[Sibling]
    claims: Claims
    relays: Relays
    clock: Clock
    reporter: Reporter
    report: Report
    record: PassRecord
    batcher: Batcher
    verdicts: Verdicts
    policy: Policy
    last: Patterns
    carriers: Carriers
    once: StoredOnce | None = None  # where content that is here already is looked for
    dry: bool = False
    rules: bytes = b""  # a digest of everything in the descriptor that bears on comparing
    relist: set[bytes] = field(default_factory=set)  # directories whose listing turned out to be old
    relisted: set[bytes] = field(default_factory=set)  # those that have been listed once more since
    gone: set[bytes] = field(default_factory=set)  # directories that were listed above, and are not there
    late: dict[bytes, list[tuple[bytes, str]]] = field(default_factory=dict)  # failures not yet recorded
    since: int | None = None  # s since 1970: the oldest listing that a sibling had for us, or a list
    ranges: int = 0  # of large files, that the origin is asked for now
    sick: str = ""  # the origin behaves as if it were not well: nothing is deleted by this pass

    @contextmanager
    def ranged(self) -> Iterator[None]:
        """While the origin sends a range."""
        self.ranges += 1
        try:
            yield
        finally:
            self.ranges -= 1

    def compared_by(self, listed_at: int) -> None:
        """Something was compared with what the origin had said then (ns)."""
        since = listed_at // SECOND
        self.since = since if self.since is None else min(since, self.since)

    @property
    def answer(self) -> float:
        """Seconds that a sibling has to answer."""
        return self.relays.patience.answer

    def up(self) -> list[Sibling]:
        """The siblings that this pass asks: those that answer, and are not too slow for it."""
        without = self.claims.without(self.mirror.name)
        return [sibling for sibling in self.siblings if sibling.up and sibling.name not in without]

    def carrying(self, path: bytes, entry: Entry) -> list[Sibling]:
        """Those that mirror this name: their own rules do not leave it out."""
        if not self.carriers:
            return list(self.siblings)
        return [sibling for sibling in self.siblings if self.carriers.carries(sibling.name, path, entry)]

    def look_again(self, visit: Visit, error: Exception) -> bool:
        """Whether a directory is listed once more because of this, before anybody is told of a failure: what
        was listed, or what a link was to be made to, is not there any more (HAZARDS 44, 45)."""
        if not isinstance(error, Changed | Vanished) or visit.path in self.relisted:
            return False
        visit.agrees = False
        self.relist.add(visit.path)
        return True

    def look_above(self, visit: Visit, error: Exception) -> bool:
        """The same for a directory that is not there, as the origin says: what it is in is listed once more.
        That may have changed, or a sibling may have made it up (HAZARDS 44)."""
        above = split(visit.path)[0]
        if not (isinstance(error, Vanished) and visit.from_above) or above in self.relisted:
            return False
        self.relist.add(above)
        self.gone.add(visit.path)
        return True

    def fail(self, visit: Visit, name: bytes, error: str) -> None:
        """Something of a directory could not be done; it is told to everybody."""
        path = join(visit.path, name) if name else visit.path
        error = error.removeprefix(f"{shown(path)}: ")  # the store's errors name it as well
        if name and self.verdicts.quiet(path, error):
            return
        visit.failures = (*visit.failures, (name, error))
        self.late.setdefault(visit.path, []).append((name, error))
        self.report.files.failed += 1
        self.report.failed(f"{shown(path) or '/'}: {error}")
        self.reporter.failed(path, error)
