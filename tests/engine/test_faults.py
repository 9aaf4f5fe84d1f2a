"""What passes do when the origin, the disk or the operator's patience fails them."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace
from urllib.request import urlopen

import pytest

from cluster.engine.walker import LOOP
from cluster.errors import (
    DiskFull,
    IncompleteListing,
    NotAListing,
    OriginError,
    Refused,
    Unreachable,
    Vanished,
)
from cluster.model import SECOND, Order, OriginSpec
from cluster.origin.http import HttpOrigin
from cluster.origin.memory import EPOCH
from cluster.store.temporaries import Temporaries
from tests.engine.world import Told, World
from tests.servers import nginx


def some(world: World, count: int = 40) -> None:
    for i in range(count):
        world.memory.put(b"pool/%d/file-%03d" % (i % 5, i), b"body %d " % i * (i + 1))


# -- one file


async def test_44_a_file_that_vanished_since_its_listing_is_one_look_again_and_no_failure(
    world: World,
) -> None:
    some(world)

    async def before(method: str, path: bytes) -> None:
        if method == "read" and path == b"pool/1/file-001" and path in world.memory.tree():
            world.memory.remove(path)

    world.memory.before = before
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.failed) == ("complete", 0)
    assert world.memory.asked("listing").count(b"pool/1") == 2


async def test_44_a_directory_that_vanished_since_it_was_listed_is_one_look_above_and_no_failure(
    world: World,
) -> None:
    some(world)

    async def before(method: str, path: bytes) -> None:
        if method == "listing" and path == b"pool/1" and path in world.memory.tree():
            world.memory.remove(path)

    world.memory.before = before
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.failed) == ("complete", 0), report.errors
    assert world.memory.asked("listing").count(b"pool") == 2


async def test_44_a_listed_directory_that_is_never_there_is_one_failure(world: World) -> None:
    some(world)
    world.memory.fail("listing", b"pool/1", Vanished, times=100)
    report = await world.run()
    assert (report.outcome, report.files.failed, report.files.origin) == ("incomplete", 1, 32)
    assert report.errors == ["pool/1: planted fault"]
    assert world.memory.asked("listing").count(b"pool") == 2
    world.memory._faults.clear()
    again = await world.run()
    assert (again.outcome, again.files.origin) == ("complete", 8)
    world.equal()


async def test_44_a_listed_file_that_is_never_there_is_one_failure(world: World) -> None:
    some(world)
    world.memory.fail("read", b"pool/1/file-001", Vanished, times=100)
    report = await world.run()
    assert (report.outcome, report.files.failed, report.files.origin) == ("incomplete", 1, 39)
    assert report.errors == ["pool/1/file-001: planted fault"]
    world.memory._faults.clear()
    again = await world.run()
    assert (again.outcome, again.files.origin) == ("complete", 1)
    world.equal()


@pytest.mark.parametrize("size", [1000, 400_000])
async def test_45_a_file_that_changes_under_our_hands_is_fetched_as_its_new_version(
    world: World, size: int
) -> None:
    some(world)
    world.memory.put(b"pool/1/grows", b"a" * size)
    world.memory.change_during_read(
        b"pool/1/grows", lambda: world.memory.update(b"pool/1/grows", b"b" * (size + 77))
    )
    report = await world.run()
    assert report.outcome == "complete", report
    world.equal()


async def test_45_a_file_that_never_holds_still_fails_alone(world: World) -> None:
    some(world)
    count = 0

    def grow() -> None:
        nonlocal count
        count += 1
        world.memory.update(b"pool/1/log", b"x" * (70_000 + count))
        world.memory.change_during_read(b"pool/1/log", grow)

    world.memory.put(b"pool/1/log", b"x" * 70_000)
    world.memory.change_during_read(b"pool/1/log", grow)
    report = await world.run()
    assert (report.outcome, report.files.failed, report.files.origin) == ("incomplete", 1, 40)


async def test_a_link_to_a_file_that_is_being_replaced_never_gets_the_new_content(world: World) -> None:
    """The name that a new hard link would be made to gets another version in the same batch."""
    world.memory.put(b"a/old-name", b"one version")
    world.memory.put(b"a/third", b"x")
    world.memory.link(b"a/old-name", b"z/kept")
    await world.run()
    node = world.memory.tree()[b"z/kept"]
    world.memory.link(b"z/kept", b"b/new-name")
    world.memory.put(b"a/old-name", b"quite another version", mtime=node.mtime + 10**9)
    report = await world.run()
    world.equal()
    assert report.outcome == "complete", report


async def test_a_file_that_changes_in_the_last_stage_is_fetched_in_the_same_pass(world: World) -> None:
    world.mirror = replace(world.mirror, last=("dists/**",))
    some(world)
    world.memory.put(b"dists/Release", b"version 1" * 20_000)
    world.memory.change_during_read(
        b"dists/Release", lambda: world.memory.update(b"dists/Release", b"version 2" * 20_000)
    )
    report = await world.run()
    assert report.outcome == "complete", report
    world.equal()


async def test_a_body_that_breaks_off_is_taken_up_again_where_it_broke(world: World) -> None:
    body = random.Random(1).randbytes(3_000_000)
    world.memory.put(b"big", body)
    world.memory.truncate(b"big", 2_000_000)
    report = await world.run()
    world.equal()
    assert report.outcome == "complete", report
    assert report.bytes_origin < len(body) + 200_000


async def test_a_refused_file_fails_alone_and_keeps_its_old_version(world: World) -> None:
    some(world)
    await world.run()
    old = world.memory.tree()[b"pool/1/file-001"].data
    world.memory.update(b"pool/1/file-001", b"the new one")
    world.memory.update(b"pool/2/file-002", b"another new one")
    world.memory.fail("read", b"pool/1/file-001", Refused)
    report = await world.run()
    assert (report.outcome, report.files.failed, report.files.origin) == ("incomplete", 1, 1)
    assert (world.public / "pool/1/file-001").read_bytes() == old
    assert (await world.run()).outcome == "complete"
    world.equal()


# -- listings


@pytest.mark.parametrize("error", [IncompleteListing, NotAListing, Refused, Vanished, Unreachable])
async def test_28_to_31_a_directory_that_cannot_be_listed_loses_nothing(
    world: World, error: type[OriginError]
) -> None:
    some(world)
    await world.run()
    world.memory.update(b"pool/2/file-002", b"goes on")
    world.memory.fail("listing", b"pool/1", error, times=2)
    report = await world.run()
    assert (report.outcome, report.files.deleted) == ("incomplete", 0)
    assert len(world.bodies()) == 40
    assert (world.public / "pool/2/file-002").read_bytes() == b"goes on"


async def test_a_pass_in_which_the_origin_broke_down_deletes_nothing_at_all(world: World) -> None:
    some(world)
    await world.run()
    world.memory.remove(b"pool/3/file-003")
    world.memory.fail("listing", b"pool/1", Unreachable)
    report = await world.run()
    assert (report.files.deleted, len(world.bodies())) == (0, 40)
    assert any("nothing deleted" in note for note in report.notes)
    assert (await world.run()).files.deleted == 1


async def test_27_an_empty_root_is_for_the_operator_only(world: World) -> None:
    some(world)
    await world.run()
    world.memory.remove(b"pool")
    report = await world.run()
    assert (report.outcome, report.files.held, report.files.deleted) == ("held", 40, 0)
    assert len(world.bodies()) == 40


async def test_27_an_emptied_root_is_said_while_its_files_still_wait(world: World) -> None:
    world.mirror = replace(world.mirror, delete=replace(world.mirror.delete, sightings=3))
    some(world)
    await world.run()
    world.memory.remove(b"pool/1")
    report = await world.run()
    assert report.files.waiting and not report.notes
    world.memory.remove(b"pool")
    report = await world.run()
    assert (report.outcome, report.files.waiting) == ("complete", 40)
    assert report.notes == ["the origin lists nothing of what is here: all 40 files wait"]


async def test_27_an_emptied_directory_waits_for_a_second_listing_an_hour_later(world: World) -> None:
    world.mirror = replace(world.mirror, delete=replace(world.mirror.delete, emptied_after=3600.0))
    some(world, 100)
    await world.run()
    for i in range(1, 100, 5):
        world.memory.remove(b"pool/1/file-%03d" % i)
    for _ in range(2):
        report = await world.run()
        assert (report.files.deleted, report.files.waiting) == (0, 20)
    world.clock.moved += 3700
    assert (await world.run()).files.deleted == 20
    world.equal()


async def test_40_a_renamed_tree_is_fetched_first_and_its_deletion_held(world: World) -> None:
    world.mirror = replace(world.mirror, delete=replace(world.mirror.delete, hold_files=5))
    some(world)
    for i in range(20):
        world.memory.put(b"v1/%d" % i, b"%d" % i)
    await world.run()
    for i in range(20):
        world.memory.put(b"v2/%d" % i, b"%d" % i)
    world.memory.remove(b"v1")
    report = await world.run()
    assert (report.outcome, report.files.origin, report.files.held) == ("held", 20, 20)
    assert (world.public / "v2/19").exists() and (world.public / "v1/19").exists()


async def test_36_a_source_that_is_not_mounted_proves_nothing(world: World) -> None:
    source = world.source()
    for i in range(20):
        (source / f"f{i}").write_bytes(b"%d" % i)
    await world.run()
    source.rename(world.top / "unmounted")
    source.mkdir()
    report = await world.run()
    assert (report.outcome, len(world.bodies())) == ("failed", 20)
    source.rmdir()
    (world.top / "unmounted").rename(source)
    assert (await world.run()).outcome == "complete"


async def test_20_a_tree_without_end_stops_and_loses_nothing(world: World) -> None:
    some(world)
    await world.run()
    deep = b"/".join([b"a"] * 30)
    for i in range(1, 31):
        world.memory.directory(b"/".join([b"a"] * i))
    world.memory.put(deep + b"/x", b"1")
    report = await world.run()
    assert report.outcome == "incomplete"
    assert len(world.memory.asked("listing")) < 20
    assert len(world.bodies()) == 40


async def test_20_a_tree_without_end_is_known_though_every_page_shows_its_own_path(world: World) -> None:
    """A link to its own folder, as nginx shows it: no two pages are the same, their rows are."""
    source = world.top / "source"
    source.mkdir()
    (source / "x").write_bytes(b"1")
    (source / "loop").symlink_to(".")
    os.utime(source / "x", (1e9, 1e9))
    os.utime(source, (1e9, 1e9))
    for depth in range(LOOP + 1):
        world.ledger.file(b"loop/" * depth + b"x", b"1")
        world.ledger.folders.add(b"/".join([b"loop"] * (depth + 1)))
    with nginx(source) as server:
        pages = {urlopen(f"{server.url}{'loop/' * depth}").read() for depth in range(LOOP + 2)}  # noqa: ASYNC210
        assert len(pages) == len(server.requests(least=LOOP + 2)) == LOOP + 2
        server.forget()
        world.origin = HttpOrigin(OriginSpec(server.url), world.mirror.limits)
        report = await world.run()
        asked = server.requests(least=LOOP + 1 + report.files.origin)
        listed = [one.target for one in asked if one.target.endswith("/")]
    assert listed == [f"/{'loop/' * depth}" for depth in range(LOOP + 1)]
    (error,) = report.errors
    assert report.outcome == "incomplete" and "the same listing as in 3 directories above" in error
    assert len(world.bodies()) == LOOP


async def test_no_origin_answers_and_the_pass_says_so(world: World) -> None:
    some(world)
    await world.run()
    world.memory.fail("listing", b"", Unreachable)
    report = await world.run()
    assert (report.outcome, report.files.failed) == ("failed", 0)
    assert report.errors and "planted" in report.errors[0]
    assert len(world.bodies()) == 40


async def test_a_page_that_goes_back_to_an_earlier_one_brings_the_earlier_files_back(world: World) -> None:
    """Two nodes of one origin, one of them behind: what a listing agreed with once, it need not agree with
    now."""
    some(world)
    await world.run()
    node = world.memory.tree()[b"pool/1/file-001"]
    now = int(world.clock.now()) // 60 * 60 * SECOND
    world.memory.precision = 60 * SECOND
    world.memory.put(b"pool/1/file-001", b"fetched in the minute in which it was changed", mtime=now)
    await world.run()
    world.memory.precision = 1
    world.memory.put(b"pool/1/file-001", node.data, mtime=node.mtime)
    await world.run()
    world.equal()


# -- interruption


@pytest.mark.parametrize("after", [1, 5, 1400])
async def test_an_interrupted_pass_goes_on_with_fewer_requests_than_from_the_start(
    world: World, after: int
) -> None:
    some(world, 1500)
    await world.cut(after)
    report = await world.run()
    world.equal()
    assert report.outcome == "complete", report
    assert len(world.memory.asked("read")) <= (1500 if after < 1000 else 750)  # what was in memory is lost
    assert "went on where an interrupted pass had stopped" in report.notes


@pytest.mark.parametrize("after", range(2, 8))
async def test_a_directory_whose_listing_was_cut_off_is_listed_by_the_pass_that_goes_on(
    world: World, after: int
) -> None:
    some(world)
    await world.cut(after, "listing")
    report = await world.run()
    world.equal()
    assert report.outcome == "complete", report


@pytest.mark.parametrize("stage", ["rest", "last"])
async def test_work_that_was_put_off_survives_an_interruption(world: World, stage: str) -> None:
    some(world)
    if stage == "last":
        world.mirror = replace(world.mirror, last=("pool/1/**",))
    else:
        world.mirror = replace(world.mirror, order=Order.RENDEZVOUS)
        world.sibling()
    await world.cut(35)
    assert (await world.run()).outcome == "complete"
    world.equal()


async def test_an_interrupted_large_file_is_taken_up_again(world: World) -> None:
    body = random.Random(1).randbytes(5_000_000)
    world.memory.put(b"big", body)
    world.partials = 1
    await world.cut(60, "chunk")
    world.partials = 0
    report = await world.run()
    world.equal()
    assert report.outcome == "complete", report
    assert report.bytes_origin < len(body) * 0.5


async def test_the_beginning_of_a_file_that_the_origin_has_no_more_goes_with_the_next_complete_pass(
    world: World,
) -> None:
    world.memory.put(b"big", random.Random(1).randbytes(5_000_000))
    world.partials = 1
    await world.cut(60, "chunk")
    world.memory.remove(b"big")
    world.memory.put(b"late", b"x")
    world.memory.fail("read", b"late", Unreachable, times=9)
    assert (await world.run()).outcome == "incomplete"
    temporaries = os.path.join(world.site.data, ".sideways", "tmp", world.mirror.name)
    assert os.listdir(temporaries), "it may be wanted yet"
    world.memory._faults.clear()
    world.partials = 0
    assert (await world.run()).outcome == "complete"


# -- publish last


async def test_41_a_poller_always_finds_what_a_published_index_names(world: World) -> None:
    world.mirror = replace(world.mirror, last=("dists/**",))
    chance = random.Random(7)
    names: list[bytes] = []

    def generation(number: int) -> None:
        nonlocal names
        old, names = names, [b"pool/%d/g%d-%d" % (i % 3, number, i) for i in range(12)]
        for name in old:
            world.memory.remove(name)
        for name in names:
            world.memory.put(name, chance.randbytes(500))
        world.memory.put(b"dists/Index", b"\n".join(names), mtime=EPOCH + number * SECOND, mode=0o644)

    misses: list[bytes] = []
    polls = 0

    def poll() -> None:
        nonlocal polls
        index = world.public / "dists" / "Index"
        if not index.exists():
            return
        polls += 1
        listed = index.read_bytes().split(b"\n")
        misses.extend(name for name in listed if not os.path.exists(os.path.join(bytes(world.public), name)))

    async def before(method: str, path: bytes) -> None:
        poll()

    async def polling() -> None:
        while True:
            poll()
            await asyncio.sleep(0)

    world.memory.before = before
    task = asyncio.ensure_future(polling())
    for number in range(6):
        generation(number)
        report = await world.run()
        assert report.outcome == "complete", report
        poll()
    task.cancel()
    assert polls > 100 and not misses
    world.equal()


async def test_41_what_is_marked_last_is_published_after_all_else(world: World) -> None:
    world.mirror = replace(world.mirror, last=("dists/**",))
    some(world)
    for name in (b"dists/Release", b"dists/main/Packages"):
        world.memory.put(name, b"index")
    told = Told()
    await world.run(told=told)
    order = [path for path, _ in told.files]
    assert {order[-1], order[-2]} == {b"dists/Release", b"dists/main/Packages"}


@pytest.mark.parametrize("error", [Unreachable, Refused, Vanished])
async def test_42_an_index_waits_for_the_files_that_could_not_be_fetched(
    world: World, error: type[OriginError]
) -> None:
    world.mirror = replace(world.mirror, last=("dists/**",))
    some(world)
    world.memory.put(b"dists/Index", b"generation 1")
    await world.run()
    world.memory.put(b"pool/1/new", b"named by generation 2")
    world.memory.update(b"dists/Index", b"generation 2")
    world.memory.remove(b"pool/2/file-002")
    world.memory.fail("read", b"pool/1/new", error, times=10)
    report = await world.run()
    assert report.outcome == "incomplete"
    assert (world.public / "dists/Index").read_bytes() == b"generation 1"
    assert (world.public / "pool/2/file-002").exists(), "generation 1 may need it"
    assert any("dists" in note or "last" in note for note in report.notes), report.notes
    world.memory._faults.clear()
    assert (await world.run()).outcome == "complete"
    world.equal()


# -- this site's disk


async def test_98_a_full_disk_ends_the_pass_with_one_line_and_the_next_one_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    some(world, 300)
    real, written = Temporaries.write_small, 0

    def full(self: Temporaries, files: list[object]) -> list[object]:
        nonlocal written
        written += len(files)
        if written > 150:
            raise DiskFull("disk: 0 bytes free, 1 are kept in reserve, 100 more are needed")
        return real(self, files)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(Temporaries, "write_small", full)
    with pytest.raises(DiskFull) as raised:
        await world.run()
    assert "\n" not in str(raised.value)
    monkeypatch.undo()
    done = len(world.bodies())
    report = await world.run()
    world.equal()
    assert report.outcome == "complete", report
    assert len(world.memory.asked("read")) <= 300 - done
