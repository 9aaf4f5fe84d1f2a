"""Dividing a budget: nothing is made, nobody has more than he wants, and who leaves takes nothing along."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.plan.shares import divided, homes, loans, sharing

NAMES = ["a", "b", "c", "d", "e"]
budgets = st.integers(0, 20)
ranks = st.permutations(NAMES).flatmap(lambda names: st.integers(1, 5).map(lambda count: names[:count]))


@pytest.mark.parametrize(
    ("total", "wants", "turn", "expected"),
    [
        (8, {"a": 0, "b": 9, "c": 0}, 0, {"a": 0, "b": 8, "c": 0}),
        (8, {"a": 9, "b": 9, "c": 9}, 0, {"a": 3, "b": 3, "c": 2}),
        (8, {"a": 1, "b": 9, "c": 9}, 0, {"a": 1, "b": 4, "c": 3}),
        (8, {"a": 1, "b": 2, "c": 3}, 0, {"a": 1, "b": 2, "c": 3}),  # two are nobody's
        (2, {"a": 9, "b": 9, "c": 9}, 0, {"a": 1, "b": 1, "c": 0}),
        (2, {"a": 9, "b": 9, "c": 9}, 1, {"a": 1, "b": 0, "c": 1}),
        (2, {"a": 9, "b": 0, "c": 9}, 1, {"a": 1, "b": 0, "c": 1}),
        (0, {"a": 9}, 0, {"a": 0}),
        (5, {}, 0, {}),
    ],
)
def test_the_division(total: int, wants: dict[str, int], turn: int, expected: dict[str, int]) -> None:
    assert divided(total, wants, turn) == expected


@given(budgets, st.dictionaries(st.sampled_from(NAMES), st.integers(0, 12)), st.integers(0, 50))
def test_a_division_is_fair_and_wastes_nothing(total: int, wants: dict[str, int], turn: int) -> None:
    found = divided(total, wants, turn)
    assert sum(found.values()) == min(total, sum(wants.values()))
    assert all(0 <= found[site] <= wants[site] for site in wants)
    most = max(found.values(), default=0)
    assert all(found[site] >= most - 1 for site in wants if found[site] < wants[site])


@given(st.integers(1, 4), st.integers(2, 5))
def test_where_there_is_less_than_one_for_each_everybody_is_served_in_turn(total: int, count: int) -> None:
    wants = dict.fromkeys(NAMES[:count], 9)
    turns = [divided(total, wants, turn) for turn in range(count)]
    assert all(any(turn[site] for turn in turns) for site in wants)


@given(budgets, ranks)
def test_home_shares_are_the_whole_and_no_smaller_when_somebody_leaves(
    budget: int, ranked: list[str]
) -> None:
    shares = homes(budget, ranked)
    assert sum(shares.values()) == budget
    assert max(shares.values()) - min(shares.values()) <= 1
    for leaving in ranked:
        fewer = homes(budget, [site for site in ranked if site != leaving])
        assert all(fewer[site] >= shares[site] for site in fewer)


@given(budgets, ranks, st.data())
def test_two_parts_of_a_cut_cluster_exceed_the_budget_by_the_shares_of_the_smaller_at_most(
    budget: int, ranked: list[str], data: st.DataObject
) -> None:
    one = set(data.draw(st.lists(st.sampled_from(ranked), unique=True)))
    other = set(ranked) - one
    sums = [sum(sharing(budget, ranked, part, part, ()).values()) for part in (one, other)]
    all_homes = homes(budget, ranked)
    smaller = min((one, other), key=len)
    floor = sum(1 for part in (one, other) if part and not any(all_homes[site] for site in part))
    assert sum(sums) <= budget + (sum(all_homes[s] for s in smaller) if len(one) != len(other) else 0) + floor
    assert all(found for found, part in zip(sums, (one, other), strict=True) if part)


@pytest.mark.parametrize(
    ("present", "fresh", "gone", "expected"),
    [
        ("abcd", "abcd", "", {"a": 2, "b": 2, "c": 2, "d": 2}),
        ("abc", "abc", "", {"a": 3, "b": 3, "c": 2}),
        ("ab", "ab", "", {"a": 2, "b": 2}),  # the others may be dividing everything
        ("ab", "ab", "c", {"a": 4, "b": 4}),
        ("a", "a", "", {"a": 2}),
        ("a", "a", "bcd", {"a": 8}),
        ("abc", "a", "", {"a": 2, "b": 2, "c": 2}),  # nobody else was heard lately: wait
    ],
)
def test_who_is_heard_and_what_there_is_to_divide(
    present: str, fresh: str, gone: str, expected: dict[str, int]
) -> None:
    assert sharing(8, list("abcd"), set(present), set(fresh), set(gone)) == expected


@given(budgets, ranks, st.lists(st.integers(0, 12), min_size=5, max_size=5), st.integers(0, 9))
def test_loans_bring_everybody_to_what_he_should_have(
    budget: int, ranked: list[str], wants: list[int], turn: int
) -> None:
    have = homes(budget, ranked)
    should = divided(budget, dict(zip(ranked, wants, strict=False)), turn)
    found = loans(have, should)
    for site in ranked:
        lent = sum(found.get(site, {}).values())
        borrowed = sum(row.get(site, 0) for row in found.values())
        assert lent <= have[site]
        assert not (lent and borrowed)
        assert have[site] - lent + borrowed >= should[site]
