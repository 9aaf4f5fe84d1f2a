"""Passes whose small files come from a sibling by the carrier's process, over real connections."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.courier import process
from cluster.courier.carrier import Carrier
from cluster.engine.carrying import Taking
from cluster.errors import DiskFull
from cluster.model import Row, Stamp
from cluster.origin.memory import EPOCH
from tests.engine.world import World
from tests.peer.cluster import Station, make_cluster, moved, running

PATIENCE = 300.0  # s that a test waits for what must come
COUNT = 700


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_cluster(str(tmp_path_factory.mktemp("cluster")), ("kent", "oslo"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Carrier]]:
    made: list[Carrier] = []
    real = Carrier.start

    async def start(folder: int) -> Carrier:
        made.append(await real(folder))
        return made[-1]

    monkeypatch.setattr(Carrier, "start", start)
    yield made
    assert all(carrier._process._program.poll() is not None for carrier in made)


@asynccontextmanager
async def beside(tmp_path: Path, keys: Any, count: int = COUNT) -> Any:
    """A world whose sibling holds everything; and that sibling."""
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world")
    world.mirror = replace(world.mirror, name="debian", sites=("kent", "oslo"))
    (tmp_path / "peers").mkdir()
    async with running(moved(keys, str(tmp_path / "peers"))) as (kent, oslo):
        for n in range(count):
            path, body = b"d%d/f%d" % (n % 7, n), b"body %d " % n * (n % 50)
            world.memory.put(path, body, mtime=EPOCH)
            hold(oslo, world, path, body)
        world.siblings.append(await kent.meets("oslo"))
        yield world, oslo


def hold(station: Station, world: World, path: bytes, body: bytes) -> None:
    mtime = Stamp(world.memory.tree()[path].mtime)
    station.files.put(path, body, mtime=mtime, row=Row(len(body), None, mtime))


def left(world: World) -> list[str]:
    folder = world.top / "data/.sideways/tmp/debian"
    return os.listdir(folder) if folder.is_dir() else []


async def test_what_a_sibling_has_comes_by_the_process_and_nothing_from_the_origin(
    tmp_path: Path, keys: Any, started: list[Carrier]
) -> None:
    async with beside(tmp_path, keys) as (world, _):
        report = await world.run()
        assert (report.outcome, report.files.sideways, report.files.origin) == ("complete", COUNT, 0)
        assert report.bytes_sideways == sum(map(len, world.bodies().values()))
        world.equal()
        assert len(started) == 1 and left(world) == []
        held = (await world.records())[b"d1/f1"]
        assert (held.source, held.verified) == ("oslo", "sibling oslo")


async def test_a_few_files_are_not_worth_a_process(tmp_path: Path, keys: Any, started: list[Carrier]) -> None:
    async with beside(tmp_path, keys, 10) as (world, oslo):
        await world.run()
        started.clear()
        world.memory.update(b"d1/f1", b"new")
        hold(oslo, world, b"d1/f1", b"new")
        assert (await world.run()).files.sideways == 1
        assert started == []


@pytest.mark.parametrize("lie", [b"", b"x"], ids=["shorter", "as long"])
async def test_a_sibling_that_lies_is_blamed_and_the_origin_has_the_rest(
    tmp_path: Path, keys: Any, started: list[Carrier], lie: bytes
) -> None:
    async with beside(tmp_path, keys) as (world, oslo):
        for path, (record, body) in oslo.files.files.items():
            if path.endswith(b"9"):
                oslo.files.files[path] = record, lie * len(body)
        report = await world.run()
        assert report.outcome == "complete"
        assert report.files.sideways + report.files.origin == COUNT
        assert report.files.origin >= COUNT // 10 - 14  # what is empty is as promised
        assert world.siblings[0].up == (lie == b"")
        world.equal()
        assert left(world) == [] and started


@pytest.mark.parametrize("when", [0, 300])
async def test_a_process_that_dies_costs_no_file_and_no_question_to_the_origin(
    tmp_path: Path,
    keys: Any,
    started: list[Carrier],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    when: int,
) -> None:
    async with beside(tmp_path, keys) as (world, oslo):
        real, asked = oslo.files.bodies, 0

        def bodies(files: Any) -> Any:
            nonlocal asked
            asked += len(files)
            program = started[0]._process._program
            if asked > when and program.poll() is None:
                os.kill(program.pid, signal.SIGKILL)
                program.wait()
            return real(files)

        oslo.files.bodies = bodies  # type: ignore[method-assign]
        async with asyncio.timeout(PATIENCE):
            report = await world.run()
        assert (report.outcome, report.files.sideways, report.files.origin) == ("complete", COUNT, 0)
        world.equal()
        assert left(world) == []
        assert [r.message for r in caplog.records if r.name == "cluster.engine.carrying"] == [
            "debian: the process for what siblings send is gone"
        ]


async def test_where_no_process_can_be_had_the_event_loop_takes_everything(
    tmp_path: Path, keys: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Any:
        raise OSError(11, "no more processes")

    monkeypatch.setattr(process, "_launched", refuse)
    async with beside(tmp_path, keys) as (world, _):
        report = await world.run()
        assert (report.outcome, report.files.sideways) == ("complete", COUNT)
        world.equal()
        said = [r.message for r in caplog.records if r.name == "cluster.engine.carrying"]
        assert len(said) == 1 and "no process for what siblings send" in said[0]


async def test_a_full_disk_stops_the_pass_and_leaves_nothing(
    tmp_path: Path, keys: Any, started: list[Carrier], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.peer.carried import CarriedBundle
    from cluster.peer.client import Unwritten

    real = CarriedBundle.files

    async def files(self: CarriedBundle, *asked: Any) -> Any:
        async for written in real(self, *asked):
            yield written
            raise Unwritten(0, 28)

    monkeypatch.setattr(CarriedBundle, "files", files)
    async with beside(tmp_path, keys) as (world, _):
        with pytest.raises(DiskFull):
            await world.run()
        assert left(world) == []


@pytest.mark.parametrize("where", ["start", "told", "files", "publish"])
async def test_a_pass_may_be_cut_off_at_any_step(
    tmp_path: Path, keys: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from cluster.engine.transfer import Transfer
    from cluster.peer.carried import CarriedBundle

    owner, method = {
        "start": (process.Process, "start"),
        "told": (CarriedBundle, "__aenter__"),
        "files": (Taking, "swept"),
        "publish": (Transfer, "publish_all"),
    }[where]
    real = getattr(owner, method)
    task: asyncio.Task[Any]

    async def cut(*args: Any) -> Any:
        task.cancel()
        await asyncio.sleep(0.05)
        return await real(*args)

    async with beside(tmp_path, keys) as (world, _):
        monkeypatch.setattr(owner, method, cut)
        task = asyncio.create_task(world.run())
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([task])
        assert task.cancelled()
        assert left(world) == []
        monkeypatch.undo()
        assert (await world.run()).outcome == "complete"
        world.equal()
