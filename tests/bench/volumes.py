"""Where copies lie: a tmpfs, which takes the disk out; an ext4 whose syncs cost the same at any time."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.machine import file_system
from tests.bench.measure import Bench, Command

MEMORY = Path("/dev/shm")
EACH = 4096  # bytes for each inode: the small files of T1 run out of those that mkfs.ext4 makes by itself
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
def ext4(bench: Bench, size: float) -> Iterator[tuple[str, Bench]]:
    """The bench with an ext4 of `size` bytes, an image in memory on a loop device; its own folder where this
    machine does not permit that (it takes root)."""
    with tempfile.TemporaryDirectory(prefix="sideways-bench-", dir=MEMORY if _fits(size) else None) as folder:
        image, mounted = Path(folder, "image"), Path(folder, "mounted")
        if not (_fits(size) and _mounted(image, mounted, size)):
            yield file_system(bench.work), bench
            return
        try:
            yield "ext4 in memory", replace(bench, work=mounted)
        finally:
            subprocess.run(["umount", "--lazy", mounted], check=True)


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


def _mounted(image: Path, at: Path, size: float) -> bool:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    at.mkdir()
    with image.open("wb") as out:
        out.truncate(round(size))
    commands: tuple[Command, ...] = (
        ["mkfs.ext4", "-q", "-F", "-i", str(EACH), str(image)],
        ["mount", "-o", "loop", str(image), str(at)],
    )
    return all(subprocess.run(one, capture_output=True, check=False).returncode == 0 for one in commands)
