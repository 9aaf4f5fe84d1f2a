"""Several origins of one mirror, as operators see it."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from cluster.daemon import statuses
from cluster.errors import NotAListing, Unreachable
from cluster.model import Deletion, OriginSpec
from cluster.origin.base import Properties
from cluster.origin.memory import EPOCH
from cluster.plan.origins import BEHIND_AT_MOST, FIRST_PAUSE
from cluster.store.mirror import Reader
from tests.engine.test_passes import some
from tests.engine.world import Noted, World

DAY = 86_400 * 10**9
HTTP = Properties(network=True, scheme="http")  # rounded sizes, no modes, no links


def second(world: World, properties: Properties | None = None, precision: int = 1) -> Noted:
    """Another origin with the same tree, asked after the first."""
    also = {} if properties is None else {"properties": properties}
    made = Noted(world.ledger, url="memory://second/", precision=precision, **also)
    copy(world.memory, made)
    world.mirror = replace(
        world.mirror, origins=(OriginSpec("memory://origin/"), OriginSpec("memory://second/"))
    )
    by_url = {"memory://origin/": world.memory, "memory://second/": made}
    world._open = lambda spec, mirror: by_url[spec.url]  # type: ignore[method-assign]
    return made


def copy(source: Noted, to: Noted) -> None:
    for path, node in source.tree().items():
        to._set(path, node)


def down(origin: Noted, times: int = 99) -> None:
    origin.fail("listing", b"", Unreachable, times=times)


def up(origin: Noted) -> None:
    origin._faults.clear()


async def known(world: World) -> dict[str, object]:
    reader = await Reader.open("deb", world.site)
    try:
        return dict(await reader.origins())
    finally:
        await reader.close()


async def test_the_next_origin_takes_over_and_a_pass_over_it_is_complete(world: World) -> None:
    some(world)
    also = second(world)
    await world.run()
    down(world.memory)
    also.put(b"pool/new", b"news", mtime=EPOCH + DAY)
    report = await world.run()
    assert (report.outcome, report.origin, report.files.origin) == ("complete", "memory://second/", 1)
    assert report.files.unchanged == 40 and report.files.waiting == 0
    assert any("memory://origin/" in note and "planted fault" in note for note in report.notes)


async def test_an_origin_that_failed_is_asked_again_later_and_is_preferred_then(world: World) -> None:
    some(world)
    second(world)
    await world.run()
    down(world.memory)
    await world.run()
    up(world.memory)
    world.memory.fresh()
    report = await world.run()
    assert report.origin == "memory://second/" and not world.memory.asked("listing")
    assert any("not asked, since it failed once" in note for note in report.notes)
    world.clock.moved += FIRST_PAUSE + 1
    assert (await world.run()).origin == "memory://origin/"


async def test_how_an_origin_has_done_outlives_the_process_and_is_forgiven_when_it_is_well(
    world: World,
) -> None:
    some(world)
    second(world)
    down(world.memory)
    await world.run()
    health = (await known(world))["memory://origin/"]
    assert health.failures == 1 and "planted fault" in health.error  # type: ignore[attr-defined]
    up(world.memory)
    world.clock.moved += FIRST_PAUSE + 1
    await world.run()
    assert (await known(world))["memory://origin/"].failures == 0  # type: ignore[attr-defined]


async def test_status_tells_which_origins_failed_and_which_are_behind(world: World) -> None:
    some(world)
    second(world)
    world.memory.update(b"pool/1/file-001", b"a newer version")
    await world.run()
    down(world.memory)
    await world.run()
    lines: list[str] = []
    statuses.print_directory(
        await statuses.of_directory(world.site, world.mirror, b"", world.clock.now()), lines.append
    )
    told = [line for line in lines if "  origin memory:" in line]
    assert "origin memory://origin/: failed once: /: planted fault; others are asked before it" in told[0]
    assert "origin memory://second/: not followed since 20" in told[1]


async def test_where_no_origin_answers_each_of_them_is_named(world: World) -> None:
    some(world)
    also = second(world)
    down(world.memory)
    down(also)
    report = await world.run()
    assert report.outcome == "failed" and report.error_count == 2
    up(also)
    assert (await world.run()).outcome == "complete"  # nobody waits where nothing else is left


async def test_an_error_page_in_the_place_of_the_tree_is_not_followed(world: World) -> None:
    some(world)
    second(world)
    await world.run()
    world.memory.fail("listing", b"", NotAListing, times=9)
    report = await world.run()
    assert (report.outcome, report.origin, report.files.unchanged) == ("complete", "memory://second/", 40)


async def test_an_origin_that_is_empty_is_not_followed(world: World) -> None:
    some(world)
    second(world)
    await world.run()
    world.memory.remove(b"pool")
    report = await world.run()
    assert (report.outcome, report.origin) == ("complete", "memory://second/")
    assert any("lists nothing, 40 files are held here" in note for note in report.notes)
    assert len(world.bodies()) == 40


async def test_an_origin_that_falls_silent_in_the_middle_is_left_by_the_next_pass(world: World) -> None:
    some(world)
    second(world)
    await world.run()
    world.memory.put(b"pool/1/new", b"news", mtime=EPOCH + DAY)
    world.memory.fail("listing", b"pool/3", Unreachable, times=9)
    report = await world.run()
    assert (report.outcome, report.origin) == ("incomplete", "memory://origin/")
    up(world.memory)
    assert (await world.run()).notes  # the second lacks what came from the first just now
    assert b"pool/1/new" in world.bodies()


async def test_an_origin_that_is_behind_is_not_followed_backwards(world: World) -> None:
    some(world)
    also = second(world)
    world.memory.update(b"pool/1/file-001", b"a newer version")
    await world.run()
    down(world.memory)
    report = await world.run()
    assert report.outcome == "failed" and "behind what is held here" in report.errors[1]
    assert "pool/1/file-001" in report.errors[1]
    assert world.bodies()[b"pool/1/file-001"] == b"a newer version"
    copy(world.memory, also)
    assert (await world.run()).outcome == "complete"


async def test_what_the_origin_does_not_have_yet_shows_that_it_is_behind(world: World) -> None:
    some(world)
    second(world)
    world.memory.put(b"pool/1/new", b"news", mtime=EPOCH + DAY)
    await world.run()
    down(world.memory)
    report = await world.run()
    assert report.outcome == "failed" and "it lacks pool/1/new" in report.errors[1]


async def test_what_a_pass_over_one_directory_brought_is_not_taken_back_either(world: World) -> None:
    some(world)
    second(world)
    await world.run()
    down(world.memory)
    assert (await world.run()).origin == "memory://second/"
    up(world.memory)
    world.clock.moved += FIRST_PAUSE + 1
    world.memory.update(b"pool/1/file-001", b"a newer version")
    assert (await world.run(scope=b"pool/1")).files.origin == 1
    down(world.memory)
    report = await world.run()
    assert report.outcome == "failed" and "pool/1/file-001" in report.errors[1]
    assert world.bodies()[b"pool/1/file-001"] == b"a newer version"


async def test_trace_files_say_which_origin_is_behind(world: World) -> None:
    some(world)
    also = second(world)
    for origin, at in ((world.memory, DAY), (also, 0)):
        origin.put(b"project/trace/master", b"date", mtime=EPOCH + at)
    also.put(b"project/trace/second", b"its own", mtime=EPOCH + 2 * DAY)  # no sign of anything
    world.memory.put(b"project/trace/first", b"its own", mtime=EPOCH + 2 * DAY)
    await world.run()
    down(world.memory)
    report = await world.run()
    assert report.outcome == "failed" and "project/trace/master" in report.errors[1]
    also.put(b"project/trace/master", b"date", mtime=EPOCH + DAY)
    report = await world.run()
    assert (report.outcome, report.origin) == ("complete", "memory://second/")


async def test_an_origin_that_stays_behind_for_days_is_followed_at_last(world: World) -> None:
    some(world)
    second(world)
    world.memory.update(b"pool/1/file-001", b"a newer version")
    await world.run()
    down(world.memory)
    assert (await world.run()).outcome == "failed"
    world.clock.moved += BEHIND_AT_MOST + 1
    report = await world.run()
    assert (report.outcome, report.origin) == ("complete", "memory://second/")
    assert any("followed after 72 h though" in note for note in report.notes)


async def test_an_origin_with_times_of_its_own_does_not_make_everything_new(world: World) -> None:
    some(world)
    also = second(world)
    await world.run()
    for path, node in also.tree().items():
        if node.data:
            also.put(path, node.data, mtime=node.mtime + DAY)
    down(world.memory)
    report = await world.run()
    assert report.outcome == "failed" and "the same size" in report.errors[1]
    assert not also.asked("read")


async def test_a_name_goes_only_when_one_origin_lacked_it_often_enough(world: World) -> None:
    some(world)
    also = second(world)
    world.mirror = replace(
        world.mirror, delete=Deletion(sightings=2, grace=0.0, emptied_after=0.0, hold_files=100)
    )
    world.memory.put(b"pool/1/only-the-first-has-it", b"mine", mtime=EPOCH - DAY)
    await world.run()
    for _ in range(3):  # to and fro: nobody has missed it twice
        down(world.memory)
        assert (await world.run()).files.waiting == 1
        up(world.memory)
        world.clock.moved += 10 * FIRST_PAUSE
        assert (await world.run()).origin == "memory://origin/"
        also.fresh()
    assert b"pool/1/only-the-first-has-it" in world.bodies()
    down(world.memory)
    await world.run()
    assert (await world.run()).files.deleted == 1  # the second has the word now, and lacked it twice


async def test_what_one_origin_lacked_does_not_count_for_the_next(world: World) -> None:
    some(world)
    also = second(world)
    world.mirror = replace(world.mirror, delete=Deletion(sightings=2, grace=0.0, emptied_after=0.0))
    await world.run()
    for origin in (world.memory, also):
        origin.remove(b"pool/0/file-000")
    assert (await world.run()).files.waiting == 1
    down(world.memory)
    report = await world.run()
    assert (report.origin, report.files.waiting, report.files.deleted) == ("memory://second/", 1, 0)
    assert (await world.run()).files.deleted == 1


@pytest.mark.parametrize("properties", [HTTP, replace(HTTP, exact_sizes=True)])
async def test_an_origin_that_tells_less_changes_nothing(world: World, properties: Properties) -> None:
    some(world)
    world.memory.put(b"pool/0/runs", b"#!", mode=0o755)
    world.memory.directory(b"pool/1", mode=0o775)
    world.memory.symlink(b"stable", b"pool")
    await world.run()
    also = second(world, properties, precision=60 * 10**9)
    also.remove(b"stable")
    also.put(b"stable/0/runs", b"#!")  # what a link leads to, as a page shows it
    await world.run()
    down(world.memory)
    before = {p: p.lstat().st_ctime_ns for p in world.public.rglob("*")}
    report = await world.run()
    assert (report.outcome, report.origin) == ("complete", "memory://second/")
    assert (report.files.origin, report.files.waiting, report.files.deleted) == (0, 0, 0)
    assert not also.asked("read")
    assert {p: p.lstat().st_ctime_ns for p in world.public.rglob("*")} == before
    assert os.readlink(world.public / "stable") == "pool"
    up(world.memory)
    world.clock.moved += FIRST_PAUSE + 1
    report = await world.run()
    assert (report.origin, report.files.origin, report.outcome) == ("memory://origin/", 0, "complete")
    assert {p: p.lstat().st_ctime_ns for p in world.public.rglob("*")} == before


async def test_a_file_that_one_origin_keeps_from_the_world_stays_so_at_another(world: World) -> None:
    some(world)
    world.memory.put(b"pool/0/secret", b"staged", mode=0o640)
    second(world, HTTP)
    await world.run()
    assert (await world.records())[b"pool/0/secret"].private
    before = (world.public / "pool/0/secret").stat().st_ctime_ns
    down(world.memory)
    assert (await world.run()).origin == "memory://second/"
    assert (await world.records())[b"pool/0/secret"].private
    assert (world.public / "pool/0/secret").stat().st_ctime_ns == before
