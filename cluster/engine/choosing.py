"""Which of a mirror's origins a pass compares with: the first in turn that lists, and may be followed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from cluster.engine.clock import Clock
from cluster.engine.context import RULES
from cluster.engine.listings import First, Relays
from cluster.engine.report import Report
from cluster.errors import Changed, OriginError, Vanished
from cluster.model import Kind, Mirror, OriginSpec, split
from cluster.origin.base import ByList, Origin
from cluster.plan.listed import Known
from cluster.plan.origins import BEHIND_AT_MOST, Health, Judgement, Sampled, judged, turn
from cluster.store.mirror import MirrorStore

TRACES = b"project/trace"  # Debian's: who copied the archive, and when
LATELY, SPREAD = 6, 6  # directories that are laid side by side: changed last, and from all over the tree

log = logging.getLogger("sideways.pass")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The origin of a pass, what it listed where the pass begins, and where that is."""

    spec: OriginSpec
    origin: Origin
    first: First
    scope: bytes


class Choosing:
    """Asks the origins of one mirror for one pass, and remembers how they did."""

    def __init__(
        self,
        mirror: Mirror,
        store: MirrorStore,
        clock: Clock,
        report: Report,
        *,
        open_origin: Callable[[OriginSpec, Mirror], Origin],
        relays: Relays,
        closed: Callable[[Origin], None],
        news: float | None = None,
    ) -> None:
        self._mirror, self._store, self._clock, self._report = mirror, store, clock, report
        self._open, self._relays, self._closed, self._news = open_origin, relays, closed, news
        self._known: dict[str, Health] = {}
        self._last: str | None = None  # of the newest pass

    async def specs(self) -> list[OriginSpec]:
        """Those that may be asked, in the order of their turns."""
        self._known, self._last = await self._store.origins(), await self._store.last_origin()
        usable = {spec.url: spec for spec in self._mirror.references if not spec.paused}
        return [usable[url] for url in turn(list(usable), self._known, self._clock.now())]

    def settled(self, origin: Origin) -> bool:
        """Whether the newest pass was over this very origin, or there was none."""
        return self._last is None or self._last == origin.url

    def foreign(self, spec: OriginSpec) -> bool:
        """Whether records may be there that came from another origin."""
        compared = {url for url, health in self._known.items() if health.compared}
        return bool(compared - {spec.url}) or len(self._mirror.references) > 1

    async def find(self, scope: bytes) -> Chosen | None:
        """The first that lists the directory where this pass begins, and may be followed. What the others
        said is a failure of this pass only where none may."""
        failed: list[str] = []
        specs = await self.specs()
        for spec in specs:
            async with self._opened(spec) as origin:
                if isinstance(origin, ByList):
                    origin.begin(await self._all_known())
                try:
                    first, begins = await self._listed(origin, scope)
                    self._unless_empty(first, held=await self._holds_anything(begins), several=len(specs) > 1)
                    refusal = "" if self.settled(origin) else await self._refusal(spec, origin)
                except OriginError as error:
                    failed.append(f"{spec.url}: {error}")
                    await self.failed(spec, str(error))
                    continue
                if refusal:
                    failed.append(f"{spec.url}: {refusal}")
                    continue
                self._report.notes += [*self._put_last(spec), *failed]
                for line in failed:
                    log.warning("%s: %s", self._mirror.name, line)
                self._report.origin = origin.url
                return Chosen(spec, origin, first, begins)
        for line in failed:
            self._report.failed(line)
        return None

    async def _all_known(self) -> Known:
        compared = await self._store.compared_at(b"")
        return Known(compared, self._news, (await self._store.totals()).files)

    @asynccontextmanager
    async def _opened(self, spec: OriginSpec) -> AsyncIterator[Origin]:
        """Closed again, unless the block is left by returning it."""
        origin = self._open(spec, self._mirror)
        kept = True
        try:
            yield origin
            kept = self._report.origin == origin.url
        except BaseException:
            kept = False
            raise
        finally:
            if not kept:
                self._closed(origin)
                await origin.close()

    async def _listed(self, origin: Origin, scope: bytes) -> tuple[First, bytes]:
        while True:
            try:
                # A list of everything would have told that token, and this has to be the origin's own word.
                known = b"" if isinstance(origin, ByList) else (await self._store.token(scope))[:-RULES]
                return await self._relays.first(origin, scope, known), scope
            except Vanished:
                if not scope:
                    raise
                scope = split(scope)[0]

    async def _holds_anything(self, directory: bytes) -> int:
        return 0 if directory else (await self._store.totals()).files

    def _unless_empty(self, first: First, *, held: int, several: bool) -> None:
        """An empty tree is a lost disk; where another origin can be asked, that one is. Raises Vanished."""
        if several and held and not first.listing.entries and not first.listing.same:
            raise Vanished("/", f"lists nothing, {held} files are held here")

    def _put_last(self, chosen: OriginSpec) -> list[str]:
        """Why those that are preferred were not even asked."""
        told = []
        for spec in self._mirror.references:
            if spec.url == chosen.url:
                break
            health = self._known.get(spec.url, Health())
            if not spec.paused and health.until(self._clock.now()) > self._clock.now():
                told.append(f"{spec.url}: not asked, since it {health.why}")
        return told

    # -- may it take over?

    async def _refusal(self, spec: OriginSpec, origin: Origin) -> str:
        """Why this origin may not take over from the one that the mirror was compared with last; empty where
        it may. Raises OriginError."""
        now = int(self._clock.now())
        found = await self._judged(origin)
        health = self._known.get(spec.url, Health())
        if not found.behind and not found.strange:
            if health.behind is not None:
                await self._note(spec, replace(health, behind=None))
            self._report.notes.append(f"{origin.url}: takes over from {self._last}")
            return ""
        since = now if health.behind is None else health.behind
        why = found.strange or f"behind what is held here from {self._last}: {found.behind}"
        if now - since >= BEHIND_AT_MOST:
            self._report.notes.append(f"{origin.url}: followed after {(now - since) // 3600} h though {why}")
            return ""
        await self._note(spec, replace(health, behind=since, error=why))
        return f"not followed: {why}"

    async def _judged(self, origin: Origin) -> Judgement:
        traces = await self._side_by_side(origin, TRACES)
        if traces is not None:
            both = {entry.name for entry in traces.listed} & traces.held.keys()
            held = {name: one for name, one in traces.held.items() if name in both}
            listed = [entry for entry in traces.listed if entry.name in both]
            anchors = judged([Sampled(TRACES, held, listed)])
            if anchors.behind:
                return anchors
        samples = [
            sampled
            for path in await self._store.sample_directories(LATELY, SPREAD)
            if path != TRACES and (sampled := await self._side_by_side(origin, path)) is not None
        ]
        return judged(samples)

    async def _side_by_side(self, origin: Origin, path: bytes) -> Sampled | None:
        """None where one of the two has no such directory: nothing there, or a file or a link."""
        if path == TRACES and not await self._is_directory(path):
            return None
        try:
            listing = await origin.listing(path)
        except (Vanished, Changed):
            return None
        names = {entry.name for entry in listing.entries}
        held = {name: one for name, one in (await self._store.directory(path)).items() if not one.private}
        rejected = {one.name for one in listing.rejected} - names
        return Sampled(path, {n: one for n, one in held.items() if n not in rejected}, listing.entries)

    async def _is_directory(self, path: bytes) -> bool:
        held = await self._store.held(path)
        return held is not None and held.kind is Kind.DIRECTORY

    # -- what is remembered

    async def failed(self, spec: OriginSpec, error: str) -> None:
        """It did not list, or fell silent in the middle of a pass."""
        health = self._known.get(spec.url, Health())
        now = int(self._clock.now())
        await self._note(spec, replace(health, failures=health.failures + 1, failed=now, error=error))

    async def ended(self, spec: OriginSpec, sick: str) -> None:
        """A pass came to its end with it."""
        if sick:
            await self.failed(spec, sick)
        elif self._known.get(spec.url, Health()) != Health(compared=True):
            await self._note(spec, Health(compared=True))

    async def _note(self, spec: OriginSpec, health: Health) -> None:
        self._known[spec.url] = health
        await self._store.note_origins({spec.url: health})
