"""What changes the public tree of one mirror, in the order of effects (HAZARDS 3.2, 3.4).

A batch: intent, sync, renames, directories synced, result and journal. A deletion: tombstones, status files,
renames to the trash. One after another; whatever did not come to its end is finished by what follows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from cluster.model import join
from cluster.store import adoption, deletion, intents, publishing, recovery, removing, rows
from cluster.store.connections import Connections
from cluster.store.disk import Disk
from cluster.store.publishing import Batch, Begun, Following, staged_in
from cluster.store.records import Plan
from cluster.store.telling import Telling
from cluster.store.tree import Change, Tree

TRASHED_AT_ONCE = 256  # names moved to the trash between two looks at the event loop


@dataclass(frozen=True, slots=True)
class _Underway:
    """A batch whose intent is committed; what was `refused` of it has no part in that."""

    batch: Batch
    wanted: Sequence[Change]
    begun: Begun
    refused: Mapping[int, Exception] = field(default_factory=dict)
    synced: bool = False  # its temporaries are durable

    def tell(self, outcomes: Sequence[Exception | None]) -> None:
        """`outcomes` are those of `wanted`."""
        left, refused = iter(outcomes), self.refused
        self.batch.tell([refused[i] if i in refused else next(left) for i in range(len(self.batch.changes))])


class Effects:
    """See the module. `grown`, asked once for each published change: the path of what came by parts."""

    def __init__(
        self,
        records: Connections,
        tree: Tree,
        disk: Disk,
        telling: Telling,
        grown: Callable[[Change], bytes | None],
    ) -> None:
        self._records, self._tree, self._disk, self._telling = records, tree, disk, telling
        self._grown = grown
        self._alone = asyncio.Lock()  # one batch after another, or one deletion, at a time
        self._waiting = 0  # for the end of the batches that are under way
        self._unfinished = False  # an intent is open whose batch is over
        self._removals = True  # there may be deletions whose renames are not done
        self.moves = 0  # odd while the public tree is being changed

    async def publish_all(self, first: Batch, following: Following) -> None:
        """A batch, and then those that follow it, as long as `following` has one when it is asked: once for
        each, when its names are renamed and nothing of it is durable yet. The next one's temporaries and its
        intent are made durable with what the one before has left to be made so. Each batch is told as soon as
        it is over. Raises as `publish`.
        """
        await self._disk.whole(self._publish_all(first, following))

    async def _publish_all(self, first: Batch, following: Following) -> None:
        async with self._alone:
            underway: _Underway | None = await self._first(first)
            while underway is not None:
                underway = await self._effect(underway, following)

    async def _first(self, batch: Batch) -> _Underway:
        """Its intent is committed, synced; nothing is done yet."""
        changes, now = batch.changes, batch.now
        try:
            await self._repair(now)
            refused = await self._refused(changes)
            if refused and batch.ordered:
                refused = dict.fromkeys(range(len(changes)), next(iter(refused.values())))
            wanted = [change for i, change in enumerate(changes) if i not in refused]
            begun = await self._records.write(
                lambda c, _: publishing.begin(c, wanted, batch.attributes, now), durable=True
            )
        except BaseException:
            await self._disk.run(self._tree.discard, staged_in(changes))
            raise
        if refused:
            await self._disk.run(self._tree.discard, staged_in(changes[i] for i in refused))
        return _Underway(batch, wanted, begun, refused)

    async def _effect(self, underway: _Underway, following: Following) -> _Underway | None:
        """One batch from its intent to its result, and the intent of the one that follows it."""
        wanted, begun, attributes = underway.wanted, underway.begun, underway.batch.attributes
        self._unfinished = True
        self.moves += 1
        after: Batch | None = None
        try:
            work = partial(
                publishing.renamed, self._tree, wanted, synced=underway.synced, ordered=underway.batch.ordered
            )
            renamed = await self._disk.run(work)
            if not (self._removals or self._waiting):
                after = following()
            outcomes, own, lost = await self._disk.run(
                publishing.settled,
                self._tree,
                wanted,
                renamed,
                begun,
                attributes,
                after.changes if after else (),
            )
            if after is not None and lost is not None:
                await self._disk.run(self._tree.discard, staged_in(after.changes))
                after.tell([lost] * len(after.changes))
                after = None
            grown = [path for change in wanted if (path := self._grown(change)) is not None]

            def conclude(connection: sqlite3.Connection, ids: rows.Ids) -> Begun | None:
                publishing.conclude(connection, ids, begun, outcomes, own, underway.batch.now)
                for path in grown:
                    adoption.forget_growing(connection, path)
                if after is None:
                    return None
                return publishing.begin(connection, after.changes, after.attributes, after.now)

            next_begun = await self._records.write(conclude, durable=True)
        except publishing.NotSynced as failure:
            await self._disk.run(self._tree.discard, staged_in(wanted))
            await self._records.write(lambda c, _: intents.close_intent(c, begun.intent), durable=True)
            self._unfinished = False
            underway.tell([failure.error] * len(wanted))
            return None
        except BaseException:
            if after is not None:
                await self._disk.run(self._tree.discard, staged_in(after.changes))
            raise
        finally:
            self.moves += 1
        self._unfinished = next_begun is not None
        underway.tell([outcome if isinstance(outcome, Exception) else None for outcome in outcomes])
        if after is None or next_begun is None:
            return None
        return _Underway(after, after.changes, next_begun, synced=True)

    @contextlib.asynccontextmanager
    async def between_batches(self) -> AsyncIterator[None]:
        """While no batch is under way; until then none follows another."""
        self._waiting += 1
        try:
            async with self._alone:
                yield
        finally:
            self._waiting -= 1

    async def _refused(self, changes: Sequence[Change]) -> dict[int, Exception]:
        if not self._removals:
            return {}
        left = await self._records.read(rows.removals)
        why = (
            (i, publishing.in_the_way(join(c.directory, c.held.name), left)) for i, c in enumerate(changes)
        )
        return {i: error for i, error in why if error is not None}

    async def _repair(self, now: int) -> None:
        """Finish what an earlier batch or deletion could not."""
        if self._unfinished:
            await self._records.write_alone(lambda c, ids: recovery.roll_forward(c, ids, self._tree, now))
            self._unfinished = False
        if self._removals:
            await self.finish_removals(now)

    async def delete(self, plan: Plan, now: int) -> tuple[int, int]:
        """Carry out a plan as a whole: tombstones committed, status rewritten, then renames to the trash.
        Returns (files, bytes). A rename that fails is told in the status, and tried again later.

        Raises StoreError, with nothing deleted, where the plan is held or no longer what the records say.
        """
        return await self._disk.whole(self._delete(plan, now))

    async def _delete(self, plan: Plan, now: int) -> tuple[int, int]:
        async with self.between_batches():
            await self._repair(now)
            await self._telling.scrub_digests()
            taken = await self._records.write(lambda c, ids: deletion.take(c, ids, plan, now), durable=True)
            self._removals = self._removals or bool(taken.paths)
            self.moves += 1
            try:
                await self.finish_removals(now)
            finally:
                self.moves += 1
            return taken.files, taken.bytes

    async def finish_removals(self, now: int) -> None:
        """Whatever is deleted in the records: out of the status files, then off the public tree."""
        paths = await self._records.read(rows.removals)
        failed = 0
        if paths:
            above = await self._records.read(lambda c: removing.parents(c, paths))
            await self._telling.withdraw(paths, sorted(above), now)
            for start in range(0, len(paths), TRASHED_AT_ONCE):
                some = paths[start : start + TRASHED_AT_ONCE]
                outcomes = await self._disk.run(removing.trash, self._tree, some, above, now)
                failed += sum(outcome is not None for outcome in outcomes)
                removed = partial(removing.removed, paths=some, outcomes=outcomes, now=now)
                await self._records.write(removed, durable=True)
        self._removals = failed > 0
