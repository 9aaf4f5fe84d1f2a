"""Messages to bytes and back, and bytes that are no messages (HAZARDS 124, 132)."""

import resource
import time
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.model import Claim, Held, Kind, Offer, Row, Stamp
from cluster.peer import codec, wire
from cluster.peer.codec import WireError
from cluster.plan.saving import LAST_DAY, MONTH, Received

names = (
    st.binary(min_size=1, max_size=255)
    .map(lambda b: b.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda b: b not in (b".", b".."))
)
sizes = st.integers(0, 2**63 - 1)
texts = st.none() | st.text(max_size=40).filter(str.isprintable)
stamps = st.none() | st.builds(
    Stamp, st.integers(-(2**63) + 1, 2**63 - 1), st.sampled_from((1, 10**9, 60 * 10**9))
)
rows = st.builds(Row, st.none() | sizes, texts, stamps)
digests = st.none() | st.binary(min_size=32, max_size=32)
offers = st.builds(
    Offer, names, st.sampled_from(Kind), sizes, digests, stamps, rows, texts, texts.map(str), texts.map(str)
)


def possible(claim: Claim) -> Claim:
    """With no more received than there is."""
    whole = claim.row.size if claim.end is None else claim.end - claim.first
    return claim if whole is None else replace(claim, received=min(claim.received, whole))


idle = st.integers(0, 10**9).map(lambda ms: ms / 1000)
claims = st.builds(Claim, names, rows, sizes, idle, st.booleans()).map(possible)


def page_of(*entries: object, **fields: object) -> bytes:
    rest = {"v": [1, 0], "known": True, "more": False, "claims": [], "held": list(entries)}
    return msgpack.packb(rest | fields)


ENTRY = [b"name", 0, 4, bytes(32), None, None, 4, None, None, None, None, "origin", "origin"]


def entry(**changes: object) -> list[object]:
    places = {"name": 0, "kind": 1, "size": 2, "sha256": 3, "ns": 4, "precision": 5, "source": 11}
    made = list(ENTRY)
    for key, value in changes.items():
        made[places[key]] = value
    return made


@settings(deadline=None)
@given(st.lists(offers, unique_by=lambda o: o.name, max_size=8), st.lists(claims, max_size=4), st.booleans())
def test_a_page_says_what_was_put_into_it(held, claimed, known):
    held.sort(key=lambda o: o.name)
    read = wire.page_read(wire.page(held, claimed, known=known, more=False))
    assert read == wire.Page(tuple(held), tuple(claimed), known, more=False)


@pytest.mark.parametrize(
    ("claim", "received"),
    [
        (Claim(b"a", Row(10), 11), 10),
        (Claim(b"a", Row(), 11), 11),
        (Claim(b"a", Row(10), 2**63 - 1, first=4, end=9), 5),
        (Claim(b"a", Row(10), 3, first=9, end=4), 0),
    ],
)
def test_more_than_all_of_it_was_not_received(claim, received):
    assert wire.claim_read(msgpack.unpackb(wire.claim(claim))).received == received


@settings(deadline=None)
@given(st.text(max_size=20).filter(str.isprintable), st.lists(names, max_size=5).map(b"/".join))
def test_a_wake_says_what_was_put_into_it(mirror, path):
    assert wire.wake_read(wire.wake(wire.Wake(mirror, path))) == wire.Wake(mirror, path)


received = st.builds(Received, sizes, sizes)
carried = st.builds(
    wire.Carried,
    texts.map(str),
    digests,
    origin_bytes=sizes,
    sideways_bytes=sizes,
    received=received,
    days=st.dictionaries(st.integers(0, LAST_DAY), received, max_size=MONTH),
)


@given(st.lists(carried, max_size=3))
def test_what_a_site_carries_and_received_is_read_as_it_was_told(mirrors):
    assert wire.carried_read(wire.carried(mirrors)) == mirrors


def rows_of(mirrors: list[wire.Carried]) -> list[list[object]]:
    return msgpack.unpackb(wire.carried(mirrors))["mirrors"]


def carried_of(*rows: object) -> bytes:
    return msgpack.packb({"v": [1, 0], "mirrors": rows})


def test_an_older_site_does_not_tell_days_and_an_older_reader_passes_over_them():
    (row,) = rows_of([wire.Carried("debian", held=5, received=Received(1, 2), days={3: Received(1, 2)})])
    (told,) = wire.carried_read(carried_of(row[:13]))
    assert told == wire.Carried("debian", held=5)
    assert len(row) == 16  # an older reader takes 13 or more
    (newer,) = wire.carried_read(carried_of([*row[:15], [[3, 1, 2, "new"]], "new"]))
    assert newer.days == {3: Received(1, 2)}


def test_only_a_month_is_told_and_read():
    days = {day: Received(day) for day in range(100)}
    (row,) = rows_of([wire.Carried("debian", days=days)])
    assert [day for day, _, _ in row[15]] == list(range(100 - MONTH, 100))
    endless = [[day, 0, 0] for day in range(1000)]
    assert len(wire.carried_read(carried_of([*row[:15], endless]))[0].days) == MONTH


@pytest.mark.parametrize(
    "odd",
    [
        ([1, 2, 3], "days"),
        ([-1, 2, []], "origin bytes"),
        ([1, "2", []], "sideways bytes"),
        ([1, 2, [[1, 2]]], "day"),
        ([1, 2, [[LAST_DAY + 1, 2, 3]]], "day"),
        ([1, 2, [[1, 2, -3]]], "sideways bytes"),
    ],
)
def test_days_that_are_none_are_refused(odd):
    more, what = odd
    (row,) = rows_of([wire.Carried("debian")])
    with pytest.raises(WireError, match=what):
        wire.carried_read(carried_of([*row[:13], *more]))


def test_a_page_is_closed_before_it_is_too_large():
    held = [Held(b"%04d" % n + b"n" * 240, Kind.FILE, etag='"' + "e" * 400 + '"') for n in range(5000)]
    claimed = [Claim(b"c" * 255, Row(rounded="r" * 4000)) for _ in range(wire.MAX_CLAIMS)]
    packed = wire.page(held, claimed, known=True, more=False)
    assert len(packed) <= codec.MAX_PAGE
    read = wire.page_read(packed)
    assert read.more
    assert 1000 < len(read.held) < 5000


def test_what_cannot_be_told_as_it_is_is_left_out():
    odd = Held(b"a", Kind.FILE, etag='"\udcff"', row=Row(rounded="1\n2"), source="x" * 5000)
    (offer,) = wire.page_read(wire.page([odd], [], known=True, more=False)).held
    assert (offer.etag, offer.row.rounded, offer.source) == (None, None, "")


@given(st.binary(max_size=400))
@settings(max_examples=400, deadline=None)
def test_random_bytes_are_refused_and_nothing_else_happens(data):
    for read in (wire.page_read, wire.hello_read, wire.carried_read, wire.journal_read, wire.wake_read):
        with pytest.raises(WireError):
            read(data)


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.binary(max_size=40), st.text()
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=14) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
FIELDS = (
    *("held", "claims", "known", "more", "records", "epoch", "last", "lost"),
    *("mirrors", "site", "cluster", "streams", "mirror", "path"),
)


@given(st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6).map(lambda f: f | {"v": [1, 0]}))
@settings(max_examples=100, deadline=None)
def test_well_formed_nonsense_is_refused_or_read_and_nothing_else_happens(fields):
    data = msgpack.packb(fields)
    for read in (wire.page_read, wire.hello_read, wire.carried_read, wire.journal_read, wire.wake_read):
        try:
            read(data)
        except WireError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xdd\xff\xff\xff\xff", "array of 4294967295"),
        (b"\xdf\xff\xff\xff\xff", "map of 4294967295"),
        (b"\xc6\xff\xff\xff\xff", "binary of 4294967295"),
        (b"\xdb\x00\x00\x10\x01", "string of 4097"),
        (b"\x91" * 2000 + b"\xc0", "nested deeper"),
        (b"\x81\xa1a" * 2000 + b"\xc0", "nested deeper"),
        (b"\x80" * 16 * 2**20, "16777216 bytes"),
        (b"\xdc\x27\x10" + (b"\xdc\x27\x10" + b"\x80" * 10_000) * 104, "more than 250000 values"),
        (b"\xc7\x0c\xff" + bytes(12), "type 0xc7"),
        (b"\xd6\xff" + bytes(4), "type 0xd6"),
        (b"\xd7\xff" + b"\xff" * 8, "type 0xd7"),
        (b"\xca\x7f\xc0\x00\x00", "type 0xca"),
        (msgpack.packb(float("nan")), "type 0xcb"),
        (msgpack.packb(2**63), "2\\*\\*63"),
        (b"\x82\xa1v\x01\xa1v\x02", "twice"),
        (b"\x81\x01\x02", "key"),
        (b"\x81\xc4\x01v\x02", "key"),
        (b"\xa2\xff\xfe", "utf-8"),
        (b"\xc0\xc0", "ends at byte 1 of 2"),
        (b"\x92\xc0", "cut off"),
        (b"\xc4\x05abc", "ends at byte 7 of 5"),
        (b"\xdc\x00", "cut off"),
        (b"\xc1", "type 0xc1"),
        (b"", "cut off"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_attack_is_refused_quickly_and_in_little_memory(data, says):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(WireError, match=says):
        codec.unpack(data)
    assert time.process_time() - started < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (page_of(entry(name=b"../../etc/passwd")), "not a plain file name"),
        (page_of(entry(name=b"..")), "not a plain file name"),
        (page_of(entry(name=b"a\0b")), "not a plain file name"),
        (page_of(entry(name=b"n" * 256)), "not a plain file name"),
        (page_of(entry(name="text")), "not binary"),
        (page_of(entry(size=-1)), "size: not an integer from 0"),
        (page_of(entry(size=True)), "size: not an integer"),
        (page_of(entry(sha256=b"short")), "5 bytes instead of 32"),
        (page_of(entry(ns=1, precision=0)), "precision: not an integer from 1"),
        (page_of(entry(source="two\nlines")), "not printable"),
        (page_of(entry(), entry()), "not ascending"),
        (page_of(entry(name=b"b"), entry(name=b"a")), "not ascending"),
        (page_of(ENTRY[:12]), "not an array of 13"),
        (page_of(more=True), "announces more"),
        (page_of(known=1), "neither true nor false"),
        (page_of(v=[2, 0]), "version 2 of the peer protocol, this program speaks 1"),
        (page_of(v="1"), "v: not an array"),
        (msgpack.packb([1]), "not a map"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_page_that_breaks_the_rules_is_refused_in_one_line(data, says):
    with pytest.raises(WireError, match=says) as caught:
        wire.page_read(data)
    assert "\n" not in str(caught.value)


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\x01"


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        (nested(8), nested(9)),
        (b"\x91" * 7 + b"\x80", b"\x91" * 8 + b"\x80"),
        (msgpack.packb([0] * 10_000), msgpack.packb([0] * 10_001)),
        (msgpack.packb({str(n): n for n in range(64)}), msgpack.packb({str(n): n for n in range(65)})),
        (msgpack.packb(b"x" * 4096), msgpack.packb(b"x" * 4097)),
        (msgpack.packb("x" * 4096), msgpack.packb("x" * 4097)),
        (msgpack.packb(2**63 - 1), msgpack.packb(2**63)),
        (msgpack.packb(-(2**63)), b"\xca" + bytes(4)),
    ],
    ids=["depth", "empty map at depth", "array", "map", "binary", "string", "integer", "no floats"],
)
def test_every_limit_holds_exactly(within, beyond):
    assert codec.unpack(within) == msgpack.unpackb(within)
    with pytest.raises(WireError):
        codec.unpack(beyond)


columns = st.integers(0, 60).flatmap(
    lambda count: st.one_of(
        st.lists(kind, min_size=count, max_size=count)
        for kind in (
            st.binary(min_size=32, max_size=32),
            st.integers(2**8, 2**16 - 1),
            st.integers(2**16, 2**32 - 1),
            st.integers(2**32, 2**63 - 1),
            st.none() | st.integers(0, 2**40) | st.binary(max_size=33),
        )
    )
)


@given(st.lists(columns | st.lists(columns, max_size=3), max_size=4), st.data())
def test_columns_are_read_whole_or_not_at_all(value, data):
    """Values of one kind that follow each other are passed over together, across the ends of arrays too."""
    packed = msgpack.packb(value)
    assert codec.unpack(packed) == value
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(WireError, match=r"cut off|ends at byte"):
        codec.unpack(packed[:cut])
    with pytest.raises(WireError, match="ends at byte"):
        codec.unpack(packed + packed[-1:])


@pytest.mark.parametrize("beyond", [b"\xcf" + b"\x80" + bytes(7), b"\xcf" + b"\xff" * 8])
def test_a_number_that_is_too_large_is_found_in_a_column(beyond):
    column = b"\xdc\x00\x40" + b"\xcf" + (2**62).to_bytes(8) * 1
    column += (b"\xcf" + (2**62).to_bytes(8)) * 62 + beyond
    with pytest.raises(WireError, match="2\\*\\*63"):
        codec.unpack(column)


def test_names_that_do_not_come_after_the_page_before_are_refused():
    assert wire.page_read(page_of(entry(name=b"b")), b"a").held
    with pytest.raises(WireError, match="not ascending"):
        wire.page_read(page_of(entry(name=b"b")), b"b")


def test_a_minor_version_ahead_is_read_without_what_it_added():
    """HAZARDS 132."""
    newer = [*entry(), "a new field", {"and": ["more"]}]
    odd = entry(name=b"odd", kind=9)
    read = wire.page_read(page_of(newer, odd, v=[1, 7, "x"], surprise={"a": [1, 2]}))
    assert [offer.name for offer in read.held] == [b"name"]


def test_a_full_page_is_read_in_a_fraction_of_a_second():
    held = [
        Held(b"package_%06d_amd64.deb" % n, Kind.FILE, 1, bytes(32), Stamp(n), Row(1, None, Stamp(n)))
        for n in range(5000)
    ]
    data = wire.page(held, [], known=True, more=False)
    started = time.process_time()
    assert len(wire.page_read(data).held) == 5000
    assert time.process_time() - started < 0.5
