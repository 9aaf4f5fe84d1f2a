"""Table 18: one site that mirrors by FTP beside lftp and rclone."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

from tests import servers
from tests.bench import peers, sites
from tests.bench.alone import OURS, TIMES, alternating
from tests.bench.measure import Bench, Run, Unusable, median, require_copy, synced, timed
from tests.bench.table import Table, Verdict, megabytes, seconds
from tests.bench.trees import Tree

TREES = ("T1", "T2", "T4")
SLOWER = 1.0  # times what lftp and rclone take
QUIET = "log_ftp_protocol=NO\nxferlog_enable=NO\n"  # a log of every command is a part of nobody's work


def by_ftp(bench: Bench, table: Table) -> None:
    """Fills the table. Raises Unusable."""
    others = [name for name in peers.BY_FTP if name in peers.found()]
    if not others:
        raise Unusable("lftp, rclone: none of them is installed")
    table.head = ("what", "contestant", *TIMES)
    table.about = (
        "All read one vsftpd, by 8 connections; `sync -f` of the copy is inside the time. From nothing, and "
        "once more with nothing changed. rclone is spared the links of T2, which it cannot copy. Ours also "
        f"records a SHA-256 of every file. {bench.rounds} alternating rounds."
    )
    for name in TREES:
        tree = bench.tree(name)
        with servers.vsftpd(tree.root, extra=QUIET) as server:
            _copies(bench, table, tree, server.url, others)
        shutil.rmtree(bench.work / "run")


def _copies(bench: Bench, table: Table, tree: Tree, url: str, others: list[str]) -> None:
    """Every run has a folder of its own: ext4 looks long for a new inode where many were deleted lately."""
    turn = count()
    first: dict[str, list[Run]] = {name: [] for name in (OURS, *others)}
    again: dict[str, list[Run]] = {name: [] for name in (OURS, *others)}

    def ours() -> None:
        place = sites.cluster(bench.fresh(f"ours-{next(turn)}"), url, ["forward"], together=False)[0]
        for runs in (first, again):
            run = timed(OURS, place.one_pass(), synced(place.folder))
            told = sites.require_complete(run)
            if runs is again and told["files"]["origin"]:
                raise Unusable(f"{OURS}: {tree.name}: {told['files']['origin']} files were fetched again")
            runs[OURS].append(run)
        require_copy(OURS, tree, place.copy)

    def theirs(name: str) -> None:
        copy: Path = bench.fresh(f"{name}-{next(turn)}")
        for runs in (first, again):
            runs[name].append(timed(name, peers.BY_FTP[name](url, copy), synced(copy)))
        require_copy(name, tree, copy, exact=False, links=name != "rclone")

    alternating(bench.rounds, [ours, *(lambda name=name: theirs(name) for name in others)])
    for what, runs in ((f"{tree.name}, initial", first), (f"{tree.name}, unchanged", again)):
        _told(table, what, runs)
        for name in others:
            found = median(runs[OURS]) / median(runs[name])
            table.verdicts.append(Verdict(f"{what}: time, ours / {name}", found, SLOWER))


def _told(table: Table, what: str, runs: dict[str, list[Run]]) -> None:
    ours = median(runs[OURS])
    for name, some in runs.items():
        cpu = sorted(run.cpu for run in some)[len(some) // 2]
        table.rows.append(
            (what, name, *seconds(some), f"{median(some) / ours:.2f}", f"{cpu:.2f}",
             megabytes(max(run.peak for run in some)))
        )  # fmt: skip
