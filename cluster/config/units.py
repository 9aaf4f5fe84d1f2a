"""Durations, sizes, rates, shares and times of day as operators write them, and back again.

Every parser takes the text of one setting and raises ValueError with one sentence that says what is wrong
and what is allowed. The writers give the shortest text that the parser reads back as the same value.
"""

from __future__ import annotations

import re
from decimal import Decimal

SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
MAX_DURATION = 3_660 * 86_400  # ten years: more is a slip of the pen
SIZES = {
    "TiB": 2**40,
    "GiB": 2**30,
    "MiB": 2**20,
    "KiB": 2**10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "KB": 10**3,
}
BITS = {"Gbit": 10**9, "Mbit": 10**6, "kbit": 10**3}
MAX_SIZE = 2**63 - 1  # what SQLite and off_t hold

_DURATION = re.compile(
    r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,3})?)s)?", re.ASCII
)
_AGE = re.compile(r"(?:(\d{1,3})y)?(?:(\d{1,5})d)?", re.ASCII)
_AMOUNT = re.compile(r"(\d{1,19}(?:\.\d{1,6})?) ?([A-Za-z]*)", re.ASCII)
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,4})?) ?%", re.ASCII)
_CLOCK = re.compile(r"([01]\d|2[0-4]):([0-5]\d)", re.ASCII)


def quoted(text: str) -> str:
    """A value in a message: one line, no control characters, not longer than people read."""
    clipped = text if len(text) <= 60 else text[:57] + "..."
    return "'" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in clipped) + "'"


def duration(text: str) -> float:
    """Seconds of `90s`, `20m`, `6h`, `3d` or `1h30m`, largest unit first."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{quoted(text)} is not a duration; write 90s, 20m, 6h, 3d or 1h30m")
    parts = zip(match.groups(), SECONDS.values(), strict=True)
    seconds = sum(Decimal(count) * unit for count, unit in parts if count)
    if seconds > MAX_DURATION:
        raise ValueError(f"{quoted(text)} is longer than ten years")
    return float(seconds)


def shown_duration(seconds: float) -> str:
    rest = Decimal(round(seconds * 1000)) / 1000
    out = ""
    for unit, length in SECONDS.items():
        count = rest if unit == "s" else rest // length
        rest -= count * length
        if count:
            out += f"{count.normalize():f}{unit}"
    return out or "0s"


def age(text: str) -> int:
    """Seconds of `5y`, `90d` or `1y30d`: whole days, a year is 365 of them, at most a hundred years."""
    match = _AGE.fullmatch(text)
    years, days = (int(count or 0) for count in match.groups()) if match else (0, 0)
    total = 365 * years + days
    if not 0 < total <= 36_500:
        raise ValueError(f"{quoted(text)} is not an age; write 90d, 5y or 1y30d, at most 100y")
    return total * SECONDS["d"]


def size(text: str) -> int:
    """Bytes of `64GiB` (1024) or `64GB` (1000); a bare number is bytes."""
    match = _AMOUNT.fullmatch(text)
    unit = 1 if match and not match[2] else _unit(SIZES, match[2] if match else "")
    if match is None or unit is None:
        raise ValueError(f"{quoted(text)} is not a size; write 64GiB, 500MB or a number of bytes")
    amount = int(Decimal(match[1]) * unit)
    if amount > MAX_SIZE:
        raise ValueError(f"{quoted(text)} is more than any disk holds")
    return amount


def shown_size(amount: int) -> str:
    for unit, width in SIZES.items():
        if amount and amount % width == 0:
            return f"{amount // width}{unit}"
    return str(amount)


def rate(text: str) -> int:
    """Bytes per second of `50MB/s`, `20MiB/s` or `400Mbit/s`. Without a unit it is refused: bits or bytes?"""
    body, slash, per = text.partition("/")
    match = _AMOUNT.fullmatch(body.strip())
    name = match[2] if match else ""
    # "50Mb/s" is bits to some and bytes to others: only a capital B is bytes, only "bit" is bits.
    unit, bits = _unit(SIZES, name) if name.endswith("B") else None, _unit(BITS, name)
    if match is None or (slash, per) != ("/", "s") or (unit is None and bits is None):
        raise ValueError(f"{quoted(text)} is not a rate; write 50MB/s, 20MiB/s or 400Mbit/s")
    amount = int(Decimal(match[1]) * unit if unit else Decimal(match[1]) * (bits or 0) / 8)
    if not 1000 <= amount <= 10**12:
        raise ValueError(f"{quoted(text)} is not a rate that can be kept; allowed is 1KB/s to 1TB/s")
    return amount


def shown_rate(amount: int) -> str:
    for unit, width in SIZES.items():
        if amount and amount % width == 0:
            return f"{amount // width}{unit}/s"
    return f"{Decimal(amount) / 1000:f}KB/s" if amount else "0"


def share(text: str) -> float:
    """0.1 of `10%`."""
    match = _SHARE.fullmatch(text)
    if match is None or Decimal(match[1]) > 100:
        raise ValueError(f"{quoted(text)} is not a share; write a percentage from 0% to 100%")
    return float(Decimal(match[1]) / 100)


def shown_share(part: float) -> str:
    return f"{round(Decimal(part) * 100, 4).normalize():f}%"


def clock(text: str) -> int:
    """Minutes since midnight of `06:30`; `24:00` is the end of the day."""
    match = _CLOCK.fullmatch(text)
    minutes = int(match[1]) * 60 + int(match[2]) if match else 9999
    if minutes > 1440:
        raise ValueError(f"{quoted(text)} is not a time of day; write 00:00 to 24:00")
    return minutes


def hours(text: str) -> tuple[int, int]:
    """Two times of day of `22:00-06:00`. The second is not in it; it may lie on the next day."""
    start, dash, end = text.partition("-")
    if not dash:
        raise ValueError(f"{quoted(text)} is not a window of hours; write 22:00-06:00")
    window = clock(start.strip()), clock(end.strip())
    if window[0] == window[1]:
        raise ValueError(f"{quoted(text)} is an empty window; leave it out for the whole day")
    return window


def shown_hours(window: tuple[int, int]) -> str:
    return "-".join(shown_clock(minutes) for minutes in window)


def shown_clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _unit(units: dict[str, int], name: str) -> int | None:
    """What a unit stands for, whatever its case."""
    return next((value for unit, value in units.items() if unit.lower() == name.lower() and name), None)
