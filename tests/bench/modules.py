"""Table 16: an rsync module of a million files, beside `rsync -an`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests import servers
from tests.bench import peers, sites
from tests.bench.alone import OURS, alternating
from tests.bench.measure import Bench, Command, Run, Unusable, timed
from tests.bench.table import Table, Verdict, megabytes

FILES = 1_000_000  # at scale 1, all empty
EACH = 100  # of one directory
FAN = 100  # directories of one directory
AT = 1_600_000_000  # s; all of them
MEMORY = 300.0  # MB, of the pass and its children together
LOOK = 0.2  # s between two looks at the processes
DRY = "rsync -an"


def modules(bench: Bench, table: Table) -> None:
    """Fills the table. Raises Unusable."""
    if "rsync" not in peers.found():
        raise Unusable("rsync: not installed")
    files = round(FILES * bench.scale)
    root = bench.fresh("origin")
    _empty_files(root, files)
    table.head = ("pass", "contestant", "wall s", "CPU s", "peak MB with children")
    table.about = (
        f"A module of {files:,} empty files, {EACH} to a directory. `rsync -an` compares the module with our "
        f"copy. The peak is the largest sum of what all processes of a contestant hold (PSS). "
        f"{bench.rounds} alternating rounds after the first copy; the last one is shown."
    )
    with servers.rsyncd(root) as server:
        place = sites.cluster(bench.fresh("ours"), server.url, ["forward"], together=False)[0]
        first = _heaviest(OURS, place.one_pass())
        if sites.require_complete(first.run)["files"]["origin"] != files:
            raise Unusable(f"{OURS}: the first copy lacks files")
        ours, theirs = [first], []

        def again() -> None:
            ours.append(_heaviest(OURS, place.one_pass()))
            if sites.require_complete(ours[-1].run)["files"]["origin"]:
                raise Unusable(f"{OURS}: files were fetched again")

        def dry() -> None:
            command = peers.ALL["rsync"](server.url, place.copy)
            theirs.append(_heaviest(DRY, [*command, "--dry-run"]))

        alternating(bench.rounds, [again, dry])
    for what, who, one in (("first", OURS, first), ("unchanged", OURS, ours[-1]), ("", DRY, theirs[-1])):
        table.rows.append((what, who, f"{one.run.wall:.2f}", f"{one.run.cpu:.2f}", megabytes(one.peak)))
    table.verdicts.append(Verdict("peak MB with children", max(one.peak for one in ours) / 1e6, MEMORY))


def _empty_files(root: Path, files: int) -> None:
    for number in range(0, files, EACH):
        leaf = root / f"{number // EACH // FAN:03d}" / f"{number // EACH % FAN:02d}"
        leaf.mkdir(parents=True)
        for name in range(min(EACH, files - number)):
            path = leaf / f"file{name:02d}.bin"
            path.touch()
            os.utime(path, (AT, AT))


@dataclass(frozen=True, slots=True)
class _Cost:
    run: Run
    peak: int  # bytes, of all processes together


def _heaviest(name: str, command: Command) -> _Cost:
    """Run a command, and look at what it and its children hold."""
    peaks: list[int] = [0]
    with _looking(peaks):
        run = timed(name, command)
    return _Cost(run, max(peaks))


@contextmanager
def _looking(peaks: list[int]) -> Iterator[None]:
    """Meanwhile `peaks` grows by the sums of the processes that this one has begun since."""
    before, over = _below(os.getpid()), threading.Event()

    def look() -> None:
        while not over.wait(LOOK):
            peaks.append(sum(map(_held, _below(os.getpid()) - before)))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def _below(pid: int) -> set[int]:
    """The process's children, theirs, and so on."""
    found: set[int] = set()
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()):
                found |= {child} | _below(child)
    return found


def _held(pid: int) -> int:
    """Bytes: its share of what it holds together with others counts once among them (PSS, proc(5))."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
