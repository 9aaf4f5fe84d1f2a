"""Passes in the books: going on after an interruption, sightings, and when each directory was compared."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from cluster.model import Entry, Kind, Skipped
from cluster.store.mirror import Compared, Later
from cluster.store.summary import summarise
from tests.store.world import NOW, full_pass, listed, put

ORIGIN = "http://origin.example/"
FAILED = ((b"", "503"),)


@pytest.mark.parametrize(
    ("fingerprint", "scope", "later", "resumed"),
    [("f", b"", 60, True), ("g", b"", 60, False), ("f", b"a", 60, False), ("f", b"", 86_400, False)],
)
async def test_a_pass_goes_on_where_it_was_interrupted(world, fingerprint, scope, later, resumed):
    async with world.store() as store:
        record = await store.pass_begin(NOW, "f", ORIGIN)
        await store.frontier_save(record, [b"b", b"a/\xff"], {"stage": 1})
        await store.later_add(record, 1, [Later(b"a", listed(b"x", b"1"))])
    async with world.store() as store:
        again = await store.pass_begin(NOW + later, fingerprint, ORIGIN, scope=scope)
        assert again.resumed is resumed
        frontier, cursor = await store.frontier_load(again)
        assert (frontier, cursor) == (([b"b", b"a/\xff"], {"stage": 1}) if resumed else ([], {}))
        assert bool(await store.later_directories(again, 1)) is resumed
        if not resumed:
            async with world.reader() as reader:
                assert [p.outcome for p in await reader.passes()] == [None, "interrupted"]


async def test_the_last_pass_that_compared_everything_is_found_behind_many_that_failed(world):
    async with world.store() as store:
        await full_pass(store, NOW)
        for i in range(30):
            record = await store.pass_begin(NOW + 60 * i, "f", ORIGIN)
            await store.pass_end(record, "failed", {}, NOW + 60 * i)
    async with world.reader() as reader:
        told = await reader.passes(20)
        assert [p.outcome for p in told] == ["failed"] * 20 + ["complete"]
        assert (await summarise(reader)).fresh == NOW


async def test_why_a_pass_was_cut_off_is_told_until_the_next_one_goes_on(world):
    async with world.store() as store:
        await store.pass_begin(NOW, "f", ORIGIN)
        await store.pass_stopped("x: no room", {}, NOW + 5)
    async with world.reader() as reader:
        assert (await summarise(reader)).reason == "x: no room"
    async with world.store() as store:
        assert (await store.pass_begin(NOW + 60, "f", ORIGIN)).resumed
        async with world.reader() as reader:
            assert (await summarise(reader)).reason == ""


async def test_work_for_later_stays_until_it_is_done(world):
    async with world.store() as store:
        record = await store.pass_begin(NOW, "f", ORIGIN)
        entry = Entry(b"x\xff", Kind.FILE, None, "1.2M", None, 0o644, 1, 2, None, "3:4", 2, ambiguous=True)
        paths = [b"", b"a", b"a/b", b"b"]
        await store.later_add(record, 1, [Later(path, entry) for path in paths])
        await store.later_add(record, 2, [Later(b"z", entry)])
        assert await store.later_directories(record, 1) == paths
        assert await store.later_directories(record, 1, reverse=True) == paths[::-1]
        assert await store.later_take(record, 1, b"a") == [entry]
        assert await store.later_take(record, 1, b"a") == [entry]
        await store.later_done(record, [(1, b"a", entry.name)])
        assert await store.later_directories(record, 1) == [b"", b"a/b", b"b"]


async def test_what_was_compared_is_written_though_who_told_it_is_cut_off(world):
    async with world.store() as store:
        record = await store.pass_begin(NOW, "f", ORIGIN)
        until = threading.Event()
        busy = asyncio.create_task(store._records.write(lambda c, ids: until.wait()))
        telling = [
            asyncio.create_task(store.compared([Compared(b"", missing=frozenset({b"x"}))], record, NOW)),
            asyncio.create_task(store.note_failures({b"": [(b"y", "cut off")]}, NOW)),
        ]
        for _ in range(10):
            await asyncio.sleep(0)
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        until.set()
        await busy
    async with world.reader() as reader:
        _, failures, missing = await reader.notes(b"")
    assert (set(missing), [one.name for one in failures]) == ({b"x"}, [b"y"])


async def test_notes_replace_what_was_noted(world):
    async with world.store() as store:
        await put(store, {b"a/x": b"1"})
        skipped = (Skipped(b"huge", Kind.FILE, "too large", 10**12),)
        await full_pass(
            store, NOW, Compared(b"a", skipped=skipped, failures=((b"x", "404"), (b"y", "timeout")))
        )
        await full_pass(store, NOW + 100, Compared(b"a", skipped=skipped, failures=((b"x", "410"),)))
        view = await store.view(b"a")
        assert view.skipped == skipped
        assert [(f.name, f.error, f.at, f.since) for f in view.failures] == [(b"x", "410", NOW + 100, NOW)]
        async with world.reader() as reader:
            assert [(path, f.name) for path, f in await reader.errors()] == [(b"a", b"x")]
            assert (await reader.notes(b"a"))[0] == list(skipped)


async def test_a_pass_in_which_nothing_changed_writes_a_constant_amount(world):
    async with world.store() as store:
        await put(store, {b"d%d/x" % i: b"1" for i in range(50)})
        await store.write_status()
        record = await store.pass_begin(NOW, "f", ORIGIN)
        log = world.top / "state/deb.db-wal"
        before = os.stat(log).st_size, os.stat(log).st_mtime_ns
        results = [Compared(b"d%d" % i, entries_listed=1, notable=False) for i in range(50)]
        await store.compared(results, record, NOW)
        assert (os.stat(log).st_size, os.stat(log).st_mtime_ns) == before


async def _times(world, *paths: bytes) -> list[int | None]:
    async with world.reader() as reader:
        found = [await reader.compared_at(path) for path in paths]
    return [None if at is None else at - NOW for at, _ in found]


async def test_a_directory_was_compared_when_the_last_pass_was_that_covers_it(world):
    async with world.store() as store:
        await put(store, {b"a/b/x": b"1", b"c/x": b"1"})
        assert await _times(world, b"", b"a") == [None, None]
        await full_pass(store, NOW + 100)
        assert await _times(world, b"", b"a", b"a/b", b"c") == [100] * 4
        await full_pass(store, NOW + 200, scope=b"a", outcome="held")
        assert await _times(world, b"", b"a", b"a/b", b"c") == [100, 200, 200, 100]
        await full_pass(store, NOW + 300, outcome="failed")
        await store.pass_begin(NOW + 400, "x", ORIGIN)  # never ended
        assert await _times(world, b"", b"a", b"c") == [100, 200, 100]
        await full_pass(store, NOW + 500, outcome="incomplete")
        assert await _times(world, b"", b"a", b"c") == [500, 500, 500]
    async with world.reader() as reader:
        assert (await reader.compared_at(b"a"))[1] == ORIGIN


async def test_an_incomplete_pass_with_work_left_covers_nothing(world):
    async with world.store() as store:
        await full_pass(store, NOW + 100)
        record = await store.pass_begin(NOW + 200, "f", ORIGIN)
        await store.frontier_save(record, [b"a"], {})
        await store.pass_end(record, "incomplete", {}, NOW + 210)
        assert await _times(world, b"", b"a") == [100, 100]


async def test_a_directory_that_failed_keeps_its_last_good_time_and_so_does_what_is_below(world):
    async with world.store() as store:
        await put(store, {b"a/b/x": b"1", b"c/x": b"1"})
        await full_pass(store, NOW + 100)
        failed = Compared(b"a", failures=FAILED, complete=False)
        await full_pass(store, NOW + 200, failed, outcome="incomplete")
        await full_pass(store, NOW + 300, failed, outcome="incomplete")
        assert await _times(world, b"", b"a", b"a/b", b"c") == [300, 100, 100, 300]
        record = await store.pass_begin(NOW + 400, "f", ORIGIN)
        await store.compared([Compared(b"a")], record, NOW + 405)
        assert await _times(world, b"a", b"a/b", b"c") == [405, 100, 300]
        await store.pass_end(record, "complete", {}, NOW + 410)
        assert await _times(world, b"a", b"a/b", b"c") == [405, 400, 400]
        await full_pass(store, NOW + 500, failed, outcome="incomplete")
        assert await _times(world, b"a", b"a/b", b"c") == [405, 400, 500]


async def test_old_passes_go_but_not_the_last_that_compared_a_failing_directory(world, monkeypatch):
    monkeypatch.setattr("cluster.store.passes.KEPT_PASSES", 3)
    async with world.store() as store:
        await put(store, {b"a/b/x": b"1"})
        await full_pass(store, NOW + 100)
        for i in range(10):
            failed = Compared(b"a", failures=FAILED, complete=False)
            await full_pass(store, NOW + 200 + i, failed, outcome="incomplete")
        assert await _times(world, b"a", b"a/b") == [100, 100]
    async with world.reader() as reader:
        assert len(await reader.passes(99)) == 4
