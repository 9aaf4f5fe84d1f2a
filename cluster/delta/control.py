"""The control file of zsync (0.6.2): what a file consists of, published beside it by its origin. Pure.

Some lines of `Key: value`, an empty one, and for each block of the file the last bytes of its rolling sum and
the first ones of its MD4, as `Hash-Lengths` says. It is a hint where to look, no more: what is made by it has
to have the size, the time and the SHA-1 that it names. Its URLs are not followed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.delta.search import Wanted

MAX_HEADER = 4096
MAX_LINES = 32
_NEEDED = {"zsync", "MTime", "Blocksize", "Length", "SHA-1"}
_KNOWN = _NEEDED | {"Filename", "Hash-Lengths", "URL", "Safe"}
_BLOCK = (512, 2**20)  # bytes: a smaller one costs more than it finds, a larger one finds nothing
_NUMBER = re.compile(r"[0-9]{1,18}")


class NotControl(ValueError):
    """It is no control file that is understood here; the text says why."""


@dataclass(frozen=True, slots=True)
class Control:
    """What it says. `mtime` is s since 1970; `table` has one row of `weak + strong` bytes for each block."""

    size: int
    mtime: int
    sha1: bytes
    block: int
    pairs: bool
    weak: int
    strong: int
    table: bytes

    def wanted(self) -> Wanted:
        """The whole blocks, to be looked for. The last one, if it is shorter, is not among them."""
        import numpy as np
        from Crypto.Hash import MD4

        from cluster.delta.search import Wanted

        number, width = self.size // self.block, self.weak + self.strong
        rows = np.frombuffer(self.table, np.uint8, count=number * width).reshape(-1, width)
        sums = np.zeros((number, 4), np.uint8)
        sums[:, 4 - self.weak :] = rows[:, : self.weak]
        return Wanted(
            self.block,
            np.arange(number, dtype=np.int64) * self.block,
            sums.view(">u4").ravel().astype(np.uint32),
            np.ascontiguousarray(rows[:, self.weak :]).tobytes(),
            self.strong,
            lambda data: MD4.new(data).digest()[: self.strong],  # noqa: S303  # the format's own
            mask=(1 << 8 * self.weak) - 1,
            pairs=self.pairs,
        )


def control(data: bytes) -> Control:
    """Raises NotControl."""
    found = data.find(b"\n\n", 0, MAX_HEADER)
    if found < 0:
        raise NotControl("no header that ends")
    head, table = data[:found], data[found + 2 :]
    told = _fields(head)
    size, block = _number(told, "Length", 1, 2**50), _number(told, "Blocksize", *_BLOCK)
    sequence, weak, strong = _lengths(told.get("Hash-Lengths", "1,4,16"))
    try:
        mtime = parsedate_to_datetime(told["MTime"])
        sha1 = bytes.fromhex(told["SHA-1"])
    except (ValueError, TypeError, OverflowError) as error:
        raise NotControl(str(error)) from None
    if len(sha1) != 20:
        raise NotControl("SHA-1: not 20 bytes")
    if block & (block - 1):
        raise NotControl(f"Blocksize: {block} is no power of two")
    if len(table) != -(-size // block) * (weak + strong):
        raise NotControl(f"{len(table)} bytes of sums for {size} bytes in blocks of {block}")
    if mtime.tzinfo is None:
        mtime = mtime.replace(tzinfo=UTC)
    return Control(size, int(mtime.timestamp()), sha1, block, sequence > 1, weak, strong, table)


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode("utf-8", "replace").split("\n")
    if len(lines) > MAX_LINES or not lines[0].startswith("zsync: "):
        raise NotControl("does not begin as a control file does")
    told: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(": ")
        if not colon or key in told:
            raise NotControl(f"{key[:40]!r}: not a field, or there twice")
        told[key] = value.strip()
    unknown = told.keys() - _KNOWN - set(told.get("Safe", "").split())
    if unknown or _NEEDED - told.keys():
        raise NotControl(
            f"fields that are unknown or lacking: {sorted(unknown | _NEEDED - told.keys())}"[:200]
        )
    return told


def _number(told: dict[str, str], key: str, low: int, high: int) -> int:
    text = told[key]
    if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise NotControl(f"{key}: not a number from {low} to {high}")
    return int(text)


def _lengths(text: str) -> tuple[int, int, int]:
    found = re.fullmatch(r"([12]),([2-4]),([3-9]|1[0-6])", text)
    if found is None:
        raise NotControl("Hash-Lengths: not three numbers that zsync writes")
    sequence, weak, strong = map(int, found.groups())
    return sequence, weak, strong
