"""Fields of an HTTP header that need nothing but the standard library: the courier reads them as well.

Rules from RFC 9110.
"""

from datetime import UTC, datetime
from functools import lru_cache

_KEPT = 2**33  # s since 1970, either side: a later time is none that can be recorded in ns

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}


def strong(etag: str | None) -> str | None:
    """`etag` with its quotes if it is a strong validator; weak ones never prove equal bytes (8.8.3)."""
    if etag and len(etag) >= 2 and etag[0] == etag[-1] == '"' and '"' not in etag[1:-1]:
        return etag
    return None


def kept(at: int | None) -> int | None:
    """A time in s since 1970; None where no record could hold it."""
    return at if at is not None and -_KEPT < at < _KEPT else None


def fixed_date(value: str) -> int | None:
    """`Sun, 06 Nov 1994 08:49:37 GMT` as seconds since 1970; None for what has not this form (5.6.7).

    Every server of today sends it. By position and by day: the general parser takes twenty times longer.
    Raises ValueError, KeyError.
    """
    if len(value) != 29 or not value.endswith(" GMT"):
        return None
    second = min(int(value[23:25]), 59)  # 60 is a leap second
    return _day(value[5:16]) + int(value[17:19]) * 3600 + int(value[20:22]) * 60 + second


@lru_cache(maxsize=1024)
def _day(text: str) -> int:
    """Seconds since 1970 at the start of a day like `06 Nov 1994`."""
    return int(datetime(int(text[7:11]), _MONTHS[text[3:6]], int(text[0:2]), tzinfo=UTC).timestamp())
