"""Links are shared as fluids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.simulate.links import Network, Way, share

LINKS = 5
ways = st.lists(
    st.tuples(
        st.sets(st.integers(0, LINKS - 1), min_size=1, max_size=3).map(lambda s: tuple(sorted(s))),
        st.sampled_from([1.0, 3.0, 20.0, 1000.0]),
        st.integers(1, 4),
    ),
    max_size=12,
)


@given(st.lists(st.integers(1, 100), min_size=LINKS, max_size=LINKS), ways)
def test_every_flow_has_its_connection_full_or_a_full_link_on_which_nobody_has_more(capacities, told):
    found = [Way(links, cap, flows=dict.fromkeys(range(count))) for links, cap, count in told]
    share(capacities, found)
    used = [sum(w.rate * len(w.flows) for w in found if link in w.links) for link in range(LINKS)]
    for link, capacity in enumerate(capacities):
        assert used[link] <= capacity * (1 + 1e-9)
    for way in found:
        full = [link for link in way.links if used[link] >= capacities[link] * (1 - 1e-9)]
        greatest = [
            all(other.rate <= way.rate * (1 + 1e-9) for other in found if link in other.links)
            for link in full
        ]
        assert way.rate == pytest.approx(way.cap) or any(greatest)


def test_a_share_is_taken_up_when_another_flow_ends():
    network = Network([10.0])
    short, long = network.begin((0,), 100.0, 10.0), network.begin((0,), 100.0, 30.0)
    assert network.next_end() == 2.0
    network.advance(2.0)
    assert network.ended(0.1) == [short]
    network.end(short)
    assert long.left == 20.0
    assert network.next_end() == 2.0


def test_what_is_cut_off_makes_room():
    network = Network([10.0, 4.0])
    first, second = network.begin((0, 1), 100.0, 100.0), network.begin((0,), 100.0, 60.0)
    network.next_end()
    assert (first.way.rate, second.way.rate) == (4.0, 6.0)
    network.end(first)
    assert network.next_end() == 6.0


def test_nothing_flows_for_ever_where_nothing_flows():
    assert Network([1.0]).next_end() == float("inf")
