"""Ranges in request lines, and compressed pieces of a file as frames: `docs/design/peer-protocol.md`. Pure.

A site that holds an older version asks for the sums of blocks of the newer one, finds those that it has, and
asks for the rest.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence

from blake3 import blake3

from cluster.peer.codec import WireError

Ranges = Sequence[tuple[int, int]]

SUM = 8  # bytes: the rolling sum, then the beginning of the block's BLAKE3
STRONG = 4
BLOCKS = (512, 4_096, 65_536)  # sizes of blocks that are summed
MAX_SUMMED = 64 * 2**20  # bytes of a file in one answer of sums
MAX_SUMS = 2**17  # blocks in one answer
MAX_TEXT = 28_000  # characters of ranges in a request line
UNIT = 2**20  # bytes that are compressed together
MAX_FRAME = UNIT + 2**14  # what zstd makes of a unit that it cannot compress
_LEVEL = 3
_MAX_WINDOW = 2**23
_VARINT = 9  # bytes of a number, at most


def ranges(text: str, end: int) -> list[tuple[int, int]]:
    """From a request: ascending, not empty, not touching, up to `end`. Raises WireError."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise WireError("ranges: not base64url") from None
    numbers = list(_numbers(packed))
    if not numbers or len(numbers) % 2:
        raise WireError("ranges: not pairs of numbers")
    found, at = [], 0
    for place in range(0, len(numbers), 2):
        first, size = at + numbers[place], numbers[place + 1]
        if size == 0 or (place and numbers[place] == 0) or first + size > end:
            raise WireError("ranges: empty, touching, or behind the end")
        at = first + size
        found.append((first, at))
    return found


def requests(wanted: Ranges, most: int) -> Iterator[tuple[Ranges, str]]:
    """Ranges in as few requests as it takes, of at most `most` units each: what one asks for, its text."""
    group: list[tuple[int, int]] = []
    packed, left, at = bytearray(), most, 0
    for begin, end in wanted:
        first = begin
        while first < end:
            stop = min(end, first + left)
            packed += _varint(first - at) + _varint(stop - first)
            group.append((first, stop))
            left -= stop - first
            first = at = stop
            if left == 0 or len(packed) * 4 // 3 + 4 * _VARINT > MAX_TEXT:
                yield group, _text(packed)
                group, packed, left, at = [], bytearray(), most, 0
    if group:
        yield group, _text(packed)


def strong(block: bytes | memoryview) -> bytes:
    """What a sum ends with."""
    return blake3(block).digest(length=STRONG)


def frame(unit: bytes) -> bytes:
    """A unit as it travels: the length of what follows (4 bytes, big endian), and one zstd frame."""
    import zstandard

    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(unit)
    return len(packed).to_bytes(4, "big") + packed


def frame_read(packed: bytes, expected: int) -> bytes:
    """The unit. Never more than the `expected` bytes are made. Raises WireError for anything else."""
    import zstandard

    try:
        told = zstandard.get_frame_parameters(packed)
        if told.content_size != expected or told.window_size > _MAX_WINDOW or told.dict_id:
            raise WireError(f"pieces: a frame that is not of {expected} bytes")
        unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        unit = unpacker.decompress(packed, max_output_size=expected, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError(f"pieces: {error}") from None
    if len(unit) != expected:
        raise WireError(f"pieces: {len(unit)} bytes where {expected} were due")
    return unit


def units(wanted: Ranges) -> Iterator[list[tuple[int, int]]]:
    """The ranges, cut so that each group but the last has UNIT bytes in all."""
    group: list[tuple[int, int]] = []
    left = UNIT
    for begin, end in wanted:
        first = begin
        while first < end:
            stop = min(end, first + left)
            group.append((first, stop))
            left -= stop - first
            first = stop
            if left == 0:
                yield group
                group, left = [], UNIT
    if group:
        yield group


def _text(packed: bytes | bytearray) -> str:
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _varint(number: int) -> bytes:
    """Seven bits in each byte, the lowest first; the highest bit says that another byte follows."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _numbers(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 7 * _VARINT:
            raise WireError("ranges: a number of more than nine bytes")
        if byte < 0x80:
            yield number
            number = shift = 0
    if shift:
        raise WireError("ranges: end in the middle of a number")
