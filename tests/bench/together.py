"""Tables 5, 6 and 8: what cooperation saves the origin, and what a broken sibling costs."""

from __future__ import annotations

from dataclasses import dataclass

from tests import servers
from tests.bench import sites
from tests.bench.alone import alternating
from tests.bench.measure import (
    Bench,
    Run,
    Started,
    asked,
    median,
    require_copy,
    timed,
)
from tests.bench.table import Table, Verdict, megabytes, seconds
from tests.bench.trees import Tree

ORIGIN_BYTES = 1.01  # times what one lone site must fetch: what a cluster may ask of its origin
DELAY_SHARE, DELAY = 0.10, 1.0  # of the pass, and s: the larger is what a broken sibling may cost

TWO = ("forward", "backward")
REQUESTS = 1.1  # times those of one site: what a cluster that relays listings may ask


def cooperation(bench: Bench, table: Table) -> None:
    """Table 5."""
    table.head = (
        "tree",
        "sites",
        "file MB sent",
        "times lone",
        "listings asked",
        "last site done s",
        "x lone",
        "sideways MB",
        "CPU s",
    )
    table.about = (
        "Every site begins an initial pass in the same second, through its daemon. The origin's own log "
        "tells the bytes of files that it sent; `times lone` is them over those that it sent one site "
        "without siblings. CPU is that of all daemons. All sites share the cores here, so that the "
        "seconds tell what cooperating costs the processor, not what it saves on a link (14)."
    )
    for name in bench.trees:
        tree = bench.tree(name)
        lone = all_at_once(bench, tree, sites.sharing(1))
        table.rows.append((name, "1 lone", *_cells(lone, lone)))
        teams = [(f"{count} rendezvous", sites.sharing(count)) for count in bench.sites]
        if name == "T1" and 2 in bench.sites:
            teams.insert(0, ("2 forward/backward", TWO))
        for who, orders in teams:
            told = all_at_once(bench, tree, orders)
            table.rows.append((name, who, *_cells(told, lone)))
            share = told.file_bytes / lone.file_bytes
            table.verdicts.append(Verdict(f"{name}, {who}: bytes sent / to a lone site", share, ORIGIN_BYTES))


@dataclass(frozen=True, slots=True)
class Team:
    """What sites that began at once cost their origin and these cores."""

    file_bytes: int
    listings: int
    sideways: int  # bytes
    slowest: float  # s
    cpu: float  # s


def all_at_once(bench: Bench, tree: Tree, orders: tuple[str, ...]) -> Team:
    """One initial pass at every site through its daemon; every copy is compared. Raises Unusable."""
    with servers.nginx(tree.root) as nginx:
        places = sites.cluster(bench.fresh("together"), nginx.url, orders, together=len(orders) > 1)
        with sites.daemons(places) as running:
            runs = [one.wait() for one in [Started(place.name, [place.one_pass()]) for place in places]]
            cpu = sum(sites.cpu_of(pid) for pid in running.values())
        told = asked(nginx)
    sideways = 0
    for place, run in zip(places, runs, strict=True):
        sideways += sites.require_complete(run)["bytes"]["sideways"]
        require_copy(place.name, tree, place.copy)
    bench.fresh("together")
    return Team(told.file_bytes, told.listings, sideways, max(run.wall for run in runs), cpu)


def _cells(told: Team, lone: Team) -> tuple[str, ...]:
    return (
        megabytes(told.file_bytes),
        f"{told.file_bytes / lone.file_bytes:.3f}",
        str(told.listings),
        f"{told.slowest:.2f}",
        f"{told.slowest / lone.slowest:.2f}",
        megabytes(told.sideways),
        f"{told.cpu:.1f}",
    )


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
            places = sites.cluster(
                bench.fresh("together"), nginx.url, sites.sharing(count), extra=sites.RELAYED
            )
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
