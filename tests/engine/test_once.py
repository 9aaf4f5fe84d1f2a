"""What this site has already is neither fetched nor stored again, where the descriptor says so."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest

from cluster.engine import repositories
from cluster.model import Once, OriginSpec, Repository, Storage
from cluster.origin.memory import EPOCH
from cluster.store import sharing
from tests.engine.suite import INDEX, Suite
from tests.engine.world import World

LARGE = os.urandom(300 * 2**10)  # larger than what a sibling's answer brings by itself


@pytest.fixture(autouse=True)
def linked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By links, whatever file system the tests run on."""

    def refused(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(sharing.fcntl, "ioctl", refused)
    world.mirror = replace(world.mirror, storage=Storage(Once.YES))


def inodes(world: World, *paths: str) -> set[int]:
    return {os.stat(world.public / path).st_ino for path in paths}


async def test_what_comes_twice_takes_the_room_of_one(world: World) -> None:
    for name in (b"one", b"two", b"a/three"):
        world.memory.put(name, b"the same " * 99)
    world.memory.put(b"other", b"not the same")
    report = await world.run()
    assert (report.outcome, report.files.origin) == ("complete", 4)
    assert inodes(world, "one", "two", "a/three") == inodes(world, "one")
    assert report.bytes_shared == 2 * 9 * 99 and report.as_json()["shared"] == 2 * 9 * 99
    assert report.bytes_saved == 0
    again = await world.run()
    assert (again.files.unchanged, again.files.origin) == (4, 0)


async def test_without_the_policy_every_name_has_a_body_of_its_own(world: World) -> None:
    world.mirror = replace(world.mirror, storage=Storage())
    for name in (b"one", b"two"):
        world.memory.put(name, b"the same " * 99)
    report = await world.run()
    assert len(inodes(world, "one", "two")) == 2 and report.bytes_shared == 0


@pytest.fixture
def suite(world: World, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setattr(repositories, "PAUSES", (0.0, 0.0))
    world.mirror = replace(world.mirror, repositories=(Repository("apt"),))
    made = Suite(world)
    made.update("one", "two", "three")
    return made


def moved(world: World, suite: Suite, directory: bytes) -> list[bytes]:
    """All packages lie in another directory from now on, and the indexes say so."""
    pool = [path for path in suite.packages if path.startswith(b"pool/")]
    suite.packages = {path.replace(b"pool/", directory, 1): body for path, body in suite.packages.items()}
    suite.update()
    for path, body in suite.packages.items():
        world.memory.put(path, body, mtime=EPOCH + 100 * 10**9)
    for path in pool:
        world.memory.remove(path)
    return sorted(suite.packages)


@pytest.mark.parametrize("once", [Once.YES, Once.REFLINK])
async def test_a_directory_renamed_at_the_origin_moves_no_body(
    world: World, suite: Suite, once: Once
) -> None:
    """All paths are new, and the index of the repository has their digests."""
    world.mirror = replace(world.mirror, storage=Storage(once))
    await world.run()
    names = moved(world, suite, b"packages/")
    report = await world.run()
    assert (report.outcome, report.published) == ("complete", 1), report.errors
    assert not [path for path in world.memory.asked("read") if path in names]
    world.equal()
    assert report.bytes_saved >= sum(map(len, suite.packages.values()))
    assert (report.bytes_shared > 0) == (once is Once.YES)
    assert (await world.records())[names[0]].verified == "digest"


async def test_without_the_policy_it_is_fetched_anew(world: World, suite: Suite) -> None:
    world.mirror = replace(world.mirror, storage=Storage())
    await world.run()
    names = moved(world, suite, b"packages/")
    await world.run()
    assert sorted(path for path in world.memory.asked("read") if path in names) == names
    world.equal()


async def test_a_name_that_has_another_row_is_fetched(world: World, suite: Suite) -> None:
    """What its digest says is what is here: the index may be the old one, beside a new file."""
    await world.run()
    path = min(suite.packages)
    world.memory.update(path, suite.packages[path][::-1])
    report = await world.run()
    assert path in world.memory.asked("read") and report.outcome == "incomplete"
    assert (world.public / os.fsdecode(path)).read_bytes() == suite.packages[path]


async def test_what_is_damaged_here_is_no_reason_not_to_fetch(world: World, suite: Suite) -> None:
    await world.run()
    old = min(suite.packages)
    names = moved(world, suite, b"packages/")
    place = world.public / os.fsdecode(old)
    before = place.stat()
    with place.open("r+b") as damaged:
        damaged.write(b"X")
    os.utime(place, ns=(before.st_mtime_ns, before.st_mtime_ns))
    report = await world.run_unrecorded()
    assert [path for path in world.memory.asked("read") if path in names] == names[:1]
    assert report.outcome == "complete", report.errors
    world.equal()


async def test_of_two_new_names_with_one_digest_one_is_fetched(world: World, suite: Suite) -> None:
    body = b"a package of its own " * 99
    for name in (b"pool/four_2_all.deb", b"pool/copy_2_all.deb"):
        suite.packages[name] = body
    suite.update()
    for name in (b"pool/four_2_all.deb", b"pool/copy_2_all.deb"):
        world.memory.put(name, body, mtime=EPOCH)
    await world.run()  # roots are found by it: nothing is known beforehand
    body = body[::-1]
    for name in (b"pool/four_3_all.deb", b"pool/copy_3_all.deb"):
        suite.packages[name] = body
    suite.update()
    for name in (b"pool/four_3_all.deb", b"pool/copy_3_all.deb"):
        world.memory.put(name, body, mtime=EPOCH)
    report = await world.run()
    assert len([path for path in world.memory.asked("read") if b"_3_all" in path]) == 1, report.errors
    assert len(inodes(world, "pool/four_3_all.deb", "pool/copy_3_all.deb")) == 1
    world.equal()


async def test_names_by_digest_are_the_indexes_themselves(world: World, suite: Suite) -> None:
    """`by-hash/` takes no room: neither what is new nor what waits with its index for the switch."""
    await world.run()
    suite.update("two")
    report = await world.run()
    assert (report.outcome, report.published) == ("complete", 1), report.errors
    index = os.stat(world.public / os.fsdecode(INDEX))
    folder = world.public / os.fsdecode(INDEX.rpartition(b"/")[0]) / "by-hash/SHA256"
    assert index.st_ino in {os.stat(folder / name).st_ino for name in os.listdir(folder)}
    assert index.st_nlink == 2 and report.bytes_shared > 0
    world.equal()


@pytest.mark.parametrize("body", [b"small " * 99, LARGE], ids=["small", "large"])
async def test_what_a_sibling_holds_and_is_here_under_another_name_does_not_come(
    world: World, body: bytes
) -> None:
    """The sibling has been through the renamed directory: its record tells the digest."""
    sibling = world.sibling()
    world.memory.put(b"old/file", body)
    sibling.hold_all(world.memory)
    await world.run()
    sibling.delivered.clear()
    world.memory.remove(b"old/file")
    world.memory.put(b"new/file", body)
    world.memory.put(b"new/other", b"this one is new")
    sibling.files.clear()
    sibling.hold_all(world.memory)
    report = await world.run()
    assert sibling.delivered == [b"new/other"] and world.memory.asked("read") == []
    assert report.outcome == "complete" and report.bytes_saved == len(body)
    assert (await world.records())[b"new/file"].verified == "sibling oslo"
    world.equal()


async def test_of_what_a_sibling_holds_twice_one_body_comes(world: World) -> None:
    world.memory.put(b"first", b"so that something is here")
    await world.run()
    for name in (b"a/one", b"a/two", b"b/three"):
        world.memory.put(name, b"the same " * 99)
    sibling = world.sibling()
    sibling.hold_all(world.memory)
    report = await world.run()
    assert len(sibling.delivered) == 1 and world.memory.asked("read") == [], report.errors
    assert len(inodes(world, "a/one", "a/two", "b/three")) == 1
    world.equal()


async def test_another_mirror_has_the_packages(world: World, suite: Suite) -> None:
    await world.run()
    first = world.public
    world.mirror = replace(
        world.mirror, name="other", path="/other", origins=(OriginSpec("memory://elsewhere/"),)
    )
    world.neighbours = ("deb",)
    await world.run()  # finds the root; what came is one with what the other mirror has
    path = os.fsdecode(min(suite.packages))
    assert os.stat(first / path).st_ino == os.stat(world.public / path).st_ino
    world.equal()


async def test_one_of_two_names_is_hidden_by_its_origin(world: World) -> None:
    """A mode belongs to the file: the other name must not be hidden with it, nor shown with it later."""
    for name in (b"one", b"two"):
        world.memory.put(name, b"the same " * 99, mode=0o644)
    await world.run()
    assert len(inodes(world, "one", "two")) == 1
    world.memory.put(b"two", b"the same " * 99, mode=0o640)
    await world.run()
    assert (world.public / "one").stat().st_mode & 0o777 == 0o644
    assert (world.public / "two").stat().st_mode & 0o777 == 0o640
    world.equal()


async def test_one_of_two_names_is_linked_by_its_origin_later(world: World) -> None:
    """From then on its looks are those of its group, and nobody else's."""
    for name in (b"one", b"two"):
        world.memory.put(name, b"the same " * 99, mode=0o600)
    await world.run()
    assert len(inodes(world, "one", "two")) == 1
    world.memory.link(b"two", b"three")
    await world.run()
    assert inodes(world, "two") == inodes(world, "three") != inodes(world, "one")
    world.memory.put(b"two", b"the same " * 99, mode=0o644)
    world.memory.remove(b"three")
    world.memory.link(b"two", b"three")
    await world.run()
    assert (world.public / "one").stat().st_mode & 0o777 == 0o600
    assert (world.public / "two").stat().st_mode & 0o777 == 0o644
    world.equal()


async def test_people_are_told_where_nothing_can_be_shared(world: World) -> None:
    world.mirror = replace(world.mirror, storage=Storage(Once.REFLINK))
    for name in (b"one", b"two"):
        world.memory.put(name, b"the same " * 99)
    report = await world.run()
    assert any("shares no blocks" in note for note in report.notes), report.notes
    assert len(inodes(world, "one", "two")) == 2
