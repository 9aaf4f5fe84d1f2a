"""The carrier of a pass: the process that takes what siblings send of small files.

One for all siblings of a pass: it waits most of the time, whoever sends. Where it cannot be had, or dies, the
event loop takes what they send, which costs time and nothing else (`docs/decisions/0023-carrier.md`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

from cluster.engine.context import Context, Job
from cluster.engine.copies import Copies
from cluster.peer.client import Carried, Lending, Sibling, Told, Unwritten, Wish
from cluster.store.small import name
from cluster.store.temporaries import new_prefix

if TYPE_CHECKING:
    from cluster.courier.carrier import Carrier
    from cluster.plan.source import FromSibling
    from cluster.store.tree import Staged

WORTH = 64  # files of one question that are worth a process (50 ms, 20 MB)
_log = logging.getLogger(__name__)


class Carrying:
    """See the module. `close` it when nothing is asked for any more."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._usable = not context.dry
        self._starting: asyncio.Task[Carrier | None] | None = None

    def __repr__(self) -> str:
        return f"<Carrying {'usable' if self._usable else 'not usable'}>"

    def begin(self) -> None:
        """It will be needed: nobody has to wait for it then."""
        if self._usable and self._starting is None and any(map(lends, self._context.up())):
            self._starting = asyncio.create_task(self._start(), name="start of the carrier")

    async def to_go(self, sibling: Lending, wishes: Sequence[Wish]) -> Carrier | None:
        """Who is to take the answer of this sibling; None: nobody but ourselves."""
        if not self._usable or (self._starting is None and sum(wish.send for wish in wishes) < WORTH):
            return None
        self.begin()
        if self._starting is None:
            return None
        carrier = await asyncio.shield(self._starting)
        return None if carrier is None or carrier.gone else carrier

    async def _start(self) -> Carrier | None:
        from cluster.courier.carrier import Carrier

        try:
            return await Carrier.start(self._context.store.temporaries_folder)
        except (OSError, RuntimeError) as error:  # no process, or no thread that would start it
            mirror = self._context.mirror.name
            _log.warning("%s: no process for what siblings send: %s", mirror, error)
            self._usable = False
            return None

    def lost(self) -> None:
        """The process has ended by itself."""
        if self._usable:
            _log.warning("%s: the process for what siblings send is gone", self._context.mirror.name)
        self._usable = False

    @contextlib.asynccontextmanager
    async def asked(
        self, sibling: Lending, wishes: Sequence[Wish], carrier: Carrier
    ) -> AsyncIterator[Taking]:
        """The answer of a sibling once it has told what it holds. Raises PeerError, CarrierGone."""
        context = self._context
        taking = Taking(context)
        try:
            async with sibling.carried(context.mirror.name, wishes, context.answer, carrier) as taking.answer:
                yield taking
        finally:
            await taking.swept()

    async def close(self) -> None:
        """Nothing is written any more, and nothing left behind."""
        self._usable = False
        if self._starting is not None and (carrier := await asyncio.shield(self._starting)) is not None:
            await carrier.close()


def lends(sibling: Sibling) -> TypeGuard[Lending]:
    """Whether it can be asked by a program beside ours."""
    return isinstance(sibling, Lending) and sibling.lends


class Taking:
    """One answer. `told` is what the sibling said first."""

    answer: Carried

    def __init__(self, context: Context) -> None:
        self._context = context
        self._prefix = b""
        self._left: set[int] = set()  # temporaries that are in no batch yet

    @property
    def told(self) -> Told:
        return self.answer.told

    async def files(
        self, expected: Mapping[int, tuple[Job, FromSibling]]
    ) -> AsyncGenerator[list[tuple[int, Staged]], None]:
        """What arrives of these files, by place: verified temporaries, to be published before more is asked
        for. Raises PeerError, StoreError, CarrierGone.
        """
        store = self._context.store
        if expected:
            size = sum(source.offer.size for _, source in expected.values())
            await store.room_for(size, len(expected))
            self._prefix = new_prefix()
            self._left = set(expected)
        copies = Copies(self._context, expected, self._prefix)
        try:
            async for written in self.answer.files(self._prefix, copies.orders()):
                yield copies.staged(written)
                self._left.difference_update(place for place, _, _ in written)
        except Unwritten as failed:
            raise store.explain(expected[failed.place][0].path, failed.code) from None

    async def swept(self) -> None:
        """Nothing is written any more: temporaries that are in no batch are of no use."""
        if self._left:
            await self._context.store.forget_temporaries(name(self._prefix, place) for place in self._left)
