"""What a bundle tells of the files that are held, by columns: to and from bytes. Pure.

One file after the other, each with names for what is the same in all of them, costs the reader ten times as
much: with many small files that was a fifth of what a copy takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import lt

from cluster.model import Held, Kind, Offer, Row, Stamp
from cluster.peer import wire
from cluster.peer.client import Wish
from cluster.peer.codec import WireError, pack

COLUMNS = 10  # place, size, SHA-256, time and precision, the same of the listed row, etag, source, verified
_NUMBERS = 100  # bytes of one file at most, without its texts


def told(held: Mapping[int, Held]) -> tuple[bytes, set[int]]:
    """The columns of these files by place, ascending; and which of them fit into a message."""
    lines: list[tuple[object, ...]] = []
    room = wire.PAGE_BYTES
    known: dict[tuple[str, str], tuple[str, str]] = {}
    for place, one in held.items():
        came = known.get((one.source, one.verified))
        if came is None:
            came = wire.fits(one.source) or "", wire.fits(one.verified) or ""
            known[one.source, one.verified] = came
        etag = wire.fits(one.etag)
        room -= _NUMBERS + 4 * (len(etag or "") + len(came[0]) + len(came[1]))
        if room < 0:
            break
        lines.append((place, one.size, one.sha256, *_stamp(one.mtime), *_stamp(one.row.mtime), etag, *came))
    columns = [_column(list(values)) for values in zip(*lines, strict=True)] or [[]] * COLUMNS
    columns[0] = [line[0] for line in lines]
    return pack(columns), {place for place, _ in zip(held, lines, strict=False)}


def _stamp(stamp: Stamp | None) -> tuple[int | None, int | None]:
    return (None, None) if stamp is None else (stamp.ns, stamp.precision)


def _column(values: list[object]) -> object:
    """Where all are the same, that value alone."""
    return values[0] if values.count(values[0]) == len(values) else values


def read(columns: object, wishes: Sequence[Wish]) -> dict[int, Offer]:
    """What is offered of these wishes, by place. Raises WireError."""
    if type(columns) is not list or len(columns) < COLUMNS or type(columns[0]) is not list:
        raise WireError(f"columns: not an array of {COLUMNS} or more")
    count = len(columns[0])
    found = [column if type(column) is list else [column] * count for column in columns[:COLUMNS]]
    if any(len(column) != count for column in found):
        raise WireError("columns: of different lengths")
    places, sizes, digests, times, widths, row_times, row_widths, etags, sources, checks = found
    _require(places, int)
    _require(sizes, int)
    _require(digests, bytes)
    for column in (times, widths, row_times, row_widths):
        _require(column, int, none=True)
    _require(etags, str, none=True)
    _require(sources, str)
    _require(checks, str)
    if count and not (places[0] >= 0 and places[-1] < len(wishes) and all(map(lt, places, places[1:]))):
        raise WireError("columns: places are not ascending, or were not asked for")
    if any(size < 0 for size in sizes) or any(len(digest) != 32 for digest in digests):
        raise WireError("columns: a size below 0, or a digest that is none")
    if not all(text.isprintable() for text in {*etags, *sources, *checks} - {None}):
        raise WireError("columns: text that is not printable")
    stamps, listed = _stamps_read(times, widths), _stamps_read(row_times, row_widths)
    lines = zip(places, sizes, digests, stamps, listed, etags, sources, checks, strict=True)
    return {
        place: Offer(
            wishes[place].entry.name,
            Kind.FILE,
            size,
            sha256,
            mtime,
            Row(size, None, row),
            etag,
            source,
            check,
        )
        for place, size, sha256, mtime, row, etag, source, check in lines
    }


def _require(column: list[object], kind: type, *, none: bool = False) -> None:
    allowed = {kind, type(None)} if none else {kind}
    if not set(map(type, column)) <= allowed:
        raise WireError("columns: a value of another kind")


def _stamps_read(times: list[int | None], widths: list[int | None]) -> list[Stamp | None]:
    if any(
        width is None or width < 1
        for width in {w for t, w in zip(times, widths, strict=True) if t is not None}
    ):
        raise WireError("columns: a time without its precision")
    return [None if ns is None else Stamp(ns, width or 1) for ns, width in zip(times, widths, strict=True)]
