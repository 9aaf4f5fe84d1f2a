"""The zone of an HTTP server that lists its wall clock without saying which.

Learnt from Last-Modified of listed files: at most one HEAD per season and hour of the clock. Two seasons,
because servers differ: nginx (`autoindex_localtime`) shifts every time by the offset of now, Apache by
the offset of the time shown. Samples from winter and summer tell them apart, so that the change to
daylight saving time makes no listed time look like another one. All such changes fall on a full hour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cluster.listing import zone
from cluster.model import DAY, MINUTE, SECOND, Entry, Kind, Listing, Stamp

Ask = Callable[[bytes], Awaitable[Stamp | None]]  # Last-Modified of a name in the directory, or None

HOUR = 60 * MINUTE

# Offset in hours in January and in July -> a zone with these rules (IANA tzdata).
_CHANGING = {
    (0, 1): "Europe/London",
    (1, 2): "Europe/Berlin",
    (2, 3): "Europe/Helsinki",
    (-8, -7): "America/Los_Angeles",
    (-7, -6): "America/Denver",
    (-6, -5): "America/Chicago",
    (-5, -4): "America/New_York",
    (-4, -3): "America/Halifax",
    (-3.5, -2.5): "America/St_Johns",
    (-3, -4): "America/Santiago",
    (11, 10): "Australia/Sydney",
    (10.5, 9.5): "Australia/Adelaide",
    (13, 12): "Pacific/Auckland",
}
_SEASONS = {12: "winter", 1: "winter", 2: "winter", 6: "summer", 7: "summer", 8: "summer"}  # no change within
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ANY = "any"  # a file from spring or autumn, where the listing has no other


class ServerZone:
    """What is known of one origin's clock. `configured` is the operator's word and needs no asking."""

    def __init__(self, configured: str | None = None) -> None:
        self._configured = ZoneInfo(configured) if configured else None
        self._offsets: dict[str, int | None] = {}  # season -> ns, None where it could not be learnt
        self._hour = -1

    async def settled(self, listing: Listing, ask: Ask, now: int) -> Listing:
        """`listing` in UTC, or as it is where its zone stays unknown. `now` is ns since 1970.

        Raises OriginError from `ask`.
        """
        if listing.zone_known:
            return listing
        if self._configured is None:
            await self._learn(listing, ask, now)
        known = self._configured or self._changing()
        if known is not None:
            return zone.localised(listing, known)
        offset = next((o for o in self._offsets.values() if o is not None), None)
        return listing if offset is None else zone.shifted(listing, offset)

    async def _learn(self, listing: Listing, ask: Ask, now: int) -> None:
        if now // HOUR != self._hour:
            self._offsets.clear()
            self._hour = now // HOUR
        samples = _samples(listing)
        if _ANY in samples and (len(samples) > 1 or self._offsets):
            del samples[_ANY]
        for season, entry in samples.items():
            if season not in self._offsets:
                self._offsets[season] = None
                told = await ask(entry.name)
                if told is not None:
                    self._offsets[season] = zone.learnt(listing, entry.name, told.ns)

    def _changing(self) -> ZoneInfo | None:
        """The zone whose offset changes with the season, if the samples say that this server's does."""
        winter, summer = self._offsets.get("winter"), self._offsets.get("summer")
        if winter is None or summer is None or winter == summer:
            return None
        name = _CHANGING.get((winter / HOUR, summer / HOUR))
        return ZoneInfo(name) if name else None


def _samples(listing: Listing) -> dict[str, Entry]:
    """For each season that the listing shows, one of its files with a time of day."""
    found: dict[str, Entry] = {}
    for entry in listing.entries:
        if entry.kind is Kind.FILE and entry.mtime is not None and entry.mtime.precision < DAY:
            found.setdefault(_SEASONS.get(_month(entry.mtime), _ANY), entry)
            if len(found) == 3:
                break
    return found


def _month(stamp: Stamp) -> int:
    """1 to 12; 0 beyond the years that a calendar has."""
    try:
        return (_EPOCH + timedelta(seconds=stamp.ns // SECOND)).month
    except OverflowError:
        return 0
