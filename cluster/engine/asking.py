"""Asking siblings: the files of many directories in one question to each, whose answer brings the small ones.

Before a sibling is asked, this site says what it is about to fetch (a claim), so that of two sites that meet
at one file one gives way. What a sibling is fetching right now is put off: its line has told so already, or
its answer does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cluster.courier.carrier import CarrierGone
from cluster.engine.carrying import Carrying, lends
from cluster.engine.context import SMALL, Context, Job, Stage, slices
from cluster.engine.pace import Pace
from cluster.engine.putoffs import PutOffs
from cluster.engine.transfer import Transfer
from cluster.errors import PeerError
from cluster.model import Claim, Offer, Trust, value
from cluster.peer.client import Bodies, Sibling, Told, Wish
from cluster.plan.order import SPLIT, owner
from cluster.plan.select import Carriers
from cluster.plan.source import FromOrigin, FromSibling, PutOff, Source, decide, is_version, same_version
from cluster.store.tree import Staged

ROUNDS = 3  # questions on their way at once: the next answer is here when one has been dealt with
MANY, MANY_BYTES = 512, 4 * 2**20  # files, and bytes of files, that are worth a question at once;
GATHER = 0.05  # s that fewer wait for more while another question is under way
FILES, NAMES, BYTES = 1024, 256 * 2**10, 16 * 2**20  # of one question: files, bytes of paths, bytes of files
WAITING = 4096  # files that wait to be asked for
CONTEST = 0.05  # s until a contested claim is looked at again
SLOW = 60.0  # s for which a sibling that was too slow is not asked to send

Taking = Callable[[Sequence[Job]], Awaitable[None]]
Part = TypeVar("Part")


@dataclass(slots=True)
class _Talk:
    """One question to one sibling. `told` is None where it did not answer; nothing is taken from its answer
    before it is `decided` which files are `expected` of it, by place."""

    sibling: Sibling
    jobs: list[Job]
    wishes: list[Wish]
    told: asyncio.Future[Told | None]
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    expected: dict[int, tuple[Job, FromSibling]] = field(default_factory=dict)
    arrived: int = 0
    lost: bool = False  # the carrier died on the way, which is not the sibling's fault


@dataclass(slots=True)
class _Decided:
    """Where the files of one round go that are not on their way already."""

    origin: list[Job] = field(default_factory=list)
    put_off: list[Job] = field(default_factory=list)
    contested: list[Job] = field(default_factory=list)
    elsewhere: dict[str, list[tuple[Job, FromSibling]]] = field(default_factory=dict)  # small ones, by site
    whole: list[tuple[Job, FromSibling]] = field(default_factory=list)
    others: dict[str, list[Job]] = field(default_factory=dict)  # to be asked for at all but this site


@value
class Ways:
    """What becomes of a file that siblings were asked for, beside being here. `room` waits while so much is
    claimed before its turn that no more should be."""

    room: Taking
    claim: Callable[[Job], None]
    unclaim: Callable[[Job], None]
    origin: Taking
    put_off: Taking
    whole: Callable[[Job, FromSibling], Awaitable[None]]


class Asking:
    """See the module. `broken` is told what the store said when it failed."""

    def __init__(
        self,
        context: Context,
        transfer: Transfer,
        ways: Ways,
        pace: Pace,
        broken: Callable[[Exception], None],
    ) -> None:
        self._context, self._transfer, self._ways, self._broken = context, transfer, ways, broken
        self._pace = pace
        self._slow: dict[str, float] = {}  # siblings from which files came too slowly: until when
        self._pending: deque[Job] = deque()
        self._waiting_bytes = 0  # of these
        self._under_way = 0  # questions
        self._more = asyncio.Event()
        self._many = asyncio.Event()
        self._room = asyncio.Condition()
        self._workers: list[asyncio.Task[None]] = []
        self._asked = self._taken = 0.0  # files asked for, and held by siblings; the last rounds count most
        self._carrying = Carrying(context)
        self._sparing = False  # of what siblings hold, some may be here under another name
        self.put_offs = PutOffs(pace)

    def start(self, *, empty: bool) -> None:
        """`empty`: nothing is here yet, so that much will be asked for."""
        self._sparing = self._transfer.here.sought and not empty
        if empty and self._context.mirror.sideways.trust is Trust.SIBLINGS:
            self._carrying.begin()
        self._workers = [asyncio.create_task(self._worker(), name="asking") for _ in range(ROUNDS)]

    async def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._carrying.close()

    def __repr__(self) -> str:
        return f"<Asking {len(self._pending)} files to ask for>"

    async def take(self, jobs: Sequence[Job]) -> None:
        """Waits while many are waiting."""
        async with self._room:
            await self._room.wait_for(lambda: len(self._pending) < WAITING)
        self._pending.extend(jobs)
        self._waiting_bytes += sum(job.entry.size or 0 for job in jobs)
        self._more.set()
        self._look()

    def _look(self) -> None:
        """Whether those that wait are to wait no longer."""
        if len(self._pending) >= MANY or self._waiting_bytes >= MANY_BYTES or not self._under_way:
            self._many.set()
        else:
            self._many.clear()

    async def _worker(self) -> None:
        while True:
            await self._more.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER):
                    await self._many.wait()
            jobs = self._next()
            if not self._pending:
                self._more.clear()
            if not jobs:
                continue  # somebody else took them meanwhile
            self._under_way += 1
            self._look()
            async with self._room:
                self._room.notify_all()
            try:
                await self._round(jobs, frozenset(), claiming=not self._likely(jobs))
            except Exception as error:  # noqa: BLE001  # a broken store ends the pass, whatever broke it
                self._broken(error)  # and the jobs stay pending: their directories are still to do
            self._under_way -= 1
            self._look()

    def _next(self) -> list[Job]:
        jobs: list[Job] = []
        names = size = 0
        most = BYTES if self._mostly_held else self._pace.ahead(BYTES)
        while self._pending and len(jobs) < FILES and names < NAMES and size < most:
            job = self._pending.popleft()
            jobs.append(job)
            names += len(job.path)
            size += job.entry.size or 0
        self._waiting_bytes -= size
        return jobs

    # -- who is worth waiting for

    def too_slow(self, site: str) -> None:
        """What it holds comes much faster from the origin: for a while only its claims count."""
        self._slow[site] = self._context.clock.monotonic() + SLOW

    def is_slow(self, site: str) -> bool:
        """Whether that was so lately."""
        until = self._slow.get(site)
        return until is not None and until > self._context.clock.monotonic()

    def _due(self, talk: _Talk) -> float:
        """When (monotonic s) all that is expected must be here."""
        patience = self._pace.patience(sum(source.offer.size for _, source in talk.expected.values()))
        return float("inf") if patience is None else self._context.clock.monotonic() + patience

    async def copy(self, site: str, jobs: Sequence[Job]) -> tuple[list[tuple[Job, FromSibling]], list[Job]]:
        """Take of these files what one sibling holds; nothing is claimed, and nobody else asked. Returns the
        larger ones that it holds, to be read one by one, and those that did not come."""
        sibling = next((s for s in self._context.up() if s.name == site), None)
        if sibling is None or self.is_slow(site):
            return [], list(jobs)
        small = [job.entry.size is not None and job.entry.size <= SMALL for job in jobs]
        sends = [some and not self._sparing for some in small]
        wishes = [Wish(job.visit.path, job.entry, send=send) for job, send in zip(jobs, sends, strict=True)]
        talk = self._talk(sibling, list(jobs), wishes)
        coming, larger = dict[int, tuple[Job, FromSibling]](), dict[int, tuple[Job, FromSibling]]()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hold(talk))
                told = await talk.told
                for place, offer in told.held.items() if told is not None else ():
                    if same_version(jobs[place].entry, offer):
                        found = jobs[place], FromSibling(site, offer, verified=f"sibling {site}")
                        (coming if small[place] else larger)[place] = found
                left = {*range(len(jobs))} - {*coming, *larger}
                if self._sparing:
                    talk.decided.set()
                    done = await self._spared(list(coming.values()))
                    coming = {place: one for place, one in coming.items() if id(one[0]) not in done}
                    talk = self._fetching(site, list(coming.values()))
                    if coming:
                        await self._hold(talk)
                else:
                    talk.expected = coming
                    talk.decided.set()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        missed = [job for job, _ in talk.expected.values()]
        return list(larger.values()), [*(jobs[place] for place in sorted(left)), *missed]

    # -- one round: ask, decide, take

    @property
    def _mostly_held(self) -> bool:
        """Whether siblings held most of the last files."""
        return self._asked > 0 and 2 * self._taken >= self._asked

    def _likely(self, jobs: Sequence[Job]) -> bool:
        """Whether siblings may be expected to hold most of these: then a claim is only made of what turns out
        to be missing there, before it is asked for once more."""
        return self._mostly_held or all(job.visit.stage is Stage.REST for job in jobs)

    async def _round(
        self, jobs: Sequence[Job], avoid: frozenset[str], *, claiming: bool = True, last: bool = False
    ) -> None:
        """Ask for these files everywhere but at `avoid`. Without `claiming` first, nothing is fetched from
        the origin yet: who has not heard of a claim may be about to. `last`: what is contested is ours."""
        jobs = await self._not_fetched(jobs)
        if claiming:
            await self._ways.room(jobs)
            for job in jobs:
                self._ways.claim(job)
        talks, all_of_them = self._talks(jobs, avoid)
        if not talks:
            await self._nobody(jobs, claimed=claiming)
            return
        try:
            async with asyncio.TaskGroup() as group:
                for talk in talks:
                    group.create_task(self._hold(talk))
                for talk in talks:
                    await talk.told
                decided = self._decide(jobs, talks, all_of_them=all_of_them, claimed=claiming)
                for talk in talks:
                    talk.decided.set()
                if self._sparing:
                    await self._spare(decided)
                for site, found in decided.elsewhere.items():
                    talks.append(self._fetching(site, found))
                    group.create_task(self._hold(talks[-1]))
                await self._carry_out(decided, avoid, claimed=claiming, last=last)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        for talk in talks:
            if talk.expected:
                await self._again(talk, avoid)

    async def _nobody(self, jobs: Sequence[Job], *, claimed: bool) -> None:
        """No sibling is there to be asked."""
        for job in jobs if not claimed else ():
            self._ways.claim(job)
        await self._ways.origin(jobs)

    async def _spare(self, decided: _Decided) -> None:
        """What siblings hold and is here under another name is not taken from them; and of files with one
        content only the first."""
        some = [pair for pairs in decided.elsewhere.values() for pair in pairs]
        done = await self._spared(some)
        here = self._transfer.here

        def kept(pairs: Sequence[tuple[Job, FromSibling]]) -> list[tuple[Job, FromSibling]]:
            left = []
            for job, source in pairs:
                if id(job) in done:
                    continue
                if here.begun(job, source.offer.sha256):
                    left.append((job, source))
                else:
                    decided.put_off.append(job)
            return left

        decided.whole = kept(decided.whole)
        elsewhere = {site: kept(pairs) for site, pairs in decided.elsewhere.items()}
        decided.elsewhere = {site: pairs for site, pairs in elsewhere.items() if pairs}

    async def _spared(self, files: Sequence[tuple[Job, FromSibling]]) -> set[int]:
        """Those of these small files that are here under another name are published: their `id`s."""
        found = [(job, source) for job, source in files if not source.spot_check]
        return await self._transfer.from_here(
            [(job, self._transfer.as_offered(job, source)) for job, source in found]
        )

    async def _carry_out(
        self, decided: _Decided, avoid: frozenset[str], *, claimed: bool, last: bool
    ) -> None:
        ways = self._ways
        await ways.put_off(decided.put_off)
        for job, source in decided.whole:
            await ways.whole(job, source)
        if not claimed:
            others = [job for jobs in decided.others.values() for job in jobs]
            missing = [*decided.origin, *decided.contested, *others]
            for some in slices(missing, FILES, self._pace.ahead(BYTES)):
                await self._round(some, avoid)
            return
        if last:
            decided.origin += decided.contested  # still only asking: we are first in rank
        # While the slowest of the siblings answered, another one may have claimed it that was asked before.
        await ways.origin(await self._not_fetched(decided.origin))
        for site, jobs in decided.others.items():
            await self._round(jobs, avoid | {site})
        if decided.contested and not last:
            await self._context.clock.sleep(CONTEST)
            await self._round(decided.contested, avoid, last=True)

    async def _again(self, talk: _Talk, avoid: frozenset[str]) -> None:
        """What was promised and did not come is asked for again: where it was, if other files came from
        there, else somewhere else, and in the end at the origin."""
        left = [job for job, _ in talk.expected.values()]
        useful = (talk.arrived or talk.lost) and talk.sibling.up and not self.is_slow(talk.sibling.name)
        await self._round(left, avoid if useful else avoid | {talk.sibling.name})

    # -- what to ask whom

    async def _not_fetched(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Without what a sibling is fetching, as its line has told: that is put off without a question."""
        heard, now = self._context.claims.heard, self._context.clock.monotonic()
        claims: dict[bytes, dict[bytes, list[tuple[str, Claim]]]] = {}
        without = self._context.claims.without(self._context.mirror.name)
        for directory in {job.visit.path for job in jobs}:
            told = heard.within(self._context.mirror.name, directory, now)
            for one in told:
                if one.site in without:
                    continue
                by_name = claims.setdefault(directory, {})
                by_name.setdefault(one.claim.name, []).append((one.site, one.claim))
        if not claims:
            return jobs
        fetched: list[Job] = []
        rest: list[Job] = []
        for job in jobs:
            found = claims.get(job.visit.path, {}).get(job.entry.name, ())
            source = self._source(job, (), found, now) if found else None
            (fetched if isinstance(source, PutOff) and not source.contested else rest).append(job)
        await self._ways.put_off(fetched)
        return rest

    def _talks(self, jobs: Sequence[Job], avoid: Collection[str]) -> tuple[list[_Talk], bool]:
        """A question to each sibling, and whether each is asked for every file. One of them is to send it,
        the others tell. What a sibling ranks first for it has by the time of REST: only it is asked then.
        """
        siblings = {s.name: s for s in self._context.up() if s.name not in avoid}
        sending = self._context.mirror.sideways.trust is Trust.SIBLINGS and not self._sparing
        rest = any(job.visit.stage is Stage.REST for job in jobs)
        alone = rest and sending and not avoid and len(siblings) > 1
        asked: dict[str, tuple[list[Job], list[Wish]]] = {name: ([], []) for name in siblings}
        able = [name for name in siblings if not self.is_slow(name)] or list(siblings)
        firsts = _firsts(jobs, able, self._context.carriers)
        slow = {name for name in siblings if self.is_slow(name)}
        for job, first in zip(jobs, firsts, strict=bool(siblings)):
            entry, sha256 = job.entry, job.wanted.sha256
            small = entry.size is not None and entry.size <= SMALL and first not in slow
            bodies = small and (sending or (sha256 is not None and not self._sparing))
            for name in (first,) if alone else siblings:
                some, wishes = asked[name]
                some.append(job)
                wishes.append(Wish(job.visit.path, entry, sha256, send=bodies and name == first))
        return [self._talk(siblings[name], *what) for name, what in asked.items() if what[0]], not alone

    def _talk(self, sibling: Sibling, jobs: list[Job], wishes: list[Wish]) -> _Talk:
        return _Talk(sibling, jobs, wishes, asyncio.get_running_loop().create_future())

    def _fetching(self, site: str, found: Sequence[tuple[Job, FromSibling]]) -> _Talk:
        """A question for files that this sibling is known to hold."""
        sibling = next(s for s in self._context.siblings if s.name == site)
        wishes = [Wish(job.visit.path, job.entry, source.offer.sha256) for job, source in found]
        talk = self._talk(sibling, [job for job, _ in found], wishes)
        talk.expected = dict(enumerate(found))
        talk.decided.set()
        return talk

    # -- what it says

    async def _hold(self, talk: _Talk) -> None:
        """Ask, and take what comes: the carrier does, or else the event loop."""
        self._context.report.requests_sideways += 1
        try:
            if not await self._carried(talk):
                await self._received(talk)
        except PeerError:
            pass  # its breaker knows; the rest is asked for elsewhere
        finally:
            if not talk.told.done():
                talk.told.set_result(None)

    async def _carried(self, talk: _Talk) -> bool:
        """False where the carrier is not to be had, and nothing has been told yet."""
        sibling = talk.sibling
        carrier = await self._carrying.to_go(sibling, talk.wishes) if lends(sibling) else None
        if carrier is None or not lends(sibling):
            return False
        try:
            async with self._carrying.asked(sibling, talk.wishes, carrier) as answer:
                talk.told.set_result(answer.told)
                await talk.decided.wait()
                due = self._due(talk)
                async with contextlib.aclosing(answer.files(dict(talk.expected))) as parts:
                    while (files := await self._next_part(talk, parts, due)) is not None:
                        await self._written(talk, files)
        except CarrierGone:
            self._carrying.lost()
            talk.lost = talk.told.done()
            return talk.lost
        return True

    async def _written(self, talk: _Talk, files: Sequence[tuple[int, Staged]]) -> None:
        self._context.report.bytes_sideways += sum(staged.held.size for _, staged in files)
        await self._transfer.publish_all([(talk.expected[place][0], staged) for place, staged in files])
        for place, _ in files:
            del talk.expected[place]
        talk.arrived += len(files)

    async def _received(self, talk: _Talk) -> None:
        due = float("inf")
        async with contextlib.aclosing(
            talk.sibling.bundle(self._context.mirror.name, talk.wishes, self._context.answer)  # type: ignore[type-var]
        ) as parts:
            while (part := await self._next_part(talk, parts, due)) is not None:
                if isinstance(part, Told):
                    talk.told.set_result(part)
                    await talk.decided.wait()
                    due = self._due(talk)
                elif not await self._arrived(talk, part):
                    break

    async def _next_part(self, talk: _Talk, parts: AsyncIterator[Part], due: float) -> Part | None:
        """None at the end, and where it is too slow for what is still expected of it."""
        left = due - self._context.clock.monotonic() if talk.expected else float("inf")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if left == float("inf") else left):
                if left > 0:
                    return await anext(parts, None)
        self.too_slow(talk.sibling.name)
        return None

    async def _arrived(self, talk: _Talk, bodies: Bodies) -> bool:
        """False where it deceived us."""
        self._context.report.bytes_sideways += sum(len(body) for _, body in bodies.files)
        wanted = [(place, body) for place, body in bodies.files if place in talk.expected]
        good = await self._transfer.received(
            talk.sibling, [(*talk.expected[place], body) for place, body in wanted]
        )
        for (place, _), is_good in zip(wanted, good, strict=True):
            if is_good:
                del talk.expected[place]
                talk.arrived += 1
        return all(good)

    def _decide(
        self, jobs: Sequence[Job], talks: Sequence[_Talk], *, all_of_them: bool, claimed: bool
    ) -> _Decided:
        """What was told decides for each file; those that are on their way already are `expected`."""
        now = self._context.clock.monotonic()
        holders: dict[int, list[tuple[str, Offer]]] = {}
        claims: dict[int, list[tuple[str, Claim]]] = {}
        asked: dict[int, str] = {}  # the last one that was asked
        coming: set[int] = set()
        for talk in talks:
            site, told = talk.sibling.name, talk.told.result() or Told({}, {})
            verified = f"sibling {site}"
            if not all_of_them:
                asked.update((id(job), site) for job in talk.jobs)
            for place, claim in told.claims.items():
                claims.setdefault(id(talk.jobs[place]), []).append((site, claim))
            for place, offer in told.held.items():
                job = talk.jobs[place]
                if talk.wishes[place].send and is_version(job.entry, offer, job.wanted.sha256):
                    talk.expected[place] = job, FromSibling(site, offer, verified=verified)
                    coming.add(id(job))
                    if claimed:
                        self._ways.unclaim(job)
                else:
                    holders.setdefault(id(job), []).append((site, offer))
        decided = _Decided()
        for job in jobs:
            if id(job) not in coming:
                source = self._source(job, holders.get(id(job), ()), claims.get(id(job), ()), now)
                self._sort(decided, job, source, "" if all_of_them else asked[id(job)])
        taken = len(coming) + sum(map(len, decided.elsewhere.values())) + len(decided.whole)
        self._asked, self._taken = self._asked / 2 + len(jobs), self._taken / 2 + taken
        return decided

    def _sort(self, decided: _Decided, job: Job, source: Source, asked: str) -> None:
        """`asked` is who was asked for it, where others were not."""
        match source:
            case FromOrigin() if asked:
                decided.others.setdefault(asked, []).append(job)
            case FromOrigin():
                decided.origin.append(job)
            case PutOff(contested=True):
                decided.contested.append(job)
            case PutOff():
                decided.put_off.append(job)
            case FromSibling():
                self._ways.unclaim(job)
                if source.offer.size <= SMALL:
                    decided.elsewhere.setdefault(source.site, []).append((job, source))
                else:
                    decided.whole.append((job, source))

    def _source(
        self,
        job: Job,
        holders: Sequence[tuple[str, Offer]],
        claims: Sequence[tuple[str, Claim]],
        now: float,
    ) -> Source:
        if not (holders or claims):
            return FromOrigin()
        sideways = self._context.mirror.sideways
        holders = [one for one in holders if not self.is_slow(one[0])]
        if job.visit.stage in (Stage.PUT_OFF, Stage.LAST_PUT_OFF):
            patience, lapsed = sideways.patience, self.put_offs.lapsed
            claims = [one for one in claims if not lapsed(one[0], job, one[1].received, now, patience)]
        return decide(
            job.path,
            job.entry,
            holders,
            claims,
            own=self._context.site,
            trust=sideways.trust,
            patience=sideways.patience,
            sha256=job.wanted.sha256,
        )


def _firsts(jobs: Sequence[Job], siblings: Sequence[str], carriers: Carriers) -> list[str]:
    """Who of the siblings ranks first for each of these files: of those that mirror it, where any does."""
    if len(siblings) < 2:
        return [*siblings] * len(jobs)
    beside = Counter(job.visit.path for job in jobs)
    whole = {path: owner(path, siblings) for path, files in beside.items() if files <= SPLIT}
    if not carriers:
        return [whole.get(job.visit.path) or owner(job.path, siblings) for job in jobs]
    firsts = []
    for job in jobs:
        able, first = carriers.among(siblings, job.path, job.entry) or siblings, whole.get(job.visit.path)
        firsts.append(first if first is not None and first in able else owner(job.path, able))
    return firsts
