"""What the figures were measured on: without it they mean nothing."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

from tests.bench import peers

LIBRARIES = ("aiohttp", "uvloop")


def described(work: Path) -> str:
    """One paragraph: date, cores, memory, kernel, file system of `work`, versions."""
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    size = f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "an unknown amount"
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    tools = ", ".join(f"{name} {peers.version(name)}" for name in ("nginx", *peers.found()))
    return (
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores, {size} of memory, "
        f"Linux {platform.release()}, copies on {file_system(work)}; Python {platform.python_version()}, "
        f"{libraries}, SQLite {sqlite3.sqlite_version}; {tools}. Load average before it began "
        f"{os.getloadavg()[0]:.1f}. All traffic on loopback."
    )


def file_system(folder: Path) -> str:
    said = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True)
    return said.stdout.strip().replace("ext2/ext3", "ext4")  # one magic number for all three
