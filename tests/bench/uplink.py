"""Tables 14 and 15: one link to the origin that several sites share, and an origin that is far away."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests import servers
from tests.bench import sites
from tests.bench.alone import OURS, TIMES, Contest, alternating
from tests.bench.link import link
from tests.bench.measure import Bench, Command, Started, asked, require_copy, synced, timed
from tests.bench.table import Table, Verdict
from tests.bench.trees import Tree

UPLINK = 40e6  # bytes/s that the origin sends, to everybody together
NEAR, FAR = 0.010, 0.020  # s one way: round trips of 20 and 40 ms
COUNT = 4  # sites
AT_LINE_RATE = 1.2  # times the seconds that one copy of the tree takes on that link
ROUNDS = {"T1": 3, "T3": 1}  # at most: of T3 one round is twelve minutes
TOGETHER, LONE, SLAVES = f"{COUNT} sites", f"{COUNT} lone rsyncs", f"rsync, master and {COUNT - 1} slaves"

FEW = 4  # connections
FAR_LIMIT = 2.5  # times rsync's seconds


def shared(bench: Bench, table: Table) -> None:
    """Table 14."""
    table.head = ("tree", "contestant", "last copy done s", "range s", "x line rate")
    table.about = (
        f"{COUNT} copies of what one origin has, behind one link that carries {UPLINK / 1e6:g} MB/s with a "
        f"round trip of {2000 * NEAR:.0f} ms; between the copies there is nothing but this machine. Line "
        "rate is what one copy of the tree takes on that link. Our sites begin in the same second, "
        "through their daemons; so do the lone rsyncs; the slaves begin when the master has it all, and "
        "read from it. `sync -f` is inside the time."
    )
    for name, rounds in ROUNDS.items():
        if name not in bench.trees:
            continue
        tree = bench.tree(name)
        took = _measured(bench, tree, min(bench.rounds, rounds))
        line = tree.bytes / UPLINK
        table.rows.append((name, "one copy at line rate", f"{line:.2f}", "-", "1.00"))
        for who, found in took.items():
            middle = statistics.median(found)
            spread = f"{min(found):.2f}-{max(found):.2f}"
            table.rows.append((name, who, f"{middle:.2f}", spread, f"{middle / line:.2f}"))
        ours = statistics.median(took[TOGETHER])
        table.verdicts.append(Verdict(f"{name}: time, {TOGETHER} / line rate", ours / line, AT_LINE_RATE))


def _measured(bench: Bench, tree: Tree, rounds: int) -> dict[str, list[float]]:
    """Seconds until the last copy was done, by contestant."""
    took: dict[str, list[float]] = {TOGETHER: [], LONE: [], SLAVES: []}

    def one(who: str, contestant: Callable[[Bench, Tree], float]) -> None:
        took[who].append(contestant(bench, tree))

    contestants = {TOGETHER: _sites, LONE: _lone, SLAVES: _slaves}
    alternating(rounds, [partial(one, who, contestant) for who, contestant in contestants.items()])
    return took


def _sites(bench: Bench, tree: Tree) -> float:
    with servers.nginx(tree.root) as nginx, link([nginx.port], NEAR, UPLINK) as (port,):
        url = nginx.url.replace(f":{nginx.port}/", f":{port}/")
        places = sites.cluster(bench.fresh("copies"), url, sites.sharing(COUNT))
        with sites.daemons(places):
            runs = [
                one.wait()
                for one in [Started(place.name, [place.one_pass(), synced(place.folder)]) for place in places]
            ]
    for place, run in zip(places, runs, strict=True):
        sites.require_complete(run)
        require_copy(place.name, tree, place.copy)
    bench.fresh("copies")
    return max(run.wall for run in runs)


def _lone(bench: Bench, tree: Tree) -> float:
    folder = bench.fresh("copies")
    copies = [folder / str(number) for number in range(COUNT)]
    with servers.rsyncd(tree.root) as rsyncd, link([rsyncd.port], NEAR, UPLINK) as (port,):
        seconds = _copied_at_once(LONE, f"rsync://127.0.0.1:{port}/m/", copies)
    return _checked(bench, LONE, tree, copies, seconds)


def _slaves(bench: Bench, tree: Tree) -> float:
    folder = bench.fresh("copies")
    master, *slaves = (folder / str(number) for number in range(COUNT))
    with servers.rsyncd(tree.root) as rsyncd, link([rsyncd.port], NEAR, UPLINK) as (port,):
        seconds = _copied_at_once(SLAVES, f"rsync://127.0.0.1:{port}/m/", [master])
    with servers.rsyncd(master) as rsyncd:
        seconds += _copied_at_once(SLAVES, rsyncd.url, slaves)
    return _checked(bench, SLAVES, tree, [master, *slaves], seconds)


def _copied_at_once(who: str, url: str, copies: list[Path]) -> float:
    """One rsync for each copy, all at the same time; seconds until the last was done."""
    return max(one.wait().wall for one in [Started(who, _rsync(url, copy)) for copy in copies])


def _rsync(url: str, copy: Path) -> list[Command]:
    copy.mkdir()
    return [["rsync", "-a", "--no-motd", url, f"{copy}/"], synced(copy)]


def _checked(bench: Bench, who: str, tree: Tree, copies: list[Path], seconds: float) -> float:
    for copy in copies:
        require_copy(who, tree, copy)
    bench.fresh("copies")
    return seconds


def far(bench: Bench, table: Table) -> None:
    """Table 15."""
    tree, contest = bench.tree("T6"), Contest()
    table.head = ("contestant", *TIMES, "requests", "file MB sent")
    table.about = (
        f"{tree.files} files in {tree.directories} directories (T6), from nothing, over a link with a "
        f"round trip of {2000 * FAR:.0f} ms and any rate; ours is one site alone with `<limits "
        f'connections="{FEW}"/>`. `sync -f` of the copy is inside the time. {bench.rounds} alternating '
        "rounds."
    )
    with (
        servers.nginx(tree.root) as nginx,
        servers.rsyncd(tree.root) as rsyncd,
        link([nginx.port, rsyncd.port], FAR) as (http, rsync),
    ):
        url = nginx.url.replace(f":{nginx.port}/", f":{http}/")

        def ours() -> None:
            folder = bench.fresh("ours")
            place = sites.cluster(folder, url, ["forward"], together=False, connections=FEW)[0]
            nginx.forget()
            run = timed(OURS, place.one_pass(), synced(place.folder))
            sites.require_complete(run)
            require_copy(OURS, tree, place.copy)
            contest.note(OURS, run, asked(nginx))

        def rsynced() -> None:
            copy = bench.fresh("rsync") / "copy"
            contest.note("rsync", timed("rsync", *_rsync(f"rsync://127.0.0.1:{rsync}/m/", copy)), None)
            require_copy("rsync", tree, copy)

        alternating(bench.rounds, [ours, rsynced])
    table.rows += contest.rows()
    table.verdicts += contest.against(OURS, "rsync", FAR_LIMIT, "time")
