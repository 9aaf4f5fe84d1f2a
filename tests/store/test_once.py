"""Content that is here gets a second name: by shared blocks, by a link or as a copy, and never unread."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from cluster.model import Held, Mirror, Once, OriginSpec, Stamp, Storage, join, split
from cluster.store import linux, sharing
from cluster.store.mirror import MirrorStore
from cluster.store.once import Need, StoredOnce
from cluster.store.sharing import Shared
from cluster.store.tree import Change
from tests.store.trees import file_system
from tests.store.world import NOW, TIME, World, file, folder, put

BODY = b"the same in two places " * 1000
SHA256 = hashlib.sha256(BODY).digest()


@asynccontextmanager
async def opened(
    world: World, once: Once = Once.YES, *neighbours: str
) -> AsyncIterator[tuple[MirrorStore, StoredOnce]]:
    world.mirror = replace(world.mirror, storage=Storage(once))
    async with world.store() as store:
        asked = store.stored_once(world.site, neighbours, once, parts=False)
        try:
            yield store, asked
        finally:
            await asked.close()


async def stage(
    once: StoredOnce, path: bytes, body: bytes = BODY, *, copy: bool = True, avoid: int = 0, **facts: object
) -> Shared | None:
    held = file(split(path)[1], body, **facts)
    assert held.sha256 is not None
    (shared,) = await once.stage([Need(path, held, avoid)], await once.find([held.sha256]), copy=copy)
    return shared


async def publish(store: MirrorStore, path: bytes, shared: Shared | None) -> Held:
    assert shared is not None
    change = Change(split(path)[0], shared.staged.held, previous=await store.held(path), staged=shared.staged)
    assert await store.publish([change], {}, NOW) == [None]
    held = await store.held(path)
    assert held is not None
    return held


def shape(world: World, path: bytes) -> os.stat_result:
    return os.stat(world.public / os.fsdecode(path))


def settle(world: World) -> None:
    """What is free is told when everything has been written."""
    folder = os.open(world.public, os.O_RDONLY)
    linux.syncfs(folder)
    os.close(folder)


def in_the_way(world: World) -> list[str]:
    return os.listdir(world.top / "data/.sideways/tmp/deb")


@pytest.fixture
def no_reflink(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that cannot, whatever the tests run on."""

    def refused(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(sharing.fcntl, "ioctl", refused)


pytestmark = pytest.mark.usefixtures("no_reflink")


async def test_a_file_that_looks_alike_is_one_file_with_two_names(world: World) -> None:
    async with opened(world) as (store, once):
        await put(store, {b"a/one": BODY})
        shared = await stage(once, b"a/two")
        assert shared is not None and shared.room == len(BODY)
        held = await publish(store, b"a/two", shared)
        assert shape(world, b"a/one").st_ino == shape(world, b"a/two").st_ino == held.inode
        assert shape(world, b"a/two").st_nlink == 2
        assert not (view := await store.view(b"a")).damaged and not view.strangers
        assert in_the_way(world) == []


@pytest.mark.parametrize(
    "facts",
    [{"mode": 0o640}, {"mtime": Stamp(TIME.ns + 10**9)}, {"link": "7:1"}],
    ids=["mode", "time", "linked by the origin"],
)
async def test_a_file_that_looks_otherwise_is_copied(world: World, facts: dict[str, object]) -> None:
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        assert await stage(once, b"two", copy=False, **facts) is None
        shared = await stage(once, b"two", **facts)
        assert shared is not None and shared.room == 0
        held = await publish(store, b"two", shared)
        assert (world.public / "two").read_bytes() == BODY
        assert shape(world, b"one").st_nlink == 1 and held.mtime == facts.get("mtime", TIME)
        assert in_the_way(world) == []


async def test_names_that_the_origin_links_are_linked(world: World) -> None:
    """As `by-hash/` is linked with its indexes."""
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY}, link="7:1")
        assert await stage(once, b"two", copy=False, link="7:2") is None
        await publish(store, b"two", await stage(once, b"two", copy=False, link="7:1"))
        assert shape(world, b"two").st_nlink == 2


async def test_reflink_alone_never_links(world: World) -> None:
    async with opened(world, Once.REFLINK) as (store, once):
        await put(store, {b"one": BODY})
        shared = await stage(once, b"two")
        assert shared is not None and shared.room == 0 and once.apart
        await publish(store, b"two", shared)
        assert shape(world, b"one").st_nlink == 1


async def test_a_file_edited_in_place_gets_no_second_name_and_is_doubted(world: World) -> None:
    """Size, time and inode are as recorded: only its bytes tell."""
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        before = shape(world, b"one")
        with open(world.public / "one", "r+b") as damaged:
            damaged.write(b"X")
        os.utime(world.public / "one", ns=(before.st_mtime_ns, before.st_mtime_ns))
        assert await stage(once, b"two") is None
        held = await store.held(b"one")
        assert held is not None and held.unknown
        assert in_the_way(world) == []
        await put(store, {b"three": BODY})
        await publish(store, b"two", await stage(once, b"two"))
        assert (world.public / "two").read_bytes() == BODY


async def test_a_file_that_is_not_as_recorded_is_not_read(world: World) -> None:
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        (world.public / "one").unlink()
        (world.public / "one").write_bytes(BODY)
        assert await stage(once, b"two") is None


@pytest.mark.parametrize("code", [errno.EMLINK, errno.EXDEV, errno.EPERM])
async def test_what_cannot_be_linked_is_copied(
    world: World, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        monkeypatch.setattr(sharing.os, "link", refused)
        shared = await stage(once, b"two")
        assert shared is not None and shared.room == 0


async def test_a_file_whose_links_are_used_up_is_passed_over_for_the_newest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, full = os.link, 0

    def limited(source: str, name: bytes, **places: int) -> None:
        if os.stat(source).st_ino == full:
            raise OSError(errno.EMLINK, "too many links")
        link(source, name, **places)

    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        full = shape(world, b"one").st_ino
        monkeypatch.setattr(sharing.os, "link", limited)
        shared = await stage(once, b"two")
        assert shared is not None
        once.note([(b"two", shared.staged)])
        await publish(store, b"two", shared)
        third = await publish(store, b"three", await stage(once, b"three"))
        assert third.inode == shape(world, b"two").st_ino != full


async def test_what_is_on_its_way_to_its_name_counts(world: World) -> None:
    """Before it is in the records, under its name and in between."""
    async with opened(world) as (store, once):
        held = file(b"one", BODY)
        (staged,) = await store.stage_small([(held, BODY)])
        assert await stage(once, b"two") is None
        once.note([(b"one", staged)])
        first = await stage(once, b"two")
        assert await store.publish([Change(b"", staged.held, staged=staged)], {}, NOW) == [None]
        await publish(store, b"two", first)
        assert shape(world, b"one").st_nlink == 2


async def test_what_waits_for_its_state_counts(world: World) -> None:
    async with opened(world) as (store, once):
        (staged,) = await store.stage_small([(file(b"one", BODY), BODY)])
        await store.repositories.keep([(b"dists", staged)])
        held = await publish(store, b"two", await stage(once, b"two"))
        assert held.inode == staged.inode


async def test_nobody_pays_for_what_nobody_asks(world: World) -> None:
    def indexes() -> set[str]:
        with contextlib.closing(sqlite3.connect(world.top / "state/deb.db")) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%content'")
            return {name for (name,) in found}

    for policy, wanted in (
        (Once.NO, set()),
        (Once.YES, {"entries_content", "waiting_content"}),
        (Once.NO, set()),
    ):
        async with opened(world, policy) as (store, once):
            await put(store, {policy.encode(): BODY})
            assert bool(await once.find([SHA256]) != [[]]) == bool(wanted)
        assert indexes() == wanted


async def test_a_name_that_goes_takes_nothing_with_it(world: World) -> None:
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        await publish(store, b"two", await stage(once, b"two"))
        (world.public / "one").unlink()
        assert (world.public / "two").read_bytes() == BODY
        assert await stage(once, b"three", copy=False) is not None


async def test_a_name_that_is_to_look_otherwise_gets_a_body_of_its_own(world: World) -> None:
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        two = await publish(store, b"two", await stage(once, b"two"))
        hidden = replace(two, mode=0o600, private=True)
        assert await store.publish([Change(b"", hidden, previous=two, attributes=True)], {}, NOW) == [None]
        assert shape(world, b"one").st_mode & 0o777 == 0o644
        assert shape(world, b"two").st_mode & 0o777 == 0o600
        assert shape(world, b"one").st_nlink == 1 and (world.public / "two").read_bytes() == BODY
        assert not (await store.view(b"")).damaged and in_the_way(world) == []


async def test_a_name_that_is_to_look_as_it_does_stays_linked(world: World) -> None:
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        two = await publish(store, b"two", await stage(once, b"two"))
        assert await store.publish([Change(b"", two, previous=two, attributes=True)], {}, NOW) == [None]
        assert shape(world, b"two").st_nlink == 2


async def test_a_name_replaced_by_its_own_file_leaves_no_temporary(world: World) -> None:
    """rename(2) does nothing where both names are one file."""
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        await publish(store, b"two", await stage(once, b"two"))
        await publish(store, b"two", await stage(once, b"two"))
        assert in_the_way(world) == [] and shape(world, b"two").st_nlink == 2


async def test_a_name_never_becomes_the_file_that_it_is(world: World) -> None:
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        assert await stage(once, b"one", copy=False, avoid=shape(world, b"one").st_ino) is None


async def test_a_crash_between_the_link_and_the_name_leaves_one_name(world: World) -> None:
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        assert await stage(once, b"two") is not None
        assert shape(world, b"one").st_nlink == 2
    async with opened(world):
        assert in_the_way(world) == [] and shape(world, b"one").st_nlink == 1


# -- other mirrors


def neighbour(world: World, once: Once = Once.YES) -> World:
    other = World(world.top)
    other.mirror = Mirror(
        "ubuntu", "/ubuntu", (OriginSpec("http://other.example/"),), sites=("kent",), storage=Storage(once)
    )
    return other


async def held_by(other: World, path: bytes, **facts: object) -> None:
    async with other.store() as store:
        await put(store, {path: BODY}, **facts)


async def test_another_mirror_of_the_site_may_have_it(world: World) -> None:
    await held_by(neighbour(world), b"pool/one")
    async with opened(world, Once.YES, "ubuntu") as (store, once):
        await publish(store, b"two", await stage(once, b"two"))
    assert os.stat(world.top / "data/ubuntu/pool/one").st_ino == shape(world, b"two").st_ino


async def test_a_mirror_that_does_not_say_so_is_not_looked_into(world: World) -> None:
    await held_by(neighbour(world, Once.NO), b"pool/one")
    async with opened(world, Once.YES, "ubuntu", "none-of-that-name") as (_, once):
        assert await stage(once, b"two") is None


async def test_what_another_origin_keeps_from_the_world_is_not_taken(world: World) -> None:
    await held_by(neighbour(world), b"pool/one", mode=0o640, private=True)
    async with opened(world, Once.YES, "ubuntu") as (_, once):
        assert await stage(once, b"two") is None


async def test_nor_what_lies_in_a_directory_that_it_keeps_from_the_world(world: World) -> None:
    other = neighbour(world)
    async with other.store() as store:
        hidden = folder(b"staged", mode=0o750, private=True)
        assert await store.publish([Change(b"", hidden)], {}, NOW) == [None]
        await put(store, {join(b"staged", b"one"): BODY})
    async with opened(world, Once.YES, "ubuntu") as (_, once):
        assert await stage(once, b"two") is None


# -- shared blocks


@pytest.fixture(params=["btrfs", "xfs"])
def sharing_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.undo()
    with file_system(request.param) as top:
        (top / "data").mkdir()
        yield World(top)


async def test_blocks_are_shared_where_the_file_system_can(sharing_disk: World) -> None:
    """Two files that look different, in the room of one."""
    world, body = sharing_disk, os.urandom(8 * 2**20)
    async with opened(world) as (store, once):
        await put(store, {b"one": body})
        settle(world)
        before = os.statvfs(world.public)
        for number in range(3):
            name = b"%d" % number
            shared = await stage(once, name, body, copy=False, mtime=Stamp(TIME.ns + 10**9), mode=0o664)
            assert shared is not None and shared.room == len(body)
            await publish(store, name, shared)
        settle(world)
        after = os.statvfs(world.public)
        assert (before.f_bavail - after.f_bavail) * after.f_frsize < len(body)
        assert shape(world, b"1").st_nlink == 1 and (world.public / "1").read_bytes() == body
        with open(world.public / "one", "r+b") as edited:
            edited.write(b"X")
        assert (world.public / "1").read_bytes() == body


async def test_what_shares_blocks_with_a_damaged_file_is_not_published(sharing_disk: World) -> None:
    world = sharing_disk
    async with opened(world) as (store, once):
        await put(store, {b"one": BODY})
        before = shape(world, b"one")
        with open(world.public / "one", "r+b") as damaged:
            damaged.write(b"X")
        os.utime(world.public / "one", ns=(before.st_mtime_ns, before.st_mtime_ns))
        assert await stage(once, b"two", mode=0o664) is None
        assert in_the_way(world) == []
