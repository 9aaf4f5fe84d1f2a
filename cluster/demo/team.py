"""The sites of one team: their daemons, and passes that are asked for on their control sockets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cluster import control
from cluster.demo.folder import Place
from cluster.demo.processes import end_with_parent
from cluster.errors import SidewaysError, StoreError

READY = 60.0  # s until every daemon answers
PEERS = 10.0  # s until every site has heard of the others

Result = dict[str, Any]
Event = Callable[[dict[str, Any]], None]


class Team:
    """Sites that were started together. They know each other, or know of nobody."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = places
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, place: Place) -> None:
        """Start a site's daemon, once the one before has ended."""
        if place.name in self._daemons:
            self._daemons[place.name].wait()
        with open(place.log, "ab") as log:
            self._daemons[place.name] = subprocess.Popen(
                [sys.executable, "-m", "cluster", "-C", place.root, "run", "--site", place.name],
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,  # noqa: PLW1509  # it only makes system calls
            )

    def kill(self, place: Place) -> None:
        """SIGKILL: the site's daemon has no time for anything."""
        self._daemons[place.name].kill()

    def stop(self) -> None:
        """End every daemon."""
        for process in self._daemons.values():
            if process.poll() is None:
                process.terminate()
        for process in self._daemons.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def ready(self) -> None:
        """Wait until every daemon answers, and until they have heard of each other. Raises StoreError."""
        now = asyncio.get_running_loop().time
        until = now() + READY
        for place in self.places:
            while await control.ask(place.state, {"command": "siblings"}) is None:
                if self._daemons[place.name].poll() is not None or now() > until:
                    raise StoreError(f"{place.name}: its daemon did not start:\n{_end(place.log)}")
                await asyncio.sleep(0.05)
        until = now() + PEERS
        for place in self.places:
            while now() < until:
                answer = await control.ask(place.state, {"command": "siblings"})
                if answer is not None and all(answer["siblings"].values()):
                    break
                await asyncio.sleep(0.1)

    async def run_pass(self, place: Place, mirror: str, event: Event, *, dies: bool = False) -> Result | None:
        """One pass at one site. None where the site, which `dies`, has ended meanwhile.

        Raises StoreError with the end of the daemon's log where a pass could not be made."""
        try:
            result = await control.ask(place.state, {"command": "pass", "mirror": mirror, "path": ""}, event)
        except SidewaysError as error:
            if dies:
                return None
            raise StoreError(f"{place.name}: {error}\n{_end(place.log)}") from error
        if result is None and not dies:
            raise StoreError(f"{place.name}: its daemon has ended\n{_end(place.log)}")
        return result


def _end(log: str) -> str:
    with open(log, encoding="utf-8", errors="replace") as opened:
        return opened.read()[-2000:]
