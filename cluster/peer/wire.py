"""The messages between siblings, to and from bytes: `docs/design/peer-protocol.md`. Pure.

A message is a map whose `v` is `[major, minor]`; the things it lists are arrays of fixed order. A later minor
version adds keys to maps and elements to the end of arrays, and a reader passes over what it does not know.
Every decoder raises WireError and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.errors import UnsafeName
from cluster.model import Claim, Held, Kind, Offer, Row, Stamp, checked_name, checked_path
from cluster.peer.codec import MAX_TEXT, WireError, pack, unpack

if TYPE_CHECKING:
    from cluster.store.mirror import JournalRecord

MAJOR, MINOR = 1, 0
MAX_ENTRIES = 5_000  # in one page: some 0.5 MB with ordinary names
PAGE_BYTES = 900_000  # a page is closed here, so that its last entry and its claims still fit into MAX_PAGE
MAX_CLAIMS = 1_000
MAX_INT = 2**63 - 1

_KINDS = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.SPECIAL)
_CODES = {kind: code for code, kind in enumerate(_KINDS)}


@dataclass(frozen=True, slots=True)
class Hello:
    """Who answers. `streams` is how many connections it accepts from one sibling."""

    site: str
    cluster: str
    streams: int


@dataclass(frozen=True, slots=True)
class Carried:
    """One mirror at one site: what it holds and how its passes went, as its committed store says."""

    mirror: str
    digest: bytes | None = None  # of the root directory
    epoch: str = ""  # of its journal
    position: int = 0  # the newest record's number
    files: int = 0
    bytes: int = 0
    complete: int | None = None  # s since 1970: end of the last complete pass, on that site's clock
    ended: int | None = None  # of the last pass, whatever became of it
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of one directory: names above what was asked for, ascending. `more`: there are further pages."""

    held: tuple[Offer, ...]
    claims: tuple[Claim, ...] = ()
    known: bool = True
    more: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One change at a sibling: `action` is "publish" or "delete", `at` is s since 1970 on its clock."""

    seq: int
    at: int
    action: str
    path: bytes
    kind: Kind
    size: int
    sha256: bytes | None
    source: str


@dataclass(frozen=True, slots=True)
class JournalPage:
    """Records in their order. `epoch` is new when a journal's numbers begin anew.

    `lost`: the journal is not the one that the reader knows, or no longer reaches back to its place. There
    are no records then: the reader compares digests instead, and follows from `last`, the newest number.
    """

    records: tuple[Record, ...]
    epoch: str
    last: int
    lost: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class Wake:
    """Something changed below `path`: a pass is worth starting."""

    mirror: str
    path: bytes


# -- encoding --------------------------------------------------------------------------------


def _message(**fields: object) -> bytes:
    return pack({"v": [MAJOR, MINOR], **fields})


def _fits(text: str | None) -> str | None:
    """`text`, or None where it cannot be sent as it is: a validator is of no use when shortened."""
    if text is None:
        return None
    try:
        return text if text.isprintable() and len(text.encode()) <= MAX_TEXT else None
    except UnicodeEncodeError:
        return None


def entry(held: Held | Offer) -> bytes:
    """One entry, packed: 13 elements, the same in pages and in the headers of a bundle."""
    mtime, row = held.mtime, held.row
    return pack(
        [
            held.name,
            _CODES[held.kind],
            held.size,
            held.sha256,
            mtime.ns if mtime else None,
            mtime.precision if mtime else None,
            row.size,
            _fits(row.rounded),
            row.mtime.ns if row.mtime else None,
            row.mtime.precision if row.mtime else None,
            _fits(held.etag),
            _fits(held.source) or "",
            _fits(held.verified) or "",
        ]
    )


def hello(message: Hello) -> bytes:
    return _message(site=message.site, cluster=message.cluster, streams=message.streams)


def carried(mirrors: Sequence[Carried]) -> bytes:
    rows = [
        [m.mirror, m.digest, m.epoch, m.position, m.files, m.bytes, m.complete, m.ended, m.outcome]
        for m in mirrors
    ]
    return _message(mirrors=rows)


def page(held: Iterable[Held], claims: Sequence[Claim], *, known: bool, more: bool) -> bytes:
    """As many entries as fit, in the order given; `more` is set where some did not.

    The array is put together from packed entries, so that its size is known while it grows.
    """
    parts: list[bytes] = []
    size = 0
    for record in held:
        if len(parts) == MAX_ENTRIES or size > PAGE_BYTES:
            more = True
            break
        parts.append(entry(record))
        size += len(parts[-1])
    told = [_claim(claim) for claim in claims[:MAX_CLAIMS]]
    while told and size + sum(map(len, told)) > PAGE_BYTES + 65_536:
        told = told[: len(told) // 2]
    return b"".join(
        (
            b"\x85" + pack("v") + pack([MAJOR, MINOR]),
            pack("known") + pack(known),
            pack("more") + pack(more),
            pack("claims") + _array(told),
            pack("held") + _array(parts),
        )
    )


def _claim(claim: Claim) -> bytes:
    row = claim.row
    stamp = (row.mtime.ns, row.mtime.precision) if row.mtime else (None, None)
    idle = min(round(claim.idle * 1000), MAX_INT)
    return pack([claim.name, row.size, _fits(row.rounded), *stamp, claim.received, idle, claim.started])


def _array(parts: Sequence[bytes]) -> bytes:
    return b"\xdd" + len(parts).to_bytes(4, "big") + b"".join(parts)


def journal(
    records: Sequence[Record] | Sequence[JournalRecord], epoch: str, last: int, *, lost: bool, more: bool
) -> bytes:
    """As many records as fit, in the order given; `more` is set where some did not."""
    parts: list[bytes] = []
    size = 0
    for record in records:
        if len(parts) == MAX_ENTRIES or size > PAGE_BYTES:
            more = True
            break
        parts.append(_packed(record))
        size += len(parts[-1])
    return b"".join(
        (
            b"\x86" + pack("v") + pack([MAJOR, MINOR]),
            pack("epoch") + pack(epoch),
            pack("last") + pack(last),
            pack("lost") + pack(lost),
            pack("more") + pack(more),
            pack("records") + _array(parts),
        )
    )


def _packed(r: Record | JournalRecord) -> bytes:
    return pack([r.seq, r.at, r.action, r.path, _CODES[r.kind], r.size, r.sha256, _fits(r.source) or ""])


def wake(message: Wake) -> bytes:
    return _message(mirror=message.mirror, path=message.path)


# -- decoding --------------------------------------------------------------------------------


def message(data: bytes) -> dict[str, object]:
    """The map of a message of our major version. Raises WireError, for another version with both numbers."""
    fields = unpack(data)
    if type(fields) is not dict:
        raise WireError("message: not a map")
    version = _array_of(fields.get("v"), 2, "v")
    if version[0] != MAJOR:
        raise WireError(f"message: version {version[0]!r} of the peer protocol, this program speaks {MAJOR}")
    return fields


def hello_read(data: bytes) -> Hello:
    fields = message(data)
    return Hello(
        _text(fields.get("site"), "site"),
        _text(fields.get("cluster"), "cluster"),
        _int(fields.get("streams"), "streams", 1, 1000),
    )


def carried_read(data: bytes) -> list[Carried]:
    mirrors = []
    for item in _array_of(message(data).get("mirrors"), 0, "mirrors"):
        row = _array_of(item, 9, "mirror")
        mirrors.append(
            Carried(
                _text(row[0], "mirror"),
                _digest(row[1]),
                _text(row[2], "epoch"),
                _int(row[3], "position"),
                _int(row[4], "files"),
                _int(row[5], "bytes"),
                _int_or_none(row[6], "complete"),
                _int_or_none(row[7], "ended"),
                _text(row[8], "outcome"),
            )
        )
    return mirrors


def page_read(data: bytes, after: bytes | None = None) -> Page:
    """A page whose names are plain, ascending, each once, and above `after`: so that pages come to an end."""
    fields = message(data)
    offers = []
    last = after or b""
    for item in _array_of(fields.get("held"), 0, "held"):
        offer = offer_read(item)
        if offer is None:
            continue
        if offer.name <= last:
            raise WireError("held: names are not ascending")
        last = offer.name
        offers.append(offer)
    claims = tuple(_claim_read(item) for item in _array_of(fields.get("claims"), 0, "claims"))
    more = _bool(fields.get("more"), "more")
    if more and not offers:
        raise WireError("held: an empty page that announces more")
    return Page(tuple(offers), claims, _bool(fields.get("known"), "known"), more)


def offer_read(item: object) -> Offer | None:
    """One entry; None for a kind that a later minor version added."""
    row = _array_of(item, 13, "entry")
    name = _name(row[0])
    code = _int(row[1], "kind", 0, 255)
    if code >= len(_KINDS):
        return None
    return Offer(
        name,
        _KINDS[code],
        _int(row[2], "size"),
        _digest(row[3]),
        _stamp(row[4], row[5]),
        Row(_int_or_none(row[6], "row size"), _text_or_none(row[7], "row"), _stamp(row[8], row[9])),
        _text_or_none(row[10], "etag"),
        _text(row[11], "source"),
        _text(row[12], "verified"),
    )


def _claim_read(item: object) -> Claim:
    row = _array_of(item, 8, "claim")
    listed = Row(_int_or_none(row[1], "row size"), _text_or_none(row[2], "row"), _stamp(row[3], row[4]))
    idle = _int(row[6], "idle") / 1000
    return Claim(_name(row[0]), listed, _int(row[5], "received"), idle, _bool(row[7], "started"))


def journal_read(data: bytes, after: int = 0) -> JournalPage:
    """A page whose numbers ascend from above `after`."""
    fields = message(data)
    lost = _bool(fields.get("lost"), "lost")
    last = after
    records = []
    for item in _array_of(fields.get("records"), 0, "records"):
        record = _record(item)
        if record is None:
            continue
        if record.seq <= last:
            raise WireError("records: numbers are not ascending")
        last = record.seq
        records.append(record)
    more = _bool(fields.get("more"), "more")
    if (lost and records) or (more and not records):
        raise WireError("records: lost with records, or more without")
    return JournalPage(
        tuple(records), _text(fields.get("epoch"), "epoch"), _int(fields.get("last"), "last"), lost, more
    )


def _record(item: object) -> Record | None:
    row = _array_of(item, 8, "record")
    code = _int(row[4], "kind", 0, 255)
    if code >= len(_KINDS):
        return None
    return Record(
        seq=_int(row[0], "seq"),
        at=_int(row[1], "at"),
        action=_text(row[2], "action"),
        path=_path(row[3]),
        kind=_KINDS[code],
        size=_int(row[5], "size"),
        sha256=_digest(row[6]),
        source=_text(row[7], "source"),
    )


def wake_read(data: bytes) -> Wake:
    fields = message(data)
    return Wake(_text(fields.get("mirror"), "mirror"), _path(fields.get("path")))


# -- fields ----------------------------------------------------------------------------------


def _array_of(value: object, least: int, what: str) -> list[object]:
    if type(value) is not list or len(value) < least:
        raise WireError(f"{what}: not an array of {least} or more")
    return value


def _int(value: object, what: str, low: int = 0, high: int = MAX_INT) -> int:
    if type(value) is not int or not low <= value <= high:
        raise WireError(f"{what}: not an integer from {low} to {high}")
    return value


def _int_or_none(value: object, what: str) -> int | None:
    return None if value is None else _int(value, what)


def _bool(value: object, what: str) -> bool:
    if type(value) is not bool:
        raise WireError(f"{what}: neither true nor false")
    return value


def _text(value: object, what: str) -> str:
    if type(value) is not str or not value.isprintable():
        raise WireError(f"{what}: not printable text")
    return value


def _text_or_none(value: object, what: str) -> str | None:
    return None if value is None else _text(value, what)


def _bytes(value: object, what: str) -> bytes:
    if type(value) is not bytes:
        raise WireError(f"{what}: not binary")
    return value


def _digest(value: object) -> bytes | None:
    if value is None:
        return None
    digest = _bytes(value, "digest")
    if len(digest) != 32:
        raise WireError(f"digest: {len(digest)} bytes instead of 32")
    return digest


def _stamp(ns: object, precision: object) -> Stamp | None:
    if ns is None:
        return None
    return Stamp(_int(ns, "time", -MAX_INT), _int(precision, "precision", 1))


def _name(value: object) -> bytes:
    try:
        return checked_name(_bytes(value, "name"))
    except UnsafeName as error:
        raise WireError(f"name: {error}") from None


def _path(value: object) -> bytes:
    try:
        return checked_path(_bytes(value, "path"))
    except UnsafeName as error:
        raise WireError(f"path: {error}") from None
