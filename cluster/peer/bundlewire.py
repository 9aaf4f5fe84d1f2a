"""Bundles: many small files of many directories in one answer, to and from bytes. Pure.

The question names files and the version that is wanted of each; the answer tells first which of them are
held in that version and which are being fetched, then brings bodies. A file is known by its *place*: where it
stands in the question, counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from cluster.model import Claim, Held, Kind, Offer, Stamp
from cluster.peer import bundlecolumns, fields, wire
from cluster.peer.client import Bodies, Told, Wish
from cluster.peer.codec import MAX_PAGE, WireError, pack, unpack

MAX_QUESTION = MAX_PAGE  # bytes
MAX_ROWS = 2048  # files in one question
MAX_FILE = 2**20  # bytes: larger files are read by themselves
MAX_BODIES = 64 * 2**20  # bytes in one answer
MAX_GROUP = 4 * 2**20  # bytes of bodies behind one header
MAX_PLACES = 256  # bodies behind one header
MAX_HEADER = 2048  # bytes of the header of a group


@dataclass(frozen=True, slots=True)
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


class Answer:
    """Feed it the answer to `wishes` as it arrives. Raises WireError for anything out of order, and for what
    was not asked for (HAZARDS 120).

    Memory: what was told, one group, and what one call of `feed` brought.
    """

    def __init__(self, wishes: Sequence[Wish]) -> None:
        self.complete = False  # the last frame has been read
        self._wishes = wishes
        self._told: Told | None = None
        self._buffer = bytearray()
        self._at = 0
        self._places: list[int] | None = None  # of the group whose bodies are arriving
        self._size = 0  # of its bodies
        self._next = 0  # the least place that may still be sent
        self._sent = self._bytes = 0

    def feed(self, data: bytes) -> Iterator[Told | Bodies]:
        """What is complete now. To be exhausted before the next call."""
        buffer = self._buffer
        buffer += data
        while True:
            if self._places is None:
                header = self._header()
                if header is None:
                    break
                if self._told is None:
                    self._told = self._told_read(header)
                    yield self._told
                elif type(header) is dict:
                    self._end(header)
                else:
                    self._begin(header)
                continue
            if len(buffer) - self._at < self._size:
                break
            yield self._bodies(self._places)
        del buffer[: self._at]
        self._at = 0

    def _header(self) -> object | None:
        """The next header if it is all there."""
        buffer, at = self._buffer, self._at
        if self.complete:
            if len(buffer) > at:
                raise WireError("bundle: goes on after its last frame")
            return None
        if len(buffer) < at + 4:
            return None
        size, limit = int.from_bytes(buffer[at : at + 4], "big"), MAX_HEADER if self._told else MAX_PAGE
        if size > limit:
            raise WireError(f"bundle: a header of {size} bytes")
        if len(buffer) < at + 4 + size:
            return None
        self._at = at + 4 + size
        header = unpack(bytes(buffer[at + 4 : self._at]), limit)
        if header is None:
            raise WireError("bundle: a header that is neither map nor array")
        return header

    def _told_read(self, header: object) -> Told:
        told = wire.versioned(header)
        columns = told.get("columns")
        if columns is not None:
            held = bundlecolumns.read(columns, self._wishes)
        else:
            held = self._held_read(told.get("held"))
        claims: dict[int, Claim] = {}
        for item in fields.array(told.get("claims"), 0, "claims"):
            place, part = fields.array(item, 2, "claim")[:2]
            claim = wire.claim_read(part)
            claims[self._asked_for(place, claim.name)] = claim
        return Told(held, claims)

    def _held_read(self, told: object) -> dict[int, Offer]:
        """From a site that knows no columns."""
        held: dict[int, Offer] = {}
        for item in fields.array(told, 0, "held"):
            place, entry = fields.array(item, 2, "held")[:2]
            offer = wire.offer_read(entry)
            if offer is None or offer.kind is not Kind.FILE or offer.sha256 is None:
                raise WireError("bundle: an entry that is no file with a digest")
            held[self._asked_for(place, offer.name)] = offer
        return held

    def _asked_for(self, place: object, name: bytes) -> int:
        place = fields.integer(place, "place", 0, len(self._wishes) - 1)
        if self._wishes[place].entry.name != name:
            raise WireError("bundle: tells of a file that was not asked for")
        return place

    def _begin(self, header: object) -> None:
        """The header of a group: its places ascend, from group to group as well."""
        assert self._told is not None
        places = fields.array(header, 1, "places")
        found: list[int] = []
        size = 0
        for place in places:
            if type(place) is not int or place < self._next:
                raise WireError("bundle: places are not ascending")
            offer = self._told.held.get(place)
            if offer is None or not self._wishes[place].send:
                raise WireError("bundle: sends a file that was not asked for")
            if offer.size > MAX_FILE:
                raise WireError(f"bundle: more than {MAX_FILE} bytes in a file")
            self._next = place + 1
            size += offer.size
            found.append(place)
        self._bytes += size
        if len(found) > MAX_PLACES or size > MAX_GROUP or self._bytes > MAX_BODIES:
            raise WireError(f"bundle: more than {MAX_GROUP} bytes in a group, or {MAX_BODIES} in all")
        self._places, self._size = found, size

    def _bodies(self, places: Sequence[int]) -> Bodies:
        assert self._told is not None
        whole = memoryview(bytes(memoryview(self._buffer)[self._at : self._at + self._size]))
        bodies, at = [], 0
        for place in places:
            end = at + self._told.held[place].size
            bodies.append((place, whole[at:end]))
            at = end
        self._at += self._size
        self._sent += len(bodies)
        self._places = None
        return Bodies(bodies)

    def _end(self, header: dict[str, object]) -> None:
        if fields.integer(header.get("sent"), "sent") != self._sent:
            raise WireError(f"bundle: says that it sent {header['sent']} files, and sent {self._sent}")
        self.complete = True
