"""Budgets that sites share: never more than there is, nobody starves, and what falls silent comes back."""

from __future__ import annotations

import math

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.peer import leases, linewire
from cluster.peer.codec import WireError
from cluster.peer.leases import ABSENT, Leases, Terms
from cluster.peer.linewire import Share, Shares
from cluster.plan.order import ranking
from cluster.plan.shares import homes
from tests.peer.sharing import POOL, World

NAMES = ["kent", "lancaster", "oslo", "york"]
BUSY = 100  # requests that a site would like to have open


def started(budget: int = 8, names: list[str] = NAMES[1:], **more) -> World:
    world = World(budget, names, **more)
    for name in names:
        world.start(name)
    world.advance(5)
    return world


# -- stories


def test_one_site_that_works_has_everything_and_shares_it_when_others_begin() -> None:
    world = started()
    world.demand("oslo", BUSY)
    world.advance(10)
    assert world.counts() == {"lancaster": 0, "oslo": 8, "york": 0}
    world.demand("york", BUSY)
    world.advance(15)
    assert world.counts() == {"lancaster": 0, "oslo": 4, "york": 4}
    world.demand("lancaster", 1)
    world.advance(15)
    assert (world.counts()["lancaster"], world.running(), world.most) == (1, 8, 8)


def test_what_a_killed_site_used_comes_back_to_the_others() -> None:
    world = started()
    for name in world.names:
        world.demand(name, BUSY)
    world.advance(15)
    assert sorted(world.counts().values()) == [2, 3, 3]
    world.kill("york")
    world.advance(ABSENT + 10)
    assert world.counts() == {"lancaster": 4, "oslo": 4}


def test_a_site_that_comes_back_waits_until_its_share_is_free() -> None:
    world = started(takes=40.0)
    world.kill("york")
    for name in ("lancaster", "oslo"):
        world.demand(name, BUSY)
    world.advance(ABSENT + 60)
    assert world.running() == 8
    world.start("york")
    world.demand("york", BUSY)
    world.advance(60)
    assert (sorted(world.counts().values()), world.most) == ([2, 3, 3], 8)


def test_a_site_that_hears_nobody_uses_its_fair_share() -> None:
    world = World(8, NAMES)
    world.start("oslo")
    world.demand("oslo", BUSY)
    world.advance(60)
    assert world.counts() == {"oslo": 2}


def test_of_two_the_silent_one_keeps_its_half_for_ever_until_it_is_taken_out_of_the_configuration() -> None:
    world = started(names=["kent", "oslo"])
    for name in world.names:
        world.demand(name, BUSY)
    world.advance(15)
    world.part(["kent"], ["oslo"])
    world.advance(2000)
    assert (world.counts(), world.most) == ({"kent": 4, "oslo": 4}, 8)
    world.kill("oslo")
    world.names.remove("oslo")
    kent = world.up["kent"]
    kent.leases.configure({POOL: Terms(8, ("kent",))}, world.clock(kent))
    world.advance(5)
    assert world.counts() == {"kent": 8}


def test_a_site_whose_siblings_are_known_to_be_down_uses_everything() -> None:
    world = World(8, NAMES)
    world.refusing = set(NAMES) - {"oslo"}
    world.start("oslo")
    world.demand("oslo", BUSY)
    world.advance(10)
    assert world.counts() == {"oslo": 8}


def test_the_larger_part_of_a_cut_cluster_divides_everything_and_the_smaller_keeps_its_shares() -> None:
    world = started(8, NAMES)
    for name in NAMES:
        world.demand(name, BUSY)
    world.advance(15)
    world.part(["kent"], NAMES[1:])
    world.advance(ABSENT + 15)
    assert (world.counts()["kent"], world.running(*NAMES[1:])) == (2, 8)
    world.part()
    world.advance(15)
    assert (world.counts(), world.most) == (dict.fromkeys(NAMES, 2), 10)


def test_two_halves_of_a_cut_cluster_stay_within_the_budget() -> None:
    world = started(8, NAMES, takes=1.0)
    for name in NAMES[:3]:
        world.demand(name, BUSY)
    world.advance(15)
    world.part(NAMES[:2], NAMES[2:])
    world.advance(ABSENT + 15)
    assert (world.counts(), world.most) == ({"kent": 2, "lancaster": 2, "oslo": 4, "york": 0}, 8)


def test_where_there_is_less_than_one_for_each_everybody_has_a_turn() -> None:
    world = started(1, NAMES)
    for name in NAMES:
        world.demand(name, BUSY)
    world.advance(200)
    assert world.most == 1
    served = [station.served for station in world.up.values()]
    assert min(served) > 0.5 * max(served) > 0


def test_turns_go_round_also_where_requests_last_longer_than_a_turn() -> None:
    world = started(1, NAMES, takes=60.0)
    for name in NAMES:
        world.demand(name, BUSY)
    world.advance(1500)
    served = [station.served for station in world.up.values()]
    assert min(served) > 5
    assert max(served) - min(served) <= 2


def test_who_needs_less_than_before_gives_it_up() -> None:
    world = started()
    for name in ("oslo", "york"):
        world.demand(name, BUSY)
    world.advance(15)
    world.demand("oslo", 1)
    world.advance(15)
    assert world.counts() == {"lancaster": 0, "oslo": 1, "york": 7}


def test_sites_that_hear_each_other_only_through_a_third_know_that_they_are_there() -> None:
    world = World(9, NAMES[1:])
    world.part(["lancaster"], ["york"])
    for name in world.names:
        world.start(name)
        world.demand(name, BUSY)
    world.advance(ABSENT + 30)
    assert (world.counts(), world.most) == (dict.fromkeys(world.names, 3), 9)


def test_who_does_not_give_back_is_waited_for_with_patience_and_lent_nothing_more(monkeypatch) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 30.0)
    world = started(4, NAMES[2:], takes=10_000.0)
    world.demand("oslo", BUSY)
    world.advance(10)
    world.demand("york", BUSY)
    world.advance(25)
    assert world.counts() == {"oslo": 4, "york": 0}, "nobody tears down what is open"
    world.advance(20)
    assert world.counts() == {"oslo": 4, "york": 2}, "its own share, and no more"


def test_what_is_smaller_at_one_site_is_so_at_all() -> None:
    world = started(8)
    for name, budget in zip(world.names, (8, 3, 8), strict=True):
        station = world.up[name]
        station.leases.configure({POOL: Terms(budget, tuple(world.names))}, world.clock(station))
        world.demand(name, BUSY)
    world.advance(20)
    assert world.running() == 3


# -- words on their way


def kent_and_oslo(budget: int) -> Leases:
    """Kent, which shares with Oslo, is not new and hears it."""
    known = Leases("kent", 5)
    known.configure({POOL: Terms(budget, ("kent", "oslo"))}, 0.0)
    return known


def oslo(number: int, echo: int, want: int = 0, holding: int = 0, turn: int = 0, used: int = 1) -> Shares:
    return Shares(7, number, 5, echo, (), (Share(*POOL, 4, want, used, 0, holding, turn),))


def said(known: Leases, now: float) -> Shares:
    known.look(now)
    message = known.say("oslo", now, always=True)
    assert message is not None
    return message


def test_what_was_lent_counts_as_used_until_the_borrower_has_heard_that_it_is_not_lent() -> None:
    known = kent_and_oslo(4)
    assert said(known, 10.0).number == 1
    known.hear("oslo", oslo(1, 1, want=4), 10.0)
    assert said(known, 10.1).shares[0].lent == 2
    known.use(POOL, 0, 4, 10.2)
    assert (said(known, 10.2).shares[0].lent, known.allowed(POOL)) == (0, 0)
    known.hear("oslo", oslo(2, 1, want=4), 10.3)  # said before it had heard of the loan
    known.look(10.3)
    assert known.allowed(POOL) == 0
    known.hear("oslo", oslo(3, 3, want=4, holding=1), 10.4)
    known.look(10.4)
    assert known.allowed(POOL) == 1
    known.hear("oslo", oslo(4, 3, want=4), 10.5)
    known.look(10.5)
    assert known.allowed(POOL) == 2


def test_what_is_to_be_lent_is_not_used_again() -> None:
    known = kent_and_oslo(1)
    said(known, 10.0)
    known.use(POOL, 1, 3, 10.0)
    allowed = []
    for turn in (2, 3, 4):
        known.hear("oslo", oslo(turn, 1, want=3, turn=turn, used=0), 10.0)
        known.look(10.0)
        allowed.append((known.allowed(POOL), said(known, 10.0).shares[0].lent))
    assert allowed == [(1, 0), (0, 0), (1, 0)], "its turn, Oslo's while ours is not over, its turn again"


def test_siblings_that_fall_silent_one_after_the_other_leave_nothing_to_be_divided() -> None:
    known = Leases("kent", 5)
    known.configure({POOL: Terms(8, tuple(NAMES))}, 0.0)
    for number, (site, at) in enumerate((("lancaster", 10.0), ("oslo", 13.0), ("york", 13.0)), 1):
        known.hear(site, Shares(number, 1, 0, 0), at)
    fair = []
    for now in (14.0, 10.0 + ABSENT + 1, 13.0 + ABSENT + 1):
        known.look(now)
        fair += [(one.fair, len(one.silent)) for one in known.standings(now)]
    assert fair == [(2, 0), (2, 1), (2, 3)]


# -- nonsense


def test_an_answer_to_what_was_never_said_is_a_fault() -> None:
    known = Leases("kent", 5)
    known.configure({POOL: Terms(4, ("kent", "oslo"))}, 0.0)
    with pytest.raises(WireError, match="answers message 9 of 0"):
        known.hear("oslo", Shares(7, 1, 5, 9), 0.0)


def test_what_is_lent_to_another_process_of_this_site_is_not_used() -> None:
    known = Leases("kent", 5)
    known.configure({POOL: Terms(4, ("kent", "oslo"))}, 0.0)
    known.hear("oslo", Shares(7, 1, 4, 3, (), (Share(*POOL, 4, 0, 0, 2, 0),)), 10.0)
    known.use(POOL, 0, 4, 10.0)
    assert known.allowed(POOL) <= 2


def test_what_a_sibling_claims_to_use_of_ours_is_believed_for_a_time_only(monkeypatch) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 30.0)
    known = Leases("kent", 5)
    known.configure({POOL: Terms(4, ("kent", "oslo"))}, 0.0)
    allowed = []
    for number in range(1, 50):
        known.hear("oslo", Shares(7, number, 0, 0, (), (Share(*POOL, 4, 4, 1, 0, 10**6),)), float(number))
        known.use(POOL, 0, 4, float(number))
        known.look(float(number))
        allowed.append(known.allowed(POOL))
    assert (allowed[0], allowed[-1]) == (0, 2)


@pytest.mark.parametrize(("told", "believed"), [(2**40, 2**40), (2**40 + 1, 0), (2**63 - 1, 0)])
def test_a_turn_that_nobody_can_have_come_to_is_not_believed(told: int, believed: int) -> None:
    known = Leases("kent", 5)
    known.configure({POOL: Terms(1, ("kent", "oslo"))}, 0.0)
    known.use(POOL, 0, 1, 10.0)
    known.hear("oslo", Shares(7, 1, 0, 0, (), (Share(*POOL, 1, 1, 0, 0, 0, told),)), 10.0)
    message = known.say("oslo", 10.0)
    assert message is not None
    assert message.shares[0].turn == believed


# -- siblings that lie

LIES: dict[str, tuple[Share, ...]] = {
    "takes all and gives nothing back": (Share(*POOL, 4, 10**6, 1, 0, 10**6),),
    "lends more than there is": (Share(*POOL, 4, 0, 0, 10**6, 0),),
    "has a budget of nothing": (Share(*POOL, 0, 10**6, 1, 0, 10**6),),
    "has a budget of one": (Share(*POOL, 1, 10**6, 1, 0, 1),),
    "has a huge budget": (Share(*POOL, 10**6, 10**6, 1, 10**6, 10**6),),
    "speaks of origins that are not shared": tuple(
        Share(sort, f"{n}.example", 1, 1, 1, 1, 1) for n in range(300) for sort in ("connections", "other")
    ),
    "says the same twice": (Share(*POOL, 4, 0, 0, 4, 0), Share(*POOL, 4, 4, 1, 0, 4)),
    "says nothing": (),
}


@pytest.mark.parametrize("life", [lambda n: 7, lambda n: n], ids=["one process", "always another"])
@pytest.mark.parametrize("blink", [False, True], ids=["always", "with moments of honesty"])
@pytest.mark.parametrize("lie", LIES)
def test_whatever_a_sibling_says_a_site_has_some_in_the_end_and_never_more_than_there_is(
    lie: str, blink: bool, life
) -> None:
    """Of 4, which two share: in the end it has what it would have beside a silent one, most of the time."""
    known = Leases("kent", 5)
    known.configure({POOL: Terms(4, ("kent", "oslo"))}, 0.0)
    allowed, count = [], 0
    for second in range(4000):
        now = float(second)
        honest = blink and second % 290 == 0
        said = (Share(*POOL, 4, 0, 0, 0, 0),) if honest else LIES[lie]
        mine = known.say("oslo", now)
        count = count if mine is None else mine.number
        known.hear("oslo", Shares(life(second + 1), second + 1, 5, count, (), said), now)
        known.use(POOL, known.allowed(POOL), 100, now)
        known.look(now)
        allowed.append(known.allowed(POOL))
    assert max(allowed) <= 4
    late = allowed[2000:]
    assert sum(late) / len(late) >= (0.9 if "budget" in lie else 1.8), set(late)


def test_turns_that_a_sibling_takes_for_ever_are_taken_back() -> None:
    """There is one for two sites, and whenever the next turn comes the sibling says that it is over."""
    known = Leases("oslo", 5)
    known.configure({POOL: Terms(1, ("kent", "oslo"))}, 0.0)
    allowed = []
    for second in range(2000):
        now, turn = (
            float(second),
            2 * second + 1 - ranking(b" ".join(p.encode() for p in POOL), ("kent", "oslo")).index("kent"),
        )
        mine = known.say("kent", now)
        echo = 0 if mine is None else mine.number
        known.hear("kent", Shares(7, second + 1, 5, echo, (), (Share(*POOL, 1, 9, 1, 0, 1, turn),)), now)
        known.use(POOL, known.allowed(POOL), 9, now)
        known.look(now)
        allowed.append(known.allowed(POOL))
    assert sum(allowed[1000:]) >= 900


def test_sites_that_a_sibling_makes_up_are_not_told_on() -> None:
    known = Leases("kent", 5)
    known.configure({POOL: Terms(4, ("kent", "oslo", "york"))}, 0.0)
    made_up = tuple((f"nobody{n}", 0) for n in range(10_000))
    known.hear("oslo", Shares(7, 1, 0, 0, (*made_up, ("york", 5)), ()), 10.0)
    message = known.say("york", 10.0)
    assert message is not None
    assert {site for site, _ in message.hears} == {"oslo", "york"}


def test_a_sibling_has_no_smaller_bandwidth_than_all_of_it() -> None:
    pool = ("bandwidth", POOL[1])
    known = Leases("kent", 5)
    known.configure({pool: Terms(1000, ("kent", "oslo"))}, 0.0)
    known.hear("oslo", Shares(7, 1, 5, 0, (), (Share(*pool, 1, 1000, 1, 0, 0),)), 10.0)
    known.use(pool, 0, 1000, 10.0)
    assert known.allowed(pool) == 500


def message(share: object = (), *, life: object = 7, number: object = 1, hears: object = ()) -> bytes:
    return msgpack.packb(["shares", life, number, 0, 0, hears, [share] if share else []])


def share(*units: object, turn: object = 0) -> list[object]:
    return [*POOL, *units, turn]


@pytest.mark.parametrize(
    "told",
    [
        message(share(-1, 0, 0, 0, 0)),
        message(share(4, 0, 0, -1, 0)),
        message(share(4, 0, 0, 0, math.nan)),
        message(share(4, 0, 0, math.inf, 0)),
        message(share(4, 0, 0, 2.0, 0)),
        message(share(4, True, 0, 0, 0)),
        message(share(4, 10**6 + 1, 0, 0, 0)),
        message(share(4, 0, 0, 0, 0, turn=-1)),
        message(share(4, 0, 0, 0, 0, turn=math.inf)),
        message(share(4, 0, 0)),
        message(life=0),
        message(number=-1),
        message(life=2**64 - 1),
        message(hears=[["york", -1]]),
        message(hears=[["york", math.nan]]),
        message(hears=[["york", -math.inf]]),
        message(hears=[["york", 5]] * 10**6),
    ],
)
def test_what_is_no_number_of_units_or_no_age_is_no_message(told: bytes) -> None:
    """HAZARDS 125: negative, endless and no numbers; what will be heard; a million sites."""
    with pytest.raises(WireError):
        linewire.read(told)


@pytest.mark.parametrize("age", [0, 2**63 - 1])
def test_a_sibling_that_has_always_just_heard_a_dead_one_keeps_that_ones_share_and_no_more(age: int) -> None:
    """Nobody else hears york; oslo, which says that it does or that it did long ago, takes nothing itself."""
    known = Leases("kent", 5)
    known.configure({POOL: Terms(9, ("kent", "oslo", "york"))}, 0.0)
    for second in range(200):
        now = float(second)
        mine = known.say("oslo", now)
        echo = 0 if mine is None else mine.number
        hears = tuple((site, age) for site in ("york", "kent", "oslo"))
        told = Shares(7, second + 1, 5, echo, hears, (Share(*POOL, 9, 0, 0, 0, 0),))
        known.hear("oslo", told, now)
        known.use(POOL, known.allowed(POOL), 100, now)
        known.look(now)
        assert known.allowed(POOL) <= 9
    assert known.allowed(POOL) >= 3


# -- properties

deeds = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([0, 1, 3, BUSY]), st.sampled_from([0.5, 3.0, 11.0])),
    max_size=12,
)
worlds = st.builds(
    World,
    st.integers(1, 12),
    st.sampled_from([NAMES[:2], NAMES[:3], NAMES]),
    takes=st.sampled_from([1.0, 6.0, 50.0]),
    delay=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 9),
)


@settings(max_examples=25, deadline=None)
@given(worlds, st.lists(st.sampled_from([0.0, 2.0, 30.0]), min_size=4, max_size=4), deeds)
def test_sites_that_hear_each_other_never_exceed_the_budget_and_divide_it_fairly(
    world: World, starts: list[float], deeds: list[tuple[str, int, float]]
) -> None:
    for name, after in zip(world.names, starts, strict=False):
        world.advance(after)
        world.start(name)
        world.demand(name, BUSY)
        world.advance(0.5)
        assert world.most <= world.budget or len(world.up) <= len(world.names) / 2
    for name, demand, seconds in deeds:
        world.demand(name, demand)
        world.advance(seconds)
        assert world.most <= world.budget
    before = {name: station.served for name, station in world.up.items()}
    for name in world.names:
        world.demand(name, BUSY)
    world.advance(3 * world.takes + 60)
    assert world.most <= world.budget
    assert all(station.served > before[name] for name, station in world.up.items()), "somebody starves"
    counts = sorted(world.counts().values())
    assert counts[-1] - counts[0] <= 1 or world.takes < 2


failures = st.lists(
    st.tuples(
        st.sampled_from(["kill", "refuse", "start", "cut", "heal", "demand"]),
        st.sampled_from(NAMES),
        st.sampled_from([0.5, 5.0, 30.0]),
    ),
    max_size=10,
)


@settings(max_examples=25, deadline=None)
@given(worlds, failures, st.lists(st.booleans(), min_size=4, max_size=4))
def test_failures_cost_no_more_than_the_shares_of_those_who_are_not_heard(
    world: World, deeds: list[tuple[str, str, float]], sides: list[bool]
) -> None:
    for name in world.names:
        world.start(name)
        world.demand(name, BUSY)
    world.advance(5)
    for what, name, seconds in deeds:
        if name not in world.names:
            continue
        match what:
            case "kill" | "refuse" if name in world.up:
                world.kill(name, refuses=what == "refuse")
            case "start" if name not in world.up:
                world.start(name)
            case "cut":
                world.part([name], [other for other in world.names if other != name])
            case "heal":
                world.part()
            case "demand":
                world.demand(name, BUSY)
        world.advance(seconds)
    parts = [[n for n, s in zip(world.names, sides, strict=False) if s is side] for side in (True, False)]
    world.part(*parts)
    for name in world.names:
        if name not in world.up:
            world.start(name)
        world.demand(name, BUSY)
    world.advance(ABSENT + 2 * world.takes + 40)
    before = {name: station.served for name, station in world.up.items()}
    fair = homes(world.budget, ranking(" ".join(POOL).encode(), world.names))
    for part in parts:
        share = world.budget if 2 * len(part) > len(world.names) else max(1, sum(fair[n] for n in part))
        assert world.running(*part) <= share if part else True
    world.advance(2 * world.takes + 60)
    assert all(station.served > before[name] for name, station in world.up.items()), "somebody starves"
