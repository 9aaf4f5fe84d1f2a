"""One large file that siblings fetch too, on its way into the tree: by ranges of it from everywhere, where
the origin sends any (`cluster.engine.gathering`), and else in a chain (`cluster.engine.chaining`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from cluster.engine.chaining import Chain, Mixed
from cluster.engine.context import Context, Job
from cluster.engine.gathering import Foreign, Gathering
from cluster.errors import Changed, OriginError
from cluster.model import SECOND, Facts, Held, href
from cluster.plan.chain import is_proof, version_named
from cluster.plan.steal import is_medium
from cluster.store.growing import Growing
from cluster.store.tree import Staged

MAX_TAG = 512  # bytes of a validator: it goes into request lines
MIXED = 2  # times that a file is begun anew because of what was joined, before it comes whole

Record = Callable[[Job, Facts, int, bytes | None], Held]


class Parted:
    """`refused` is told what the origin does not deliver, `publish` given what is complete, `record` makes
    the record of what came from the origin."""

    def __init__(
        self,
        context: Context,
        record: Record,
        publish: Callable[[Job, Staged], Awaitable[None]],
        refused: Callable[[Job, OriginError], None],
    ) -> None:
        self._context, self._record, self._publish, self._refused = context, record, publish, refused

    async def fetch(self, job: Job) -> bool:
        """One file from origin and siblings together. False where it has to come whole: the origin does not
        name its version for all of us alike. Other failures are recorded, never raised; StoreError is. What
        has arrived is kept for the next attempt at the same version.
        """
        asked = int(self._context.clock.now() * SECOND)
        try:
            facts = await self._context.origin.facts(job.path)
            if facts.size not in (None, job.entry.size):
                raise Changed(href(job.path), f"{facts.size} bytes, {job.entry.size} were listed")
        except OriginError as error:
            self._refused(job, error)
            return True
        young = facts.mtime is not None and not facts.mtime.over(asked)
        if young or not _is_named(facts) or (facts.size or 0) > self._context.mirror.limits.file_size:
            return False  # in the second of its own Last-Modified a name may stand for two versions
        if is_medium(facts.size or 0) and not _in_ranges(facts):
            return False  # little is gained by a chain
        for _ in range(MIXED):
            growing = await self._context.store.beginnings.grow(
                job.path, facts.size or 0, version_named(facts) or ""
            )
            try:
                return await self._fetched(job, facts, growing)
            except Mixed:
                await self._context.store.beginnings.ungrow(growing)
        return False

    async def _fetched(self, job: Job, facts: Facts, growing: Growing) -> bool:
        """The same, with what is here of it."""
        arriving, mirror = self._context.claims.arriving, self._context.mirror.name
        arriving.begin(mirror, growing)
        try:
            proof = await self._arrived(job, facts, growing)
            staged = await growing.finish(self._held(job, facts, growing))
        except BaseException as error:
            arriving.end(mirror, job.path)
            if isinstance(error, Mixed):
                raise
            await growing.keep()
            if isinstance(error, Foreign):
                return False
            if isinstance(error, Changed):
                return await self._changed(job, error)
            if not isinstance(error, OriginError):
                raise
            self._refused(job, error)
            return True
        if proof not in (None, staged.held.sha256):
            arriving.end(mirror, job.path)
            await self._context.store.beginnings.ungrow(growing)
            return False
        growing.sha256 = staged.held.sha256
        await self._publish(job, staged)
        return True

    async def _changed(self, job: Job, error: Changed) -> bool:
        """False where the origin still has what was listed: several servers may name one version in several
        ways. Of what is not that any more nothing needs to be sent: its directory is listed again."""
        try:
            facts = await self._context.origin.facts(job.path)
        except OriginError as gone:
            self._refused(job, gone)
            return True
        if facts.size in (None, job.entry.size):
            return False
        self._refused(job, error)
        return True

    async def _arrived(self, job: Job, facts: Facts, growing: Growing) -> bytes | None:
        """Wait until all of it is here; the SHA-256 that it must have, where that is known."""
        if _in_ranges(facts):
            await Gathering(self._context, job, growing).run()
            return None
        return await Chain(self._context, job, growing).run()

    def _held(self, job: Job, facts: Facts, growing: Growing) -> Held:
        """Its source is the origin only where all of it came from there."""
        held, sources = self._record(job, facts, facts.size or 0, None), growing.sources()
        others = [site for site, _ in sources.most_common() if site != "origin"]
        if not others:
            return held
        return replace(held, source=others[0], verified=f"parts from {', '.join(sorted(sources))}")


def _in_ranges(facts: Facts) -> bool:
    """Whether the origin sends parts of a version that it names beyond doubt."""
    return facts.ranges and is_proof(version_named(facts) or "")


def _is_named(facts: Facts) -> bool:
    """Whether there is a name for its version that siblings can be told."""
    tag = version_named(facts) or ""
    return facts.size is not None and 0 < len(tag) <= MAX_TAG and tag.isascii() and tag.isprintable()
