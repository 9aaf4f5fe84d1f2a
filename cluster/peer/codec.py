"""msgpack within bounds: nothing is built from a sibling's bytes before a scan has measured all of it.

msgpack lets one byte stand for a container, so that 16 MiB of empty maps become more than a gigabyte of
objects, and one header promise 2**32 elements (HAZARDS 124). The scan walks the tokens without building
anything and refuses what this protocol never sends. Pure.
"""

from __future__ import annotations

import re
from typing import Any

import msgpack  # type: ignore[import-untyped]

from cluster.errors import SidewaysError

MAX_PAGE = 2**20  # bytes in one message
MAX_ARRAY = 10_000
MAX_MAP = 64
MAX_TEXT = 4096  # bytes in a string or binary: the longest path fits
MAX_DEPTH = 8
MAX_VALUES = 250_000  # in one message: bounds the objects built to some 20 MiB

# How far the next token is, by its first byte; 0 for the ones that need a closer look.
_STEP = bytes(
    1
    if first < 0x80 or first >= 0xE0 or first in (0xC0, 0xC2, 0xC3)
    else 1 + (first & 0x1F)
    if 0xA0 <= first < 0xC0
    else {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}.get(first, 0)
    for first in range(256)
)


MANY = 16  # values still to come in an array that may be a column
_RUNS = {
    0xC4: (34, re.compile(rb"(?:\xC4\x20.{32})++", re.DOTALL).match),  # digests
    0xCD: (3, re.compile(rb"(?:\xCD..)++", re.DOTALL).match),
    0xCE: (5, re.compile(rb"(?:\xCE.{4})++", re.DOTALL).match),
    0xCF: (9, re.compile(rb"(?:\xCF[\x00-\x7F].{7})++", re.DOTALL).match),
}
"""By the first byte of a value: how long each is, and what finds the whole of them that follow each other."""


class WireError(SidewaysError):
    """Bytes that are not a message of this protocol, or are beyond its limits."""


def pack(value: object) -> bytes:
    """One message or header. Values are maps, arrays, str, bytes, integers, booleans, None."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes, limit: int = MAX_PAGE) -> object:
    """The one value in `data`. Raises WireError for anything outside the limits above, an extension or
    timestamp, a float, an integer of 2**63 or more, a map key that is no string, a key that comes twice,
    text that is no UTF-8, and bytes missing or left over.
    """
    if len(data) > limit:
        raise WireError(f"message: {len(data)} bytes, allowed are {limit}")
    scan(data)
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, object_pairs_hook=_unique)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"message: {type(error).__name__}: {error}") from None


def _unique(pairs: list[tuple[Any, Any]]) -> dict[str, object]:
    built = dict(pairs)
    if len(built) != len(pairs):
        raise WireError("message: a key comes twice in one map")
    if any(type(key) is not str for key in built):
        raise WireError("message: a map key is no string")
    return built


def scan(data: bytes) -> None:
    """Walk the tokens of one value and measure them; builds nothing. Raises WireError as `unpack` does."""
    at, values, pending = 0, 1, 1
    outer: list[int] = []  # what is still to come in each enclosing container
    step, runs = _STEP, _RUNS
    try:
        while True:
            while not pending:
                if not outer:
                    if at != len(data):
                        raise WireError(f"message: ends at byte {at} of {len(data)}")
                    return
                pending = outer.pop()
            first = data[at]
            if pending > MANY and (run := runs.get(first)) is not None and (found := run[1](data, at)):
                count = min(len(found[0]) // run[0], pending)  # a column: the same kind all the way
                at += run[0] * count
                pending -= count
                continue
            pending -= 1
            if step[first]:
                at += step[first]
                continue
            at, inner = _token(data, at, first)
            if inner:
                values += inner
                if values > MAX_VALUES:
                    raise WireError(f"message: more than {MAX_VALUES} values")
                outer.append(pending)
                pending = inner
            if inner is not None and len(outer) + (not inner) > MAX_DEPTH:
                raise WireError(f"message: nested deeper than {MAX_DEPTH}")
    except IndexError:
        raise WireError(f"message: cut off at byte {len(data)}") from None


def _token(data: bytes, at: int, first: int) -> tuple[int, int | None]:
    """Where the contents or the next token begin, and for a container how many values it holds."""
    if first == 0xC4:
        return at + 2 + data[at + 1], None
    if first < 0x90:
        return at + 1, 2 * (first & 0x0F)
    if first < 0xA0:
        return at + 1, first & 0x0F
    if first in _SIZED:
        width, limit, what = _SIZED[first]
        size = int.from_bytes(data[at + 1 : at + 1 + width], "big")
        if at + width >= len(data):
            raise IndexError
        if size > limit:
            raise WireError(f"message: {what} of {size}, allowed are {limit}")
        if what == "map":
            return at + 1 + width, 2 * size
        if what == "array":
            return at + 1 + width, size
        return at + 1 + width + size, None
    if first == 0xCF:
        if data[at + 1] >= 0x80:
            raise WireError("message: an integer of 2**63 or more")
        return at + 9, None
    raise WireError(f"message: type 0x{first:02x} is not part of the protocol")


_SIZED = {
    0xC5: (2, MAX_TEXT, "binary"),
    0xC6: (4, MAX_TEXT, "binary"),
    0xD9: (1, MAX_TEXT, "string"),
    0xDA: (2, MAX_TEXT, "string"),
    0xDB: (4, MAX_TEXT, "string"),
    0xDC: (2, MAX_ARRAY, "array"),
    0xDD: (4, MAX_ARRAY, "array"),
    0xDE: (2, MAX_MAP, "map"),
    0xDF: (4, MAX_MAP, "map"),
}
