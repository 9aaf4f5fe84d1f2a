"""Tables 1 to 4: one site beside the tools of today."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tests import servers
from tests.bench import peers, sites
from tests.bench.measure import (
    Asked,
    Bench,
    Command,
    Run,
    Unusable,
    asked,
    median,
    require_copy,
    snapshot,
    synced,
    timed,
)
from tests.bench.table import Table, Verdict, megabytes, seconds
from tests.bench.trees import Tree

MEMORY = 200e6  # bytes: the largest peak that a pass may have
LARGE_ROUNDS = 3  # of gigabytes: their spread is small

OURS, DAEMON = "sideways pass", "sideways pass, daemon up"
TIMES = ("median s", "range s", "x ours", "CPU s", "peak MB")


@dataclass(slots=True)
class Contest:
    """The runs of several contestants, and the most that each asked of the origin in one of them."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)

    def note(self, name: str, run: Run, told: Asked | None) -> None:
        self.runs.setdefault(name, []).append(run)
        if told is not None:
            most = self.asked.get(name, told)
            self.asked[name] = max(told, most, key=lambda asked: (asked.bodies, asked.requests))

    def rows(self) -> Iterator[Sequence[str]]:
        """Name, times, CPU, memory, requests, bytes: everybody's medians beside ours."""
        ours = median(self.runs[OURS])
        for name, runs in self.runs.items():
            told = self.asked.get(name)
            counts = (str(told.requests), megabytes(told.file_bytes)) if told else ("-", "-")
            cpu = sorted(run.cpu for run in runs)[len(runs) // 2]
            peak = max(run.peak for run in runs)
            yield (name, *seconds(runs), f"{median(runs) / ours:.2f}", f"{cpu:.2f}", megabytes(peak), *counts)

    def against(self, ours: str, peer: str, limit: float, what: str) -> list[Verdict]:
        """Our median over the peer's; nothing where this machine does not have the peer."""
        if peer not in self.runs:
            return []
        return [Verdict(f"{what}, ours / {peer}", median(self.runs[ours]) / median(self.runs[peer]), limit)]


@contextmanager
def origins(tree: Tree) -> Iterator[tuple[servers.Server, str | None]]:
    """nginx, and the URL of an rsync daemon where this machine has rsync, over one tree."""
    with servers.nginx(tree.root) as nginx:
        if "rsync" not in peers.found():
            yield nginx, None
            return
        with servers.rsyncd(tree.root) as rsyncd:
            yield nginx, rsyncd.url


def _peer(
    name: str, tree: Tree, nginx: servers.Server, rsync_url: str | None, copy: Path
) -> tuple[Run, Asked | None]:
    """One peer, from what lies in `copy`, synced and checked."""
    by_http = name in peers.BY_HTTP
    nginx.forget()
    run = timed(name, peers.ALL[name](nginx.url if by_http else str(rsync_url), copy), synced(copy))
    told = asked(nginx) if by_http else None
    require_copy(name, tree, copy, exact=False)
    return run, told


def _ours(tree: Tree, nginx: servers.Server, place: sites.Place) -> tuple[Run, Asked]:
    nginx.forget()
    run = timed(OURS, place.one_pass(), synced(place.folder))
    told = asked(nginx)
    sites.require_complete(run)
    require_copy(OURS, tree, place.copy)
    return run, told


def _alone(bench: Bench, name: str, origin: str) -> sites.Place:
    return sites.cluster(bench.fresh(name), origin, ["forward"], together=False)[0]


def alternating(rounds: int, contestants: Sequence[Callable[[], None]]) -> None:
    """Every contestant once a round, each round in another order: what a neighbour does hits all of them."""
    for number in range(rounds):
        turn = number % len(contestants)
        for contestant in (*contestants[turn:], *contestants[:turn]):
            contestant()


def initial(bench: Bench, table: Table) -> None:
    """Table 1."""
    tree, contest = bench.tree("T1"), Contest()
    table.head = ("contestant", *TIMES, "requests", "file MB sent")
    table.about = (
        f"T1, {tree.files} files and {megabytes(tree.bytes)} MB in {tree.directories} directories, from "
        f"nothing; `sync -f` of the copy is inside the time. {bench.rounds} alternating rounds."
    )
    with origins(tree) as (nginx, rsync_url):

        def ours() -> None:
            contest.note(OURS, *_ours(tree, nginx, _alone(bench, "ours", nginx.url)))

        def peer(name: str) -> None:
            contest.note(name, *_peer(name, tree, nginx, rsync_url, bench.fresh(name)))

        alternating(bench.rounds, [ours, *(partial(peer, name) for name in peers.found())])
    table.rows += contest.rows()
    table.verdicts += contest.against(OURS, "lftp", 1.0, "time")
    table.verdicts += contest.against(OURS, "wget2", 1.0, "time")
    table.verdicts += contest.against(OURS, "rclone", 0.8, "time")


def unchanged(bench: Bench, table: Table) -> None:
    """Table 2."""
    tree, contest = bench.tree("T1"), Contest()
    table.head = ("contestant", *TIMES, "requests", "file MB sent")
    table.about = (
        "T1 again, over the copies of a first run. Ours as a command of its own, and as a command that asks "
        "a running daemon (CPU is then the daemon's and the command's, memory the daemon's). "
        f"{bench.rounds} alternating rounds."
    )
    written: Counter[str] = Counter()
    with origins(tree) as (nginx, rsync_url):
        alone, served = (_alone(bench, name, nginx.url) for name in ("ours", "daemon"))
        copies = {name: bench.fresh(name) for name in peers.found()}
        for name, copy in copies.items():
            _peer(name, tree, nginx, rsync_url, copy)
        for place in (alone, served):
            _ours(tree, nginx, place)
        with sites.daemons([served]) as running:

            def ours(name: str, place: sites.Place, pid: int | None = None) -> None:
                before = snapshot(place.copy)
                used = sites.cpu_of(pid) if pid else 0.0
                run, told = _ours(tree, nginx, place)
                if pid:
                    run = replace(run, cpu=run.cpu + sites.cpu_of(pid) - used, peak=sites.peak_of(pid))
                written[name] += snapshot(place.copy) != before
                contest.note(name, run, told)

            def peer(name: str) -> None:
                contest.note(name, *_peer(name, tree, nginx, rsync_url, copies[name]))

            mine = [partial(ours, OURS, alone), partial(ours, DAEMON, served, running[served.name])]
            alternating(bench.rounds, [*mine, *(partial(peer, name) for name in copies)])
    table.rows += contest.rows()
    for name in (OURS, DAEMON):
        told = contest.asked[name]
        table.verdicts += contest.against(name, "lftp", 1.0, f"time, {name}")
        if name == DAEMON:
            table.verdicts += contest.against(name, "wget2", 1.0, f"time, {name}")
            table.verdicts += contest.against(name, "rsync", 1.25, f"time, {name}")
        table.verdicts += [
            Verdict(f"{name}: requests for each directory", told.requests / tree.directories, 1.0),
            Verdict(f"{name}: file bodies asked for", told.bodies, 0),
            Verdict(f"{name}: rounds that wrote in the tree", written[name], 0),
        ]


def large(bench: Bench, table: Table) -> None:
    """Table 3."""
    tree, contest = bench.tree("T3"), Contest()
    rounds = min(bench.rounds, LARGE_ROUNDS)
    table.head = ("contestant", *TIMES, "requests", "file MB sent")
    table.about = (
        f"T3, {tree.files} files of {megabytes(tree.bytes / tree.files)} MB. Ours records a SHA-256 of every "
        "file, so wget2 is followed by `openssl dgst -sha256`, and all by `sync -f`; what is demanded of the "
        f"processor is demanded beside rclone. {rounds} alternating rounds."
    )
    digested = "wget2, openssl dgst, sync"
    with servers.nginx(tree.root) as nginx:

        def ours() -> None:
            contest.note(OURS, *_ours(tree, nginx, _alone(bench, "ours", nginx.url)))
            bench.fresh("ours")

        def wget2() -> None:
            copy = bench.fresh("wget2")
            files = [str(copy / file.name) for file in sorted(tree.root.iterdir())]
            digest: Command = ["openssl", "dgst", "-sha256", *files]
            nginx.forget()
            run = timed(digested, peers.ALL["wget2"](nginx.url, copy), digest, synced(copy))
            contest.note(digested, run, asked(nginx))
            require_copy("wget2", tree, copy, exact=False)
            bench.fresh("wget2")

        def rclone() -> None:
            contest.note("rclone", *_peer("rclone", tree, nginx, None, bench.fresh("rclone")))
            bench.fresh("rclone")

        theirs = {"wget2": wget2, "rclone": rclone}
        alternating(rounds, [ours, *(theirs[name] for name in theirs if name in peers.found())])
    table.rows += contest.rows()
    table.verdicts += contest.against(OURS, digested, 1.0, "time")
    if "rclone" in contest.runs:
        ours_cpu, its_cpu = (
            statistics.median(run.cpu for run in contest.runs[one]) for one in (OURS, "rclone")
        )
        gigabytes = tree.bytes / 1e9
        what = f"CPU s/GB, ours {ours_cpu / gigabytes:.2f} / rclone {its_cpu / gigabytes:.2f}"
        table.verdicts.append(Verdict(what, ours_cpu / its_cpu, 1.0))


def memory(bench: Bench, table: Table) -> None:
    """Table 4."""
    table.head = ("tree", "files", "initial s", "initial peak MB", "unchanged s", "unchanged peak MB")
    table.about = (
        "The most that `sideways pass` held resident, as wait4(2) reports it: from nothing, and once more."
    )
    for name in ("T1", "T3", "T4"):
        tree = bench.tree(name)
        with servers.nginx(tree.root) as nginx:
            place = _alone(bench, "ours", nginx.url)
            first, _ = _ours(tree, nginx, place)
            again, told = _ours(tree, nginx, place)
            bench.fresh("ours")
        if told.bodies:
            raise Unusable(f"{OURS}: {name}: {told.bodies} files were fetched again")
        table.rows.append(
            (name, str(tree.files), f"{first.wall:.2f}", megabytes(first.peak), f"{again.wall:.2f}",
             megabytes(again.peak))
        )  # fmt: skip
        table.verdicts.append(Verdict(f"{name}: peak MB", max(first.peak, again.peak) / 1e6, MEMORY / 1e6))
