"""What the operator of a site may ask its daemon on the control socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from cluster.control import Command, Message, Tell
from cluster.daemon.approval import approve_here, approve_state_here
from cluster.daemon.configuration import Configuration
from cluster.daemon.runner import Runner
from cluster.errors import StoreError, UsageError
from cluster.model import Mirror, from_href, shown
from cluster.peer.siblings import Siblings
from cluster.scheduler.downstream import Standing
from cluster.scheduler.loop import Scheduler
from cluster.web.received import together
from cluster.web.view import Progress, SiteView


class Commands:
    """`view` is what may be known of the site now; `definition` gives a mirror as it is to be fetched now,
    `recorded` is told that a journal has grown, `standings` are those of a mirror's downstreams."""

    def __init__(
        self,
        name: str,
        configuration: Configuration,
        runner: Runner,
        scheduler: Scheduler,
        view: SiteView,
        siblings: Callable[[], Siblings | None],
        definition: Callable[[str], Mirror],
        recorded: Callable[[str], None],
        standings: Callable[[str], Sequence[Standing]],
    ) -> None:
        self._standings = standings
        self._name, self._configuration = name, configuration
        self._runner, self._scheduler, self._view = runner, scheduler, view
        self._known = siblings
        self._definition, self._recorded = definition, recorded

    @property
    def by_name(self) -> dict[str, Command]:
        """All of them, for the control socket."""
        return {
            "valid": self._valid,
            "pass": self._pass,
            "push": self._push,
            "pause": self._pause,
            "resume": self._resume,
            "approve": self._approve,
            "approve_state": self._approve_state,
            "siblings": self._siblings,
            "received": self._received,
            "budgets": self._budgets,
            "now": self._now,
            "reload": self._reload,
        }

    async def _valid(self, request: Message, _tell: Tell) -> Message:
        """Whether a command need not read the configuration itself (`cluster.cli.near`)."""
        if str(request.get("site")) != self._name:
            return {"valid": False}
        names = await self._configuration.valid(str(request.get("folder")))
        return {"valid": str(request.get("mirror")) in names}

    async def _pass(self, request: Message, tell: Tell) -> Message:
        name, scope = self._asked(request)
        if request.get("dry"):
            return await self._runner.dry(name, scope, tell)
        self._not_paused(name)
        result = self._runner.watch(name, scope, tell)
        self._scheduler.wake(name, scope, "asked for on the command line", urgent=True, news=False)
        return await result

    async def _push(self, request: Message, _tell: Tell) -> Message:
        """An operator's push does not wait for the hours of the mirror; an upstream's does."""
        name, scope = self._asked(request)
        self._not_paused(name)
        words = str(request.get("words") or "")
        self._scheduler.wake(name, scope, f"push: {words}" if words else "push", urgent=not words)
        if words:
            return {"message": "a pass over everything is due"}
        return {"message": f"a pass over {shown(scope) or 'everything'} is due now"}

    async def _pause(self, request: Message, _tell: Tell) -> Message:
        name, _ = self._asked(request)
        if request.get("origin"):
            self._scheduler.pause_origin(str(request["origin"]), "operator")
            return {"message": f"{request['origin']} is not used until `resume`"}
        self._scheduler.pause(name, "operator")
        return {"message": "no pass begins until `resume`"}

    async def _resume(self, request: Message, _tell: Tell) -> Message:
        name, _ = self._asked(request)
        if request.get("origin"):
            self._scheduler.resume_origin(str(request["origin"]))
            return {"message": f"{request['origin']} is used again"}
        self._scheduler.resume(name)
        return {"message": "passes begin again"}

    async def _approve(self, request: Message, _tell: Tell) -> Message:
        name, _ = self._asked(request)
        site, plan = self._configuration.site, str(request.get("hash"))
        answer = await approve_here(site, self._definition(name), plan)
        self._recorded(name)
        return answer

    async def _approve_state(self, request: Message, _tell: Tell) -> Message:
        name, _ = self._asked(request)
        older = bytes.fromhex(str(request.get("sha256")))
        answer = await approve_state_here(self._configuration.site, self._definition(name), older)
        self._scheduler.wake(name, b"", "an older state was approved", urgent=True, news=False)
        return answer

    async def _siblings(self, _request: Message, _tell: Tell) -> Message:
        siblings = self._known()
        known = siblings.all.values() if siblings is not None else ()
        return {"siblings": {sibling.name: sibling.up for sibling in known}}

    async def _received(self, _request: Message, _tell: Tell) -> Message:
        """What each sibling said last that it received; nothing of one that has not said anything yet."""
        now = time.time()
        told = {name: one.mirrors.values() for name, one in self._view.siblings().items() if one.mirrors}
        return {"sites": {name: together(lines, now) for name, lines in told.items()}}

    async def _budgets(self, _request: Message, _tell: Tell) -> Message:
        return {"budgets": [asdict(standing) for standing in self._view.budgets()]}

    async def _now(self, _request: Message, _tell: Tell) -> Message:
        """What the site does with each mirror, and when it passes over it next."""
        running = self._view.running()
        names = [mirror.name for mirror in self._configuration.cluster.mirrors_of(self._name)]
        return {
            "mirrors": {
                name: {
                    "running": _told(running[name]) if name in running else None,
                    "next": self._view.next_run(name),
                    "paused": self._view.paused(name),
                    "downstreams": [asdict(one) for one in self._standings(name)],
                }
                for name in names
            }
        }

    async def _reload(self, _request: Message, _tell: Tell) -> Message:
        await self._configuration.read()
        return {"message": "; ".join(self._configuration.errors()) or "the configuration is read again"}

    def _not_paused(self, name: str) -> None:
        """Raises StoreError where an operator's pause is in the way. What the descriptor pauses is the
        schedule; whoever asks for a pass has it."""
        if name in self._scheduler.pauses.mirrors:
            raise StoreError(f"{name}: paused; `sideways resume --site {self._name} {name}` first")
        if not self._scheduler.origins(name):
            raise StoreError(
                f"{name}: every origin of it is paused; `sideways resume --site {self._name} {name} "
                f"--origin URL` first"
            )

    def _asked(self, request: Message) -> tuple[str, bytes]:
        name = str(request.get("mirror"))
        if name not in {m.name for m in self._configuration.cluster.mirrors_of(self._name)}:
            raise UsageError(f"{name}: no such mirror at {self._name}" + self._why_not(name))
        return name, from_href(str(request.get("path") or ""))

    def _why_not(self, name: str) -> str:
        errors = self._configuration.bad.get(name)
        return f": {errors[0]}" if errors else ""


def _told(progress: Progress) -> Message:
    return {**asdict(progress), "current": shown(progress.current)}
