"""What a site's records agree with, told to siblings: as it is, and only behind a pass of its own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import PeerError
from cluster.peer import agreedwire
from cluster.peer.client import Agreement, Through
from cluster.peer.codec import WireError, pack
from cluster.peer.passed import Passed
from cluster.store.agreement import NOTHING, PAGE, Agreed
from tests.peer.cluster import make_cluster, running

ORIGIN = "http://origin.example/pub/"
ONE, TWO = b"\x01" * 32, b"\x02" * 32

names = st.binary(min_size=1, max_size=20).filter(lambda n: n not in (b".", b"..") and not set(n) & {0, 47})
sums = st.binary(min_size=32, max_size=32)
below = st.dictionaries(names, sums, max_size=9).map(lambda found: tuple(sorted(found.items())))
throughs = st.none() | st.builds(Through, st.integers(0, 10**6), st.binary(max_size=64))


@given(throughs, sums, st.none() | sums, below)
def test_what_is_told_arrives(
    through: Through | None, total: bytes, own: bytes | None, found: tuple[tuple[bytes, bytes], ...]
) -> None:
    for more in {False, bool(found)}:
        said = Agreed(total, own, found, more)
        assert agreedwire.told_read(agreedwire.told(through, said)) == Agreement(through, said)


def test_the_largest_page_fits_into_a_message() -> None:
    many = tuple((b"%05d" % i + b"x" * 250, ONE) for i in range(PAGE))
    assert agreedwire.told_read(agreedwire.told(None, Agreed(ONE, TWO, many, True))).found.below == many


@given(st.binary(max_size=80))
def test_junk_is_no_agreement(junk: bytes) -> None:
    with pytest.raises(WireError):
        agreedwire.told_read(junk)


@pytest.mark.parametrize(
    "change",
    [
        {"below": [[b"b", ONE], [b"a", ONE]]},
        {"below": [[b"a", ONE], [b"a", ONE]]},
        {"below": [[b"a/b", ONE]]},
        {"below": [[b"m", ONE]]},
        {"below": [[b"n", None]]},
        {"below": [[b"n", b"short"]]},
        {"more": True},
        {"sum": None},
        {"sum": b"short"},
        {"own": b"short"},
        {"age": -1},
        {"rules": b"x" * 65},
        {"rules": "text"},
    ],
    ids=repr,
)
def test_what_is_no_agreement_is_refused(change: dict[str, object]) -> None:
    message = {"v": [1, 1], "age": 1, "rules": b"", "sum": ONE, "own": None, "below": [], "more": False}
    agreedwire.told_read(pack(message), b"m")
    with pytest.raises(WireError):
        agreedwire.told_read(pack(message | change), b"m")


def test_a_pass_by_another_origin_or_other_rules_makes_the_former_void() -> None:
    passed = Passed()
    passed.ended("m", ORIGIN, 100.0, b"r")
    passed.begins("m", ORIGIN, b"r")
    assert passed.told("m", ORIGIN, 130.0) == Through(30.0, b"r")
    assert passed.told("m", "http://another.example/", 130.0) is None
    assert passed.told("n", ORIGIN, 130.0) is None
    passed.begins("n", ORIGIN, b"s")
    passed.begins("m", ORIGIN, b"s")
    assert passed.told("m", ORIGIN, 130.0) is None


async def test_a_sibling_is_told_with_what_we_agree_and_how_long_ago_we_compared(tmp_path: Path) -> None:
    async with running(make_cluster(str(tmp_path)), "kent", "oslo") as (kent, oslo):
        sibling = await oslo.meets("kent")
        kent.readers["debian"].agreements = {
            (b"pool", b""): Agreed(ONE, TWO, ((b"a", ONE),), True),
            (b"pool", b"a"): Agreed(ONE, TWO, ((b"b", TWO),)),
        }
        assert (await sibling.agreement("debian", b"pool", ORIGIN, b"", b"", 2)).through is None
        kent.listings.passed.ended("debian", ORIGIN, time.monotonic() - 20, b"rules")
        told = await sibling.agreement("debian", b"pool", ORIGIN, TWO, b"", 2)
        assert told.through is not None
        assert (told.through.rules, 20 <= told.through.age < 80) == (b"rules", True)
        assert told.found == Agreed(ONE, TWO, ((b"a", ONE),), True)
        told = await sibling.agreement("debian", b"pool", ORIGIN, b"", b"a", 2)
        assert told.found.below == ((b"b", TWO),)
        assert (await sibling.agreement("debian", b"none", ORIGIN, b"", b"", 2)).found.sum == NOTHING
        assert (await sibling.agreement("debian", b"", "ftp://a/", b"", b"", 2)).through is None
        with pytest.raises(PeerError):
            await sibling.agreement("ctan", b"", ORIGIN, b"", b"", 2)
