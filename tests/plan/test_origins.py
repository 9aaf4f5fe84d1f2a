"""Whose turn it is among several origins, and which of them may take over."""

from __future__ import annotations

import pytest

from cluster.model import MINUTE, SECOND, Entry, Held, Kind, Row, Stamp
from cluster.plan.origins import FEW, FIRST_PAUSE, LONGEST_PAUSE, Health, Sampled, judged, turn

T = 1_700_000_000 * SECOND
DAY = 86_400 * SECOND


def held(**times: int) -> dict[bytes, Held]:
    return {
        name.encode(): Held(name.encode(), Kind.FILE, 7, mtime=Stamp(T + at), row=Row(7, None, Stamp(T + at)))
        for name, at in times.items()
    }


def listed(size: int = 7, precision: int = 1, **times: int) -> list[Entry]:
    return [
        Entry(n.encode(), size=size, mtime=Stamp((T + at) // precision * precision, precision))
        for n, at in times.items()
    ]


def test_a_well_origin_is_asked_before_one_that_failed_and_the_first_before_all() -> None:
    failed = Health(failures=1, failed=1000)
    assert turn(["a", "b", "c"], {}, 1000) == ["a", "b", "c"]
    assert turn(["a", "b", "c"], {"a": failed}, 1000) == ["b", "c", "a"]
    assert turn(["a", "b", "c"], {"a": failed}, 1000 + FIRST_PAUSE) == ["a", "b", "c"]


def test_of_origins_that_all_failed_the_one_that_waited_longest_is_asked_first() -> None:
    known = {"a": Health(failures=9, failed=1000), "b": Health(failures=1, failed=1000)}
    assert turn(["a", "b"], known, 1001) == ["b", "a"]


@pytest.mark.parametrize(("failures", "pause"), [(1, 600), (2, 1200), (5, 9600), (9, 86_400), (400, 86_400)])
def test_an_origin_that_goes_on_failing_is_asked_later_and_later(failures: int, pause: int) -> None:
    assert Health(failures, failed=5000).until(5000) == 5000 + pause <= 5000 + LONGEST_PAUSE


def test_a_clock_that_was_set_back_keeps_no_origin_waiting_for_longer() -> None:
    assert Health(1, failed=10**9).until(1000) == 1000 + FIRST_PAUSE


MANY = {f"f{n}": n for n in range(FEW)}

# what is held, what the other origin lists, whether it is behind, whether it is strange
ROWS = [
    ({"a": 0}, {"a": 0}, False, False),
    ({"a": DAY}, {"a": 0}, True, False),
    ({"a": 0}, {"a": DAY}, False, False),
    ({"a": DAY, "b": 0}, {"a": 0, "b": DAY}, False, False),  # another mixture, but not an older one
    ({"a": 0, "b": DAY}, {"a": 0}, True, False),  # what came last is not there yet
    ({"a": 0, "b": DAY}, {"a": 0, "c": 2 * DAY}, False, False),  # never had that, and is newer
    ({"a": 0, "b": -DAY}, {"a": 0}, False, False),  # it never had that
    ({"a": DAY}, {"a": 0, "b": 2 * DAY}, False, False),
    ({}, {"a": 0}, False, False),
    ({"a": 0}, {}, False, False),
    (MANY, MANY, False, False),
    (MANY, {name: at + DAY for name, at in MANY.items()}, False, True),  # times of its own
    (MANY, {name: at + DAY * (at < 2) for name, at in MANY.items()}, False, False),
]


@pytest.mark.parametrize(("ours", "theirs", "behind", "strange"), ROWS)
def test_a_sample_tells_an_origin_that_is_behind_from_one_that_is_not(
    ours: dict[str, int], theirs: dict[str, int], behind: bool, strange: bool
) -> None:
    found = judged([Sampled(b"pool", held(**ours), listed(**theirs))])
    assert (bool(found.behind), bool(found.strange)) == (behind, strange), found


def test_new_versions_of_other_sizes_are_no_sign_of_times_of_its_own() -> None:
    ahead = {name: at + DAY for name, at in MANY.items()}
    found = judged([Sampled(b"", held(**MANY), listed(size=9, **ahead))])
    assert not found.strange and not found.behind


def test_times_that_are_told_less_exactly_are_the_same() -> None:
    found = judged([Sampled(b"", held(a=59 * SECOND), listed(precision=MINUTE, a=59 * SECOND))])
    assert not found.behind


def test_the_reason_names_a_file() -> None:
    assert "pool/a" in judged([Sampled(b"pool", held(a=DAY), listed(a=0))]).behind
