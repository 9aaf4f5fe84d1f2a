"""Deletions: what is due, what is held, what an approval does, and that a plan goes whole or not at all."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from cluster.errors import StoreError, UsageError
from cluster.model import Deletion, Kind
from cluster.store.mirror import Compared
from cluster.store.tree import Change
from tests.store.world import NOW, changes, file, put

ORIGIN = "http://origin.example/"
AT_ONCE = Deletion(hold_files=3, sightings=1, grace=0, emptied_after=0)
TREE = {b"a/%d" % i: b"x" * i for i in range(5)} | {b"b/y": b"yy", b"z": b""}


async def missed(store, now: int, missing: dict[bytes, set[bytes]], policy: Deletion = AT_ONCE):
    """A complete pass that misses these names; the plan at its end."""
    record = await store.pass_begin(now, "f", ORIGIN)
    results = [Compared(d, missing=frozenset(names), entries_listed=1) for d, names in missing.items()]
    await store.compared(results, record, now)
    plan = await store.plan(record, policy, now)
    await store.pass_end(record, "held" if plan.held_because else "complete", {}, now)
    return plan


async def test_a_plan_moves_names_to_the_trash_with_their_paths(world):
    async with world.store() as store:
        await put(store, TREE)
        plan = await missed(store, NOW, {b"a": {b"1", b"2"}, b"": {b"b"}})
        assert (plan.items, plan.files, plan.bytes, plan.held_because) == (3, 3, 5, "")
        assert [p.path for p in plan.sample] == [b"a/1", b"a/2", b"b"]
        assert await store.delete(plan, NOW + 5) == (3, 5)
        assert set(world.bodies()) == {b"a/0", b"a/3", b"a/4", b"z"}
        trash = world.top / f"data/.sideways/trash/deb/{NOW + 5}"
        assert (trash / "b/y").read_bytes() == b"yy" and (trash / "a/1").exists()
        view = await store.view(b"")
        assert set(view.held) == {b"a", b"z"} and not view.strangers and not view.missing
        assert (await store.totals()).files == 4
        assert await store.held(b"b/y") is None
        async with world.reader() as reader:
            gone = [(r.path, r.kind) async for r in reader.journal() if r.action == "delete"]
            assert gone == [(b"a/1", Kind.FILE), (b"a/2", Kind.FILE), (b"b", Kind.DIRECTORY)]
            assert await reader.directory(b"b") is None
        await store.empty_trash(NOW + 4)
        assert trash.exists()
        await store.empty_trash(NOW + 5)
        assert not trash.exists()


async def test_names_wait_for_their_sightings_and_their_grace(world):
    policy = Deletion(sightings=2, grace=1000)
    async with world.store() as store:
        await put(store, TREE)
        for now, items, waiting in ((0, 0, 1), (500, 0, 1), (999, 0, 1), (1000, 1, 0)):
            plan = await missed(store, NOW + now, {b"a": {b"1"}}, policy)
            assert (plan.items, plan.waiting) == (items, waiting)
        assert (await store.view(b"a")).missing == {b"1"}


async def test_one_pass_that_compares_twice_is_one_sighting(world):
    policy = Deletion(sightings=2, grace=0)
    async with world.store() as store:
        await put(store, TREE)
        record = await store.pass_begin(NOW, "f", ORIGIN)
        for _ in range(3):
            await store.compared([Compared(b"a", missing=frozenset([b"1"]))], record, NOW)
        assert (await store.plan(record, policy, NOW)).items == 0


async def test_a_name_that_came_back_begins_anew(world):
    policy = Deletion(sightings=2, grace=0)
    async with world.store() as store:
        await put(store, TREE)
        await missed(store, NOW, {b"a": {b"1"}}, policy)
        await missed(store, NOW, {b"a": set()}, policy)
        assert not (await store.view(b"a")).missing
        assert (await missed(store, NOW, {b"a": {b"1"}}, policy)).items == 0


async def test_only_what_this_pass_missed_may_go(world):
    """A directory that could not be listed this time proves nothing, whatever was missed before."""
    async with world.store() as store:
        await put(store, TREE)
        assert (await missed(store, NOW, {b"a": {b"1"}})).items == 1
        record = await store.pass_begin(NOW + 1, "f", ORIGIN)
        await store.compared([Compared(b"a", failures=((b"", "503"),), complete=False)], record, NOW + 1)
        assert (await store.view(b"a")).missing == {b"1"}
        assert (await store.plan(record, AT_ONCE, NOW + 1)).items == 0


async def test_a_plan_that_is_held_deletes_nothing_until_it_is_approved(world):
    missing = {b"a": {b"0", b"1", b"2", b"3"}}
    async with world.store() as store:
        await put(store, TREE)
        plan = await missed(store, NOW, missing)
        assert plan.held_because.startswith("4 of 7 files")
        with pytest.raises(StoreError, match="held"):
            await store.delete(plan, NOW)
        with pytest.raises(StoreError, match="held"):
            await store.delete(replace(plan, held_because=""), NOW)
        assert len(world.bodies()) == 7
        with pytest.raises(UsageError):
            await store.approve("0" * 64, NOW)
        assert (await missed(store, NOW + 1, missing)).hash == plan.hash
    async with world.store() as store:
        assert (await store.held_plan()).hash == plan.hash
        approved = await store.approve(plan.hash, NOW + 2)
        assert await store.held_plan() is None
        again = await missed(store, NOW + 3, missing)
        assert not again.held_because and again.hash == approved.hash
        assert await store.delete(approved, NOW + 4) == (4, 6)
        assert len(world.bodies()) == 3
        with pytest.raises(UsageError):
            await store.approve(plan.hash, NOW + 5)
        with pytest.raises(StoreError):
            await store.delete(approved, NOW + 5)


async def test_an_approval_is_for_one_set_of_names_and_contents(world):
    missing = {b"a": {b"0", b"1", b"2", b"3"}}
    async with world.store() as store:
        await put(store, TREE)
        plan = await missed(store, NOW, missing)
        await store.approve(plan.hash, NOW)
        more = await missed(store, NOW, {b"a": {b"0", b"1", b"2", b"3", b"4"}})
        assert more.held_because and more.hash != plan.hash
        await put(store, {b"a/4": b"other"})
        assert (await missed(store, NOW, {b"a": {b"0", b"1", b"2", b"3", b"4"}})).hash != more.hash


async def test_a_plan_with_a_name_that_came_back_deletes_nothing(world):
    async with world.store() as store:
        await put(store, TREE)
        plan = await missed(store, NOW, {b"a": {b"1", b"2"}})
        record = await store.pass_begin(NOW, "f", ORIGIN)
        await store.compared([Compared(b"a", missing=frozenset([b"2"]))], record, NOW)
        with pytest.raises(StoreError, match="came back"):
            await store.delete(plan, NOW)
        assert len(world.bodies()) == 7


async def test_a_plan_whose_directory_changed_deletes_nothing(world):
    async with world.store() as store:
        await put(store, TREE)
        plan = await missed(store, NOW, {b"": {b"b"}})
        await put(store, {b"b/new": b"1"})
        with pytest.raises(StoreError, match="changed"):
            await store.delete(plan, NOW)
        assert b"b/y" in world.bodies()


async def test_an_empty_listing_of_the_root_is_for_the_operator(world):
    async with world.store() as store:
        await put(store, {b"x": b"", b"y": b""})
        record = await store.pass_begin(NOW, "f", ORIGIN)
        await store.compared([Compared(b"", missing=frozenset([b"x", b"y"]))], record, NOW)
        assert "root" in (await store.plan(record, AT_ONCE, NOW)).held_because


async def test_an_emptied_directory_needs_two_listings_apart(world):
    """HAZARDS 27, in a directory that is small beside its mirror."""
    policy = Deletion(hold_files=100, sightings=1, grace=0, emptied_after=3600)
    names = {b"%d" % i for i in range(10)}
    async with world.store() as store:
        await put(store, {b"e/" + name: b"" for name in names} | TREE)
        assert (await missed(store, NOW, {b"e": names}, policy)).waiting == 10
        assert (await missed(store, NOW + 3599, {b"e": names}, policy)).items == 0
        assert (await missed(store, NOW + 3600, {b"e": names}, policy)).items == 10


async def test_what_this_pass_brought_does_not_hide_that_a_directory_was_emptied(world):
    policy = Deletion(sightings=1, grace=0, emptied_after=3600)
    names = {b"%d" % i for i in range(10)}
    async with world.store() as store:
        await put(store, {b"e/" + name: b"" for name in names}, copied=NOW - 100)
        record = await store.pass_begin(NOW, "f", ORIGIN)
        await put(store, {b"e/maintenance.html": b"sorry"}, copied=NOW + 1)
        await store.compared([Compared(b"e", missing=frozenset(names), entries_listed=1)], record, NOW + 2)
        assert (await store.plan(record, policy, NOW + 2)).waiting == 10


async def test_slow_burning_is_held_within_the_window_and_forgotten_after_it(world):
    policy = Deletion(hold_files=3, hold_share=1.0, sightings=1, grace=0, emptied_after=0)
    async with world.store() as store:
        await put(store, {b"a/%02d" % i: b"" for i in range(20)})
        plan = await missed(store, NOW, {b"a": {b"%02d" % i for i in range(6)}}, policy)
        assert await store.delete(plan, NOW) == (6, 0)
        one = {b"a": {b"06"}}
        assert "7 of 20 files" in (await missed(store, NOW + 604_799, one, policy)).held_because
        assert not (await missed(store, NOW + 604_800, one, policy)).held_because


async def test_a_rename_that_fails_is_told_and_tried_again(world):
    async with world.store() as store:
        await put(store, TREE)
        plan = await missed(store, NOW, {b"a": {b"1", b"2"}})
        trash = store._tree.trash
        store._tree.trash = lambda paths, now: [  # type: ignore[method-assign]
            StoreError("a/1: Input/output error") if p == b"a/1" else trash([p], now)[0] for p in paths
        ]
        assert (await store.delete(plan, NOW))[0] == 2
        view = await store.view(b"a")
        assert not view.strangers and b"1" not in view.held
        assert [(f.name, "Input/output" in f.error) for f in view.failures] == [(b"1", True)]
        (refused,) = await store.publish(await changes(store, {b"a/1": b"new"}), {}, NOW)
        assert "not finished" in str(refused)
        store._tree.trash = trash  # type: ignore[method-assign]
        await put(store, {b"a/1": b"new"})
        assert world.bodies()[b"a/1"] == b"new" and b"a/2" not in world.bodies()


async def test_a_directory_can_become_a_file_once_it_is_deleted(world):
    async with world.store() as store:
        await put(store, TREE)
        await store.delete(await missed(store, NOW, {b"": {b"b"}}), NOW)
        await put(store, {b"b": b"now a file"})
        assert (await store.held(b"b")).kind is Kind.FILE
        assert os.path.isfile(world.public / "b")


async def test_symlinks_count_when_a_plan_is_judged(world):
    async with world.store() as store:
        links = [file(b"l%d" % i, b"") for i in range(8)]
        batch = [Change(b"", replace(one, kind=Kind.SYMLINK, sha256=None, target=b"t")) for one in links]
        assert set(await store.publish(batch, {}, NOW)) == {None}
        await put(store, {b"f": b"x"})
        plan = await missed(store, NOW, {b"": {one.name for one in links}})
        assert plan.files == 8 and plan.held_because.startswith("8 of 9 files")
