"""One file from its source to a verified temporary, and from there into the next batch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Self

from cluster.engine.abreast import Abreast
from cluster.engine.context import SMALL, Context, Job
from cluster.engine.delta import Deltas
from cluster.engine.gathering import pause_after
from cluster.engine.named import when_settled
from cluster.engine.once import Here
from cluster.engine.parted import Parted
from cluster.engine.zsync import Zsync
from cluster.errors import Changed, OriginError, PeerError
from cluster.model import Facts, Held, join
from cluster.origin.base import Body, Copyable, Pouring, Want
from cluster.peer.client import Sibling
from cluster.plan import steal
from cluster.plan.compare import Evidence, answer, fetched, record, validator
from cluster.plan.source import FromSibling, finer
from cluster.plan.states import Fate
from cluster.plan.steal import RANGE
from cluster.store.staging import Staging
from cluster.store.tree import Change, Staged

WRITERS = 1  # groups of small files that are on their way to the disk at once
GROUP = 64  # small files that go to the disk in one call
GROUP_BYTES = 4 * 2**20
QUEUE = 256
SPOT_RANGES = 3
SPOT_BYTES = 64 * 2**10

Finished = Callable[[Sequence[Job]], None]


@dataclass(slots=True)
class _Small:
    job: Job
    held: Held
    body: bytes


class Transfer:
    """Fetches jobs. `finished` hears once of each, when it is published, recorded or has failed."""

    def __init__(self, context: Context, finished: Finished, broken: Callable[[Exception], None]) -> None:
        self._context, self._finished, self._broken = context, finished, broken
        self._deltas = Deltas(context)
        self.here = Here(context)
        self._zsync = Zsync(context, self._deltas, self._progress)
        self.abreast = Abreast(context)
        self._small: asyncio.Queue[_Small] = asyncio.Queue(QUEUE)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write_small(), name="small files") for _ in range(WRITERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- from the origin

    async def from_origin(self, job: Job) -> None:
        """Fetch (or first ask about) one file; failures are recorded, never raised. StoreError is."""
        context = self._context
        job.started = True
        context.claims.start(context.mirror.name, job.visit.path, job.entry.name, context.clock.monotonic())
        try:
            await self._tries(job)
        except OriginError as error:
            self.refused(job, error)

    def refused(self, job: Job, error: OriginError) -> None:
        """The origin does not deliver this."""
        if self._context.look_again(job.visit, error):
            self.settle(job)
        else:
            self.fail(job, error.message)

    async def _tries(self, job: Job) -> None:
        """A body that broke off is asked for again, with exponential backoff and full jitter. (That a read
        could not be opened at all, the origin's wrapper has retried already.)"""
        context = self._context
        while True:
            try:
                await self._attempt(job)
            except OriginError as error:
                if not job.opened:
                    raise
                job.tries += 1
                await context.clock.sleep(pause_after(error, job.tries, context.mirror.limits.retries))
            else:
                return

    async def _attempt(self, job: Job) -> None:
        context, entry, previous = self._context, job.entry, job.wanted.previous
        job.opened = False
        if job.wanted.ask and previous is not None:
            facts = await context.origin.facts(job.path)
            if answer(facts, previous, foreign=context.policy.foreign) is Evidence.SAME:
                await self._still_same(job, previous)
                return
            if previous.etag is not None and await self._named_elsewhere(job, previous, facts):
                return
        if not context.origin.properties.network:
            await self._copy(job)
        elif (entry.size is not None and entry.size > SMALL) or _looks_large(entry.rounded):
            await self._large(job)
        else:
            await self._memory(job)

    async def _still_same(self, job: Job, previous: Held) -> None:
        """Asked about, and unchanged: only the record moves on."""
        context = self._context
        held = record(
            job.entry,
            context.mirror.attributes,
            base=previous,
            settled=self._settled(job),
            keep_ids=context.policy.keep_ids,
        )
        if not context.dry:
            await context.store.refresh(job.visit.path, [held])
        context.report.files.unchanged += 1
        self.settle(job)

    async def _named_elsewhere(self, job: Job, previous: Held, facts: Facts) -> bool:
        """Whether a sibling settles it: what it read later is what we have, or comes from there."""
        found = await when_settled(self._context, job, facts)
        if found is None:
            return False
        sibling, source = found
        as_before = (
            facts.mtime is not None and previous.mtime is not None and facts.mtime.agrees(previous.mtime)
        )
        if source.offer.sha256 != previous.sha256 or not as_before or source.spot_check:
            return await self.from_sibling(sibling, job, source)
        await self._still_same(job, replace(previous, etag=facts.etag))
        return True

    async def _memory(self, job: Job) -> None:
        context, entry = self._context, job.entry
        want = Want(size=entry.size, limit=context.mirror.limits.file_size, mtime=entry.mtime)
        async with context.origin.read(job.path, want) as body:
            job.opened = True
            if body.facts.size is not None and body.facts.size > SMALL:
                await self._stream(job, body, want)
                return
            parts: list[bytes] = []
            received = 0
            async for chunk in body.chunks():
                parts.append(chunk)
                received += len(chunk)
                if received > SMALL:
                    raise Changed(body_name(job), f"longer than the {SMALL} bytes that its header allows")
                if len(parts) > 1:
                    self._progress(job, received)
            facts = body.facts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        held = self._held(job, facts, len(data), None)  # hashed where it is written, beside the event loop
        await self._small.put(_Small(job, held, data))

    async def _large(self, job: Job) -> None:
        """Streams to the disk, and goes on with a partial of an earlier attempt."""
        context, entry = self._context, job.entry
        if not job.tries and await self._by_zsync(job):
            return
        staging = await context.store.beginnings.stage(job.path, entry.size)
        etag: str | None = None
        try:
            want = Want(
                size=entry.size,
                start=staging.start if staging.etag else 0,
                etag=staging.etag,
                limit=context.mirror.limits.file_size,
                mtime=entry.mtime,
            )
            async with context.origin.read(job.path, want) as body:
                job.opened = True
                etag = body.facts.etag
                if body.start != staging.start:
                    await staging.restart()
                received = await self._taken(job, body, staging)
                facts = body.facts
            staged = await staging.finish(self._held(job, facts, received, None))
        except Changed:
            await staging.abandon(None)
            raise
        except BaseException:
            await staging.abandon(etag)
            raise
        await self._publish(job, staged)

    async def _taken(self, job: Job, body: Body, staging: Staging) -> int:
        """All of `body` in `staging`; how many bytes there are. Where no sibling will read it here in a
        moment, a very large one is not kept in memory."""
        received = body.start
        if isinstance(body, Pouring):
            siblings = self._context.siblings
            aside = not any(sibling.up for sibling in siblings) and (body.facts.size or 0) >= RANGE
            came = await body.pour(
                lambda: staging.intake(aside=aside, parts=bool(siblings)),
                lambda came: self._progress(job, received + came),
            )
            if came is not None:
                return received + came
        async for chunk in body.chunks():
            await staging.write(chunk)
            received += len(chunk)
            self._progress(job, received)
        return received

    async def _by_zsync(self, job: Job) -> bool:
        """Only what differs from the older version here, where the origin publishes what differs."""
        staged = await self._zsync.staged(job, lambda facts: self._held(job, facts, facts.size or 0, None))
        if staged is not None:
            await self._publish(job, staged)
        return staged is not None

    async def by_parts(self, job: Job) -> bool:
        """One large file from origin and siblings together: see `Parted.fetch`."""
        if await self._by_zsync(job):
            return True
        return await Parted(self._context, self._held, self._publish, self.refused).fetch(job)

    def _arrived(self, job: Job) -> None:
        """Whether or not it came by parts: siblings ask for the published file from now on."""
        if (job.entry.size or 0) <= steal.LARGE:
            return  # such a file never does
        growing = self._context.claims.arriving.end(self._context.mirror.name, job.path)
        if growing is not None:
            growing.close()

    async def _stream(self, job: Job, body: Body, want: Want) -> None:
        """A body that turned out to be large after it had been opened."""
        staging = await self._context.store.beginnings.stage(job.path, body.facts.size)
        try:
            if staging.start:
                await staging.restart()
            received = await self._taken(job, body, staging)
            staged = await staging.finish(self._held(job, body.facts, received, None))
        except BaseException:
            await staging.abandon(body.facts.etag)
            raise
        await self._publish(job, staged)

    async def _copy(self, job: Job) -> None:
        """From this machine's own file systems: the store copies by itself."""
        context = self._context
        source: Copyable = context.origin  # type: ignore[assignment]  # local origins and their wrappers are
        descriptor = await asyncio.to_thread(source.open, job.path)
        held = self._held(job, Facts(size=job.entry.size, mtime=job.entry.mtime), job.entry.size or 0, None)
        staged = await context.store.stage_copy(held, descriptor)
        context.origin.traffic.requests += 1
        context.origin.traffic.bytes += staged.held.size
        await self._publish(job, staged)

    # -- from siblings

    async def received(
        self, sibling: Sibling, files: Sequence[tuple[Job, FromSibling, memoryview]]
    ) -> list[bool]:
        """Small files that a sibling has sent: written, hashed in the same go, and those that are what it
        promised published. Which ones they are; for the others it is blamed."""
        store = self._context.store
        bodies = [(self._held_sideways(job, source, None), body) for job, source, body in files]
        staged = await store.stage_small(bodies)
        good = [
            one.held.sha256 == source.offer.sha256 for one, (_, source, _) in zip(staged, files, strict=True)
        ]
        if not all(good):
            sibling.deceived("bytes that do not match their digest")
            await store.discard(*(one for one, is_good in zip(staged, good, strict=True) if not is_good))
        ready = zip(files, staged, good, strict=True)
        await self.publish_all([(job, one) for (job, _, _), one, is_good in ready if is_good])
        return good

    async def from_sibling(
        self, sibling: Sibling, job: Job, source: FromSibling, patience: float | None = None
    ) -> bool:
        """One larger file. False when it has to come from somewhere else: also where it would take more than
        `patience` seconds."""
        context = self._context
        held = self._held_sideways(job, source, source.offer.sha256)
        here = await self.here.staged([(job, held)]) if self.here.sought else []
        staged = here[0][1] if here else await self._deltas.from_sibling(sibling, job, source.offer, held)
        if staged is not None and staged.held.sha256 != source.offer.sha256:
            await context.store.discard(staged)  # no deception: it may be our older version that is damaged
            staged = None
        if staged is None:
            staged = await self._whole(sibling, job, source, held, patience)
        if staged is None:
            return False
        if staged.held.sha256 != source.offer.sha256 or staged.held.size != source.offer.size:
            sibling.deceived("bytes that do not match their digest")
            await context.store.discard(staged)
            return False
        if source.spot_check and not await self._spot_check(job, staged):
            sibling.deceived("bytes that are not the origin's")
            await context.store.discard(staged)
            return False
        await self.publish_all([(job, staged)], here=bool(here))
        return True

    async def _whole(
        self, sibling: Sibling, job: Job, source: FromSibling, held: Held, patience: float | None
    ) -> Staged | None:
        context, late = self._context, False
        began = context.clock.monotonic()
        context.report.requests_sideways += 1
        staging = await context.store.beginnings.stage(job.path, source.offer.size)
        try:
            if staging.start:
                await staging.restart()
            want = Want(size=source.offer.size, limit=source.offer.size)
            async with sibling.read(context.mirror.name, job.path, source.offer, want) as body:
                async for chunk in body.chunks():
                    await staging.write(chunk)
                    context.report.bytes_sideways += len(chunk)
                    late = patience is not None and context.clock.monotonic() - began > patience
                    if late:
                        break
            if not late:
                return await staging.finish(held)
        except PeerError:
            pass
        except BaseException:
            await staging.abandon(None)
            raise
        await staging.abandon(None)
        return None

    async def _spot_check(self, job: Job, staged: Staged) -> bool:
        """Compare ranges that were chosen after receipt with the origin's (HAZARDS section 4). Where the
        origin cannot be asked for ranges of this very version, nothing was proven.
        """
        context, size = self._context, staged.held.size
        try:
            facts = await context.origin.facts(job.path)
            if facts.size != size or not facts.ranges or facts.etag is None:
                return False
            for _ in range(SPOT_RANGES):
                start = random.randrange(max(1, size - SPOT_BYTES))
                stop = min(size, start + SPOT_BYTES)
                want = Want(size=size, start=start, stop=stop, etag=facts.etag, limit=size)
                async with context.origin.read(job.path, want) as body:
                    if body.start != start:
                        return False
                    theirs = b"".join([chunk async for chunk in body.chunks()])
                if theirs != await context.store.staged_range(staged, start, stop - start):
                    return False
        except OriginError:
            return False
        return True

    # -- from this site's own disk

    async def from_here(self, wanted: Sequence[tuple[Job, Held]]) -> set[int]:
        """Publish those of these files whose content is here already, with these records: their `id`s. Raises
        StoreError."""
        found = await self.here.staged(wanted)
        if found:
            await self.publish_all(found, here=True)
        return {id(job) for job, _ in found}

    def as_named(self, job: Job) -> Held:
        """The record of a file that has the digest by which a repository names it."""
        facts = Facts(size=job.entry.size, mtime=job.entry.mtime)
        held = self._held(job, facts, job.entry.size or 0, job.wanted.sha256)
        return replace(held, source="disk", verified="digest")

    def as_offered(self, job: Job, source: FromSibling) -> Held:
        """The record of a file that a sibling holds, and that need not come from there."""
        return self._held_sideways(job, source, source.offer.sha256)

    # -- into the tree

    async def link(self, job: Job, to: bytes, known: Held) -> None:
        """A hard link to a file of ours that is the same file at the origin."""
        held = record(
            job.entry, self._context.mirror.attributes, base=known, keep_ids=self._context.policy.keep_ids
        )
        change = Change(job.visit.path, held, previous=job.wanted.previous, link_to=to)

        def linked(error: Exception | None) -> None:
            self._arrived(job)
            if error is None:
                self._count([(job.path, held.size)], "link")
            elif not self._context.look_again(job.visit, error):
                self._context.fail(job.visit, job.entry.name, str(error))
            self.settle(job)

        await self._context.batcher.add(change, linked, job.visit.attributes)

    async def _publish(self, job: Job, staged: Staged) -> None:
        await self.publish_all([(job, staged)])

    async def publish_all(self, ready: Sequence[tuple[Job, Staged]], *, here: bool = False) -> None:
        """Temporaries of files that came from one place, into the next batch; but what a repository wants to
        publish otherwise. `here`: they came from nowhere."""
        if self.here.sought and not here:
            ready = await self.here.instead(ready)
        if self._context.verdicts.active:
            ready = await self._landed(ready, here)
        if not ready:
            return
        self.here.note(ready)
        for job, staged in ready if not here else ():
            parted = self._context.claims.arriving.has(self._context.mirror.name, job.path)
            if staged.held.source == "origin" and not parted:
                self.abreast.came(job.path, staged.held.size)
        changes = [Change(job.visit.path, staged.held, job.wanted.previous, staged) for job, staged in ready]
        attributes = {visit.path: visit.own for job, _ in ready if (visit := job.visit).own is not None}
        await self._context.batcher.add_all(changes, partial(self._published, ready, here), attributes)

    async def _landed(self, ready: Sequence[tuple[Job, Staged]], here: bool) -> list[tuple[Job, Staged]]:
        """Those of them that are published now; the others are over."""
        now: list[tuple[Job, Staged]] = []
        for job, staged, fate in await self._context.verdicts.landed(ready):
            if fate is Fate.PUBLISH:
                now.append((job, staged))
                continue
            job.visit.agrees = False
            self._arrived(job)
            if fate is Fate.KEEP:
                self._count([(job.path, staged.held.size)], "link" if here else staged.held.source)
            self.settle(job)
        return now

    def _published(
        self, ready: Sequence[tuple[Job, Staged]], here: bool, outcomes: Sequence[Exception | None]
    ) -> None:
        """What came of a part of a batch: most often all of it is there, from one source."""
        for job, _ in ready:
            self._arrived(job)
        if any(outcomes):
            for (job, _), error in zip(ready, outcomes, strict=True):
                if error is not None:
                    self.abreast.forget(job.path)
                if error is not None and not self._context.look_again(job.visit, error):
                    self._context.fail(job.visit, job.entry.name, str(error))
            self._settle([job for (job, _), error in zip(ready, outcomes, strict=True) if error is not None])
            ready = [one for one, error in zip(ready, outcomes, strict=True) if error is None]
        for source, some in groupby(ready, lambda one: "link" if here else one[1].held.source):
            done = list(some)
            self._count([(job.path, staged.held.size) for job, staged in done], source)
            self._settle([job for job, _ in done])

    def _count(self, published: Sequence[tuple[bytes, int]], source: str) -> None:
        files = self._context.report.files
        if source == "origin":
            files.origin += len(published)
        elif source == "link":
            files.unchanged += len(published)
        else:
            files.sideways += len(published)
        self._context.reporter.published(published, source)

    async def _write_small(self) -> None:
        """Bodies that arrived while the last group was being written make the next group."""
        try:
            while True:
                group = [await self._small.get()]
                size = len(group[0].body)
                while len(group) < GROUP and size < GROUP_BYTES and not self._small.empty():
                    group.append(self._small.get_nowait())
                    size += len(group[-1].body)
                staged = await self._context.store.stage_small([(one.held, one.body) for one in group])
                await self.publish_all(list(zip([one.job for one in group], staged, strict=True)))
        except Exception as error:  # noqa: BLE001  # whatever it was: else its files are waited for, for ever
            self._broken(error)

    # -- records

    def listed(self, job: Job) -> Held:
        """What the listing alone says of how a file will look."""
        return record(job.entry, self._context.mirror.attributes, keep_ids=self._context.policy.keep_ids)

    def arrived(self, job: Job, facts: Facts, sha256: bytes, disk_mtime: int, inode: int) -> Held:
        """The record of a file that the courier has fetched and written."""
        return self._held(job, facts, facts.size or 0, sha256, disk_mtime=disk_mtime, inode=inode)

    def brought(self, job: Job) -> Held:
        """The record of a file that another program brings, if it is the listed one."""
        size = job.entry.size or 0
        return self._held(job, Facts(size=size, mtime=job.entry.mtime), size, None)

    def _held(
        self,
        job: Job,
        facts: Facts,
        size: int,
        sha256: bytes | None,
        *,
        disk_mtime: int = 0,
        inode: int = 0,
    ) -> Held:
        entry, context = job.entry, self._context
        mtime = facts.mtime or entry.mtime
        agrees = entry.mtime is None or facts.mtime is None or entry.mtime.agrees(facts.mtime)
        job.visit.agrees = job.visit.agrees and agrees
        return fetched(
            entry,
            context.mirror.attributes,
            size=size,
            sha256=sha256,
            mtime=mtime,
            etag=validator(facts, job.visit.listed_at),
            source="origin",
            verified=f"copy {facts.copy}" if facts.copy else "origin",
            copied=int(context.clock.now()),
            settled=self._settled(job) and agrees,
            keep_ids=context.policy.keep_ids,
            disk_mtime=disk_mtime,
            inode=inode,
        )

    def _held_sideways(self, job: Job, source: FromSibling, sha256: bytes | None) -> Held:
        context, offer = self._context, source.offer
        return fetched(
            job.entry,
            context.mirror.attributes,
            size=offer.size,
            sha256=sha256,
            mtime=finer(job.entry.mtime, offer.mtime),
            etag=offer.etag,
            source=source.site,
            verified=source.verified,
            copied=int(context.clock.now()),
            settled=self._settled(job),
            keep_ids=context.policy.keep_ids,
        )

    def _settled(self, job: Job) -> bool:
        """Whether the listed interval was over when the origin was asked: else a later change in the same
        minute would show the same row.
        """
        mtime = job.entry.mtime
        settled = mtime is None or mtime.over(job.visit.listed_at)
        job.visit.agrees = job.visit.agrees and settled
        return settled

    def _progress(self, job: Job, received: int) -> None:
        context = self._context
        context.claims.progress(
            context.mirror.name, job.visit.path, job.entry.name, received, context.clock.monotonic()
        )

    # -- the end of a job

    def settle(self, job: Job) -> None:
        """The job is over, whatever came of it."""
        self._settle([job])

    def _settle(self, jobs: Sequence[Job]) -> None:
        claims, mirror = self._context.claims, self._context.mirror.name
        for job in jobs if claims.any(mirror) else ():
            claims.release(mirror, job.visit.path, job.entry.name)
        self._finished(jobs)

    def fail(self, job: Job, error: str) -> None:
        self._context.fail(job.visit, job.entry.name, error)
        self.settle(job)


def body_name(job: Job) -> str:
    from cluster.model import href

    return href(join(job.visit.path, job.entry.name))


def _looks_large(rounded: str | None) -> bool:
    """A rounded size that says megabytes or more."""
    return rounded is not None and rounded.strip()[-1:].upper() in "MGT"
