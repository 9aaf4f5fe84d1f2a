"""How changes are gathered for the disk, seen from the store that gets them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from cluster.engine.batch import MAX_CHANGES, MAX_WAITING, Batcher
from cluster.engine.clock import SystemClock
from cluster.model import Held, Kind
from cluster.store.mirror import Batch, MirrorStore
from cluster.store.publishing import Following
from cluster.store.tree import Change


class SlowStore:
    """Publishes when it is told to."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.ready = asyncio.Semaphore(0)

    async def publish_all(self, first: Batch, following: Following) -> None:
        batch: Batch | None = first
        while batch is not None:
            self.batches.append(len(batch.changes))
            await self.ready.acquire()
            after = following()
            batch.tell([None] * len(batch.changes))
            batch = after


async def _settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_batch_goes_on_filling_while_the_disk_is_busy_up_to_a_limit() -> None:
    store, done = SlowStore(), []
    batcher = Batcher(cast("MirrorStore", store), SystemClock(), lambda change: None)

    async def add(count: int) -> None:
        for number in range(count):
            change = Change(b"", Held(b"%d" % number, Kind.FILE))
            await batcher.add(change, done.append, {})

    async with batcher:
        await add(MAX_CHANGES)
        await _settled()
        assert store.batches == [MAX_CHANGES]
        more = asyncio.create_task(add(MAX_WAITING + 5))
        await _settled()
        assert not more.done()
        assert batcher.pending == MAX_CHANGES + MAX_WAITING
        store.ready.release()
        await _settled()
        assert store.batches == [MAX_CHANGES, MAX_WAITING]
        assert more.done()
        assert len(done) == MAX_CHANGES
        store.ready.release()
        store.ready.release()
    assert store.batches == [MAX_CHANGES, MAX_WAITING, 5]
    assert done == [None] * (MAX_CHANGES + MAX_WAITING + 5)


class PartlyRefusing(SlowStore):
    """Publishes at once, all but what is named so."""

    async def publish_all(self, first: Batch, following: Following) -> None:
        batch: Batch | None = first
        while batch is not None:
            self.batches.append(len(batch.changes))
            after = following()
            refused = OSError(28, "no room")
            batch.tell([refused if change.held.name.startswith(b"no") else None for change in batch.changes])
            batch = after


async def test_who_adds_several_hears_once_of_each_of_them_in_their_order() -> None:
    store = PartlyRefusing()
    heard: list[list[bool]] = []

    def told(outcomes: Sequence[Exception | None]) -> None:
        heard.append([outcome is None for outcome in outcomes])

    async with Batcher(cast("MirrorStore", store), SystemClock(), lambda changes: None) as batcher:
        for names in ((b"a", b"no", b"b"), (b"no2",), (b"c", b"d")):
            await batcher.add_all([Change(b"", Held(name, Kind.FILE)) for name in names], told, {})
    assert heard == [[True, False, True], [False], [True, True]]
    assert sum(store.batches) == 6
