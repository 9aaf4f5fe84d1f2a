"""What passes received from where, day by day."""

from __future__ import annotations

import json
import sqlite3

import pytest

from cluster.plan.saving import DAY, Received
from cluster.store import received, schema
from cluster.store.summary import summarise
from tests.store.world import NOW

ORIGIN = "http://origin.example/"
TODAY = NOW // DAY


def counts(origin: object, sideways: object) -> dict[str, object]:
    return {"bytes": {"origin": origin, "sideways": sideways, "listings": 7}}


async def ended(store, now: int, origin: int, sideways: int, outcome: str = "complete") -> None:
    record = await store.pass_begin(now, "f", ORIGIN)
    await store.pass_end(record, outcome, counts(origin, sideways), now)


async def test_every_pass_that_ends_is_counted_on_its_day_whatever_became_of_it(world):
    async with world.store() as store:
        await ended(store, NOW - DAY, 1, 2)
        for outcome in ("complete", "incomplete", "failed", "held"):
            await ended(store, NOW, 10, 100, outcome)
        await ended(store, NOW, 0, 0)
    async with world.reader() as reader:
        days, total = await reader.received()
        assert days == {TODAY - 1: Received(1, 2), TODAY: Received(40, 400)}
        assert list(days) == [TODAY - 1, TODAY]
        assert total == Received(41, 402)
        assert (await reader.received(1))[0] == {TODAY: Received(40, 400)}
        told = await summarise(reader)
        assert (told.received, told.days) == (total, days)


async def test_a_pass_that_is_cut_off_twice_is_counted_once_for_each_run(world):
    for _ in range(2):
        async with world.store() as store:
            await store.pass_begin(NOW, "f", ORIGIN)
            await store.pass_stopped("", counts(5, 6), NOW)
    async with world.store() as store:
        record = await store.pass_begin(NOW, "f", ORIGIN)
        await store.pass_end(record, "complete", counts(1, 1), NOW)
        await store.pass_stopped("", counts(1, 1), NOW)  # cut off after its end: it is in the books already
    async with world.reader() as reader:
        assert (await reader.received())[1] == Received(11, 13)


async def test_a_reason_is_told_only_where_there_is_one(world):
    async with world.store() as store:
        await store.pass_begin(NOW, "f", ORIGIN)
        await store.pass_stopped("", counts(5, 6), NOW)
    async with world.reader() as reader:
        assert (await summarise(reader)).reason == ""
        assert (await reader.passes())[0].counts == {}


@pytest.fixture
def connection(tmp_path):
    made = schema.connect(str(tmp_path / "x.db"))
    schema.prepare(made, "x")
    yield made
    made.close()


def test_older_days_are_one_sum_and_nothing_is_lost(connection):
    for day in range(received.KEPT + 5):
        received.add(connection, counts(1, 10), day * DAY)
    received.add(connection, counts(1, 10), 10**6 * DAY)  # a clock that was wrong once
    assert len(received.days(connection)) == received.KEPT
    assert min(received.days(connection)) == 6
    assert received.total(connection) == Received(received.KEPT + 6, 10 * (received.KEPT + 6))


@pytest.mark.parametrize(
    "odd", [{}, {"bytes": 3}, {"bytes": {}}, counts(None, "x"), {"bytes": {"origin": 0.5}}, counts(0, 0)]
)
def test_a_pass_that_does_not_say_what_it_received_received_nothing(connection, odd):
    received.add(connection, odd, NOW)
    assert received.days(connection) == {}
    assert received.total(connection) == Received()


def test_records_from_before_there_was_a_count_begin_with_the_passes_that_they_remember(tmp_path):
    made = sqlite3.connect(tmp_path / "old.db")
    schema.prepare(made, "old", schema.STEPS[:2])
    row = "INSERT INTO passes (started, ended, outcome, origin, scope, fingerprint, counts) "
    for end, told in [
        (NOW, counts(1, 2)),
        (NOW, counts(3, 4)),
        (NOW - DAY, counts(5, 6)),
        (NOW, {}),
        (None, counts(9, 9)),
    ]:
        made.execute(row + "VALUES (0, ?, 'complete', '', x'', '', ?)", (end, json.dumps(told)))
    made.commit()
    schema.prepare(made, "old")
    assert received.days(made) == {TODAY - 1: Received(5, 6), TODAY: Received(4, 6)}
    made.close()
