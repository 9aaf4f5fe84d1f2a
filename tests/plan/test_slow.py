"""Whom a site does without: those that are much slower and have got next to nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.plan.slow import SLOWER, SPARED, Headway, done_without

MB = 10**6
FAST = Headway(2 * MB, 20 * MB)
SLOW = Headway(2 * MB // 10, 2 * MB)

headways = st.builds(Headway, st.integers(0, 10**9), st.integers(0, 10**12), st.integers(0, 10**12))


@pytest.mark.parametrize(
    ("own", "others", "without"),
    [
        (FAST, {"a": FAST, "b": FAST, "slow": SLOW}, {"slow"}),
        (FAST, {"a": FAST, "b": FAST}, set()),
        (SLOW, {"a": FAST, "b": FAST}, set()),  # nobody is too slow for the slowest
        (None, {"slow": SLOW}, set()),  # nothing is known of our own pace
        (FAST, {"slow": SLOW}, set()),  # of two it has a tenth: that would be sent twice
        (FAST, {"a": FAST, "b": FAST, "slow": Headway(SLOW.pace, SLOW.fetched, 20 * MB)}, set()),
        (FAST, {"a": FAST, "b": FAST, "half": Headway(MB, 0)}, set()),
        (FAST, {"a": FAST, "b": FAST, "c": SLOW, "d": SLOW}, {"c"}),  # both together have too much
        (FAST, {"dead": Headway(0, 0)}, {"dead"}),
    ],
)
def test_who_is_done_without(own: Headway | None, others: dict[str, Headway], without: set[str]) -> None:
    assert done_without(own, others) == without


@given(headways, st.dictionaries(st.sampled_from("abcdefgh"), headways))
def test_what_the_origin_sends_twice_for_it_is_bounded(own: Headway, others: dict[str, Headway]) -> None:
    without = done_without(own, others)
    everything = own.fetched + sum(one.fetched for one in others.values())
    assert sum(others[site].fetched for site in without) <= SPARED * everything
    assert all(others[site].pace * SLOWER <= own.pace for site in without)
