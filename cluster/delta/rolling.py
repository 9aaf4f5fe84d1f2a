"""The weak checksum of rsync and zsync, for many blocks or for every offset at once.

Of the bytes x[0..n) it is `a << 16 | b`: a the sum of x[i], b the sum of (n - i) * x[i], both modulo 2**16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.uint32]
Buffer = bytes | bytearray | memoryview

_LOW = np.uint32(0xFFFF)
_PIECE = 2**18  # bytes of blocks that are summed at once: what a processor's cache holds four times over


def of_blocks(data: Buffer, block: int) -> Sums:
    """The sum of each whole block of `block` bytes; what is left at the end is passed over."""
    every = np.frombuffer(data, np.uint8, count=len(data) // block * block).reshape(-1, block)
    weights = np.arange(block, 0, -1, dtype=np.float64)
    found = np.empty(len(every), np.uint32)
    step = max(1, _PIECE // block)
    for at in range(0, len(every), step):
        piece = every[at : at + step].astype(np.float64)  # its sums stay below 2**53: they are exact
        plain = piece.sum(axis=1).astype(np.uint64).astype(np.uint32)
        weighed = (piece @ weights).astype(np.uint64).astype(np.uint32)
        found[at : at + step] = (plain << np.uint32(16)) | (weighed & _LOW)
    return found


def at_offsets(data: Buffer, block: int) -> Sums:
    """The sum of the `block` bytes at every offset of `data` at which so many follow."""
    count = len(data) - block + 1
    if count <= 0:
        return np.empty(0, np.uint32)
    # Everything is modulo 2**32, which is a multiple of the modulus.
    before = np.zeros(len(data) + 1, np.uint32)
    np.cumsum(np.frombuffer(data, np.uint8), dtype=np.uint32, out=before[1:])
    above = np.cumsum(before, dtype=np.uint32)
    plain = before[block:] - before[:count]
    weighed = above[block:] - above[:count] - np.uint32(block) * before[:count]
    return (plain << np.uint32(16)) | (weighed & _LOW)
