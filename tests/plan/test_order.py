"""Who fetches what first."""

from collections import Counter

import pytest

from cluster.model import Order
from cluster.plan.order import arranged, owner, ranking, yields

PATHS = [f"pool/{i:03}".encode() for i in range(3000)]
SITES = ["kent", "lancaster", "oslo"]


def test_every_site_computes_the_same_owner_whatever_order_it_names_the_sites_in():
    for path in PATHS[:50]:
        assert owner(path, SITES) == owner(path, reversed(SITES)) == ranking(path, SITES)[0]


def test_ownership_is_spread_evenly():
    shares = Counter(owner(path, SITES) for path in PATHS)
    assert all(900 < shares[site] < 1100 for site in SITES)


def test_a_site_that_leaves_moves_only_its_own_paths():
    for path in PATHS[:500]:
        first = ranking(path, SITES)
        left = [s for s in SITES if s != "oslo"]
        if first[0] != "oslo":
            assert owner(path, left) == first[0]
        else:
            assert owner(path, left) == first[1]


@pytest.mark.parametrize("path", PATHS[:20])
def test_of_two_equal_claims_exactly_one_gives_way(path):
    assert yields(path, "kent", "oslo") != yields(path, "oslo", "kent")


def test_two_sites_walk_towards_each_other():
    assert arranged(PATHS, Order.BACKWARD, "") == list(reversed(arranged(PATHS, Order.FORWARD, "")))


def test_shuffled_is_the_same_for_one_seed_and_another_for_the_next():
    first = arranged(PATHS, Order.SHUFFLED, "kent:1")
    assert first == arranged(PATHS, Order.SHUFFLED, "kent:1")
    assert first != arranged(PATHS, Order.SHUFFLED, "kent:2")
    assert sorted(first) == sorted(PATHS)
