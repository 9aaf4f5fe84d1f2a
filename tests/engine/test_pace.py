"""How far ahead a site claims, and whom it does not wait for: a slow site holds nobody up."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.engine.context import IN_LINE, Job, Stage, Visit
from cluster.engine.pace import AHEAD, CLAIMED, FIRST, LEAST, MEASURED, PATIENT, SLOWER, InLine, Pace
from cluster.engine.putoffs import WATCHED, PutOffs
from cluster.model import Entry
from cluster.plan.compare import Wanted

MOST = 16 * 2**20
SIZE = 50_000_000


def at(rate: float) -> Pace:
    """Of a site to which the origin has sent at this rate."""
    pace = Pace()
    for second in range(1, 20):
        pace.look(float(second), round(second * rate), busy=True)
    return pace


def job(size: int | None = SIZE) -> Job:
    return Job(Visit(b"iso", Stage.PUT_OFF), Wanted(Entry(b"image", size=size), None))


@given(st.floats(0, 1e10))
def test_a_site_claims_what_it_will_fetch_within_seconds(rate: float) -> None:
    ahead = at(rate).ahead(MOST)
    assert min(LEAST, MOST) <= ahead <= MOST
    assert ahead in (LEAST, MOST, FIRST) or ahead == pytest.approx(AHEAD * rate, rel=0.01)


def test_only_time_in_which_something_was_outstanding_counts() -> None:
    pace = at(1e6)
    pace.look(20.0, 20_000_000, busy=False)
    for second in range(21, 60):
        pace.look(float(second), 20_000_000, busy=False)
    pace.look(60.0, 20_000_000, busy=True)
    pace.look(61.0, 21_000_000, busy=True)
    assert pace.per_second == pytest.approx(1e6, rel=0.01)


def test_siblings_are_told_the_best_that_was_measured_for_seconds() -> None:
    """Who has little left to fetch, or waits for others, is not slow; a moment proves nothing."""
    pace = Pace()
    pace.look(0.0, 0, busy=True)
    pace.look(MEASURED - 1, 8_000_000, busy=True)
    assert pace.best is None
    pace.look(MEASURED, 9_000_000, busy=True)
    assert pace.best == pytest.approx(9_000_000 / MEASURED)
    for second in range(1, 30):
        pace.look(MEASURED + second, 9_000_000 + second, busy=True)
    assert pace.best == pytest.approx(9_000_000 / MEASURED)
    assert pace.per_second is not None and pace.per_second < 10


async def test_a_site_claims_no_more_while_much_is_in_line() -> None:
    """However many questions are on their way at once: siblings wait for what is claimed."""
    pace = at(1e6)
    line, jobs = InLine(pace), [job(400_000) for _ in range(4)]
    for one in jobs[:2]:
        await line.room([one])
        line.add(one)
    waiting = asyncio.create_task(line.room(jobs[2:]))
    await asyncio.sleep(0)
    assert not waiting.done() and pace.ahead(CLAIMED) // 2 < 800_000
    await line.room(jobs[:2])  # they are claimed already
    line.over(jobs[:1])
    await waiting
    line.over(jobs)
    assert line.jobs() == []


def test_before_anything_came_nobody_is_called_slow() -> None:
    pace = Pace()
    pace.look(1.0, 0, busy=True)
    pace.look(2.0, 0, busy=True)
    assert (pace.per_second, pace.patience(SIZE), pace.ahead(MOST)) == (None, None, FIRST)


def test_what_would_be_here_long_ago_is_not_waited_for() -> None:
    assert at(1e6).patience(SIZE) == pytest.approx(SLOWER * 50, rel=0.01)
    assert at(1e9).patience(SIZE) == PATIENT


@pytest.mark.parametrize(
    ("theirs", "lapsed"), [(100_000, True), (2_000_000, False), (9_000_000, False)], ids=lambda one: str(one)
)
def test_a_claim_that_drips_is_void_for_those_who_are_much_faster(theirs: int, lapsed: bool) -> None:
    watched, file = PutOffs(at(5e6)), job()
    found = [watched.lapsed("slow", file, theirs * (i + 1), 100.0 + i, 5.0) for i in range(5)]
    assert found == [False] * int(WATCHED) + [lapsed] * (5 - int(WATCHED))


def test_a_claim_that_drips_is_waited_for_where_we_are_as_slow_or_the_size_is_unknown() -> None:
    for pace, file in ((at(120_000), job()), (Pace(), job()), (at(5e6), job(None))):
        watched = PutOffs(pace)
        assert not any(watched.lapsed("slow", file, 100_000 * (i + 1), 100.0 + i, 5.0) for i in range(20))


def test_how_long_it_stood_in_line_does_not_count_against_what_arrives() -> None:
    pace, file = at(5e6), job()
    pace.come(60.0)
    watched = PutOffs(pace)
    assert not watched.lapsed("oslo", file, 0, 100.0, 5.0)
    found = [watched.lapsed("oslo", file, 5_000_000 * i, 160.0 + i, 5.0) for i in range(1, 9)]
    assert not any(found)


def test_what_stands_in_line_at_a_sibling_has_the_time_that_it_would_have_here() -> None:
    pace, file = at(5e6), job()
    pace.come(0.1)
    watched = PutOffs(pace)
    assert not watched.lapsed("slow", file, 0, 100.0, 2.0)
    assert not watched.lapsed("slow", file, 0, 100.0 + PATIENT - 0.1, 2.0)
    assert watched.lapsed("slow", file, 0, 100.0 + PATIENT, 2.0)
    pace.come(6.0)
    assert not watched.lapsed("slow", file, 0, 100.0 + SLOWER * 6 - 0.1, 2.0)
    assert watched.lapsed("slow", file, 0, 100.0 + SLOWER * 6, 2.0)


def test_who_has_got_nothing_from_the_origin_itself_waits_for_the_line_of_others() -> None:
    watched, file = PutOffs(Pace()), job()
    assert not watched.lapsed("oslo", file, 0, 100.0, 2.0)
    assert not watched.lapsed("oslo", file, 0, 100.0 + IN_LINE - 0.1, 2.0)
    assert watched.lapsed("oslo", file, 0, 100.0 + IN_LINE, 2.0)


def test_a_claim_without_progress_is_void_as_ever() -> None:
    watched, file = PutOffs(Pace()), job()
    assert not watched.lapsed("oslo", file, 5, 100.0, 5.0)
    assert not watched.lapsed("oslo", file, 5, 104.9, 5.0)
    assert watched.lapsed("oslo", file, 5, 105.0, 5.0)
