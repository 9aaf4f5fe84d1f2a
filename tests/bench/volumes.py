"""Where copies lie: on the disk, or in a tmpfs, which takes the disk out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.machine import file_system
from tests.bench.measure import Bench

MEMORY = Path("/dev/shm")
SPARE = 2**30  # bytes of memory that are left to everybody else


@contextmanager
def tmpfs(bench: Bench, size: float) -> Iterator[tuple[str, Bench]]:
    """The bench with `size` bytes of tmpfs to work in, and what to call it; else in its own folder."""
    if not _fits(size):
        yield file_system(bench.work), bench
        return
    with tempfile.TemporaryDirectory(prefix="sideways-bench-", dir=MEMORY) as folder:
        yield "tmpfs", replace(bench, work=Path(folder))


@contextmanager
def disk(bench: Bench, size: float) -> Iterator[tuple[str, Bench]]:
    """The bench as it is, with the file system of its folder as a name."""
    yield file_system(bench.work), bench


def _fits(size: float) -> bool:
    return (
        MEMORY.is_dir()
        and file_system(MEMORY) == "tmpfs"
        and shutil.disk_usage(MEMORY).free > size + SPARE
        and _available() > size + SPARE
    )


def _available() -> int:
    """Bytes of memory that can be had without swapping (proc(5))."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
