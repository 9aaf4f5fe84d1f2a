"""One new version of a file from an older one that is here: what differs comes from a sibling or the origin.

Whatever goes wrong on the way, the whole file is fetched instead: what is made here is published only by
those who asked for it, after they have compared its digest.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cluster.engine.context import Context, Job
from cluster.errors import PeerError
from cluster.model import Held, Offer, join
from cluster.peer import deltawire
from cluster.peer.client import Newer, Sibling
from cluster.plan import delta
from cluster.plan.steal import RANGE
from cluster.store import blocks
from cluster.store.tree import Staged

if TYPE_CHECKING:
    from cluster.delta.recipe import Offsets, Ranges, Recipe
    from cluster.delta.search import Older, Wanted

PIECE = 2**20  # bytes of the older file that are copied at once

_T = TypeVar("_T")


class Gone(Exception):
    """The older file is not as long as it was."""


class Deltas:
    """One per pass: one file at a time is looked through, since that takes a processor."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known = delta.Experience()
        self.turn = asyncio.Lock()

    async def from_sibling(self, sibling: Sibling, job: Job, offer: Offer, held: Held) -> Staged | None:
        """The version that it offers, complete and not yet compared with its digest; None where it does not
        pay, or did not succeed. Raises StoreError."""
        context, mode = self._context, self._context.mirror.sideways.delta
        if not delta.worth(mode, job.entry.name, offer.size, sibling.speed, self._known):
            return None
        async with self.older(job) as found:
            if found is None:
                return None
            older, path = found
            newer = sibling.newer(context.mirror.name, job.path, offer)
            try:
                return await self._made(newer, older, path, job, offer.size, sibling.speed, held)
            except (PeerError, Gone, OSError):
                return None
            finally:
                context.report.bytes_sideways += newer.received
                context.report.requests_sideways += newer.requests

    @asynccontextmanager
    async def older(self, job: Job) -> AsyncIterator[tuple[Older, bytes] | None]:
        """What is here of an older version, and its path: the one of the same name, or else the one whose
        name is the same but for the version in it. Closed at the end. None where there is none."""
        from cluster.delta.search import Older

        opened, path = await self._context.store.open_file(job.path), job.path
        if opened is None and (name := await self._forebear(job)) is not None:
            path = join(job.visit.path, name)
            opened = await self._context.store.open_file(path)
        if opened is None:
            yield None
            return
        descriptor, held = opened
        try:
            yield (Older(descriptor, held.size), path) if held.size else None
        finally:
            os.close(descriptor)

    async def _forebear(self, job: Job) -> bytes | None:
        name = job.entry.name
        if not delta.versioned(name):
            return None
        names = await self._context.store.files_like(job.visit.path, delta.before_version(name))
        return delta.forebear(name, names)

    async def _made(
        self, newer: Newer, older: Older, path: bytes, job: Job, size: int, speed: float | None, held: Held
    ) -> Staged | None:
        began = time.monotonic()
        recipe = await self._recipe(newer, older, path, size, speed)
        if recipe is None:
            return None
        worked = time.monotonic() - began
        staging = await self._context.store.beginnings.stage(job.path, size)
        try:
            if staging.start:
                await staging.restart()
            async with aclosing(newer.pieces(recipe.missing())) as pieces:
                await write(staging, recipe, older, pieces)
            staged = await staging.finish(held)
        except BaseException:
            await staging.abandon(None)
            raise
        self._known.note(size, worked, newer.received)
        self._context.report.bytes_saved += max(0, size - newer.received)
        return staged

    async def _recipe(
        self, newer: Newer, older: Older, path: bytes, size: int, speed: float | None
    ) -> Recipe | None:
        """What of the newer version is where in the older one; None where that is next to nothing."""
        from cluster.delta.recipe import Recipe, blocks_within

        recipe, mode = Recipe(size), self._context.mirror.sideways.delta
        if size > blocks.BLOCK and older.size > blocks.BLOCK:
            ours = await self._context.store.blocks(path) or await _hashed(older)
            _in_place(recipe, ours, await newer.blocks(), min(size, older.size))
        rolls, over = partial(delta.rolls, mode, speed=speed), threading.Event()
        for block in delta.LEVELS:
            numbers = blocks_within(recipe.missing(), block, delta.MOST_BLOCKS)
            if not numbers:
                break
            sums = await newer.sums(block, numbers)
            async with self.turn:
                wanted = await on_thread(_wanted, block, numbers, sums)
                await on_thread(look, recipe, older, wanted, rolls, over.is_set, over=over)
            if delta.hopeless(size, recipe.copied, block):
                return None
        return recipe


def look(
    recipe: Recipe,
    older: Older,
    wanted: Wanted,
    rolls: Callable[[int, int], bool],
    stopped: Callable[[], bool],
) -> None:
    """Into the recipe, whatever is found of these blocks. `rolls` is asked whether so many bytes are looked
    through for so many that are missing. On a thread."""
    import numpy as np

    from cluster.delta.recipe import total
    from cluster.delta.search import Search

    search = Search(older, wanted, stopped)
    search.in_place()
    recipe.add(wanted.starts, search.found, wanted.block)
    unused, there = recipe.unused(older.size), search.found >= 0
    if not there.all() and rolls(total(unused), recipe.size - recipe.copied):
        search.roll(unused)
        recipe.add(wanted.starts, np.where(there, -1, search.found), wanted.block)


class Sink(Protocol):
    """What a file is written to, piece by piece."""

    async def write(self, chunk: bytes) -> None: ...


async def write(staging: Sink, recipe: Recipe, older: Older, fetched: AsyncIterator[bytes]) -> None:
    """Copies and what was fetched (exactly what is missing, in order) one after the other. Raises Gone, and
    what `fetched` raises."""
    from cluster.delta.recipe import Copy

    have: list[memoryview] = []
    at = 0
    for copy in [*recipe.copies(), Copy(recipe.size, 0, 0)]:
        while at < copy.start:
            if not have:
                have.append(memoryview(await anext(fetched)))
            piece = have[0][: copy.start - at]
            await staging.write(bytes(piece))
            at += len(piece)
            have = [have[0][len(piece) :]] if len(piece) < len(have[0]) else []
        end = copy.old + copy.size
        for place in range(copy.old, end, PIECE):
            length = min(PIECE, end - place)
            data = await on_thread(os.pread, older.descriptor, length, place)
            if len(data) != length:
                raise Gone
            await staging.write(data)
        at += copy.size


async def on_thread(
    work: Callable[..., _T],
    *arguments: Any,  # noqa: ANN401  # passed on
    over: threading.Event | None = None,
) -> _T:
    """What `work` returns. Cancelled, this sets `over`, and ends when `work` has: descriptors that it uses
    may be closed then."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        if over is not None:
            over.set()
        await asyncio.wait([working])
        raise


async def _hashed(older: Older) -> bytes:
    """The hashes of its blocks, where none are recorded."""
    found = b""
    for at in range(0, older.size, RANGE):
        end = min(at + RANGE, older.size)
        found += await on_thread(blocks.of_range, older.descriptor, at, end)
    return found


def _in_place(recipe: Recipe, ours: bytes, theirs: bytes, size: int) -> None:
    """Whole blocks of 8 MiB that both have at the same place."""
    from cluster.delta.recipe import Copy

    for number in range(min(len(ours), len(theirs), size // blocks.BLOCK * 32) // 32):
        place = slice(32 * number, 32 * number + 32)
        if ours[place] == theirs[place]:
            at = number * blocks.BLOCK
            recipe.add_copy(Copy(at, at, blocks.BLOCK))


def _wanted(block: int, numbers: Ranges, sums: bytes) -> Wanted:
    import numpy as np

    from cluster.delta.search import Wanted

    starts: Offsets = (
        np.concatenate([np.arange(first, end, dtype=np.int64) for first, end in numbers]) * block
    )
    table = np.frombuffer(sums, np.uint8).reshape(-1, deltawire.SUM)
    weak = np.ascontiguousarray(table[:, :4]).view(">u4").ravel().astype(np.uint32)
    strong = np.ascontiguousarray(table[:, 4:]).tobytes()
    return Wanted(block, starts, weak, strong, deltawire.STRONG, deltawire.strong)
