"""One large file of an origin that sends no parts of it: one site fetches it, and each of the others reads
what has arrived at the one before it, while it grows.

Who reads from whom is decided by `cluster.plan.chain`, by what is known of the siblings
(`cluster.engine.beside`), and who is waited for must bring something. The one that fetches says so by a claim
on the whole file which names its version. Where it is lost, the next one asks the origin from the start,
compares what arrives with what it has, and the others go on from what they have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from cluster.engine.beside import Beside, Known
from cluster.engine.context import IN_LINE, Context, Job, renewal
from cluster.engine.gathering import CONTEST, TICK, Foreign, pause_after
from cluster.errors import Changed, OriginError, PeerError, Unreachable
from cluster.model import href
from cluster.origin.base import Want
from cluster.peer.pace import LEAST
from cluster.plan import steal
from cluster.plan.chain import Link, before, is_proof, turn, version_named, waited_for
from cluster.plan.order import owner, yields
from cluster.plan.steal import TURN, Piece, SeenClaim, gives_way
from cluster.store.growing import Growing, Part

ASK = 0.3  # s between two questions to a sibling that nothing is read from just now
STRETCHES = 4  # in which a range is read from a sibling: it may turn out to be slow
AT_ONCE = 2  # of them
FAILURES = 3  # of one sibling, after which nothing more of this file is read from it
IN_VAIN = 2 * IN_LINE  # s, and the patience, that one is waited for without `LEAST`, whatever it says it does

log = logging.getLogger("sideways.pass")


class Mixed(Exception):
    """What the origin sends is not what is here under the same name."""


@dataclass(slots=True)
class _Reading:
    """A stretch on its way from a sibling."""

    site: str
    task: asyncio.Task[None]


class Chain:
    """See the module. `run` it once; what is in `growing` then is for the caller to keep, whatever came."""

    def __init__(self, context: Context, job: Job, growing: Growing) -> None:
        self._context, self._job, self._growing = context, job, growing
        self._piece = Piece(growing.path, growing.size)
        self._changed = asyncio.Event()
        siblings = context.carrying(job.path, job.entry)
        self._beside = Beside(context, growing, (), self._changed.set, siblings, every=ASK)
        self._reading: dict[int, _Reading] = {}  # by where the stretch begins
        self._failures: dict[str, int] = {}
        self._came = 0  # bytes from siblings
        self._waited: tuple[str | None, float, int] = None, 0.0, 0  # for whom, since when, what had come
        self._in_vain: dict[str, float] = {}  # s for which each brought nothing worth the wait
        self._fetching: asyncio.Task[None] | None = None  # from the origin
        self._received = 0  # bytes of that answer
        self._fetched = False  # one answer of the origin brought all of it, or agrees with what is here
        self._headless: float | None = None  # since when (monotonic) nobody fetches it
        self._renewed = (-1, 0.0)  # the claim: bytes from the origin by then, when next (monotonic)
        self._failed: BaseException | None = None

    async def run(self) -> bytes | None:
        """Return when all of it is here: the SHA-256 that it must have, or None where its version needs no
        further proof. Raises OriginError (Changed where it is not the version that was asked for), Foreign,
        Mixed, StoreError.
        """
        try:
            await self._beside.ask_all()
            while not self._complete() or not self._proven():
                if self._failed is not None:
                    raise self._failed
                await self._round()
            return None if self._fetched or is_proof(self._growing.etag) else self._told()
        finally:
            tasks = [self._fetching, *(one.task for one in self._reading.values())]
            tasks += [known.asking for known in self._beside.all.values()]
            running = [task for task in tasks if task is not None]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _complete(self) -> bool:
        return self._growing.has(0, self._growing.size)

    def _proven(self) -> bool:
        if self._fetching is not None:
            return False  # what is here is being compared
        return self._fetched or is_proof(self._growing.etag) or self._told() is not None

    def _told(self) -> bytes | None:
        """The SHA-256 of the whole file, as somebody says who knows it."""
        return next((known.sha256 for known in self._beside.up() if known.sha256 is not None), None)

    async def _round(self) -> None:
        self._changed.clear()
        now = self._context.clock.monotonic()
        self._beside.listen(now)
        if (other := self._beside.foreign(self._job.entry, now)) is not None:
            raise Foreign(other)
        heads = self._heads(now)
        if self._fetching is not None:
            self._waited = None, now, self._came
            self._go_on_or_give_way(self._fetching, heads, now)
        else:
            self._follow(heads, now)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK):  # wait_for forgets a cancellation that meets the event (3.11)
                await self._changed.wait()

    # -- deciding

    def _heads(self, now: float, *, answered: bool = False) -> list[SeenClaim]:
        """Who else fetches all of it from the origin: as their lines say, or (`answered`) they said last."""
        patience, size = self._context.mirror.sideways.patience, self._growing.size
        claims = self._beside.answered(now) if answered else self._beside.claims(now)
        return [claim for claim in claims if claim.covers(0, size) and now - claim.seen < patience]

    def _links(self) -> dict[str, Link]:
        there = [known for known in self._beside.up() if known.there]
        return {known.name: Link(known.name, known.front, known.grew) for known in there}

    def _follow(self, heads: list[SeenClaim], now: float) -> None:
        """Read from the one before us, or become the head."""
        own, growing, links = self._context.site, self._growing, self._links()
        first = owner(growing.path, {head.site for head in heads}) if heads else None
        front = growing.prefix(0, growing.size)
        patience = self._context.mirror.sideways.patience
        link = before(growing.path, own, front, links, first, size=growing.size, now=now, patience=patience)
        if first is not None or link is not None:
            self._headless = None
        self._reckon(waited_for(front, link, first, links), now)
        if link is not None and link.front > front:
            self._read(link, front)
        elif link is not None:
            self._beside.ask_soon(self._beside.all[link.site], now, TICK)
        elif first is None:
            self._headless = now if self._headless is None else self._headless
            if now - self._headless >= TURN * turn(growing.path, own, links):
                self._claim()
                self._fetching = asyncio.create_task(self._head(), name="head of a chain")

    def _reckon(self, site: str | None, now: float) -> None:
        """Charge whom we waited for until `now` with what did not come, and from now on `site`; the same one
        still while that is nobody, else who shows itself now and then would be waited for ever."""
        before, since, came = self._waited
        self._waited = site or before, now, self._came
        if before is None:
            return
        vain = self._in_vain.get(before, 0.0) + now - since - (self._came - came) / LEAST
        self._in_vain[before] = max(0.0, vain)
        if vain >= IN_VAIN + self._context.mirror.sideways.patience and not self._beside.all[before].useless:
            self._beside.all[before].useless = True
            shown = href(self._growing.path)
            log.warning("%s: nothing of %s comes from it, and it is not waited for any more", before, shown)

    def _read(self, link: Link, front: int) -> None:
        """Keep some stretches of what `link` has and we lack on their way."""
        for reading in self._reading.values():
            if reading.site != link.site:  # it was skipped
                reading.task.cancel()
        growing, length = self._growing, steal.RANGE // STRETCHES
        for start in range(front - front % length, link.front, length):
            if len(self._reading) >= AT_ONCE:
                break
            stop = min(start + length, link.front)
            at = start + growing.prefix(start, stop)
            if start not in self._reading and at < stop:
                known = self._beside.all[link.site]
                task = asyncio.create_task(self._stretch(start, known, at, stop), name=f"stretch at {at}")
                self._reading[start] = _Reading(link.site, task)

    def _go_on_or_give_way(self, fetching: asyncio.Task[None], heads: list[SeenClaim], now: float) -> None:
        """Of two sites that fetch it from the origin, one stops. While anything arrives from there, what
        waits for its turn is on its way as well."""
        own, patience = self._context.site, self._context.mirror.sideways.patience
        if any(gives_way(self._piece, own, self._received, h, now=now, patience=patience) for h in heads):
            fetching.cancel()
        arrived = self._context.origin.traffic.bytes
        if not self._received and arrived != self._renewed[0] and now >= self._renewed[1]:
            self._renewed = (arrived, now + renewal(patience))
            self._progress()

    # -- from the origin

    async def _head(self) -> None:
        try:
            if await self._uncontested():
                await self._all_of_it()
                self._fetched = True
        except Exception as error:  # noqa: BLE001  # whatever it was: `run` raises it
            self._failed = self._failed or error
        finally:
            self._fetching, self._received, self._headless = None, 0, None
            if not self._fetched:  # else the claim holds until it is published
                self._release()
            self._changed.set()

    async def _uncontested(self) -> bool:
        """Look again, now that everybody has heard of our claim."""
        if not self._beside.all:
            return True
        await self._context.clock.sleep(CONTEST)
        await self._beside.ask_all()
        own, path, now = self._context.site, self._growing.path, self._context.clock.monotonic()
        heads = [*self._heads(now), *self._heads(now, answered=True)]
        return not any(head.received or yields(path, own, head.site) for head in heads)

    async def _all_of_it(self) -> None:
        tries, context = 0, self._context
        while True:
            try:
                await self._one_try()
            except OriginError as error:
                tries += 1
                await context.clock.sleep(pause_after(error, tries, context.mirror.limits.retries))
            else:
                return

    async def _one_try(self) -> None:
        growing, self._received = self._growing, 0
        want = Want(growing.size, limit=self._context.mirror.limits.file_size)
        async with self._context.origin.read(growing.path, want) as body:
            if body.start or version_named(body.facts) != growing.etag:
                raise Changed(href(growing.path), "another version than the one that was asked about")
            part = growing.part(0, growing.size, "origin")
            saving: list[asyncio.Task[None]] = []
            saved = 0
            try:
                async for chunk in body.chunks():
                    await self._take(part, chunk)
                    if part.received - saved >= steal.RANGE:
                        saved = part.received
                        saving.append(asyncio.create_task(growing.save(), name="note what is here"))
            finally:
                complete = await part.done()
                await asyncio.gather(*saving)
            if part.differs:
                raise Mixed(growing.path)
            if not complete:
                raise Unreachable(href(growing.path), "less arrived than was asked for")

    async def _take(self, part: Part, chunk: bytes) -> None:
        if not await part.write(chunk):
            if part.differs:
                raise Mixed(self._growing.path)
            raise Changed(href(self._growing.path), "more arrives than was asked for")
        self._received = part.received
        self._progress()

    # -- from a sibling

    async def _stretch(self, start: int, known: Known, at: int, stop: int) -> None:
        context, growing, sibling = self._context, self._growing, known.sibling
        context.report.requests_sideways += 1
        try:
            named = context.mirror.name, growing.path, growing.size, growing.etag
            async with sibling.part(*named, at, stop) as body:
                part = growing.part(at, stop, sibling.name, body.hashes)
                async for chunk in body.chunks():
                    context.report.bytes_sideways += len(chunk)
                    self._came += len(chunk)
                    if not await part.write(chunk):
                        break
                if not await part.done():
                    known.useless = True
                    sibling.deceived("blocks that do not have their hashes")
        except PeerError:
            known.front, known.there = 0, False
            self._failures[known.name] = self._failures.get(known.name, 0) + 1
            known.useless = self._failures[known.name] >= FAILURES
        except Exception as error:  # noqa: BLE001  # whatever it was: `run` raises it
            self._failed = self._failed or error
        finally:
            del self._reading[start]
            self._changed.set()

    # -- the claim

    def _claim(self) -> None:
        context, visit, entry = self._context, self._job.visit, self._job.entry
        now, mirror = context.clock.monotonic(), context.mirror.name
        context.claims.claim(mirror, visit.path, entry.name, entry.row, now, etag=self._growing.etag)
        context.claims.start(mirror, visit.path, entry.name, now)

    def _progress(self) -> None:
        context, job = self._context, self._job
        now = context.clock.monotonic()
        context.claims.progress(context.mirror.name, job.visit.path, job.entry.name, self._received, now)

    def _release(self) -> None:
        job = self._job
        self._context.claims.release(self._context.mirror.name, job.visit.path, job.entry.name)

    def __repr__(self) -> str:
        role = "head" if self._fetching is not None else f"{len(self._reading)} stretches on their way"
        return f"<Chain {self._growing!r} {role}>"
