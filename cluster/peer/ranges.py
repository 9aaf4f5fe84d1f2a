"""One byte range of a file, as siblings ask for it (RFC 9110 section 14, narrowed). Pure."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


def parse(text: str | None, size: int) -> tuple[int, int] | None:
    """`(first, end)` of what is to be sent, end exclusive; None where the answer is 416.

    RFC 9110 lets a server ignore what it cannot use; here several ranges, another unit, a reversed range or
    one outside the file are refused, so that nobody receives bytes that were not asked for (HAZARDS 127).
    """
    if text is None:
        return 0, size
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        count = min(int(last or 0), size)
        return (size - count, size) if count else None
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    return (start, end) if start < end else None
