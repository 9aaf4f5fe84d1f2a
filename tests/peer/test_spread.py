"""Which ranges siblings are about to copy: what a site that dies would take with it."""

import pytest

from cluster.peer.arriving import COPYING, IDLE, Spread
from cluster.store.blocks import BLOCK

RANGE = 8 * BLOCK
A, B = b"iso/a", b"iso/b"


@pytest.fixture
def spread() -> Spread:
    """Two ranges of one file and one of another came at 0, while somebody read."""
    made = Spread()
    made.copied(A, 9 * RANGE, 9 * RANGE, 0.0)
    for path, first in ((A, 0), (A, RANGE), (B, 0)):
        made.came(path, first, first + RANGE, 0.0)
    return made


def test_what_came_waits_until_every_block_of_it_was_copied(spread: Spread) -> None:
    assert spread.alone(0.1) == 3
    spread.copied(A, 0, RANGE - BLOCK, 0.2)
    spread.copied(B, 0, RANGE, 0.2)
    assert spread.alone(0.3) == 2
    spread.copied(A, RANGE - BLOCK, 2 * RANGE, 0.4)
    assert spread.alone(0.5) == 0


def test_what_was_copied_while_it_came_does_not_wait(spread: Spread) -> None:
    spread.copied(B, RANGE, 2 * RANGE + 5, 0.1)
    spread.came(B, RANGE, 2 * RANGE, 0.2)
    spread.came(B, 2 * RANGE, 2 * RANGE + 5, 0.2)
    assert spread.alone(0.3) == 3


def test_what_nobody_reads_waits_for_nobody(spread: Spread) -> None:
    assert spread.alone(IDLE + 0.1) == 0
    assert Spread().alone(0.0) == 0


def test_siblings_that_copy_more_slowly_than_one_range_in_its_time_are_not_waited_for_again(
    spread: Spread,
) -> None:
    now = 0.0
    while now + IDLE / 2 < COPYING:
        now += IDLE / 2
        assert spread.alone(now) == 3
        spread.copied(A, 0, BLOCK, now)
    spread.copied(A, 0, BLOCK, COPYING)
    assert spread.alone(COPYING) == 0
    spread.copied(A, 0, RANGE, COPYING)
    assert spread.alone(COPYING) == 0


def test_their_time_begins_when_they_begin_to_read(spread: Spread) -> None:
    spread.copied(A, 0, BLOCK, 10 * COPYING)
    assert spread.alone(10 * COPYING) == 3
    spread.copied(A, 0, RANGE, 10.5 * COPYING)
    spread.copied(A, RANGE, RANGE + BLOCK, 10.5 * COPYING)
    assert spread.alone(10.5 * COPYING) == 2


def test_a_file_that_arrives_no_more_does_not_wait(spread: Spread) -> None:
    spread.forget(A)
    assert spread.alone(0.1) == 1
