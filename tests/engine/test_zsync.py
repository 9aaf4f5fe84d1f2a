"""Where the origin publishes a `.zsync` beside a file, only what the version here lacks comes from there."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest

from cluster.errors import Unreachable, Vanished
from cluster.model import Delta
from cluster.origin.memory import EPOCH
from tests.delta.controls import made
from tests.engine.world import World

OLD = random.Random(21).randbytes(3_000_000)
NEW = OLD[:700_000] + b"new" + OLD[700_000:1_500_000] + OLD[1_500_100:] + b"more"
PATH = b"img/a.iso"
AT = EPOCH // 10**9 + 10


def control(body: bytes = NEW, at: int = AT, sha1: str = "") -> bytes:
    return made(body, at, sha1 or hashlib.sha1(body).hexdigest())


async def older(world: World) -> None:
    """The origin has had a version with a control file, and it is here."""
    world.memory.put(PATH, OLD)
    world.memory.put(PATH + b".zsync", control(OLD, EPOCH // 10**9))
    await world.run()


async def test_a_new_version_costs_the_origin_what_differs(world: World) -> None:
    await older(world)
    world.memory.update(PATH, NEW)
    world.memory.update(PATH + b".zsync", control())
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin) == ("complete", 2)
    assert report.bytes_origin < 2 * len(control()) + 20_000
    assert report.bytes_saved > 2_900_000
    record = (await world.records())[PATH]
    assert (record.source, record.verified, record.sha256) == (
        "origin",
        "origin",
        hashlib.sha256(NEW).digest(),
    )


@pytest.mark.parametrize(
    "data",
    [
        control(OLD, EPOCH // 10**9),
        control(OLD, AT),
        control(NEW, AT - 1),
        control(NEW, AT, sha1="00" * 20),
        b"<html>not found</html>",
        control()[:-5],
        b"",
        control().replace(b"zsync:", b"zsync :"),
    ],
)
async def test_a_control_file_of_something_else_makes_nothing(world: World, data: bytes) -> None:
    await older(world)
    world.memory.update(PATH, NEW)
    world.memory.update(PATH + b".zsync", data)
    report = await world.run()
    world.equal()
    assert report.outcome == "complete" and report.bytes_saved == 0


async def test_the_older_versions_control_file_with_the_size_of_the_new_one_does_not_publish_the_old(
    world: World,
) -> None:
    """Everything that it names is here: without the times, the old version would be taken for the new one."""
    await older(world)
    world.memory.update(PATH, OLD[:-3] + b"new")
    report = await world.run()
    world.equal()
    assert report.outcome == "complete" and report.bytes_saved == 0


async def test_a_control_file_that_lies_about_the_blocks_is_found_out(world: World) -> None:
    """It claims that the new version consists of the old one, under the new one's SHA-1."""
    await older(world)
    new = OLD[:1_000_000] + b"new" + OLD[1_000_003:]
    world.memory.update(PATH, new)
    world.memory.update(PATH + b".zsync", control(OLD, AT, hashlib.sha1(new).hexdigest()))
    report = await world.run()
    world.equal()
    assert report.outcome == "complete" and report.bytes_saved == 0


@pytest.mark.parametrize("error", [Vanished, Unreachable])
async def test_without_the_control_file_the_file_comes_whole(world: World, error: type[Exception]) -> None:
    await older(world)
    world.memory.update(PATH, NEW)
    world.memory.fail("read", PATH + b".zsync", error, times=1)
    report = await world.run()
    world.equal()
    assert report.outcome == "complete" and report.bytes_saved == 0


async def test_a_range_that_breaks_off_costs_no_more_than_the_whole_file(world: World) -> None:
    await older(world)
    world.memory.update(PATH, NEW)
    world.memory.update(PATH + b".zsync", control())
    world.memory.truncate(PATH, 100)
    report = await world.run()
    world.equal()
    assert report.outcome == "complete" and report.bytes_saved == 0


async def test_63_a_file_that_changes_between_two_ranges_is_not_mixed(world: World) -> None:
    await older(world)
    world.memory.update(PATH, NEW)
    world.memory.update(PATH + b".zsync", control())
    newest = bytes(len(NEW))
    world.memory.change_during_read(PATH, lambda: world.memory.update(PATH, newest))
    await world.run()
    await world.run()
    world.equal()


async def test_a_control_file_that_is_too_large_is_not_read(world: World) -> None:
    await older(world)
    world.memory.update(PATH, NEW)
    world.memory.update(PATH + b".zsync", control() + bytes(2_000_000))
    report = await world.run()
    world.equal()
    assert report.bytes_saved == 0


async def test_a_first_copy_and_a_mirror_that_wants_no_deltas_ask_for_no_control_file_first(
    world: World,
) -> None:
    world.memory.put(PATH, OLD)
    world.memory.put(PATH + b".zsync", control(OLD, EPOCH // 10**9))
    await world.run()
    assert world.memory.asked("read").count(PATH + b".zsync") == 1
    world.mirror = replace(world.mirror, sideways=replace(world.mirror.sideways, delta=Delta.NO))
    world.memory.update(PATH, NEW)
    await world.run()
    assert PATH + b".zsync" not in world.memory.asked("read")
    world.equal()
