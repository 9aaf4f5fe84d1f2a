"""Running passes for the schedule, and letting whoever asked for one watch it and have its result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.daemon.lists import list_held
from cluster.daemon.parts import Events, log_report, surroundings
from cluster.daemon.tracing import trace_pass
from cluster.engine.passes import run_pass
from cluster.errors import HookFailed, SidewaysError, StoreError
from cluster.model import Mirror, OriginSpec, Site
from cluster.origin.open import Shared
from cluster.peer.claims import Claims
from cluster.peer.client import Sibling
from cluster.peer.listings import Listings
from cluster.plan.due import answered
from cluster.scheduler.hooks import Ended
from cluster.web.view import Progress

Tell = Callable[[dict[str, object]], None]


@dataclass(slots=True)
class _Watcher:
    """Somebody who asked for a pass over `scope`."""

    scope: bytes
    tell: Tell
    result: asyncio.Future[dict[str, Any]]


@dataclass(slots=True)
class _Running:
    began: float
    events: Events
    watchers: list[_Watcher] = field(default_factory=list)


class Runner:
    """`definition` looks a mirror up as it is now, with its paused origins left out; `published` is told of
    every pass that fetched something from an origin, or deleted; `recorded` at once of every file;
    `reason` says why the pass of a mirror that runs began, `neighbours` whose files may be
    a mirror's as well."""

    def __init__(
        self,
        site: Site,
        shared: Shared,
        claims: Claims,
        siblings: Callable[[Mirror], Sequence[Sibling]],
        definition: Callable[[str], Mirror],
        published: Callable[[Mirror], None],
        recorded: Callable[[str], None],
        reason: Callable[[str], str],
        neighbours: Callable[[Mirror], Sequence[str]],
    ) -> None:
        self._site, self._reason = site, reason
        self.listings = Listings()
        self._around = surroundings(site, shared, claims, siblings, self.listings, neighbours)
        self._definition, self._published, self._recorded = definition, published, recorded
        self._running: dict[str, _Running] = {}
        self._waiting: dict[str, list[_Watcher]] = {}

    async def run(self, name: str, scope: bytes, news: float | None = None) -> Ended:
        """One pass, as the schedule starts it; `news`: see `Wake`."""
        mirror = self._definition(name)
        watchers = [w for w in self._waiting.get(name, ()) if answered(scope, w.scope)]
        self._waiting[name] = [w for w in self._waiting.get(name, ()) if w not in watchers]

        def tell(event: dict[str, object]) -> None:
            for watcher in watchers:
                watcher.tell(event)

        events = Events(name, tell, time.monotonic, self._recorded)
        running = _Running(time.time(), events, watchers)
        self._running[name] = running
        try:
            report = await run_pass(self._around, mirror, scope=scope, reporter=running.events, news=news)
        except BaseException as error:
            self._settle(watchers, error)
            raise
        finally:
            del self._running[name]
        log_report(report, scope)
        await trace_pass(self._site, mirror, scope, report, self._reason(name))
        await list_held(self._site, mirror, scope, report)
        for watcher in watchers:
            if not watcher.result.done():
                watcher.result.set_result(report.as_json())
        changed = report.files.origin + report.files.deleted
        if changed:
            self._published(mirror)
        return Ended(report.outcome, changed + report.files.sideways)

    async def dry(self, name: str, scope: bytes, tell: Tell) -> dict[str, Any]:
        """What a pass would do now. Runs beside one that works."""
        mirror = self._definition(name)
        report = await run_pass(
            self._around, mirror, scope=scope, dry=True, reporter=Events(name, tell, time.monotonic)
        )
        return report.as_json()

    def watch(self, name: str, scope: bytes, tell: Tell) -> asyncio.Future[dict[str, Any]]:
        """The result of the next pass that begins and covers `scope`. Cancel it to lose interest."""
        watcher = _Watcher(scope, tell, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(name, []).append(watcher)
        return watcher.result

    def stopped(self, name: str, scope: bytes) -> None:
        """A hook let a pass over `scope` not begin: whoever waits for it is told."""
        watchers = [w for w in self._waiting.get(name, ()) if answered(scope, w.scope)]
        self._waiting[name] = [w for w in self._waiting.get(name, ()) if w not in watchers]
        self._settle(watchers, HookFailed(name))

    def stop(self) -> None:
        """Nobody's pass will begin any more."""
        for watchers in self._waiting.values():
            self._settle(watchers, StoreError("the site's daemon is being stopped"))
        self._waiting.clear()

    def progress(self) -> dict[str, Progress]:
        """The passes under way."""
        return {name: _progress(running) for name, running in self._running.items()}

    @staticmethod
    def _settle(watchers: Sequence[_Watcher], error: BaseException) -> None:
        for watcher in watchers:
            if watcher.result.done():
                continue
            if isinstance(error, SidewaysError):
                watcher.result.set_exception(error)
            else:
                why = "interrupted" if isinstance(error, asyncio.CancelledError) else repr(error)
                watcher.result.set_exception(StoreError(f"the pass was cut off: {why}"))


def _progress(running: _Running) -> Progress:
    events = running.events
    return Progress(
        started=running.began,
        directories=events.directories,
        origin_bytes=events.origin_bytes,
        sideways_bytes=events.sideways_bytes,
        failed=events.failures,
        current=events.current,
    )


def without_paused(mirror: Mirror, origins: tuple[OriginSpec, ...]) -> Mirror:
    """The mirror with those origins that may be used now."""
    return replace(mirror, origins=origins) if origins != mirror.origins else mirror
