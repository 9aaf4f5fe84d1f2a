"""Lists of whole trees for those who mirror from us: the same records always make the same bytes.

`ls-lR` is what GNU `ls -lR --time-style=long-iso` prints in UTC: with minutes in each row, and none that
changes because time goes by. `fullfiletimelist` is Fedora's, with the newer of a file's own time and that of
its arrival here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from cluster.model import SECOND, Held, Kind, join

LETTERS = {Kind.FILE: "-", Kind.DIRECTORY: "d", Kind.SYMLINK: "l"}
_BITS = "rwxrwxrwx"
_BLOCK = 1024  # bytes, of which `ls` counts
_DIRECTORY = 4096  # bytes, as most file systems show one
_YEARS = (0, 253_402_300_800)  # s; of 1970 to 9999, which every reader knows


class LsLR:
    """The text of an `ls-lR`, directory by directory, the root first."""

    head, tail = b"", b""

    def __init__(self) -> None:
        self._first = True

    def directory(self, path: bytes, names: Sequence[Held]) -> bytes:
        """`names` in the order of their bytes, without those that a line cannot hold."""
        blocks = sum(-(-one.size // _BLOCK) for one in names if one.kind is Kind.FILE)
        rows = [b"./" + path + b":" if path else b".:", b"total %d" % blocks]
        rows += [_row(one) for one in names]
        before, self._first = b"" if self._first else b"\n", False
        return before + b"\n".join(rows) + b"\n"


class TimeList:
    """The text of a `fullfiletimelist`, directory by directory."""

    head, tail = b"[Version]\n2\n\n[Files]\n", b"\n[Checksums SHA1]\n\n[End]\n"

    def directory(self, path: bytes, names: Sequence[Held]) -> bytes:
        """See `LsLR`."""
        told = ((_newer(one), _letter(one), _size(one), join(path, one.name)) for one in names)
        return b"".join(b"%d\t%c\t%d\t%s\n" % row for row in told)


def writable(held: Held) -> bool:
    """Whether a list can tell of it, and may: not of what the origin keeps from the world."""
    return not held.private and held.kind in LETTERS and b"\n" not in held.name + (held.target or b"")


def _row(held: Held) -> bytes:
    mode = held.mode if held.mode is not None else 0o777
    rights = "".join(bit if mode >> (8 - at) & 1 else "-" for at, bit in enumerate(_BITS))
    shown = time.strftime("%Y-%m-%d %H:%M", time.gmtime(_time(held)))
    arrow = b" -> " + held.target if held.kind is Kind.SYMLINK and held.target else b""
    return f"{LETTERS[held.kind]}{rights} 1 ftp ftp {_size(held)} {shown} ".encode() + held.name + arrow


def _letter(held: Held) -> int:
    return ord("f" if held.kind is Kind.FILE else LETTERS[held.kind])


def _size(held: Held) -> int:
    if held.kind is Kind.SYMLINK:
        return len(held.target or b"")
    return held.size if held.kind is Kind.FILE else _DIRECTORY


def _time(held: Held) -> int:
    ns = held.disk_mtime if held.mtime is None else held.mtime.ns
    return min(max(ns // SECOND, _YEARS[0]), _YEARS[1] - 1)


def _newer(held: Held) -> int:
    return max(_time(held), held.copied) if held.kind is Kind.FILE else _time(held)
