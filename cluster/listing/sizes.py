"""Sizes as servers print them: exact in bytes, or rounded and then no evidence (HAZARDS 52)."""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 40  # characters; what is longer is a description
LARGEST = 2**63 - 1  # beyond it no file system of ours can hold the file

_SIZE = re.compile(
    r"([+-]?\d[\d.,']*)\s*(b|bytes?|[kmgtpezy](?:i?b|i|bytes?)?)?", re.IGNORECASE | re.ASCII
).fullmatch
_GROUPED = re.compile(r"\d{1,3}(?:[,']\d{3})+", re.ASCII).fullmatch
_NOTHING = frozenset(("", "-", "--", "—", "–", "n/a", "<dir>", "[dir]", "dir", "directory"))


class Size(NamedTuple):
    """`exact` in bytes, or `rounded` as printed, or neither where the server printed a dash."""

    exact: int | None = None
    rounded: str | None = None


NO_SIZE = Size()


def size_of(text: str) -> Size | None:
    """What `text` says, or None where it is not a size at all."""
    text = text.replace("\xa0", " ").strip()
    if len(text) > LONGEST:
        return None
    if text.isdecimal() and text.isascii():
        exact = int(text)
        return Size(exact) if exact <= LARGEST else Size(None, text)
    if text.lower() in _NOTHING:
        return NO_SIZE
    found = _SIZE(text)
    if found is None:
        return None
    number, unit = found[1], (found[2] or "b").lower()
    if _GROUPED(number):
        number = number.replace(",", "").replace("'", "")
    whole, _, zeros = number.partition(".")  # Directory Lister prints whole bytes as "833.00B"
    if (
        unit in ("b", "byte", "bytes")
        and whole.isdecimal()
        and not zeros.strip("0")
        and int(whole) <= LARGEST
    ):
        return Size(int(whole))
    return Size(None, " ".join(text.split()))
