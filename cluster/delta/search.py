"""Where in an older file the blocks of a newer one are.

Blocks are compared where they were first, which is quick; what is not there is looked for at every offset,
by a checksum that rolls, and from each find on the blocks that follow are compared again. Reads with `pread`
and computes: for threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cluster.delta import rolling
from cluster.delta.recipe import Offsets, Ranges
from cluster.delta.rolling import Sums

Strong = Callable[[bytes | memoryview], bytes]

READ = 2**20  # bytes of the older file read at once
_FIRST = 4096  # offsets looked at after a miss, or a block; doubled, as long as nothing is found
_MOST = 2**17
_OFTEN = 1024  # blocks compared between two looks at whether to stop
HOPELESS = 64 * 2**20  # bytes looked through without one find, after which the rest is not looked through
_FALSE = 64  # bytes of the older file for each strong checksum that turns out to be another one ...
_FALSE_FREE = 10_000  # ... beyond so many: made-up checksums are not to cost more than honest ones
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Blocks of `block` bytes at `starts` (ascending) of the newer file.

    `weak` are their rolling sums under `mask`, `strong` what `digest` makes of each, `width` bytes, one after
    the other. `pairs`: a find counts only with the block that follows it, since the checksums are that short.
    """

    block: int
    starts: Offsets
    weak: Sums
    strong: bytes
    width: int
    digest: Strong
    mask: int = 0xFFFFFFFF
    pairs: bool = False


class Older:
    """An open file of `size` bytes, read ahead. A file that became shorter reads as empty there."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor, self.size = descriptor, size
        self._at, self._held = 0, b""

    def read(self, at: int, size: int) -> memoryview:
        if not self._at <= at or at + size > self._at + len(self._held):
            self._at, self._held = at, os.pread(self.descriptor, max(size, READ), at)
        return memoryview(self._held)[at - self._at : at - self._at + size]


class Search:
    """One search for `wanted`; `found` says for each block where it is, negative where it is not known.

    `stopped` is asked now and then whether anybody still waits for it."""

    def __init__(self, older: Older, wanted: Wanted, stopped: Callable[[], bool] = lambda: False) -> None:
        self._older, self._wanted, self._stopped = older, wanted, stopped
        self.found: Offsets = np.full(len(wanted.starts), -1, np.int64)
        self._wrong = 0  # strong checksums that were another one
        block, weak = wanted.block, wanted.weak.astype(np.uint64)
        numbers = np.arange(len(weak))
        if wanted.pairs:
            numbers = np.flatnonzero(np.diff(wanted.starts) == block)
            weak = weak[numbers] | weak[numbers + 1] << np.uint64(32)
        self._span = 2 * block if wanted.pairs else block  # bytes that one look at an offset takes in
        keys = np.empty((len(weak), 8 + wanted.width), np.uint8)
        keys[:, :8] = weak.astype(">u8").view(np.uint8).reshape(-1, 8)
        keys[:, 8:] = np.frombuffer(wanted.strong, np.uint8).reshape(-1, wanted.width)[numbers]
        whole = keys.view(np.dtype((np.void, keys.shape[1]))).ravel()
        _, first, self._kind = np.unique(whole, return_index=True, return_inverse=True)
        self._numbers, self._first = numbers, numbers[first]
        self._weak = weak[first]  # ascending, since it stands first in the keys
        bits = min(24, max(12, len(first).bit_length() + 5))
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, np.bool_)
        self._table[(self._weak * _GOLDEN) >> self._shift] = True

    def in_place(self) -> None:
        """Compare each block with what the older file has at the same place."""
        wanted, older = self._wanted, self._older
        for number, start in enumerate(wanted.starts.tolist()):
            if number % _OFTEN == 0 and self._stopped():
                return
            if start + wanted.block <= older.size and self._is(number, start):
                self.found[number] = start
        self._spread()

    def roll(self, ranges: Ranges) -> None:
        """Look at every offset of these ranges of the older file, until it is hopeless."""
        begun, scanned, hit = self._wrong, 0, False
        least = max(_FIRST, self._wanted.block)
        for first, end in ranges:
            at, step = first, least
            while at + self._span <= end:
                if self._stopped():
                    return
                scanned_now = min(step, end - self._span + 1 - at)
                match = self._next(at, scanned_now)
                if match is None:
                    at += scanned_now
                    scanned += scanned_now
                    step = min(2 * step, _MOST)
                    if scanned > HOPELESS and not hit:
                        break
                    if self._wrong - begun > _FALSE_FREE + scanned // _FALSE:
                        break
                else:
                    hit = True
                    scanned += match[1] - at
                    at = self._follow(*match, end)
                    step = least
            else:
                continue
            break
        self._spread()

    def _next(self, at: int, offsets: int) -> tuple[int, int] | None:
        """The first find at these offsets: the block, and where it is."""
        wanted = self._wanted
        data = self._older.read(at, offsets + self._span - 1)
        sums = (rolling.at_offsets(data, wanted.block) & np.uint32(wanted.mask)).astype(np.uint64)
        if wanted.pairs:
            sums = sums[: -wanted.block] | sums[wanted.block :] << np.uint64(32)
        for offset in np.flatnonzero(self._table[(sums * _GOLDEN) >> self._shift]).tolist():
            low, high = np.searchsorted(self._weak, sums[offset], "left"), len(self._weak)
            if low == high or self._weak[low] != sums[offset]:
                continue
            strong = wanted.digest(data[offset : offset + wanted.block])
            while low < high and self._weak[low] == sums[offset]:
                number = int(self._first[low])
                if self._strong(number) == strong and self._paired(number, at + offset):
                    return number, at + offset
                self._wrong += 1
                low += 1
        return None

    def _paired(self, number: int, at: int) -> bool:
        return not self._wanted.pairs or self._is(number + 1, at + self._wanted.block)

    def _follow(self, number: int, at: int, end: int) -> int:
        """Note a find and all that follow it at once; where it ends."""
        wanted, block = self._wanted, self._wanted.block
        starts = wanted.starts
        while True:
            self.found[number] = at
            number, at = number + 1, at + block
            if number == len(starts) or starts[number] != starts[number - 1] + block or at + block > end:
                return at
            if not self._is(number, at):
                return at

    def _is(self, number: int, at: int) -> bool:
        block = self._older.read(at, self._wanted.block)
        return len(block) == self._wanted.block and self._wanted.digest(block) == self._strong(number)

    def _strong(self, number: int) -> bytes:
        width = self._wanted.width
        return self._wanted.strong[number * width : (number + 1) * width]

    def _spread(self) -> None:
        """Blocks that are alike are found together."""
        found = self.found[self._numbers]
        hit = np.flatnonzero(found >= 0)
        where: Offsets = np.full(len(self._first), -1, np.int64)
        where[self._kind[hit]] = found[hit]
        self.found[self._numbers] = np.where(found < 0, where[self._kind], found)
