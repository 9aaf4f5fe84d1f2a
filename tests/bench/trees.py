"""The trees that are copied: the same names, sizes, times and bytes from the same scale, on every machine.

T1 many small files, T2 a distribution archive with links, T3 four images, T4 one wide directory, T6 a
thousand small files. Times are years old, so that no listed minute is still running (an entry of the current
minute is asked again).
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NEWEST = 1_700_000_000
YEARS = 3 * 365 * 86400
BLOCK = 4 * 2**20
POOL = random.Random(20).randbytes(8 * 2**20)
FORM = 1  # raised when a generator changes, so that a cached tree of another form is not used


@dataclass(frozen=True, slots=True)
class Tree:
    """A generated tree, counted as a web server shows it: links look like what they lead to."""

    name: str
    root: Path
    files: int
    bytes: int
    directories: int


def made(name: str, scale: float, cache: Path) -> Tree:
    """The tree `name`, made in `cache` unless it lies there already, and read once to be in memory."""
    root = cache / f"{name}-x{scale:g}-form{FORM}"
    if not root.exists():
        partial = cache / f"{root.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        GENERATORS[name](partial, random.Random(name), scale)
        _settle(partial, random.Random(name))
        partial.rename(root)
    return _counted(name, root)


def _counted(name: str, root: Path) -> Tree:
    files = size = directories = 0
    for folder, _, names in os.walk(root, followlinks=True):
        directories += 1
        for file in names:
            files += 1
            with open(os.path.join(folder, file), "rb") as opened:
                while block := opened.read(BLOCK):
                    size += len(block)
    return Tree(name, root, files, size, directories)


def _many_small(root: Path, chance: random.Random, scale: float) -> None:
    """20 sections of 20 packages of 50 files, 1-16 KB: 20 000 files in 421 directories at scale 1."""
    across = max(2, round(20 * scale**0.5))
    for section in range(across):
        for package in range(across):
            folder = root / f"section-{section:02}" / f"package-{package:02}"
            folder.mkdir(parents=True)
            for number in range(50):
                name = f"{number:02}-{chance.randrange(2**32):08x}.bin"
                _write(folder / name, _bytes(chance, chance.randrange(1024, 16385)), chance)


def _archive(root: Path, chance: random.Random, scale: float) -> None:
    """A pool of 1 500 packages, log-normal sizes up to 64 MB, about 0.5 GB; indexes under dists; links."""
    pool: list[Path] = []
    for number in range(max(20, round(1500 * scale))):
        source = f"{chance.choice('abcdefgh')}{chance.randrange(200):03}"
        folder = root / "pool" / "main" / source[0] / source
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{source}_{chance.randrange(9)}.{number}-1_{chance.choice(('all', 'amd64'))}.deb"
        size = min(64 * 2**20, max(400, round(chance.lognormvariate(10.9, 1.9))))
        _write(file, _bytes(chance, size), chance)
        pool.append(file)
    for suite in ("stable-1", "stable-2", "unstable"):
        folder = root / "dists" / suite / "main" / "binary-amd64"
        by_hash = folder / "by-hash" / "SHA256"
        by_hash.mkdir(parents=True)
        for name in ("Packages", "Packages.xz"):
            _write(folder / name, _bytes(chance, 400_000), chance)
            (by_hash / f"{chance.getrandbits(256):064x}").hardlink_to(folder / name)
        _write(root / "dists" / suite / "Release", _bytes(chance, 100_000), chance)
    (root / "dists" / "stable").symlink_to("stable-2")
    for number, file in enumerate(chance.sample(pool, min(40, len(pool)))):
        (file.parent / f"latest-{number}").symlink_to(file.name)
        (file.parent / f"same-{number}").hardlink_to(file)


def _images(root: Path, chance: random.Random, scale: float) -> None:
    """Four files of 1 GiB."""
    for number in range(4):
        left = max(1, round(2**30 * scale))
        with (root / f"image-{number + 1}.iso").open("wb", buffering=0) as out:
            while left:
                out.write(chance.randbytes(min(left, BLOCK)))
                left -= min(left, BLOCK)
        _age(root / f"image-{number + 1}.iso", chance)


def _wide(root: Path, chance: random.Random, scale: float) -> None:
    """50 000 files of 64-512 bytes in one directory."""
    for number in range(max(10, round(50_000 * scale))):
        name = f"{number:05}-{chance.randrange(2**24):06x}.rec"
        _write(root / name, _bytes(chance, chance.randrange(64, 513)), chance)


def _thousand(root: Path, chance: random.Random, scale: float) -> None:
    """20 directories of 50 files of 1-16 KB."""
    for number in range(20):
        folder = root / f"package-{number:02}"
        folder.mkdir()
        for file in range(max(1, round(50 * scale))):
            _write(folder / f"{file:02}.bin", _bytes(chance, chance.randrange(1024, 16385)), chance)


GENERATORS: dict[str, Callable[[Path, random.Random, float], None]] = {
    "T1": _many_small,
    "T2": _archive,
    "T3": _images,
    "T4": _wide,
    "T6": _thousand,
}


def _bytes(chance: random.Random, size: int) -> bytes:
    """Incompressible bytes that no other file has; most of them from the pool, which is quick."""
    out = chance.randbytes(16)
    while len(out) < size:
        start = chance.randrange(len(POOL) // 2)
        out += POOL[start : start + size - len(out)]
    return out[:size]


def _write(file: Path, content: bytes, chance: random.Random) -> None:
    file.write_bytes(content)
    _age(file, chance)


def _age(path: Path, chance: random.Random) -> None:
    at = NEWEST - chance.randrange(YEARS)
    os.utime(path, (at, at), follow_symlinks=False)


def _settle(root: Path, chance: random.Random) -> None:
    """Give directories and links an old time too, in an order that does not depend on the file system."""
    for folder, _, _ in sorted(os.walk(root)):
        links = [path for path in sorted(Path(folder).iterdir()) if path.is_symlink()]
        for path in (*links, Path(folder)):
            _age(path, chance)
