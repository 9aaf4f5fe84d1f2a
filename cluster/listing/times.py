"""Times as listings print them, with the precision that the print has.

A listing shows minutes, seconds or days. Where it names no zone the wall clock is read as UTC, and the
caller is told so.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from cluster.model import DAY, MINUTE, SECOND, Stamp

LONGEST = 64  # characters of the longest time with its weekday and zone
_MONTHS = {"janfebmaraprmayjunjulaugsepoctnovdec"[i : i + 3]: i // 3 + 1 for i in range(0, 36, 3)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = (1678, 2261)

_CLOCK = (
    r"(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d{1,9}))?)?"
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?(?![A-Za-z]))?(?:\s*(?P<zone>Z|GMT|UTC|[+-]\d{2}:?\d{2})(?![A-Za-z0-9]))?"
)
_WEEKDAY = r"(?:(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\.?,?\s+)?"
_SHAPES = tuple(
    re.compile(_WEEKDAY + shape, re.ASCII)
    for shape in (
        r"(?P<y>\d{4})[-/.](?P<m>\d{1,2}|[A-Za-z]{3})[-/.](?P<d>\d{1,2})(?:(?:[T,]|\s)\s*" + _CLOCK + ")?",
        r"(?P<d>\d{1,2})[-/. ](?P<m>[A-Za-z]{3,9})\.?[-/., ]+(?P<y>\d{4})(?:[,:T]?\s*" + _CLOCK + ")?",
        r"(?P<m>[A-Z][a-z]{2,8})\.?\s+(?P<d>\d{1,2}),?\s+(?P<y>\d{4})(?:,?\s+(?:at )?" + _CLOCK + ")?",
        r"(?P<m>[A-Z][a-z]{2})\s+(?P<d>\d{1,2})\s+" + _CLOCK + r"(?:\s+[A-Z]{3,5})?\s+(?P<y>\d{4})",
        r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})(?:,?\s+" + _CLOCK + ")?",
        r"(?P<one>\d{1,2})/(?P<two>\d{1,2})/(?P<y>\d{4})(?:,?\s+" + _CLOCK + ")?",
    )
)
_SLASHED = re.compile(rb"\b(\d{1,2})/(\d{1,2})/\d{4}\b(?:,?\s+\d{1,2}:\d\d(?::\d\d)?\s*([AaPp][Mm]))?")


class Time(NamedTuple):
    """A printed time. `zoned` says that the print names its zone; `end` is where the print ends.

    `stamp` is None where the print has the shape of a time but names no day (year 0), or one of two.
    """

    stamp: Stamp | None
    zoned: bool
    end: int


def time_of(text: str, month_first: bool | None = None) -> Time | None:
    """The time that `text` begins with, or None.

    `month_first` decides how 03/04/2024 is read; None leaves it unread unless a part exceeds 12.
    """
    return _time_of(text[:LONGEST], month_first) if text[:1].isalnum() else None


@lru_cache(maxsize=4096)
def _time_of(text: str, month_first: bool | None) -> Time | None:
    for shape in _SHAPES:
        found = shape.match(text)
        if found and not text[found.end() : found.end() + 1].isalnum():
            return Time(_stamp(found.groupdict(), month_first), bool(found["zone"]), found.end())
    return None


def month_first(body: bytes) -> bool | None:
    """How a page with dates such as 9/28/2017 orders them, judged by all of them.

    IIS prints them as its locale has them; where all stay ambiguous, AM and PM speak for the American order.
    """
    halves = False
    for found in _SLASHED.finditer(body):
        if int(found[1]) > 12:
            return False
        if int(found[2]) > 12:
            return True
        halves = halves or found[3] is not None
    return True if halves else None


@lru_cache(maxsize=4096)
def day_ns(year: int, month: int, day: int) -> int | None:
    """Midnight UTC of that day in ns since 1970, or None where there is no such day, or none that 64 bits
    of ns hold (1677-09-21 to 2262-04-11): no record and few file systems could keep it."""
    if not _YEARS[0] <= year <= _YEARS[1]:
        return None
    try:
        return (datetime(year, month, day, tzinfo=UTC) - _EPOCH).days * DAY
    except ValueError:
        return None


def autoindex_stamp(text: bytes) -> Stamp | None:
    """`21-Nov-2026 12:52` of nginx or `2026-11-21 12:52` of Apache, in exactly this shape."""
    midnight, since = _midnight(text[:-6]), _since_midnight(text[-5:])
    return None if midnight is None or since is None else Stamp(midnight + since, MINUTE)


@lru_cache(maxsize=8192)
def _midnight(text: bytes) -> int | None:
    if text[2:3] == b"-":
        return day_ns(int(text[7:11]), _MONTHS.get(text[3:6].decode().lower(), 0), int(text[:2]))
    return day_ns(int(text[:4]), int(text[5:7]), int(text[8:10]))


@lru_cache(maxsize=2048)
def _since_midnight(text: bytes) -> int | None:
    hour, minute = int(text[:2]), int(text[3:])
    return None if hour > 23 or minute > 59 else (hour * 60 + minute) * MINUTE


def iso_stamp(text: str) -> Stamp | None:
    """A time of RFC 3339, for formats that always say their zone."""
    time = time_of(text)
    return time.stamp if time and time.zoned and time.end == len(text) else None


def _stamp(part: dict[str, str | None], first: bool | None) -> Stamp | None:
    month, day = _month_and_day(part, first)
    year = int(part["y"] or 0)
    midnight = day_ns(year, month, day)
    if midnight is None:
        return None
    if part["H"] is None:
        return Stamp(midnight, DAY)
    hour, minute, second = int(part["H"]), int(part["M"] or 0), int(part["S"] or 0)
    if part["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if part["half"] in "Pp" else 0)
    if hour > 23 or minute > 59 or second > 60:
        return None
    ns = midnight + (hour * 3600 + minute * 60 + second) * SECOND - _offset(part["zone"])
    if part["f"]:
        return Stamp(ns + int(part["f"].ljust(9, "0")), int(10 ** (9 - len(part["f"]))))
    return Stamp(ns, SECOND if part["S"] is not None else MINUTE)


def _month_and_day(part: dict[str, str | None], first: bool | None) -> tuple[int, int]:
    """`(0, 0)`, which is no day, where the order cannot be known."""
    if "one" in part:
        one, two = int(part["one"] or 0), int(part["two"] or 0)
        if one > 12 or (first is False and two <= 12):
            return two, one
        return (one, two) if two > 12 or first else (0, 0)
    month = part["m"] or ""
    number = int(month) if month.isdecimal() else _MONTHS.get(month[:3].lower(), 0)
    return number, int(part["d"] or 0)


def _offset(zone: str | None) -> int:
    if not zone or zone in ("Z", "GMT", "UTC"):
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return minutes * MINUTE * (-1 if zone[0] == "-" else 1)
