"""The play in two acts: sites race the same sites without siblings; then one of them dies half-way."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from functools import partial

from cluster.demo import folder as folders
from cluster.demo import show
from cluster.demo.equal import differences
from cluster.demo.folder import Place, check
from cluster.demo.link import ShapedLink
from cluster.demo.origin import BY_HTTP, Origin
from cluster.demo.race import DELAY, Runner, race, rate_for
from cluster.demo.team import Team
from cluster.errors import StoreError
from cluster.plan.saving import saving

TOGETHER, ALONE = "together", "alone"
BEFORE_DEATH = 1.0  # s of the second act, until a site is killed


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
            show.say(f"\nThe cluster stays up until Ctrl-C; its page: {demo.page}")
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
        self._origin = Origin(folder, (TOGETHER, ALONE))
        self._links: list[ShapedLink] = []
        self._runners: list[Runner] = []

    async def play(self) -> bool:
        """Both acts. True if every tree equals its origin at the end of each."""
        show.say("Copying trees of this machine: they are the origin.")
        await asyncio.to_thread(self._origin.copy)
        self._origin.start()
        rate = rate_for(self._origin, len(folders.names(self._source)))
        siblings = await self._enter(TOGETHER, "siblings that look sideways", rate)
        lone = await self._enter(ALONE, "the same sites, each by itself", rate)
        addresses = ", ".join(f"{p.name} http://{p.web}/" for p in siblings.team.places)
        show.say(f"Two teams run. The siblings: {addresses}\n")
        first = await self._first(siblings, lone, rate)
        lone.team.stop()
        second = await self._second(siblings.team)
        return first and second

    @property
    def page(self) -> str:
        """Where the siblings show themselves, once `play` has begun."""
        return f"http://{self._runners[0].team.places[0].web}/-/cluster"

    def stop(self) -> None:
        """End every process."""
        for runner in self._runners:
            runner.team.stop()
        for link in self._links:
            link.stop()
        self._origin.stop()

    async def _enter(self, name: str, title: str, rate: int) -> Runner:
        """A team, its link and its daemons."""
        link = ShapedLink(self._origin.ports[name], rate, DELAY)
        self._links.append(link)
        await link.start()
        copied, folder = folders.together, self._folder
        if name == ALONE:
            copied, folder = folders.alone, os.path.join(self._folder, ALONE)
        places = await asyncio.to_thread(copied, self._source, folder, partial(self._origin.url, link.port))
        runner = Runner(name, title, link, Team(places))
        self._runners.append(runner)
        for place in places:
            runner.team.start(place)
        await runner.team.ready()
        return runner

    # -- acts

    async def _first(self, siblings: Runner, lone: Runner, rate: int) -> bool:
        await race([siblings, lone], self._origin, rate)
        unique = sum(self._origin.unique(mirror) for mirror in BY_HTTP)
        files = sum(self._origin.count(mirror) for mirror in BY_HTTP)
        both = (siblings, lone)
        rows = [
            (f"{place.name} complete after", *(f"{one.seconds[place.name]:.1f} s" for one in both))
            for place in siblings.team.places
        ]
        rows += [
            ("over the link", *(show.size(one.link.carried) for one in both)),
            ("of it files, by the origin's own log", *(show.size(one.sent.files) for one in both)),
            ("times the bytes that there are", *(f"{one.sent.files / unique:.3f}" for one in both)),
        ]
        show.summary(
            f"{files} files, {show.size(unique)}, at every site", ("", *(o.name for o in both)), rows
        )
        saved = saving(siblings.sent.files, lone.sent.files - siblings.sent.files) or 0.0
        faster = max(lone.seconds.values()) / max(siblings.seconds.values())
        show.say(
            f"Together they were complete {faster:.1f} times as fast, and spared the origin {saved:.1%} of "
            f"what lone mirrors cost it."
        )
        equal = await self._equal(siblings.team.places, BY_HTTP)
        return await self._equal(lone.team.places, BY_HTTP, ALONE) and equal

    async def _second(self, team: Team) -> bool:
        changed = self._origin.change()
        victim = team.places[-1]
        show.say(
            f"\nThe origin changes {changed} files, and a tree in a folder is mirrored for the first time. "
            f"{victim.name} will be killed meanwhile."
        )

        async def kill() -> None:
            await asyncio.sleep(BEFORE_DEATH)
            team.kill(victim)

        killer = asyncio.ensure_future(kill())
        await self._passes(f"2. {victim.name} dies, the others finish", team, team.places, dies=victim.name)
        await killer
        survivors = [place for place in team.places if place is not victim]
        equal = await self._equal(survivors)
        show.say(f"{victim.name} is started again: it goes on where it was, sideways.")
        team.start(victim)
        await team.ready()
        await self._passes(f"3. {victim.name} catches up", team, [victim])
        return await self._equal([victim]) and equal

    # -- parts

    async def _passes(self, title: str, team: Team, places: Sequence[Place], dies: str = "") -> None:
        """One pass of every mirror at each of these sites, all at once."""
        work = [(place, mirror) for place in places for mirror in place.carried()]
        with show.Board(title, [show.Row(place.name, mirror) for place, mirror in work]) as board:

            async def one(place: Place, mirror: str) -> None:
                event = partial(board.event, place.name, mirror)
                result = await team.run_pass(place, mirror, event, dies=place.name == dies)
                if result is None:
                    board.rows[place.name, mirror].state = "killed"
                else:
                    board.result(place.name, mirror, result)

            await asyncio.gather(*(one(place, mirror) for place, mirror in work))

    async def _equal(self, places: Sequence[Place], only: Sequence[str] = (), team: str = "") -> bool:
        """Compare trees with their origins by a program that is not ours, and say so."""
        equal = True
        for place in places:
            for mirror in place.carried():
                if only and mirror not in only:
                    continue
                tree, links = self._origin.tree(mirror), mirror not in BY_HTTP
                found = await asyncio.to_thread(differences, tree, place.tree(mirror), links=links)
                if found:
                    equal = False
                    show.complain(f"{place.name}/{mirror} differs from the origin:\n" + "\n".join(found[:10]))
        names = ", ".join(place.name for place in places) + (f" ({team})" if team else "")
        if equal:
            show.say(f"Every tree at {names} equals its origin (rsync compared contents and times).")
        return equal
