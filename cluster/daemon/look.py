"""`sideways list URL`: how a listing is understood."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.errors import OriginError, SidewaysError, UsageError
from cluster.model import SECOND, Entry, Limits, Listing, OriginSpec, Stamp, href, shown
from cluster.origin.open import Shared, open_origin

DONE = 0
_PRECISION = {1: "ns", SECOND: "s", 60 * SECOND: "min", 86_400 * SECOND: "day"}


async def look(
    url: str, private: bool, emit: Callable[[object], None] | None, say: Callable[[str], None]
) -> int:
    """List one directory of an origin. Raises SidewaysError, or UsageError for a URL that cannot be read."""
    from cluster.config.words import origin_url

    try:
        spec = OriginSpec(origin_url(url if url.endswith("/") else url + "/"), private=private)
    except ValueError as error:
        raise UsageError(f"URL: {error}") from None
    origin = open_origin(spec, Limits(depth=0), Shared())  # nothing below is wanted
    try:
        listing = await origin.listing(b"")
    except OriginError as error:
        raise SidewaysError(f"{origin.url}: {error.message}") from None
    finally:
        await origin.close()
    if emit is not None:
        emit(_as_json(origin.url, listing))
    else:
        _print(origin.url, listing, say)
    return DONE


def _as_json(url: str, listing: Listing) -> dict[str, object]:
    return {
        "url": url,
        "format": listing.format,
        "zone_known": listing.zone_known,
        "bytes": listing.size,
        "entries": [
            {
                "name": shown(e.name),
                "href": href(e.name),
                "kind": str(e.kind),
                "size": e.size,
                "rounded": e.rounded,
                "mtime": e.mtime.ns / SECOND if e.mtime else None,
                "precision": e.mtime.precision / SECOND if e.mtime else None,
                "target": shown(e.target) if e.target is not None else None,
                "mode": f"{e.mode:04o}" if e.mode is not None else None,
                "ambiguous": e.ambiguous,
            }
            for e in listing.entries
        ],
        "rejected": [{"name": shown(r.name), "reason": r.reason} for r in listing.rejected],
    }


def _print(url: str, listing: Listing, say: Callable[[str], None]) -> None:
    zone = "" if listing.zone_known else ", times in the server's own zone, which it does not tell"
    say(f"{url}: {listing.format}, {len(listing.entries)} entries{zone}")
    for entry in listing.entries:
        say(_line(entry))
    for rejected in listing.rejected:
        say(f"left out: {shown(rejected.name)}: {rejected.reason}")


def _line(entry: Entry) -> str:
    size = str(entry.size) if entry.size is not None else f"~{entry.rounded}" if entry.rounded else "-"
    target = f" -> {shown(entry.target)}" if entry.target is not None else ""
    return f"{entry.kind:9} {size:>14}  {_when(entry.mtime):24} {shown(entry.name)}{target}"


def _when(stamp: Stamp | None) -> str:
    if stamp is None:
        return "-"
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(stamp.ns // SECOND))
    return f"{text} ±{_PRECISION.get(stamp.precision, f'{stamp.precision / SECOND:g} s')}"
