"""`python -m tests.bench`: ours beside the peers that this machine has. Exit status 1 when a limit is missed.

The trees and the copies need about 8 GB of disk at scale 1; `--work DIR` keeps the trees for the next run.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import (
    alone,
    beside,
    by_ftp,
    by_rsync,
    machine,
    many,
    modules,
    newer,
    spread,
    together,
    trouble,
    uplink,
)
from tests.bench.measure import SITES, TREES, Bench, Unusable
from tests.bench.table import Table

TABLES: dict[int, tuple[str, Callable[[Bench, Table], None]]] = {
    1: ("Initial copy of many small files", alone.initial),
    2: ("Second pass, nothing changed", alone.unchanged),
    3: ("Initial copy of huge files", alone.large),
    4: ("Peak memory of a pass", alone.memory),
    5: ("What several sites ask of one origin", together.cooperation),
    6: ("A sibling that accepts connections and never answers", together.mute_sibling),
    7: ("What a sibling has, from it", beside.from_sibling),
    8: ("Requests of several sites that relay listings", together.relayed),
    9: ("The new version of a file, for who has the older one", newer.newer),
    10: ("Ten million files", many.many),
    11: ("How soon a published file is at every site", spread.spread),
    12: ("One of several sites is killed", trouble.killed),
    13: ("One of several sites is ten times slower", trouble.slow),
    14: ("Several sites behind one link to the origin", uplink.shared),
    15: ("A thousand small files from far away", uplink.far),
    16: ("A million files in an rsync module", modules.modules),
    17: ("A site that mirrors by rsync, beside rsync", by_rsync.by_rsync),
    18: ("A site that mirrors by FTP, beside lftp and rclone", by_ftp.by_ftp),
}
# bytes of disk at scale 1, beside one T3 for each site of the largest number where a table asks for several
NEEDED = {
    1: 1.5e9, 2: 1.5e9, 3: 9e9, 4: 9e9, 5: 6e9, 6: 0.6e9, 7: 14e9, 8: 3e9, 9: 12e9,
    10: 9e9, 11: 3e9, 12: 6e9, 13: 24e9, 14: 22e9, 15: 0.1e9, 16: 2e9, 17: 4e9, 18: 9e9,
}  # fmt: skip
OF_SITES, EACH = {5, 12}, 4.4e9
OF_TREES, WITHOUT_T3 = {5, 12, 13, 14}, 0.8e9
SCRATCH = "/var/tmp"  # on a disk where /tmp is memory

_SECTION = re.compile(r"^## (\d+)\. .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write. Returns the exit status."""
    told = _arguments(arguments)
    if told.work is not None:
        told.work.mkdir(parents=True, exist_ok=True)
        return _measured(_bench(told, told.work), told.only, told.write)
    with tempfile.TemporaryDirectory(prefix="sideways-bench-", dir=SCRATCH) as work:
        return _measured(_bench(told, Path(work)), told.only, told.write)


def _bench(told: argparse.Namespace, work: Path) -> Bench:
    return Bench(work, told.scale, told.rounds, told.sites, told.trees)


def _measured(bench: Bench, numbers: list[int], file: Path | None) -> int:
    needed = max(_needed(number, bench) for number in numbers)
    free = shutil.disk_usage(bench.work).free
    if free < needed:
        have = f"{bench.work}: {free / 1e9:.1f} GB free"
        print(f"{have}, these tables need {needed / 1e9:.1f} GB; see --work and --scale", file=sys.stderr)
        return 2
    about = machine.described(bench.work)
    print(f"{about}\n", flush=True)
    tables = []
    try:
        for number in numbers:
            tables.append(_one(bench, number))
            print(tables[-1].markdown(), flush=True)
    finally:
        shutil.rmtree(bench.work / "run", ignore_errors=True)
    if file is not None:
        _write(file, about, bench, tables)
    return 0 if all(table.holds for table in tables) else 1


def _needed(number: int, bench: Bench) -> float:
    """Bytes of disk."""
    if number in OF_TREES and "T3" not in bench.trees:
        return (WITHOUT_T3 + WITHOUT_T3 * max(bench.sites)) * bench.scale
    return (NEEDED[number] + (EACH * max(bench.sites) if number in OF_SITES else 0.0)) * bench.scale


def _one(bench: Bench, number: int) -> Table:
    """The table; where something could not be measured, with the reason and what there is so far."""
    title, fill = TABLES[number]
    table = Table(number, title)
    try:
        fill(bench, table)
    except (Unusable, pytest.fail.Exception) as error:
        table.failure = str(error)
    return table


def _write(file: Path, about: str, bench: Bench, tables: list[Table]) -> None:
    """Replace the sections of these tables; those of others stay as they were measured."""
    try:
        old = file.read_text("utf-8")
    except FileNotFoundError:
        old = "# Benchmarks\n"
    sections = {int(found[1]): found[0].rstrip("\n") for found in _SECTION.finditer(old)}
    head = _SECTION.sub("", old).rstrip("\n")
    scale = "" if bench.scale == 1 else f" At {bench.scale:g} times the size."
    for table in tables:
        sections[table.number] = f"{table.markdown()}\nMeasured {about}{scale}"
    body = "\n\n".join(sections[number] for number in sorted(sections))
    file.write_text(f"{head}\n\n{body}\n", "utf-8")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", type=_numbers, default=list(TABLES), metavar="1,2", help="these tables")
    parser.add_argument("--rounds", type=_positive, default=5, help="alternating rounds (default 5)")
    parser.add_argument("--scale", type=_scale, default=1.0, help="size of the trees (default 1)")
    parser.add_argument(
        "--sites",
        type=_counts,
        default=SITES,
        metavar="2,4,8",
        help="how many together (tables 5, 12; default 2,4,8)",
    )
    parser.add_argument(
        "--trees",
        type=_trees,
        default=TREES,
        metavar="T1,T2",
        help="of tables 5, 12, 13, 14 (default T1,T2,T3)",
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="trees are kept here; default: a temporary folder"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this file as well")
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not set(numbers) <= set(TABLES):
        raise argparse.ArgumentTypeError(f"there are tables {', '.join(map(str, TABLES))}")
    return numbers


def _trees(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(TREES):
        raise argparse.ArgumentTypeError(f"some of {', '.join(TREES)}")
    return names


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(part) for part in text.split(","))
    if not all(2 <= count <= 16 for count in counts):
        raise argparse.ArgumentTypeError("numbers from 2 to 16")
    return counts


def _positive(text: str) -> int:
    if not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError("a whole number from 1 to 100")
    return int(text)


def _scale(text: str) -> float:
    if not 0.001 <= float(text) <= 10:
        raise argparse.ArgumentTypeError("a number from 0.001 to 10")
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
