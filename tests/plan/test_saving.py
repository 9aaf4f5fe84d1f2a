"""What cooperation spares the origin."""

import pytest

from cluster.plan.saving import DAY, Received, added, by_day, iso, last, saving


@pytest.mark.parametrize(
    ("origin", "sideways", "saved"),
    [
        (0, 0, None),  # nothing was fetched: nothing can be said
        (100, 0, 0.0),  # alone
        (100, 200, pytest.approx(2 / 3)),  # three sites, each byte once
        (100, 100, 0.5),
        (0, 100, 1.0),  # everything was there already
    ],
)
def test_the_saving_is_the_share_that_lone_mirrors_would_have_fetched_as_well(origin, sideways, saved):
    assert saving(origin, sideways) == saved


def test_days_of_several_sites_are_added_day_by_day():
    kent, oslo = {3: Received(1, 2), 5: Received(1, 0)}, {4: Received(0, 7), 3: Received(10, 20)}
    assert list(by_day([kent, oslo]).items()) == [
        (3, Received(11, 22)),
        (4, Received(0, 7)),
        (5, Received(1)),
    ]
    assert added(by_day([kent, oslo]).values()) == Received(12, 29)
    assert by_day([]) == {}


def test_the_last_days_end_with_today_and_leave_out_what_a_wrong_clock_said():
    days = {8: Received(1), 9: Received(10), 10: Received(100), 11: Received(1000)}
    now = 10 * DAY + 5.0
    assert last(days, now, 1) == Received(100)
    assert last(days, now, 2) == Received(110)
    assert last(days, now, 30) == Received(111)


@pytest.mark.parametrize(
    ("day", "spelt"), [(0, "1970-01-01"), (20_778, "2026-11-21"), (10**9, "9999-12-31"), (-1, "1970-01-01")]
)
def test_a_day_is_spelt_as_a_date_whatever_it_is(day, spelt):
    assert iso(day) == spelt
