"""The times of a listing to the second and in UTC, where LIST shows minutes or days of a clock of its own.

MDTM for one file after the other would be a round trip for each; here 64 are on their way while the next 64
are sent. Only directories of which the listing has changed are asked about (HAZARDS 51, 90).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from zoneinfo import ZoneInfo

from cluster.listing import learnt, localised, shifted
from cluster.listing.ftp.mlsd import modified as time_val
from cluster.model import SECOND, Entry, Kind, Listing, Stamp, join
from cluster.origin.ftp_control import Asked, Control, sendable
from cluster.origin.ftp_replies import UNKNOWN, Reply, size_of
from cluster.origin.ftp_session import FtpSession
from cluster.plan import compare

WINDOW = 64  # commands
SAMPLES = 8  # files of which row and MDTM are laid beside each other to learn the zone of the rows


def modified(reply: Reply) -> Stamp | None:
    """The time of a 213 to MDTM, which is UTC (RFC 3659 section 2.3)."""
    return time_val(reply.last.strip()) if reply.code == 213 else None


def coarse(entry: Entry) -> bool:
    """Whether a file was changed within more than the second that its row shows."""
    return entry.kind is Kind.FILE and (entry.mtime is None or entry.mtime.precision > SECOND)


def running(listing: Listing, now: int) -> bool:
    """Whether a file may change once more, or change now (ns), and be shown by the very same row."""
    return any(e.mtime is not None and not e.mtime.over(now) for e in listing.entries if coarse(e))


def young(listing: Listing, now: int) -> Iterator[bytes]:
    """Names of files that were changed in the second in which they were listed (`now`, ns), as far as clocks
    can be trusted: of these, a read must tell the time as it is then (`plan.compare.validator`)."""
    for e in listing.entries:
        if e.kind is Kind.FILE and compare.young(e.mtime, now):
            yield e.name


async def exact(
    session: FtpSession, control: Control, directory: bytes, listing: Listing, zone: ZoneInfo | None
) -> Listing:
    """`listing` with what MDTM and SIZE say of files of which it tells too little. Raises Lost."""
    stamps: dict[bytes, Stamp] = {}
    sizes: dict[bytes, int] = {}
    times = await _answers(session, control, b"MDTM", directory, filter(coarse, listing.entries))
    for name, reply in times.items():
        if (stamp := modified(reply)) is not None:
            stamps[name] = stamp
    told = await _answers(session, control, b"SIZE", directory, filter(_sizeless, listing.entries))
    for name, reply in told.items():
        if (size := size_of(reply)) is not None:
            sizes[name] = size
    return placed(listing, stamps, sizes, zone)


def placed(
    listing: Listing, stamps: Mapping[bytes, Stamp], sizes: Mapping[bytes, int], zone: ZoneInfo | None
) -> Listing:
    """Pure: rows with the times and sizes that the server has told of single files, the others in UTC as far
    as the clock of the listing is known. `zone` is what an operator has said of it.

    A server whose MDTM breaks the rule and shows the same wall clock as its LIST (vsftpd with
    `use_localtime=YES`) is understood where its zone is said.
    """
    shown = {e.name: e.mtime for e in listing.entries}
    if zone is not None and not listing.zone_known:
        walls = {n: s for n, s in stamps.items() if (wall := shown[n]) is not None and s.agrees(wall)}
        moved = localised(_told(listing, walls, {}), zone)
        return _told(moved, {n: s for n, s in stamps.items() if n not in walls}, sizes)
    samples = [learnt(listing, name, stamp.ns) for name, stamp in islice(stamps.items(), SAMPLES)]
    offset = next((sample for sample in samples if sample is not None), None)
    moved = listing if offset is None else shifted(listing, offset)
    return _told(moved, stamps, sizes)


def _told(listing: Listing, stamps: Mapping[bytes, Stamp], sizes: Mapping[bytes, int]) -> Listing:
    if not (stamps or sizes):
        return listing
    entries = [
        replace(e, mtime=stamps.get(e.name, e.mtime), size=sizes.get(e.name, e.size)) for e in listing.entries
    ]
    return replace(listing, entries=tuple(entries))


def _sizeless(entry: Entry) -> bool:
    return entry.kind is Kind.FILE and entry.size is None


async def _answers(
    session: FtpSession, control: Control, command: bytes, directory: bytes, entries: Iterable[Entry]
) -> dict[bytes, Reply]:
    """The replies to one command for each of these names. Names that no command can hold are left out, and
    all once the server says that it does not know the command. Raises Lost."""
    manners = session.manners
    replies: dict[bytes, Reply] = {}
    names = [e.name for e in entries if sendable(e.name)] if manners.has(command) else []
    before: list[tuple[bytes, Asked]] = []
    for first in range(0, len(names) + WINDOW, WINDOW):
        group = names[first : first + WINDOW] if command not in manners.refused else []
        commands = [command + b" " + session.absolute(join(directory, name)) for name in group]
        sent = list(zip(group, control.ask_all(commands), strict=True)) if group else []
        for name, asked in before:
            reply = replies[name] = await control.fact(asked)
            if reply.code in UNKNOWN:
                manners.refused.add(command)
        before = sent
    return replies
