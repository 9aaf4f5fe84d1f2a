"""Stories of a site's scheduler under a simulated clock. Times are hours since midnight."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path

import pytest

from cluster.engine.clock import SystemClock
from cluster.errors import SourceMissing, StoreError, Unreachable, UnsafeName, UsageError, Vanished
from cluster.model import Facts, Mirror, OriginSpec, Probe, Site
from cluster.plan.due import History
from cluster.scheduler.hooks import Ended
from cluster.scheduler.loop import Scheduler, history_of, local_zone
from cluster.scheduler.pauses import Pause, Pauses
from cluster.store.mirror import PassRecord
from tests.scheduler.simulation import HOUR, MIDNIGHT, SimulatedClock, mirror, settled, site

# -- schedules


async def test_a_new_mirror_begins_at_once_and_keeps_its_interval(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian")) as kent:
        await kent.hours(13)
        assert kent.passes.log == [(0, "debian", ""), (6, "debian", ""), (12, "debian", "")]


async def test_a_pass_knows_when_the_last_of_its_news_came(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian", 100.0), takes=1.0) as kent:
        await kent.hours(0.5)
        kent.scheduler.wake("debian", b"", "push")
        await kent.hours(0.25)
        kent.scheduler.wake("debian", b"", "webhook")
        kent.scheduler.wake("debian", b"pool", "a sibling published something")
        await kent.hours(3)
        kent.scheduler.wake("debian", b"", "asked for on the command line", urgent=True, news=False)
        await kent.hours(3)
        assert kent.passes.news == [None, 0.75, None]


async def test_no_more_passes_run_at_once_than_the_site_allows(tmp_path: Path) -> None:
    async with site(tmp_path, *(mirror(name, 24) for name in "abcde"), passes=2, takes=1.0) as kent:
        await kent.hours(5)
        assert kent.passes.most == 2
        assert [(hour, name) for hour, name, _ in kent.passes.log] == [
            (0, "a"),
            (0, "b"),
            (1, "c"),
            (1, "d"),
            (2, "e"),
        ]


async def test_a_mirror_never_runs_twice_at_once(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("slow", 1.0), takes=5.0) as kent:
        await kent.hours(11)
        assert kent.passes.most == 1
        assert kent.passes.of("slow") == [
            0,
            pytest.approx(5 + 1 / 60, abs=0.001),
            pytest.approx(10.033, abs=0.001),
        ]


@pytest.mark.parametrize("failure", ["failed", Unreachable("", "no route"), ZeroDivisionError("a bug")])
async def test_failures_are_put_off_and_others_go_on(tmp_path: Path, failure: object) -> None:
    async with site(tmp_path, mirror("bad", 1.0), mirror("good", 1.0)) as kent:
        kent.passes.outcomes["bad"] = failure
        await kent.hours(15.5)
        starts = [0, 0.267, 0.7, 1.467, 2.9, 5.667, 11.1]  # 10 min after its end, then 20, 40 ...
        assert kent.passes.of("bad") == pytest.approx(starts, abs=0.001)
        assert len(kent.passes.of("good")) == 16
        kent.passes.outcomes.clear()
        await kent.hours(10)
        assert kent.passes.of("bad")[7:] == pytest.approx([19.2, 20.2, 21.2, 22.2, 23.2, 24.2, 25.2])


async def test_a_pass_that_raises_is_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(tmp_path, mirror("bad")) as kent:
        kent.passes.outcomes["bad"] = Unreachable("pool", "no route")
        await kent.hours(0.2)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert (record.getMessage(), record.exc_info) == ("bad: pass failed: pool: no route", None)


async def test_the_next_pass_can_be_told(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian"), mirror("pushed", None)) as kent:
        await kent.hours(1)
        start = kent.scheduler.next("debian")
        assert start is not None
        assert start.since == MIDNIGHT + 6 * HOUR
        assert kent.scheduler.next("pushed") is None
        kent.scheduler.wake("debian", b"pool")
        await settled()
        assert kent.scheduler.running["debian"].scope == b"pool"


# -- wake-ups


async def test_a_push_starts_a_pass_over_what_it_names(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian", 24)) as kent:
        await kent.hours(2)
        kent.scheduler.wake("debian", b"dists", "push")
        await kent.hours(1)
        assert kent.passes.log == [(0, "debian", ""), (2, "debian", "dists")]


async def test_a_push_during_a_pass_is_due_at_its_end_once(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian", 24), takes=2.0) as kent:
        await kent.hours(1)
        for _ in range(5):
            kent.scheduler.wake("debian", b"", "push")
        await kent.hours(8)
        assert kent.passes.of("debian") == [0, 2]


async def test_a_pass_answers_for_what_lies_in_its_scope_only(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian", None), passes=1, takes=1.0) as kent:
        for path in (b"pool/a", b"pool", b"dists"):
            kent.scheduler.wake("debian", path)
        await kent.hours(5)
        assert [scope for _, _, scope in kent.passes.log] == ["dists", "pool"]


async def test_thousands_of_wake_ups_are_one(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian", None), takes=1.0) as kent:
        kent.scheduler.wake("debian", b"first")
        await settled()
        for number in range(5000):
            kent.scheduler.wake("debian", b"d%d" % number)
        assert repr(kent.scheduler) == "<Scheduler 1 mirrors, 1 running, 8 wake-ups>"  # and not 5000
        await kent.hours(9)
        assert [scope for _, _, scope in kent.passes.log] == ["first", ""]


async def test_a_push_does_not_move_the_schedule(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian", 6)) as kent:
        await kent.hours(2)
        kent.scheduler.wake("debian", b"dists", "push")
        await kent.hours(5)
        assert kent.passes.of("debian") == [0, 2, 6]


async def test_what_an_operator_asks_for_does_not_wait_for_the_hours(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian", 6, window=(22 * 60, 23 * 60))) as kent:
        kent.scheduler.wake("debian", b"", "push")
        await kent.hours(1)
        assert kent.passes.log == []
        kent.scheduler.wake("debian", b"", "asked for", urgent=True)
        await kent.hours(1)
        assert kent.passes.of("debian") == [1]


async def test_who_wakes_an_unknown_mirror_or_no_path_is_told(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian")) as kent:
        with pytest.raises(UsageError, match="suse: no such mirror at kent"):
            kent.scheduler.wake("suse")
        with pytest.raises(UnsafeName):
            kent.scheduler.wake("debian", b"../etc")


# -- pauses


async def test_a_paused_mirror_rests_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian", 6), takes=2.0) as kent:
        await kent.hours(1)
        kent.scheduler.pause("debian", "disk swap")
        await kent.hours(20)
        assert (kent.passes.cut, kent.passes.of("debian")) == (["debian"], [0])
        kent.scheduler.resume("debian")
        await kent.hours(3)
        assert kent.passes.of("debian") == [0, 21]


async def test_a_push_whose_pass_was_interrupted_is_not_forgotten(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian", None), takes=2.0) as kent:
        kent.scheduler.wake("debian", b"pool", "push")
        await settled()
        kent.scheduler.pause("debian")
        kent.scheduler.resume("debian")
        await kent.hours(3)
        assert [scope for _, _, scope in kent.passes.log] == ["pool", "pool"]


async def test_an_interrupted_pass_has_ended_before_the_next_begins(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("debian", None), takes=2.0) as kent:
        for _ in range(3):
            kent.scheduler.wake("debian")
            await settled()
            kent.scheduler.pause("debian")
            kent.scheduler.resume("debian")
        await kent.hours(3)
        assert kent.passes.most == 1


async def test_an_interrupted_pass_holds_its_slot_until_it_has_ended(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("a", 24), mirror("b", 24), passes=1, takes=2.0) as kent:
        await kent.hours(1)
        kent.scheduler.pause("a")
        await kent.hours(3)
        assert (kent.passes.most, kent.passes.of("b")) == (1, [1])


async def test_pauses_outlive_the_daemon(tmp_path: Path) -> None:
    url = "http://origin.example/debian/"
    async with site(tmp_path, mirror("debian")) as kent:
        kent.scheduler.pause("debian", "broken\n")
        kent.scheduler.pause_origin(url)
    assert json.loads((tmp_path / "paused.json").read_text()) == {
        "mirrors": {"debian": {"since": MIDNIGHT, "reason": "broken\n"}},
        "origins": {url: {"since": MIDNIGHT, "reason": ""}},
    }
    async with site(tmp_path, mirror("debian")) as kent:
        await kent.hours(24)
        assert kent.passes.log == []
        kent.scheduler.resume("debian")
        kent.scheduler.resume_origin(url)
        await kent.hours(1)
        assert len(kent.passes.log) == 1


async def test_a_mirror_is_not_due_while_all_its_origins_are_paused(tmp_path: Path) -> None:
    first, second = OriginSpec("http://one.example/"), OriginSpec("http://two.example/")
    asleep = OriginSpec("http://three.example/", paused=True)
    async with site(tmp_path, mirror("m", 1, origins=(first, second, asleep))) as kent:
        kent.scheduler.pause_origin(first.url)
        assert kent.scheduler.origins("m") == (second,)
        await kent.hours(2.5)
        assert len(kent.passes.log) == 3
        kent.scheduler.pause_origin(second.url)
        await kent.hours(5)
        assert len(kent.passes.log) == 3


async def test_what_is_not_paused_or_not_known_is_said(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("m")) as kent:
        for call, argument in (
            (kent.scheduler.resume, "m"),
            (kent.scheduler.pause, "x"),
            (kent.scheduler.resume_origin, "http://origin.example/m/"),
            (kent.scheduler.pause_origin, "http://x/"),
        ):
            with pytest.raises(UsageError, match=argument):
                call(argument)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"mirrors": {}}',
        '{"mirrors": [], "origins": {}}',
        '{"mirrors": {"a": 1}, "origins": {}}',
    ],
)
def test_a_pause_that_cannot_be_read_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "paused.json"
    file.write_text(text)
    with pytest.raises(StoreError, match=r"paused\.json: what is paused cannot be read"):
        Pauses.load(str(file))


def test_why_a_pause_cannot_be_read_is_in_words(tmp_path: Path) -> None:
    (tmp_path / "paused.json").mkdir()
    with pytest.raises(StoreError, match="what is paused cannot be read: Is a directory; mend or remove it"):
        Pauses.load(str(tmp_path / "paused.json"))


def test_a_pause_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    pauses = Pauses(str(tmp_path / "absent" / "paused.json"), {"m": Pause(1.0)})
    with pytest.raises(StoreError, match=r"paused\.json.*No such file"):
        pauses.save()


# -- changed definitions


async def test_a_changed_definition_holds_without_a_restart(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("a", 6), mirror("gone", 6), takes=2.0) as kent:
        await kent.hours(1)
        kent.scheduler.reload([mirror("a", 3), mirror("new", 6)])
        await kent.hours(8)
        assert kent.passes.cut == ["gone"]
        assert kent.passes.of("a") == [0, 3, 6, 9]
        assert kent.passes.of("new") == [1, 7]
        with pytest.raises(UsageError):
            kent.scheduler.wake("gone")


async def test_a_mirror_that_comes_back_waits_for_its_old_pass_to_end(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("a", 6), takes=2.0) as kent:
        await kent.hours(1)
        kent.scheduler.reload([])
        kent.scheduler.reload([mirror("a", 6)])
        await kent.hours(1)
        assert (kent.passes.most, kent.passes.of("a")) == (1, [0, 1])


async def test_stopping_ends_what_runs(tmp_path: Path) -> None:
    async with site(tmp_path, mirror("a"), mirror("b"), takes=9.0) as kent:
        await kent.hours(1)
    assert sorted(kent.passes.cut) == ["a", "b"]


# -- probes and watches


class ProbedOrigin:
    """Answers probes; every answer is a value or an error."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock, self.asked = clock, 0
        self.answer: Facts | Exception = Facts(etag='"1"')

    async def __call__(self, mirror: str, path: bytes) -> Facts:
        assert (mirror, path) == ("m", b"lastsync")
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_probe_wakes_when_its_file_changed_and_only_then(tmp_path: Path) -> None:
    origins: list[ProbedOrigin] = []

    def ask(clock: SimulatedClock) -> ProbedOrigin:
        origins.append(ProbedOrigin(clock))
        return origins[0]

    probed = mirror("m", None, probes=(Probe(b"lastsync", 360.0),))
    async with site(tmp_path, probed, ask=ask, takes=0.01) as kent:
        steps: list[tuple[Facts | Exception, int]] = [
            (Facts(etag='"1"'), 0),  # the first look
            (Unreachable("lastsync", "down"), 0),
            (Facts(etag='"1"'), 0),
            (Facts(etag='"2"'), 1),
            (Vanished("lastsync", "gone"), 1),
            (Facts(etag='"2"'), 2),
            (Facts(size=5, etag='"2"'), 3),
        ]
        for answer, passes in steps:
            origins[0].answer = answer
            await kent.hours(1)
            assert len(kent.passes.log) == passes, answer
        assert origins[0].asked == 70
        kent.scheduler.pause("m")
        await kent.hours(5)
        assert origins[0].asked == 70, "an origin is not asked while its mirror rests"


@pytest.mark.parametrize("left", [[], [mirror("m", None)]])
async def test_a_source_is_watched_as_long_as_its_mirror_says_so(tmp_path: Path, left: list[Mirror]) -> None:
    begun: list[float] = []
    source = OriginSpec("file:///srv/x", watch=True)

    def watch(clock: SimulatedClock) -> Callable[[OriginSpec], AsyncIterator[set[bytes]]]:
        async def changes(spec: OriginSpec) -> AsyncIterator[set[bytes]]:
            begun.append(clock.now())
            if len(begun) == 1:
                raise SourceMissing("", "not mounted")
            await clock.sleep(HOUR)
            yield {b"pool"}
            await clock.sleep(10 * HOUR)

        return changes

    async with site(tmp_path, mirror("m", None, origins=(source,)), watch=watch) as kent:
        await kent.hours(2)
        assert [scope for _, _, scope in kent.passes.log] == ["pool"]
        assert len(begun) == 2
        kent.scheduler.reload(left)
        await kent.hours(50)
        assert len(begun) == 2, "nobody watches what is not watched any more"


# -- after a restart


def record(started: int, ended: int | None, outcome: str | None) -> PassRecord:
    return PassRecord(1, started, ended, outcome, "http://o/", {})


@pytest.mark.parametrize(
    ("records", "history"),
    [
        ([], History(since=99.0)),
        ([record(5, None, None), record(1, 2, "complete")], History(since=99.0)),
        ([record(5, 6, "complete"), record(1, 2, "failed")], History(5.0, 5.0, 6.0, 0)),
        ([record(5, 6, "failed"), record(3, 4, "failed"), record(1, 2, "held")], History(5.0, 5.0, 6.0, 2)),
    ],
)
def test_the_books_tell_where_the_schedule_goes_on(records: list[PassRecord], history: History) -> None:
    assert history_of(records, 99.0) == history


async def test_a_schedule_goes_on_after_a_restart(tmp_path: Path) -> None:
    def histories(clock: SimulatedClock) -> dict[str, History]:
        began = clock.now() - 2 * HOUR
        return {"a": History(began, began, began + 60)}

    async with site(tmp_path, mirror("a", 6), histories=histories, start=10.0) as kent:
        await kent.hours(5)
        assert kent.passes.of("a") == [14]


@pytest.mark.parametrize(("name", "hours"), [("Asia/Tokyo", 9), ("UTC", 0), ("Nowhere/Such", 0)])
def test_hours_are_those_of_the_operators_zone(
    monkeypatch: pytest.MonkeyPatch, name: str, hours: int
) -> None:
    monkeypatch.setitem(os.environ, "TZ", name)
    assert datetime.fromtimestamp(MIDNIGHT, local_zone()).hour == hours


# -- the real clock


async def test_it_works_in_real_time(tmp_path: Path) -> None:
    began: list[float] = []

    async def run_pass(_mirror: str, _scope: bytes, _news: float | None) -> Ended:
        began.append(time.monotonic())
        return Ended("complete")

    kent = Site("kent", data=str(tmp_path), state=str(tmp_path))
    pauses = Pauses(str(tmp_path / "paused.json"))
    scheduler = Scheduler(kent, [mirror("a", 0.2 / HOUR)], run_pass, clock=SystemClock(), pauses=pauses)
    running = asyncio.create_task(scheduler.run())
    await asyncio.sleep(0.7)
    scheduler.stop()
    await asyncio.wait_for(running, 2)
    assert 3 <= len(began) <= 4
