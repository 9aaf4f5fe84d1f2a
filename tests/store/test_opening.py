"""Opening: locks, versions, damage, orphans, and a real SIGKILL (HAZARDS 37, 103, 105, 110, 111)."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.errors import DataMissing, DiskFull, Locked, StoreError
from cluster.store import schema
from cluster.store.mirror import MirrorStore, Reader
from tests.store.crash import check
from tests.store.test_status import read
from tests.store.world import NOW, World, listed, put


async def test_a_second_opening_says_who_has_it(world):
    async with world.store():
        with pytest.raises(Locked) as refused:
            await MirrorStore.open(world.mirror, world.site, NOW)
        assert f"process {os.getpid()}" in str(refused.value)
    async with world.store():
        pass


async def test_records_of_a_newer_program_are_left_alone(world):
    async with world.store() as store:
        await put(store, {b"x": b"1"})
    path = world.top / "state/deb.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="schema 99"):
        await MirrorStore.open(world.mirror, world.site, NOW)
    with pytest.raises(StoreError, match="schema 99"):
        await Reader.open("deb", world.site)
    assert [p.name for p in path.parent.glob("deb.db.*")] == []


async def test_records_without_room_name_their_mirror_and_what_is_free(tmp_path):
    connection = schema.connect(str(tmp_path / "deb.db"))
    schema.prepare(connection, "deb")
    connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(DiskFull) as full, schema.transaction(connection):
        schema.meta_set(connection, "much", "x" * 100_000)
    connection.close()
    said = rf"deb: records: the disk of {tmp_path}/deb\.db is full: \d+ bytes are free"
    assert re.fullmatch(said, str(full.value))


async def test_older_records_are_brought_forward(world, monkeypatch):
    async with world.store() as store:
        await put(store, {b"x": b"1"})
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, "CREATE TABLE added (x);"))
    connection = schema.connect(str(world.top / "state/deb.db"))
    schema.prepare(connection, "deb", schema.STEPS)
    assert connection.execute("SELECT count(*) FROM added").fetchone() == (0,)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.STEPS),)
    assert connection.execute("SELECT count(*) FROM entries").fetchone() == (1,)
    connection.close()


def test_a_step_that_fails_leaves_the_older_version(tmp_path):
    connection = schema.connect(str(tmp_path / "x.db"))
    schema.prepare(connection, "x")
    with pytest.raises(sqlite3.Error):
        schema.prepare(connection, "x", (*schema.STEPS, "CREATE TABLE added (x); SELECT nonsense;"))
    assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.STEPS),)
    assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'added'").fetchall()
    connection.close()


@pytest.mark.parametrize("damage", ["garbage", "zeroed", "lost", "page"])
async def test_files_outlive_their_records(world, damage):
    """HAZARDS 105: what is on disk is taken over by hash; nothing is fetched again, nothing deleted."""
    async with world.store() as store:
        await put(store, {b"a/x": b"1"})
        await put(store, {b"a/%d" % i: b"" for i in range(200)})
        await store.write_status()
    path = world.top / "state/deb.db"
    body = path.read_bytes()
    if damage == "lost":
        path.unlink()
    elif damage == "page":
        connection = sqlite3.connect(path)
        connection.execute("UPDATE meta SET value = '0' WHERE key = 'clean'")
        connection.commit()
        connection.close()
        body = path.read_bytes()
        path.write_bytes(body[: len(body) // 2] + b"\xa5" * 4096 + body[len(body) // 2 + 4096 :])
    else:
        path.write_bytes(b"\0" * len(body) if damage == "zeroed" else b"not a database" * 999)
    async with world.store(NOW + 7) as store:
        view = await store.view(b"a")
        assert not view.held and len(view.strangers) == 201
        found = await store.adopt(b"a", listed(b"x", b"1"))
        assert found is not None and found.sha256
        assert not (world.status / "deb/a").exists()
    aside = [p.name for p in (world.top / "state").glob("deb.db.unreadable-*") if p.suffix != ".db"]
    assert bool(aside) is (damage != "lost")


async def test_a_missing_mount_is_not_an_empty_disk(world):
    async with world.store() as store:
        await put(store, {b"x": b"1"})
    os.rename(world.top / "data", world.top / "away")
    (world.top / "data").mkdir()
    with pytest.raises(DataMissing):
        await MirrorStore.open(world.mirror, world.site, NOW)
    assert os.listdir(world.top / "data") == []
    (world.top / "data").rmdir()
    os.rename(world.top / "away", world.top / "data")
    async with world.store() as store:
        assert not (await store.view(b"")).damaged


async def test_orphans_go_and_what_can_be_resumed_stays(world):
    async with world.store() as store:
        staging = await store.beginnings.stage(b"big", 100)
        await staging.write(b"x" * 40)
        await staging.abandon('"etag"')
        orphan = world.top / "data/.sideways/tmp/deb/orphan"
        orphan.write_bytes(b"x")
        (other := world.top / "data/.sideways/tmp/other").mkdir()
        (other / "theirs").write_bytes(b"x")
    async with world.store() as store:
        assert not orphan.exists() and (other / "theirs").exists()
        staging = await store.beginnings.stage(b"big", 100)
        assert (staging.start, staging.etag) == (40, '"etag"')
        await staging.abandon(None)
        staging = await store.beginnings.stage(b"big", 100)
        assert staging.start == 0
        await staging.abandon(None)


async def test_readers_need_records(world):
    with pytest.raises(StoreError, match="no records yet"):
        await Reader.open("deb", world.site)


PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.store.world import World, put

async def main():
    world = World(Path(sys.argv[1]))
    async with world.store() as store:
        print("open", flush=True)
        for round in range(1000):
            await put(store, {b"d%d/%d" % (i, i): b"%d" % round for i in range(8)})
            await store.write_status()

asyncio.run(main())
"""


def _run_and_kill(top: Path, after: float) -> None:
    command = [sys.executable, "-c", PROGRAM, str(top)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(after)
        process.send_signal(signal.SIGKILL)


async def test_a_kill_leaves_an_honest_store(tmp_path):
    chance = random.Random(5)
    world = World(tmp_path)
    (tmp_path / "data").mkdir()
    rounds = [b"%d" % i for i in range(1000)]
    versions = {b"d%d/%d" % (i, i): set(rounds) for i in range(8)}
    for _ in range(4):
        await asyncio.to_thread(_run_and_kill, tmp_path, chance.uniform(0.0, 0.5))
        async with world.store() as store:
            await check(world, store, versions)
            for path in versions:
                view = await store.view(path.split(b"/")[0])
                assert not view.damaged or all(view.held[name].unknown for name in view.damaged)
            await store.write_status()
    assert read(world, "deb/.sideways.json")["totals"]["files"] == 8
