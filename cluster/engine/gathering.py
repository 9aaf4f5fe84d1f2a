"""One large file, piece by piece: some from the origin, the others from siblings that fetch it too.

Who fetches which piece from the origin is decided by `cluster.plan.steal`, by what is known of the siblings
(`cluster.engine.beside`). A piece that one of them has is read from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from cluster.engine.beside import Beside, Known
from cluster.engine.context import Context, Job, renewal
from cluster.errors import Changed, OriginError, PeerError, Unreachable
from cluster.model import href
from cluster.origin.base import Want
from cluster.plan import steal
from cluster.plan.order import owner, weight
from cluster.plan.steal import (
    Backlog,
    Piece,
    Wait,
    gives_way,
    next_piece,
    pieces,
    verified,
)
from cluster.store.growing import Growing

ORIGIN_AT_ONCE = 2  # pieces, of one file or of two: what is on its way is lost with the site
SIDEWAYS_AT_ONCE = 3
UNCOPIED = 2  # pieces that are here or on their way here, and at no sibling, until another one is begun
MEDIUM = 2  # times as many, where a piece is a block
BEGINNINGS = 4  # in so many steps a piece is read that is still on its way to a sibling
TICK = 0.1  # s between two looks at what siblings say on their lines
CONTEST = 0.05  # s after which a claim on a piece of somebody else's share is looked at again
MAX_PAUSE = 60.0  # s: an origin that asks for more than this is left alone until the next pass


def pause_after(error: OriginError, tries: int, most: int) -> float:
    """Seconds until the next of at most `most` tries: exponential, with full jitter, or what the origin says.
    Raises `error` where there is to be none."""
    if error.permanent or tries >= most:
        raise error
    pause = error.retry_after if error.retry_after is not None else random.uniform(0, 2.0**tries)
    if pause > MAX_PAUSE:
        raise error
    return pause


class Foreign(Exception):
    """A sibling that ranks before us fetches what is listed alike, and is another version as the origin named
    it there: of an origin that is several servers, each may have a name of its own for one version. Two sites
    would then fetch all of it."""


@dataclass(slots=True)
class _Fetching:
    """One piece on its way here. `site` is where from, "" the origin; `at` the byte that comes next."""

    piece: Piece
    site: str
    at: int
    opened: bool = False  # the origin began to send it
    beginning: bool = False  # only what a sibling has of it so far
    task: asyncio.Task[None] | None = None


class Gathering:
    """See the module. `run` it once; what is in `growing` then is for the caller to keep, whatever came."""

    def __init__(self, context: Context, job: Job, growing: Growing) -> None:
        self._context, self._job, self._growing = context, job, growing
        self._pieces = pieces(job.path, growing.size, ranges=True)
        self._fetching: dict[int, _Fetching] = {}
        self._owners: tuple[tuple[str, ...], dict[int, str]] = ((), {})
        self._changed = asyncio.Event()
        siblings = context.carrying(job.path, job.entry)
        self._beside = Beside(context, growing, self._pieces, self._changed.set, siblings)
        self._beside_others: set[int] = set()  # pieces that we fetch although a slow sibling does
        self._pace = 0.0  # bytes/s of the last piece that came from the origin
        self._spread = context.claims.arriving.spread(context.mirror.name)
        self._failed: BaseException | None = None
        self._renewed = (-1, 0.0)  # claims: bytes from the origin by then, when next (monotonic)
        more = MEDIUM if steal.is_medium(growing.size) else 1
        self._uncopied = more * UNCOPIED
        self._at_once = min(more * ORIGIN_AT_ONCE, max(1, context.mirror.limits.connections))

    async def run(self) -> None:
        """Return when every piece is here. Raises OriginError (Changed where it is not the version that was
        asked for), Foreign, StoreError."""
        try:
            await self._beside.ask_all()
            while not self._growing.has(0, self._growing.size):
                if self._failed is not None:
                    raise self._failed
                await self._round()
        finally:
            tasks = [f.task for f in self._fetching.values()] + [k.asking for k in self._beside.all.values()]
            running = [task for task in tasks if task is not None]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _round(self) -> None:
        self._changed.clear()
        now = self._context.clock.monotonic()
        self._beside.listen(now)
        if (other := self._beside.foreign(self._job.entry, now)) is not None:
            raise Foreign(other)
        self._give_way(now)
        self._take_sideways()
        self._take_from_origin(now)
        self._renew(now)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK):  # wait_for forgets a cancellation that meets the event (3.11)
                await self._changed.wait()

    # -- deciding

    def _missing(self) -> Iterable[Piece]:
        """What is neither here nor on its way here, in order."""
        for piece in self._pieces:
            if piece.start not in self._fetching and not self._growing.has(piece.start, piece.stop):
                yield piece

    def _take_sideways(self) -> None:
        """What fewest siblings have comes first; each site has an order of its own beyond that."""
        free = SIDEWAYS_AT_ONCE - sum(f.site != "" for f in self._fetching.values())
        own = self._context.site
        choice = [(self._beside.holders(piece.start), piece) for piece in self._missing()] if free > 0 else []
        wanted = sorted(
            ((len(holders), weight(own, piece.key), piece, holders) for holders, piece in choice if holders),
            key=lambda one: one[:2],
        )
        for _, _, piece, holders in wanted[:free]:
            busy = [f.site for f in self._fetching.values()]
            known = min(holders, key=lambda k: (busy.count(k.name), weight(k.name, piece.key)))
            self._begin(piece, known.name, partial(self._from_sibling, known=known, stop=piece.stop))
        if free > len(wanted):
            self._take_beginning()

    def _take_beginning(self) -> None:
        """What is still on its way to a sibling is read as far as it is there, a quarter of a piece at least:
        little is then left to exchange when the origin has sent all, and little is lost with a site that
        dies. One at a time, so that a slow sibling keeps no place from others.
        """
        if any(fetching.beginning for fetching in self._fetching.values()):
            return
        for piece in self._missing():
            at = piece.start + verified(self._growing.prefix(piece.start, piece.stop))
            enough = min(at + steal.RANGE // BEGINNINGS, piece.stop)
            there = [one for one in self._beside.reaching(at, piece.stop) if one[1] >= enough]
            if there and piece.start not in self._beside_others:
                known, stop = min(there, key=lambda one: weight(one[0].name, piece.key))
                self._begin(piece, known.name, partial(self._from_sibling, known=known, stop=stop))
                self._fetching[piece.start].beginning = True
                return

    def _take_from_origin(self, now: float) -> None:
        own = self._context.site
        sites = (own, *sorted(known.name for known in self._beside.up()))
        claims, held = self._beside.claims(now), self._beside.perhaps_held()
        files = self._context.claims.arriving.count(self._context.mirror.name)
        at_once = max(1, self._at_once // max(1, files))
        while (busy := sum(f.site == "" for f in self._fetching.values())) < at_once:
            if busy + self._spread.alone(now) >= self._uncopied:
                return
            shares: dict[str, list[Piece]] = {site: [] for site in sites}
            for piece in self._missing():
                if piece.start not in held:
                    shares[self._owner(piece, sites)].append(piece)
            mine = shares.pop(own)
            paces = {site: self._beside.all[site].pace for site in shares}
            decision = next_piece(
                own,
                mine,
                {site: reversed(share) for site, share in shares.items()},
                {s: Backlog(sum(p.size for p in share), paces[s]) for s, share in shares.items()},
                lambda path: claims,
                sites=sites,
                now=now,
                patience=self._context.mirror.sideways.patience,
                prefix=lambda piece: self._growing.prefix(piece.start, piece.stop),
            )
            if decision is None or isinstance(decision, Wait):
                self._hurry(sites, now)
                return
            self._claim(decision.piece)
            stolen = decision.owner != own
            self._begin(decision.piece, "", partial(self._from_origin, contested=stolen))

    def _hurry(self, sites: tuple[str, ...], now: float) -> None:
        """Nothing is left but what others fetch: what one of them will be long busy with is fetched here as
        well."""
        if self._pace <= 0 or any(f.site == "" for f in self._fetching.values()):
            return
        own, missing = self._context.site, {piece.start: piece for piece in self._missing()}
        missing |= {start: f.piece for start, f in self._fetching.items() if f.beginning}
        claimed = Counter(claim.start for claim in self._beside.claims(now))
        for claimant, start, lasts in self._beside.lasting(now):
            piece = missing.get(start)
            if piece is None or claimed[start] > 1:
                continue
            ours = (piece.size - verified(self._growing.prefix(start, piece.stop))) / self._pace
            if steal.heir(piece, own, lasts, ours, claimant, sites):
                self._beside_others.add(start)
                if (beginning := self._fetching.get(start)) is not None and beginning.task is not None:
                    beginning.task.cancel()  # its turn comes with the next look
                    return
                self._claim(piece)
                self._begin(piece, "", partial(self._from_origin, contested=False))
                return

    def _owner(self, piece: Piece, sites: tuple[str, ...]) -> str:
        if self._owners[0] != sites:
            self._owners = (sites, {p.start: owner(p.key, sites) for p in self._pieces})
        return self._owners[1][piece.start]

    def _give_way(self, now: float) -> None:
        """Of two sites that fetch one piece from the origin, one stops. And nobody reads from a site that has
        turned out to be too slow."""
        without = self._context.claims.without(self._context.mirror.name)
        for fetching in self._fetching.values():
            slow = fetching.site in without
            if fetching.task is not None and (slow or (not fetching.site and self._outranked(fetching, now))):
                fetching.task.cancel()

    def _outranked(self, fetching: _Fetching, now: float) -> bool:
        """Whether we stop because somebody else fetches the same. Of two sites the one goes on that ranks
        higher for this range: its owner, where it is one of them. What we began because the other is slow
        goes on."""
        if fetching.piece.start in self._beside_others:
            return False
        piece, patience = fetching.piece, self._context.mirror.sideways.patience
        ranked, received = replace(piece, path=piece.key), fetching.at - piece.start
        return any(
            gives_way(ranked, self._context.site, received, rival, now=now, patience=patience)
            for rival in self._beside.claims(now)
            if rival.touches(piece)
        )

    # -- fetching

    def _begin(self, piece: Piece, site: str, fetch: Callable[[_Fetching], Awaitable[None]]) -> None:
        start = piece.start + verified(self._growing.prefix(piece.start, piece.stop))
        fetching = self._fetching[piece.start] = _Fetching(piece, site, start)
        fetching.task = asyncio.create_task(self._ending(fetching, fetch), name=f"piece at {piece.start}")

    async def _ending(self, fetching: _Fetching, fetch: Callable[[_Fetching], Awaitable[None]]) -> None:
        try:
            await fetch(fetching)
        except Exception as error:  # noqa: BLE001  # whatever it was: `run` raises it
            self._failed = self._failed or error
        finally:
            del self._fetching[fetching.piece.start]
            if fetching.site == "":
                self._release(fetching.piece)
            self._changed.set()

    async def _from_origin(self, fetching: _Fetching, *, contested: bool) -> None:
        context, tries = self._context, 0
        if contested and not await self._uncontested(fetching):
            return
        while True:
            try:
                with context.ranged():
                    await self._one_try(fetching)
            except OriginError as error:
                tries += 1
                await context.clock.sleep(pause_after(error, tries, context.mirror.limits.retries))
            else:
                return

    def _is_elsewhere(self, fetching: _Fetching) -> bool:
        """Whether a sibling has it, or is well ahead with it, after we have waited for our turn."""
        held = self._beside.holders(fetching.piece.start)
        return bool(held) or self._outranked(fetching, self._context.clock.monotonic())

    async def _uncontested(self, fetching: _Fetching) -> bool:
        """Look again at a piece of somebody else's share, now that everybody has heard of our claim."""
        await self._context.clock.sleep(CONTEST)
        await self._beside.ask_all()
        return not self._is_elsewhere(fetching)

    async def _one_try(self, fetching: _Fetching) -> None:
        growing, stop = self._growing, fetching.piece.stop
        start = fetching.piece.start + verified(growing.prefix(fetching.piece.start, stop))
        want = Want(growing.size, start, stop, growing.etag, self._context.mirror.limits.file_size)
        async with self._context.origin.read(growing.path, want) as body:
            fetching.opened = True
            if self._is_elsewhere(fetching):
                return
            if body.start != start:
                raise Changed(href(growing.path), "the origin does not send the part that was asked for")
            part, began = growing.part(start, stop, "origin"), self._context.clock.monotonic()
            try:
                async for chunk in body.chunks():
                    if not await part.write(chunk):
                        raise Changed(href(growing.path), "more arrives than was asked for")
                    fetching.at = part.received
                    self._progress(fetching)
            finally:
                complete = await part.done()
            if not complete:
                raise Unreachable(href(growing.path), "less arrived than was asked for")
            self._spread.came(growing.path, fetching.piece.start, stop, self._context.clock.monotonic())
            self._pace = (stop - start) / max(self._context.clock.monotonic() - began, 1e-6)

    async def _from_sibling(self, fetching: _Fetching, known: Known, stop: int) -> None:
        context, growing, sibling = self._context, self._growing, known.sibling
        start = fetching.at
        context.report.requests_sideways += 1
        try:
            async with sibling.part(
                context.mirror.name, growing.path, growing.size, growing.etag, start, stop
            ) as body:
                part = growing.part(start, stop, sibling.name, body.hashes)
                async for chunk in body.chunks():
                    context.report.bytes_sideways += len(chunk)
                    if not await part.write(chunk):
                        break
                    fetching.at = part.received
                if not await part.done():
                    known.useless = True
                    sibling.deceived("blocks that do not have their hashes")
        except PeerError:
            known.starts -= {fetching.piece.start}
            known.runs = ()

    # -- claims

    def _renew(self, now: float) -> None:
        """While anything arrives from the origin, what waits for its turn there is on its way as well."""
        arrived = self._context.origin.traffic.bytes
        if arrived != self._renewed[0] and now >= self._renewed[1]:
            self._renewed = (arrived, now + renewal(self._context.mirror.sideways.patience))
            for fetching in self._fetching.values():
                if fetching.site == "" and not fetching.opened:
                    self._progress(fetching)

    def _claim(self, piece: Piece) -> None:
        context, visit, entry = self._context, self._job.visit, self._job.entry
        now, mirror = context.clock.monotonic(), context.mirror.name
        first, end = piece.start, piece.stop
        context.claims.claim(
            mirror, visit.path, entry.name, entry.row, now, first=first, end=end, etag=self._growing.etag
        )
        context.claims.start(mirror, visit.path, entry.name, now, first=first)

    def _progress(self, fetching: _Fetching) -> None:
        context, job, first = self._context, self._job, fetching.piece.start
        context.claims.progress(
            context.mirror.name,
            job.visit.path,
            job.entry.name,
            fetching.at - first,
            context.clock.monotonic(),
            first=first,
        )

    def _release(self, piece: Piece) -> None:
        job = self._job
        self._context.claims.release(
            self._context.mirror.name, job.visit.path, job.entry.name, first=piece.start
        )

    def __repr__(self) -> str:
        return f"<Gathering {self._growing!r} {len(self._fetching)} pieces on their way>"
