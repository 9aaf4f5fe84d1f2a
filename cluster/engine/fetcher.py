"""Who delivers the files of a directory: each goes its way, through `Asking` where there are siblings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Self

from cluster.engine.asking import Asking, Ways
from cluster.engine.batches import Batches
from cluster.engine.bulk import Bulk
from cluster.engine.context import SMALL, Context, Job, Stage, Visit, renewal
from cluster.engine.pace import InLine, Pace
from cluster.engine.trailing import Accounts, Trailing
from cluster.engine.transfer import Transfer
from cluster.errors import PeerError
from cluster.model import Held, Offered, Order, Trust, join
from cluster.peer.client import Sibling
from cluster.plan import steal
from cluster.plan.compare import Evidence, Wanted, evidence
from cluster.plan.order import SPLIT, owner
from cluster.plan.slow import Headway
from cluster.plan.source import FromSibling, PutOff, Source, choose
from cluster.store.mirror import Later

CHUNK = 512  # files that are claimed and asked for together
CHUNK_BYTES = 64 * 2**20
SIDEWAYS_SLOTS = 4  # larger files that come from siblings at once
PARTED_AT_ONCE = 2  # large files that come by parts
PARTED_WAITING = 64


class Fetcher:
    """Takes the wanted files of visits, and keeps the slots for origin and siblings busy."""

    def __init__(self, context: Context, visit_over: Callable[[Visit], None]) -> None:
        self._context, self._visit_over = context, visit_over
        self.transfer = Transfer(context, self._finished, self._stop)
        self._pace = Pace()
        self._line = InLine(self._pace)
        self._bulk = Bulk(context, self.transfer, self._pace, self._alone, self._line.over, self._stop)
        self._batches = Batches(context, self.transfer, self._pace, self._line.over, self._stop)
        ways = Ways(self._line.room, self._claim, self._unclaim, self._from_origin, self._put_off, self._send)
        self._asking = Asking(context, self.transfer, ways, self._pace, self._stop)
        accounts = Accounts(self._begin, self._not_copied, self._larger, self.book_later)
        self.trailing = Trailing(context, self._asking, accounts, self._stop)
        connections = max(1, context.mirror.limits.connections)
        self._origin: asyncio.Queue[Job] = asyncio.Queue(connections)
        self._sideways: asyncio.Queue[tuple[Job, FromSibling]] = asyncio.Queue(4 * SIDEWAYS_SLOTS)
        self._parted: asyncio.Queue[Job] = asyncio.Queue(PARTED_WAITING)
        self._whole: set[bytes] = set()  # large files that do not come by parts after all
        self._workers: list[asyncio.Task[None]] = []
        self._connections = connections
        self._outstanding = 0
        self._before = 0  # bytes that were here when the pass began
        self._alone_now = 0  # files that are being asked for one by one
        self._links: dict[str, Job] = {}  # hard-link groups whose first file is on its way
        self._done_later: list[tuple[Stage, bytes, bytes]] = []  # work of later stages that is over
        self.stopped: Exception | None = None
        self.broken = asyncio.Event()  # set with `stopped`

    async def __aenter__(self) -> Self:
        await self.transfer.__aenter__()
        self._before = (await self._context.store.totals()).bytes
        self._workers = [asyncio.create_task(self._origin_worker()) for _ in range(self._connections)]
        self._workers += [asyncio.create_task(self._sideways_worker()) for _ in range(SIDEWAYS_SLOTS)]
        if self._context.siblings:
            self._workers.append(asyncio.create_task(self._context.relays.patience.watch(), name="lateness"))
        self._asking.start(empty=not self._before)
        self.trailing.start()
        self._workers.append(asyncio.create_task(self._renewing(), name="renew claims"))
        self._workers += [asyncio.create_task(self._parted_worker()) for _ in range(PARTED_AT_ONCE)]
        return self

    async def __aexit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.cancel()
        try:
            await asyncio.gather(*self._workers, return_exceptions=True)
            await self.trailing.close()
            await self._asking.stop()
            if self.stopped is None:
                await self.book_later()
        finally:
            await self._batches.close()
            await self._bulk.close()
            await self.transfer.__aexit__(*error)

    def __repr__(self) -> str:
        return f"<Fetcher {self._outstanding} files outstanding>"

    # -- taking work

    async def take(self, visit: Visit, wanted: Sequence[Wanted]) -> None:
        """Dispatch the files of one directory. Waits while the queues are full."""
        verdicts = self._context.verdicts
        if verdicts.active:
            ours = await verdicts.ours(visit.path, wanted)
            visit.agrees = visit.agrees and len(ours) == len(wanted)
            if visit.stage is not Stage.WALK:  # what an earlier stage left for this one may wait by now
                names = {want.entry.name for want in wanted} - {want.entry.name for want in ours}
                self._done_later += [(visit.stage, visit.path, name) for name in names]
            wanted = ours
        wanted = await self._deferred(visit, wanted)
        if self._context.mirror.order is Order.BACKWARD:
            wanted = list(reversed(wanted))
        for chunk in _chunks(wanted):
            if self.stopped is not None:
                raise self.stopped
            await self._chunk(visit, chunk)

    async def walked(self) -> None:
        """Return when this is so of what the walk has handed over. What is being copied beside it may still
        be on its way; nothing more of that is begun."""
        await self._drained(lambda: self.trailing.under_way)
        self.trailing.end()

    async def drained(self) -> None:
        """Return when every file that was taken is published, put off or has failed, and every directory
        and link is made."""
        await self._drained(lambda: 0)

    async def _drained(self, down_to: Callable[[], int]) -> None:
        batcher = self._context.batcher
        while self._outstanding > down_to() and self.stopped is None:
            if self._outstanding <= batcher.pending:  # directories and links are pending there as well
                await batcher.flush()
            else:
                await asyncio.sleep(0.01)
        if self.stopped is not None:
            raise self.stopped
        await batcher.flush()

    async def _deferred(self, visit: Visit, wanted: Sequence[Wanted]) -> list[Wanted]:
        """What is not for this stage is kept in the store; the rest is returned."""
        context, now, last = self._context, [], []
        rest: dict[str, list[Wanted]] = {}  # by who ranks first
        alive = [context.site, *(s.name for s in context.up())]
        share = visit.stage is Stage.WALK and context.mirror.order is Order.RENDEZVOUS and len(alive) > 1
        whole = owner(visit.path, alive) if share and len(wanted) <= SPLIT else None
        early = visit.stage < Stage.LAST and bool(context.last)
        if not (early or share):
            return list(wanted)
        for want in wanted:
            path = join(visit.path, want.entry.name)
            if early and context.last.match(path):
                last.append(want)
            elif self._by_parts(path, want):
                now.append(want)  # each of its ranges has an owner of its own
            elif share and not want.ask and (first := self._first(path, want, whole, alive)) != context.site:
                rest.setdefault(first, []).append(want)
            else:
                now.append(want)
        await self._later(Stage.LAST, visit, last)
        await self._later(Stage.REST, visit, [want for some in rest.values() for want in some])
        self.trailing.left(visit, Stage.REST, rest)
        return now

    def _first(self, path: bytes, want: Wanted, whole: str | None, alive: Sequence[str]) -> str:
        """Who ranks first for a file, of those that mirror it; `whole` is who does for its directory."""
        able = self._context.carriers.among(alive, path, want.entry)
        return whole if whole is not None and whole in able else owner(path, able)

    def _by_parts(self, path: bytes, want: Wanted) -> bool:
        """Whether it is fetched by parts, where the origin allows that, and siblings do the same."""
        context = self._context
        sideways = context.mirror.sideways
        origin = context.origin.properties
        if not _is_large(want) or want.ask or not origin.network or origin.batches:
            return False
        if steal.is_medium(want.entry.size or 0) and not context.claims.heard.passing(context.mirror.name):
            return False
        shared = sideways.enabled and sideways.trust is Trust.SIBLINGS
        return shared and any(sibling.up for sibling in context.carrying(path, want.entry))

    async def _later(self, stage: Stage, visit: Visit, wanted: Sequence[Wanted]) -> None:
        if wanted:
            visit.agrees = False
        if wanted and not self._context.dry:
            items = [Later(visit.path, want.entry) for want in wanted]
            await self._context.store.later_add(self._context.record, stage, items)

    async def _chunk(self, visit: Visit, wanted: Sequence[Wanted]) -> None:
        context = self._context
        jobs: list[Job] = []
        begun = [Job(visit, want) for want in wanted]
        for job in begun:
            self._begin(job)
        for job in await self._not_here(begun):
            want = job.wanted
            if context.dry:
                context.reporter.planned("fetch", job.path, _size(want))
                context.report.files.origin += 1
                self._finished([job])
            elif want.ask:
                await self._origin.put(job)
            elif want.entry.link is not None and not want.named and await self._linked(job, want.entry.link):
                pass
            elif _is_large(want) and (self._by_parts(job.path, want) or await self._begun(job)):
                await self._parted.put(job)
            else:
                jobs.append(job)
        if not jobs:
            return
        if context.mirror.sideways.enabled and any(s.up for s in context.siblings):
            await self._asking.take(jobs)
            return
        for job in jobs if context.claims.kept else ():
            self._claim(job)
        await self._from_origin(jobs)

    async def _not_here(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Without those whose content is here under another name, as their digests tell, or on its way. A
        name that is to have what it has is not among them: its row is new, and what is named may be old."""
        here = self.transfer.here
        named = [job for job in jobs if _by_digest(job.wanted)]
        if not (here.sought and named):
            return jobs
        done = await self.transfer.from_here([(job, self.transfer.as_named(job)) for job in named])
        left, late = list[Job](), list[Job]()
        for job in jobs:
            if id(job) not in done:
                sha256 = job.wanted.sha256 if _by_digest(job.wanted) else None
                (left if here.begun(job, sha256) else late).append(job)
        await self._put_off(late)
        return left

    async def _begun(self, job: Job) -> bool:
        """Whether parts of it are here from an earlier attempt."""
        return (
            _is_large(job.wanted)
            and self._context.origin.properties.network
            and not self._context.origin.properties.batches
            and await self._context.store.beginnings.is_growing(job.path)
        )

    async def _linked(self, job: Job, link: str) -> bool:
        """Whether a hard link settles this job, or it must wait for the first file of its group."""
        store = self._context.store
        to = await store.by_link(link)
        if to is not None and to != job.path:
            known = await store.held(to)
            if known is not None and self._same_file(job, known):
                await self.transfer.link(job, to, known)
                return True
        if link in self._links:
            await self._put_off([job])
            return True
        self._links[link] = job
        return False

    def _same_file(self, job: Job, known: Held) -> bool:
        """Whether a file of ours is the one that this name is a link to. What this very pass has fetched is,
        even where its minute was not over: both names were listed together."""
        seen = evidence(job.entry, known, foreign=self._context.policy.foreign)
        fresh = known.copied >= self._context.record.started and not job.entry.ambiguous
        return not known.unknown and (seen is Evidence.SAME or (seen is Evidence.ASK and fresh))

    # -- asking siblings

    def _claim(self, job: Job) -> None:
        self._line.add(job)
        job.claimed = self._context.clock.monotonic()
        self._context.claims.claim(
            self._context.mirror.name, job.visit.path, job.entry.name, job.entry.row, job.claimed
        )

    async def _ask(self, directory: bytes, jobs: Sequence[Job], siblings: Sequence[Sibling]) -> list[Offered]:
        """What the siblings hold and fetch between the first and the last of these names."""
        names = [job.entry.name for job in jobs]
        context = self._context

        async def one(sibling: Sibling) -> Offered | None:
            context.report.requests_sideways += 1
            try:
                return await sibling.offered(
                    context.mirror.name, directory, context.answer, first=min(names), last=max(names)
                )
            except PeerError:
                return None

        return [answer for answer in await asyncio.gather(*(one(s) for s in siblings)) if answer is not None]

    async def _from_origin(self, jobs: Sequence[Job]) -> None:
        """In batches where the origin has them, or small ones by the courier; the others one by one. Waits
        while much is under way: that they come from the origin is settled, so that nobody who ranks before us
        takes them meanwhile."""
        claims, mirror, now = self._context.claims, self._context.mirror.name, self._context.clock.monotonic()
        for job in jobs if claims.kept else ():
            claims.start(mirror, job.visit.path, job.entry.name, now)
        await self._alone(await self._bulk.take(await self._batches.take(jobs)))

    async def _alone(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            await self._origin.put(job)

    def _without_lapsed(self, job: Job, offered: Sequence[Offered]) -> Sequence[Offered]:
        if job.visit.stage not in (Stage.PUT_OFF, Stage.LAST_PUT_OFF):
            return offered
        now, patience = self._context.clock.monotonic(), self._context.mirror.sideways.patience
        kept: list[Offered] = []
        for one in offered:
            claim = one.claims.get(job.entry.name)
            lapsed = claim is not None and self._asking.put_offs.lapsed(
                one.site, job, claim.received, now, patience
            )
            kept.append(Offered(one.site, one.held, {}, one.known) if lapsed else one)
        return kept

    async def _send(self, job: Job, source: FromSibling) -> None:
        await self._sideways.put((job, source))

    async def _put_off(self, jobs: Sequence[Job]) -> None:
        """Kept in the store for the stage after this one (or for another round of it)."""
        kept: dict[Stage, list[Later]] = {}
        for job in jobs:
            stage = Stage.PUT_OFF if job.visit.stage < Stage.LAST else Stage.LAST_PUT_OFF
            job.visit.agrees = False
            kept.setdefault(stage, []).append(Later(job.visit.path, job.entry))
        for stage, items in kept.items():
            await self._context.store.later_add(self._context.record, stage, items)
        for job in jobs:
            self._unclaim(job)
            self.trailing.left(job.visit, Stage.PUT_OFF, {"": [job.wanted]})
            self._finished([job], keep=job.visit.stage in kept)

    async def _renewing(self) -> None:
        """What waits for its turn behind something that arrives is as much on its way: while anything
        arrives, siblings go on leaving it to us."""
        context, seen, heard = self._context, -1, 0.0
        while True:
            pause = renewal(context.mirror.sideways.patience)
            await asyncio.sleep(pause if self._pace.per_second is not None else min(pause, 0.1))
            self._pace.look(
                context.clock.monotonic(),
                context.origin.traffic.bytes,
                busy=self._bulk.busy or self._batches.busy or self._alone_now > 0 or context.ranges > 0,
            )
            if self._pace.best is not None:
                headway = Headway(int(self._pace.best), context.origin.traffic.bytes, self._before)
                context.claims.goes(context.mirror.name, headway)
            heard_now = max(self._bulk.heard, self._batches.heard)
            waiting = self.transfer.abreast.waiting
            if (seen, heard) == (context.origin.traffic.bytes, heard_now) and not waiting:
                continue
            seen, heard, now = context.origin.traffic.bytes, heard_now, context.clock.monotonic()
            self._bulk.renew(now)
            self._batches.renew(now)
            for job in self._line.jobs():
                context.claims.progress(context.mirror.name, job.visit.path, job.entry.name, 0, now)

    def _unclaim(self, job: Job) -> None:
        self._line.over([job])
        self._context.claims.release(self._context.mirror.name, job.visit.path, job.entry.name)

    # -- workers

    async def _origin_worker(self) -> None:
        while True:
            job = await self._origin.get()
            try:
                await self.transfer.abreast.room()
                if await self._overtaken(job):
                    continue
                if job.claimed:
                    self._pace.come(self._context.clock.monotonic() - job.claimed)
                self._line.over([job])
                self._alone_now += 1
                try:
                    await self.transfer.from_origin(job)
                finally:
                    self._alone_now -= 1
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  # a broken store ends the pass, whatever broke it
                self._stop(error)  # and the job stays pending: its directory is still to do

    async def _overtaken(self, job: Job) -> bool:
        """A larger file that waited longer than a claim holds may be a sibling's by now: ask again."""
        context = self._context
        waited = context.clock.monotonic() - job.claimed
        if job.wanted.ask or waited < context.mirror.sideways.patience or (job.entry.size or 0) <= SMALL:
            return False
        siblings = context.up()
        if not siblings:
            return False
        self._claim(job)
        offered = await self._ask(job.visit.path, [job], siblings)
        source = self._choose(job, offered)
        if isinstance(source, FromSibling):
            self._unclaim(job)
            await self._send(job, source)
            return True
        if isinstance(source, PutOff) and not source.contested:
            await self._put_off([job])
            return True
        return False

    async def _parted_worker(self) -> None:
        while True:
            job = await self._parted.get()
            try:
                await self._parts(job)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  # as above
                self._stop(error)

    async def _parts(self, job: Job) -> None:
        """One large file by parts, unless a sibling has all of it, or fetches it as a whole."""
        siblings = self._context.up()
        if job.path in self._whole:
            await self._asking.take([job])
            return
        if siblings and not await self._begun(job):
            offered = await self._ask(job.visit.path, [job], siblings)
            source = self._choose(job, [_without_parts(one) for one in self._without_lapsed(job, offered)])
            if isinstance(source, FromSibling):
                await self._send(job, source)
                return
            if isinstance(source, PutOff) and not source.contested:
                await self._put_off([job])
                return
        if await self.transfer.by_parts(job):
            return
        self._whole.add(job.path)
        if siblings:
            await self._asking.take([job])
        else:
            self._claim(job)
            await self._from_origin([job])

    def _choose(self, job: Job, offered: Sequence[Offered]) -> Source:
        sideways = self._context.mirror.sideways
        return choose(
            job.visit.path,
            job.entry,
            offered,
            own=self._context.site,
            trust=sideways.trust,
            patience=sideways.patience,
            sha256=job.wanted.sha256,
        )

    async def _sideways_worker(self) -> None:
        while True:
            job, source = await self._sideways.get()
            try:
                await self._from_sibling(job, source)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  # as above
                self._stop(error)

    async def _from_sibling(self, job: Job, source: FromSibling) -> None:
        """Where it does not deliver, somebody else may, and else the origin does."""
        if await self._larger(job, source):
            return
        others = [s for s in self._context.up() if s.name != source.site]
        self._claim(job)
        source_now = self._choose(job, await self._ask(job.visit.path, [job], others))
        if isinstance(source_now, FromSibling):
            self._unclaim(job)
            by_name = {s.name: s for s in others}
            if await self.transfer.from_sibling(by_name[source_now.site], job, source_now):
                return
        elif isinstance(source_now, PutOff) and not source_now.contested:
            await self._put_off([job])
            return
        self._claim(job)
        if await self._batches.take([job]):
            self._line.over([job])
            await self.transfer.from_origin(job)

    async def _larger(self, job: Job, source: FromSibling) -> bool:
        sibling = next(s for s in self._context.siblings if s.name == source.site)
        # The link to it is shared by all the files that come at once.
        patience = self._pace.patience(SIDEWAYS_SLOTS * source.offer.size)
        began = self._context.clock.monotonic()
        if await self.transfer.from_sibling(sibling, job, source, patience):
            return True
        if patience is not None and self._context.clock.monotonic() - began > patience:
            self._asking.too_slow(sibling.name)
        return False

    def _stop(self, error: Exception) -> None:
        if self.stopped is None:
            self.stopped = error
            self.broken.set()

    # -- the beginning and the end of a job

    def _begin(self, job: Job) -> None:
        self._outstanding += 1
        job.visit.pending += 1

    def _not_copied(self, job: Job) -> None:
        """Beside the walk: it comes in its stage."""
        self._finished([job], keep=True)

    async def book_later(self) -> None:
        """Record which work of later stages is over."""
        over, self._done_later = self._done_later, []
        if over:
            await self._context.store.later_done(self._context.record, over)
        for _, path, name in over:
            self.trailing.booked(path, name)

    def _finished(self, jobs: Sequence[Job], *, keep: bool = False) -> None:
        self._outstanding -= len(jobs)
        self._line.over(jobs)
        for job in jobs:
            visit, link = job.visit, job.entry.link
            visit.pending -= 1
            self.transfer.here.over(job)
            if link is not None and self._links.get(link) is job:
                del self._links[link]
            if visit.stage is not Stage.WALK:
                self.trailing.over(job)
                if not keep:
                    self._asking.put_offs.forget(job.path)
                    self._done_later.append((visit.stage, visit.path, job.entry.name))
            if visit.pending == 0:
                self._visit_over(visit)


def _without_parts(offered: Offered) -> Offered:
    """Claims on what can be read while it grows are no reason to wait for the whole of it: parts of a file,
    and a whole one whose version is named."""
    whole = {
        name: claim
        for name, claim in offered.claims.items()
        if claim.end is None and not claim.first and claim.etag is None
    }
    return replace(offered, claims=whole)


def _chunks(wanted: Sequence[Wanted]) -> Iterable[list[Wanted]]:
    """Runs of at most CHUNK files and about CHUNK_BYTES, so that a claim is near to its turn."""
    chunk: list[Wanted] = []
    size = 0
    for want in wanted:
        chunk.append(want)
        size += want.entry.size or SMALL
        if len(chunk) >= CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _by_digest(want: Wanted) -> bool:
    """Whether it is known what content is to come."""
    have = want.previous.sha256 if want.previous is not None else None
    return want.sha256 is not None and want.sha256 != have and not want.ask


def _is_large(want: Wanted) -> bool:
    return want.entry.size is not None and want.entry.size > steal.LARGE


def _size(want: Wanted) -> str:
    entry = want.entry
    return str(entry.size) if entry.size is not None else entry.rounded or "size not told"
