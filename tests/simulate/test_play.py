"""Runs: what is conserved, who is waited for, and what stealing, claims and ranges are worth."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import UsageError
from cluster.model import Order
from cluster.plan.order import owner
from cluster.plan.steal import BLOCK
from cluster.simulate.play import play
from cluster.simulate.scenario import Cut, Member, Scenario, Share, Tells
from cluster.simulate.trees import made

GB = 10**9


def members(count: int, **more) -> tuple[Member, ...]:
    return tuple(Member(f"site{i}", **more) for i in range(count))


def tree(count: int = 200, size: int = 8 * GB, seed: int = 1, largest: float = 0.05):
    return made(count, size, largest, 1.2, max(1, count // 10), seed)


def scenario(count: int = 3, **more) -> Scenario:
    return Scenario(more.pop("members", members(count)), more.pop("files", tree()), **more)


def one(scenario: Scenario, name: str, **more) -> Scenario:
    return replace(
        scenario,
        members=tuple(replace(m, **more) if m.name == name else m for m in scenario.members),
    )


scenarios = st.builds(
    Scenario,
    members=st.lists(
        st.builds(
            Member,
            name=st.just(""),
            up=st.sampled_from([10e6, 125e6]),
            down=st.sampled_from([10e6, 125e6]),
            connection=st.sampled_from([2e6, 20e6]),
            slots=st.integers(1, 5),
            limit=st.sampled_from([None, 5e6]),
            starts=st.sampled_from([0.0, 10.0]),
            dies=st.sampled_from([None, None, 0.0, 0.3, 0.9]),
            returns=st.sampled_from([None, 0.5, 100.0]),
        ),
        min_size=1,
        max_size=4,
    ).map(
        lambda found: tuple(
            replace(m, name=f"site{i}", dies=m.dies if i else None) for i, m in enumerate(found)
        )
    ),
    files=st.lists(st.sampled_from([0, 1, 10**5, 10**7, 3 * 10**8]), min_size=1, max_size=20)
    .map(lambda sizes: tuple((b"%d/%02d" % (i % 3, i), size) for i, size in enumerate(sizes)))
    .map(lambda files: tuple(sorted(files))),
    latency=st.sampled_from([0.0, 0.02, 1.0]),
    orders=st.lists(st.sampled_from(Order), min_size=1, max_size=2).map(tuple),
    share=st.sampled_from(Share),
    tells=st.sampled_from(Tells),
    every=st.sampled_from([0.0, 7.0]),
    stealing=st.booleans(),
    ranges=st.booleans(),
    patience=st.sampled_from([8.0, 60.0]),
    sideways_slots=st.integers(1, 6),
    seed=st.integers(1, 3),
    cuts=st.lists(
        st.builds(
            Cut,
            one=st.sampled_from(["site0", "site1"]),
            other=st.sampled_from(["site2", "site3"]),
            begins=st.sampled_from([0.0, 1.0, 20.0]),
            ends=st.sampled_from([21.0, 70.0]),
        ),
        max_size=3,
    ).map(tuple),
).map(
    lambda s: replace(
        s,
        stealing=s.stealing or s.tells is Tells.NOTHING,
        cuts=tuple(c for c in s.cuts if {c.one, c.other} <= {m.name for m in s.members}),
    )
)


@settings(max_examples=150, deadline=None)
@given(scenarios)
def test_every_site_that_lives_gets_every_byte_and_nothing_comes_from_nowhere(scenario):
    result = play(scenario)
    assert result.origin == sum(site.origin for site in result.sites) >= scenario.bytes
    assert result.dup >= 1
    assert result.seconds >= result.bound * (1 - 1e-6)
    for site, member in zip(result.sites, scenario.members, strict=True):
        if site.died is None:
            assert site.finished is not None
            assert member.starts <= site.finished <= result.seconds
            assert site.origin + site.sideways >= scenario.bytes
            calm = not scenario.cuts and all(m.dies is None for m in scenario.members)
            unbroken = not site.gave_way and calm
            assert not unbroken or site.origin + site.sideways == scenario.bytes
        else:
            assert member.dies is not None
    assert play(scenario) == result


def test_alone_every_site_takes_everything():
    assert play(scenario(4, tells=Tells.NOTHING)).dup == 4.0


def test_one_site_takes_as_long_as_its_connections():
    files = tuple((b"d/%d" % i, 10**9) for i in range(8))
    result = play(scenario(files=files, members=members(1), latency=0.0, ranges=False))
    assert result.seconds == pytest.approx(8 * GB / 80e6)
    assert result.times_bound == pytest.approx(1.0)


def test_with_claims_the_origin_sends_everything_about_once():
    assert play(scenario(4)).dup < 1.01


def test_a_sites_own_limit_holds():
    limited = one(scenario(2, tells=Tells.NOTHING), "site0", limit=8e6)
    slow, fast = play(limited).sites
    assert slow.finished == pytest.approx(1000, rel=0.02)
    assert fast.finished < 200


def test_a_site_that_dies_stops_nobody_and_its_work_is_taken_over():
    base = scenario(4)
    calm, shaken = play(base), play(one(base, "site2", dies=0.3))
    assert [site.name for site in shaken.sites if site.finished is None] == ["site2"]
    assert shaken.dup <= 1.03
    assert shaken.seconds < calm.seconds + base.patience + 20


def test_the_dead_are_not_waited_for():
    late = one(one(scenario(2), "site1", dies=0.99), "site1", down=1e6)
    living, dead = play(late).sites
    assert dead.died > living.finished == play(late).seconds


def test_nothing_is_read_from_the_dead():
    crawling = scenario(2, members=members(2, sideways=1e5))
    living, dead = play(one(crawling, "site1", dies=0.4)).sites
    assert living.sideways <= 6 * 1e5 * dead.died
    assert living.finished < 250


@pytest.mark.parametrize("others", [["site0", "site1", "site2"], ["site0", "site1"]])
def test_what_came_of_a_file_before_its_sender_died_is_not_asked_for_again(others):
    """site0 brings one file and dies when it has the other one as well; site1 has read only a part by then.
    It takes the rest from site2, or where there is none, from the origin."""
    names = [b"%d" % i for i in range(100)]
    first = next(n for n in names if owner(n, others) == "site0")
    second = next(n for n in names if owner(n, others) == "site1")
    files = tuple(sorted([(first, 4 * 10**8), (second, 6 * 10**8)]))
    crawling = one(scenario(len(others), files=files, share=Share.FILE, ranges=False), "site1", sideways=1e6)
    result = play(one(crawling, "site0", dies=0.9))
    site1 = result.sites[1]
    assert result.sites[0].died
    assert site1.sideways > BLOCK
    assert GB <= site1.origin + site1.sideways <= GB + BLOCK


def test_a_dead_owners_work_gets_new_owners_without_stealing_as_well():
    result = play(one(scenario(3, stealing=False), "site1", dies=0.1))
    assert all(site.finished for site in result.sites if site.name != "site1")


def test_stealing_helps_a_slow_owner_and_ranges_help_more():
    large = tuple((b"%d/f" % i, 4 * 10**8) for i in range(20, 40))
    slow = one(scenario(2, files=large), "site1", connection=2e6)
    seconds = [
        play(replace(slow, stealing=stealing, ranges=ranges)).seconds
        for stealing, ranges in ((False, False), (True, False), (True, True))
    ]
    assert seconds[0] > 1.2 * seconds[1] > 1.2 * 1.5 * seconds[2]


def test_a_slow_site_is_stolen_from_and_steals_nothing_itself():
    result = play(one(scenario(2), "site1", connection=2e6))
    fast, slow = result.sites
    assert fast.stolen > 0 == slow.stolen
    assert fast.origin > 5 * slow.origin


def test_of_sites_that_walk_in_step_with_claims_one_gives_way():
    result = play(scenario(2, orders=(Order.FORWARD,)))
    assert sum(site.gave_way for site in result.sites) > 0
    assert result.dup < 1.02


@pytest.mark.parametrize("count", [2, 3, 5])
def test_of_sites_that_begin_one_file_at_once_one_goes_on(count):
    result = play(scenario(count, files=((b"d/iso", GB),), ranges=False))
    assert sorted(site.gave_way for site in result.sites) == [0] + [1] * (count - 1)
    assert result.dup < 1.001


def test_one_huge_file_is_shared_by_ranges():
    files = ((b"d/iso", 20 * GB),)
    shared, whole = (play(scenario(4, files=files, ranges=ranges)) for ranges in (True, False))
    assert shared.dup == pytest.approx(1.0, abs=0.01)
    assert shared.times_bound < 1.2
    assert whole.times_bound > 5


def test_a_site_that_died_comes_back_and_goes_on_with_what_it_had():
    result = play(one(scenario(4), "site2", dies=0.3, returns=5.0))
    back = result.sites[2]
    assert all(site.finished for site in result.sites)
    assert back.origin + back.sideways < 1.05 * 8 * GB
    assert result.dup <= 1.03


def test_sites_that_cannot_reach_each_other_for_a_while_lose_nothing_by_it():
    base = scenario(4)
    cut = Cut("site0", "site3", 2.0, 60.0)
    calm, apart = play(base), play(replace(base, cuts=(cut,)))
    assert all(site.finished for site in apart.sites)
    assert apart.dup <= 1.05
    assert apart.seconds < calm.seconds + base.patience + 20


def test_two_sites_that_never_reach_each_other_fetch_everything_twice():
    apart = play(scenario(2, cuts=(Cut("site0", "site1", 0.0, 1e6),)))
    assert apart.dup == 2.0
    assert [site.sideways for site in apart.sites] == [0, 0]


def test_what_one_had_before_it_was_cut_off_is_read_from_it_afterwards():
    early = scenario(2, members=(Member("site0"), Member("site1", starts=200.0)))
    cut = Cut("site0", "site1", 150.0, 201.0)
    late = play(replace(early, cuts=(cut,))).sites[1]
    assert 0 < late.origin < 2 * GB < late.sideways


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(3))
def test_sixteen_sites_through_deaths_and_cuts_ask_the_origin_for_each_byte_about_once(seed):
    """A quarter of them die, some of these for good; every other minute two cannot reach each other for a
    while."""
    chance = random.Random(seed)
    names = [f"site{i}" for i in range(16)]
    fates = {name: chance.choice([None, 60.0]) for name in chance.sample(names, 4)}
    played = scenario(
        members=tuple(
            Member(n, dies=chance.uniform(0.05, 0.9) if n in fates else None, returns=fates.get(n))
            for n in names
        ),
        files=tree(count=400, size=100 * GB, seed=seed, largest=0.01),
        cuts=tuple(
            Cut(*chance.sample(names, 2), begins, begins + chance.uniform(5.0, 60.0))
            for begins in [120.0 * i for i in range(12)]
        ),
    )
    result = play(played)
    for site, member in zip(result.sites, played.members, strict=True):
        gone = member.dies is not None and member.returns is None
        assert gone or site.finished, site
    assert result.dup <= 1.05, result.dup


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"members": ()}, "at least one site"),
        ({"members": members(1) * 2}, "a name of its own"),
        ({"files": ()}, "no files"),
        ({"members": members(2, dies=0.5)}, "every site dies"),
        ({"every": 60.0}, "void between two questions"),
        ({"tells": Tells.NOTHING, "stealing": False}, "never learn"),
    ],
)
def test_what_cannot_be_played_is_one_line(wrong, words):
    with pytest.raises(UsageError, match=words) as refused:
        play(replace(scenario(), **wrong))
    assert "\n" not in str(refused.value)


# -- trees


@given(
    st.integers(1, 300), st.integers(300, 10**12), st.floats(0.01, 1), st.floats(0.3, 5), st.integers(1, 9)
)
def test_a_made_tree_has_its_bytes_and_no_file_is_too_large(count, size, largest, tail, seed):
    largest = max(largest, 1 / count)
    files = made(count, size, largest, tail, max(1, count // 10), seed)
    assert len({path for path, _ in files}) == count
    assert list(files) == sorted(files)
    assert sum(s for _, s in files) == pytest.approx(size, abs=count)
    assert max(s for _, s in files) <= largest * size + 1
    assert files == made(count, size, largest, tail, max(1, count // 10), seed)
