"""Messages on a line: what is said is what is read, in bounded pieces; nonsense is refused."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.model import Claim, Kind, Row, Stamp
from cluster.peer import linewire, wire
from cluster.peer.codec import WireError
from cluster.peer.leases import MAX_SHARES
from cluster.peer.linewire import (
    Anew,
    Cleared,
    Fetching,
    Follow,
    Going,
    Gone,
    Greeting,
    News,
    Share,
    Shares,
    Sign,
    Whole,
)
from cluster.plan.slow import Headway
from tests.peer.test_wire import anything, possible

names = st.binary(min_size=1, max_size=40).filter(lambda n: n not in (b".", b"..") and not set(n) & {0, 0x2F})
paths = st.lists(names, max_size=4).map(b"/".join)
mirrors = st.sampled_from(["debian", "ctan", "x" * 60])
sizes = st.integers(0, 2**63 - 1)
stamps = st.builds(Stamp, st.integers(-(2**62), 2**62), st.integers(1, 10**12))
rows = st.builds(Row, st.none() | sizes, st.none() | st.just("1.2M"), st.none() | stamps)
parts = st.sampled_from([(0, None), (0, 5), (7, None), (2**40, 2**41)])


@st.composite
def claims(draw):
    first, end = draw(parts)
    etag = draw(st.sampled_from([None, '"v"']))
    idle = draw(st.integers(0, 10**6)) / 1000
    return possible(Claim(draw(names), draw(rows), draw(sizes), idle, draw(st.booleans()), first, end, etag))


SHARES = Shares(
    2**47, 9, 5, 8, (("oslo", 1500),), (Share("connections", "ftp.example.org", 8, 20, 1, 2, 3, 4),)
)


def flat(groups) -> list:
    return [(mirror, path, one) for mirror, path, found in groups for one in found]


@given(st.lists(st.tuples(mirrors, paths, claims()), max_size=30))
def test_claims_arrive_as_they_were_said(said):
    messages = [linewire.read(one) for one in linewire.fetching(said)]
    assert all(isinstance(one, Fetching) for one in messages)
    assert [item for one in messages for item in flat(one.groups)] == said


@given(st.lists(st.tuples(mirrors, paths, st.tuples(names, sizes)), max_size=30))
def test_ends_of_claims_arrive_as_they_were_said(said):
    messages = [linewire.read(one) for one in linewire.gone(said)]
    assert all(isinstance(one, Gone) for one in messages)
    assert [item for one in messages for item in flat(one.groups)] == said


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (linewire.greeting(Greeting("kent", "test")), Greeting("kent", "test")),
        (linewire.sign(Sign(wanted=True)), Sign(wanted=True)),
        (linewire.ANEW, Anew()),
        (linewire.WHOLE, Whole()),
        (linewire.cleared("debian"), Cleared("debian")),
        (linewire.going("debian", Headway(7, 8, 9)), Going("debian", Headway(7, 8, 9))),
        (linewire.follow(Follow("debian", "e", 7)), Follow("debian", "e", 7)),
        (linewire.shares(SHARES), SHARES),
        (
            linewire.news("debian", "e", 9, [], lost=True)[0],
            News("debian", wire.JournalPage((), "e", 9, True)),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_message_says_what_was_put_into_it(packed, said):
    assert linewire.read(packed) == said


def test_many_claims_and_records_are_said_in_pieces_that_are_not_too_large():
    long = Claim(b"n" * 255, Row(rounded="r" * 4000), etag="e" * 4000)
    said = [("debian", b"d" * 200 + b"/" + b"%d" % (n // 9), long) for n in range(500)]
    pieces = list(linewire.fetching(said))
    assert max(map(len, pieces)) < linewire.MAX_MESSAGE
    assert sum(len(flat(linewire.read(piece).groups)) for piece in pieces) == 500
    records = [
        wire.Record(n, 0, "publish", b"p" * 200 + b"/%d" % n, Kind.FILE, 1, bytes(32), "origin")
        for n in range(1, 5001)
    ]
    got, rest = [], records
    while rest:
        message, count = linewire.news("debian", "e", 5000, rest)
        assert len(message) < linewire.MAX_MESSAGE
        got += linewire.read(message).page.records
        rest = rest[count:]
    assert got == records
    share = Share("connections", "h" * 253, 10**6, 10**6, 10**6, 10**6, 10**6, 2**40)
    hears = tuple(("s" * 63, 2**40) for _ in range(16))
    most = Shares(2**48, 2**40, 2**48, 2**40, hears, (share,) * MAX_SHARES)
    assert len(linewire.shares(most)) < linewire.MAX_MESSAGE


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused(data):
    try:
        linewire.read(data)
    except WireError as error:
        assert "\n" not in str(error)


SORTS = (
    "greeting",
    "sign",
    "anew",
    "whole",
    "cleared",
    "going",
    "fetching",
    "gone",
    "follow",
    "news",
    "shares",
    "else",
)


@given(st.sampled_from(SORTS), st.lists(anything, max_size=6))
@settings(max_examples=200, deadline=None)
def test_well_formed_nonsense_is_refused_or_read_and_nothing_else_happens(sort, rest):
    try:
        linewire.read(msgpack.packb([sort, *rest]))
    except WireError as error:
        assert "\n" not in str(error)
