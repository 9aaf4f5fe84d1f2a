"""Debian's words to downstream mirrors, and from an upstream."""

from __future__ import annotations

import pytest

from cluster.model import Downstream, Pushed
from cluster.plan.pushing import Asked, asked, first_stage, pause_before, second_stage

PLAIN = Downstream("plain", Pushed.ALL, "u@a")
STAGED = Downstream("staged", Pushed.STAGED, "u@b", delay=300.0)
MHOP = Downstream("mhop", Pushed.MHOP, "u@c", delay=900.0)


def told(calls: list) -> dict[str, str]:
    return {call.to.name: " ".join(call.words) for call in calls}


def test_a_group_gets_its_files_first_and_the_rest_when_all_have_them() -> None:
    every = [PLAIN, STAGED, MHOP]
    assert told(first_stage(every, "debian", 600.0)) == {
        "plain": "sync:all sync:archive:debian",
        "staged": "sync:stage1 sync:archive:debian",
        "mhop": "sync:stage1 sync:mhop sync:archive:debian",
    }
    assert told(second_stage(every, "debian", 600.0, {"staged", "mhop"})) == {
        "staged": "sync:stage2 sync:archive:debian",
        "mhop": "sync:stage2 sync:archive:debian",
    }


def test_who_missed_the_first_stage_is_to_do_all_at_once() -> None:
    assert told(second_stage([STAGED, MHOP], "d", 600.0, {"mhop"}))["staged"] == "sync:all sync:archive:d"


def test_a_first_stage_may_take_as_long_as_its_delay() -> None:
    assert [c.patience for c in first_stage([PLAIN, STAGED, MHOP], "d", 600.0)] == [600.0, 300.0, 900.0]


def test_pauses_between_tries_grow() -> None:
    assert [pause_before(n) for n in (1, 2)] == [30.0, 60.0]


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("", Asked(("sync:all",))),
        ("sync:all", Asked(("sync:all",))),
        ("sync:stage1 sync:mhop sync:archive:debian", Asked(("sync:stage1", "sync:mhop"), "debian")),
        ("  sync:stage2\tsync:callback ", Asked(("sync:stage2", "sync:callback"))),
        ("sync:archive:debian sync:archive:debian", Asked(("sync:all",), "debian")),
    ],
)
def test_the_words_of_an_upstream_are_understood(command: str, meant: Asked) -> None:
    assert asked(command) == meant


@pytest.mark.parametrize(
    "command",
    [
        "sh",
        "sync:all; id",
        "sync:archive:",
        "sync:archive:../x",
        "sync:archive:-x",
        "SYNC:ALL",
        "sync:all -o",
    ],
)
def test_any_other_word_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match="is not one of sync:all"):
        asked(command)


def test_two_archives_in_one_push_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one archive"):
        asked("sync:archive:a sync:archive:b")
