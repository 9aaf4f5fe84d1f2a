"""Bundles: many small files of many directories in one answer, to and from bytes. Pure.

The question names files and the version that is wanted of each; the answer tells first which of them are
held in that version and which are being fetched, then brings bodies. A file is known by its *place*: where it
stands in the question, counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from cluster.courier import groups
from cluster.model import Claim, Held, Kind, Offer, Stamp, value
from cluster.peer import bundlecolumns, fields, wire
from cluster.peer.client import Bodies, Told, Wish
from cluster.peer.codec import MAX_PAGE, WireError, pack, unpack

MAX_QUESTION = MAX_PAGE  # bytes
MAX_ROWS = 2048  # files in one question


_USUAL = (bytes, int, int, int, None, bool)


@value
class Row:
    """One file of a question: the version that `sha256` names where it is told, else the one that an origin
    lists with this size and time. `send`: its body is wanted as well."""

    name: bytes
    size: int | None
    mtime: Stamp | None
    sha256: bytes | None
    send: bool


@dataclass(frozen=True, slots=True)
class Question:
    """Places count through the directories in their order. `columns`: who asks understands them."""

    mirror: str
    wanted: tuple[tuple[bytes, tuple[Row, ...]], ...]
    columns: bool = False


# -- the question ----------------------------------------------------------------------------


def question(mirror: str, wishes: Sequence[Wish]) -> bytes:
    """Wishes of one directory that stand together are told under one name of it."""
    wanted = [
        [directory, [_row(wish) for wish in some]]
        for directory, some in groupby(wishes, lambda wish: wish.directory)
    ]
    told = {"v": [wire.MAJOR, wire.MINOR], "mirror": mirror, "wanted": wanted, "columns": True}
    return pack(told)


def _row(wish: Wish) -> tuple[bytes, int | None, int | None, int | None, bytes | None, bool]:
    entry, mtime = wish.entry, wish.entry.mtime
    ns, precision = (mtime.ns, mtime.precision) if mtime is not None else (None, None)
    return entry.name, entry.size, ns, precision, wish.sha256, wish.send


def question_read(data: bytes) -> Question:
    """Raises WireError, also for more than MAX_ROWS files."""
    told = wire.message(data)
    wanted, count = [], 0
    for item in fields.array(told.get("wanted"), 0, "wanted"):
        directory, listed = fields.array(item, 2, "directory")[:2]
        rows = tuple(_row_read(row) for row in fields.array(listed, 0, "files"))
        count += len(rows)
        wanted.append((fields.path(directory), rows))
    if count > MAX_ROWS:
        raise WireError(f"wanted: {count} files, allowed are {MAX_ROWS}")
    mirror = fields.text(told.get("mirror"), "mirror")
    return Question(mirror, tuple(wanted), fields.boolean(told.get("columns", False), "columns"))


def _row_read(item: object) -> Row:
    row = fields.array(item, 6, "file")
    name, size, ns, precision, sha256, send = row[:6]
    if (type(name), type(size), type(ns), type(precision), sha256, type(send)) == _USUAL:
        assert isinstance(name, bytes)
        assert isinstance(size, int)
        assert isinstance(ns, int)
        assert isinstance(precision, int)
        if size >= 0 and precision >= 1:
            return Row(fields.name(name), size, Stamp(ns, precision), None, send is True)
    return Row(
        fields.name(row[0]),
        fields.integer_or_none(row[1], "size"),
        fields.stamp(row[2], row[3]),
        fields.digest(row[4]),
        fields.boolean(row[5], "send"),
    )


# -- the answer ------------------------------------------------------------------------------


def told(
    held: Mapping[int, Held], claims: Mapping[int, Claim], *, columns: bool = False
) -> tuple[bytes, set[int]]:
    """The first frame; and which of `held` it tells: what does not fit into a message is left out."""
    key = "columns" if columns else "held"
    offered, places = bundlecolumns.told(held) if columns else _entries(held)
    fetched = [b"\x92" + pack(place) + wire.claim(claim) for place, claim in claims.items()]
    while fetched and len(offered) + sum(map(len, fetched)) > wire.PAGE_BYTES + 65_536:
        fetched = fetched[: len(fetched) // 2]
    version = b"\x83" + pack("v") + pack([wire.MAJOR, wire.MINOR])
    return _framed(version + pack(key) + offered + pack("claims") + wire.array(fetched)), places


def _entries(held: Mapping[int, Held]) -> tuple[bytes, set[int]]:
    parts: list[bytes] = []
    places: set[int] = set()
    size = 0
    for place, record in held.items():
        part = b"\x92" + pack(place) + wire.entry(record)
        size += len(part)
        if size > wire.PAGE_BYTES:
            break
        parts.append(part)
        places.add(place)
    return wire.array(parts), places


def group(files: Iterable[tuple[int, bytes]]) -> bytes:
    """Bodies by their places, behind one header."""
    places, bodies = zip(*files, strict=True)
    return b"".join((_framed(pack(places)), *bodies))


def last(sent: int) -> bytes:
    """The last frame: so many bodies were sent."""
    return _framed(pack({"v": [wire.MAJOR, wire.MINOR], "sent": sent}))


def _framed(header: bytes) -> bytes:
    return len(header).to_bytes(4, "big") + header


def told_read(header: bytes, wishes: Sequence[Wish]) -> Told:
    """What the first frame of the answer to `wishes` tells. Raises WireError."""
    message = unpack(header)
    if message is None:
        raise WireError("bundle: a header that is neither map nor array")
    told = wire.versioned(message)
    columns = told.get("columns")
    if columns is not None:
        held = bundlecolumns.read(columns, wishes)
    else:
        held = _held_read(told.get("held"), wishes)
    claims: dict[int, Claim] = {}
    for item in fields.array(told.get("claims"), 0, "claims"):
        place, part = fields.array(item, 2, "claim")[:2]
        claim = wire.claim_read(part)
        claims[_asked_for(wishes, place, claim.name)] = claim
    return Told(held, claims)


def _held_read(told: object, wishes: Sequence[Wish]) -> dict[int, Offer]:
    """From a site that knows no columns."""
    held: dict[int, Offer] = {}
    for item in fields.array(told, 0, "held"):
        place, entry = fields.array(item, 2, "held")[:2]
        offer = wire.offer_read(entry)
        if offer is None or offer.kind is not Kind.FILE or offer.sha256 is None:
            raise WireError("bundle: an entry that is no file with a digest")
        held[_asked_for(wishes, place, offer.name)] = offer
    return held


def _asked_for(wishes: Sequence[Wish], place: object, name: bytes) -> int:
    place = fields.integer(place, "place", 0, len(wishes) - 1)
    if wishes[place].entry.name != name:
        raise WireError("bundle: tells of a file that was not asked for")
    return place


def to_come(told: Told, wishes: Sequence[Wish]) -> dict[int, int]:
    """The sizes, by place, of the files that may follow."""
    return {place: offer.size for place, offer in told.held.items() if wishes[place].send}


def ended(header: bytes, sent: int) -> None:
    """The last frame, after so many bodies. Raises WireError."""
    last = unpack(header, groups.MAX_HEADER)
    if type(last) is not dict or fields.integer(last.get("sent"), "sent") != sent:
        says = last.get("sent") if type(last) is dict else last
        raise WireError(f"bundle: says that it sent {says} files, and sent {sent}")


class Answer:
    """Feed it the answer to `wishes` as it arrives. Raises WireError for anything out of order, and for what
    was not asked for (HAZARDS 120).

    Memory: what was told, one group, and what one call of `feed` brought.
    """

    def __init__(self, wishes: Sequence[Wish]) -> None:
        self.complete = False  # the last frame has been read
        self._wishes = wishes
        self._framed = groups.Framed()
        self._groups: groups.Groups | None = None

    def feed(self, data: bytes) -> Iterator[Told | Bodies]:
        """What is complete now. To be exhausted before the next call."""
        self._framed.feed(data)
        try:
            yield from self._complete()
        except groups.Disorder as error:
            raise WireError(str(error)) from None

    def _complete(self) -> Iterator[Told | Bodies]:
        if self._groups is None:
            header = self._framed.header(MAX_PAGE)
            if header is None:
                return
            told = told_read(header, self._wishes)
            self._groups = groups.Groups(self._framed, to_come(told, self._wishes))
            yield told
        files = [(place, memoryview(bytes(body))) for place, body in self._groups.files()]
        if files:
            yield Bodies(files)
        if self._groups.last is not None and not self.complete:
            ended(self._groups.last, self._groups.sent)
            self.complete = True
