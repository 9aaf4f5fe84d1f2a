"""What is copied from siblings beside the walk, and what is forgotten of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.model import Entry, Stamp
from cluster.plan.compare import Wanted
from cluster.plan.trail import Trail


def wanted(name: bytes, size: int = 10) -> Wanted:
    return Wanted(Entry(name, size=size, mtime=Stamp(0)))


def names(taken):
    return [want.entry.name for _, want in taken]


def test_what_was_left_is_taken_from_whoever_tells_that_it_has_it() -> None:
    trail = Trail[str](owners=2)
    trail.left(b"pool", "here", "oslo", [wanted(b"a"), wanted(b"b")])
    assert trail.ready() == {}
    trail.told("york", b"pool", [b"a"])
    assert trail.ready() == {"york": 1}
    assert trail.take("york", 10, 100) == [("here", wanted(b"a"))]
    assert trail.ready() == {}


def test_what_was_told_before_our_walk_came_there_is_taken_when_it_comes() -> None:
    trail = Trail[str](owners=2)
    trail.told("oslo", b"pool", [b"a", b"c"])
    trail.told("york", b"pool", [b"a"])
    trail.left(b"pool", "here", "oslo", [wanted(b"a"), wanted(b"b")])
    assert names(trail.take("oslo", 10, 100)) == [b"a"]
    assert trail.take("york", 10, 100) == []


def test_whoever_has_most_is_asked_first_and_a_question_is_bounded() -> None:
    trail = Trail[str](owners=2)
    trail.left(b"", "", "oslo", [wanted(b"%d" % i, 40) for i in range(6)])
    trail.told("oslo", b"", [b"0"])
    trail.told("york", b"", [b"1", b"2", b"3", b"4"])
    assert list(trail.ready()) == ["york", "oslo"]
    assert names(trail.take("york", 2, 1000)) == [b"1", b"2"]
    assert names(trail.take("york", 10, 40)) == [b"3"]
    assert names(trail.take("york", 10, 40)) == [b"4"]


def test_what_this_site_would_inherit_is_asked_for_first() -> None:
    trail = Trail[str](owners=3)
    trail.left(b"a", "", "oslo", [wanted(b"1"), wanted(b"2")])
    trail.left(b"b", "", "oslo", [wanted(b"3")], next_in_rank=True)
    trail.told("oslo", b"a", [b"1"])
    trail.told("oslo", b"b", [b"3", b"4"])
    trail.left(b"b", "", "oslo", [wanted(b"4")], next_in_rank=True)
    trail.told("oslo", b"a", [b"2"])
    assert trail.ready() == {"oslo": 4}
    assert trail.urgent() == {"oslo": 2}
    assert names(trail.take("oslo", 3, 100)) == [b"3", b"4"]
    assert trail.urgent() == {}
    assert names(trail.take("oslo", 1, 100)) == [b"1"]
    assert names(trail.take("oslo", 3, 100)) == [b"2"]
    assert trail.ready() == {}


def test_an_owner_that_fetches_nothing_does_not_take_the_room_of_others() -> None:
    trail = Trail[str](owners=2, most=8)
    trail.left(b"slow", "", "oslo", [wanted(b"%d" % i) for i in range(100)])
    trail.left(b"fast", "", "york", [wanted(b"a")])
    trail.told("york", b"fast", [b"a"])
    assert names(trail.take("york", 10, 100)) == [b"a"]


def test_what_is_told_and_never_left_is_forgotten_oldest_first() -> None:
    trail = Trail[str](owners=2, most=8)
    for i in range(100):
        trail.told("oslo", b"old-%d" % i, [b"a"])
    trail.told("oslo", b"pool", [b"a"])
    trail.left(b"old-1", "", "oslo", [wanted(b"a")])
    assert trail.ready() == {}
    trail.left(b"pool", "", "oslo", [wanted(b"a")])
    assert trail.ready() == {"oslo": 1}


steps = st.lists(
    st.tuples(
        st.sampled_from(["left", "told", "take"]),
        st.sampled_from(["oslo", "york"]),
        st.sampled_from([b"", b"pool"]),
        st.lists(st.sampled_from([b"a", b"b", b"c"]), unique=True, max_size=3),
    ),
    max_size=30,
)


@given(steps, st.integers(1, 4))
def test_exactly_what_was_both_left_and_told_is_taken_and_each_time_once(taken, files: int) -> None:
    trail = Trail[bytes](owners=2, most=1000)
    left: dict[tuple[bytes, bytes], int] = {}
    told: dict[tuple[bytes, bytes], int] = {}
    out: dict[tuple[bytes, bytes], int] = {}

    def take(site: str) -> None:
        for directory, want in trail.take(site, files, 10**9):
            key = directory, want.entry.name
            out[key] = out.get(key, 0) + 1

    for what, site, directory, some in taken:
        if what == "left":
            fresh = [name for name in some if (directory, name) not in left]  # a walk comes there once
            left |= {(directory, name): 1 for name in fresh}
            trail.left(directory, directory, site, [wanted(name) for name in fresh])
        elif what == "told":
            told |= {(directory, name): 1 for name in some}
            trail.told(site, directory, some)
        else:
            take(site)
    while trail.ready():
        for site in trail.ready():
            take(site)
    assert out == dict.fromkeys(left.keys() & told.keys(), 1)
