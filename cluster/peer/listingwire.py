"""The message about a listing, to and from bytes: `docs/design/peer-protocol.md`. Pure.

Every decoder raises WireError and nothing else.
"""

from __future__ import annotations

from cluster.model import Entry, Listing, Rejected
from cluster.peer import fields, wire
from cluster.peer.client import Relayed
from cluster.peer.codec import MAX_ARRAY, MAX_PAGE, MAX_TEXT, WireError, pack, unpack
from cluster.peer.walkwire import TOKEN

MARGIN = 4096  # bytes of a message beside its rows


def packed(listing: Listing) -> bytes | None:
    """The rows of a listing for `told`; None where they do not fit into a message."""
    if len(listing.entries) > MAX_ARRAY or len(listing.rejected) > MAX_ARRAY:
        return None
    entries = [pack(_entry(one)) for one in listing.entries]
    rejected = [
        pack([one.name[:MAX_TEXT], one.reason[:MAX_TEXT], wire.CODES[one.kind]]) for one in listing.rejected
    ]
    whole = b"".join(
        (
            wire.array(entries),
            wire.array(rejected),
            pack(_entry(listing.own) if listing.own is not None else None),
            pack([listing.zone_known, listing.format[:MAX_TEXT], listing.size]),
        )
    )
    return whole if len(whole) <= MAX_PAGE - MARGIN and _printable(listing) else None


def _printable(listing: Listing) -> bool:
    texts = [one.reason for one in listing.rejected]
    texts += [text for e in listing.entries for text in (e.rounded, e.link) if text is not None]
    return all(text.isprintable() and len(text) <= MAX_TEXT // 4 for text in texts)


def _entry(one: Entry) -> list[object]:
    stamp = (one.mtime.ns, one.mtime.precision) if one.mtime else (None, None)
    who = (one.mode, one.uid, one.gid)
    links = (one.target, one.link, one.links, one.ambiguous)
    return [one.name, wire.CODES[one.kind], one.size, one.rounded, *stamp, *who, *links]


def told(age: float = 0.0, token: bytes = b"", rows: bytes = b"", *, walking: bool = False) -> bytes:
    """The answer: without `token` there is no listing that is fresh enough, without `rows` whoever asks has
    what the token stands for."""
    message: dict[str, object] = {
        "v": [wire.MAJOR, wire.MINOR],
        "walking": walking,
        "age": min(round(age * 1000), fields.MAX_INT),
        "token": token,
        "rows": None,
    }
    packed = pack(message)
    return packed[:-1] + b"\x94" + rows if rows else packed  # the last byte is the None of `rows`


def told_read(data: bytes) -> Relayed:
    """An answer. Names are plain, ascending, each once."""
    message = wire.message(data)
    if message.get("token") == b"":
        return Relayed(None)
    age = fields.integer(message.get("age"), "age") / 1000
    token = fields.binary(message.get("token"), "token")
    if not 0 < len(token) <= TOKEN:
        raise WireError(f"token: {len(token)} bytes")
    rows = message.get("rows")
    listing = Listing((), token=token, same=True) if rows is None else _listing_read(rows, token)
    return Relayed(listing, age)


def rows_read(rows: bytes, token: bytes) -> Listing:
    """What `packed` made of a listing, by itself."""
    return _listing_read(unpack(b"\x94" + rows), token)


def _listing_read(rows: object, token: bytes) -> Listing:
    entries, rejected, own, rest = fields.array(rows, 4, "rows")[:4]
    zone_known, form, size = fields.array(rest, 3, "listing")[:3]
    return Listing(
        _entries_read(entries),
        tuple(_rejected_read(one) for one in fields.array(rejected, 0, "rejected")),
        fields.boolean(zone_known, "zone"),
        fields.text(form, "format"),
        fields.integer(size, "size"),
        own=None if own is None else _entry_read(own, nameless=True),
        token=token,
    )


def _entries_read(items: object) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for item in fields.array(items, 0, "entries"):
        entry = _entry_read(item)
        if entries and entry.name <= entries[-1].name:
            raise WireError("entries: names are not ascending")
        entries.append(entry)
    return tuple(entries)


def _entry_read(item: object, *, nameless: bool = False) -> Entry:
    row = fields.array(item, 13, "entry")
    target = row[9]
    return Entry(
        fields.binary(row[0], "name") if nameless else fields.name(row[0]),
        wire.KINDS[fields.integer(row[1], "kind", 0, len(wire.KINDS) - 1)],
        fields.integer_or_none(row[2], "size"),
        fields.text_or_none(row[3], "rounded size"),
        fields.stamp(row[4], row[5]),
        fields.integer_or_none(row[6], "mode"),
        fields.integer_or_none(row[7], "uid"),
        fields.integer_or_none(row[8], "gid"),
        None if target is None else fields.binary(target, "target"),
        fields.text_or_none(row[10], "link"),
        fields.integer(row[11], "links"),
        fields.boolean(row[12], "ambiguous"),
    )


def _rejected_read(item: object) -> Rejected:
    row = fields.array(item, 3, "rejected")
    return Rejected(
        fields.binary(row[0], "name"),
        fields.text(row[1], "reason"),
        wire.KINDS[fields.integer(row[2], "kind", 0, len(wire.KINDS) - 1)],
    )
