"""Listings between siblings: what comes over the wire is what the origin said, and for how long it counts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import PeerError
from cluster.model import Entry, Kind, Listing, Rejected, Stamp
from cluster.peer import listings as listings_module
from cluster.peer import listingwire
from cluster.peer.codec import WireError, pack
from cluster.peer.listings import Listings
from cluster.peer.walkwire import Walk
from tests.peer.cluster import make_cluster, running

ORIGIN = "http://origin.example/pub/"

names = st.binary(min_size=1, max_size=20).filter(lambda n: n not in (b".", b"..") and not set(n) & {0, 47})
stamps = st.none() | st.builds(Stamp, st.integers(-(2**62), 2**62), st.sampled_from([1, 10**9, 60 * 10**9]))
texts = st.none() | st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), max_size=10)
sizes = st.none() | st.integers(0, 2**60)
entries = st.builds(
    Entry,
    names,
    st.sampled_from(list(Kind)),
    sizes,
    texts,
    stamps,
    sizes,
    sizes,
    sizes,
    st.none() | st.binary(max_size=30),
    texts,
    st.integers(0, 9),
    st.booleans(),
)
rows = st.lists(entries, unique_by=lambda e: e.name, max_size=8).map(lambda found: sorted(found, key=_name))
rejects = st.builds(Rejected, st.binary(max_size=9), st.just("no name"), st.just(Kind.FILE))
listed = st.builds(
    Listing,
    rows.map(tuple),
    st.lists(rejects, max_size=3).map(tuple),
    st.booleans(),
    st.just("nginx"),
    st.integers(0, 2**40),
    st.none() | entries,
    st.binary(min_size=1, max_size=64),
)


def _name(entry: Entry) -> bytes:
    return entry.name


@given(listed, st.integers(0, 10**6))
def test_a_listing_arrives_as_it_was(listing: Listing, age: int) -> None:
    packed = listingwire.packed(listing)
    assert packed is not None
    told = listingwire.told_read(listingwire.told(age, listing.token, packed))
    assert (told.listing, told.age) == (listing, age)
    assert listingwire.rows_read(packed, listing.token) == listing


def test_without_rows_it_is_the_one_that_is_known_and_without_a_token_there_is_none() -> None:
    same = listingwire.told_read(listingwire.told(2.0, b"token"))
    assert same.listing == Listing((), token=b"token", same=True)
    assert listingwire.told_read(listingwire.told()).listing is None


def test_a_listing_that_does_not_fit_into_a_message_is_not_told() -> None:
    many = Listing(tuple(Entry(b"%05d" % i) for i in range(10_001)), token=b"t")
    assert listingwire.packed(many) is None
    long = Listing(tuple(Entry(b"%03d" % i + b"x" * 250, target=b"y" * 4000) for i in range(300)), token=b"t")
    assert listingwire.packed(long) is None


@given(st.binary(max_size=80))
def test_junk_is_no_listing(junk: bytes) -> None:
    with pytest.raises(WireError):
        listingwire.told_read(junk)
    with pytest.raises(WireError):
        listingwire.rows_read(junk, b"token")


@pytest.mark.parametrize(
    "rows",
    [
        [[["b"] + [None] * 12], [], None, [True, "x", 1]],
        [[[b"b", 0, *[None] * 9, 1, False], [b"a", 0, *[None] * 9, 1, False]], [], None, [True, "x", 1]],
        [[[b"../a", 0, *[None] * 9, 1, False]], [], None, [True, "x", 1]],
        [[[b"a", 9, *[None] * 9, 1, False]], [], None, [True, "x", 1]],
        [[], [], None, [True, "x\n", 1]],
        [[], []],
    ],
    ids=["a name that is text", "not ascending", "a path", "no such kind", "two lines", "short"],
)
def test_what_is_no_listing_is_refused(rows: object) -> None:
    message = {"v": [1, 1], "walking": True, "newest": None, "age": 1, "token": b"t", "rows": rows}
    with pytest.raises(WireError):
        listingwire.told_read(pack(message))


def test_the_oldest_go_where_there_is_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Listings()
    one = Listing(tuple(Entry(b"%03d" % i) for i in range(100)), token=b"t")
    each = listings_module.RECORD + len(listingwire.packed(one) or b"")
    monkeypatch.setattr(listings_module, "MOST", 3 * each)
    for i in range(5):
        kept.keep("m", b"%d" % i, ORIGIN, one, 100.0 + i)
    found = [i for i in range(5) if kept.fresh("m", b"%d" % i, ORIGIN, 60.0, 110.0)]
    assert found == [2, 3, 4]


def test_what_was_not_read_takes_room_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Listings()
    monkeypatch.setattr(listings_module, "MOST", 3 * listings_module.RECORD)
    for i in range(5):
        kept.keep("m", b"%d" % i, ORIGIN, Listing((), token=b"t", same=True), 100.0 + i)
    assert [i for i in range(5) if kept.fresh("m", b"%d" % i, ORIGIN, 60.0, 110.0)] == [2, 3, 4]


def test_what_is_too_old_for_everybody_is_not_kept() -> None:
    kept = Listings()
    for at in (0.0, 1.0, 900.5):
        kept.keep("m", b"%d" % at, ORIGIN, Listing((Entry(b"a"),), token=b"t"), at)
    assert [kept.fresh("m", b"%d" % at, ORIGIN, 1e9, 901.0) is not None for at in (0, 1, 900)] == [
        False,
        True,
        True,
    ]


def test_a_page_that_did_not_change_is_as_fresh_as_the_last_question() -> None:
    kept = Listings()
    kept.keep("m", b"d", ORIGIN, Listing((Entry(b"a"),), token=b"t"), 100.0)
    assert kept.fresh("m", b"d", ORIGIN, 60.0, 170.0) is None
    kept.keep("m", b"d", ORIGIN, Listing((), token=b"t", same=True), 165.0)
    again = kept.fresh("m", b"d", ORIGIN, 60.0, 170.0)
    assert again is not None
    assert again.packed
    assert kept.fresh("m", b"d", "http://another.example/", 60.0, 170.0) is None


async def test_a_sibling_is_told_what_the_origin_said_and_how_long_ago(tmp_path: Path) -> None:
    listing = Listing((Entry(b"a", size=3), Entry(b"b", Kind.DIRECTORY)), token=b"token", format="nginx")
    async with running(make_cluster(str(tmp_path)), "kent", "oslo") as (kent, oslo):
        sibling = await oslo.meets("kent")
        kent.listings.keep("debian", b"pool/m", ORIGIN, listing, time.monotonic() - 20)
        told = await sibling.listing("debian", b"pool/m", ORIGIN, 60, b"", 2)
        assert told.listing == listing
        assert 20 <= told.age < 23
        same = await sibling.listing("debian", b"pool/m", ORIGIN, 60, b"token", 2)
        assert same.listing is not None
        assert same.listing.same
        assert (await sibling.listing("debian", b"pool/m", ORIGIN, 15, b"", 2)).listing is None
        assert (await sibling.listing("debian", b"pool/x", ORIGIN, 60, b"", 2)).listing is None


def test_a_listing_without_room_for_its_rows_is_kept_for_those_who_know_its_token() -> None:
    kept = Listings()
    many = Listing(tuple(Entry(b"%05d" % i) for i in range(10_001)), token=b"t")
    kept.keep("m", b"d", ORIGIN, many, 100.0)
    found = kept.fresh("m", b"d", ORIGIN, 60.0, 110.0)
    assert found is not None
    assert (found.token, found.packed) == (b"t", b"")


def test_what_a_sibling_told_is_known_and_not_told_on() -> None:
    kept = Listings()
    kept.learnt("m", b"d", Listing((Entry(b"a"),), token=b"t"), 90.0)
    assert kept.rows("m", b"d", b"t")
    assert kept.rows("m", b"d", b"u") is None
    assert kept.fresh("m", b"d", ORIGIN, 1e9, 100.0) is None
    assert not list(kept.newest(Walk("m", 1, ORIGIN, age=10**15), 100.0))
    kept.keep("m", b"d", ORIGIN, Listing((), token=b"t", same=True), 100.0)
    fresh = kept.fresh("m", b"d", ORIGIN, 60.0, 110.0)
    assert fresh is not None
    assert fresh.packed


def test_a_directory_was_compared_with_the_newest_pass_over_it() -> None:
    kept = Listings()
    assert kept.last_compared("m", b"a") is None
    kept.compared("m", b"", 100.0)
    kept.compared("m", b"a", 200.0)
    kept.compared("m", b"a/b", 150.0)
    assert [kept.last_compared("m", path) for path in (b"", b"a", b"a/b/c", b"ab", b"b")] == [
        100.0,
        200.0,
        200.0,
        100.0,
        100.0,
    ]
    kept.compared("m", b"", 300.0)
    assert kept.last_compared("m", b"a") == 300.0
    for number in range(2 * listings_module.MOST_SCOPES):
        kept.compared("m", b"%d" % number, 400.0)
    assert kept.last_compared("m", b"a") == 400.0


async def test_a_mirror_that_is_not_shared_is_not_told_of(tmp_path: Path) -> None:
    cluster = make_cluster(str(tmp_path), ("kent", "oslo"))
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        sibling = await oslo.meets("kent")
        kent.listings.keep("ctan", b"", ORIGIN, Listing((Entry(b"a"),), token=b"t"), time.monotonic())
        with pytest.raises(PeerError):
            await sibling.listing("ctan", b"", ORIGIN, 60, b"", 2)
