"""Who owns what in a scenario, and in which order a site walks."""

from __future__ import annotations

from cluster.model import Order
from cluster.plan.order import owner
from cluster.plan.steal import RANGE
from cluster.simulate.division import Division
from cluster.simulate.scenario import Member, Scenario, Share

NAMES = ("kent", "lima", "oslo", "rome", "turin", "york")
FILES = tuple((b"d%02d/f%d" % (d, f), 10) for d in range(20) for f in range(3))
PATHS = [path for path, _ in FILES]


def division(*orders: Order, files=FILES, **more) -> Division:
    return Division(Scenario(tuple(Member(name) for name in NAMES), files, orders=orders, **more))


def walked(found: Division, index: int) -> list[bytes]:
    return [piece.path for piece, _ in found.walk(index)]


def test_forward_and_backward_meet():
    found = division(Order.FORWARD, Order.BACKWARD)
    assert walked(found, 0) == PATHS
    assert walked(found, 1) == PATHS[::-1]
    assert {site for _, site in found.walk(1)} == {"lima"}


def test_apart_each_pair_begins_back_to_back_at_its_own_place():
    found = division(Order.FORWARD, Order.BACKWARD, apart=True)
    starts = [walked(found, i)[0] for i in range(6)]
    assert starts == [PATHS[0], PATHS[-1], PATHS[20], PATHS[19], PATHS[40], PATHS[39]]
    assert sorted(walked(found, 3)) == PATHS


def test_rendezvous_owns_by_directory_or_by_file():
    by_directory, by_file = (
        division(Order.RENDEZVOUS, share=share) for share in (Share.DIRECTORY, Share.FILE)
    )
    assert [s for _, s in by_directory.walk(0)] == [owner(p.split(b"/")[0], NAMES) for p in PATHS]
    assert [s for _, s in by_file.walk(0)] == [owner(p, NAMES) for p in PATHS]
    for found in (by_directory, by_file):
        assert all(found.owner(piece, NAMES) == site for piece, site in found.walk(2))


def test_a_large_file_has_many_owners_where_ranges_are_fetched():
    large = ((b"d/iso", 50 * RANGE),)
    assert {s for _, s in division(Order.RENDEZVOUS, files=large).walk(0)} == set(NAMES)
    assert len(division(Order.RENDEZVOUS, files=large, ranges=False).walk(0)) == 1
