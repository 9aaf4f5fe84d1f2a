"""What two sites say to each other on their line, to and from bytes: section 8 of the peer protocol.

One message is one array: what it is, then what it says. Pure. `read` raises WireError and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.model import Claim, value
from cluster.peer import fields, walkwire, wire
from cluster.peer.codec import WireError, pack, unpack
from cluster.plan.slow import Headway

if TYPE_CHECKING:
    from cluster.store.records import JournalRecord

MAX_MESSAGE = 2**17  # bytes that are accepted in one message
FILLED = 2**15  # bytes at which a message of ours is closed: its last element still fits

MAX_UNITS = 1_000_000  # of one budget

Released = tuple[bytes, int]  # name, first byte


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who speaks: the first message of both."""

    site: str
    cluster: str


@dataclass(frozen=True, slots=True)
class Sign:
    """The line is alive. `wanted`: the same is asked of the other."""

    wanted: bool = False


@dataclass(frozen=True, slots=True)
class Anew:
    """Everything that was said of claims is void: all of them follow."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Those were all claims; changes follow."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """Claims that are new, or went on: (mirror, directory, claims)."""

    groups: tuple[tuple[str, bytes, tuple[Claim, ...]], ...]


@dataclass(frozen=True, slots=True)
class Gone:
    """Claims that are over: (mirror, directory, (name, first byte))."""

    groups: tuple[tuple[str, bytes, tuple[Released, ...]], ...]


@dataclass(frozen=True, slots=True)
class Cleared:
    """Nothing of this mirror is being fetched any more."""

    mirror: str


@dataclass(frozen=True, slots=True)
class Going:
    """How a pass over this mirror goes."""

    mirror: str
    headway: Headway


@dataclass(frozen=True, slots=True)
class Follow:
    """The journal of this mirror is wanted from behind record `after` of `epoch`; from now on where there is
    no epoch."""

    mirror: str
    epoch: str
    after: int


@dataclass(frozen=True, slots=True)
class News:
    """Records of a journal that is followed; `page.lost` and `page.last` as in an answer to `journal`."""

    mirror: str
    page: wire.JournalPage


@value
class Share:
    """One budget as a site stands in it towards the one that it tells, in units: what it could use in all,
    whether it uses any, what it lends, what it uses of the other's. `turn` grows
    where not all are served."""

    sort: str
    host: str
    budget: int
    want: int
    used: int
    lent: int
    holding: int
    turn: int = 0


@value
class Shares:
    """What is shared between two sites. `life` is the sender's process, `number` counts its messages to this
    reader; `echo` is the last one that it has heard of the process `echo_life`. `hears` says whom it has
    heard of, and how long ago (ms)."""

    life: int
    number: int
    echo_life: int
    echo: int
    hears: tuple[tuple[str, int], ...] = ()
    shares: tuple[Share, ...] = ()


Message = (
    Greeting
    | Sign
    | Anew
    | Whole
    | Fetching
    | Gone
    | Cleared
    | Going
    | Follow
    | News
    | Shares
    | walkwire.Walk
    | walkwire.Listed
    | walkwire.Known
)


# -- encoding --------------------------------------------------------------------------------


def greeting(message: Greeting) -> bytes:
    return pack(["greeting", [wire.MAJOR, wire.MINOR], message.site, message.cluster])


def sign(message: Sign) -> bytes:
    return pack(["sign", message.wanted])


ANEW = pack(["anew"])
WHOLE = pack(["whole"])


def cleared(mirror: str) -> bytes:
    return pack(["cleared", mirror])


def going(mirror: str, headway: Headway) -> bytes:
    return pack(["going", mirror, headway.pace, headway.fetched, headway.before])


def fetching(claims: Iterable[tuple[str, bytes, Claim]]) -> Iterator[bytes]:
    """As many messages as it takes; claims of one directory that follow each other share a group."""
    return _grouped("fetching", ((mirror, path, wire.claim(claim)) for mirror, path, claim in claims))


def gone(parts: Iterable[tuple[str, bytes, Released]]) -> Iterator[bytes]:
    return _grouped("gone", ((mirror, path, pack(list(part))) for mirror, path, part in parts))


def follow(message: Follow) -> bytes:
    return pack(["follow", message.mirror, message.epoch, message.after])


def shares(message: Shares) -> bytes:
    told = [
        [one.sort, one.host, one.budget, one.want, one.used, one.lent, one.holding, one.turn]
        for one in message.shares
    ]
    hears = [list(one) for one in message.hears]
    return pack(["shares", message.life, message.number, message.echo_life, message.echo, hears, told])


def news(
    mirror: str, epoch: str, last: int, records: Sequence[JournalRecord | wire.Record], *, lost: bool = False
) -> tuple[bytes, int]:
    """A message with as many of the records as fit, and how many these are."""
    parts: list[bytes] = []
    size = 0
    for one in records:
        if size >= FILLED:
            break
        parts.append(wire.record(one))
        size += len(parts[-1])
    head = b"".join(pack(item) for item in ("news", mirror, epoch, last, lost))
    return b"\x96" + head + wire.array(parts), len(parts)


def _grouped(what: str, items: Iterable[tuple[str, bytes, bytes]]) -> Iterator[bytes]:
    groups: list[bytes] = []
    parts: list[bytes] = []
    place: tuple[str, bytes] | None = None
    size = 0

    def close_group() -> None:
        if place is not None and parts:
            groups.append(b"\x93" + pack(place[0]) + pack(place[1]) + wire.array(parts))
            parts.clear()

    for mirror, path, packed in items:
        if size >= FILLED:
            close_group()
            yield b"\x92" + pack(what) + wire.array(groups)
            groups.clear()
            place, size = None, 0
        if place != (mirror, path):
            close_group()
            place = mirror, path
            size += len(path) + 64
        parts.append(packed)
        size += len(packed)
    close_group()
    if groups:
        yield b"\x92" + pack(what) + wire.array(groups)


# -- decoding --------------------------------------------------------------------------------


def read(data: bytes) -> Message | None:
    """One message; None for a sort that a later minor version added."""
    row = fields.array(unpack(data, MAX_MESSAGE), 1, "message")
    match fields.text(row[0], "message"), row[1:]:
        case "greeting", [version, site, cluster, *_]:
            if (major := fields.array(version, 2, "v")[0]) != wire.MAJOR:
                raise WireError(f"greeting: version {major!r} of the peer protocol, here it is {wire.MAJOR}")
            return Greeting(fields.text(site, "site"), fields.text(cluster, "cluster"))
        case "sign", [wanted, *_]:
            return Sign(fields.boolean(wanted, "sign"))
        case "anew", _:
            return Anew()
        case "whole", _:
            return Whole()
        case "cleared", [mirror, *_]:
            return Cleared(fields.text(mirror, "mirror"))
        case "fetching", [groups, *_]:
            return Fetching(tuple(_claims(group) for group in fields.array(groups, 0, "groups")))
        case "gone", [groups, *_]:
            return Gone(tuple(_released(group) for group in fields.array(groups, 0, "groups")))
        case "going", [mirror, pace, fetched, before, *_]:
            headway = Headway(
                fields.integer(pace, "pace"),
                fields.integer(fetched, "bytes"),
                fields.integer(before, "bytes"),
            )
            return Going(fields.text(mirror, "mirror"), headway)
        case "follow", [mirror, epoch, after, *_]:
            return Follow(
                fields.text(mirror, "mirror"), fields.text(epoch, "epoch"), fields.integer(after, "after")
            )
        case "news", [mirror, epoch, last, lost, records, *_]:
            return News(fields.text(mirror, "mirror"), _page(epoch, last, lost, records))
        case "shares", [life, number, echo_life, echo, hears, shares, *_]:
            return Shares(
                fields.integer(life, "life", 1),
                fields.integer(number, "number", 1),
                fields.integer(echo_life, "life"),
                fields.integer(echo, "echo"),
                tuple(_heard(item) for item in fields.array(hears, 0, "hears")),
                tuple(_share(item) for item in fields.array(shares, 0, "shares")),
            )
        case "walk", rest:
            return walkwire.walk_read(rest)
        case "listed", rest:
            return walkwire.listed_read(rest)
        case "known", rest:
            return walkwire.known_read(rest)
        case "greeting" | "sign" | "cleared" | "going" | "follow" | "news" | "shares", _:
            raise WireError(f"{row[0]}: only {len(row)} elements")
        case "fetching" | "gone", _:
            raise WireError(f"{row[0]}: only {len(row)} elements")
        case _:
            return None


def _heard(item: object) -> tuple[str, int]:
    row = fields.array(item, 2, "heard")
    return fields.text(row[0], "site"), fields.integer(row[1], "age")


def _share(item: object) -> Share:
    row = fields.array(item, 8, "share")
    budget, want, used, lent, holding = (fields.integer(one, "share", 0, MAX_UNITS) for one in row[2:7])
    sort, host, turn = (
        fields.text(row[0], "sort"),
        fields.text(row[1], "host"),
        fields.integer(row[7], "turn"),
    )
    return Share(sort, host, budget, want, used, lent, holding, turn)


def _claims(group: object) -> tuple[str, bytes, tuple[Claim, ...]]:
    row = fields.array(group, 3, "group")
    claims = tuple(wire.claim_read(item) for item in fields.array(row[2], 0, "claims"))
    for claim in claims:
        if claim.end is not None and claim.end <= claim.first:
            raise WireError("claim: ends before it begins")
    return fields.text(row[0], "mirror"), fields.path(row[1]), claims


def _released(group: object) -> tuple[str, bytes, tuple[Released, ...]]:
    row = fields.array(group, 3, "group")
    parts = [fields.array(item, 2, "part") for item in fields.array(row[2], 0, "parts")]
    released = tuple((fields.name(part[0]), fields.integer(part[1], "first")) for part in parts)
    return fields.text(row[0], "mirror"), fields.path(row[1]), released


def _page(epoch: object, last: object, lost: object, records: object) -> wire.JournalPage:
    seen = 0
    found = []
    for item in fields.array(records, 0, "records"):
        record = wire.record_read(item)
        if record is None:
            continue
        if record.seq <= seen:
            raise WireError("records: numbers are not ascending")
        seen = record.seq
        found.append(record)
    newest = fields.integer(last, "last")
    if seen > newest:
        raise WireError("records: numbers beyond the last one")
    return wire.JournalPage(
        tuple(found), fields.text(epoch, "epoch"), newest, lost=fields.boolean(lost, "lost")
    )
