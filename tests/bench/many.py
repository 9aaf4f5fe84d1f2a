"""Table 10: passes over a tree of millions of files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests import servers
from tests.bench import sites, vast
from tests.bench.measure import Bench, Run, timed
from tests.bench.table import Table, Verdict, megabytes

FILES = 10_000_000  # at scale 1
CHANGED = (10, 100)  # directories with a changed file
FOLLOWED, MEMORY = 60.0, 300.0  # s, MB: what a pass that follows may take
GROWS = 2.0  # times what a changed file costs in a tree of a hundredth: listings on the way to it are longer
EXTRA = '<sideways listings="15m"/>'


@dataclass(frozen=True, slots=True)
class _Cost:
    run: Run
    asked: int  # listings
    fetched: int  # files


@dataclass(slots=True)
class _Site:
    """One daemon, and what its passes cost."""

    place: sites.Place
    pid: int
    table: Table
    files: str

    def one_pass(self, what: str, origin: vast.Listed) -> _Cost:
        """A pass that must be complete: wall time, CPU of the daemon, its peak during the pass, listings."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # the peak begins anew (proc(5))
        origin.asked()
        before = sites.cpu_of(self.pid)
        run = timed(self.place.name, self.place.one_pass())
        told = sites.require_complete(run)
        asked, cpu = origin.asked(), sites.cpu_of(self.pid) - before
        peak = sites.peak_of(self.pid)
        fetched = told["files"]["origin"] + told["files"]["sideways"]
        cells = (f"{run.wall:.2f}", f"{cpu:.2f}", megabytes(peak), str(asked), str(fetched))
        self.table.rows.append((self.files, what, *cells, str(told["followed"] or "-")))
        return _Cost(Run(run.wall, cpu, peak, run.out), asked, fetched)


def many(bench: Bench, table: Table) -> None:
    """Table 10."""
    table.head = (
        "files",
        "pass",
        "wall s",
        "daemon CPU s",
        "daemon peak MB",
        "listings asked",
        "fetched",
        "followed",
    )
    table.about = (
        f"Directories of {vast.EACH} files, three levels deep. The origin computes its listings; records and "
        "folders are filled as passes would have left them, the files being hard links to a few inodes. One "
        "site walks, and the other follows it; it has the same records, and of the files only those of "
        "directories that change."
    )
    every = round(FILES * bench.scale)
    (small, _), (large, costs) = _both(bench, table, every // 100), _both(bench, table, every)
    table.verdicts += [
        Verdict("follower, nothing changed: listings asked for", costs[0].asked, 0),
        Verdict("follower, nothing changed: s", costs[0].run.wall, FOLLOWED),
        Verdict("follower: peak MB", max(cost.run.peak for cost in costs) / 1e6, MEMORY),
        Verdict(
            "follower, CPU for each changed file: of the large tree / of the small one", large / small, GROWS
        ),
    ]


def _both(bench: Bench, table: Table, files: int) -> tuple[float, list[_Cost]]:
    """One size: CPU s of the follower for each changed file, and what its passes cost."""
    plain = vast.Vast(files)
    changed = [vast.Vast(files, min(count, plain.leaves)) for count in CHANGED]
    folder = bench.fresh("many")
    with vast.origin(plain) as origin:
        port = origin.port
        first, second = sites.cluster(folder, origin.url, ("rendezvous",) * 2, extra=EXTRA)
        vast.fill(first, plain, origin.url)
        vast.copy_records(first, second, plain, changed[-1].late())
    stored = os.path.getsize(first.folder / "state" / f"{sites.MIRROR}.db")
    count = f"{plain.leaves * vast.EACH}"
    table.about += f" Store of {count} files: {megabytes(stored)} MB."
    costs = []
    with sites.daemons([first, second]) as running:
        walker, follower = (_Site(place, running[place.name], table, count) for place in (first, second))
        for tree in (plain, *changed):
            with vast.origin(tree, port) as origin:
                what = f"{tree.changed} directories changed" if tree.changed else "nothing changed"
                walker.one_pass(f"walks, {what}", origin)
                costs.append(follower.one_pass(f"follows, {what}", origin))
    _rsync(table, first, count)
    bench.fresh("many")
    most = max(costs, key=lambda cost: cost.fetched)
    return max(0.001, most.run.cpu - costs[0].run.cpu) / max(1, most.fetched), costs


def _rsync(table: Table, place: sites.Place, files: str) -> None:
    """What rsync needs to find out the same: both ends have the very same tree."""
    with servers.rsyncd(place.copy) as daemon:
        run = timed("rsync", ["rsync", "-an", "--delete", daemon.url, f"{place.copy}/"])
    table.rows.append(
        (files, "rsync -an", f"{run.wall:.2f}", f"{run.cpu:.2f}", megabytes(run.peak), "-", "-", "-")
    )
