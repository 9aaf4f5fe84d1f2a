"""The play in two acts: three sites mirror three trees; then one of them dies in the middle of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from cluster import control
from cluster.config.load import load
from cluster.demo import show
from cluster.demo.equal import differences
from cluster.demo.folder import Place, carried, check, copied
from cluster.demo.origin import Origin
from cluster.demo.processes import end_with_parent
from cluster.errors import SidewaysError, StoreError
from cluster.model import Cluster

READY = 30.0  # s until every daemon answers
PEERS = 10.0  # s until every site has heard of the others
BEFORE_DEATH = 0.4  # s of the second round, until a site is killed


async def run_demo(source: str, *, once: bool, keep: str | None) -> int:
    """Play it. Returns 0 only if all trees equal the origin at the end.

    Raises SidewaysError when it cannot be played here.
    """
    check(source)
    folder = keep or tempfile.mkdtemp(prefix="sideways-demo-")
    if keep is not None:
        folder = os.path.abspath(keep)
        if os.path.exists(folder) and os.listdir(folder):
            raise StoreError(f"{folder}: not empty; the demo wants a folder of its own")
        os.makedirs(folder, exist_ok=True)
    demo = Demo(folder, source)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        play = asyncio.ensure_future(demo.play())
        waiting = asyncio.ensure_future(stopped.wait())
        await asyncio.wait({play, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not play.done():
            play.cancel()
            await asyncio.gather(play, return_exceptions=True)
            return 1
        equal = play.result()
        if not once:
            show.say("The cluster stays up until Ctrl-C.")
            await waiting
        return 0 if equal else 1
    finally:
        demo.stop()
        await loop.shutdown_default_executor()  # a thread that still copies would make the folder again
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


class Demo:
    """One run of it, in `folder`, with the configuration of `source`."""

    def __init__(self, folder: str, source: str) -> None:
        self._folder, self._source = folder, source
        self._origin = Origin(folder)
        self._places: list[Place] = []
        self._root = ""
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    async def play(self) -> bool:
        """Both acts. True if every tree equals its origin at the end of each."""
        origin = self._origin
        show.say("Copying trees of this machine: they are the origin.")
        await asyncio.to_thread(origin.copy)
        origin.start()
        self._root, self._places = await asyncio.to_thread(copied, self._source, self._folder, origin)
        cluster = load(self._root)
        for place in self._places:
            self._start(place)
        await self._ready()
        addresses = ", ".join(f"{p.name} http://{p.web}/" for p in self._places)
        show.say(f"Three sites run: {addresses}\n")
        first = await self._first(cluster)
        second = await self._second(cluster)
        show.say(f"\nThe cluster page: http://{self._places[0].web}/-/cluster")
        return first and second

    def stop(self) -> None:
        """End every process."""
        for process in self._daemons.values():
            if process.poll() is None:
                process.terminate()
        for process in self._daemons.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._origin.stop()

    # -- acts

    async def _first(self, cluster: Cluster) -> bool:
        before = self._origin.counted()
        results = await self._passes(
            cluster, "1. All sites begin at the same second, from nothing", self._places
        )
        after = self._origin.counted()
        by_http = ("python", "doc")
        sent = after.files - before.files + _received(results, "zoneinfo")
        unique = sum(self._origin.unique(mirror) for mirror in (*by_http, "zoneinfo"))
        alone = sum(self._origin.unique(m) for place in self._places for m in carried(cluster, place))
        files = sum(self._origin.count(mirror) for mirror in (*by_http, "zoneinfo"))
        show.summary(
            "What it cost",
            [
                ("files at the origin", str(files)),
                ("their bytes, each once", show.size(unique)),
                ("bytes that the origin sent (its own log)", show.size(sent)),
                ("that is", f"{sent / unique:.3f} times the unique bytes"),
                ("independent mirrors would have cost", f"{show.size(alone)} ({alone / unique:.2f} times)"),
            ],
        )
        return self._equal(cluster, self._places)

    async def _second(self, cluster: Cluster) -> bool:
        changed = self._origin.change()
        victim = self._places[-1]
        show.say(
            f"\nThe origin changes {changed} files. {victim.name} will be killed while they are fetched."
        )

        async def kill() -> None:
            await asyncio.sleep(BEFORE_DEATH)
            self._daemons[victim.name].kill()

        killer = asyncio.ensure_future(kill())
        await self._passes(
            cluster, f"2. {victim.name} dies, the others finish", self._places, dies=victim.name
        )
        await killer
        survivors = [place for place in self._places if place is not victim]
        equal = self._equal(cluster, survivors)
        show.say(f"{victim.name} is started again: it goes on where it was, sideways.")
        self._daemons[victim.name].wait()
        self._start(victim)
        await self._ready()
        await self._passes(cluster, f"3. {victim.name} catches up", [victim])
        return self._equal(cluster, [victim]) and equal

    # -- parts

    def _start(self, place: Place) -> None:
        with open(os.path.join(self._folder, f"{place.name}.log"), "ab") as log:
            self._daemons[place.name] = subprocess.Popen(
                [sys.executable, "-m", "cluster", "-C", self._root, "run", "--site", place.name],
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,  # noqa: PLW1509  # it only makes system calls
            )

    async def _ready(self) -> None:
        """Wait until every daemon answers, and until they have heard of each other."""
        until = asyncio.get_running_loop().time() + READY
        for place in self._places:
            while await control.ask(place.state, {"command": "siblings"}) is None:
                if self._daemons[place.name].poll() is not None or asyncio.get_running_loop().time() > until:
                    raise StoreError(f"{place.name}: its daemon did not start:\n{self._log(place)}")
                await asyncio.sleep(0.05)
        until = asyncio.get_running_loop().time() + PEERS
        for place in self._places:
            while asyncio.get_running_loop().time() < until:
                answer = await control.ask(place.state, {"command": "siblings"})
                if answer is not None and all(answer["siblings"].values()):
                    break
                await asyncio.sleep(0.1)

    def _log(self, place: Place) -> str:
        with open(os.path.join(self._folder, f"{place.name}.log"), encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:]

    async def _passes(
        self, cluster: Cluster, title: str, places: Sequence[Place], dies: str = ""
    ) -> dict[tuple[str, str], dict[str, object]]:
        """One pass of every mirror at each of these sites, all at once."""
        work = [(place, mirror) for place in places for mirror in carried(cluster, place)]
        results: dict[tuple[str, str], dict[str, object]] = {}
        with show.Board(title, [show.Row(place.name, mirror) for place, mirror in work]) as board:

            async def one(place: Place, mirror: str) -> None:
                def event(message: dict[str, object]) -> None:
                    board.event(place.name, mirror, message)

                try:
                    result = await control.ask(
                        place.state, {"command": "pass", "mirror": mirror, "path": ""}, event
                    )
                except SidewaysError as error:
                    if place.name != dies:
                        raise StoreError(f"{place.name}: {error}\n{self._log(place)}") from error
                    board.rows[place.name, mirror].state = "killed"
                    return
                if result is None:
                    board.rows[place.name, mirror].state = "killed"
                    return
                results[place.name, mirror] = result
                board.result(place.name, mirror, result)

            await asyncio.gather(*(one(place, mirror) for place, mirror in work))
        return results

    def _equal(self, cluster: Cluster, places: Sequence[Place]) -> bool:
        """Compare trees with their origins by a program that is not ours, and say so."""
        equal = True
        for place in places:
            for mirror in carried(cluster, place):
                public = os.path.join(place.data, cluster.mirrors[mirror].path.strip("/"))
                found = differences(self._origin.tree(mirror), public, links=mirror == "zoneinfo")
                if found:
                    equal = False
                    show.complain(f"{place.name}/{mirror} differs from the origin:\n" + "\n".join(found[:10]))
        names = ", ".join(place.name for place in places)
        if equal:
            show.say(f"Every tree at {names} equals its origin (rsync compared contents and times).")
        return equal


def _received(results: dict[tuple[str, str], dict[str, object]], mirror: str) -> int:
    """Bytes that the sites took from an origin that keeps no log."""
    total = 0
    for (_, name), result in results.items():
        counted = result["bytes"]
        if name == mirror and isinstance(counted, dict):
            total += int(counted["origin"])
    return total
