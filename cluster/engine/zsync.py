"""A new version of a file by its `.zsync`, which the origin publishes beside it: only what the older version
here lacks comes from the origin.

The control file may be older or newer than the file. What it makes is published only where size and time
are those that the origin tells now, all ranges came from that version, and the SHA-1 is right.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from cluster.delta.control import Control, NotControl, control
from cluster.engine.context import Context, Job, renewal
from cluster.engine.delta import Deltas, Gone, look, on_thread, write
from cluster.errors import Changed, OriginError
from cluster.model import SECOND, Delta, Facts, Held, Kind, href
from cluster.origin.base import Want
from cluster.plan import delta
from cluster.store.staging import Staging
from cluster.store.tree import Staged

if TYPE_CHECKING:
    from cluster.delta.recipe import Recipe
    from cluster.delta.search import Older

SUFFIX = b".zsync"


class Zsync:
    """One per pass. `progress` renews the claim on a job, with the bytes that have come from the origin."""

    def __init__(self, context: Context, deltas: Deltas, progress: Callable[[Job, int], None]) -> None:
        self._context, self._deltas, self._progress = context, deltas, progress

    async def staged(self, job: Job, held: Callable[[Facts], Held]) -> Staged | None:
        """The new version, complete and verified; None where there is no way to it but the whole file. `held`
        makes its record. Raises StoreError."""
        context, entry = self._context, job.entry
        size = entry.size or 0
        if context.mirror.sideways.delta is Delta.NO or delta.shuffled(entry.name):
            return None
        if not delta.LEAST <= size <= context.mirror.limits.file_size:
            return None
        beside = await context.store.held(job.path + SUFFIX)
        if beside is None or beside.kind is not Kind.FILE or not context.origin.properties.network:
            return None
        if await context.store.beginnings.is_growing(job.path):
            return None
        async with self._deltas.older(job) as found:
            if found is None:
                return None
            try:
                return await self._made(job, found[0], size, held)
            except (OriginError, NotControl, Gone, OSError):
                return None  # whatever is wrong will be told when the whole file is asked for

    async def _made(self, job: Job, older: Older, size: int, held: Callable[[Facts], Held]) -> Staged | None:
        context = self._context
        facts = await context.origin.facts(job.path)
        if not _sure(facts, size, job.visit.listed_at):
            return None
        before = context.origin.traffic.bytes
        told = control(await self._control(job, size))
        if told.size != size or facts.mtime is None or told.mtime != facts.mtime.ns // SECOND:
            return None  # it is of another version
        async with self._renewed(job):
            recipe = await self._recipe(told, older)
        if recipe.copied < delta.LITTLE * size:
            return None
        staging = await context.store.beginnings.stage(job.path, size)
        try:
            if staging.start:
                await staging.restart()
            sink = _Summed(staging)
            async with aclosing(self._ranges(job, recipe.missing(), size, facts)) as fetched:
                await write(sink, recipe, older, fetched)
            if sink.sha1.digest() != told.sha1:
                await staging.abandon(None)
                return None
            staged = await staging.finish(held(facts))
        except BaseException:
            await staging.abandon(None)
            raise
        context.report.bytes_saved += max(0, size - (context.origin.traffic.bytes - before))
        return staged

    async def _control(self, job: Job, size: int) -> bytes:
        parts: list[bytes] = []
        want = Want(limit=delta.control_limit(size))
        async with self._context.origin.read(job.path + SUFFIX, want) as body:
            parts = [chunk async for chunk in body.chunks()]
        self._progress(job, 0)
        return b"".join(parts)

    async def _recipe(self, told: Control, older: Older) -> Recipe:
        from cluster.delta.recipe import Recipe, joined

        recipe, over = Recipe(told.size), threading.Event()

        def looked() -> None:
            look(recipe, older, told.wanted(), lambda unused, missing: True, over.is_set)
            if ranges := joined(recipe.missing(), delta.MERGE, delta.MOST_REQUESTS):
                recipe.give_up(ranges)

        async with self._deltas.turn:
            await on_thread(looked, over=over)
        return recipe

    async def _ranges(
        self, job: Job, ranges: Sequence[tuple[int, int]], size: int, facts: Facts
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of these ranges of the version that `facts` tells of. Raises OriginError."""
        received = 0
        for first, end in ranges:
            want = Want(size, first, end, facts.etag, size)
            async with self._context.origin.read(job.path, want) as body:
                if body.start != first:
                    raise Changed(href(job.path), "the origin does not send the part that was asked for")
                left = end - first
                async for chunk in body.chunks():
                    left -= len(chunk)
                    if left < 0:
                        break
                    received += len(chunk)
                    self._progress(job, received)
                    yield chunk
            if left:
                raise Changed(href(job.path), "another part arrives than was asked for")

    @asynccontextmanager
    async def _renewed(self, job: Job) -> AsyncIterator[None]:
        """Siblings go on leaving the file to us while it is only looked through."""

        async def renewing() -> None:
            while True:
                self._progress(job, 0)
                await asyncio.sleep(renewal(self._context.mirror.sideways.patience))

        task = asyncio.create_task(renewing(), name="renew a claim")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class _Summed:
    """A staging whose SHA-1 is known as well."""

    def __init__(self, staging: Staging) -> None:
        self._staging, self.sha1 = staging, hashlib.sha1(usedforsecurity=False)

    async def write(self, chunk: bytes) -> None:
        await on_thread(self.sha1.update, chunk)
        await self._staging.write(chunk)


def _sure(facts: Facts, size: int, listed_at: int) -> bool:
    """Whether parts of exactly one version can be asked for."""
    young = facts.mtime is not None and not facts.mtime.over(listed_at)
    return facts.size == size and facts.ranges and bool(facts.etag) and not young
