"""Changes to the public tree, gathered into batches that span directories (HAZARDS 3.2).

A batch closes at 256 changes, 256 MiB or 0.3 s after its first change; on a slow disk later, up to 2 s.
While one is on its way to the disk the next one goes on filling, up to 1024 changes: each costs the disk a
commit and a sync however large it is, so that a slow disk gets fewer and larger ones. What has become a batch
when the names of the one before are renamed follows that one. Siblings see a file only when it is published.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from cluster.engine.clock import Clock
from cluster.errors import DiskFull, StoreError
from cluster.model import Held
from cluster.store.mirror import Batch, MirrorStore
from cluster.store.tree import Change

MAX_CHANGES = 256
MAX_WAITING = 1024  # changes that wait for the disk to be done with the batch before
MAX_BYTES = 256 * 2**20
MIN_AGE, MAX_AGE = 0.3, 2.0  # s that a batch waits for more,
SHARE = 5  # in between: so many times as long as the last one took the disk
PATIENCE = 6.0  # s that a pass which is being stopped lets its last batch finish

Done = Callable[[Exception | None], None]
Told = Callable[[Sequence[Exception | None]], None]


@dataclass(slots=True, eq=False)
class _Batch:
    changes: list[Change] = field(default_factory=list)
    told: list[tuple[int, Told]] = field(default_factory=list)  # so many of the changes, in their order
    attributes: dict[bytes, Held] = field(default_factory=dict)
    bytes: int = 0
    opened: float = 0.0


class Batcher:
    """Start with `async with`; leaving it publishes the rest, unless it is left by an error. A pass that is
    stopped has PATIENCE for it, and so has one on a disk that is full: what has come need not come again."""

    def __init__(
        self, store: MirrorStore, clock: Clock, renew: Callable[[Iterable[Change]], None], every: float = 1.0
    ) -> None:
        """`renew` is called with the changes that wait, `every` so many seconds."""
        self._store, self._clock, self._renew, self._every = store, clock, renew, every
        self._filling = _Batch()
        self._more = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._flush_wanted = False
        self._patience = MIN_AGE
        self._publishing: list[_Batch] = []
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self.broken: Exception | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="batches")
        self._renewal = asyncio.create_task(self._renewing(), name="renew claims")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        assert self._task is not None
        assert self._renewal is not None
        try:
            if kind is None:
                await self.flush()
            elif issubclass(kind, asyncio.CancelledError | DiskFull):  # renames need no room
                with contextlib.suppress(TimeoutError, StoreError, OSError):
                    async with asyncio.timeout(PATIENCE):
                        await self.flush()
        finally:
            self._task.cancel()
            self._renewal.cancel()
            await asyncio.gather(self._task, self._renewal, return_exceptions=True)

    async def add(self, change: Change, done: Done, attributes: dict[bytes, Held]) -> None:
        """`add_all` of one."""
        await self.add_all([change], lambda outcomes: done(outcomes[0]), attributes)

    async def add_all(self, changes: Sequence[Change], told: Told, attributes: dict[bytes, Held]) -> None:
        """Queue changes, one or more; `told` is called once, with None for each that is published, or why it
        was not. Where the store broke it is not called at all: nothing is known of the changes then.
        `attributes` are those of the directories that they are in. Waits while the disk is far behind.
        Raises the StoreError that stopped publication.
        """
        while self.broken is None and self._has_no_room():
            await self._pause()
        if self.broken is not None:
            raise self.broken
        batch = self._filling
        if not batch.changes:
            batch.opened = self._clock.monotonic()
        batch.changes += changes
        batch.told.append((len(changes), told))
        batch.attributes.update(attributes)
        batch.bytes += sum([change.held.size for change in changes if change.staged is not None])
        self._more.set()
        if self._is_full(batch):
            self._full.set()

    async def flush(self) -> None:
        """Return when everything that was added is published. Raises the StoreError that stopped it."""
        while self.broken is None and (self._filling.changes or self._publishing):
            if self._filling.changes:
                self._flush_wanted = True
                self._full.set()
            await self._pause()
        if self.broken is not None:
            raise self.broken

    async def _pause(self) -> None:
        """Until something has changed."""
        self._room.clear()
        await self._room.wait()

    @property
    def pending(self) -> int:
        """Changes that were added and are not yet published."""
        return sum(len(batch.changes) for batch in (self._filling, *self._publishing))

    def _has_no_room(self) -> bool:
        return len(self._filling.changes) >= MAX_WAITING or self._filling.bytes >= MAX_BYTES

    @staticmethod
    def _is_full(batch: _Batch) -> bool:
        return len(batch.changes) >= MAX_CHANGES or batch.bytes >= MAX_BYTES

    async def _run(self) -> None:
        try:
            while True:
                await self._more.wait()
                if not self._flush_wanted:
                    with contextlib.suppress(TimeoutError):
                        # Not wait_for: in Python 3.11 it forgets a cancellation that meets the event.
                        async with asyncio.timeout(max(0.0, self._patience - self._age())):
                            await self._full.wait()
                await self._store.publish_all(self._taken(), self._following)
        except asyncio.CancelledError:
            self._stopped = True  # the store ends what it has begun
            raise
        except Exception as error:  # noqa: BLE001  # whatever it was: else everybody waits for ever
            self.broken = error
            self._room.set()

    def _age(self) -> float:
        return self._clock.monotonic() - self._filling.opened

    def _following(self) -> Batch | None:
        """What has been gathered meanwhile, where that is a batch."""
        batch = self._filling
        if self._stopped or not batch.changes:
            return None
        due = self._flush_wanted or self._is_full(batch) or self._age() >= self._patience
        return self._taken() if due else None

    def _taken(self) -> Batch:
        """What has been gathered is on its way to the disk from now on."""
        batch, self._filling = self._filling, _Batch()
        began = self._clock.monotonic()

        def tell(outcomes: list[Exception | None]) -> None:
            if not self._stopped:
                self._told(batch, began, outcomes)

        self._publishing.append(batch)
        self._more.clear()
        self._full.clear()
        self._flush_wanted = False
        self._room.set()
        return Batch(batch.changes, batch.attributes, int(self._clock.now()), tell)

    def _told(self, batch: _Batch, began: float, outcomes: Sequence[Exception | None]) -> None:
        took = self._clock.monotonic() - began
        self._patience = min(MAX_AGE, max(MIN_AGE, SHARE * took))
        at = 0
        for count, told in batch.told:
            told(outcomes[at : at + count])
            at += count
        self._publishing.remove(batch)
        self._room.set()

    async def _renewing(self) -> None:
        """Bytes that wait for their batch, or for a slow disk, are still on their way: siblings go on waiting
        for them."""
        while True:
            for batch in (self._filling, *self._publishing):
                if batch.changes:
                    self._renew(batch.changes)
            await asyncio.sleep(self._every)
