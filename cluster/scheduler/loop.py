"""The loop that starts passes: it sleeps until something is due or something happened, and asks again.

What is due is decided by `plan.due`; what a pass does is given in. Nothing here knows how to mirror.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cluster.engine.clock import Clock
from cluster.errors import SidewaysError, UsageError
from cluster.model import Mirror, OriginSpec, Role, Site, checked_path, shown
from cluster.plan.due import (
    SCOPES,
    History,
    Situation,
    Start,
    Wake,
    answered,
    due,
    first_wake,
    newest,
    next_start,
)
from cluster.scheduler.hooks import Ended, around
from cluster.scheduler.pauses import Pause, Pauses
from cluster.scheduler.probes import Ask, Watch, follow, poll
from cluster.store.mirror import PassRecord

log = logging.getLogger("sideways.scheduler")

LONGEST_SLEEP = 60.0  # s: a clock that is set forward, or a machine that slept, is noticed within this

RunPass = Callable[[str, bytes, float | None], Awaitable[Ended]]  # mirror, scope, `Wake.news`


@dataclass(slots=True)
class _Carried:
    """One mirror of this site, with everything the loop knows of it."""

    mirror: Mirror
    history: History
    wakes: dict[bytes, Wake] = field(default_factory=dict)
    running: Start | None = None
    answering: dict[bytes, Wake] = field(default_factory=dict)  # by the pass that runs
    task: asyncio.Task[None] | None = None
    sources: list[asyncio.Task[None]] = field(default_factory=list)


class Scheduler:
    """See the module. `run` runs until `stop`; everything else may be called at any time from its loop.

    `run_pass` does one pass and returns how it ended; it is cancelled by `stop`, by a pause, and when its
    mirror goes. `ask` tells the facts of an origin's file for probes, `watch` follows local sources.
    """

    def __init__(
        self,
        site: Site,
        mirrors: Iterable[Mirror],
        run_pass: RunPass,
        *,
        clock: Clock,
        pauses: Pauses,
        zone: tzinfo = UTC,
        histories: Mapping[str, History] | None = None,
        ask: Ask | None = None,
        watch: Watch | None = None,
        stopped: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._site, self._run_pass = site, run_pass
        self._clock, self._pauses, self._zone = clock, pauses, zone
        self._ask, self._watch, self._stopped = ask, watch, stopped
        self._histories = dict(histories or {})
        self._carried: dict[str, _Carried] = {}
        self._leaving: set[asyncio.Task[None]] = set()  # cancelled, and not over yet
        self._happened = asyncio.Event()
        self._stopping = self._started = False
        self.reload(mirrors)

    def __repr__(self) -> str:
        woken = sum(len(carried.wakes) for carried in self._carried.values())
        return f"<Scheduler {len(self._carried)} mirrors, {len(self.running)} running, {woken} wake-ups>"

    # -- the loop

    async def run(self) -> None:
        """Start what is due until `stop`; then end what runs."""
        self._started = True
        for carried in self._carried.values():
            self._listen(carried)
        try:
            while not self._stopping:
                self._happened.clear()
                now = self._clock.now()
                answer = due(now, self._site.name, self._zone, self._situations())
                for start in answer.starts[: max(0, self._site.passes - self._busy())]:
                    self._begin(start)
                await self._sleep(answer.again, now)
        finally:
            tasks = set(self._leaving)
            for carried in self._carried.values():
                tasks.update(carried.sources, {carried.task} if carried.task else ())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """`run` returns once everything has ended."""
        self._stopping = True
        self._happened.set()

    def reload(self, mirrors: Iterable[Mirror]) -> None:
        """Take the mirrors as they are defined now. A pass that runs goes on as it began; the pass of a
        mirror that is gone is cancelled. A new mirror's schedule holds from now on."""
        defined = {mirror.name: mirror for mirror in mirrors}
        for name in self._carried.keys() - defined.keys():
            gone = self._carried.pop(name)
            self._quiet(gone)
            self._interrupt(gone)
        for name, mirror in defined.items():
            carried = self._carried.get(name)
            if carried is None:
                history = self._histories.pop(name, None) or History(since=self._clock.now())
                carried = self._carried[name] = _Carried(mirror, history)
            elif carried.mirror == mirror:
                continue
            else:
                self._quiet(carried)
                carried.mirror = mirror
            if self._started:
                self._listen(carried)
        self._happened.set()

    # -- what others ask for

    def wake(
        self, mirror: str, path: bytes = b"", reason: str = "", *, urgent: bool = False, news: bool = True
    ) -> None:
        """Compare a directory, or the whole mirror, as soon as its hours and a free slot allow; `urgent`,
        which is for operators, does not wait for the hours. During a pass: at its end. `news`: something has
        changed at the origin by now.

        Raises UsageError for a mirror that this site does not carry, UnsafeName for a path that is none."""
        carried = self._find(mirror)
        checked_path(path)
        known = carried.wakes.get(path)
        now = self._clock.now()
        if known is None or (urgent and not known.urgent):
            known = Wake(now, reason, urgent, known.news if known is not None else None)
        carried.wakes[path] = replace(known, news=now) if news else known
        if len(carried.wakes) > SCOPES:
            carried.wakes = dict([first_wake(carried.wakes)])
        self._happened.set()

    def pause(self, mirror: str, reason: str = "") -> None:
        """No pass begins until `resume`; the one that runs is interrupted, and goes on from there afterwards.
        Survives a restart. Raises UsageError, StoreError."""
        carried = self._find(mirror)
        self._pauses.mirrors.setdefault(mirror, Pause(self._clock.now(), reason))
        self._pauses.save()
        self._interrupt(carried)
        self._happened.set()

    def resume(self, mirror: str) -> None:
        """Undo `pause`. Raises UsageError for a mirror that is not paused by it, StoreError."""
        if self._pauses.mirrors.pop(mirror, None) is None:
            raise UsageError(f"{mirror}: not paused")
        self._pauses.save()
        self._happened.set()

    def pause_origin(self, url: str, reason: str = "") -> None:
        """No pass begins to use this origin until `resume_origin`. Raises UsageError for one that no mirror
        here has, StoreError."""
        if not any(spec.url == url for c in self._carried.values() for spec in c.mirror.origins):
            raise UsageError(f"{url}: not an origin of any mirror here")
        self._pauses.origins.setdefault(url, Pause(self._clock.now(), reason))
        self._pauses.save()
        self._happened.set()

    def resume_origin(self, url: str) -> None:
        """Undo `pause_origin`. Raises UsageError, StoreError."""
        if self._pauses.origins.pop(url, None) is None:
            raise UsageError(f"{url}: not paused")
        self._pauses.save()
        self._happened.set()

    # -- what others may know

    @property
    def running(self) -> dict[str, Start]:
        """The passes that run now."""
        return {name: c.running for name, c in self._carried.items() if c.running is not None}

    @property
    def pauses(self) -> Pauses:
        return self._pauses

    def origins(self, mirror: str) -> tuple[OriginSpec, ...]:
        """The mirror's origins that are not paused, in order; none where none is left that tells facts.
        Raises UsageError."""
        specs = self._find(mirror).mirror.origins
        usable = tuple(s for s in specs if not s.paused and s.url not in self._pauses.origins)
        return usable if any(s.role is Role.REFERENCE for s in usable) else ()

    def next(self, mirror: str) -> Start | None:
        """The next pass as things stand; None where only a wake-up or an operator brings one."""
        carried = self._find(mirror)
        situation = self._situation(carried)
        return next_start(self._clock.now(), mirror, self._site.name, self._zone, situation)

    # -- inside

    def _find(self, mirror: str) -> _Carried:
        carried = self._carried.get(mirror)
        if carried is None:
            raise UsageError(f"{mirror}: no such mirror at {self._site.name}")
        return carried

    def _situations(self) -> dict[str, Situation]:
        return {name: self._situation(carried) for name, carried in self._carried.items()}

    def _situation(self, carried: _Carried) -> Situation:
        name = carried.mirror.name
        paused = name in self._pauses.mirrors or not self.origins(name)
        # A pass that was cancelled still holds its store until it has ended.
        running = carried.running is not None or any(task.get_name() == name for task in self._leaving)
        return Situation(carried.mirror.schedule, carried.history, carried.wakes, running, paused)

    def _busy(self) -> int:
        return len(self.running) + len(self._leaving)

    async def _sleep(self, until: float | None, now: float) -> None:
        seconds = LONGEST_SLEEP if until is None else min(LONGEST_SLEEP, max(0.0, until - now))
        waits = (
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._happened.wait()),
        )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _begin(self, start: Start) -> None:
        carried = self._carried[start.mirror]
        carried.answering = {p: wake for p, wake in carried.wakes.items() if answered(start.scope, p)}
        for path in carried.answering:
            del carried.wakes[path]
        carried.running = start
        carried.task = asyncio.create_task(self._pass(carried, start), name=start.mirror)

    async def _pass(self, carried: _Carried, start: Start) -> None:
        mirror, began = carried.mirror, self._clock.now()
        log.info("%s: pass of %s begins: %s", mirror.name, shown(start.scope) or "everything", start.reason)
        worked = False

        async def work() -> Ended:
            nonlocal worked
            worked = True
            return await self._work(start, newest(carried.answering))

        try:
            ended = await around(mirror, self._site, start.scope, work)
        finally:
            if carried.running is start:
                carried.running = carried.task = None
            self._happened.set()
        log.info("%s: pass ended: %s", mirror.name, ended.outcome)
        if not worked and self._stopped is not None:
            self._stopped(mirror.name, start.scope)
        if not start.scope:
            failures = carried.history.failures + 1 if ended.outcome == "failed" else 0
            carried.history = History(carried.history.since, began, self._clock.now(), failures)

    async def _work(self, start: Start, news: float | None) -> Ended:
        try:
            return await self._run_pass(start.mirror, start.scope, news)
        except SidewaysError as error:
            log.error("%s: pass failed: %s", start.mirror, error)  # noqa: TRY400  its line says all
        except Exception:
            log.exception("%s: pass failed by a mistake of this program", start.mirror)
        return Ended("failed")

    def _interrupt(self, carried: _Carried) -> None:
        task = carried.task
        if task is None:
            return
        carried.running = carried.task = None
        carried.wakes = carried.answering | carried.wakes
        task.cancel()
        self._leaving.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._leaving.discard(task)
        self._happened.set()

    def _listen(self, carried: _Carried) -> None:
        """Begin to follow what wakes a mirror by itself."""
        mirror = carried.mirror

        def wake(path: bytes, reason: str) -> None:
            self.wake(mirror.name, path, reason)

        if self._ask is not None:
            for probe in mirror.schedule.probes:
                polling = poll(
                    mirror.name,
                    self._site.name,
                    probe,
                    self._ask,
                    wake,
                    self._clock,
                    lambda: self._active(mirror),
                )
                carried.sources.append(asyncio.create_task(polling))
        if self._watch is not None:
            for spec in mirror.origins:
                if spec.watch:
                    following = follow(mirror.name, spec, self._watch, wake, self._clock)
                    carried.sources.append(asyncio.create_task(following))

    def _active(self, mirror: Mirror) -> bool:
        """Whether anything may be asked of a mirror's origins."""
        return not (mirror.schedule.paused or self._situation(self._carried[mirror.name]).paused)

    def _quiet(self, carried: _Carried) -> None:
        for source in carried.sources:
            source.cancel()
        carried.sources.clear()


def history_of(records: Sequence[PassRecord], now: float) -> History:
    """What the schedule goes on from after a restart; `records` newest first. A pass that was cut off is due
    at once, to go on where it was; one over a single directory does not move the schedule.
    """
    records = [record for record in records if not record.scope]
    if not records or records[0].outcome is None:
        return History(since=now)
    failures = 0
    for record in records:
        if record.outcome != "failed":
            break
        failures += 1
    last = records[0]
    return History(float(last.started), float(last.started), last.ended and float(last.ended), failures)


def local_zone() -> tzinfo:
    """The zone in which operators write hours: `TZ` where it names one, else the machine's, else UTC."""
    try:
        if name := os.environ.get("TZ", "").lstrip(":"):
            return ZoneInfo(name)
        with open("/etc/localtime", "rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return UTC
