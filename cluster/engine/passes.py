"""One pass over one mirror at one site, from its first listing to the judgement of deletions."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import inf
from typing import Any

from cluster.config.settings import shown_rule
from cluster.engine import parting, suspicion
from cluster.engine.batch import Batcher
from cluster.engine.choosing import Choosing, Chosen
from cluster.engine.clock import Clock, SystemClock
from cluster.engine.context import RULES, Context, Stage, Visit, renewal
from cluster.engine.fetcher import Fetcher
from cluster.engine.following import Due, Followed, Following, outermost
from cluster.engine.listings import First, Relays
from cluster.engine.report import Report, Reporter
from cluster.engine.repositories import Repositories
from cluster.engine.verdicts import Verdicts
from cluster.engine.walker import Walker
from cluster.errors import StoreError
from cluster.model import SECOND, Held, Kind, Mirror, Once, OriginSpec, Site, Trust, shown, split
from cluster.origin.base import ByList, Origin
from cluster.peer.claims import Claims
from cluster.peer.client import Sibling
from cluster.peer.listings import Listings
from cluster.plan.compare import Policy, Wanted, again
from cluster.plan.pattern import Patterns
from cluster.plan.select import Carriers, Selection, aged, today
from cluster.store.mirror import MirrorStore
from cluster.store.once import StoredOnce
from cluster.store.tree import Change

FIRST = (Stage.REST, Stage.PUT_OFF)
ALL = (*FIRST, Stage.LAST, Stage.LAST_PUT_OFF)
AT_ONCE = 8  # directories of a later stage that are asked about together
WAIT_ROUND = 0.2  # s between rounds of asking for what siblings are fetching
MANY_FAILED = 10  # files, and more than came: an origin that lists and does not deliver
STATUS_BUDGET = 1.0  # s that status files may take while a pass goes on
STATUS_EVERY = 10.0
APART = "storage: the file system shares no blocks between files: what was here already was copied"


@dataclass(slots=True)
class Surroundings:
    """What a pass needs of the site it runs at."""

    site: Site
    open_origin: Callable[[OriginSpec, Mirror], Origin]
    siblings: Callable[[Mirror], Sequence[Sibling]] = lambda mirror: ()
    claims: Claims = field(default_factory=Claims)
    clock: Clock = field(default_factory=SystemClock)
    caught: Callable[[], Mapping[str, float]] = dict  # siblings that lied, and when last (s since 1970)
    listings: Listings = field(default_factory=Listings)
    neighbours: Callable[[Mirror], Sequence[str]] = lambda mirror: ()  # whose files may be a mirror's as well


async def run_pass(
    around: Surroundings,
    mirror: Mirror,
    *,
    scope: bytes = b"",
    dry: bool = False,
    reporter: Reporter | None = None,
    news: float | None = None,
) -> Report:
    """Run one pass and say what came of it.

    `scope` limits it to one directory and what lies below; such a pass judges no deletions. By `news` (s
    since 1970) something had changed at the origin: no sibling's listing from before is taken. Raises Locked
    when somebody else works on the mirror, StoreError when this site's disk cannot be used.
    """
    clock, reporter = around.clock, reporter or Reporter()
    report = Report(mirror.name, around.site.name)
    began = clock.monotonic()
    now = int(clock.now())
    opening = (
        MirrorStore.copied(mirror, around.site, now) if dry else _opened(mirror, around.site, clock, report)
    )
    try:
        async with opening as store:
            reporter.started(report)
            await _Pass(around, mirror, store, report, reporter, scope, dry, news).run()
    finally:
        report.seconds = clock.monotonic() - began
    reporter.ended(report)
    return report


@asynccontextmanager
async def _opened(mirror: Mirror, site: Site, clock: Clock, report: Report) -> AsyncIterator[MirrorStore]:
    store = await MirrorStore.open(mirror, site, int(clock.now()))
    try:
        yield store
    except BaseException as error:  # cut off: what has been published by now is told all the same
        with suppress(StoreError):
            reason = str(error) if isinstance(error, StoreError) else ""
            await store.pass_stopped(reason, report.as_json(), int(clock.now()))
        with suppress(StoreError):
            await store.write_status(STATUS_BUDGET)
        raise
    finally:
        await store.close()


class _Pass:
    def __init__(
        self,
        around: Surroundings,
        mirror: Mirror,
        store: MirrorStore,
        report: Report,
        reporter: Reporter,
        scope: bytes,
        dry: bool,
        news: float | None,
    ) -> None:
        self._around, self._mirror, self._store = around, mirror, store
        self._report, self._reporter, self._scope, self._dry = report, reporter, scope, dry
        self._news = news
        self._root_own: Held | None = None
        self._began = 0.0  # s, monotonic
        self._siblings = [] if dry else list(around.siblings(mirror))
        self._relays: Relays
        self._choosing: Choosing
        self._spec: OriginSpec
        self._selection: Selection
        self._carriers = Carriers(dict(mirror.elsewhere), today(around.clock.now()))

    async def run(self) -> None:
        clock, listings = self._around.clock, self._around.listings
        ended = await self._store.last_ended()
        after = -inf if ended is None else min(clock.now(), ended + 1)
        self._relays = Relays(
            self._mirror,
            self._around.site.name,
            self._siblings,
            listings,
            clock,
            self._report,
            after,
            self._news,
            empty=ended is None,
            walks=self._carriers.walks,
        )
        self._choosing = Choosing(
            self._mirror,
            self._store,
            clock,
            self._report,
            open_origin=self._around.open_origin,
            relays=self._relays,
            closed=self._add_traffic,
            news=self._news,
        )
        try:
            await self._run()
        finally:
            self._relays.end()
            if not self._dry:
                listings.compared(self._mirror.name, self._scope, clock.monotonic())

    async def _run(self) -> None:
        if await self._follow():
            return
        chosen = await self._choose()
        if chosen is None:
            self._report.outcome = "failed"
            await self._book_failure()
            return
        self._spec = chosen.spec
        try:
            await self._with(chosen.origin, chosen.first)
        finally:
            await chosen.origin.close()

    async def _follow(self) -> bool:
        """Follow a sibling that has just been through, where there is one (`cluster.engine.following`)."""
        spec = next(iter(await self._choosing.specs()), None)
        if self._scope or self._dry or spec is None or not self._mirror.sideways.relays:
            return False
        origin = self._around.open_origin(spec, self._mirror)
        try:
            if not self._choosing.settled(origin):
                return False  # it must show first that it may take over
            following = Following(
                self._store,
                self._around.clock,
                self._report,
                self._mirror,
                origin.url,
                _rules(self._mirror, self._around.clock.now()),
            )
            followed = await following.find(self._siblings, self._news)
            if followed is None:
                return False
            self._report.origin, self._report.followed = origin.url, followed.site
            self._spec = spec
            await self._with(origin, None, followed)
        finally:
            await origin.close()
        return True

    async def _book_failure(self) -> None:
        now = int(self._around.clock.now())
        record = await self._store.pass_begin(now, "", "", scope=self._scope)
        await self._store.pass_end(record, "failed", self._report.as_json(), now)
        await self._store.write_status()

    async def _choose(self) -> Chosen | None:
        """The origin of this pass, with its listing of the directory where it begins."""
        asked = self._scope
        while self._scope and not await self._is_directory(self._scope):
            self._scope = split(self._scope)[0]
        if self._scope != asked:
            where = shown(self._scope) or "the whole mirror"
            self._report.notes.append(f"{shown(asked)}: no directory here yet; {where} is compared instead")
        for spec in self._mirror.origins:
            if spec.paused:
                self._report.notes.append(f"{spec.url}: paused")
        chosen = await self._choosing.find(self._scope)
        if chosen is None:
            for error in self._report.errors:
                self._reporter.failed(self._scope, error)
        else:
            self._scope = chosen.scope
        return chosen

    async def _is_directory(self, path: bytes) -> bool:
        held = await self._store.held(path)
        return held is not None and held.kind is Kind.DIRECTORY

    # -- stages

    async def _with(self, origin: Origin, known: First | None, followed: Followed | None = None) -> None:
        mirror, clock = self._mirror, self._around.clock
        record = await self._store.pass_begin(
            int(clock.now()), _fingerprint(mirror, origin.url, self._scope), origin.url, scope=self._scope
        )
        if record.resumed:
            self._report.notes.append("went on where an interrupted pass had stopped")
        if record.resumed or (followed is not None and followed.due):
            await self._relays.resume(origin, self._scope)
        self._began = clock.monotonic() - max(0.0, clock.now() - record.started)
        await self._suspect()
        rules = _rules(mirror, record.started)
        self._selection = Selection(mirror.select, today(record.started))
        if not self._dry:
            self._around.listings.passed.begins(mirror.name, origin.url, rules)
        policy = replace(
            _policy(mirror, self._selection),
            foreign=self._choosing.foreign(self._spec),
            links=origin.properties.symlinks,
        )
        verdicts = Verdicts(mirror, self._store, policy, dry=self._dry)
        await verdicts.start()
        context_of: list[Context] = []
        once = self._stored_once()

        def renew(changes: Iterable[Change]) -> None:
            claims, now = context_of[0].claims, clock.monotonic()
            for change in changes if claims.any(mirror.name) else ():
                held = change.held
                claims.progress(mirror.name, change.directory, held.name, held.size, now)

        every = renewal(mirror.sideways.patience)
        async with Batcher(self._store, clock, renew, every) as batcher:
            context = Context(
                mirror=mirror,
                site=self._around.site.name,
                store=self._store,
                origin=origin,
                siblings=self._siblings,
                claims=self._around.claims,
                relays=self._relays,
                clock=clock,
                reporter=self._reporter,
                report=self._report,
                record=record,
                batcher=batcher,
                verdicts=verdicts,
                policy=policy,
                last=Patterns(mirror.last),
                carriers=self._carriers,
                once=once,
                rules=rules,
                since=None if followed is None else int(followed.since),
                dry=self._dry,
            )
            context_of.append(context)
            walker = Walker(context, seed=f"{context.site}:{record.id}")
            status = asyncio.create_task(self._status_now_and_then(), name="status files")
            try:
                async with Fetcher(context, walker.over) as fetcher:
                    work = self._stages(context, walker, fetcher, known, followed)
                    await self._unless_broken(fetcher, work)
            finally:
                status.cancel()
                await asyncio.gather(status, return_exceptions=True)
                self._add_traffic(origin)
                self._report.directories = walker.directories
                context.claims.clear(mirror.name)
                await self._looked_up(once)
                await walker.checkpoint()
        await self._conclude(context, walker)

    def _stored_once(self) -> StoredOnce | None:
        """Where what is here already is looked up, if the descriptor asks for that."""
        once = self._mirror.storage.once
        if once is Once.NO or self._dry:
            return None
        neighbours = self._around.neighbours(self._mirror)
        return self._store.stored_once(self._around.site, neighbours, once, parts=bool(self._siblings))

    async def _looked_up(self, once: StoredOnce | None) -> None:
        """Nothing more is looked up. People are told what the disk cannot do."""
        if once is not None:
            if once.apart and self._mirror.storage.once is Once.REFLINK:
                self._report.notes.append(APART)
            await once.close()

    @staticmethod
    async def _unless_broken(fetcher: Fetcher, stages: Awaitable[None]) -> None:
        """Run the stages; a store that broke in a worker ends them at once."""
        work = asyncio.ensure_future(stages)
        broken = asyncio.ensure_future(fetcher.broken.wait())
        try:
            await asyncio.wait({work, broken}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                assert fetcher.stopped is not None
                raise fetcher.stopped
            await work
        finally:
            work.cancel()
            broken.cancel()
            await asyncio.gather(work, broken, return_exceptions=True)

    async def _stages(
        self,
        context: Context,
        walker: Walker,
        fetcher: Fetcher,
        known: First | None,
        followed: Followed | None,
    ) -> None:
        async def revisit(paths: AbstractSet[bytes]) -> None:
            await self._revisit(walker, fetcher, paths)
            await self._through(context, walker, fetcher, ALL)

        repositories = Repositories(context, fetcher, revisit)
        await repositories.before()
        if followed is not None:
            await self._walk_due(walker, fetcher, followed)
        else:
            begin = await self._beginning(context)
            await self._walk(walker, fetcher, begin, known)
        self._relays.end()
        await self._through(context, walker, fetcher, FIRST)
        await parting.part(context)
        await repositories.after()
        if context.last and (self._report.files.failed or context.sick):
            self._report.notes.append(
                "not everything could be fetched: what is published last stays as it was, nothing is deleted"
            )
            return
        await self._through(context, walker, fetcher, ALL)
        if not self._scope:
            await self._delete(context, walker, fetcher, await repositories.spared())

    async def _through(
        self, context: Context, walker: Walker, fetcher: Fetcher, stages: Sequence[Stage]
    ) -> None:
        """These stages, and once more where a listing turned out to be older than its files."""
        while True:
            for stage in stages:
                await self._later(context, fetcher, stage)
            if not context.relist:
                break
            again, context.relist = context.relist, set()
            context.relisted |= again
            await self._revisit(walker, fetcher, again)
        await walker.record_compared()

    async def _beginning(self, context: Context) -> list[Visit]:
        """Where the walk starts: at its root, or where an interrupted pass had got to."""
        paths: list[bytes] = [self._scope]
        listed: set[bytes] = set()
        if context.record.resumed:
            saved, so_far = await self._store.frontier_load(context.record)
            paths = saved or paths
            listed = set(so_far.get("listed", ()))
            context.sick = so_far.get("sick", "")
            context.since = so_far.get("since")
            self._remember(so_far)
        visits: list[Visit] = []
        for path in dict.fromkeys(paths):
            own = await self._store.held(path) if path else None
            if own is not None or path == self._scope:  # else it is not made yet: found again from above
                visits.append(Visit(path, Stage.WALK, own, alone=path in listed))
        return visits or [Visit(self._scope, Stage.WALK)]

    def _remember(self, so_far: dict[str, Any]) -> None:
        """What had failed before the interruption is part of what this pass says."""
        report = self._report
        report.errors += so_far.get("errors", [])
        report.error_count += so_far.get("error_count", 0)
        report.files.failed += so_far.get("failed", 0)

    async def _walk(
        self,
        walker: Walker,
        fetcher: Fetcher,
        visits: Sequence[Visit],
        known: First | None = None,
        due: Due | None = None,
    ) -> None:
        walker.start(fetcher, visits, known, due)
        await walker.run()
        await fetcher.walked()
        for visit in visits:
            if visit.path == b"" and visit.own is not None:
                self._root_own = visit.own
        await walker.record_compared()

    async def _walk_due(self, walker: Walker, fetcher: Fetcher, followed: Followed) -> None:
        """What the sibling's pass does not say; all else is as it was."""
        report, store = self._report, self._store
        totals, skipped = await store.totals(), await store.skipped()
        begin, due = outermost(followed.due)
        visits = []
        for path in reversed(begin):
            own = await store.held(path) if path else None
            if own is not None or not path:
                visits.append(Visit(path, Stage.WALK, own, alone=not due[path]))
        await self._walk(walker, fetcher, visits, due=due)
        report.files.unchanged += totals.files - walker.looked_files
        report.files.skipped += skipped - walker.looked_skipped
        at = datetime.fromtimestamp(int(followed.since), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        report.notes.append(
            f"{followed.site} had compared everything with this origin at {at}: its records agree with ours, "
            f"and {walker.directories} of {totals.directories + 1} directories were looked at here"
        )

    async def _revisit(self, walker: Walker, fetcher: Fetcher, paths: AbstractSet[bytes]) -> None:
        for path in sorted(paths):
            own = await self._store.held(path) if path else self._root_own
            visit = Visit(path, Stage.WALK, own, alone=True, from_above=path != self._scope)
            await self._walk(walker, fetcher, [visit])

    async def _later(self, context: Context, fetcher: Fetcher, stage: Stage) -> None:
        """The work that earlier stages left for this one, directory by directory."""
        backwards = stage is Stage.REST  # towards its owner, who goes forward
        while True:
            paths = await self._store.later_directories(context.record, stage, reverse=backwards)
            if not paths:
                return
            before = self._report.files.origin + self._report.files.sideways
            for i in range(0, len(paths), AT_ONCE):
                group = paths[i : i + AT_ONCE]
                await asyncio.gather(
                    *(self._later_directory(context, fetcher, stage, path) for path in group)
                )
                await fetcher.book_later()
            await fetcher.drained()
            await fetcher.book_later()
            if stage in (Stage.PUT_OFF, Stage.LAST_PUT_OFF):
                done = self._report.files.origin + self._report.files.sideways
                if done == before:
                    await self._around.clock.sleep(WAIT_ROUND)

    async def _later_directory(self, context: Context, fetcher: Fetcher, stage: Stage, path: bytes) -> None:
        coming = fetcher.trailing.names(path)
        entries = await self._store.later_take(context.record, stage, path)
        own = await self._store.held(path) if path else self._root_own
        visit = Visit(path, stage, own, listed_at=context.record.started * SECOND)
        view = await self._store.view(path)
        have = ((entry, view.held.get(entry.name)) for entry in entries if entry.name not in coming)
        wanted = [again(e, h) if h and e.name in view.suspects else Wanted(e, h) for e, h in have]
        await fetcher.take(visit, wanted)

    # -- the end

    async def _delete(
        self, context: Context, walker: Walker, fetcher: Fetcher, spared: Sequence[bytes]
    ) -> None:
        """Judge deletions as a whole (invariant 5), and make room for names that changed their kind."""
        files = self._report.files
        if context.sick:
            self._report.notes.append(f"nothing deleted: the origin is not well ({context.sick})")
            return
        now = int(self._around.clock.now())
        plan = await self._store.plan(context.record, self._mirror.delete, now, spared)
        files.waiting += plan.waiting
        if plan.waiting and not self._scope and plan.waiting == (await self._store.totals()).files:
            self._report.notes.append(
                f"the origin lists nothing of what is here: all {plan.waiting} files wait"
            )
        if plan.held_because:
            files.held, self._report.plan = plan.files, plan.hash
            self._report.notes.append(f"deletions held: {plan.held_because}")
        if self._dry:
            for one in plan.sample:
                self._reporter.planned(
                    "hold deletion" if plan.held_because else "delete", one.path, f"{one.files} files"
                )
            return
        if plan.held_because or not plan.items:
            return
        gone, size = await self._store.delete(plan, now)
        files.deleted += gone
        self._reporter.deleted(gone, size)
        await self._revisit(walker, fetcher, walker.kinds_wait)
        await self._through(context, walker, fetcher, ALL)

    async def _suspect(self) -> None:
        """One lie of a sibling makes all that it brought lately doubtful (HAZARDS section 4)."""
        if self._mirror.sideways.trust is Trust.STRICT and not self._dry:
            await suspicion.cast(self._store, self._around.caught(), self._report)

    async def _conclude(self, context: Context, walker: Walker) -> None:
        report = self._report
        if walker.groups and not self._scope:
            names = sum(told - seen for told, seen in walker.groups.values())
            report.notes.append(
                f"hard links: {names} names of {len(walker.groups)} files lie outside this tree"
            )
        if not self._dry:
            await self._choosing.ended(self._spec, context.sick or _fell_silent(report))
            suspicion.tell(await self._store.settle_suspects(), report)
            await self._suspect()
        if report.error_count or context.sick:
            report.outcome = "incomplete"
        else:
            report.outcome = "held" if report.files.held else "complete"
        await self._selected(context)
        now = int(self._around.clock.now())
        await self._store.pass_end(context.record, report.outcome, report.as_json(), now, context.since)
        if report.outcome in ("complete", "held") and not (self._scope or self._dry or report.followed):
            self._passed(context)
        if not self._dry:
            if report.outcome != "incomplete" and not self._scope:
                await self._store.beginnings.drop_begun()
            await self._store.scrub_digests()
            await self._store.empty_trash(now - int(self._mirror.delete.trash))
            await self._store.write_status()

    async def _selected(self, context: Context) -> None:
        """What was left out and why, and which rules have matched nothing since they are these. What a
        listing like the last one says is not looked at again: what earlier passes found counts as well."""
        report, rules = self._report, self._mirror.select
        report.left_out = await self._store.left_out() if report.files.skipped else []
        report.rules = context.rules.hex()
        unused = {shown_rule(rules[at]) for at in self._selection.unused()}
        before = await self._store.silent(report.rules) if rules else None
        if before is not None or not (context.record.resumed or self._scope):
            known = unused if before is None else unused & before
            report.unused = [text for text in dict.fromkeys(map(shown_rule, rules)) if text in known]

    def _passed(self, context: Context) -> None:
        """Siblings may follow."""
        record, since = context.record, context.since
        asked = self._began - (0 if since is None else max(0, record.started - since))
        self._around.listings.passed.ended(self._mirror.name, context.origin.url, asked, context.rules)

    async def _status_now_and_then(self) -> None:
        while not self._dry:
            await asyncio.sleep(STATUS_EVERY)
            await self._store.write_status(limit_seconds=STATUS_BUDGET)

    def _add_traffic(self, origin: Origin) -> None:
        traffic = origin.traffic
        if isinstance(origin, ByList):
            self._report.notes += origin.said()
        self._report.bytes_origin += traffic.bytes
        self._report.bytes_listings += traffic.listings
        self._report.requests_origin += traffic.requests


def _policy(mirror: Mirror, selection: Selection) -> Policy:
    return Policy(
        attributes=mirror.attributes,
        excluded=selection.excluded,
        file_size=mirror.limits.file_size,
        max_depth=mirror.limits.depth,
        keep_ids=os.geteuid() == 0,
    )


def _fell_silent(report: Report) -> str:
    """Why an origin that listed everything is not well all the same; empty where it is."""
    files = report.files
    if files.failed < MANY_FAILED or files.failed <= files.origin:
        return ""
    return f"{files.failed} files failed, {files.origin} came"


def _rules(mirror: Mirror, began: float) -> bytes:
    """A digest of what in a descriptor, and of the day, decides how a listing compares with what we hold."""
    day = today(began) if aged(mirror.select) else 0
    text = repr(
        (mirror.select, day, mirror.attributes, mirror.limits.file_size, mirror.limits.depth, os.geteuid())
    )
    return hashlib.blake2b(text.encode(), digest_size=RULES).digest()


def _fingerprint(mirror: Mirror, origin: str, scope: bytes) -> str:
    """The same for passes that an interrupted one may be continued by."""
    text = repr((mirror.select, mirror.order, mirror.last, mirror.path, origin, scope, shown(scope)))
    return hashlib.sha256(text.encode()).hexdigest()
