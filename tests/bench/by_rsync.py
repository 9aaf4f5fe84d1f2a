"""Table 17: one site that mirrors by rsync beside rsync itself."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests import servers
from tests.bench import peers, sites
from tests.bench.alone import OURS, TIMES, alternating
from tests.bench.measure import Bench, Run, Unusable, median, require_copy, synced, timed
from tests.bench.table import Table, Verdict, megabytes, seconds
from tests.bench.trees import Tree

TREES = ("T1", "T2", "T4")
RSYNC = "rsync -a"
SLOWER, MORE = 1.25, 1.05  # times rsync's own time, and bytes of an edited image
IMAGE, EDITED = 2**30, 1000  # bytes of the image at scale 1, and bytes of each of its edits
EDITS = 64


def by_rsync(bench: Bench, table: Table) -> None:
    """Fills the table. Raises Unusable."""
    if "rsync" not in peers.found():
        raise Unusable("rsync: not installed")
    table.head = ("what", "contestant", *TIMES, "MB received")
    table.about = (
        "Both read one rsync daemon; `sync -f` of the copy is inside the time. From nothing, and once more "
        f"with nothing changed; then an image of {megabytes(IMAGE * bench.scale)} MB with {EDITS} edits of "
        f"{EDITED} bytes. Ours also records a SHA-256 of every file. {bench.rounds} alternating rounds."
    )
    for name in TREES:
        tree = bench.tree(name)
        with servers.rsyncd(tree.root) as server:
            _copies(bench, table, name, tree, server.url)
    _edited(bench, table)


def _copies(bench: Bench, table: Table, name: str, tree: Tree, url: str) -> None:
    """From nothing, and unchanged."""
    first: dict[str, list[Run]] = {OURS: [], RSYNC: []}
    again: dict[str, list[Run]] = {OURS: [], RSYNC: []}

    def ours() -> None:
        place = sites.cluster(bench.fresh("ours"), url, ["forward"], together=False)[0]
        for runs in (first, again):
            run = timed(OURS, place.one_pass(), synced(place.folder))
            told = sites.require_complete(run)
            if runs is again and told["files"]["origin"]:
                raise Unusable(f"{OURS}: {name}: {told['files']['origin']} files were fetched again")
            runs[OURS].append(run)
        require_copy(OURS, tree, place.copy)

    def theirs() -> None:
        copy = bench.fresh("rsync")
        for runs in (first, again):
            runs[RSYNC].append(timed(RSYNC, peers.ALL["rsync"](url, copy), synced(copy)))
        require_copy(RSYNC, tree, copy)

    alternating(bench.rounds, [ours, theirs])
    for what, runs in ((f"{name}, initial", first), (f"{name}, unchanged", again)):
        _told(table, what, runs, {})
        found = median(runs[OURS]) / median(runs[RSYNC])
        table.verdicts.append(Verdict(f"{what}: time, ours / {RSYNC}", found, SLOWER))


def _told(table: Table, what: str, runs: dict[str, list[Run]], received: dict[str, int]) -> None:
    ours = median(runs[OURS])
    for name, some in runs.items():
        cpu = sorted(run.cpu for run in some)[len(some) // 2]
        bytes_told = megabytes(received[name]) if name in received else "-"
        table.rows.append(
            (what, name, *seconds(some), f"{median(some) / ours:.2f}", f"{cpu:.2f}",
             megabytes(max(run.peak for run in some)), bytes_told)
        )  # fmt: skip


def _edited(bench: Bench, table: Table) -> None:
    """The new version of an image for who has the older one: what comes over the wire."""
    origin = bench.fresh("image")
    image = origin / "image.iso"
    size = max(2**20, round(IMAGE * bench.scale))
    with image.open("wb") as file:
        for _ in range(size // 2**20):
            file.write(os.urandom(2**20))
    os.utime(image, (1_600_000_000, 1_600_000_000))
    with servers.rsyncd(origin) as server:
        place = sites.cluster(bench.fresh("ours"), server.url, ["forward"], together=False)[0]
        copy = bench.fresh("rsync")
        sites.require_complete(timed(OURS, place.one_pass()))
        timed(RSYNC, peers.ALL["rsync"](server.url, copy))
        _edit(image)
        ours = timed(OURS, place.one_pass(), synced(place.folder))
        theirs = timed(RSYNC, [*peers.ALL["rsync"](server.url, copy), "--stats"], synced(copy))
    told = re.search(r"Total bytes received: ([\d,]+)", theirs.out)
    if told is None or not _same(image, place.copy / image.name, copy / image.name):
        raise Unusable("the edited image: not the same in both copies")
    received = {
        OURS: sites.require_complete(ours)["bytes"]["origin"],
        RSYNC: int(told[1].replace(",", "")),
    }
    _told(table, "edited image", {OURS: [ours], RSYNC: [theirs]}, received)
    found = received[OURS] / received[RSYNC]
    table.verdicts.append(Verdict(f"edited image: bytes received, ours / {RSYNC}", found, MORE))


def _edit(image: Path) -> None:
    size = image.stat().st_size
    with image.open("r+b") as file:
        for number in range(EDITS):
            file.seek(size * number // EDITS + 5)
            file.write(os.urandom(EDITED))
    os.utime(image, (1_600_000_100, 1_600_000_100))


def _same(*files: Path) -> bool:
    with files[0].open("rb") as one:
        while piece := one.read(2**22):
            for other in files[1:]:
                with other.open("rb") as copy:
                    copy.seek(one.tell() - len(piece))
                    if copy.read(len(piece)) != piece:
                        return False
    return len({file.stat().st_size for file in files}) == 1
