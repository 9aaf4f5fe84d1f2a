"""When a sibling is set aside, and for how long; how slow is too slow."""

import pytest

from cluster.peer.breaker import Breaker
from cluster.peer.listener import streams_for
from cluster.peer.pace import Pace


def test_three_failures_in_a_row_set_it_aside_for_a_minute():
    breaker = Breaker()
    for now in (1.0, 2.0):
        breaker.failed("body", now)
        assert breaker.closed(now)
    breaker.failed("body", 3.0)
    assert not breaker.closed(62.9)
    assert breaker.wait(33.0) == 30.0
    assert breaker.closed(63.0)


def test_a_success_in_between_starts_the_count_again():
    breaker = Breaker()
    for now in range(10):
        breaker.failed("body", float(now))
        breaker.succeeded("body")
    assert breaker.closed(10.0)


def test_answers_to_questions_do_not_excuse_missing_bodies():
    breaker = Breaker()
    for now in range(3):
        breaker.succeeded("question")
        breaker.failed("body", float(now))
    assert not breaker.closed(3.0)


def test_each_further_failure_doubles_the_rest_up_to_an_hour():
    breaker, now, rests = Breaker(), 0.0, []
    for _ in range(3):
        breaker.failed("question", now)
    while len(rests) < 9:
        rests.append(breaker.wait(now))
        now += rests[-1]
        breaker.failed("question", now)
    assert rests == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_once_it_works_again_all_is_forgiven():
    breaker = Breaker()
    for _ in range(3):
        breaker.failed("body", 0.0)
    breaker.succeeded("body")
    for _ in range(2):
        breaker.failed("body", 60.0)
    assert breaker.closed(60.0)
    breaker.failed("body", 60.0)
    assert breaker.wait(60.0) == 60.0


def test_a_deception_sets_it_aside_for_an_hour_at_once():
    breaker = Breaker()
    breaker.deceived(0.0)
    assert breaker.wait(0.0) == 3600.0


@pytest.mark.parametrize(
    ("pieces", "slow"),
    [
        ([(9.9, 0), (0.2, 0)], True),
        ([(5.0, 300_000), (5.0, 300_000)], True),
        ([(5.0, 400_000), (5.0, 400_000)], False),
        ([(0.001, 1000)] * 1000, False),
        ([(0.0, 10**9), (9.0, 10), (1.5, 10)], True),
    ],
    ids=["nothing", "too little", "enough", "a small body", "a good start does not last for ever"],
)
def test_a_body_is_too_slow_below_64_kib_a_second_over_ten_seconds_of_waiting(pieces, slow):
    pace = Pace()
    found = [pace.slow(waited, received) for waited, received in pieces]
    assert (True in found) == slow


def test_connections_are_shared_out_so_that_every_sibling_finds_room():
    assert [streams_for(n) for n in (0, 1, 7, 8, 9, 15, 200)] == [8, 8, 8, 7, 6, 3, 1]
