"""How changes are gathered for the disk, seen from the store that gets them."""

from __future__ import annotations

import asyncio
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
