"""What a newer file consists of: pieces of an older one, and what has to be fetched. Pure.

Positions are bytes from the beginning of a file, ranges `(first, end)` with `end` exclusive.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ranges = list[tuple[int, int]]
Offsets = NDArray[np.int64]


class Copy(NamedTuple):
    """`size` bytes at `start` of the newer file are those at `old` of the older one."""

    start: int
    old: int
    size: int


class Recipe:
    """For a newer file of `size` bytes. Nothing of it is known at first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._copies: Offsets = np.empty((0, 3), np.int64)

    def add(self, starts: Offsets, old: Offsets, block: int) -> None:
        """Blocks of `block` bytes at `starts` of the newer file, that none of the copies has yet, were found
        at `old`; where that is negative they were not."""
        hit = old >= 0
        sizes = np.full(int(hit.sum()), block, np.int64)
        self._join(np.stack((starts[hit], old[hit], sizes), axis=1))

    def add_copy(self, copy: Copy) -> None:
        self._join(np.array([copy], np.int64))

    def _join(self, more: Offsets) -> None:
        every = np.concatenate((self._copies, more))
        if not len(every):
            return
        every = every[np.argsort(every[:, 0], kind="stable")]
        ends = every[:-1, :2] + every[:-1, 2:]
        apart = np.concatenate(([True], (every[1:, :2] != ends).any(axis=1)))
        joined = every[apart]
        joined[:, 2] = np.add.reduceat(every[:, 2], np.flatnonzero(apart))
        self._copies = joined

    def give_up(self, ranges: Ranges) -> None:
        """Forget the copies within these ranges, which ascend and cut none: they are fetched after all."""
        firsts, ends = (np.array(column, np.int64) for column in zip(*ranges, strict=True))
        place = np.searchsorted(firsts, self._copies[:, 0], "right") - 1
        inside = (place >= 0) & (self._copies[:, 0] < ends[place])
        self._copies = self._copies[~inside]

    def copies(self) -> Iterator[Copy]:
        """Ascending, none touching the next one both here and there."""
        for row in self._copies:
            yield Copy(*row.tolist())

    @property
    def copied(self) -> int:
        """Bytes that the older file has."""
        return int(self._copies[:, 2].sum())

    def missing(self) -> Ranges:
        """What has to be fetched, ascending."""
        return _between(self._copies[:, 0], self._copies[:, 0] + self._copies[:, 2], self.size)

    def unused(self, size: int) -> Ranges:
        """Those bytes of the older file, which has `size`, that are in no copy."""
        order = np.argsort(self._copies[:, 1], kind="stable")
        starts = self._copies[order, 1]
        ends = np.maximum.accumulate(starts + self._copies[order, 2]) if len(order) else starts
        return _between(starts, ends, size)


def _between(starts: Offsets, ends: Offsets, size: int) -> Ranges:
    """The gaps between ranges that ascend."""
    begin = np.concatenate((np.zeros(1, np.int64), ends))
    stop = np.concatenate((starts, np.array([size], np.int64)))
    wide = stop > begin
    return list(zip(begin[wide].tolist(), stop[wide].tolist(), strict=True))


def total(ranges: Sequence[tuple[int, int]]) -> int:
    """Bytes in all of them."""
    return sum(end - first for first, end in ranges)


def blocks_within(ranges: Sequence[tuple[int, int]], block: int, most: int) -> Ranges:
    """The first `most` whole blocks, at multiples of `block`, in these ranges: as ranges of block numbers."""
    found: Ranges = []
    for first, end in ranges:
        low, high = -(-first // block), end // block
        high = min(high, low + most)
        if low < high:
            found.append((low, high))
            most -= high - low
    return found


def joined(ranges: Sequence[tuple[int, int]], gap: int, most: int) -> Ranges:
    """The same bytes, and those of every gap of up to `gap` bytes between them; and of the narrowest of the
    others, until there are at most `most` ranges: a request has its price too."""
    if not ranges:
        return []
    gaps = [after[0] - before[1] for before, after in itertools.pairwise(ranges)]
    kept = sorted((place for place, wide in enumerate(gaps) if wide > gap), key=lambda place: -gaps[place])
    found: Ranges = []
    begin = ranges[0][0]
    for place in sorted(kept[: max(0, most - 1)]):
        found.append((begin, ranges[place][1]))
        begin = ranges[place + 1][0]
    found.append((begin, ranges[-1][1]))
    return found
