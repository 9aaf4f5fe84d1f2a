"""What sites tell each other on their line about passes and listings, to and from bytes: "Walks" in section 8
of the peer protocol. Pure; the readers raise WireError and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cluster.peer import fields, wire
from cluster.peer.codec import MAX_TEXT, WireError, pack

FILLED = 2**15  # bytes at which a message of ours is closed
MAX_ROWS = 2**14  # bytes of rows that are told with a word; longer ones are asked for (3.5)
TOKEN = 64  # bytes of a listing's token, at most


@dataclass(frozen=True, slots=True)
class Walk:
    """A pass over a mirror is under way, by listings of `origin` (a URL; empty: none is); it began `since` ms
    ago. `number` counts what this site said of it. Wanted is what siblings were told by that origin in and
    below `scope` at most `age` ms ago, and will be; with rows where `rows`. `shares`: what this site ranks
    first for it lists."""

    mirror: str
    number: int
    origin: str = ""
    scope: bytes = b""
    age: int = 0
    since: int = 0
    shares: bool = False
    rows: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """Of one directory: how long ago (ms) the origin was asked for it, None: it is being asked now; and the
    token of the listing, empty where none was had. `rows`: packed as in an answer (3.5); empty: not told."""

    directory: bytes
    age: int | None = None
    token: bytes = b""
    rows: bytes = b""


@dataclass(frozen=True, slots=True)
class Listed:
    mirror: str
    origin: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """All that was wanted by the reader's walk `number` has been told; not `whole`: some of it was too much,
    and can be asked for."""

    mirror: str
    number: int
    whole: bool


def walk(told: Walk) -> bytes:
    wanted = [told.scope, told.age, told.since, told.shares, told.rows]
    return pack(["walk", told.mirror, told.number, told.origin, *wanted])


def known(told: Known) -> bytes:
    return pack(["known", told.mirror, told.number, told.whole])


def listed(mirror: str, origin: str, words: Iterable[Word]) -> Iterator[bytes]:
    """As many messages as it takes, one at least: it is a sign that the walk goes on."""
    head = pack("listed") + pack(mirror) + pack(origin)
    parts: list[bytes] = []
    size = told = 0
    for word in words:
        parts.append(_word(word))
        size += len(parts[-1])
        if size >= FILLED:
            yield b"\x94" + head + wire.array(parts)
            told += 1
            parts, size = [], 0
    if parts or not told:
        yield b"\x94" + head + wire.array(parts)


def _word(word: Word) -> bytes:
    pieces = [word.rows[at : at + MAX_TEXT] for at in range(0, len(word.rows), MAX_TEXT)]
    return pack([word.directory, word.age, word.token, pieces])


def walk_read(row: list[object]) -> Walk:
    """`row` is the message without its first element."""
    mirror, number, origin, scope, age, since, shares, rows = fields.array(row, 8, "walk")[:8]
    return Walk(
        fields.text(mirror, "mirror"),
        fields.integer(number, "number"),
        fields.text(origin, "origin"),
        fields.path(scope),
        fields.integer(age, "age"),
        fields.integer(since, "since"),
        fields.boolean(shares, "shares"),
        fields.boolean(rows, "rows"),
    )


def listed_read(row: list[object]) -> Listed:
    mirror, origin, words = fields.array(row, 3, "listed")[:3]
    return Listed(
        fields.text(mirror, "mirror"),
        fields.text(origin, "origin"),
        tuple(_word_read(word) for word in fields.array(words, 0, "words")),
    )


def known_read(row: list[object]) -> Known:
    mirror, number, whole = fields.array(row, 3, "known")[:3]
    return Known(
        fields.text(mirror, "mirror"), fields.integer(number, "number"), fields.boolean(whole, "whole")
    )


def _word_read(item: object) -> Word:
    directory, age, token, pieces = fields.array(item, 4, "word")[:4]
    rows = b"".join(fields.binary(piece, "rows") for piece in fields.array(pieces, 0, "rows"))
    word = Word(
        fields.path(directory), fields.integer_or_none(age, "age"), fields.binary(token, "token"), rows
    )
    if len(word.token) > TOKEN or len(rows) > MAX_ROWS:
        raise WireError(f"word: a token of {len(word.token)} bytes, {len(rows)} bytes of rows")
    if (rows and not word.token) or (word.token and word.age is None):
        raise WireError("word: says two things of one listing")
    return word
