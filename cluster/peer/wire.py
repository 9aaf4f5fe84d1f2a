"""The messages between siblings, to and from bytes: `docs/design/peer-protocol.md`. Pure.

A message is a map whose `v` is `[major, minor]`; the things it lists are arrays of fixed order. A later minor
version adds keys to maps and elements to the end of arrays, and a reader passes over what it does not know.
Every decoder raises WireError and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from cluster.model import Claim, Held, Kind, Offer, Row, value
from cluster.peer import fields
from cluster.peer.codec import MAX_TEXT, WireError, pack, unpack
from cluster.plan.saving import LAST_DAY, MONTH, Days, Received

if TYPE_CHECKING:
    from cluster.store.mirror import JournalRecord

MAJOR, MINOR = 1, 3
MAX_ENTRIES = 5_000  # in one page: some 0.5 MB with ordinary names
PAGE_BYTES = 900_000  # a page is closed here, so that its last entry and its claims still fit into MAX_PAGE
MAX_CLAIMS = 1_000
MAX_BELOW = 2_000  # subdirectories in one answer about digests

KINDS = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.SPECIAL)
CODES = {kind: code for code, kind in enumerate(KINDS)}


@value
class Hello:
    """Who answers. `streams` is how many connections it accepts from one sibling."""

    site: str
    cluster: str
    streams: int


@value
class Carried:
    """One mirror at one site: what it holds and how its passes went, as its committed store says."""

    mirror: str
    digest: bytes | None = None  # of the root directory
    epoch: str = ""  # of its journal
    position: int = 0  # the newest record's number
    files: int = 0
    bytes: int = 0
    complete: int | None = None  # s since 1970: start of the last complete pass, on that site's clock
    ended: int | None = None  # of the last pass, whatever became of it
    outcome: str = ""
    origin_bytes: int = 0  # of files that it received in the last pass
    sideways_bytes: int = 0
    errors: int = 0  # updates that failed and have not succeeded since
    held: int = 0  # files in a deletion plan that waits for approval
    received: Received = Received()  # a value; since its records began
    days: Days = field(default_factory=dict)  # the newest MONTH on which it received anything


@value
class Page:
    """A part of one directory: names above what was asked for, ascending. `more`: there are further pages."""

    held: tuple[Offer, ...]
    claims: tuple[Claim, ...] = ()
    known: bool = True
    more: bool = False


@value
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


@value
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


@value
class Digests:
    """Of one directory. `digest` stands for everything in and below it, None while that is not up to date;
    `own` for its own names alone, None where there is no such directory; `below` are its subdirectories.
    """

    digest: bytes | None
    own: bytes | None
    below: tuple[tuple[bytes, bytes | None], ...] = ()


@value
class Wake:
    """Something changed below `path`: a pass is worth starting."""

    mirror: str
    path: bytes


# -- encoding --------------------------------------------------------------------------------


def _message(**told: object) -> bytes:
    return pack({"v": [MAJOR, MINOR], **told})


def fits(text: str | None) -> str | None:
    """`text`, or None where it cannot be sent as it is: a validator is of no use when shortened."""
    if text is None:
        return None
    try:
        return text if text.isprintable() and len(text.encode()) <= MAX_TEXT else None
    except UnicodeEncodeError:
        return None


def entry(held: Held | Offer) -> bytes:
    """One entry, packed: 13 elements, the same in pages and in bundles."""
    mtime, row = held.mtime, held.row
    return pack(
        [
            held.name,
            CODES[held.kind],
            held.size,
            held.sha256,
            mtime.ns if mtime else None,
            mtime.precision if mtime else None,
            row.size,
            fits(row.rounded),
            row.mtime.ns if row.mtime else None,
            row.mtime.precision if row.mtime else None,
            fits(held.etag),
            fits(held.source) or "",
            fits(held.verified) or "",
        ]
    )


def hello(message: Hello) -> bytes:
    return _message(site=message.site, cluster=message.cluster, streams=message.streams)


def carried(mirrors: Sequence[Carried]) -> bytes:
    rows = [
        [
            *(m.mirror, m.digest, m.epoch, m.position, m.files, m.bytes, m.complete, m.ended, m.outcome),
            *(m.origin_bytes, m.sideways_bytes, m.errors, m.held),
            *(m.received.origin, m.received.sideways),
            [[day, told.origin, told.sideways] for day, told in sorted(m.days.items())[-MONTH:]],
        ]
        for m in mirrors
    ]
    return _message(mirrors=rows)


def page(held: Iterable[Held], claims: Sequence[Claim], *, known: bool, more: bool) -> bytes:
    """As many entries as fit, in the order given; `more` is set where some did not.

    The array is put together from packed entries, so that its size is known while it grows.
    """
    parts: list[bytes] = []
    size = 0
    for one in held:
        if len(parts) == MAX_ENTRIES or size > PAGE_BYTES:
            more = True
            break
        parts.append(entry(one))
        size += len(parts[-1])
    told = [claim(each) for each in claims[:MAX_CLAIMS]]
    while told and size + sum(map(len, told)) > PAGE_BYTES + 65_536:
        told = told[: len(told) // 2]
    return b"".join(
        (
            b"\x85" + pack("v") + pack([MAJOR, MINOR]),
            pack("known") + pack(known),
            pack("more") + pack(more),
            pack("claims") + array(told),
            pack("held") + array(parts),
        )
    )


def claim(told: Claim) -> bytes:
    """One claim, packed: 11 elements, the same in pages, in bundles and on a line."""
    row = told.row
    stamp = (row.mtime.ns, row.mtime.precision) if row.mtime else (None, None)
    idle = min(round(told.idle * 1000), fields.MAX_INT)
    part = (told.first, told.end, fits(told.etag))
    return pack([told.name, row.size, fits(row.rounded), *stamp, told.received, idle, told.started, *part])


def array(parts: Sequence[bytes]) -> bytes:
    """An array of values that are packed already."""
    return b"\xdd" + len(parts).to_bytes(4, "big") + b"".join(parts)


def journal(
    records: Sequence[Record] | Sequence[JournalRecord], epoch: str, last: int, *, lost: bool, more: bool
) -> bytes:
    """As many records as fit, in the order given; `more` is set where some did not."""
    parts: list[bytes] = []
    size = 0
    for one in records:
        if len(parts) == MAX_ENTRIES or size > PAGE_BYTES:
            more = True
            break
        parts.append(record(one))
        size += len(parts[-1])
    return b"".join(
        (
            b"\x86" + pack("v") + pack([MAJOR, MINOR]),
            pack("epoch") + pack(epoch),
            pack("last") + pack(last),
            pack("lost") + pack(lost),
            pack("more") + pack(more),
            pack("records") + array(parts),
        )
    )


def record(r: Record | JournalRecord) -> bytes:
    """One record of a journal, packed: 8 elements, the same in pages and on a line."""
    return pack([r.seq, r.at, r.action, r.path, CODES[r.kind], r.size, r.sha256, fits(r.source) or ""])


def digests(told: Digests) -> bytes:
    return _message(digest=told.digest, own=told.own, below=[list(one) for one in told.below])


def wake(message: Wake) -> bytes:
    return _message(mirror=message.mirror, path=message.path)


# -- decoding --------------------------------------------------------------------------------


def message(data: bytes) -> dict[str, object]:
    """The map of a message of our major version. Raises WireError, for another version with both numbers."""
    return versioned(unpack(data))


def versioned(told: object) -> dict[str, object]:
    """The same for what has been unpacked."""
    if type(told) is not dict:
        raise WireError("message: not a map")
    version = fields.array(told.get("v"), 2, "v")
    if version[0] != MAJOR:
        raise WireError(f"message: version {version[0]!r} of the peer protocol, this program speaks {MAJOR}")
    return told


def hello_read(data: bytes) -> Hello:
    told = message(data)
    return Hello(
        fields.text(told.get("site"), "site"),
        fields.text(told.get("cluster"), "cluster"),
        fields.integer(told.get("streams"), "streams", 1, 1000),
    )


def carried_read(data: bytes) -> list[Carried]:
    mirrors = []
    for item in fields.array(message(data).get("mirrors"), 0, "mirrors"):
        row = fields.array(item, 13, "mirror")
        mirrors.append(
            Carried(
                fields.text(row[0], "mirror"),
                fields.digest(row[1]),
                fields.text(row[2], "epoch"),
                fields.integer(row[3], "position"),
                fields.integer(row[4], "files"),
                fields.integer(row[5], "bytes"),
                fields.integer_or_none(row[6], "complete"),
                fields.integer_or_none(row[7], "ended"),
                fields.text(row[8], "outcome"),
                fields.integer(row[9], "origin bytes"),
                fields.integer(row[10], "sideways bytes"),
                fields.integer(row[11], "errors"),
                fields.integer(row[12], "held"),
                *_received_read(row[13:16]),
            )
        )
    return mirrors


def _received_read(row: Sequence[object]) -> tuple[Received, Days]:
    """Elements 13 to 15 of a mirror, which an older site does not tell."""
    if len(row) < 3:
        return Received(), {}
    days = {}
    for item in fields.array(row[2], 0, "days")[-MONTH:]:
        day, *told = fields.array(item, 3, "day")
        days[fields.integer(day, "day", 0, LAST_DAY)] = _pair(told)
    return _pair(row), days


def _pair(row: Sequence[object]) -> Received:
    return Received(fields.integer(row[0], "origin bytes"), fields.integer(row[1], "sideways bytes"))


def page_read(data: bytes, after: bytes | None = None) -> Page:
    """A page whose names are plain, ascending, each once, and above `after`: so that pages come to an end."""
    told = message(data)
    offers = []
    last = after or b""
    for item in fields.array(told.get("held"), 0, "held"):
        offer = offer_read(item)
        if offer is None:
            continue
        if offer.name <= last:
            raise WireError("held: names are not ascending")
        last = offer.name
        offers.append(offer)
    claims = tuple(claim_read(item) for item in fields.array(told.get("claims"), 0, "claims"))
    more = fields.boolean(told.get("more"), "more")
    if more and not offers:
        raise WireError("held: an empty page that announces more")
    return Page(tuple(offers), claims, fields.boolean(told.get("known"), "known"), more)


def offer_read(item: object) -> Offer | None:
    """One entry; None for a kind that a later minor version added."""
    row = fields.array(item, 13, "entry")
    name = fields.name(row[0])
    code = fields.integer(row[1], "kind", 0, 255)
    if code >= len(KINDS):
        return None
    return Offer(
        name,
        KINDS[code],
        fields.integer(row[2], "size"),
        fields.digest(row[3]),
        fields.stamp(row[4], row[5]),
        Row(
            fields.integer_or_none(row[6], "row size"),
            fields.text_or_none(row[7], "row"),
            fields.stamp(row[8], row[9]),
        ),
        fields.text_or_none(row[10], "etag"),
        fields.text(row[11], "source"),
        fields.text(row[12], "verified"),
    )


def claim_read(item: object) -> Claim:
    """One claim. What version 1.0 sends has no range and no validator: it is for the whole file. More than
    all of it cannot have been received: a claim that goes on beyond that makes no progress."""
    row = fields.array(item, 8, "claim")
    listed = Row(
        fields.integer_or_none(row[1], "row size"),
        fields.text_or_none(row[2], "row"),
        fields.stamp(row[3], row[4]),
    )
    first = fields.integer(row[8], "first") if len(row) > 8 else 0
    end = fields.integer_or_none(row[9], "end") if len(row) > 9 else None
    received, whole = fields.integer(row[5], "received"), listed.size if end is None else end - first
    return Claim(
        fields.name(row[0]),
        listed,
        received if whole is None else min(received, max(whole, 0)),
        fields.integer(row[6], "idle") / 1000,
        fields.boolean(row[7], "started"),
        first,
        end,
        fields.text_or_none(row[10], "etag") if len(row) > 10 else None,
    )


def journal_read(data: bytes, after: int = 0) -> JournalPage:
    """A page whose numbers ascend from above `after`."""
    told = message(data)
    lost = fields.boolean(told.get("lost"), "lost")
    last = after
    records = []
    for item in fields.array(told.get("records"), 0, "records"):
        found = record_read(item)
        if found is None:
            continue
        if found.seq <= last:
            raise WireError("records: numbers are not ascending")
        last = found.seq
        records.append(found)
    more = fields.boolean(told.get("more"), "more")
    if (lost and records) or (more and not records):
        raise WireError("records: lost with records, or more without")
    return JournalPage(
        tuple(records),
        fields.text(told.get("epoch"), "epoch"),
        fields.integer(told.get("last"), "last"),
        lost,
        more,
    )


def record_read(item: object) -> Record | None:
    """One record; None for a kind that a later minor version added."""
    row = fields.array(item, 8, "record")
    code = fields.integer(row[4], "kind", 0, 255)
    if code >= len(KINDS):
        return None
    return Record(
        seq=fields.integer(row[0], "seq"),
        at=fields.integer(row[1], "at"),
        action=fields.text(row[2], "action"),
        path=fields.path(row[3]),
        kind=KINDS[code],
        size=fields.integer(row[5], "size"),
        sha256=fields.digest(row[6]),
        source=fields.text(row[7], "source"),
    )


def digests_read(data: bytes) -> Digests:
    """Subdirectories have plain names, each once, ascending."""
    told = message(data)
    below: list[tuple[bytes, bytes | None]] = []
    for item in fields.array(told.get("below"), 0, "below"):
        row = fields.array(item, 2, "subdirectory")
        name = fields.name(row[0])
        if below and name <= below[-1][0]:
            raise WireError("below: names are not ascending")
        below.append((name, fields.digest(row[1])))
    return Digests(fields.digest(told.get("digest")), fields.digest(told.get("own")), tuple(below))


def wake_read(data: bytes) -> Wake:
    told = message(data)
    return Wake(fields.text(told.get("mirror"), "mirror"), fields.path(told.get("path")))
