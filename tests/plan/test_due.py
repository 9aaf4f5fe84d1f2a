"""When passes begin: tables of situations, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.model import Schedule
from cluster.plan.due import (
    SCOPES,
    Due,
    Freshness,
    History,
    Situation,
    Start,
    Wake,
    answered,
    cron_next,
    due,
    fraction,
    freshness,
    interval,
)

HOUR = 3600.0
DAY = 24 * HOUR
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
NOON = MIDNIGHT + 12 * HOUR
ZONE = UTC


def at(hours: float) -> float:
    return MIDNIGHT + hours * HOUR


def ask(
    schedule: Schedule,
    history: History,
    now: float = NOON,
    wakes: Mapping[bytes, Wake] | None = None,
    **flags: bool,
) -> Due:
    situation = Situation(schedule, history, wakes or {}, **flags)
    return due(now, "kent", ZONE, {"m": situation})


def when(schedule: Schedule, history: History, now: float = NOON) -> float | None:
    """When the next pass begins, looking again as often as told."""
    for _ in range(100):
        answer = ask(schedule, history, now)
        if answer.starts:
            return now
        if answer.again is None:
            return None
        assert answer.again > now
        now = answer.again
    raise AssertionError("it never settles")


RAN = History(since=at(0), started=at(11), ended=at(11.5))
SIX = Schedule(every=6 * HOUR)


@pytest.mark.parametrize(
    ("schedule", "history", "begins"),
    [
        (SIX, History(since=at(12)), at(12)),  # a new mirror begins at once
        (SIX, RAN, at(17)),
        (SIX, History(at(0), at(2), at(3)), at(12)),  # missed while the daemon was down
        (SIX, History(at(0), at(5), at(12)), at(12) + 60),  # a pass that takes longer than its interval
        (Schedule(every=20.0), History(at(0), at(12) - 5, at(12)), at(12) + 15),  # the gap is a tenth
        (SIX, History(at(0), at(11), None), at(17)),  # the last pass was cut off
        (SIX, History(at(0), at(99), at(99)), at(12)),  # the clock was set back
        (Schedule(every=None), RAN, None),  # pushed only
        (Schedule(every=None, paused=True), RAN, None),
    ],
)
def test_a_mirror_is_due_its_interval_after_its_last_pass_began(
    schedule: Schedule, history: History, begins: float | None
) -> None:
    assert when(schedule, history) == begins


@pytest.mark.parametrize(
    ("failures", "minutes"), [(1, 10), (2, 20), (3, 40), (4, 80), (7, 640), (8, 16 * 60), (10**6, 16 * 60)]
)
def test_who_failed_tries_again_soon_and_then_ever_more_seldom(failures: int, minutes: float) -> None:
    history = History(at(0), at(11), at(11.5), failures)
    assert when(Schedule(every=2 * HOUR), history, at(11.5)) == at(11.5) + 60 * minutes


def test_a_short_interval_is_not_made_longer_by_one_failure() -> None:
    assert when(Schedule(every=60.0), History(at(0), at(12) - 5, at(12) - 1, 1)) == at(12) + 59


@pytest.mark.parametrize(("every", "after"), [(12 * HOUR, DAY), (7 * DAY, 7 * DAY)])
def test_nobody_is_put_off_beyond_a_day_for_failures(every: float, after: float) -> None:
    assert when(Schedule(every=every), History(at(0), at(11), at(11.5), 20)) == at(11.5) + after


def test_jitter_is_between_nothing_and_all_of_it_and_differs_by_site_and_pass() -> None:
    schedule = Schedule(every=6 * HOUR, jitter=HOUR)
    begins = when(schedule, RAN)
    assert begins == at(17) + HOUR * fraction("m", "kent", int(at(11)))
    drawn = {fraction("m", site, cycle) for site in ("kent", "oslo") for cycle in range(50)}
    assert len(drawn) == 100
    assert min(drawn) >= 0
    assert max(drawn) < 1
    assert 0.3 < sum(drawn) / 100 < 0.7


NIGHT = (22 * 60, 6 * 60)


@pytest.mark.parametrize(
    ("window", "now", "begins"),
    [
        (NIGHT, at(12), at(22)),
        (NIGHT, at(23), at(23)),
        (NIGHT, at(5.99), at(5.99)),
        (NIGHT, at(6), at(22)),
        ((13 * 60, 14 * 60), at(12) + 17, at(13)),
        ((13 * 60, 14 * 60), at(14), at(37)),
        ((60, 60), at(12), at(12)),  # from an hour to itself: all day
    ],
)
def test_passes_begin_within_their_hours(window: tuple[int, int], now: float, begins: float) -> None:
    assert when(Schedule(every=HOUR, window=window), History(since=at(0)), now) == begins


def test_a_pass_that_falls_due_outside_its_hours_waits_for_them() -> None:
    assert when(Schedule(every=6 * HOUR, window=(0, 12 * 60)), RAN) == at(24)


def test_hours_are_those_of_the_zone() -> None:
    situation = Situation(Schedule(every=HOUR, window=(22 * 60, 23 * 60)), History(since=at(0)))
    answer = due(NOON, "kent", timezone(timedelta(hours=2)), {"m": situation})
    assert answer.again == at(20)


# -- cron


@pytest.mark.parametrize(
    ("history", "begins"),
    [
        (RAN, at(27)),
        (History(since=at(12)), at(27)),  # a new one waits for its time
        (History(at(-72), at(-45), at(-44)), at(12)),  # a night was missed
    ],
)
def test_a_cron_line_names_the_times(history: History, begins: float) -> None:
    assert when(Schedule(every=None, cron="0 3 * * *"), history) == begins


def test_a_cron_line_follows_the_clocks_of_its_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    spring = datetime(2026, 3, 28, 12, tzinfo=berlin).timestamp()
    told = datetime.fromtimestamp(cron_next("30 2 * * *", spring, "m@kent", berlin), berlin)
    assert (told.day, told.hour, told.minute) == (29, 3, 0)  # 02:30 does not exist on that day
    assert cron_next("0 12 * * *", spring, "m@kent", berlin) - spring == 23 * HOUR


def test_h_in_a_cron_line_spreads_mirrors_and_sites_and_stays() -> None:
    times = {
        cron_next("H H * * *", NOON, f"m{n}@{site}", ZONE) for n in range(20) for site in ("kent", "oslo")
    }
    assert len(times) > 30
    assert cron_next("H H * * *", NOON, "m@kent", ZONE) == cron_next("H H * * *", NOON, "m@kent", ZONE)


# -- wake-ups


def woken(*paths: bytes, urgent: bool = False, came: float = NOON - 5) -> dict[bytes, Wake]:
    return {path: Wake(came, "push", urgent) for path in paths}


def test_a_wake_up_starts_a_pass_over_its_directory() -> None:
    assert ask(SIX, RAN, wakes=woken(b"dists")).starts == (Start(NOON - 5, "m", b"dists", "push"),)


def test_a_wake_up_during_a_pass_is_answered_at_its_end() -> None:
    assert ask(SIX, RAN, wakes=woken(b""), running=True).starts == ()
    assert ask(SIX, RAN, wakes=woken(b"")).starts[0].scope == b""


def test_a_schedule_that_is_due_answers_every_wake_up() -> None:
    (start,) = ask(SIX, History(at(0), at(1), at(2)), wakes=woken(b"dists", came=at(3))).starts
    assert (start.scope, start.reason) == (b"", "schedule")


def test_a_wake_up_does_not_wait_for_failures_to_be_forgotten() -> None:
    assert ask(SIX, History(at(0), at(11), at(11.5), 5), wakes=woken(b"")).starts


def test_a_wake_up_waits_for_the_hours_of_the_schedule_unless_an_operator_asks() -> None:
    schedule = Schedule(every=None, window=NIGHT)
    assert ask(schedule, RAN, wakes=woken(b"")) == Due((), at(22))
    assert ask(schedule, RAN, wakes=woken(b"", urgent=True)).starts


def test_a_wake_up_from_before_the_clock_was_set_back_counts() -> None:
    assert ask(SIX, RAN, wakes=woken(b"", came=at(99))).starts


def test_many_wake_ups_are_one_for_the_whole_mirror() -> None:
    few, many = [woken(*(b"%d" % n for n in range(count))) for count in (SCOPES, SCOPES + 1)]
    assert ask(SIX, RAN, wakes=few).starts[0].scope == b"0"
    assert ask(SIX, RAN, wakes=many).starts[0].scope == b""


def test_an_urgent_wake_up_goes_before_older_ones() -> None:
    wakes = woken(b"a") | woken(b"b", urgent=True, came=NOON)
    assert ask(SIX, RAN, wakes=wakes).starts[0].scope == b"b"


def test_a_paused_mirror_is_never_due() -> None:
    assert ask(SIX, History(at(0)), wakes=woken(b"", urgent=True), paused=True) == Due((), None)


@pytest.mark.parametrize(
    ("scope", "path", "expected"),
    [
        (b"", b"a/b", True),
        (b"a", b"a", True),
        (b"a", b"a/b", True),
        (b"a", b"ab", False),
        (b"a/b", b"a", False),
    ],
)
def test_a_pass_answers_for_what_lies_in_its_scope(scope: bytes, path: bytes, expected: bool) -> None:
    assert answered(scope, path) is expected


def test_the_longest_overdue_comes_first() -> None:
    situations = {
        name: Situation(SIX, History(at(0), at(hour), at(hour)))
        for name, hour in (("a", 5.5), ("b", 1), ("c", 3), ("d", 11))
    }
    answer = due(NOON, "kent", ZONE, situations)
    assert [start.mirror for start in answer.starts] == ["b", "c", "a"]
    assert answer.again == at(17)


SCHEDULES = st.builds(
    Schedule,
    every=st.one_of(st.none(), st.floats(1, 10**7)),
    jitter=st.floats(0, 10**5),
    cron=st.sampled_from([None, None, "*/5 * * * *", "H 3 * * 1", "0 0 29 2 *"]),
    window=st.one_of(st.none(), st.tuples(st.integers(0, 1439), st.integers(0, 1439))),
)
TIMES = st.floats(MIDNIGHT - 10**8, MIDNIGHT + 10**8)
HISTORIES = st.builds(
    History, TIMES, st.one_of(st.none(), TIMES), st.one_of(st.none(), TIMES), st.integers(0, 100)
)


@given(SCHEDULES, HISTORIES, TIMES)
def test_whatever_is_not_due_now_is_looked_at_again_later(s: Schedule, h: History, now: float) -> None:
    """The loop that sleeps until told neither spins nor oversleeps."""
    answer = ask(s, h, now)
    if not answer.starts:
        assert answer.again is None or answer.again > now
        assert (answer.again is None) == (s.every is None and s.cron is None)


# -- freshness


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (None, "never"),
        (-2, "fresh"),
        (-5, "error"),
        (0, "fresh"),
        (2, "fresh"),
        (2.01, "stale"),
        (4, "stale"),
        (4.01, "error"),
    ],
)
def test_a_mirror_is_stale_at_two_and_an_error_at_four_intervals(age: float | None, expected: str) -> None:
    complete = None if age is None else NOON - age * HOUR
    assert freshness(NOON, complete, HOUR) is Freshness(expected)


def test_a_mirror_that_is_only_pushed_does_not_grow_stale() -> None:
    assert freshness(NOON, NOON - 10**9, None) is Freshness.FRESH


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(every=HOUR, jitter=60), HOUR + 60),
        (Schedule(every=None), None),
        (Schedule(every=None, cron="0 */6 * * *"), 6 * HOUR),
        (Schedule(every=None, cron="0 8,20,21 * * *"), 12 * HOUR),
    ],
)
def test_the_interval_of_a_schedule(schedule: Schedule, expected: float | None) -> None:
    assert interval(schedule, NOON, "m", "kent", ZONE) == expected
