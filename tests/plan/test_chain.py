"""Who reads a growing file from whom."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.model import SECOND, Facts, Held, Kind, Stamp
from cluster.plan.chain import Link, before, is_proof, turn, version_held, version_named, waited_for
from cluster.plan.compare import YOUNG, Evidence, answer
from cluster.plan.order import ranking
from cluster.plan.steal import RANGE

PATH, SIZE = b"iso/big", 100 * RANGE
SITES = [f"site{n}" for n in range(6)]
A, B, C, D, E, F = ranking(PATH, SITES)  # by rank
OLD = Stamp(5 * SECOND, SECOND)


def follows(own: str, front: int, head: str | None, /, *, now: float = 100.0, **fronts: int) -> str | None:
    """Whom `own` follows, where others have `fronts` since a moment ago, by the letters above."""
    names = dict(zip("ABCDEF", (A, B, C, D, E, F), strict=True))
    links = {names[key]: Link(names[key], have, 99.0) for key, have in fronts.items()}
    link = before(PATH, own, front, links, head, size=SIZE, now=now, patience=5.0)
    return None if link is None else link.site


def test_each_reads_from_the_one_before_it_and_the_first_from_the_head() -> None:
    assert follows(A, 0, F, F=9, B=5, C=3) == F
    assert follows(A, 9, F, F=9, B=5) == F, "it is waited for"
    assert follows(B, 0, F, F=9, A=5, C=3) == A
    assert follows(C, 0, F, F=9, A=5, B=3) == B
    assert follows(C, 0, A, A=9, B=3) == B


def test_who_has_no_more_than_we_is_waited_for_while_it_goes_on() -> None:
    assert follows(C, 3, A, A=9, B=3) == B
    assert follows(C, 3, A, A=9, B=3, now=105.0) == A, "no progress for `patience`, although there is more"
    assert follows(C, 9, A, A=9, B=9, now=105.0) == B, "there was nothing that it could have had"


def test_who_is_far_behind_the_one_before_it_is_left_out() -> None:
    assert follows(C, 0, A, A=2 * RANGE, B=RANGE) == B
    assert follows(C, 0, A, A=2 * RANGE + 1, B=RANGE) == A
    assert follows(D, 0, A, A=5 * RANGE, B=4 * RANGE, C=3 * RANGE) == C, "each is near to the one before it"


def test_without_a_head_whoever_has_more_is_read_from() -> None:
    assert follows(A, 5, None, B=3, C=9, D=7) == C
    assert follows(A, 9, None, B=3, C=9) is None
    assert follows(C, 3, None, A=3, B=3, now=105.0) is None
    assert follows(C, 3, None, A=SIZE, now=1e9) == A, "it is complete: it need not go on"


@pytest.mark.parametrize(
    ("front", "link", "head", "fronts", "who"),
    [
        (3, B, A, {A: 9, B: 5}, B),  # it is read from
        (3, B, A, {A: 9, B: 3}, B),  # it could have more
        (3, B, A, {A: 3, B: 3}, A),  # it could not
        (3, B, A, {B: 3}, A),  # the head has nothing
        (3, None, A, {}, A),
        (3, B, None, {B: 3}, B),
        (3, None, None, {B: 3}, None),
    ],
)
def test_whose_fault_it_is_that_nothing_comes(
    front: int, link: str | None, head: str | None, fronts: dict[str, int], who: str | None
) -> None:
    links = {site: Link(site, have, 0.0) for site, have in fronts.items()}
    assert waited_for(front, links.get(link or ""), head, links) == who


def test_the_turns_of_those_who_may_take_over_are_by_rank() -> None:
    assert [turn(PATH, site, {A, C, D} - {site}) for site in (A, C, D)] == [0, 1, 2]
    assert turn(PATH, F, []) == 0


@settings(deadline=None, max_examples=30)
@given(
    speeds=st.lists(st.sampled_from([0, 1, 3, 10]), min_size=6, max_size=6),
    joins=st.lists(st.integers(0, 30), min_size=6, max_size=6),
)
def test_whoever_can_read_gets_all_of_it_and_nobody_is_slowed_down_by_the_slow(
    speeds: list[int], joins: list[int]
) -> None:
    """A is the head, as fast as can be; the speed of the others is what they can read in a step."""
    size, unit = 15 * RANGE, RANGE // 4
    pace = dict(zip((A, B, C, D, E, F), speeds, strict=True)) | {A: 10}
    since = dict(zip((A, B, C, D, E, F), joins, strict=True)) | {A: 0}
    front, grew = dict.fromkeys(pace, 0), dict.fromkeys(pace, 0.0)
    done: dict[str, int] = {}
    for now in range(400):
        links = {s: Link(s, front[s], grew[s]) for s in pace if since[s] <= now}
        more = {A: min(size, front[A] + pace[A] * unit)}
        for own in (s for s in links if s != A):
            others = {s: link for s, link in links.items() if s != own}
            link = before(PATH, own, front[own], others, A, size=size, now=now, patience=5.0)
            assert link is not None
            more[own] = max(front[own], min(link.front, front[own] + pace[own] * unit))
        for site, have in more.items():
            grew[site] = now if have > front[site] else grew[site]
            front[site] = have
            if have == size:
                done.setdefault(site, now)
    steps = size // unit
    for site in pace:
        if pace[site]:
            assert done[site] <= since[site] + steps / pace[site] + 60, (site, pace, since)
        else:
            assert site not in done


@pytest.mark.parametrize(
    ("facts", "name", "proof"),
    [
        (Facts(5, OLD, '"tag"'), '"tag"', True),
        (Facts(5, OLD), "modified:5000000000", False),
        (Facts(5, Stamp(5 * SECOND + 7)), "modified:5000000007", False),
        (Facts(5, Stamp(0, 60 * SECOND)), None, None),
        (Facts(5), None, None),
    ],
)
def test_a_version_is_called_by_its_validator_or_else_by_its_time(
    facts: Facts, name: str | None, proof: bool | None
) -> None:
    assert version_named(facts) == name
    assert name is None or is_proof(name) is proof
    held = Held(b"big", Kind.FILE, 5, mtime=facts.mtime, etag=facts.etag)
    assert version_held(held) == name
    if name is not None:
        assert answer(facts, held) is Evidence.SAME


def test_what_was_read_in_the_second_of_its_own_time_has_no_name() -> None:
    assert version_held(Held(b"big", Kind.FILE, 5, mtime=OLD, etag=YOUNG)) is None
