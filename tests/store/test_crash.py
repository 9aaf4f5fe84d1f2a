"""The program dies at each of its effects, one after the other; opened again, the invariants hold
(HAZARDS 3.2-3.4, 103, 111)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Awaitable, Callable

import pytest

from cluster.model import Deletion, split
from cluster.store.mirror import Batch, Compared, MirrorStore
from cluster.store.tree import Change
from tests.store.crash import Died, Fuse, arm, bury, check
from tests.store.world import NOW, World, changes, file, folder, link, listed, put

OLD = {b"a/one": b"1", b"a/two": b"22", b"a/b/three": b"333", b"a/b/gone": b"4444"}
NEW = {b"a/one": b"one", b"a/b/three": b"new", b"a/new": b"new", b"c/first": b"first"}
AT_ONCE = Deletion(hold_files=1000, sightings=1, grace=0, emptied_after=0)


async def _prepare(world: World) -> None:
    async with world.store() as store:
        await put(store, OLD)
        await store.write_status()


async def _publish(store: MirrorStore) -> None:
    """Replaced files, new ones, a directory with one in it, links, attributes: one batch."""
    files = await changes(store, NEW)
    directory = Change(b"", folder(b"c"))
    symlink = Change(b"a", link(b"link", b"one"))
    hard = Change(b"a", file(b"hard", b"22", link="7:7"), link_to=b"a/two")
    await store.publish([directory, *files, symlink, hard], {b"a": folder(b"a")}, NOW + 50)
    await store.write_status()


async def _publish_on(store: MirrorStore) -> None:
    """Much the same in three batches, each of which follows the one before."""
    files = await changes(store, NEW)
    directory = Change(b"", folder(b"c"))
    hard = Change(b"a", file(b"hard", b"22", link="7:7"), link_to=b"a/two")
    outcomes: list[list[Exception | None]] = []
    batches = [
        Batch(some, {b"a": folder(b"a")}, NOW + 50, outcomes.append)
        for some in ([directory, *files[:1]], files[1:3], [*files[3:], hard])
    ]
    left = iter(batches[1:])
    await store.publish_all(batches[0], lambda: next(left, None))
    assert outcomes == [[None] * len(batch.changes) for batch in batches]
    await store.write_status()


async def _delete(store: MirrorStore) -> None:
    missing = [Compared(b"", missing=frozenset([b"a"]), entries_listed=1)]
    record = await store.pass_begin(NOW, "f", "http://origin.example/")
    await store.compared(missing, record, NOW)
    plan = await store.plan(record, AT_ONCE, NOW)
    assert not plan.held_because and plan.items == 1
    assert await store.delete(plan, NOW) == (4, 10)
    await store.write_status()


async def _delete_some(store: MirrorStore) -> None:
    missing = [
        Compared(b"a", missing=frozenset([b"two", b"one"]), entries_listed=1),
        Compared(b"a/b", missing=frozenset([b"gone"]), entries_listed=1),
    ]
    record = await store.pass_begin(NOW, "f", "http://origin.example/")
    await store.compared(missing, record, NOW)
    await store.delete(await store.plan(record, AT_ONCE, NOW), NOW)


VERSIONS = {path: {OLD[path]} for path in OLD}
for _path, _body in NEW.items():
    VERSIONS.setdefault(_path, set()).add(_body)
VERSIONS[b"a/hard"] = {b"22"}

Story = Callable[[MirrorStore], Awaitable[None]]


async def _die(world: World, story: Story, length: int) -> Fuse:
    store = await MirrorStore.open(world.mirror, world.site, NOW)
    fuse = Fuse(length)
    arm(store, fuse)
    try:
        await story(store)
    except BaseException as error:
        if not fuse.dead:
            raise
        assert isinstance(error, Died) or fuse.dead
    await bury(store)
    return fuse


def check_status(world: World) -> None:
    """No status file names a file that is not there, or with other content."""
    on_disk = world.bodies()
    for where, _, names in os.walk(world.status / "deb"):
        for name in names:
            with open(os.path.join(where, name)) as opened:
                status = json.load(opened)
            for entry in status["entries"]:
                if entry["kind"] != "file" or entry.get("unknown"):
                    continue
                path = os.path.join(os.fsencode(status["href"]), os.fsencode(entry["href"])).lstrip(b"/")
                assert hashlib.sha256(on_disk[path]).hexdigest() == entry["sha256"], path


@pytest.mark.parametrize("story", [_publish, _publish_on, _delete, _delete_some])
async def test_dying_at_any_effect_leaves_an_honest_store(tmp_path, story):
    deaths = 0
    for length in range(200):
        top = tmp_path / str(length)
        (top / "data").mkdir(parents=True)
        world = World(top)
        await _prepare(world)
        fuse = await _die(world, story, length)
        async with world.store(NOW + 100) as store:
            await check(world, store, VERSIONS)
            check_status(world)
            assert os.listdir(world.top / "data/.sideways/tmp/deb") == []
            if story in (_publish, _publish_on):
                for path in OLD:
                    assert await store.held(path) is not None
            await _heals(world, store)
            await check(world, store, VERSIONS)
        if not fuse.dead:
            break
        deaths += 1
    assert deaths == length
    assert deaths > 8, fuse.log


async def _heals(world: World, store: MirrorStore) -> None:
    """A pass after the crash brings the tree to the new versions without anybody's help."""
    for path, body in NEW.items():
        directory, name = split(path)
        if await store.held(split(directory)[0] + directory) is None:
            above = await store.publish([Change(split(directory)[0], folder(split(directory)[1]))], {}, NOW)
            assert above == [None]
        view = await store.view(directory)
        if name in view.strangers or name in view.damaged:
            found = await store.adopt(directory, listed(name, body))
            if found is not None:
                change = Change(directory, found, previous=view.held.get(name), attributes=True)
                assert await store.publish([change], {}, NOW) == [None]
                continue
        known = view.held.get(name)
        if known is not None and not known.unknown and known.sha256 == hashlib.sha256(body).digest():
            continue
        await put(store, {path: body})
    for path, body in NEW.items():
        held = await store.held(path)
        assert held is not None and held.sha256 == hashlib.sha256(body).digest() and not held.unknown


async def test_the_effects_of_a_batch_come_in_their_order(world):
    await _prepare(world)
    async with world.store() as store:
        fuse = Fuse(10**6)
        arm(store, fuse)
        await store.publish(await changes(store, {b"a/one": b"x"}), {}, NOW)
        assert fuse.log == ["stage_small", "commit", "sync", "apply", "settle", "commit"]


async def test_a_batch_that_follows_another_shares_its_sync_and_its_commit(world):
    await _prepare(world)
    async with world.store() as store:
        batches = [
            Batch(await changes(store, {path: b"x"}), {}, NOW, lambda _: None)
            for path in (b"a/one", b"a/two", b"a/b/three")
        ]
        left = iter(batches[1:])
        fuse = Fuse(10**6)
        arm(store, fuse)
        await store.publish_all(batches[0], lambda: next(left, None))
        follows = ["apply", "settle_with", "commit"]
        assert fuse.log == ["commit", "sync", *follows, *follows, "apply", "settle", "commit"]


async def test_the_effects_of_a_deletion_come_in_their_order(world):
    await _prepare(world)
    async with world.store() as store:
        record = await store.pass_begin(NOW, "f", "o")
        await store.compared([Compared(b"a", missing=frozenset([b"one"]), entries_listed=9)], record, NOW)
        plan = await store.plan(record, AT_ONCE, NOW)
        fuse = Fuse(10**6)
        arm(store, fuse)
        await store.delete(plan, NOW)
        told = [effect for effect in fuse.log if effect != "note"]
        assert told == ["commit", "write", "remove", "trash", "scan", "settle", "commit"]


async def test_no_deletion_is_derived_from_a_directory_before_it_was_listed_again(world):
    """The pass goes on after the crash; what it missed before proves nothing any more."""
    await _prepare(world)
    missing = [Compared(b"a", missing=frozenset([b"two"]), entries_listed=9)]
    record = None

    async def miss_and_publish(store: MirrorStore) -> None:
        nonlocal record
        record = await store.pass_begin(NOW, "f", "o")
        await store.compared(missing, record, NOW)
        await store.publish(await changes(store, {b"a/one": b"one"}), {}, NOW)

    for length in range(3, 8):
        if (await _die(world, miss_and_publish, length)).log[-1] == "apply":
            break
    async with world.store() as store:
        again = await store.pass_begin(NOW + 60, "f", "o")
        assert again.resumed and again.id == record.id
        assert (await store.plan(again, AT_ONCE, NOW + 60)).items == 0
        await store.compared(missing, again, NOW + 60)
        assert (await store.plan(again, AT_ONCE, NOW + 60)).items == 1


async def test_what_else_was_changed_where_a_batch_died_is_doubted(world):
    await _prepare(world)

    async def publish(store: MirrorStore) -> None:
        await store.publish(await changes(store, {b"a/one": b"one"}), {}, NOW)

    assert (await _die(world, publish, 4)).log[-1] == "apply"
    (world.public / "a/two").write_bytes(b"edited")
    async with world.store() as store:
        held = (await store.view(b"a")).held
        assert held[b"two"].unknown and not held[b"one"].unknown
        assert held[b"one"].size == 3
