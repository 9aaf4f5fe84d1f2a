"""The daemon of one site: the composition root. It builds every part, joins them, runs and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cluster.config.expiry import ending
from cluster.config.load import load_tolerant
from cluster.control import ControlServer, Message, Tell
from cluster.daemon.approval import approve_here
from cluster.daemon.following import Following
from cluster.daemon.notify import notify, watchdog
from cluster.daemon.parts import require_folders
from cluster.daemon.runner import Runner, without_paused
from cluster.daemon.sharing import Sharing
from cluster.engine.clock import SystemClock
from cluster.errors import ConfigError, ConfigErrors, PeerError, SidewaysError, StoreError, UsageError
from cluster.model import Facts, Mirror, OriginSpec, Site, from_href, shown
from cluster.origin.open import Shared, open_origin
from cluster.peer import keys
from cluster.peer.claims import Claims
from cluster.peer.https import HttpsSibling
from cluster.peer.server import PeerServer
from cluster.peer.siblings import Siblings
from cluster.plan.due import History
from cluster.plan.shares import Standing
from cluster.scheduler.hooks import Ended
from cluster.scheduler.loop import Scheduler, history_of, local_zone
from cluster.scheduler.pauses import Pauses
from cluster.store.mirror import Reader
from cluster.store.summary import MirrorSummary
from cluster.web.received import together
from cluster.web.server import WebServer
from cluster.web.view import Progress, SiblingSummary

log = logging.getLogger("sideways.daemon")

STOP_PATIENCE = 9.0  # s from the signal to the end (the unit's limit is above it)
ASK_SIBLINGS = 10.0  # s between questions for the cluster page
SETTLE = 0.5  # s of quiet in the configuration folder before it is read again


async def run_site(folder: str, name: str) -> int:
    """Run until SIGTERM or SIGINT. Raises ConfigErrors, UsageError or StoreError before anything started."""
    daemon = Daemon(folder, name)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload_soon)
    await daemon.start()
    notify("READY=1")
    log.info("%s: running", name)
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
        self._folder, self._name = folder, name
        self._cluster, self._bad = load_tolerant(folder, name)
        self.stopping = asyncio.Event()
        self._reload = asyncio.Event()
        self._claims, self._shared, self._clock = Claims(), Shared(), SystemClock()
        self._sharing = Sharing(name, self._shared.hosts, time.monotonic)
        self._told: dict[str, SiblingSummary] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._config_problem: list[str] = []
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
        )
        self._control = ControlServer(
            self._site.state,
            {
                "pass": self._command_pass,
                "push": self._command_push,
                "pause": self._command_pause,
                "resume": self._command_resume,
                "approve": self._command_approve,
                "reload": self._command_reload,
                "siblings": self._command_siblings,
                "received": self._command_received,
                "budgets": self._command_budgets,
            },
        )

    @property
    def _site(self) -> Site:
        return self._cluster.sites[self._name]

    # -- life

    async def start(self) -> None:
        """Start every part; what started is stopped again when a later one cannot."""
        require_folders(self._site)
        self._say_bad()
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
            self._follow_config(),
            self._ask_siblings(),
            self._sharing.run(),
        ):
            self._spawn(work)

    async def _start_peer(self) -> None:
        if self._site.peer is None:
            return
        if not os.path.exists(keys.key_path(self._site.state)):
            log.warning("%s: no key yet: alone until `sideways keys --site %s`", self._name, self._name)
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
        if self._following is not None:
            await self._following.stop()
        parts = [part.stop() for part in (self._web, self._peer, self._siblings) if part is not None]
        for outcome in await asyncio.gather(*parts, return_exceptions=True):
            if isinstance(outcome, Exception):
                log.warning("%s: while stopping: %r", self._name, outcome)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=getattr(work, "__name__", "work"))
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
        if not mirror.origins:
            raise UsageError(f"{name}: every origin is paused")
        origin = open_origin(mirror.origins[0], mirror.limits, self._shared)
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
        finally:
            self._recorded(mirror)
            if self._following is not None:
                self._following.ended(mirror, scope, changed)
        return ended

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

    # -- commands of this site's operator

    async def _command_pass(self, request: Message, tell: Tell) -> Message:
        name, scope = self._asked(request)
        if request.get("dry"):
            return await self._runner.dry(name, scope, tell)
        self._not_paused(name)
        result = self._runner.watch(name, scope, tell)
        self._scheduler.wake(name, scope, "asked for on the command line", urgent=True, news=False)
        return await result

    async def _command_push(self, request: Message, _tell: Tell) -> Message:
        name, scope = self._asked(request)
        self._not_paused(name)
        self._scheduler.wake(name, scope, "push", urgent=True)
        return {"message": f"a pass over {shown(scope) or 'everything'} is due now"}

    async def _command_pause(self, request: Message, _tell: Tell) -> Message:
        name, _ = self._asked(request)
        if request.get("origin"):
            self._scheduler.pause_origin(str(request["origin"]), "operator")
            return {"message": f"{request['origin']} is not used until `resume`"}
        self._scheduler.pause(name, "operator")
        return {"message": "no pass begins until `resume`"}

    async def _command_resume(self, request: Message, _tell: Tell) -> Message:
        name, _ = self._asked(request)
        if request.get("origin"):
            self._scheduler.resume_origin(str(request["origin"]))
            return {"message": f"{request['origin']} is used again"}
        self._scheduler.resume(name)
        return {"message": "passes begin again"}

    async def _command_approve(self, request: Message, _tell: Tell) -> Message:
        name, _ = self._asked(request)
        answer = await approve_here(self._site, self._definition(name), str(request.get("hash")))
        self._recorded(name)
        return answer

    async def _command_siblings(self, _request: Message, _tell: Tell) -> Message:
        known = self._siblings.all.values() if self._siblings is not None else ()
        return {"siblings": {sibling.name: sibling.up for sibling in known}}

    async def _command_received(self, _request: Message, _tell: Tell) -> Message:
        """What each sibling said last that it received."""
        now = time.time()
        return {"sites": {name: together(told.mirrors.values(), now) for name, told in self._told.items()}}

    async def _command_budgets(self, _request: Message, _tell: Tell) -> Message:
        return {"budgets": [asdict(standing) for standing in self.budgets()]}

    async def _command_reload(self, _request: Message, _tell: Tell) -> Message:
        await self._read_config()
        return {"message": "; ".join(self.config_errors()) or "the configuration is read again"}

    def _not_paused(self, name: str) -> None:
        """Raises StoreError where an operator's pause is in the way. What the descriptor pauses is the
        schedule; whoever asks for a pass has it."""
        if name in self._scheduler.pauses.mirrors:
            raise StoreError(f"{name}: paused; `sideways resume --site {self._name} {name}` first")
        if not self._scheduler.origins(name):
            raise StoreError(f"{name}: every origin of it is paused; `sideways resume --origin URL` first")

    def _asked(self, request: Message) -> tuple[str, bytes]:
        name = str(request.get("mirror"))
        if name not in {m.name for m in self._cluster.mirrors_of(self._name)}:
            raise UsageError(f"{name}: no such mirror at {self._name}" + self._why_not(name))
        return name, from_href(str(request.get("path") or ""))

    def _why_not(self, name: str) -> str:
        errors = self._bad.get(name)
        return f": {errors[0]}" if errors else ""

    # -- configuration

    def reload_soon(self) -> None:
        """Read the configuration again (SIGHUP)."""
        self._reload.set()

    async def _follow_config(self) -> None:
        """Read the configuration again after every change of it; what is invalid keeps its old definition."""
        watching = asyncio.create_task(self._watch_config(), name="configuration")
        try:
            while True:
                await self._reload.wait()
                self._reload.clear()
                await asyncio.sleep(SETTLE)
                await self._read_config()
        finally:
            watching.cancel()

    async def _watch_config(self) -> None:
        from watchfiles import awatch

        folders = [os.path.join(self._folder, name) for name in ("config", "sites")]
        async for _ in awatch(*folders, step=200):
            self._reload.set()

    async def _read_config(self) -> None:
        notify("RELOADING=1")
        try:
            cluster, self._bad = load_tolerant(self._folder, self._name, self._cluster.mirrors)
        except (ConfigErrors, UsageError) as error:
            self._config_problem = str(error).splitlines()
            for line in self._config_problem:
                log.error("%s (the old definition stays)", line)  # noqa: TRY400  # its line says all
            notify("READY=1")
            return
        self._config_problem = []
        self._cluster = cluster
        self._say_bad()
        self._scheduler.reload(cluster.mirrors_of(self._name))
        try:
            if self._siblings is not None:
                await self._siblings.reload(cluster)
            if self._peer is not None:
                await self._peer.reload(cluster)
            if self._following is not None:
                self._following.reload(cluster)
            self._sharing.configure(cluster)
        except ConfigError as error:
            self._config_problem = [str(error)]
            log.error("%s", error)  # noqa: TRY400  # its line says all
        if self._web is not None:
            await self._web.reload(cluster)
        notify("READY=1")
        count = len(cluster.mirrors_of(self._name))
        log.info("%s: configuration read: %d mirror%s", self._name, count, "" if count == 1 else "s")

    def _say_bad(self) -> None:
        for errors in self._bad.values():
            for error in errors:
                log.error("%s", error)
        for line in ending(self._cluster.sites.values(), time.time()):
            log.warning("%s", line)

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
            return "" if self._scheduler.origins(mirror) else "pause of every origin"
        except UsageError:
            return ""

    def config_errors(self) -> Sequence[str]:
        return [*self._config_problem, *(str(e) for errors in self._bad.values() for e in errors)]

    def siblings(self) -> Mapping[str, SiblingSummary]:
        return self._told

    def budgets(self) -> Sequence[Standing]:
        return self._sharing.standings()

    def wake(self, mirror: str) -> None:
        self._scheduler.wake(mirror, reason="webhook")

    async def _ask_siblings(self) -> None:
        """Keep what the cluster page says of the others."""
        while True:
            if self._siblings is not None:
                everybody = list(self._siblings.all.values())
                told = await asyncio.gather(*(self._summary(sibling) for sibling in everybody))
                self._told = {s.name: t for s, t in zip(everybody, told, strict=True)}
            await asyncio.sleep(ASK_SIBLINGS if self._told else 1.0)

    async def _summary(self, sibling: HttpsSibling) -> SiblingSummary:
        before = self._told.get(sibling.name)
        told, mirrors = (before.told, before.mirrors) if before else (None, {})
        if not sibling.up:
            return SiblingSummary(False, told, mirrors, sibling.trouble)
        try:
            carried = await sibling.mirrors()
        except PeerError as error:
            return SiblingSummary(False, told, mirrors, error.message)
        summaries = {
            one.mirror: MirrorSummary(
                fresh=one.complete,
                files=one.files,
                bytes=one.bytes,
                outcome=one.outcome,
                ended=one.ended,
                origin_bytes=one.origin_bytes,
                sideways_bytes=one.sideways_bytes,
                errors=one.errors,
                held=one.held,
                received=one.received,
                days=one.days,
            )
            for one in carried
        }
        return SiblingSummary(True, time.time(), summaries)


async def _watch(spec: OriginSpec) -> AsyncIterator[set[bytes]]:
    from cluster.origin.watch import changes

    async for directories in changes(spec):
        yield directories
