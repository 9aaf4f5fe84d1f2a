"""Origin trees that change from round to round, by chance that can be repeated."""

from __future__ import annotations

import os
import random
from pathlib import Path


def write(path: Path, body: bytes, *, at: float | None = None) -> None:
    """A new version appears whole, as a careful origin does it. `at`: its time, s since 1970."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_bytes(body)
    if at is not None:
        os.utime(new, (at, at))
    new.replace(path)


def many_small(root: Path, count: int, *, seed: int = 1, per_folder: int = 40, size: int = 3000) -> int:
    """`count` files of up to `size` bytes, last changed long ago. Returns their bytes."""
    chance = random.Random(seed)
    total = 0
    for i in range(count):
        body = chance.randbytes(chance.randrange(1, size))
        write(root / f"d{i // per_folder:03}" / f"file-{i:05}", body, at=1_700_000_000 + i)
        total += len(body)
    return total


def change(root: Path, seed: int, *, links: bool = True) -> None:
    """A round's changes: new versions, new files and folders, deletions, and links."""
    chance = random.Random(seed)
    files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    for path in chance.sample(files, len(files) // 5):
        write(path, chance.randbytes(chance.randrange(1, 4000)))
    for path in chance.sample(files, len(files) // 12):
        path.unlink()
    for i in range(12):
        write(root / f"new-{seed}" / f"{i % 3}" / f"f{i}", chance.randbytes(chance.randrange(1, 4000)))
    write(root / "large", chance.randbytes(3_000_000))
    if links:
        for name in ("linked", "latest"):
            (root / name).unlink(missing_ok=True)
        os.link(root / "large", root / "linked")
        (root / "latest").symlink_to(f"new-{seed}")
