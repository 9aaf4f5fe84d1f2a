"""The daemon of one site: the composition root. It builds every part, joins them, runs and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any

from cluster.control import ControlServer
from cluster.daemon.commands import Commands
from cluster.daemon.configuration import Configuration
from cluster.daemon.following import Following
from cluster.daemon.neighbours import Neighbours
from cluster.daemon.notify import notify, watchdog
from cluster.daemon.parts import require_folders
from cluster.daemon.runner import Runner, without_paused
from cluster.daemon.sharing import Sharing
from cluster.engine.clock import SystemClock
from cluster.errors import PeerError, SidewaysError, StoreError, UsageError
from cluster.model import Cluster, Facts, Mirror, OriginSpec, Site
from cluster.origin.open import Shared, open_origin
from cluster.peer import keys
from cluster.peer.claims import Claims
from cluster.peer.https import HttpsSibling
from cluster.peer.server import PeerServer
from cluster.peer.siblings import Siblings
from cluster.plan.due import History
from cluster.plan.shares import Standing
from cluster.scheduler.downstream import Downstreams
from cluster.scheduler.hooks import Ended
from cluster.scheduler.loop import Scheduler, history_of, local_zone
from cluster.scheduler.pauses import Pauses
from cluster.store.mirror import Reader
from cluster.web.server import WebServer
from cluster.web.view import Progress, SiblingSummary

log = logging.getLogger("sideways.daemon")

STOP_PATIENCE = 9.0  # s from the signal to the end (the unit's limit is above it)


async def run_site(folder: str, name: str) -> int:
    """Run until SIGTERM or SIGINT. Raises ConfigErrors, UsageError or StoreError before anything started."""
    daemon = Daemon(folder, name)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload_soon)
    await daemon.start()
    notify("READY=1")
    log.info("%s: running: %s", name, daemon.open_to())
    try:
        await daemon.stopping.wait()
    finally:
        notify("STOPPING=1")
        log.info("%s: stopping", name)
        try:
            await asyncio.wait_for(daemon.stop(), STOP_PATIENCE)
        except TimeoutError:
            log.warning("%s: not everything ended within %.0f s", name, STOP_PATIENCE)
    return 0


class Daemon:
    """One site. It implements the `SiteView` that the pages show."""

    def __init__(self, folder: str, name: str) -> None:
        self._name = name
        self._configuration = Configuration(folder, name, self._take)
        self.stopping = asyncio.Event()
        self._claims, self._shared, self._clock = Claims(), Shared(), SystemClock()
        self._sharing = Sharing(name, self._shared.hosts, time.monotonic)
        self._neighbours = Neighbours(lambda: self._siblings)
        self._downstreams = Downstreams(self._site)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._siblings: Siblings | None = None
        self._peer: PeerServer | None = None
        self._following: Following | None = None
        self._web: WebServer | None = None
        self._runner = Runner(
            self._site,
            self._shared,
            self._claims,
            self._siblings_of,
            self._definition,
            self._published,
            self._recorded,
            self._reason,
            lambda mirror: self._cluster.stored_once(self._name, mirror),
        )

    @property
    def _cluster(self) -> Cluster:
        return self._configuration.cluster

    @property
    def _site(self) -> Site:
        return self._configuration.site

    def open_to(self) -> str:
        """What it carries, and where it answers whom."""
        count = len(self._cluster.mirrors_of(self._name))
        ports = [f"users at {self._site.web}"] if self._web is not None else []
        ports += (
            [f"siblings at {self._site.peer.listen}"] if self._peer is not None and self._site.peer else []
        )
        return ", ".join([f"{count} mirror" + "s" * (count != 1), *(ports or ["no port is open"])])

    def reload_soon(self) -> None:
        """Read the configuration again (SIGHUP)."""
        self._configuration.reload_soon()

    # -- life

    async def start(self) -> None:
        """Start every part; what started is stopped again when a later one cannot."""
        require_folders(self._site)
        self._configuration.say_bad()
        self._scheduler = Scheduler(
            self._site,
            self._cluster.mirrors_of(self._name),
            self._pass,
            clock=self._clock,
            pauses=Pauses.load(os.path.join(self._site.state, "paused.json")),
            zone=local_zone(),
            histories=await self._histories(),
            ask=self._ask,
            watch=_watch,
            stopped=self._runner.stopped,
        )
        self._sharing.configure(self._cluster)
        self._control = ControlServer(self._site.state, self._commands().by_name)
        try:
            await self._control.start()
            await self._start_peer()
            if self._site.web is not None:
                self._web = WebServer(
                    self._site, self._cluster, open_reader=self._open_reader, view=self, clock=time.time
                )
                await self._web.start()
        except BaseException:
            await self.stop()
            raise
        for work in (
            self._schedule(),
            watchdog(),
            self._configuration.run(),
            self._neighbours.run(),
            self._sharing.run(),
        ):
            self._spawn(work)

    def _commands(self) -> Commands:
        return Commands(
            self._name,
            self._configuration,
            self._runner,
            self._scheduler,
            self,
            lambda: self._siblings,
            self._definition,
            self._recorded,
            self._downstreams.standings,
        )

    async def _start_peer(self) -> None:
        if self._site.peer is None:
            return
        if not os.path.exists(keys.key_path(self._site.state)):
            what = keys.remedy(self._site, self._site.state)
            log.warning("%s: no key, so it is alone; %s, then restart", self._name, what)
            return
        self._siblings = Siblings(self._site, self._cluster, time.monotonic)
        self._siblings.start()
        self._following = Following(
            self._site,
            self._cluster,
            self._siblings,
            self._claims,
            self._runner.listings,
            self._scheduler,
            self._open_reader,
            self._clock,
        )
        self._sharing.connect(self._following.lines, self._siblings)
        self._peer = PeerServer(
            self._site,
            self._cluster,
            claims=self._claims,
            open_reader=self._open_reader,
            wake=self._woken,
            clock=time.monotonic,
            seen=self._siblings.heard,
            lines=self._following.lines,
            listings=self._runner.listings,
        )
        try:
            await self._peer.start()
        except OSError as error:
            self._peer = self._following = None
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StoreError(
                f"{self._name}: peer: cannot listen on {self._site.peer.listen}: {reason}"
            ) from None
        self._following.start()

    async def stop(self) -> None:
        """End passes first (their batches finish), then the servers."""
        self._runner.stop()
        if hasattr(self, "_scheduler"):
            self._scheduler.stop()
        tasks = {task for task in self._tasks if not task.done()}
        for task in tasks:
            if task.get_name() != "schedule":
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._control.stop()
        await self._downstreams.stop()
        if self._following is not None:
            await self._following.stop()
        parts = [part.stop() for part in (self._web, self._peer, self._siblings) if part is not None]
        for outcome in await asyncio.gather(*parts, return_exceptions=True):
            if isinstance(outcome, Exception):
                log.warning("%s: while stopping: %r", self._name, outcome)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=getattr(work, "__qualname__", "work"))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: %s: %r", self._name, task.get_name(), error, exc_info=error)

    async def _schedule(self) -> None:
        asyncio.current_task().set_name("schedule")  # type: ignore[union-attr]
        await self._scheduler.run()

    async def _histories(self) -> dict[str, History]:
        found: dict[str, History] = {}
        for mirror in self._cluster.mirrors_of(self._name):
            try:
                reader = await self._open_reader(mirror.name)
            except StoreError:
                continue  # never begun
            try:
                found[mirror.name] = history_of(await reader.passes(10), time.time())
            finally:
                await reader.close()
        return found

    async def _take(self, cluster: Cluster) -> None:
        """Every part takes up another configuration. Raises ConfigError for what it cannot take up."""
        self._scheduler.reload(cluster.mirrors_of(self._name))
        try:
            if self._siblings is not None:
                await self._siblings.reload(cluster)
            if self._peer is not None:
                await self._peer.reload(cluster)
            if self._following is not None:
                self._following.reload(cluster)
            self._sharing.configure(cluster)
        finally:
            if self._web is not None:
                await self._web.reload(cluster)

    # -- what parts ask of each other

    def _definition(self, name: str) -> Mirror:
        mirror = self._cluster.mirrors.get(name)
        if mirror is None:
            raise UsageError(f"{name}: no such mirror at {self._name}")
        return without_paused(mirror, self._scheduler.origins(name))

    def _siblings_of(self, mirror: Mirror) -> Sequence[HttpsSibling]:
        return self._siblings.of(mirror) if self._siblings is not None else ()

    async def _open_reader(self, name: str) -> Reader:
        return await Reader.open(name, self._site)

    async def _ask(self, name: str, path: bytes) -> Facts:
        """What an origin says of one small file, for probes."""
        mirror = self._definition(name)
        if not mirror.references:
            raise UsageError(f"{name}: every origin is paused")
        origin = open_origin(mirror.references[0], mirror.limits, self._shared)
        try:
            return await origin.facts(path)
        finally:
            await origin.close()

    async def _pass(self, mirror: str, scope: bytes, news: float | None) -> Ended:
        """One pass, for the schedule; siblings are told of what it did."""
        changed: int | None = None
        try:
            ended = await self._runner.run(mirror, scope, news)
            changed = ended.changed
            if changed and (found := self._cluster.mirrors.get(mirror)) is not None:
                self._downstreams.tell(found)
        finally:
            self._recorded(mirror)
            if self._following is not None:
                self._following.ended(mirror, scope, changed)
        return ended

    def _reason(self, mirror: str) -> str:
        """Why the pass of this mirror that runs began."""
        start = self._scheduler.running.get(mirror)
        return "" if start is None else start.reason

    def _recorded(self, mirror: str) -> None:
        """The journal has grown: who follows it is told."""
        if self._following is not None:
            self._following.recorded(mirror)

    def _published(self, mirror: Mirror) -> None:
        """Something new came from the origin: the siblings that do not follow our journal are told."""
        for sibling in self._siblings_of(mirror):
            if sibling.up and (self._following is None or self._following.lines.to(sibling.name) is None):
                self._spawn(self._tell(sibling, mirror.name))

    async def _tell(self, sibling: HttpsSibling, mirror: str) -> None:
        with contextlib.suppress(PeerError):
            await sibling.wake(mirror)

    def _woken(self, site: str, mirror: str, path: bytes) -> None:
        """A sibling says that it published something new."""
        self._spawn(self._look_at(site, mirror, path))

    async def _look_at(self, site: str, mirror: str, path: bytes) -> None:
        """Start a pass, unless by the end of the one that runs we hold what the sibling holds: two digests
        tell. The word of a sibling starts a comparison with the origin and nothing else."""
        while mirror in self._scheduler.running:  # noqa: ASYNC110  # minutes, and nobody waits for it
            await asyncio.sleep(0.5)
        sibling = self._siblings.all.get(site) if self._siblings else None
        if sibling is None or mirror not in self._cluster.mirrors:
            return
        with contextlib.suppress(SidewaysError):
            theirs = {carried.mirror: carried.digest for carried in await sibling.mirrors()}
            reader = await self._open_reader(mirror)
            try:
                if theirs.get(mirror) is not None and await reader.digest(b"") == theirs[mirror]:
                    return
            finally:
                await reader.close()
        with contextlib.suppress(UsageError):
            self._scheduler.wake(mirror, path, f"{site} published something new")

    # -- what the pages show (SiteView)

    def running(self) -> Mapping[str, Progress]:
        return self._runner.progress()

    def next_run(self, mirror: str) -> float | None:
        try:
            start = self._scheduler.next(mirror)
        except UsageError:
            return None
        return start.since if start else None

    def paused(self, mirror: str) -> str:
        if mirror in self._scheduler.pauses.mirrors:
            return "operator"
        found = self._cluster.mirrors.get(mirror)
        if found is not None and found.schedule.paused:
            return "descriptor"
        try:
            return "" if self._scheduler.origins(mirror) else "every origin"
        except UsageError:
            return ""

    def config_errors(self) -> Sequence[str]:
        return self._configuration.errors()

    def siblings(self) -> Mapping[str, SiblingSummary]:
        return self._neighbours.told

    def budgets(self) -> Sequence[Standing]:
        return self._sharing.standings()

    def wake(self, mirror: str) -> None:
        self._scheduler.wake(mirror, reason="webhook")


async def _watch(spec: OriginSpec) -> AsyncIterator[set[bytes]]:
    from cluster.origin.watch import changes

    async for directories in changes(spec):
        yield directories
