"""Tar archives as they arrive, with bounded memory: ustar, GNU's long names, pax names and sizes.

Python's own reader takes whatever size a header tells into memory. Segments without an end, which apk-tools
write one after the other, are one archive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from cluster.errors import Malformed, TooMuch
from cluster.model import shown, value
from cluster.repository.base import MAX_SIZE

MAX_HEADER = 2**16  # bytes of a long name or of pax records

_BLOCK = 512
_PAX = re.compile(rb"\d+ (path|size)=([^\n]*)\n").findall


@value
class Member:
    """One file. `content` is to be read, or left, before the next member is asked for."""

    name: bytes
    size: int
    content: Iterator[bytes]


def members(path: bytes, pieces: Iterable[bytes]) -> Iterator[Member]:
    """The regular files. Raises Malformed for what is no tar archive, or ends within a member."""
    source = _Source(path, pieces)
    long_name, long_size = b"", None
    while header := source.take(_BLOCK, end=True):
        if not header.strip(b"\0"):
            continue
        name, size, kind = _header(path, header)
        size = long_size if long_size is not None and kind not in b"LKxg" else size
        if kind in b"LKxg":
            if size > MAX_HEADER:
                raise TooMuch(shown(path), f"has a header of {size} bytes")
            said = source.take(size)
            source.take(-size % _BLOCK)
            if kind == b"L":
                long_name = said.rstrip(b"\0")
            elif kind == b"x":
                found = dict(_PAX(said))
                long_name = found.get(b"path", long_name)
                long_size = _number(path, found[b"size"], 10) if b"size" in found else None
            continue
        content = source.stream(size)
        if kind in b"0\0":
            yield Member(long_name or name, size, content)
        for _ in content:
            pass
        source.take(-size % _BLOCK)
        long_name, long_size = b"", None


def _header(path: bytes, header: bytes) -> tuple[bytes, int, bytes]:
    told = header[148:156].strip(b" \0")
    if not told or _number(path, told, 8) != sum(header) - sum(header[148:156]) + 8 * 32:
        raise Malformed(shown(path), "is no tar archive, or a damaged one")
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    size = header[124:136]
    if size[0] & 0x80:
        return name, _bounded(path, int.from_bytes(size, "big") & (2**95 - 1)), header[156:157]
    return name, _number(path, size.strip(b" \0") or b"0", 8), header[156:157]


def _number(path: bytes, text: bytes, base: int) -> int:
    try:
        return _bounded(path, int(text, base) if text.isdigit() else -1)
    except ValueError:
        raise Malformed(shown(path), "is no tar archive, or a damaged one") from None


def _bounded(path: bytes, number: int) -> int:
    if not 0 <= number <= MAX_SIZE:
        raise Malformed(shown(path), "has a member of a size that nothing has")
    return number


class _Source:
    """Bytes by number, from pieces of any length."""

    def __init__(self, path: bytes, pieces: Iterable[bytes]) -> None:
        self._path, self._pieces, self._rest = path, iter(pieces), memoryview(b"")

    def take(self, size: int, *, end: bool = False) -> bytes:
        """Exactly `size` bytes; none at the end, where that may be. Raises Malformed."""
        found = b"".join(self._some(size))
        if len(found) != size and not (end and not found):
            raise Malformed(shown(self._path), "ends in the middle")
        return found

    def stream(self, size: int) -> Iterator[bytes]:
        left = size
        for piece in self._some(size):
            left -= len(piece)
            yield piece
        if left:
            raise Malformed(shown(self._path), "ends in the middle")

    def _some(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._rest:
                self._rest = memoryview(next(self._pieces, b""))
                if not self._rest:
                    return
            piece = bytes(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(piece)
            yield piece
