"""The zone of a listing that shows a wall clock without naming it.

One file's Last-Modified, which is always GMT, beside the same file's row tells how far the clock is off.
A server that shows its own local time changes its offset with the season: where the zone is known by name,
`localised` is exact and a learnt offset is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo

from cluster.model import DAY, MINUTE, SECOND, Listing, Stamp

QUARTER = 15 * MINUTE  # every zone in use differs from UTC by a multiple of it
FARTHEST = 14 * 60 * MINUTE  # Kiribati
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def learnt(listing: Listing, name: bytes, last_modified: int) -> int | None:
    """The offset in ns, wall clock minus UTC, from what the origin says of the file `name` (ns).

    None where the row proves nothing: no such row, a precision of a day, or a difference that no zone has,
    which means that the file has changed since it was listed.
    """
    stamp = next((e.mtime for e in listing.entries if e.name == name and not e.ambiguous), None)
    if stamp is None or stamp.precision > MINUTE:
        return None
    precision = max(stamp.precision, SECOND)  # Last-Modified has no more
    offset = (stamp.ns // precision - last_modified // precision) * precision
    return offset if offset % QUARTER == 0 and abs(offset) <= FARTHEST else None


def shifted(listing: Listing, offset: int) -> Listing:
    """The listing with its times in UTC, given its wall clock's offset in ns. A known zone stays as it is."""
    if not offset:
        return listing if listing.zone_known else replace(listing, zone_known=True)
    return _moved(listing, lambda stamp: Stamp(stamp.ns - offset, stamp.precision))


def localised(listing: Listing, zone: tzinfo) -> Listing:
    """The listing with its times in UTC, given the zone of its wall clock.

    An hour that occurs twice is read as the first of the two; days stay days.
    """

    def utc(stamp: Stamp) -> Stamp:
        if stamp.precision >= DAY:
            return stamp
        try:
            wall = (_EPOCH + timedelta(seconds=stamp.ns // SECOND)).replace(tzinfo=zone)
            offset = wall.utcoffset() or timedelta(0)
        except OverflowError:
            return stamp
        return Stamp(stamp.ns - (offset // timedelta(seconds=1)) * SECOND, stamp.precision)

    return _moved(listing, utc)


def _moved(listing: Listing, move: Callable[[Stamp], Stamp]) -> Listing:
    if listing.zone_known:
        return listing
    entries = tuple([replace(e, mtime=move(e.mtime)) if e.mtime else e for e in listing.entries])
    return replace(listing, entries=entries, zone_known=True)
