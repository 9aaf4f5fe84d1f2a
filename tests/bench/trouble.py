"""Tables 12 and 13: one of several sites dies on the way, or is ten times slower than the others."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

from cluster import control
from cluster.errors import SidewaysError
from tests import servers
from tests.bench import sites
from tests.bench.link import link
from tests.bench.measure import Bench, Started, Unusable, asked, require_copy, timed
from tests.bench.table import Table, Verdict, megabytes
from tests.bench.together import Team, all_at_once
from tests.bench.trees import Tree

DIES_AT = 0.30  # of the tree's bytes, held by the site that dies
LOST = 1.05  # times what one lone site must fetch
LOOKS = 0.1  # s between two looks at the origin's log
SLOWER = 10.0
HELD_UP = 1.10  # times the seconds without the slow site
FAST = 3  # sites beside the slow one
LINE = {
    "T1": 2e6,
    "T2": 6e6,
    "T3": 20e6,
}  # bytes/s of a site's link: it, not these cores, is what takes the time
NEAR = 0.005  # s one way on each of those links


def killed(bench: Bench, table: Table) -> None:
    """Table 12."""
    table.head = ("tree", "sites", "killed with MB", "file MB sent", "times lone", "last site done s")
    table.about = (
        "Every site begins an initial pass in the same second, through its daemon. One is killed "
        f"(SIGKILL) when it holds {DIES_AT:.0%} of the tree, and stays dead; of T3, whose files come by "
        "parts at all sites at once, when the origin has sent as much. `times lone` is what the origin "
        "sent, to the dead one too, over what it sends one site without siblings. The others end complete "
        "and equal to the origin."
    )
    for name in bench.trees:
        tree = bench.tree(name)
        lone = all_at_once(bench, tree, sites.sharing(1))
        for count in bench.sites:
            told, had = _one_dies(bench, tree, count, lone.file_bytes)
            share = told.file_bytes / lone.file_bytes
            table.rows.append(
                (
                    name,
                    str(count),
                    megabytes(had),
                    megabytes(told.file_bytes),
                    f"{share:.3f}",
                    f"{told.slowest:.2f}",
                )
            )
            table.verdicts.append(
                Verdict(f"{name}, {count} sites, one killed: bytes sent / to a lone site", share, LOST)
            )


def _one_dies(bench: Bench, tree: Tree, count: int, whole: int) -> tuple[Team, float]:
    """What the origin sent, and the bytes that were reached when the last site was killed."""
    with servers.nginx(tree.root) as nginx:
        *living, victim = places = sites.cluster(bench.fresh("together"), nginx.url, sites.sharing(count))
        with sites.daemons(places) as running, ThreadPoolExecutor(1) as beside:
            started = [Started(place.name, [place.one_pass()]) for place in living]
            end = _by_log if tree.name == "T3" else _by_holding
            dies = end(victim, running[victim.name], nginx, DIES_AT * whole)
            had = beside.submit(asyncio.run, _when_begun(living[0], dies))
            runs = [one.wait() for one in started]
            cpu = sum(sites.cpu_of(running[place.name]) for place in living)
            reached = had.result()
        told = asked(nginx)
    sideways = 0
    for place, run in zip(living, runs, strict=True):
        sideways += sites.require_complete(run)["bytes"]["sideways"]
        require_copy(place.name, tree, place.copy)
    bench.fresh("together")
    return Team(told.file_bytes, told.listings, sideways, max(run.wall for run in runs), cpu), reached


async def _when_begun(other: sites.Place, then: Awaitable[float]) -> float:
    """A request over the control socket is there before the program that makes the same one has started, some
    tenths of a second in which the victim would have everything to itself: it waits until the first of the
    others has begun."""
    while not await _is_passing(other):  # noqa: ASYNC110  # another process's affair
        await asyncio.sleep(0.01)
    return await then


async def _is_passing(place: sites.Place) -> bool:
    told = await control.ask(str(place.folder / "state"), {"command": "now"})
    return told is not None and told["mirrors"][sites.MIRROR]["running"] is not None


async def _by_holding(victim: sites.Place, pid: int, _origin: servers.Server, goal: float) -> float:
    """A pass of the victim, which is killed as soon as it has published so many bytes."""
    reached = 0

    def look(event: control.Message) -> None:
        nonlocal reached
        if event["event"] == "progress" and reached < goal:
            reached = event["bytes"] + event["sideways"]
            if reached >= goal:
                os.kill(pid, signal.SIGKILL)

    await _to_its_end(victim, look)
    if reached < goal:
        raise Unusable(f"{victim.name}: complete before it could be killed; this needs a larger --scale")
    return reached


async def _by_log(victim: sites.Place, pid: int, origin: servers.Server, goal: float) -> float:
    """A pass of the victim, which is killed as soon as the origin has sent so many bytes. It is asked for as
    those of the others are, so that it is not ahead of them by the time in which a program starts."""
    working = Started(victim.name, [victim.one_pass()])
    try:
        while (reached := sum(row.sent for row in origin.requests())) < goal:
            if working.ended():
                complete = f"{victim.name}: complete before it could be killed"
                raise Unusable(f"{complete}; this needs a larger --scale")
            await asyncio.sleep(LOOKS)
        os.kill(pid, signal.SIGKILL)
        return reached
    finally:
        with suppress(Unusable):
            working.wait()


async def _to_its_end(place: sites.Place, look: control.Tell) -> None:
    """Until the pass is done, or its daemon is dead."""
    request = {"command": "pass", "mirror": sites.MIRROR, "path": ""}
    try:
        await control.ask(str(place.folder / "state"), request, look)
    except SidewaysError:
        return


def slow(bench: Bench, table: Table) -> None:
    """Table 13."""
    table.head = (
        "tree",
        "sites",
        "MB/s of each link",
        "last of the others done s",
        "x",
        "the slow one then has",
    )
    table.about = (
        f"{FAST} sites, each behind a link of its own to the origin, begin an initial pass in the same "
        "second; then the same with one more, whose link (to the origin and to siblings, both ways) is "
        f"{SLOWER:.0f} times slower. It is stopped when the others are complete."
    )
    for name in bench.trees:
        tree = bench.tree(name)
        rate = LINE[name]
        without, _ = _beside_slow(bench, tree, rate, None)
        seconds, had = _beside_slow(bench, tree, rate, rate / SLOWER)
        table.rows += [
            (name, str(FAST), f"{rate / 1e6:g}", f"{without:.2f}", "1.00", "-"),
            (
                name,
                f"{FAST} and a slow one",
                f"{rate / 1e6:g}, {rate / SLOWER / 1e6:g}",
                f"{seconds:.2f}",
                f"{seconds / without:.2f}",
                f"{had / tree.bytes:.0%}",
            ),
        ]
        table.verdicts.append(
            Verdict(f"{name}: the others' time, with a slow site / without", seconds / without, HELD_UP)
        )


def _beside_slow(bench: Bench, tree: Tree, rate: float, slow_rate: float | None) -> tuple[float, int]:
    """Seconds until the last of the fast sites was complete, and the bytes that the slow one then had."""
    count = FAST + (slow_rate is not None)
    with servers.nginx(tree.root) as nginx:
        made = sites.cluster(bench.fresh("together"), nginx.url, sites.sharing(count))
        with _linked(made, nginx.port, rate, slow_rate) as places, sites.daemons(places):
            fast, others = places[:FAST], places[FAST:]
            runs = [Started(place.name, [place.one_pass()]) for place in fast]
            with ThreadPoolExecutor(1) as beside:
                for place in others:
                    beside.submit(asyncio.run, _to_its_end(place, lambda _event: None))
                seconds = max(_complete(place, one) for place, one in zip(fast, runs, strict=True))
                had = sum(_size(place) for place in others)
                for place in others:
                    timed(place.name, place.command("pause", sites.MIRROR))
    for place in places[:FAST]:
        require_copy(place.name, tree, place.copy)
    bench.fresh("together")
    return seconds, had


def _complete(place: sites.Place, one: Started) -> float:
    run = one.wait()
    sites.require_complete(run)
    return run.wall


def _size(place: sites.Place) -> int:
    """Bytes of the files that are published there."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size
        for folder, _, names in os.walk(place.copy)
        for name in names
    )


@contextmanager
def _linked(
    places: Sequence[sites.Place], origin: int, rate: float, slow_rate: float | None
) -> Iterator[list[sites.Place]]:
    """The sites, each with a link to the origin; that of a slow one, the last, leads to and from siblings."""
    fast, slow = (places, ()) if slow_rate is None else (places[:-1], places[-1:])
    peers = {place.name: sites.peer_port(place) for place in places}
    with ExitStack() as stack:
        linked, up = [], {}
        for place in slow:
            assert slow_rate is not None
            up = {place.name: stack.enter_context(link([peers[place.name]], NEAR, slow_rate))[0]}
            others = [peers[other.name] for other in fast]
            http, *down = stack.enter_context(link([origin, *others], NEAR, slow_rate))
            siblings = {other.name: port for other, port in zip(fast, down, strict=True)}
            linked.append(sites.behind(place, http, siblings))
        own = [stack.enter_context(link([origin], NEAR, rate))[0] for _ in fast]
        yield [*(sites.behind(place, port, up) for place, port in zip(fast, own, strict=True)), *linked]
