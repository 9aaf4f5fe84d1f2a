"""Case 38: the exact edges of every rule that holds deletions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.model import Deletion
from cluster.plan.guard import Candidate, Emptied, Stock, held, waits

DAY = 86_400
AT_ONCE = Deletion(sightings=1, grace=0, emptied_after=0)


def due(files: int, size: int = 0, path: bytes = b"a/b") -> list[Candidate]:
    return [Candidate(path, files, size, 0, 1)]


@pytest.mark.parametrize(
    ("files", "of", "is_held"),
    [
        (100, 100, False),  # everything, but not more than the floor
        (101, 1010, False),  # exactly 10 %
        (101, 1009, True),
        (99, 100, False),  # 99 %, below the floor
        (990, 10_000, False),  # 9.9 %
        (1000, 10_000, False),  # exactly 10 %
        (1001, 10_000, True),
        (1010, 10_000, True),  # 10.1 %
        (5000, 5000, True),  # case 27
        (0, 0, False),
    ],
)
def test_many_files_are_held_beyond_both_limits(files, of, is_held):
    assert bool(held(due(files), Stock(of, 0), AT_ONCE)) is is_held


@pytest.mark.parametrize(
    ("files", "size", "of", "is_held"),
    [
        (100, 900, 1000, False),  # 90 % of the bytes in no more files than the floor
        (101, 100, 1000, False),  # exactly 10 %
        (101, 101, 1000, True),
    ],
)
def test_many_bytes_are_held_only_in_more_files_than_the_floor(files, size, of, is_held):
    assert bool(held(due(files, size), Stock(1_000_000, of), AT_ONCE)) is is_held


@pytest.mark.parametrize(
    ("lately", "files", "remain", "is_held"),
    [
        (200, 100, 800, False),  # 300 of 1000
        (200, 101, 800, True),
        (50, 50, 50, False),  # all of it, but within the floor
        (51, 50, 50, True),
        (900, 0, 100, False),  # nothing goes now
    ],
)
def test_a_slow_burn_is_held_beyond_its_share_of_what_there_was(lately, files, remain, is_held):
    policy = Deletion(hold_share=1)
    assert bool(held(due(files), Stock(remain, 0, lately), policy)) is is_held


def test_shares_are_decimal_fractions_and_no_floats():
    assert 0.29 * 100 < 29
    assert not held(due(29), Stock(100, 0), Deletion(hold_files=0, hold_share=0.29))
    assert held(due(30), Stock(100, 0), Deletion(hold_files=0, hold_share=0.29))


def test_what_is_held_says_how_much_would_go():
    assert held(due(5000), Stock(5000, 0), AT_ONCE).startswith("5000 of 5000 files (100 %)")


@pytest.mark.parametrize(
    ("sightings", "age", "is_waiting"),
    [(1, 2 * DAY, True), (2, DAY - 1, True), (2, DAY, False), (3, DAY, False)],
)
def test_a_name_waits_for_its_sightings_and_its_grace(sightings, age, is_waiting):
    assert bool(waits(Candidate(b"a", 1, 1, 1000, sightings), Deletion(), 1000 + age)) is is_waiting


@pytest.mark.parametrize(
    ("names", "apart", "is_waiting"),
    [(9, 0, False), (10, 0, True), (10, 3599, True), (10, 3600, False)],
)
def test_an_emptied_directory_waits_for_two_listings_an_hour_apart(names, apart, is_waiting):
    policy = Deletion(sightings=1, grace=0)
    one = Candidate(b"a/b", 1, 1, 0, 1, Emptied(0, apart, names, 0))
    assert bool(waits(one, policy, 10_000)) is is_waiting


def test_with_everything_at_zero_names_go_at_once():
    assert not waits(Candidate(b"a/b", 1, 1, 50, 1, Emptied(50, 50, 5000, 0)), AT_ONCE, 50)


@pytest.mark.parametrize(
    ("names", "others", "is_held"),
    [(1, 0, True), (10, 0, True), (9, 1, False), (10, 1, True)],
)
def test_an_emptied_root_is_for_the_operator_alone(names, others, is_held):
    root = [Candidate(b"a", 1, 1, 0, 9, Emptied(0, DAY, names, others))]
    assert bool(held(root, Stock(1000, 1000), AT_ONCE)) is is_held


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 100), st.integers(0, 10**6))
def test_more_never_makes_it_less_held(files, more, floor, of):
    policy = Deletion(hold_files=floor)
    if held(due(files), Stock(of, 0), policy):
        assert held(due(files + more), Stock(of, 0), policy)
