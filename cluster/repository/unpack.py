"""Compressed indexes as plain bytes, piece by piece, with limits against bombs (HAZARDS 67).

The compression is told by the first bytes, not by the name: clients ask for by-hash names too.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

from cluster.errors import Malformed, TooMuch
from cluster.model import shown

PIECE = 2**18  # bytes handed on at once, at most
MAX_UNPACKED = 16 * 2**30  # the largest seen: Fedora's list of all files, 2 GiB
MAX_RATIO = 400  # the best seen in an index is 60; bombs begin at 1000
FREE = 64 * 2**20  # bytes below which the ratio is nobody's worry
MAX_MEMORY = 256 * 2**20  # of an unpacker; `xz -9` wants 65 MiB, `zstd --ultra --long=27` 128

_READ = 2**16


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Inflate:
    """zlib's object for one gzip member, with the interface of bz2's and lzma's."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)


class Meter:
    """Counts what was read and what came of it. Raises TooMuch when that is no index any more."""

    def __init__(self, path: bytes, stream: BinaryIO, most: int) -> None:
        self._path, self._stream, self._most = path, stream, most
        self.packed = self.unpacked = 0

    def read(self, size: int = _READ) -> bytes:
        data = self._stream.read(size)
        self.packed += len(data)
        return data

    def made(self, piece: bytes) -> bytes:
        self.unpacked += len(piece)
        if self.unpacked > self._most:
            raise TooMuch(shown(self._path), f"unpacks to more than {self._most} bytes")
        if self.unpacked > max(FREE, MAX_RATIO * self.packed):
            raise TooMuch(
                shown(self._path),
                f"unpacks to {self.unpacked} bytes from the first {self.packed}, like no index",
            )
        return piece


def pieces(path: bytes, stream: BinaryIO, most: int = MAX_UNPACKED) -> Iterator[bytes]:
    """The plain bytes of `stream`: gzip, xz, lzma, bzip2, zstd, or what is not compressed.

    Raises Malformed for a stream that is damaged or ends early, TooMuch beyond `most` bytes or MAX_RATIO.
    """
    meter = Meter(path, stream, most)
    head = meter.read()
    make = _maker(head)
    if make is None:
        source = _zstd(path, meter, head) if head.startswith(b"\x28\xb5\x2f\xfd") else _plain(meter, head)
        for piece in source:
            yield meter.made(piece)
        return
    try:
        for piece in _members(path, meter, head, make):
            yield meter.made(piece)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise Malformed(shown(path), f"cannot be unpacked: {str(error).lower()}") from None


def _maker(head: bytes) -> Callable[[], _Unpacker] | None:
    if head.startswith(b"\x1f\x8b"):
        return _Inflate
    if head.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return lambda: lzma.LZMADecompressor(memlimit=MAX_MEMORY)
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor
    return None


def _plain(meter: Meter, data: bytes) -> Iterator[bytes]:
    while data:
        yield data
        data = meter.read()


def _members(path: bytes, meter: Meter, data: bytes, make: Callable[[], _Unpacker]) -> Iterator[bytes]:
    """Members one after the other, as `cat a.gz b.gz` makes them; NUL bytes after one are padding."""
    while data:
        unpacker = make()
        while not unpacker.eof:
            if unpacker.needs_input and not data:
                data = meter.read()
                if not data:
                    raise Malformed(shown(path), "ends in the middle of its compressed data")
            if piece := unpacker.decompress(data, PIECE):
                yield piece
            data = b""
        data = unpacker.unused_data.lstrip(b"\0")
        while not data and (more := meter.read()):
            data = more.lstrip(b"\0")


def _zstd(path: bytes, meter: Meter, data: bytes) -> Iterator[bytes]:
    import zstandard

    step = 2**8  # of which zstd makes 8 MiB at most: there is no limit to what one call gives
    try:
        while data:
            unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_MEMORY // 2).decompressobj()
            while not unpacker.eof:
                if not data and not (data := meter.read()):
                    raise Malformed(shown(path), "ends in the middle of its compressed data")
                if piece := unpacker.decompress(data[:step]):
                    yield piece
                data = data[step:]
            data = unpacker.unused_data + data or meter.read()
    except zstandard.ZstdError as error:
        raise Malformed(shown(path), f"cannot be unpacked: {str(error).lower()}") from None
