"""Running contestants and looking at what they did: time, memory, the origin's log, the copy on disk."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.trees import Tree, made
from tests.servers import Request, Server

TIMED = Path(__file__).with_name("timed.py")
LOG_SETTLES = 0.05  # s: nginx logs a request after the client has its last byte
ALLOWED = 3600.0  # s that one contestant may take: eight sites share these cores
BLOCK = 2**20
SITES = (2, 4, 8)
TREES = ("T1", "T2", "T3")

Command = Sequence[str]


class Unusable(Exception):
    """A contestant failed or left a wrong copy: its time means nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one contestant cost, all its commands together."""

    wall: float  # s
    cpu: float  # s, user and system, of the commands and the children they waited for
    peak: int  # bytes, of the largest process
    out: str  # standard output


@dataclass(slots=True)
class Bench:
    """One run of the bench: where it works, how large and how often."""

    work: Path
    scale: float = 1.0
    rounds: int = 5
    sites: tuple[int, ...] = SITES  # how many work together, where a table asks for several numbers
    trees: tuple[str, ...] = TREES  # of those tables that ask for several
    _trees: dict[str, Tree] = field(default_factory=dict)

    def tree(self, name: str) -> Tree:
        if name not in self._trees:
            self._trees[name] = made(name, self.scale, self.work / "trees")
        return self._trees[name]

    def fresh(self, name: str) -> Path:
        """An empty folder of this name; what lay there before is gone from the disk as well."""
        folder = self.work / "run" / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        subprocess.run(["sync", "-f", folder], check=True)
        return folder


def synced(folder: Path) -> Command:
    """The command that ends every contestant which does not sync what it writes."""
    return ["sync", "-f", str(folder)]


class Started:
    """Commands under way, one after the other. `home` holds no configuration of anybody's."""

    def __init__(self, name: str, commands: Iterable[Command]) -> None:
        self._name = name
        self._folder = Path(tempfile.mkdtemp(prefix="sideways-timed-"))
        told = json.dumps([list(map(str, command)) for command in commands])
        with (self._folder / "out").open("wb") as out, (self._folder / "err").open("wb") as err:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-IS", TIMED, self._folder / "json", told],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "HOME": str(self._folder),
                    "LC_ALL": "C.UTF-8",
                },
            )

    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> Run:
        """Raises Unusable where a command failed or took too long."""
        try:
            self._process.wait(ALLOWED)
            out = (self._folder / "out").read_text("utf-8", "replace")
            told = json.loads((self._folder / "json").read_text())
            rows = told["commands"]
            if rows[-1]["status"]:
                said = (self._folder / "err").read_text("utf-8", "replace") or out
                last = (said.strip().splitlines() or ["and said nothing"])[-1]
                raise Unusable(f"{self._name}: exit {rows[-1]['status']}: {last[-300:]}")
            return Run(told["wall"], sum(row["cpu"] for row in rows), max(row["peak"] for row in rows), out)
        except subprocess.TimeoutExpired:
            raise Unusable(f"{self._name}: not done after {ALLOWED:.0f} s") from None
        except FileNotFoundError:
            raise Unusable(f"{self._name}: ended without a result") from None
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)


def timed(name: str, *commands: Command) -> Run:
    """Run commands one after the other. Raises Unusable."""
    return Started(name, commands).wait()


@dataclass(frozen=True, slots=True)
class Asked:
    """What the origin sent, by its own log."""

    requests: int
    listings: int  # requests for directories
    bodies: int  # requests for files that were answered with bytes
    file_bytes: int


def asked(server: Server) -> Asked:
    """The log since it was last emptied; it is emptied again."""
    time.sleep(LOG_SETTLES)
    rows = server.requests()
    server.forget()
    files = [row for row in rows if not _directory(row)]
    return Asked(
        len(rows),
        len(rows) - len(files),
        sum(1 for row in files if row.sent),
        sum(row.sent for row in files),
    )


def _directory(row: Request) -> bool:
    return row.target.partition("?")[0].endswith("/")


def snapshot(root: Path) -> dict[str, tuple[int, ...]]:
    """Every name below `root` with all that a write would change."""
    seen: dict[str, tuple[int, ...]] = {}
    for folder, directories, files in os.walk(root):
        for name in (".", *directories, *files):
            path = os.path.join(folder, name)
            at = os.lstat(path)
            seen[path] = (at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_mode)
    return seen


def require_copy(name: str, tree: Tree, copy: Path, *, exact: bool = True, links: bool = True) -> None:
    """Raises Unusable unless `copy` has every file of the tree, byte for byte; `exact`: and nothing else.
    Without `links` it need not have what is one."""
    found = 0
    for folder, _, files in os.walk(tree.root, followlinks=links):
        inside = os.path.relpath(folder, tree.root)
        for file in files:
            if not links and os.path.islink(os.path.join(folder, file)):
                continue
            path = os.path.normpath(os.path.join(inside, file))
            if not _equal(tree.root / path, copy / path):
                raise Unusable(f"{name}: {path}: missing or different in the copy")
            found += 1
    there = sum(len(files) for _, _, files in os.walk(copy, followlinks=True))
    if exact and there != found:
        raise Unusable(f"{name}: the copy has {there} files, the origin {found}")


def _equal(one: Path, other: Path) -> bool:
    try:
        with one.open("rb", 0) as a, other.open("rb", 0) as b:
            while True:
                block = a.read(BLOCK)
                if block != b.read(BLOCK):
                    return False
                if not block:
                    return True
    except FileNotFoundError:
        return False


def median(runs: Sequence[Run]) -> float:
    return statistics.median(run.wall for run in runs)
