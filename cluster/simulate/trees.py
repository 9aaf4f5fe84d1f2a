"""Trees to simulate with: made by a size distribution, or read from a folder."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator

from cluster.errors import UsageError
from cluster.model import shown
from cluster.simulate.scenario import Files

MAX_FILES = 100_000  # a run takes about a millisecond for each file and site


def made(count: int, total: int, largest: float, tail: float, directories: int, seed: int) -> Files:
    """`count` files with `total` bytes in `directories` directories.

    Sizes are the quantiles of a Pareto distribution with the exponent `tail` (the smaller, the more of the
    bytes are in few files), cut off where a file would have more than the share `largest` of all bytes. The
    seed decides which file is where. Raises UsageError where no such tree can be.
    """
    if not 1 <= count <= MAX_FILES:
        raise UsageError(f"{count} files: a simulation takes 1 to {MAX_FILES}")
    if not 1 <= directories <= count:
        raise UsageError(
            f"{directories} directories for {count} files: at least 1, at most one for each file"
        )
    if total < count:
        raise UsageError(f"{total} bytes in {count} files: too few, each file has at least one")
    if not 1 / count <= largest <= 1:
        raise UsageError(
            f"a largest file with {largest:.3%} of the bytes of {count} files: even equal ones have "
            f"{1 / count:.3%} each"
        )
    if not 0.1 <= tail <= 10:
        raise UsageError(f"a tail with the exponent {tail:g}: allowed is 0.1 to 10")
    sizes = _sizes(count, total, largest, tail)
    chance = random.Random(seed)
    chance.shuffle(sizes)
    width = len(str(count))
    paths = [b"%d/%0*d/%0*d" % (seed, width, i * directories // count, width, i) for i in range(count)]
    return tuple(zip(paths, sizes, strict=True))


def _sizes(count: int, total: int, largest: float, tail: float) -> list[int]:
    relative = [(1 - (i + 0.5) / count) ** (-1 / tail) for i in range(count)]
    most = largest * total

    def sizes(smallest: float) -> list[float]:
        return [min(smallest * one, most) for one in relative]

    low, high = 0.0, most  # of the scale that gives `total`: halved until nothing is left between
    while low < (middle := (low + high) / 2) < high:
        if math.fsum(sizes(middle)) < total:
            low = middle
        else:
            high = middle
    return [max(1, round(size)) for size in sizes(high)]


def read(folder: str) -> Files:
    """The regular files below a folder, with their sizes; links are not followed. Raises UsageError."""
    root = os.fsencode(os.path.abspath(folder))
    found: list[tuple[bytes, int]] = []
    try:
        for path, size in _walk(root):
            found.append((path[len(root) + 1 :], size))
            if len(found) > MAX_FILES:
                raise UsageError(
                    f"{shown(root)}: more than {MAX_FILES} files; a simulation takes a part of it, "
                    "or --files, --bytes and --largest that describe it"
                )
    except OSError as error:
        raise UsageError(f"{shown(os.fsencode(error.filename or root))}: {error.strerror}") from None
    if not found:
        raise UsageError(f"{shown(root)}: there are no files in it")
    return tuple(sorted(found))


def _walk(folder: bytes) -> Iterator[tuple[bytes, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path, entry.stat(follow_symlinks=False).st_size
