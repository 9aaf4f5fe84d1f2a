"""Small files of an origin that lends its connections: fetched many at a time by the courier's process.

Everything that is not the plain case goes back to be asked for alone, by the origin's own adapter, which
knows how to judge it: a courier that is not to be had costs speed and nothing else
(`docs/decisions/0012-courier.md`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from cluster.courier import wire
from cluster.engine.context import SMALL, Context, Job, slices
from cluster.errors import DiskFull, StoreError
from cluster.model import SECOND, Facts, Stamp
from cluster.plan.compare import young
from cluster.store.small import Order, name
from cluster.store.temporaries import new_prefix
from cluster.store.tree import Staged

if TYPE_CHECKING:
    from cluster.courier.courier import Courier
    from cluster.engine.pace import Pace
    from cluster.engine.transfer import Transfer
    from cluster.origin.base import Lending, Loan

WORTH = 16  # files of one pass, in however many directories, that are worth a process (30 ms, 16 MB)
SLICE, LEAST_SLICE = 256, 2**18  # files of one errand, and bytes that make one in any case
WAITING, WAITING_BYTES = 1024, 16 * 2**20  # files that are on their errands at once
ROOM = (64 * 2**20, 4096)  # bytes and files for which the disk is asked at once
CONNECTIONS = 4  # at most, and half of what the origin allows: listings tell what there is to fetch. Where
# each carries one file at a time, three quarters, however many those are
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Errand:
    jobs: list[Job]
    prefix: bytes
    open: set[int]  # numbers of the jobs that are not settled


class Bulk:
    """See the module. `alone` takes the jobs that have to be asked for one by one, `begun` hears of those
    whose turn has come, `broken` of what the store said when it failed."""

    def __init__(
        self,
        context: Context,
        transfer: Transfer,
        pace: Pace,
        alone: Callable[[Sequence[Job]], Awaitable[None]],
        begun: Callable[[Sequence[Job]], None],
        broken: Callable[[Exception], None],
    ) -> None:
        self._context, self._transfer, self._alone, self._broken = context, transfer, alone, broken
        self._begun = begun
        self._pace = pace
        self._usable = context.origin.properties.lends and not context.dry
        self._origin = cast("Lending", context.origin)
        allowed, properties = context.mirror.limits.connections, context.origin.properties
        self._most = max(
            1, min(CONNECTIONS, allowed // 2) if properties.in_flight else allowed - allowed // 4
        )
        self._young = not properties.tells_times  # are to be asked for alone
        self._largest = min(SMALL, context.mirror.limits.file_size)
        self._lent: Loan | None = None
        self._courier: Courier | None = None
        self._settings: Loan | None = None  # what the courier was started with
        self._errands: dict[int, _Errand] = {}
        self._number = 0
        self._seen = 0  # files that it could fetch
        self._files = self._bytes = 0  # under way
        self._room = asyncio.Condition()
        self._room_bytes = self._room_files = 0  # that the disk is known to have
        self._turn = asyncio.Lock()
        self.heard = 0.0  # when (monotonic s) something last arrived for us
        self._looks: dict[tuple[int | None, int | None, int | None], Order] = {}
        self._reader: asyncio.Task[None] | None = None
        self._returning: set[asyncio.Task[None]] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Bulk {self._files} files under way, {self._courier or 'no courier'}>"

    async def close(self) -> None:
        """What is still under way is given up; its temporaries are gone afterwards."""
        self._usable, self._closed = False, True
        await self._dismiss()
        while tasks := self._endings | self._returning:
            for task in self._returning:
                task.cancel()
            await asyncio.wait(tasks)

    # -- giving errands

    async def take(self, jobs: Sequence[Job]) -> list[Job]:
        """Send the courier for those of these files that it can fetch; the rest is returned. Waits while
        many are under way."""
        if not self._usable:
            return list(jobs)
        fit = [job for job in jobs if self._fits(job)]
        self._seen += len(fit)
        if not fit or self._seen < WORTH:
            return list(jobs)
        left = [job for job in jobs if not self._fits(job)]
        for some in slices(fit, SLICE, max(LEAST_SLICE, self._pace.ahead(WAITING_BYTES) // 4)):
            async with self._turn:
                if not (self._usable and await self._send(some)):
                    left += some
        return left

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return self._files > 0

    def _fits(self, job: Job) -> bool:
        size = job.entry.size
        if size is None or size > self._largest or job.wanted.ask:
            return False
        return not (self._young and young(job.entry.mtime, job.visit.listed_at))

    async def _send(self, jobs: list[Job]) -> bool:
        """False where the courier cannot go."""
        size = sum(job.entry.size or 0 for job in jobs)
        await self._transfer.abreast.room()
        async with self._room:
            await self._room.wait_for(lambda: not self._usable or self._has_room(size))
        try:
            await self._require(size, len(jobs))
        except (StoreError, OSError) as error:
            self._broken(error)
            return False
        sent = await self._ready()
        if sent is None:
            return False
        prefix = new_prefix()
        courier, lent = sent  # as they are now: nothing is waited for until the errand is noted
        self._number += 1
        self._errands[self._number] = _Errand(jobs, prefix, set(range(len(jobs))))
        self._files += len(jobs)
        self._bytes += size
        for job in jobs:
            job.started = True
        self._begun(jobs)
        files = [self._file(lent, number, job) for number, job in enumerate(jobs)]
        with contextlib.suppress(OSError):  # the reader notices that the process is gone
            await courier.send((self._number, prefix, lent.connections, files))
        return True

    async def _require(self, size: int, files: int) -> None:
        """Room on the disk, for this errand and many more at once: each question is a thread's turn. Raises
        DiskFull where there is none even for this one."""
        store = self._context.store
        if size > self._room_bytes or files > self._room_files:
            self._room_bytes, self._room_files = max(size, ROOM[0]), max(files, ROOM[1])
            try:
                await store.room_for(self._room_bytes, self._room_files)
            except DiskFull:
                await store.room_for(size, files)
                self._room_bytes, self._room_files = size, files
        self._room_bytes -= size
        self._room_files -= files

    def _has_room(self, size: int) -> bool:
        if not self._files:
            return True
        return (
            self._files < WAITING
            and self._bytes + size <= self._pace.ahead(WAITING_BYTES)
            and not (self._lent is not None and self._origin.wanted())
        )

    def _file(self, lent: Loan, number: int, job: Job) -> wire.File:
        entry = job.entry
        key = (entry.mode, entry.uid, entry.gid)
        looks = self._looks.get(key)
        if looks is None:
            looks = self._looks[key] = self._context.store.looks(self._transfer.listed(job))
        listed = entry.mtime.ns if entry.mtime is not None else None
        return number, lent.target(job.path), entry.size or 0, (*looks[:3], listed)

    async def _ready(self) -> tuple[Courier, Loan] | None:
        """Connections, and who is to use them."""
        while self._usable:
            if self._lent is None:
                self._lent = await self._origin.lend(self._most)
                if self._lent is None:
                    return None
            elif self._courier is None:
                await self._start(self._lent)
            elif self._settings != _settings(self._lent):
                await self._dismiss()  # nothing is under way: it was not lent anything
            else:
                return self._courier, self._lent
        if not self._errands:
            self._give_back()
        return None

    async def _start(self, lent: Loan) -> None:
        from cluster.courier.courier import Courier

        try:
            self._courier = await Courier.start(lent, self._context.store.temporaries_folder)
        except (OSError, RuntimeError) as error:  # no process, or no thread that would start it
            _log.warning("%s: no process for small files: %s", self._context.mirror.name, error)
            self._usable = False
            return
        self._settings = _settings(lent)
        self._reader = asyncio.create_task(self._read(self._courier), name="courier")

    # -- what comes back

    async def _read(self, courier: Courier) -> None:
        try:
            async for report in courier.reports():
                await self._report(report)
            _log.warning("%s: the process for small files is gone", self._context.mirror.name)
            self._usable = False
            await self._dismiss(again=True)
        except Exception as error:  # noqa: BLE001  # whatever it was, nobody else can notice
            self._broken(error)

    async def _report(self, report: wire.Report) -> None:
        """A file is under way until it is in the next batch: who ends us before takes its temporary away."""
        number, arrived, alone, failed, requests, discarded = report
        self.heard = self._context.clock.monotonic()
        if number == wire.SIGN:
            return
        errand = self._errands[number]
        if failed:
            which, code = failed[0]
            raise self._context.store.explain(errand.jobs[which].path, code)
        ready = self._staged(errand, arrived)
        traffic = self._context.origin.traffic
        traffic.requests += requests
        traffic.bytes += discarded + sum(staged.held.size for _, staged in ready)
        if any(reason != wire.ODD for _, reason in alone):
            self._usable = False
        for job, _ in ready:
            if job.claimed:
                self._pace.come(self.heard - job.claimed)
        if ready:
            await self._transfer.publish_all(ready)
            errand.open.difference_update(one[0] for one in arrived)  # the batch has them, whatever comes now
        self._over(number, errand, [one[0] for one in arrived] + [which for which, _ in alone])
        if alone:
            self._ask_alone([errand.jobs[which] for which, _ in alone])
        async with self._room:
            self._room.notify_all()

    def _staged(self, errand: _Errand, arrived: Sequence[wire.Arrived]) -> list[tuple[Job, Staged]]:
        recorded, ready = self._transfer.arrived, []
        for number, inode, on_disk, sha256, etag, modified in arrived:
            job = errand.jobs[number]
            mtime = None if modified is None else Stamp(modified * SECOND, SECOND)
            held = recorded(job, Facts(job.entry.size or 0, mtime, etag), sha256, on_disk, inode)
            ready.append((job, Staged(name(errand.prefix, number), held, inode)))
        return ready

    def _over(self, number: int, errand: _Errand, settled: Sequence[int]) -> None:
        jobs = errand.jobs
        errand.open.difference_update(settled)
        self._files -= len(settled)
        self._bytes -= sum([jobs[which].entry.size or 0 for which in settled])
        if not errand.open:
            del self._errands[number]
        if not self._errands:
            self._give_back()

    def _ask_alone(self, jobs: Sequence[Job]) -> None:
        if self._closed:
            return
        task = asyncio.create_task(_awaited(self._alone(jobs)))  # its queue may be full: do not wait here
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    def renew(self, now: float) -> None:
        """What waits for its turn is as much on its way as what arrives: siblings go on leaving it to us."""
        claims, mirror = self._context.claims, self._context.mirror.name
        for errand in self._errands.values() if claims.kept else ():
            for which in errand.open:
                job = errand.jobs[which]
                claims.progress(mirror, job.visit.path, job.entry.name, 0, now)

    # -- the end

    def _give_back(self) -> None:
        lent, self._lent = self._lent, None
        if lent is not None:
            self._origin.back(lent)

    async def _dismiss(self, *, again: bool = False) -> None:
        """Nobody is under way any more; with `again`, what was is asked for alone.

        What was begun goes on to its end, also where whoever waits for it is cancelled.
        """
        ending = asyncio.create_task(self._end(again), name="end of the courier")
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        await asyncio.shield(ending)

    async def _end(self, again: bool) -> None:
        courier, self._courier = self._courier, None
        reader, self._reader = self._reader, None
        if reader is not None and not again:  # else it is the one that waits for us
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if courier is not None:
            await courier.close()
        errands, self._errands, self._files, self._bytes = self._errands, {}, 0, 0
        self._give_back()
        for errand in errands.values():
            await self._context.store.forget_temporaries(name(errand.prefix, which) for which in errand.open)
            if again:
                self._ask_alone([errand.jobs[which] for which in sorted(errand.open)])
        async with self._room:
            self._room.notify_all()


def _settings(lent: Loan) -> Loan:
    """All of it but what may change from one errand to the next: name servers change the order."""
    return replace(lent, connections=0, addresses=tuple(sorted(lent.addresses)))


async def _awaited(work: Awaitable[None]) -> None:
    await work
