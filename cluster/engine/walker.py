"""The walk: directory after directory, list, compare, make what is no file, hand the files to the fetcher."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from cluster.engine.ahead import AT_ONCE, Ahead
from cluster.engine.context import Context, Stage, Visit
from cluster.engine.fetcher import Fetcher
from cluster.engine.listings import First
from cluster.engine.patience import TICK
from cluster.errors import Blocked, Changed, IncompleteListing, OriginError, SourceMissing, Unreachable
from cluster.listing import fingerprint, token
from cluster.model import (
    SECOND,
    Entry,
    Failure,
    Held,
    Kind,
    Listing,
    Skipped,
    join,
    shown,
)
from cluster.plan.compare import Difference, Wanted, compare, record
from cluster.plan.order import arranged
from cluster.store.mirror import Compared, Glance, Later, View
from cluster.store.tree import Change

OPEN_VISITS = 4096  # directories with something outstanding, at most; their files are bounded by the queues
LOOP = 3  # ancestors with the very same listing: the origin's tree has no end (HAZARDS 20)
CHECKPOINT = 10.0  # s between records of what is still to do
GATHER = 64  # comparisons that are recorded together
SAMPLE = 64  # directories left to siblings that are looked at together


class Walker:
    """Walks everything below its starting directories, once."""

    def __init__(self, context: Context, seed: str) -> None:
        self._context, self._seed = context, seed
        self._relays = context.relays
        self._fetcher: Fetcher | None = None
        self._stack: list[Visit] = []
        self._aside: dict[bytes, Visit] = {}  # what siblings are to list, and then tell us
        self._begun: set[bytes] = set()  # where the walk began: what lies there is not walked twice
        self._due: Mapping[bytes, bool] = {}
        self._open: dict[bytes, Visit] = {}
        self._visiting = 0
        self._slots = asyncio.Semaphore(OPEN_VISITS)
        self._compared: list[Compared] = []
        self._ahead = Ahead(context.store, context.clock, self._upcoming)
        self._tokens: dict[bytes, bytes] = {}
        self._seen: dict[bytes, tuple[bytes, bytes]] = {}  # by path: token and looks of what agreed
        self._changed = asyncio.Event()
        self._listing: First | None = None  # known already when the origin was chosen
        self.kinds_wait: set[bytes] = set()  # directories where a name waits for another kind to go
        self.groups: dict[str, list[int]] = {}  # hard-link groups: [names at the origin, names seen]
        self.directories = 0
        self.entries = 0
        self.looked_files = self.looked_skipped = 0  # recorded in what was due: visited, or found gone

    def start(
        self,
        fetcher: Fetcher,
        paths: Sequence[Visit],
        known: First | None,
        due: Mapping[bytes, bool] | None = None,
    ) -> None:
        """Begin with these visits, the last one first; `known` is a listing that was fetched already. Of what
        is held below visits that are `alone`, what is `due` is walked, each alone or with all below it."""
        self._fetcher = fetcher
        self._stack = list(paths)
        self._begun = {visit.path for visit in paths}
        self._listing = known
        self._due = due or {}

    async def run(self) -> None:
        """Walk until every directory has been compared; its files may still be on their way. Raises
        StoreError when this site's disk gives up.
        """
        workers = max(2, self._context.mirror.limits.connections)
        beside = [asyncio.create_task(self._checkpoints(), name="checkpoints")]
        if self._relays.enabled:
            self._relays.listen(self._said)
            beside.append(asyncio.create_task(self._patience(), name="patience"))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._worker())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            self._ahead.close()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    def over(self, visit: Visit) -> None:
        """A visit has nothing outstanding any more."""
        if visit.stage is Stage.WALK and self._open.pop(visit.path, None) is not None:
            if visit.agrees and visit.token and not visit.failures:
                self._tokens[visit.path] = visit.token + self._context.rules
            self._slots.release()
            self._changed.set()

    def _upcoming(self) -> Iterator[bytes]:
        """What is visited next, the nearest first: a few more than are looked at together."""
        near = (*reversed(self._stack[-2 * AT_ONCE :]), *islice(self._aside.values(), AT_ONCE))
        return (visit.path for visit in near)

    def remaining(self) -> list[bytes]:
        """What a pass that is interrupted now must still walk."""
        return [*(visit.path for visit in self._stack), *self._aside, *self._open, *self._context.relist]

    async def _worker(self) -> None:
        while True:
            while not self._stack:
                if not (self._visiting or self._aside):
                    return
                self._changed.clear()
                await self._changed.wait()
            await self._slots.acquire()
            visit = self._next()
            if visit is None:
                self._slots.release()
                continue
            self._open[visit.path] = visit
            self._visiting += 1
            visit.pending += 1  # and stays so where the visit is cut off: it is still to do
            try:
                done = await self._visit(visit)
            finally:
                self._visiting -= 1
                self._changed.set()
            visit.pending -= 1
            if not done:
                del self._open[visit.path]
                self._slots.release()
                self._leave(visit)
            elif visit.pending == 0:
                self.over(visit)

    # -- what siblings are to list

    def _next(self) -> Visit | None:
        """The next one that is ours to list, or has been told; what a sibling is to list is put aside."""
        while self._stack:
            visit = self._stack.pop()
            if not self._left(visit):
                return visit
            self._leave(visit)
        return None

    def _left(self, visit: Visit) -> bool:
        """Whether it is left to a sibling to list it."""
        return self._relayed(visit) and self._relays.elsewhere(visit.path)

    def _leave(self, visit: Visit) -> None:
        if visit.put_off is None:
            visit.put_off = self._context.clock.monotonic()
        self._aside[visit.path] = visit

    def _relayed(self, visit: Visit) -> bool:
        """Whether a sibling's listing may do for it."""
        known = self._listing is not None and self._listing.path == visit.path
        return not known and (not visit.alone or bool(self._due))

    def _said(self, directories: Iterable[bytes] | None) -> None:
        """Siblings said something of these; None: of who walks, so that everything is looked at once more.
        What is left to them as before stays so: who repeats itself does not seem to get on."""
        told = list(self._aside) if directories is None else [d for d in directories if d in self._aside]
        again = [path for path in told if not self._left(self._aside[path])]
        self._stack.extend(self._aside.pop(path) for path in reversed(again))
        if again:
            self._changed.set()

    async def _patience(self) -> None:
        """Wait for no sibling longer than it deserves."""
        relays = self._relays
        while True:
            await self._context.clock.sleep(TICK)
            relays.idle(not self._stack and bool(self._aside))
            relays.look()
            for visit in list(islice(self._aside.values(), SAMPLE)):
                relays.overdue(visit.path, visit.put_off or 0.0)

    # -- one directory

    async def _visit(self, visit: Visit) -> bool:
        """False where it turns out to be left to a sibling."""
        seen = await self._ahead.glance(visit.path) or await self._view(visit)
        if seen is None:
            return True
        glance, view = (None, seen) if isinstance(seen, View) else (seen, None)
        if self._left(visit):  # a sibling has begun to walk meanwhile
            return False
        listing = await self._list(visit, self._known(seen))
        if listing is not None and listing.secondhand:
            self._context.compared_by(visit.listed_at)
        if listing is not None and listing.same:
            self.directories += 1
            self._same(visit, listing, glance, view)
            return True
        view = view or await self._view(visit)
        if view is None:
            return True
        if listing is None:
            self._note(visit, view, complete=False)
            return True
        self.directories += 1
        if self._due:
            self.looked_files += sum(held.kind is Kind.FILE for held in view.held.values())
            self.looked_skipped += len(view.skipped)
        await self._listed(visit, view, listing)
        return True

    async def _view(self, visit: Visit) -> View | None:
        """None where something else stands there: that is left alone, and everything else goes on."""
        try:
            return await self._context.store.view(visit.path)
        except Blocked as error:
            self._context.fail(visit, b"", str(error))
            self._note(visit, View({}), complete=False)
            return None

    async def _listed(self, visit: Visit, view: View, listing: Listing) -> None:
        """Compare with what we hold, and do what follows from it."""
        context = self._context
        context.verdicts.listed(visit.path, listing.entries)
        visit.token = listing.token or token(listing)
        # What has no directories ends every circle, and need not be told from others.
        circles = any(entry.kind is Kind.DIRECTORY for entry in listing.entries)
        digest = fingerprint(listing) if circles else b""
        if len(visit.digests) >= LOOP and all(d == digest for d in visit.digests[-LOOP:]) and listing.entries:
            context.fail(visit, b"", f"the same listing as in {LOOP} directories above: followed no further")
            self._note(visit, view, complete=False)
            return
        self.entries += len(listing.entries)
        limits = context.mirror.limits
        if len(listing.entries) > limits.directory_entries or self.entries > limits.files:
            many = "too-many-files" if self.entries > limits.files else "too-many-entries"
            context.sick = context.sick or many
            context.fail(
                visit, b"", f"{many}: {self.entries} in all, {len(listing.entries)} in this directory"
            )
            self._note(visit, view, complete=False)
            return
        if visit.path == b"" and listing.own is not None:
            visit.own = replace(_record_of(context, listing.own), name=b"")
        difference = compare(
            visit.path,
            listing,
            view.held,
            context.policy,
            damaged=view.damaged,
            worn=view.worn,
            strangers=view.strangers,
            suspects=view.suspects,
            hard_links=context.origin.properties.hard_links,
        )
        made_up = visit.relayed and visit.own is not None and not listing.entries
        hearsay = visit.relayed or listing.secondhand
        older = listing.secondhand and _older(visit, difference)
        if older or (hearsay and (difference.missing or difference.waiting or made_up)):
            # Only the origin itself can say that something is gone, or is there though nothing is in it.
            self.entries -= len(listing.entries)
            again = await self._from_origin(visit, b"")
            if again is None:
                self._note(visit, view, complete=False)
            else:
                await self._listed(visit, view, again)
            return
        if visit.token == self._known(view):
            visit.agrees = False  # recorded already
            self._tokens.pop(visit.path, None)
        elif view.token != visit.token + context.rules:
            self._tokens[visit.path] = b""  # with another one it does not agree, whatever comes of this one
        await self._carry_out(visit, view, listing, difference, digest)

    def _known(self, found: Glance | View | None) -> bytes:
        """The token of a listing that need not be taken apart again: everything agreed with it by the same
        rules, and the disk is as it was left."""
        rules, clean = self._context.rules, found is not None
        if isinstance(found, View):
            doubtful = found.damaged or found.worn or found.strangers or found.suspects
            clean = found.present and not (doubtful or found.failures or found.missing)
        return found.token.removesuffix(rules) if found and clean and found.token.endswith(rules) else b""

    def _same(self, visit: Visit, listing: Listing, glance: Glance | None, view: View | None) -> None:
        """The listing is byte for byte the one that everything here agrees with."""
        if view is not None:
            glance = _glance(view)
        assert glance is not None
        if glance.looks:
            self._seen[visit.path] = (glance.token, glance.looks)
        files = self._context.report.files
        self.looked_files += glance.files
        self.looked_skipped += glance.skipped
        files.unchanged += glance.files
        files.skipped += glance.skipped
        self.entries += glance.entries
        visit.agrees = False  # recorded already
        self._descend(visit, glance.directories, listing.token, None)
        self._context.reporter.directory(visit.path)

    async def _list(self, visit: Visit, known: bytes) -> Listing | None:
        first = self._listing
        if first is not None and first.path == visit.path:
            self._listing = None
            found = (first.listing, first.listed_at) if first.relayed else None
            if found is None and not (first.listing.same and first.listing.token != known):
                visit.listed_at = first.listed_at
                return first.listing
        else:
            found = await self._relays.find(visit.path, known) if self._relayed(visit) else None
        if found is None:
            return await self._from_origin(visit, known)
        listing, visit.listed_at = found
        visit.relayed = True
        self._context.compared_by(visit.listed_at)
        return listing

    async def _from_origin(self, visit: Visit, known: bytes) -> Listing | None:
        context, visit.relayed = self._context, False
        visit.listed_at = int(context.clock.now() * SECOND)
        try:
            listing = await self._relays.ask(context.origin, visit.path, known)
        except OriginError as error:
            if context.look_above(visit, error):
                return None
            context.fail(visit, b"", error.message)
            if isinstance(error, Unreachable | IncompleteListing | SourceMissing):
                context.sick = context.sick or f"{shown(visit.path) or '/'}: {error.message}"
            return None
        visit.listed_at -= int(listing.age * SECOND)
        return listing

    async def _carry_out(
        self, visit: Visit, view: View, listing: Listing, difference: Difference, digest: bytes
    ) -> None:
        context, files = self._context, self._context.report.files
        if difference.missing or difference.waiting:
            visit.agrees = False
        for name in difference.missing if self._due else ():
            if view.held[name].kind is Kind.DIRECTORY:  # nobody visits what is below it
                self.looked_files += (await context.store.totals(join(visit.path, name))).files
        files.unchanged += difference.unchanged
        files.skipped += len(difference.skipped)
        if difference.waiting:
            self.kinds_wait.add(visit.path)
        self._count_links(listing)
        await self._make(visit, difference.made, difference.attributes, view)
        news = {held.name for held in (*difference.made, *difference.attributes)}
        self._descend(visit, difference.directories, digest, view.held, news)
        wanted = difference.wanted
        if difference.adopt:
            wanted = sorted(
                [*wanted, *await self._adopt(visit, view, difference.adopt)], key=lambda w: w.entry.name
            )
        if difference.relink:
            await self._relink(visit, view, difference.relink, listing)
        await self._rejoin(visit, view, wanted)
        self._note(visit, view, difference=difference, listed=len(listing.entries), wanted=wanted)
        context.reporter.directory(visit.path)
        assert self._fetcher is not None
        visit.files = sum(entry.kind is Kind.FILE for entry in listing.entries)
        if wanted:
            await self._fetcher.take(visit, wanted)

    def _descend(
        self,
        visit: Visit,
        directories: Sequence[Held],
        digest: bytes,
        held: Collection[bytes] | None,
        news: Collection[bytes] = (),
    ) -> None:
        """Push the children, so that the first in this site's order is popped first. `held` are the names
        that are not new here; None: all of them. Of all but `news`, which are not recorded so yet, only the
        path is kept: as many may wait as the tree has directories."""
        by_path = {join(visit.path, held.name): held for held in directories}
        alone: set[bytes] = set()
        if visit.alone:
            by_path = {
                path: own
                for path, own in by_path.items()
                if path in self._due
                or path in self._context.gone
                or (held is not None and own.name not in held)
            }
            alone = {path for path in by_path if not self._due.get(path, True)}
        for path in self._begun & by_path.keys():
            del by_path[path]
        visit.descended = True
        paths = arranged(list(by_path), self._context.mirror.order, self._seed)
        digests = (*visit.digests, digest)[-LOOP:]
        records = {path: own for path, own in by_path.items() if own.name in news}
        visits = [
            Visit(path, Stage.WALK, records.get(path), digests=digests, alone=path in alone, from_above=True)
            for path in reversed(paths)
        ]
        self._stack.extend(visits)
        self._changed.set()

    async def _make(
        self, visit: Visit, made: Sequence[Held], attributes: Sequence[Held], view: View | None = None
    ) -> None:
        """Directories and symlinks, and names of which only the attributes differ: nothing to fetch."""
        context = self._context
        for held, only_attributes in [(h, False) for h in made] + [(h, True) for h in attributes]:
            path = join(visit.path, held.name)
            if context.dry:
                context.reporter.planned("attributes" if only_attributes else f"make {held.kind}", path)
                continue
            previous = view.held.get(held.name) if view else None
            await self._publish(
                visit, Change(visit.path, held, previous=previous, attributes=only_attributes)
            )

    async def _adopt(self, visit: Visit, view: View, entries: Sequence[Entry]) -> list[Wanted]:
        """Files on disk that are not (or not surely) in our records: what is the listed version is taken
        over without a fetch, the rest is wanted.
        """
        context = self._context
        wanted: list[Wanted] = []
        for entry in entries:
            previous = view.held.get(entry.name)
            found = await context.store.adopt(visit.path, entry)
            altered = (
                found is not None and previous is not None and previous.sha256 not in (None, found.sha256)
            )
            if found is None or altered:
                wanted.append(Wanted(entry, previous))
                continue
            if context.dry:
                context.reporter.planned("adopt", join(visit.path, entry.name))
                continue
            settled = entry.mtime is None or entry.mtime.over(visit.listed_at)
            visit.agrees = visit.agrees and settled
            base = replace(found, etag=previous.etag if previous else None)
            held = record(
                entry, context.mirror.attributes, base=base, settled=settled, keep_ids=context.policy.keep_ids
            )
            context.report.files.unchanged += 1
            await self._make(visit, [], [held], View({entry.name: previous}) if previous else None)
        return wanted

    async def _relink(self, visit: Visit, view: View, records: Sequence[Held], listing: Listing) -> None:
        """The origin links a file with others than before: link it so here, without fetching. Whether a file
        must be parted from what it was linked with shows only when all of them have been listed."""
        context = self._context
        entries = {entry.name: entry for entry in listing.entries}
        parted: list[Later] = []
        for held in records:
            to = await context.store.by_link(held.link) if held.link is not None else None
            path = join(visit.path, held.name)
            context.report.files.unchanged += 1
            known = await context.store.held(to) if to is not None and to != path else None
            have = view.held[held.name]
            if known is not None and known.sha256 == held.sha256:
                if context.dry:
                    context.reporter.planned("link", path, shown(to or b""))
                    continue
                linked = replace(held, inode=known.inode, disk_mtime=known.disk_mtime)
                await self._publish(visit, Change(visit.path, linked, previous=have, link_to=to))
            elif have.link is not None:
                parted.append(Later(visit.path, entries[held.name]))
                if context.dry:
                    context.reporter.planned("part from what it was linked with, where that stays", path)
            elif not context.dry:
                await self._first_of_group(visit, path, held, have)
        if parted:
            visit.agrees = False
            if not context.dry:
                await context.store.later_add(context.record, Stage.LINKS, parted)

    async def _first_of_group(self, visit: Visit, path: bytes, held: Held, have: Held) -> None:
        """What the origin links from now on shares its body with nobody else here: how it looks changes for
        all names of its group at once."""
        store = self._context.store
        try:
            staged = await store.stage_own(path, held) if await store.names(path) > 1 else None
        except Changed as error:
            self._context.fail(visit, held.name, error.message)
            return
        if staged is not None:
            await self._publish(visit, Change(visit.path, staged.held, previous=have, staged=staged))
            await self._context.batcher.flush()  # the others of its group look for it in the records
        else:
            await store.refresh(visit.path, [held])

    async def _rejoin(self, visit: Visit, view: View, wanted: Sequence[Wanted]) -> None:
        """Suspects are fetched one by one: those that are one file are linked again afterwards."""
        if not view.suspects:
            return
        linked = [w.entry for w in wanted if w.entry.name in view.suspects and w.entry.link is not None]
        if linked and not self._context.dry:
            items = [Later(visit.path, entry) for entry in linked]
            await self._context.store.later_add(self._context.record, Stage.LINKS, items)

    async def _publish(self, visit: Visit, change: Change) -> None:
        visit.pending += 1

        def done(error: Exception | None) -> None:
            if error is not None and not self._context.look_again(visit, error):
                self._context.fail(visit, change.held.name, str(error))
            visit.pending -= 1
            if visit.pending == 0:
                self.over(visit)

        await self._context.batcher.add(change, done, {} if change.attributes else visit.attributes)

    def _count_links(self, listing: Listing) -> None:
        for entry in listing.entries:
            if entry.link is not None and entry.links > 1:
                group = self.groups.setdefault(entry.link, [entry.links, 0])
                group[1] += 1
                if group[1] >= group[0]:
                    del self.groups[entry.link]

    # -- records

    def _note(
        self,
        visit: Visit,
        view: View,
        *,
        complete: bool = True,
        difference: Difference | None = None,
        listed: int = 0,
        wanted: Sequence[Wanted] = (),
    ) -> None:
        """Record what this comparison found, where it deviates from what is recorded."""
        failures = visit.failures + _still_failing(view.failures, wanted)
        skipped = tuple(difference.skipped) if difference else view.skipped
        missing = frozenset(difference.missing) if difference else view.missing
        notable = (
            not complete
            or {(f.name, f.error) for f in view.failures} != set(failures)
            or _by_name(skipped) != _by_name(view.skipped)
            or bool(missing or view.missing)
        )
        if self._context.dry:
            reasons = {one.name: f"left out: {one.reason}" for one in skipped}
            for name in sorted(missing):
                self._context.reporter.planned("missing", join(visit.path, name), reasons.get(name, ""))
        if not notable:
            return
        self._compared.append(
            Compared(visit.path, skipped, failures, missing, entries_listed=listed, complete=complete)
        )

    async def record_compared(self) -> None:
        """Write what has been gathered. Nothing is lost where whoever asked for it is cancelled: what has
        been handed to the store is written, and the rest is still here."""
        context, now = self._context, int(self._context.clock.now())
        gathered, self._compared = self._compared, []
        if gathered:
            await context.store.compared(gathered, context.record, now)
        late, context.late = context.late, {}
        if late:
            await context.store.note_failures(late, now)
        tokens, self._tokens = self._tokens, {}
        if tokens and not context.dry:
            await context.store.agreed(tokens)
        seen, self._seen = self._seen, {}
        if seen and not context.dry:
            await context.store.seen(seen)

    async def _checkpoints(self) -> None:
        context = self._context
        since = context.clock.monotonic()
        while True:
            await asyncio.sleep(0.5)
            if len(self._compared) >= GATHER or (self._compared and not self._stack):
                await self.record_compared()
            if context.clock.monotonic() - since >= CHECKPOINT:
                await self.checkpoint()
                since = context.clock.monotonic()

    async def checkpoint(self) -> None:
        """Record what is still to do, after everything that is done; and what has failed so far."""
        context = self._context
        remaining = self.remaining()
        so_far: dict[str, object] = {
            "listed": [visit.path for visit in self._open.values() if visit.descended],
            "sick": context.sick,
            "errors": context.report.errors,
            "error_count": context.report.error_count,
            "failed": context.report.files.failed,
            "since": context.since,
        }
        await self.record_compared()
        await context.store.frontier_save(context.record, remaining, so_far)


def _older(visit: Visit, difference: Difference) -> bool:
    """Whether what is held came after the list was made that shows something else."""
    have = (wanted.previous for wanted in difference.wanted if not wanted.ask)
    return any(one is not None and one.copied * SECOND >= visit.listed_at for one in have)


def _glance(view: View) -> Glance:
    kinds = [held.kind for held in view.held.values()]
    below = tuple(held for held in view.held.values() if held.kind is Kind.DIRECTORY)
    return Glance(view.token, kinds.count(Kind.FILE), len(kinds), len(view.skipped), below, view.looks)


def _record_of(context: Context, own: Entry) -> Held:
    return record(
        replace(own, kind=Kind.DIRECTORY), context.mirror.attributes, keep_ids=context.policy.keep_ids
    )


def _still_failing(failures: Sequence[Failure], wanted: Sequence[Wanted]) -> tuple[tuple[bytes, str], ...]:
    """Failures of files that are still wanted stay until they are fetched."""
    names = {want.entry.name for want in wanted}
    return tuple((f.name, f.error) for f in failures if f.name in names)


def _by_name(skipped: Sequence[Skipped]) -> set[tuple[bytes, str, int | None]]:
    return {(s.name, s.reason, s.size) for s in skipped}
