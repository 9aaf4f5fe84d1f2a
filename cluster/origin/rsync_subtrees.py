"""Which child of rsync lists which directories, and when what it said may be used.

A child for each directory would cost more than everything else, one for a whole module would let everybody
wait for its end. So a child lists a subtree, or several that lie side by side; what it prints is spooled, and
believed when the child has ended well. One that prints more than `SUBTREE` names is stopped: its top is
listed alone, and what is below in pieces. A child that ends with complaints proves nothing either
(HAZARDS 35): what it complained of is listed alone, down to there, and the rest together again.
"""

from __future__ import annotations

import asyncio
import re
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import islice

from cluster.errors import Changed, IncompleteListing, OriginError, TooLarge, Vanished
from cluster.listing import rsync as printed
from cluster.model import Kind, Limits, Listing, depth, href, split
from cluster.origin.base import Traffic
from cluster.origin.rsync_child import Ended, started
from cluster.origin.rsync_command import BY_NAME, NOBODY, Access, names
from cluster.origin.rsync_errors import PARTIAL, Wish, failure, named
from cluster.origin.rsync_spool import Intake, Spool

SUBTREE = 250_000  # names that one child may print: some seconds, and so much is lost where it fails
HOLDS = 3600.0  # s after which a directory that was listed with others is listed again
GROUP = 64  # directories that one child is asked for at first
LARGEST_GROUP = 4096
HINTS = 64  # of what a child complained of that are taken up

_WHAT = (*BY_NAME, "--dry-run", "--archive", "--hard-links", "--numeric-ids", "--info=stats1",
         f"--out-format={printed.FORMAT}")  # fmt: skip
_RECEIVED = re.compile(rb"sent \d+ bytes  received (\d+) bytes  ")


@dataclass(slots=True)
class _Child:
    """One that runs: what it was asked for, and its end."""

    asked: tuple[bytes, ...]
    below: bool
    began: float  # s, monotonic
    work: asyncio.Task[None] | None = None
    failed: OriginError | None = None
    again: bool = False  # what it was asked for is to be asked for in another way
    found: AbstractSet[bytes] = frozenset()  # what of that is there, and a directory
    others: dict[bytes, bytes] = field(default_factory=dict)  # and the rows of what is something else


class Subtrees:
    """The listings of one origin for the time of one pass. Each is given out once."""

    def __init__(
        self,
        access: Access,
        limits: Limits,
        traffic: Traffic,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        subtree: int = SUBTREE,
    ) -> None:
        self._access, self._limits, self._traffic = access, limits, traffic
        self._monotonic, self._subtree = monotonic, subtree
        self._spool = Spool()
        self._began: dict[int, tuple[float, bool]] = {}  # by child: when, and whether of the whole tree
        self._running: dict[bytes, _Child] = {}  # by what it was asked for
        self._cut: set[bytes] = set()  # too large, or in part unreadable: listed alone
        self._beside: dict[bytes, list[bytes]] = {}  # by parent: what may be listed together, sorted
        self._most = GROUP

    def __repr__(self) -> str:
        return f"<Subtrees {len(self._running)} running, {len(self._cut)} cut>"

    async def listing(self, directory: bytes, known: bytes) -> Listing:
        """See `Origin`. Raises OriginError."""
        asked = self._monotonic()
        while True:
            if (found := self._spooled(directory, known, asked)) is not None:
                return found
            child = self._covering(directory) or self._start(directory)
            assert child.work is not None
            await asyncio.shield(child.work)
            if child.failed is not None:
                raise _about(child.failed, directory)
            if child.again or directory not in child.asked or directory in child.found:
                continue
            if directory in child.others:
                kind = printed.entry_of(directory, child.others[directory])[0].kind
                raise Changed(href(directory), f"a {kind}, not a {Kind.DIRECTORY}")
            raise Vanished(href(directory), "no such name")

    async def close(self) -> None:
        """Ends the children that run."""
        tasks = [child.work for child in self._running.values() if child.work is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._spool.close()

    # -- what is there

    def _spooled(self, directory: bytes, known: bytes, asked: float) -> Listing | None:
        kept = self._spool.take(directory)
        if kept is None:
            return None
        began, whole = self._began[kept.child]
        age = max(0.0, asked - began)
        if age > HOLDS:
            return None
        rows = b"".join([b"\n", b"\n".join(kept.rows)]) if kept.rows else b""
        size = len(rows)
        token = printed.token(kept.own, rows, kept.leaders if whole else {})
        # Who counts the names of one file has to see them all.
        linked = whole and (bool(kept.leaders) or b" => " in rows)
        if token == known and not linked:
            return Listing((), format="rsync", size=size, token=token, same=True, age=age)
        listing = printed.listing(
            directory,
            kept.own,
            kept.rows,
            limit=self._limits.directory_entries,
            size=size,
            further=(lambda path: self._spool.further(path, kept.child)) if whole else None,
        )
        return replace(listing, token=token, age=age)

    def _covering(self, directory: bytes) -> _Child | None:
        """The running child that will tell of it."""
        child = self._running.get(directory)
        for above in _above(directory):
            if child is not None:
                break
            child = self._running.get(above)
            child = child if child is not None and child.below else None
        return child

    # -- what is to be asked

    def _start(self, directory: bytes) -> _Child:
        together = self._together(directory)
        child = _Child(together or (directory,), below=bool(together), began=self._monotonic())
        for path in child.asked:
            self._running[path] = child
        child.work = asyncio.create_task(self._run(child), name="rsync listing")
        return child

    def _together(self, directory: bytes) -> tuple[bytes, ...]:
        """What one child lists with all below it, `directory` first; nothing where that is listed alone:
        because it was listed before, is cut, or because nobody walks down to it."""
        if self._limits.depth <= depth(directory) or directory in self._cut:
            return ()
        if not directory:
            self._cut.add(b"")  # a second time it is listed alone
            return (b"",)
        beside = self._beside.get(split(directory)[0], [])
        at = bisect_left(beside, directory)
        if beside[at : at + 1] != [directory]:
            return ()
        group = beside[at : at + self._most]
        del beside[at : at + self._most]
        return tuple(path for path in group if path == directory or path not in self._cut)

    async def _run(self, child: _Child) -> None:
        """List, and record what came of it in `child`; never raises but when cancelled."""
        try:
            await self._list(child)
        except OriginError as error:
            child.failed = error
        finally:
            for path in child.asked:
                self._running.pop(path, None)

    async def _list(self, child: _Child) -> None:
        first = child.asked[0]
        reach = await self._access.reach(first)
        self._traffic.requests += 1
        how = ("--recursive",) if child.below else ("--no-recursive", "--dirs")
        asked = child.asked if child.below else [path and path + b"/" for path in child.asked]
        intake = self._spool.begin(child.asked, below=child.below)
        kept = False
        try:
            async with started(
                (*reach.program, *_WHAT, *how, reach.source, NOBODY),
                shown=href(first),
                given=names(self._access.base, asked),
                more=reach.more,
                silence=self._access.silence,
            ) as running:
                received = None
                async for text in running.whole_lines():
                    for line in intake.add(text):
                        if match := _RECEIVED.match(line):
                            received = int(match[1])
                    if self._too_many(child, intake):
                        return
                ended = await running.ended()
            self._traffic.listings += received or 0
            kept = self._judge(child, ended, complete=received is not None)
        finally:
            if kept:
                self._spool.keep(intake)
                self._began[intake.child] = (child.began, child.asked == (b"",) and child.below)
                self._remember(child, intake)
            else:
                self._spool.forget(intake)

    def _too_many(self, child: _Child, intake: Intake) -> bool:
        """Whether this child is to be stopped: what it lists is cut into smaller pieces."""
        if not child.below and intake.count > self._limits.directory_entries + 2:
            many = f"more than {self._limits.directory_entries} entries"
            raise TooLarge(href(child.asked[0]), many)
        if child.below and intake.count > self._subtree:
            self._otherwise(child, max(1, len(child.asked) // 2))
        return child.again

    def _judge(self, child: _Child, ended: Ended, *, complete: bool) -> bool:
        """Whether what it printed is believed. Raises OriginError where nothing else can be tried."""
        if ended.code == 0 and complete:
            return True
        if ended.code in PARTIAL and child.below:
            self._otherwise(child, self._most if self._hinted(ended) else 1)
            return False
        error = failure(ended, child.asked[0], Wish.LISTING)
        raise error or IncompleteListing(href(child.asked[0]), "rsync did not print its end")

    def _otherwise(self, child: _Child, most: int) -> None:
        """What it was asked for is asked for in another way: alone, or up to `most` together."""
        child.again, self._most = True, most
        if len(child.asked) == 1:
            self._cut.add(child.asked[0])
            return
        for path in child.asked:
            if path not in self._cut:
                insort(self._beside[split(path)[0]], path)

    def _hinted(self, ended: Ended) -> bool:
        """Take up what it complained of: that, and all above it, is listed alone from now on. False where
        nothing new is known."""
        before = len(self._cut)
        base = self._access.base
        for text in islice(named(ended), HINTS):
            path = printed.unescaped(text.encode("utf-8", "surrogateescape")).strip(b"/")
            path = path.removeprefix(base).lstrip(b"/")
            self._cut.update((path, *_above(path)))
        return len(self._cut) > before

    def _remember(self, child: _Child, intake: Intake) -> None:
        """After it ended well: what may be listed together next, and how much of it."""
        child.found, child.others = intake.found, intake.others
        if not child.below:
            paths = (path for path in intake.directories if path not in self._cut)
            self._beside.setdefault(child.asked[0], sorted(paths))
        elif len(child.asked) == self._most and intake.count < self._subtree // 4:
            self._most = min(2 * self._most, LARGEST_GROUP)


def _above(path: bytes) -> Iterator[bytes]:
    """All directories above it, up to the root."""
    while path:
        path = split(path)[0]
        yield path


def _about(error: OriginError, directory: bytes) -> OriginError:
    """The same error for one of those who waited for it."""
    return type(error)(href(directory), error.message, retry_after=error.retry_after)
