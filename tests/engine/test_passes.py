"""What passes do with a healthy origin, as operators see it."""

from __future__ import annotations

import gc
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.engine import parting
from cluster.engine.context import Visit
from cluster.errors import StoreError
from cluster.model import Deletion, Kind
from cluster.store.mirror import MirrorStore, View
from tests.engine.world import NOW, Told, World


def some(world: World, count: int = 40) -> None:
    for i in range(count):
        world.memory.put(b"pool/%d/file-%03d" % (i % 5, i), b"body %d " % i * (i + 1))


def state_bytes(world: World) -> int:
    return sum(p.stat().st_size for p in Path(world.site.state).glob("deb.db*"))


async def test_an_initial_copy_brings_every_file_with_one_request_each(world: World) -> None:
    some(world)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin, report.files.failed) == ("complete", 40, 0)
    assert len(world.memory.asked("read")) == 40
    assert report.bytes_origin == sum(len(n.data) for n in world.memory.tree().values())


async def test_an_unchanged_pass_fetches_nothing_and_touches_nothing(world: World) -> None:
    some(world)
    await world.run()
    await world.run()  # journal of the first pass settles
    before = {p: p.lstat().st_ctime_ns for p in world.public.rglob("*")}
    report = await world.run()
    assert (report.outcome, report.files.unchanged, report.bytes_origin) == ("complete", 40, 0)
    assert not world.memory.asked("read") and not world.memory.asked("facts")
    assert {p: p.lstat().st_ctime_ns for p in world.public.rglob("*")} == before


@pytest.mark.parametrize("count", [20, 400])
async def test_an_unchanged_pass_writes_the_same_few_records_whatever_the_size(
    world: World, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    some(world, count)
    await world.run()
    written = []
    for name in ("compared", "refresh", "publish", "later_add", "note_failures"):

        async def count_call(*_: object, called: str = name, **__: object) -> None:
            written.append(called)

        monkeypatch.setattr(MirrorStore, name, count_call)
    statuses = {p: p.stat().st_mtime_ns for p in Path(world.site.state, "status", "deb").rglob("*.json")}
    assert (await world.run()).outcome == "complete"
    assert not written
    assert {
        p: p.stat().st_mtime_ns for p in Path(world.site.state, "status", "deb").rglob("*.json")
    } == statuses


async def test_where_nothing_has_changed_for_a_while_a_glance_at_each_directory_is_enough(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    some(world)
    await world.run()
    await world.run()
    viewed = []
    view = MirrorStore.view

    async def noted(store: MirrorStore, directory: bytes) -> View:
        viewed.append(directory)
        return await view(store, directory)

    monkeypatch.setattr(MirrorStore, "view", noted)
    report = await world.run()
    assert viewed == []
    assert (report.outcome, report.files.unchanged, report.directories) == ("complete", 40, 7)
    world.memory.update(b"pool/1/file-001", b"another version")
    world.memory.put(b"pool/3/new/deep", b"a new one")
    report = await world.run()
    world.equal()
    assert set(viewed) == {b"pool/1", b"pool/3"}, "a glance shows that one is new"
    assert (report.outcome, report.files.origin) == ("complete", 2)


async def test_a_changed_file_is_fetched_and_nothing_else(world: World) -> None:
    some(world)
    await world.run()
    world.memory.update(b"pool/1/file-001", b"a new version")
    report = await world.run()
    world.equal()
    assert world.memory.asked("read") == [b"pool/1/file-001"]
    assert (report.files.origin, report.files.unchanged) == (1, 39)


async def test_a_time_that_goes_backwards_is_a_change(world: World) -> None:
    world.memory.put(b"a", b"from the future", mtime=4_000_000_000 * 10**9)
    await world.run()
    world.memory.put(b"a", b"from the past!!", mtime=1_000 * 10**9)
    await world.run()
    world.equal()


async def test_a_deletion_waits_for_its_sightings_and_its_grace(world: World) -> None:
    world.mirror = replace(world.mirror, delete=Deletion(sightings=2, grace=3600.0))
    some(world)
    await world.run()
    world.memory.remove(b"pool/1/file-001")
    first = await world.run()
    assert (first.outcome, first.files.deleted, first.files.waiting) == ("complete", 0, 1)
    second = await world.run()
    assert (second.files.deleted, second.files.waiting) == (0, 1), "the grace was not over"
    world.clock.moved += 3700
    third = await world.run()
    assert (third.files.deleted, third.files.waiting) == (1, 0)
    world.equal()
    trash = Path(world.site.data, ".sideways", "trash", "deb")
    assert [p.name for p in trash.rglob("file-001")] == ["file-001"]


async def test_a_name_that_comes_back_in_time_stays(world: World) -> None:
    world.mirror = replace(world.mirror, delete=Deletion(sightings=2, grace=0.0))
    some(world)
    await world.run()
    node = world.memory.tree()[b"pool/1/file-001"]
    world.memory.remove(b"pool/1/file-001")
    await world.run()
    world.memory.put(b"pool/1/file-001", node.data, mtime=node.mtime)
    report = await world.run()
    assert (report.files.deleted, report.files.waiting, report.files.origin) == (0, 0, 0)
    world.equal()


async def test_too_many_deletions_are_held_as_a_whole_until_they_are_approved(world: World) -> None:
    world.mirror = replace(
        world.mirror,
        delete=replace(world.mirror.delete, hold_files=3, hold_share=0.1),
    )
    some(world)
    await world.run()
    for i in range(10):
        world.memory.remove(b"pool/%d/file-%03d" % (i % 5, i))
    held = await world.run()
    assert (held.outcome, held.files.held, held.files.deleted) == ("held", 10, 0)
    assert len(world.bodies()) == 40
    store = await MirrorStore.open(world.mirror, world.site, int(NOW))
    try:
        await store.approve(held.plan, int(NOW))
    finally:
        await store.close()
    report = await world.run()
    assert (report.outcome, report.files.deleted) == ("complete", 10)
    world.equal()


async def test_a_file_becomes_a_directory_and_a_file_again(world: World) -> None:
    some(world)
    world.memory.put(b"pool/thing", b"a file")
    await world.run()
    world.memory.remove(b"pool/thing")
    world.memory.put(b"pool/thing/inside", b"now a directory")
    assert (await world.run()).outcome == "complete"
    world.equal()
    world.memory.remove(b"pool/thing")
    world.memory.put(b"pool/thing", b"a file again", mtime=world.memory.tree()[b"pool"].mtime + 5)
    assert (await world.run()).outcome == "complete"
    world.equal()


async def test_links_that_stay_inside_are_made_and_all_others_reported(world: World) -> None:
    world.memory.put(b"a/file", b"x")
    world.memory.symlink(b"a/good", b"file")
    world.memory.symlink(b"a/up", b"../a/file")
    world.memory.symlink(b"a/absolute", b"/etc/passwd")
    world.memory.symlink(b"a/out", b"../../canary/passwd")
    world.memory.symlink(b"a/dangling", b"nothing/there")
    report = await world.run()
    made = {p.name: os.readlink(p) for p in (world.public / "a").iterdir() if p.is_symlink()}
    assert made == {"good": "file", "up": "../a/file", "dangling": "nothing/there"}
    assert (report.outcome, report.files.skipped) == ("complete", 2)
    world.memory.symlink(b"a/good", b"up")
    world.memory.remove(b"a/up")
    world.memory.put(b"a/up", b"a file now")
    await world.run()
    assert os.readlink(world.public / "a" / "good") == "up"
    world.memory.remove(b"a/good")
    world.memory.directory(b"a/good")
    world.memory.put(b"a/good/x", b"y")
    await world.run()
    assert (world.public / "a" / "good" / "x").read_bytes() == b"y"


async def test_hard_links_are_kept_relinked_and_the_unaccounted_ones_told(world: World) -> None:
    source = world.source()
    (source / "a").write_bytes(b"one body" * 1000)
    os.link(source / "a", source / "b")
    os.link(source / "a", world.top / "elsewhere")
    (source / "c").write_bytes(b"another" * 1000)
    report = await world.run()
    inode = {n: (world.public / n).stat().st_ino for n in "abc"}
    assert inode["a"] == inode["b"] != inode["c"]
    assert any("1 names of 1 files lie outside" in note for note in report.notes), report.notes
    assert report.bytes_origin == len(b"one body" * 1000) + len(b"another" * 1000)
    (source / "b").unlink()
    (source / "b").write_bytes(b"on its own")
    (source / "c").unlink()
    os.link(source / "a", source / "c")
    report = await world.run()
    assert (report.outcome, report.bytes_origin) == ("complete", len(b"on its own"))
    inode = {n: (world.public / n).stat().st_ino for n in "abc"}
    assert inode["a"] == inode["c"] != inode["b"]
    assert (world.public / "c").read_bytes() == b"one body" * 1000
    assert (world.public / "b").read_bytes() == b"on its own"


def inodes(world: World) -> dict[str, int]:
    return {p.name: p.stat().st_ino for p in world.public.rglob("*") if p.is_file()}


async def test_names_that_the_origin_parts_are_files_of_their_own_again(world: World) -> None:
    """Their sizes and times stay what they were: only the link tells."""
    source = world.source()
    (source / "far").mkdir()
    (source / "a").write_bytes(b"one body" * 1000)
    for name in ("b", "c", "far/d", "far/e"):
        os.link(source / "a", source / name)
    await world.run()
    assert len(set(inodes(world).values())) == 1
    for name in ("b", "c"):  # b alone; c and e together; a and d stay
        shutil.copy2(source / name, source / "new")
        (source / "new").rename(source / name)
    (source / "far/e").unlink()
    os.link(source / "c", source / "far/e")
    planned = Told()
    await world.run(dry=True, told=planned)
    assert sorted(path for action, path in planned.plan if action.startswith("part")) == [
        b"b",
        b"c",
        b"far/e",
    ]
    assert len(set(inodes(world).values())) == 1
    report = await world.run()
    found = inodes(world)
    assert (report.outcome, report.bytes_origin, report.files.unchanged) == ("complete", 0, 5)
    assert found["a"] == found["d"] and found["c"] == found["e"]
    assert len({found["a"], found["b"], found["c"]}) == 3
    assert (await world.run()).files.unchanged == 5 and inodes(world) == found
    for name in ("a", "far/d"):  # the last two
        shutil.copy2(source / name, source / "new")
        (source / "new").rename(source / name)
    await world.run()
    after = inodes(world)
    assert len({after["a"], after["d"], after["b"], after["c"]}) == 4
    kept = [name for name in "ad" if after[name] == found[name]]
    assert len(kept) == 1, "the last of them needs no copy"


async def test_a_linked_file_that_moves_as_a_whole_stays_one(world: World) -> None:
    """Another device number after a reboot, another inode after a restore: the same names, another group."""
    source = world.source()
    (source / "far").mkdir()
    (source / "a").write_bytes(b"one body" * 1000)
    for name in ("b", "far/c"):
        os.link(source / "a", source / name)
    await world.run()
    before = inodes(world)
    shutil.copy2(source / "a", source / "new")
    for name in ("a", "b", "far/c"):
        (source / name).unlink()
        os.link(source / "new", source / name)
    (source / "new").unlink()
    report = await world.run()
    assert (report.outcome, report.bytes_origin, inodes(world)) == ("complete", 0, before)
    assert len({h.link for h in (await world.records()).values() if h.kind is Kind.FILE}) == 1


async def test_an_origin_that_tells_of_no_links_parts_none(world: World) -> None:
    world.memory.put(b"a/one", b"shared" * 1000)
    world.memory.link(b"a/one", b"a/two")
    await world.run()
    world.memory.properties = replace(world.memory.properties, hard_links=False)
    assert (await world.run()).files.unchanged == 2
    assert len(set(inodes(world).values())) == 1


async def test_names_whose_parting_was_cut_off_are_parted_by_the_next_pass(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = world.source()
    (source / "a").write_bytes(b"one body" * 1000)
    os.link(source / "a", source / "b")
    await world.run()
    shutil.copy2(source / "b", source / "new")
    (source / "new").rename(source / "b")

    async def cut(context: object) -> None:
        raise StoreError("planted")

    with monkeypatch.context() as planted, pytest.raises(StoreError, match="planted"):
        planted.setattr(parting, "part", cut)
        await world.run()
    await world.run()
    assert len(set(inodes(world).values())) == 2


async def test_new_attributes_cost_no_bytes(world: World) -> None:
    some(world)
    await world.run()
    node = world.memory.tree()[b"pool/1/file-001"]
    world.memory.put(b"pool/1/file-001", node.data, mtime=node.mtime, mode=0o755)
    world.memory.directory(b"pool/2", mtime=1_600_000_000 * 10**9, mode=0o2777)
    report = await world.run()
    assert not world.memory.asked("read") and report.bytes_origin == 0
    assert (world.public / "pool/1/file-001").stat().st_mode & 0o7777 == 0o755
    folder = (world.public / "pool/2").stat()
    assert (folder.st_mode & 0o7777, folder.st_mtime_ns) == (0o775, 1_600_000_000 * 10**9)


async def test_a_directory_keeps_the_origins_time_after_its_files_came(world: World) -> None:
    world.memory.directory(b"d", mtime=1_500_000_000 * 10**9)
    world.memory.put(b"d/x", b"1")
    await world.run()
    assert (world.public / "d").stat().st_mtime == 1_500_000_000
    world.memory.put(b"d/y", b"2")
    world.memory.remove(b"d/x")
    await world.run()
    assert (world.public / "d").stat().st_mtime == 1_500_000_000


async def test_of_directories_that_wait_only_new_ones_have_more_than_a_path(world: World) -> None:
    for i in range(50):
        world.memory.put(b"pool/%02d/file" % i, b"x")
    await world.run()
    world.memory.put(b"pool/new/file", b"y")
    waiting: list[list[bytes]] = []

    async def before(method: str, path: bytes) -> None:
        if method == "listing" and path.startswith(b"pool/"):
            visits = [one for one in gc.get_objects() if isinstance(one, Visit)]
            assert len(visits) > 10 or waiting
            waiting.append([visit.path for visit in visits if visit.own is not None])

    world.memory.before = before
    gc.collect()  # visits of the first pass
    await world.run()
    world.equal()
    assert len(waiting) == 51
    assert {path for paths in waiting for path in paths} <= {b"", b"pool/new"}


async def test_what_a_stranger_left_is_not_touched_and_told(world: World) -> None:
    some(world)
    await world.run()
    world.memory.put(b"pool/1/new", b"from the origin")
    world.memory.put(b"pool/new-folder/deep/file", b"from the origin too")
    (world.public / "pool/1/new").write_bytes(b"an operator's own")
    (world.public / "pool/new-folder").write_bytes(b"a file where a directory should be")
    (world.public / "pool/notes.txt").write_bytes(b"nobody asked for this")
    world.ledger.strangers |= {b"pool/1/new", b"pool/new-folder", b"pool/notes.txt"}
    world.memory.update(b"pool/4/file-004", b"everything else goes on")
    told = Told()
    report = await world.run(told=told)
    assert report.outcome == "incomplete"
    assert {path for path, _ in told.failures} >= {b"pool/1/new", b"pool/new-folder"}
    assert (world.public / "pool/1/new").read_bytes() == b"an operator's own"
    assert (world.public / "pool/new-folder").read_bytes() == b"a file where a directory should be"
    assert (world.public / "pool/notes.txt").exists()
    assert (world.public / "pool/4/file-004").read_bytes() == b"everything else goes on"


async def test_a_link_planted_in_the_place_of_a_directory_is_not_followed(world: World) -> None:
    some(world)
    await world.run()
    (world.public / "pool/1").rename(world.top / "moved")
    (world.public / "pool/1").symlink_to(world.top / "canary")
    world.ledger.strangers.add(b"pool/1")
    world.ledger.lacked.add(b"pool/1")  # we took it away ourselves
    world.memory.update(b"pool/1/file-001", b"must not land in the canary")
    world.memory.update(b"pool/2/file-002", b"goes on")
    report = await world.run_unrecorded()
    assert report.outcome == "incomplete"
    assert (world.public / "pool/1").is_symlink()
    assert (world.public / "pool/2/file-002").read_bytes() == b"goes on"
    world.canary.check()
    (world.public / "pool/1").unlink()
    world.ledger.strangers.clear()
    assert (await world.run()).outcome == "complete"
    world.equal()


@pytest.mark.parametrize("passes", [1, 3])
async def test_damage_by_an_admin_is_healed_by_the_next_pass(world: World, passes: int) -> None:
    some(world)
    for _ in range(passes):
        await world.run()
    (world.public / "pool/1/file-001").write_bytes(b"edited in place")
    (world.public / "pool/2/file-002").unlink()
    os.utime(world.public / "pool/3/file-003", (1, 1))
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"
    assert sorted(world.memory.asked("read")) == [b"pool/1/file-001", b"pool/2/file-002"]
    assert (world.public / "pool/3/file-003").stat().st_mtime_ns == world.memory.tree()[
        b"pool/3/file-003"
    ].mtime


@pytest.mark.parametrize("passes", [1, 3])
async def test_a_directory_that_lost_its_time_gets_it_back(world: World, passes: int) -> None:
    some(world)
    for _ in range(passes):
        await world.run()
    os.utime(world.public / "pool/1", ns=(1, 1))
    report = await world.run()
    assert (world.public / "pool/1").stat().st_mtime_ns == world.memory.tree()[b"pool/1"].mtime
    assert (report.outcome, report.bytes_origin) == ("complete", 0)


@pytest.mark.parametrize("passes", [1, 3])
async def test_a_whole_directory_that_an_admin_removed_comes_back(world: World, passes: int) -> None:
    some(world)
    for _ in range(passes):
        await world.run()
    import shutil

    shutil.rmtree(world.public / "pool/1")
    world.ledger.lacked.add(b"pool/1")
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"


async def test_a_dry_run_says_what_the_next_pass_does_and_changes_nothing(world: World) -> None:
    some(world)
    world.memory.symlink(b"pool/latest", b"1")
    await world.run()
    world.memory.update(b"pool/1/file-001", b"changed")
    world.memory.put(b"pool/new/file", b"added")
    world.memory.symlink(b"pool/latest", b"2")
    world.memory.remove(b"pool/2/file-002")
    node = world.memory.tree()[b"pool/3/file-003"]
    world.memory.put(b"pool/3/file-003", node.data, mtime=node.mtime, mode=0o600)

    def look() -> dict[str, tuple[int, int, int]]:
        places = [p for top in ("data", "state") for p in (world.top / top).rglob("*")]
        return {
            str(p): (p.lstat().st_ino, p.lstat().st_mtime_ns, p.lstat().st_size)
            for p in places
            if not p.name.endswith(("-shm", "-wal"))
        }

    before, told = look(), Told()
    dry = await world.run(told=told, dry=True)
    assert look() == before
    planned = {path for action, path in told.plan if action == "fetch"}
    made = {path for action, path in told.plan if action.startswith("make")}
    assert (planned, made) == ({b"pool/1/file-001", b"pool/new/file"}, {b"pool/latest", b"pool/new"})
    assert {p for a, p in told.plan if a == "attributes"} >= {b"pool/3/file-003"}
    assert {p for a, p in told.plan if a == "delete"} == {b"pool/2/file-002"}
    done = Told()
    real = await world.run(told=done)
    assert {path for path, _ in done.files} == planned
    assert (real.files.origin, real.files.deleted) == (dry.files.origin, 1)
    world.equal()


async def test_what_the_origin_keeps_from_the_world_is_recorded_as_private(world: World) -> None:
    world.memory.put(b"open", b"for all")
    world.memory.put(b"secret", b"for siblings", mode=0o640)
    world.memory.put(b"wild", b"set-id", mode=0o6777)
    await world.run()
    held = await world.records()
    assert (held[b"secret"].private, held[b"open"].private) == (True, False)
    assert (world.public / "wild").stat().st_mode & 0o7777 == 0o775


async def test_strange_names_arrive_byte_for_byte(world: World) -> None:
    names = [
        b"lat\xe9",
        "é".encode(),
        b"a\nb",
        b"esc\x1b[31m",
        b"%2e%2e%2f",
        b"-rf",
        b"a\\b",
        b" lead",
        b"x" * 255,
    ]
    for name in names:
        world.memory.put(b"d/" + name, name)
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"


async def test_a_pass_over_one_directory_compares_that_and_deletes_nothing(world: World) -> None:
    some(world)
    await world.run()
    world.memory.update(b"pool/1/file-001", b"in scope")
    world.memory.update(b"pool/2/file-002", b"out of scope")
    world.memory.remove(b"pool/1/file-006")
    report = await world.run(scope=b"pool/1")
    assert world.memory.asked("listing") == [b"pool/1"]
    assert (report.files.origin, report.files.deleted) == (1, 0)
    assert (world.public / "pool/1/file-006").exists()


async def test_a_source_on_this_machine_is_copied_with_times_and_modes(world: World) -> None:
    source = world.source()
    (source / "sub").mkdir()
    for i in range(30):
        (source / "sub" / f"f{i}").write_bytes(os.urandom(1000 + i))
    (source / "big").write_bytes(os.urandom(9 * 2**20))
    os.utime(source / "big", ns=(1, 1_234_567_890_123_456_789))
    os.mkfifo(source / "pipe")
    report = await world.run()
    assert (report.outcome, report.files.origin, report.files.skipped) == ("complete", 31, 1)
    assert (world.public / "big").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert (world.public / "big").read_bytes() == (source / "big").read_bytes()
    held = await world.records()
    assert held[b"big"].kind is Kind.FILE and b"pipe" not in held
    again = await world.run()
    assert (again.files.origin, again.files.unchanged) == (0, 31)
