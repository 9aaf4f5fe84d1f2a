"""What siblings published, as reasons to compare directories here at once.

News is gathered for a moment, waits for a pass over its mirror to end, and is then held against what this
site holds: only what is missing or different here wakes the schedule. A pass compares with the origin as any
other does, and what it publishes is real, so that news goes round the cluster once and ends.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cluster.engine.clock import Clock
from cluster.errors import PeerError, SidewaysError
from cluster.model import Held, Kind, depth, shown, split
from cluster.peer.cursors import Place
from cluster.peer.wire import Record
from cluster.plan.due import answered
from cluster.store.mirror import Reader

log = logging.getLogger("sideways.news")

QUIET = 0.25  # s without further news after which it is looked at
LATEST = 1.0  # s from the first of some news until it is looked at, however much follows
BUSY = 0.5  # s between looks whether a pass has ended
PATHS = 2_000  # changed names kept one by one; beyond that, directories
DIRECTORIES = 500  # kept one by one; beyond that, the whole mirror
SCOPES = 8  # passes that some news may bring; beyond that, over directories that hold them
FRUITLESS = 3  # passes in a row that a sibling's news brought and that changed nothing: it is rested then
REST = 5.0  # s, doubling
MAX_REST = 600.0
UNTOLD = 30.0  # s until digests are asked for again that were not up to date
TRIES = 20

Key = tuple[str, str]  # mirror, sibling
Compare = Callable[[str, str, Reader], Awaitable[list[bytes] | None]]  # sibling, mirror


@dataclass(slots=True)
class _Heard:
    """What one sibling told of one mirror and that has not been looked at. `place` is behind all of it."""

    place: Place
    since: float  # s since 1970 when the first of it was heard
    first: float
    last: float
    paths: dict[bytes, Record] = field(default_factory=dict)
    directories: set[bytes] = field(default_factory=set)
    deleted: bool = False  # something in these

    def due(self) -> float:
        return min(self.last + QUIET, self.first + LATEST)

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            self.paths[record.path] = record
        if len(self.paths) > PATHS:
            self.deleted = self.deleted or any(record.action == "delete" for record in self.paths.values())
            self.directories |= {split(path)[0] for path in self.paths}
            self.paths.clear()
        if len(self.directories) > DIRECTORIES:
            self.directories = {b""}


@dataclass(slots=True)
class _Lost:
    """A place that was lost: digests are compared from `at` (s, monotonic) on."""

    place: Place
    at: float
    tries: int = 0


@dataclass(slots=True)
class _Credit:
    """How a sibling's news of one mirror has turned out."""

    fruitless: int = 0
    until: float = 0.0


class News:
    """One per site. `wake(mirror, scope, reason)` asks for a pass, `busy(mirror)` says whether one runs;
    `compare` finds where a sibling differs, None while that cannot be told; `settled(site, mirror, place)` is
    told how far a sibling's news has been worked off.
    """

    def __init__(
        self,
        wake: Callable[[str, bytes, str], None],
        busy: Callable[[str], bool],
        open_reader: Callable[[str], Awaitable[Reader]],
        compare: Compare,
        settled: Callable[[str, str, Place], None],
        clock: Clock,
    ) -> None:
        self._wake, self._busy, self._open_reader = wake, busy, open_reader
        self._compare, self._settled, self._clock = compare, settled, clock
        self._pending: dict[Key, _Heard] = {}
        self._lost: dict[Key, _Lost] = {}
        self._compared: dict[Key, float] = {}  # when that was last begun
        self._asked: dict[str, dict[bytes, set[str]]] = {}  # mirror, scope: whose news asked for a pass
        self._credits: dict[Key, _Credit] = {}
        self._happened = asyncio.Event()
        self._looking: set[Key] = set()

    # -- what happens

    def take(self, site: str, mirror: str, records: Sequence[Record], place: Place) -> None:
        """Records of a sibling's journal, up to `place`."""
        self._heard(site, mirror, place).add(records)

    def lost(self, site: str, mirror: str, place: Place) -> None:
        """Nobody knows what changed up to `place`: the two are compared."""
        known = self._lost.get((mirror, site))
        if known is None:
            again = self._compared.get((mirror, site), -UNTOLD) + UNTOLD
            self._lost[mirror, site] = _Lost(place, max(self._clock.monotonic() + QUIET, again))
        else:
            known.place = place
        self._happened.set()

    def ended(self, mirror: str, scope: bytes, changed: int | None) -> None:
        """A pass has ended; `changed` counts what it published or deleted, None where it did not get far."""
        asked = self._asked.get(mirror, {})
        for path in [path for path in asked if answered(scope, path)]:
            for site in asked.pop(path):
                if changed is not None:
                    self._credited(mirror, site, changed)
        self._happened.set()

    def _heard(self, site: str, mirror: str, place: Place) -> _Heard:
        now = self._clock.monotonic()
        heard = self._pending.setdefault((mirror, site), _Heard(place, self._clock.now(), now, now))
        heard.place, heard.last = place, now
        self._happened.set()
        return heard

    def _credited(self, mirror: str, site: str, changed: int) -> None:
        credit = self._credits.setdefault((mirror, site), _Credit())
        credit.fruitless = 0 if changed else credit.fruitless + 1
        if credit.fruitless >= FRUITLESS:
            rest = min(REST * 2 ** min(credit.fruitless - FRUITLESS, 20), MAX_REST)
            credit.until = self._clock.monotonic() + rest
            log.info("%s: %s: its news changed nothing, next looked at in %.0f s", mirror, site, rest)

    # -- the loop

    async def run(self) -> None:
        """Look at what was heard, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._happened.clear()
                now = self._clock.monotonic()
                again: list[float] = []
                for key in (self._pending.keys() | self._lost.keys()) - self._looking:
                    if self._busy(key[0]):
                        again.append(BUSY)
                        continue
                    at = self._due(key)
                    if at > now:
                        again.append(at - now)
                        continue
                    self._looking.add(key)
                    group.create_task(self._work(key, now), name=f"news of {key[0]} from {key[1]}")
                await self._sleep(min(again, default=None))

    async def _work(self, key: Key, now: float) -> None:
        try:
            heard, lost = self._pending.get(key), self._lost.get(key)
            if heard is not None and heard.due() <= now:
                await self._look(key, self._pending.pop(key))
            if lost is not None and lost.at <= now:
                await self._look_everywhere(key, lost)
        finally:
            self._looking.discard(key)
            self._happened.set()

    def _due(self, key: Key) -> float:
        heard, lost = self._pending.get(key), self._lost.get(key)
        at = min(heard.due() if heard is not None else math.inf, lost.at if lost is not None else math.inf)
        credit = self._credits.get(key)
        return at if credit is None else max(at, credit.until)

    async def _sleep(self, seconds: float | None) -> None:
        waits = [asyncio.ensure_future(self._happened.wait())]
        if seconds is not None:
            waits.append(asyncio.ensure_future(self._clock.sleep(seconds)))  # type: ignore[arg-type]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _look(self, key: Key, heard: _Heard) -> None:
        """Hold what was told name by name against what we hold."""
        mirror, site = key
        try:
            reader = await self._open_reader(mirror)
        except SidewaysError:  # never begun here: its first pass is due anyway
            self._work_off(key, heard.place)
            return
        try:
            scopes = await self._missing(reader, heard) | await self._flooded(key, reader, heard)
        except SidewaysError as error:
            log.warning("%s: %s's news is not looked at: %s", mirror, site, error)
            return
        finally:
            await reader.close()
        self._ask(key, scopes)
        self._work_off(key, heard.place)

    async def _look_everywhere(self, key: Key, lost: _Lost) -> None:
        """Compare with a sibling whose journal we lost our place in."""
        mirror, site = key
        self._compared[key] = self._clock.monotonic()
        lost.at = self._compared[key] + UNTOLD
        lost.tries += 1
        different: list[bytes] | None = None
        try:
            reader = await self._open_reader(mirror)
            try:
                different = await self._different(key, reader)
            finally:
                await reader.close()
        except SidewaysError as error:
            log.info("%s: not compared with %s: %s", mirror, site, error)
        if different is None and lost.tries < TRIES:
            return
        del self._lost[key]
        self._ask(key, set(different or ()))  # where it never could be told, the schedule's passes must do
        self._work_off(key, lost.place)

    async def _flooded(self, key: Key, reader: Reader, heard: _Heard) -> set[bytes]:
        """Where to look, of what was too much to be kept name by name. Digests tell what of it is not here:
        most of what a sibling publishes while we make a first copy ourselves is, by the end of that."""
        if not heard.directories:
            return set()
        different = await self._different(key, reader)
        found = heard.directories if different is None else set(different)
        return {b""} if found and heard.deleted else found  # a deletion is judged by a pass over everything

    async def _different(self, key: Key, reader: Reader) -> list[bytes] | None:
        mirror, site = key
        try:
            return await self._compare(site, mirror, reader)
        except PeerError as error:
            log.info("%s: not compared with %s: %s", mirror, site, error)
            return None

    def _ask(self, key: Key, scopes: set[bytes]) -> None:
        mirror, site = key
        asked = self._asked.setdefault(mirror, {})
        for scope in sorted(gathered(scopes)):
            log.info("%s: %s has news of %s", mirror, site, shown(scope) or "everything")
            if len(asked) >= DIRECTORIES:  # of a mirror whose passes do not begin
                asked.clear()
            asked.setdefault(scope, set()).add(site)
            with suppress(SidewaysError):  # not a mirror of this site any more
                self._wake(mirror, scope, f"{site} published something new")

    def _work_off(self, key: Key, place: Place) -> None:
        lost = self._lost.get(key)
        if lost is not None:
            lost.place = place
        else:
            self._settled(key[1], key[0], place)

    @staticmethod
    async def _missing(reader: Reader, heard: _Heard) -> set[bytes]:
        """Where to look, of what was told name by name."""
        scopes = set[bytes]()
        for path, record in heard.paths.items():
            above = split(path)[0]
            if b"" in scopes or above in scopes or above in heard.directories:
                continue
            ours = await reader.held(path)
            if record.action != "delete":
                if ours is None or _may_differ(ours, record, heard.since):
                    scopes.add(above)
            elif ours is not None:
                scopes.add(b"")
        return scopes

    def __repr__(self) -> str:
        return f"<News {len(self._pending)} to be looked at>"


def _may_differ(ours: Held, record: Record, since: float) -> bool:
    """Whether a sibling published another version than the one that we hold, as far as a record tells."""
    if ours.unknown or ours.kind is not record.kind:
        return True
    if record.kind is Kind.FILE:
        return ours.sha256 != record.sha256
    # Where a link points to is not in the journal. One that was made after we heard of it is the new one.
    return record.kind is Kind.SYMLINK and ours.copied < since


def gathered(scopes: Iterable[bytes], limit: int = SCOPES) -> set[bytes]:
    """At most `limit` directories that hold all of these, none below another: the deepest give way first."""
    left = set(scopes)
    while True:
        left = {path for path in left if not any(path != other and answered(other, path) for other in left)}
        if len(left) <= limit:
            return left
        deepest = max(map(depth, left))
        left = {split(path)[0] if depth(path) == deepest else path for path in left}
