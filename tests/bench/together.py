"""Tables 5 to 8: what cooperation saves the origin, what a broken sibling costs, how fast a good one is."""

from __future__ import annotations

from functools import partial

from tests import servers
from tests.bench import sites
from tests.bench.alone import OURS, TIMES, Contest, alternating
from tests.bench.measure import (
    Bench,
    Run,
    Started,
    Unusable,
    asked,
    median,
    require_copy,
    synced,
    timed,
)
from tests.bench.table import Table, Verdict, megabytes, seconds
from tests.bench.trees import Tree

LONE = (("T1", 2), ("T1", 3))  # beside which the same number of lone sites is measured
ORIGIN_BYTES = 1.01  # times the unique bytes: what a cluster may ask of its origin
DELAY_SHARE, DELAY = 0.10, 1.0  # of the pass, and s: the larger is what a broken sibling may cost

TWO = ("forward", "backward")
REQUESTS = 1.1  # times those of one site: what a cluster that relays listings may ask


def cooperation(bench: Bench, table: Table) -> None:
    """Table 5."""
    table.head = (
        "tree",
        "sites",
        "file MB sent",
        "times",
        "listings asked",
        "last site done s",
        "sideways MB",
    )
    table.about = (
        "Every site begins an initial pass in the same second, through its daemon. The origin's own log "
        "tells the bytes of files that it sent; `times` is them over the bytes of every listed file once. "
        "Lone sites are the same sites without siblings."
    )
    for name, orders in (
        ("T1", TWO),
        ("T1", _sharing(3)),
        ("T1", _sharing(4)),
        ("T1", _sharing(8)),
        ("T2", _sharing(2)),
        ("T2", _sharing(4)),
        ("T2", _sharing(8)),
        ("T3", _sharing(2)),
        ("T3", _sharing(4)),
    ):
        tree = bench.tree(name)
        for together in (True, False):
            if not together and (name, len(orders)) not in LONE:
                continue
            who = f"{len(orders)} {'/'.join(dict.fromkeys(orders))}" if together else f"{len(orders)} lone"
            share, row = _all_at_once(bench, tree, orders, together)
            table.rows.append((name, who, *row))
            if together:
                table.verdicts.append(
                    Verdict(f"{name}, {who}: bytes sent / unique bytes", share, ORIGIN_BYTES)
                )


def _sharing(sites: int) -> tuple[str, ...]:
    return ("rendezvous",) * sites


def relayed(bench: Bench, table: Table) -> None:
    """Table 8."""
    tree = bench.tree("T1")
    table.head = ("sites", "pass", "listings asked", "times one site", "last site done s")
    table.about = (
        f"T1, {tree.directories} directories, every site at the same second through its daemon, with "
        '`<sideways listings="5m"/>`: what several sites ask the origin for, and what one does.'
    )
    for count in (3, 8):
        with servers.nginx(tree.root) as nginx:
            places = sites.cluster(bench.fresh("together"), nginx.url, _sharing(count), extra=sites.RELAYED)
            with sites.daemons(places):
                for what in ("initial", "unchanged"):
                    nginx.forget()
                    started = [Started(place.name, [place.one_pass()]) for place in places]
                    runs = [one.wait() for one in started]
                    for run in runs:
                        sites.require_complete(run)
                    told, slowest = asked(nginx), max(run.wall for run in runs)
                    share = told.listings / tree.directories
                    table.rows.append(
                        (str(count), what, str(told.listings), f"{share:.3f}", f"{slowest:.2f}")
                    )
                    table.verdicts.append(
                        Verdict(f"{count} sites, {what}: listings / directories", share, REQUESTS)
                    )
            for place in places:
                require_copy(place.name, tree, place.copy)
        bench.fresh("together")


def _all_at_once(
    bench: Bench, tree: Tree, orders: tuple[str, ...], together: bool
) -> tuple[float, tuple[str, ...]]:
    """One initial pass at every site through its daemon. The origin's bytes in units of the tree's, and
    the cells of the row."""
    with servers.nginx(tree.root) as nginx:
        places = sites.cluster(bench.fresh("together"), nginx.url, orders, together=together)
        with sites.daemons(places):
            started = [Started(place.name, [place.one_pass()]) for place in places]
            runs = [one.wait() for one in started]
        told = asked(nginx)
    sideways = 0
    for place, run in zip(places, runs, strict=True):
        sideways += sites.require_complete(run)["bytes"]["sideways"]
        require_copy(place.name, tree, place.copy)
    bench.fresh("together")
    share = told.file_bytes / tree.bytes
    slowest = max(run.wall for run in runs)
    return share, (
        megabytes(told.file_bytes),
        f"{share:.3f}",
        str(told.listings),
        f"{slowest:.2f}",
        megabytes(sideways),
    )


def mute_sibling(bench: Bench, table: Table) -> None:
    """Table 6."""
    tree = bench.tree("T1")
    table.head = ("sibling", "median s", "range s", "CPU s")
    table.about = (
        "Initial pass of T1 as a foreground command: with no sibling, and with one whose port accepts and is "
        f"silent. {bench.rounds} alternating rounds."
    )
    runs: dict[str, list[Run]] = {"none": [], "mute": []}
    with servers.nginx(tree.root) as nginx:

        def lone() -> None:
            place = sites.cluster(bench.fresh("ours"), nginx.url, ["forward"])[0]
            runs["none"].append(_initial(tree, place))

        def beside_mute() -> None:
            place, silent = sites.cluster(bench.fresh("ours"), nginx.url, TWO)
            with sites.mute(sites.peer_port(silent)):
                runs["mute"].append(_initial(tree, place))

        alternating(bench.rounds, [lone, beside_mute])
    for name, measured in runs.items():
        cpu = sorted(run.cpu for run in measured)[len(measured) // 2]
        table.rows.append((name, *seconds(measured), f"{cpu:.2f}"))
    without = median(runs["none"])
    table.verdicts.append(
        Verdict("delay s", median(runs["mute"]) - without, max(DELAY, DELAY_SHARE * without))
    )


def _initial(tree: Tree, place: sites.Place) -> Run:
    run = timed(place.name, place.one_pass())
    sites.require_complete(run)
    require_copy(place.name, tree, place.copy)
    return run


def from_sibling(bench: Bench, table: Table) -> None:
    """Table 7."""
    tree, contest = bench.tree("T1"), Contest()
    table.head = ("contestant", *TIMES, "requests", "file MB sent")
    table.about = (
        "Initial pass of T1 as a foreground command at a site whose sibling, a daemon on the same machine, "
        "has it all: listings from the origin, bodies over mutual TLS from the sibling. Beside it rsync from "
        "a daemon over the same tree, which neither encrypts, nor hashes, nor (without `--fsync`) syncs. "
        f"{bench.rounds} alternating rounds."
    )
    with servers.nginx(tree.root) as nginx, servers.rsyncd(tree.root) as rsync:
        full, empty = sites.cluster(bench.fresh("together"), nginx.url, TWO)
        sites.require_complete(timed(full.name, full.one_pass()))
        with sites.daemons([full], alone=True):

            def ours() -> None:
                sites.emptied(empty)
                nginx.forget()
                run = timed(OURS, empty.one_pass(), synced(empty.folder))
                told = sites.require_complete(run)
                require_copy(OURS, tree, empty.copy)
                if told["files"]["sideways"] != tree.files:
                    raise Unusable(f"{OURS}: {told['files']['origin']} files came from the origin")
                contest.note(OURS, run, asked(nginx))

            def rsynced(name: str, *options: str) -> None:
                copy = bench.fresh("rsync")
                command = ["rsync", "-a", *options, rsync.url, f"{copy}/"]
                contest.note(name, timed(name, command, *([] if options else [synced(copy)])), None)
                require_copy(name, tree, copy)

            peers = [partial(rsynced, "rsync -a, sync -f"), partial(rsynced, "rsync -a --fsync", "--fsync")]
            alternating(bench.rounds, [ours, *peers])
    table.rows += contest.rows()
    for name, limit in (("rsync -a, sync -f", 1.6), ("rsync -a --fsync", 0.7)):
        table.verdicts += contest.against(OURS, name, limit, "time")
