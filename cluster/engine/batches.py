"""Files of an origin from which a program of its own brings many at once: into a private folder, out of
which each is published as soon as it is there.

A batch is what has gathered while the one before was on its way. It is bounded, so that siblings need not
wait for more than is about to come; what siblings hold never gets here (`cluster.engine.asking`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, cast

from cluster.engine.context import Context, Job, renewal
from cluster.engine.gathering import pause_after
from cluster.errors import Changed, OriginError, Vanished
from cluster.model import href
from cluster.origin.base import Batch, Batching, Brought

if TYPE_CHECKING:
    from cluster.engine.pace import Pace
    from cluster.engine.transfer import Transfer
    from cluster.store.landing import Landing
    from cluster.store.tree import Staged

FILES, BYTES = 8192, 512 * 2**20  # of one batch at most, but for a single file that is larger
NAMED = (
    1024  # files that one child is asked for by name: rsync compares all that come with all that are named
)
WAITING = 2 * FILES  # files that wait for their batch
LINGER = 0.1  # s without another file, until a batch begins that could have more
GROUP = 256  # files that become ours in one go
WHOLE = 2  # files of a directory for which it is asked as a whole, where it has no others
LARGE = 8 * 2**20  # bytes of a file that is watched on its way, and gone on with where it was interrupted
ALIKE, ALIKE_FROM = (
    64,
    2**20,
)  # files of a batch for which older ones are looked for, and bytes of such a file


class Batches:
    """See the module. `begun` hears of the files whose turn has come, `broken` of what the store said when it
    failed."""

    def __init__(
        self,
        context: Context,
        transfer: Transfer,
        pace: Pace,
        begun: Callable[[Sequence[Job]], None],
        broken: Callable[[Exception], None],
    ) -> None:
        self._context, self._transfer, self._pace = context, transfer, pace
        self._begun, self._broken = begun, broken
        self._usable = context.origin.properties.batches and not context.dry
        self._origin = cast("Batching", context.origin)
        self._largest = context.mirror.limits.file_size
        self._waiting: deque[Job] = deque()
        self._waiting_bytes = 0
        self._open: dict[bytes, Job] = {}  # of the batch that is on its way
        self._changed = asyncio.Condition()
        self._runner: asyncio.Task[None] | None = None
        self.heard = 0.0  # when (monotonic s) something last arrived for us

    def __repr__(self) -> str:
        return f"<Batches {len(self._waiting)} files waiting, {len(self._open)} on their way>"

    async def close(self) -> None:
        """What is still on its way is given up; nobody writes for us afterwards."""
        self._usable = False
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._open)

    def renew(self, now: float) -> None:
        """What waits for its turn is as much on its way as what arrives: siblings go on leaving it to us."""
        claims, mirror = self._context.claims, self._context.mirror.name
        for job in (*self._open.values(), *self._waiting) if claims.kept else ():
            claims.progress(mirror, job.visit.path, job.entry.name, 0, now)

    # -- what is to come

    async def take(self, jobs: Sequence[Job]) -> list[Job]:
        """Bring those of these files that can come so; the rest is returned. Waits while many wait."""
        if not self._usable:
            return list(jobs)
        fit = [job for job in jobs if self._fits(job)]
        if fit:
            async with self._changed:
                await self._changed.wait_for(self._has_room)
                self._waiting.extend(fit)
                self._waiting_bytes += sum([job.entry.size or 0 for job in fit])
                self._changed.notify_all()
            if self._runner is None:
                self._runner = asyncio.create_task(self._run(), name="batches of files")
        return [job for job in jobs if not self._fits(job)]

    def _fits(self, job: Job) -> bool:
        return job.entry.size is not None and job.entry.size <= self._largest and not job.wanted.ask

    def _has_room(self) -> bool:
        return not self._waiting or (len(self._waiting) < WAITING and self._waiting_bytes < self._ahead())

    def _ahead(self) -> int:
        """Bytes of a batch: where siblings wait for what we claim, what comes in a moment."""
        shared = self._context.claims.kept and self._context.siblings
        return self._pace.ahead(BYTES) if shared else BYTES

    async def _run(self) -> None:
        try:
            while True:
                await self._gathered()
                await self._batch()
        except Exception as error:  # noqa: BLE001  # whatever it was: else its files are waited for, for ever
            self._broken(error)

    async def _gathered(self) -> None:
        """Until there is a batch, and nothing more comes for it."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._waiting))
        seen = 0
        while seen != len(self._waiting) < FILES and self._waiting_bytes < self._ahead():
            seen = len(self._waiting)
            await self._context.clock.sleep(LINGER)

    async def _next(self) -> list[Job]:
        jobs: dict[bytes, Job] = {}
        size, most = 0, self._ahead()
        async with self._changed:
            while self._waiting and len(jobs) < FILES:
                job = self._waiting[0]
                size += job.entry.size or 0
                if job.path in jobs or (jobs and size > most):
                    break
                jobs[job.path] = self._waiting.popleft()
                self._waiting_bytes -= job.entry.size or 0
            self._changed.notify_all()
        return list(jobs.values())

    # -- one batch

    async def _batch(self) -> None:
        """Every file of it is published, or told why not; or the pass is over, and what has begun is kept."""
        await self._transfer.abreast.room()
        context, jobs = self._context, await self._next()
        self._open = {job.path: job for job in jobs}
        self._begun(jobs)
        for job in jobs:
            job.started = True
        await self._require(jobs)
        large = {job.path: job.entry.size or 0 for job in jobs if _is_large(job)}
        landing = await context.store.beginnings.land(list(large))
        try:
            whole, tries = _whole(jobs), 0
            while self._open:
                before, some = len(self._open), _some(self._open.values(), whole)
                try:
                    await self._once(landing, some, whole)
                except OriginError as error:
                    tries = 1 if len(self._open) < before else tries + 1
                    await self._again(error, tries)
                else:
                    await self._require(self._open.values())
                    self._refuse(None, some)
                whole = ()
        finally:
            self._open = {}
            await context.store.beginnings.leave(landing, large)

    async def _require(self, jobs: Collection[Job]) -> None:
        """Room on the disk for what is to come, or could not. Raises DiskFull."""
        if jobs:
            await self._context.store.room_for(sum(job.entry.size or 0 for job in jobs), len(jobs))

    async def _again(self, error: OriginError, tries: int) -> None:
        """Wait until it may be tried again, or nothing more is to come."""
        context = self._context
        await self._require(self._open.values())
        try:
            pause = pause_after(error, tries, context.mirror.limits.retries)
        except OriginError as last:
            self._refuse(last)
        else:
            await context.clock.sleep(pause)

    def _refuse(self, error: OriginError | None, asked: Collection[Job] | None = None) -> None:
        """The origin does not deliver what has not come of what it was `asked` for, or of everything; without
        an error, though it has sent the rest."""
        for job in list(self._open.values()) if asked is None else asked:
            if self._open.pop(job.path, None) is not None:
                self._transfer.refused(job, error or Vanished(href(job.path), "the origin did not send it"))

    async def _once(self, landing: Landing, jobs: Sequence[Job], whole: Sequence[bytes]) -> None:
        """Ask for these, and take what comes. Raises OriginError, after which less may be open."""
        alike = len(jobs) <= ALIKE and any(
            job.wanted.previous is None and (job.entry.size or 0) >= ALIKE_FROM for job in jobs
        )
        older = landing.older if alike or any(job.wanted.previous for job in jobs) else None
        batch = Batch(
            landing.folder,
            landing.begun,
            tuple([job.path for job in jobs]),
            whole=tuple(whole),
            older=older,
            alike=alike,
            largest=max(job.entry.size or 0 for job in jobs),
        )
        try:
            async with self._watched(landing), contextlib.aclosing(self._origin.bring(batch)) as reports:
                async for report in reports:
                    await self._arrived(landing, report)
        finally:
            await self._arrived(landing, [(job.path, 0) for job in jobs if job.path in self._open])

    async def _arrived(self, landing: Landing, report: Sequence[Brought]) -> None:
        """What is there now is ours, and published; of what was never asked for nothing is looked at."""
        context = self._context
        self.heard = context.clock.monotonic()
        for path, error in report:
            if isinstance(error, OriginError) and (job := self._open.pop(path, None)) is not None:
                self._transfer.refused(job, error)
        named = [self._open[path] for path, _ in report if path in self._open]
        for start in range(0, len(named), GROUP):
            some = named[start : start + GROUP]
            files = [(job.path, self._transfer.brought(job)) for job in some]
            taken = await context.store.landed(landing, files, parts=bool(context.siblings))
            ready: list[tuple[Job, Staged]] = []
            for job, one in zip(some, taken, strict=True):
                if one is None:
                    continue
                del self._open[job.path]
                if isinstance(one, Changed):
                    self._transfer.refused(job, one)
                else:
                    ready.append((job, one))
                    if job.claimed:
                        self._pace.come(self.heard - job.claimed)
            await self._transfer.publish_all(ready)

    @asynccontextmanager
    async def _watched(self, landing: Landing) -> AsyncIterator[None]:
        """While a large file is on its way siblings hear that it comes, and how much of it has."""
        large = [job for job in self._open.values() if _is_large(job)]
        if not large:
            yield
            return
        watching = asyncio.create_task(self._watch(landing, large), name="large files of a batch")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, landing: Landing, large: Sequence[Job]) -> None:
        context, claims = self._context, self._context.claims
        seen: dict[bytes, int] = {}
        while True:
            await asyncio.sleep(renewal(context.mirror.sideways.patience))
            jobs = [job for job in large if job.path in self._open]
            grown = await context.store.landing_growth(landing, [job.path for job in jobs])
            now = context.clock.monotonic()
            for job, size in zip(jobs, grown, strict=True):
                if size > seen.get(job.path, 0):
                    seen[job.path], self.heard = size, now
                    claims.progress(context.mirror.name, job.visit.path, job.entry.name, size, now)


def _is_large(job: Job) -> bool:
    return (job.entry.size or 0) >= LARGE


def _some(jobs: Collection[Job], whole: Collection[bytes]) -> list[Job]:
    """What one child is asked for: everything in these directories, and of other files the first ones."""
    taken = frozenset(whole)
    inside = [job for job in jobs if job.visit.path in taken]
    others = (job for job in jobs if job.visit.path not in taken)
    return [*inside, *islice(others, NAMED)]


def _whole(jobs: Sequence[Job]) -> tuple[bytes, ...]:
    """The directories of which every file is among these."""
    counted = Counter(id(job.visit) for job in jobs)
    visits = {id(job.visit): job.visit for job in jobs}
    return tuple(visit.path for key, visit in visits.items() if counted[key] == visit.files >= WHOLE)
