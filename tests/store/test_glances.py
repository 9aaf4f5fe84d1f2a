"""What one glance at a directory tells: that nothing has happened to it since it was seen, or nothing."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from cluster.model import Kind, Skipped
from cluster.store.mirror import Compared, View
from cluster.store.tree import Change
from tests.store.world import NOW, folder, full_pass, link, put

TOKEN = b"token and rules"


async def seen(store, *directories: bytes) -> None:
    """As after two passes that found everything in agreement."""
    for directory in directories:
        await store.agreed({directory: TOKEN})
        view = await store.view(directory)
        assert view.looks, "a view that agrees with the disk says how it looks"
        await store.seen({directory: (view.token, view.looks)})


async def full(store) -> None:
    await put(store, {b"a/one": b"1", b"a/two": b"22", b"a/below/x": b"x", b"b/y": b"y"})
    assert await store.publish([Change(b"a", link(b"link", b"one"))], {}, NOW) == [None]
    await seen(store, b"", b"a", b"b")


async def test_what_is_as_it_was_left_is_told_at_a_glance(world):
    async with world.store() as store:
        await full(store)
    async with world.store() as store:
        found = await store.glances([b"", b"a", b"b", b"a/below", b"no/where"])
        assert set(found) == {b"", b"a", b"b", b"no/where"}, "what was never seen needs a view"
        assert found[b"no/where"] == View({}, present=False)
        told = found[b"a"]
        assert (told.token, told.files, told.entries, told.skipped) == (TOKEN, 2, 4, 0)
        assert [held.name for held in told.directories] == [b"below"]
        assert told.directories[0] == (await store.view(b"a")).held[b"below"]


async def test_a_directory_that_is_new_and_empty_needs_no_second_look(world):
    async with world.store() as store:
        await put(store, {b"full/x": b"x"})
        assert await store.publish([Change(b"", folder(b"new")), Change(b"", folder(b"edited"))], {}, NOW)
        (world.public / "edited" / "stranger").write_bytes(b"y")
        (world.public / "unheard").mkdir()
        (world.public / "file").write_bytes(b"z")
        asked = [b"new", b"unheard", b"full", b"edited", b"file", b"file/below"]
        found = await store.glances(asked)
        assert found == {path: await store.view(path) for path in (b"new", b"unheard")}
        await store.compared(
            [Compared(b"new", skipped=(Skipped(b"s", Kind.FILE, "no"),))],
            await store.pass_begin(NOW, "f", "o"),
            NOW,
        )
        assert not await store.glances([b"new"])


def _grow(folder) -> None:
    before = (folder / "one").stat()
    (folder / "one").write_bytes(b"12")
    os.utime(folder / "one", ns=(before.st_mtime_ns, before.st_mtime_ns))


def _replace(folder) -> None:
    """Same size and time, another inode."""
    before = (folder / "one").stat()
    (folder / "new").write_bytes(b"2")
    os.utime(folder / "new", ns=(before.st_mtime_ns, before.st_mtime_ns))
    os.replace(folder / "new", folder / "one")


def _swap(folder) -> None:
    os.rename(folder / "one", folder / "t")
    os.rename(folder / "two", folder / "one")
    os.rename(folder / "t", folder / "two")


@pytest.mark.parametrize("before", ["seen", "only recorded"])
@pytest.mark.parametrize(
    "what",
    [
        lambda folder: os.utime(folder / "one", ns=(1, 1)),
        _grow,
        _replace,
        _swap,
        lambda folder: (folder / "one").unlink(),
        lambda folder: (folder / "mine").write_bytes(b"precious"),
        lambda folder: os.utime(folder / "below", ns=(1, 1)),
        lambda folder: os.rename(folder, folder.with_name("elsewhere")),
        lambda folder: (os.rename(folder, folder.with_name("c")), os.symlink("c", folder)),
    ],
    ids=["time", "size", "inode", "swapped", "gone", "stranger", "below", "moved", "link in its place"],
)
async def test_what_somebody_else_changed_needs_a_view(world, what, before):
    """HAZARDS 109."""
    async with world.store() as store:
        await full(store)
        if before == "only recorded":
            await store._records.write(lambda c, ids: c.execute("UPDATE directories SET looks = NULL"))
        what(world.public / "a")
        assert b"a" not in await store.glances([b"a", b"b"])
        assert b"b" in await store.glances([b"a", b"b"])


async def test_what_is_recorded_since_makes_what_was_seen_void(world):
    async with world.store() as store:
        await full(store)
        view = await store.view(b"a")
        await put(store, {b"a/three": b"3"})
        assert not await store.glances([b"a"])
        await store.seen({b"a": (view.token, view.looks)})
        await store.agreed({b"a": TOKEN})
        told = (await store.glances([b"a"]))[b"a"]
        assert (told.files, told.looks) == (3, (await store.view(b"a")).looks), "it was seen before"
        await seen(store, b"a")
        assert not (await store.glances([b"a"]))[b"a"].looks
        held = (await store.view(b"a")).held[b"one"]
        await store.refresh(b"a", [replace(held, settled=False)])
        assert not await store.glances([b"a"])


async def test_attributes_of_a_directory_below_make_what_was_seen_void(world):
    async with world.store() as store:
        await full(store)
        own = await store.held(b"a")
        changed = replace(own, mode=0o750)
        await put(store, {b"b/z": b"z"})
        assert await store.publish([], {b"a": changed}, NOW) == []
        told = (await store.glances([b""]))[b""]
        assert told.looks, "what was seen before does not count"
        assert {held.name: held.mode for held in told.directories}[b"a"] == 0o750


async def test_what_was_never_seen_but_is_as_recorded_needs_no_view(world):
    async with world.store() as store:
        await full(store)
        await put(store, {b"a/three": b"3"})
        await store.agreed({b"a": TOKEN})
        told, view = (await store.glances([b"a"]))[b"a"], await store.view(b"a")
        assert (told.files, told.entries, told.looks) == (3, 5, view.looks)
        assert [held.name for held in told.directories] == [b"below"]


@pytest.mark.parametrize("doubt", ["one", "link"])
async def test_what_is_doubted_needs_a_view_where_nothing_was_seen(world, doubt):
    async with world.store() as store:
        await full(store)
        await put(store, {b"a/three": b"3"})
        await store.agreed({b"a": TOKEN})
        await store._records.write(
            lambda c, ids: c.execute("UPDATE entries SET unknown = 1 WHERE name = ?", (doubt.encode(),))
        )
        assert not await store.glances([b"a"])


async def test_a_directory_with_something_to_be_said_about_it_needs_a_view(world):
    skipped = Skipped(b"big", Kind.FILE, "too large")
    async with world.store() as store:
        await full(store)
        await full_pass(store, NOW, Compared(b"a", skipped=(skipped,)))
        assert (await store.glances([b"a"]))[b"a"].skipped == 1
        await full_pass(store, NOW, Compared(b"a", missing=frozenset([b"one"])))
        assert not await store.glances([b"a"])
        await full_pass(store, NOW, Compared(b"b", failures=((b"y", "broken"),)))
        assert not await store.glances([b"b"])


async def test_nothing_is_noted_of_how_a_directory_looks_that_is_not_as_recorded(world):
    async with world.store() as store:
        await full(store)
        (world.public / "a" / "mine").write_bytes(b"precious")
        assert not (await store.view(b"a")).looks
        os.utime(world.public / "b", ns=(1, 1))
        assert not (await store.view(b"")).looks
