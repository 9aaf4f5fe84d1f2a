"""What a batch leaves behind: names on disk, records, journal, digests; and what a view tells of it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Blocked, StoreError
from cluster.model import Deletion, Held, Kind, Row, Stamp
from cluster.store import publishing
from cluster.store.digest import EMPTY, directory_digest
from cluster.store.mirror import Batch, Compared, MirrorStore
from cluster.store.publishing import staged_in
from cluster.store.tree import Change
from tests.store.world import NOW, TIME, changes, file, folder, link, listed, put


async def test_published_files_are_held_and_on_disk(world):
    async with world.store() as store:
        await put(store, {b"a/one": b"1", b"two": b"22"})
        view = await store.view(b"a")
        assert list(view.held) == [b"one"] and not view.damaged and not view.strangers and view.present
        assert world.bodies() == {b"a/one": b"1", b"two": b"22"}
        assert (await store.totals()).files == 2 and (await store.totals(b"a")).bytes == 1


async def test_every_fact_of_a_record_comes_back(world):
    odd = Stamp(-(2**31) * 10**9 + 5, 60 * 10**9)
    facts = {
        "mtime": TIME,
        "row": Row(None, "1.2M", odd),
        "mode": 0o600,
        "uid": 2**32 - 2,
        "gid": 7,
        "link": "5:6",
        "etag": '"\udcff"',
        "settled": False,
        "source": "lancaster",
        "verified": "sibling lancaster",
        "copied": 12,
    }
    async with world.store() as store:
        await put(store, {b"\xff\n": b"x"}, **facts)
        held = await store.held(b"\xff\n")
        assert replace(held, disk_mtime=0, inode=0, private=False) == file(b"\xff\n", b"x", **facts)
        assert held.private


async def test_a_stranger_is_left_alone_and_the_rest_is_published(world):
    async with world.store() as store:
        (world.public / "mine").write_bytes(b"precious")
        first, second = await store.publish(await changes(store, {b"mine": b"x", b"new": b"y"}), {}, NOW)
        assert isinstance(first, Blocked) and second is None
        assert world.bodies() == {b"mine": b"precious", b"new": b"y"}
        assert await store.held(b"mine") is None


async def test_what_somebody_else_changed_is_seen(world):
    """HAZARDS 109."""
    async with world.store() as store:
        await put(store, {b"edited": b"1", b"gone": b"2", b"good": b"3", b"replaced": b"4"})
        (world.public / "edited").write_bytes(b"9")
        (world.public / "gone").unlink()
        (world.public / "copy").write_bytes(b"4")
        os.utime(world.public / "copy", ns=(TIME.ns, TIME.ns))
        os.rename(world.public / "copy", world.public / "replaced")
        (world.public / "stranger").write_bytes(b"55")
        view = await store.view(b"")
        assert view.damaged == {b"edited", b"gone", b"replaced"}
        assert view.strangers[b"stranger"][:2] == (Kind.FILE, 2)


async def test_a_directory_that_is_not_there_is_absent(world):
    async with world.store() as store:
        assert not (await store.view(b"no/where")).present


async def test_a_failed_sync_changes_nothing_and_leaves_nothing(world):
    async with world.store() as store:
        await put(store, {b"one": b"1"})

        def fail(_: object) -> None:
            raise StoreError("disk: Input/output error")

        batch = await changes(store, {b"one": b"2", b"two": b"2"})
        store._tree.sync = fail  # type: ignore[method-assign]
        outcomes = await store.publish(batch, {}, NOW)
        assert [str(one) for one in outcomes] == ["disk: Input/output error"] * 2
        assert world.bodies() == {b"one": b"1"}
        assert os.listdir(world.top / "data/.sideways/tmp/deb") == []
    async with world.store() as store:
        assert not (await store.view(b"")).damaged


async def test_a_directory_that_cannot_be_settled_fails_what_was_published_in_it(world):
    async with world.store() as store:
        await put(store, {b"a/x": b"1", b"b/x": b"1"})
        settle = store._tree.settle

        def fail(directories: dict[bytes, Held | None]) -> None:
            if b"a" in directories:
                raise StoreError("a: Input/output error")
            settle(directories)

        store._tree.settle = fail  # type: ignore[method-assign]
        outcomes = await store.publish(await changes(store, {b"a/x": b"2", b"b/x": b"2"}), {}, NOW)
        assert [str(one) for one in outcomes] == ["a: Input/output error", "None"]
        assert (await store.view(b"a")).damaged == {b"x"}
        assert not (await store.view(b"b")).damaged


async def _one_after_another(store: MirrorStore, *files: dict[bytes, bytes]) -> list[list[str]]:
    """Batches of these files, each following the one before; what each was told."""
    told: list[list[str]] = []
    batches = [
        Batch(
            await changes(store, some), {}, NOW, lambda outcomes: told.append([str(one) for one in outcomes])
        )
        for some in files
    ]
    left = iter(batches[1:])
    await store.publish_all(batches[0], lambda: next(left, None))
    return told


async def test_batches_that_follow_one_another_are_each_told_what_became_of_them(world):
    async with world.store() as store:
        (world.public / "mine").write_bytes(b"precious")
        files = {b"f%d" % n: b"x" * n for n in range(30)}  # more than are synced one by one
        told = await _one_after_another(store, {b"one": b"1"}, {b"mine": b"m", b"two": b"2"}, files)
        assert told[0] == ["None"] and told[1][1:] == ["None"] and told[2] == ["None"] * 30
        assert told[1][0].startswith("mine: ")
        assert world.bodies() == {b"mine": b"precious", b"one": b"1", b"two": b"2"} | files
        view = await store.view(b"")
        assert set(view.held) == {b"one", b"two"} | set(files) and not view.damaged


async def test_temporaries_that_cannot_be_synced_with_the_batch_before_are_lost_alone(world):
    async with world.store() as store:
        await put(store, {b"a/x": b"1", b"b/x": b"1"})

        def fail(directories: dict[bytes, Held | None], staged: object) -> None:
            raise StoreError("disk: Input/output error")

        store._tree.settle_with = fail  # type: ignore[method-assign]
        told = await _one_after_another(store, {b"a/x": b"2"}, {b"b/x": b"2"})
        assert told == [["disk: Input/output error"], ["None"]]  # who lost is told at once
        assert world.bodies() == {b"a/x": b"2", b"b/x": b"1"}
        assert os.listdir(world.top / "data/.sideways/tmp/deb") == []
        assert not (await store.view(b"b")).damaged


async def test_a_batch_whose_result_failed_is_found_again_and_takes_the_next_one_with_it(world):
    """HAZARDS 99, with another batch right behind: nothing of that one had been done."""
    async with world.store() as store:
        transact = store._records._transact
        commits = 0

        def full(work, durable):
            nonlocal commits
            commits += durable
            if commits == 2:
                raise StoreError("records: database or disk is full")
            return transact(work, durable)

        store._records._transact = full
        with pytest.raises(StoreError, match="full"):
            await _one_after_another(store, {b"one": b"1"}, {b"next": b"2"})
        store._records._transact = transact
        assert world.bodies() == {b"one": b"1"}
        assert os.listdir(world.top / "data/.sideways/tmp/deb") == []
        await put(store, {b"two": b"2"})
        assert (await store.held(b"one")).size == 1 and await store.held(b"next") is None


async def test_nothing_follows_a_batch_while_a_deletion_waits_for_its_turn(world):
    async with world.store() as store:
        await put(store, {b"gone": b"1"})
        record = await store.pass_begin(NOW, "f", "o")
        await store.compared([Compared(b"", missing=frozenset([b"gone"]), entries_listed=9)], record, NOW)
        plan = await store.plan(record, Deletion(sightings=1, grace=0, emptied_after=0), NOW)
        deleting = []
        told: list[int] = []

        async def batch(number: int) -> Batch:
            staged = await changes(store, {b"f%d" % number: b"x"})
            return Batch(staged, {}, NOW, lambda _: told.append(number))

        batches = [await batch(number) for number in range(3)]
        left = iter(batches[1:])

        def following() -> Batch | None:
            if not deleting:
                deleting.append(asyncio.create_task(store.delete(plan, NOW)))
            return next(left, None)

        await store.publish_all(batches[0], following)
        assert await deleting[0] == (1, 1)
        assert told == [0, 1] and next(left) is batches[2]
        await store.discard(*staged_in(batches[2].changes))
        assert world.bodies() == {b"f0": b"x", b"f1": b"x"}


async def test_names_that_a_failed_result_left_are_found_again(world):
    """HAZARDS 99: the records' disk is full at the worst moment."""
    async with world.store() as store:
        transact = store._records._transact
        commits = 0

        def full(work, durable):
            nonlocal commits
            commits += durable
            if commits == 2:
                raise StoreError("records: database or disk is full")
            return transact(work, durable)

        batch = await changes(store, {b"one": b"1"})
        store._records._transact = full
        try:
            await store.publish(batch, {}, NOW)
        except StoreError as error:
            assert "full" in str(error)
        store._records._transact = transact
        assert await store.held(b"one") is None
        await put(store, {b"two": b"2"})
        assert (await store.held(b"one")).size == 1
        assert not (await store.view(b"")).strangers


async def test_directories_keep_their_recorded_times_when_names_change_in_them(world):
    async with world.store() as store:
        await put(store, {b"a/one": b"1"})
        await put(store, {b"a/two": b"2"})
        assert os.stat(world.public / "a").st_mtime_ns == TIME.ns
        own = Held(b"", Kind.DIRECTORY, mtime=Stamp(5 * 10**9), mode=0o755)
        await store.publish(await changes(store, {b"three": b"3"}), {b"": own}, NOW)
        assert os.stat(world.public).st_mtime_ns == 5 * 10**9
        assert (await store.held(b"")).mtime == own.mtime


async def test_hard_links_are_found_by_their_group(world):
    async with world.store() as store:
        await put(store, {b"a/one": b"1"}, link="8:15")
        assert await store.by_link("8:15") == b"a/one"
        two = Change(b"", file(b"two", b"1", link="8:15"), link_to=b"a/one")
        assert await store.publish([two], {}, NOW) == [None]
        assert os.stat(world.public / "two").st_ino == os.stat(world.public / "a/one").st_ino
        assert await store.by_link("9:9") is None


async def test_refresh_changes_records_and_not_the_disk(world):
    async with world.store() as store:
        await put(store, {b"one": b"1"}, settled=False)
        held = await store.held(b"one")
        await store.refresh(b"", [replace(held, settled=True), file(b"never", b"seen")])
        assert (await store.held(b"one")).settled
        assert await store.held(b"never") is None
        assert not (await store.view(b"")).damaged


async def test_the_listed_version_on_disk_is_adopted_and_no_other(world):
    async with world.store() as store:
        for name, body in {"same": b"1234", "size": b"12345", "time": b"1234"}.items():
            (world.public / name).write_bytes(body)
            os.utime(world.public / name, ns=(TIME.ns, TIME.ns + (name == "time") * 10**9))
        found = await store.adopt(b"", listed(b"same", b"1234"))
        assert found is not None
        assert await store.adopt(b"", listed(b"size", b"1234")) is None
        assert await store.adopt(b"", listed(b"time", b"1234")) is None
        assert await store.adopt(b"", replace(listed(b"same", b""), size=None, rounded="4")) is None
        assert await store.publish([Change(b"", found, attributes=True)], {}, NOW) == [None]
        assert list((await store.view(b"")).held) == [b"same"]
        assert set((await store.view(b"")).strangers) == {b"size", b"time"}


async def test_blocks_of_large_files_are_kept_through_links_and_adoption(world):
    body = os.urandom(9 * 2**20)
    async with world.store() as store:
        await put(store, {b"big": body})
        hard = Change(b"", file(b"hard", body), link_to=b"big")
        assert await store.publish([hard], {}, NOW) == [None]
        async with world.reader() as reader:
            blocks = await reader.blocks(b"big")
            assert len(blocks) == 64 and await reader.blocks(b"hard") == blocks
            await put(store, {b"big": b"small"})
            assert await reader.blocks(b"big") == b""
        (world.public / "found").write_bytes(body)
        os.utime(world.public / "found", ns=(TIME.ns, TIME.ns))
        found = await store.adopt(b"", listed(b"found", body))
        assert await store.publish([Change(b"", found, attributes=True)], {}, NOW) == [None]
        async with world.reader() as reader:
            assert await reader.blocks(b"found") == blocks


async def test_the_journal_tells_what_happened_in_order(world):
    async with world.store() as store:
        await put(store, {b"a/one": b"1"})
        await put(store, {b"a/one": b"2"}, source="lancaster")
        async with world.reader() as reader:
            told = [record async for record in reader.journal()]
            assert [(r.seq, r.action, r.path, r.kind.value, r.source) for r in told] == [
                (1, "publish", b"a", "directory", "origin"),
                (2, "publish", b"a/one", "file", "origin"),
                (3, "publish", b"a/one", "file", "lancaster"),
            ]
            assert [r.seq async for r in reader.journal(after=1, limit=1)] == [2]
            epoch, first, last = await reader.position()
            assert epoch and (first, last) == (1, 3)


async def test_readers_see_only_files_that_are_as_recorded(world):
    async with world.store() as store:
        await put(store, {b"a/one": b"1", b"a/two": b"2"})
        (world.public / "a/two").write_bytes(b"3")
        async with world.reader() as reader:
            descriptor, held = await reader.open_file(b"a/one")
            assert os.read(descriptor, 9) == b"1" and held.name == b"one"
            os.close(descriptor)
            assert await reader.open_file(b"a/two") is None
            assert await reader.open_file(b"a") is None
            assert await reader.open_file(b"") is None
            assert set(await reader.directory(b"a")) == {b"one", b"two"}
            assert await reader.directory(b"b") is None
            assert await reader.directory(b"") is not None
            assert [h.name for h in await reader.page(b"a", b"one", 5)] == [b"two"]


async def test_small_files_are_read_many_at_a_time_as_they_are_recorded(world):
    async with world.store() as store:
        files = {b"d%d/f%d" % (n % 3, n): b"x" * n for n in range(9)}
        await put(store, files)
        (world.public / "d0/f3").write_bytes(b"abc")
        (world.public / "d1/f4").unlink()
        (world.public / "d1/f4").mkdir()
        (world.public / "d2/f5").unlink()
        async with world.reader() as reader:
            asked = [(b"d%d" % n, [b"f%d" % i for i in range(9)]) for n in range(3)]
            told = await reader.named([*asked, (b"absent", [b"f0"]), (b"", [b"d0", b"no"])])
            assert [sorted(one) for one in told] == [
                [b"f0", b"f3", b"f6"],
                [b"f1", b"f4", b"f7"],
                [b"f2", b"f5", b"f8"],
                [],
                [b"d0"],
            ]
            every = [(b"d%d" % n, held) for n in range(3) for _, held in sorted(told[n].items())]
            assert reader.bodies(every) == [
                (n, b"x" * size) for n, size in ((0, 0), (2, 6), (3, 1), (5, 7), (6, 2), (8, 8))
            ]
            assert reader.bodies([(b"../d0", every[0][1]), (b"absent", every[0][1])]) == []


# -- digests

names = st.binary(min_size=1, max_size=12).filter(lambda n: n not in (b".", b"..") and not {0, 47} & set(n))
bodies = st.dictionaries(names, st.binary(max_size=4), max_size=8)


@given(bodies, st.randoms())
def test_the_digest_of_a_directory_does_not_depend_on_order_or_times(files, random):
    entries = [file(name, body) for name, body in files.items()]
    mixed = [
        replace(one, mtime=None, copied=random.randrange(9), inode=random.randrange(9)) for one in entries
    ]
    random.shuffle(mixed)
    assert directory_digest(entries, {}) == directory_digest(mixed, {})


@given(bodies, bodies)
def test_different_directories_have_different_digests(one, other):
    first = directory_digest([file(n, b) for n, b in one.items()], {})
    second = directory_digest([file(n, b) for n, b in other.items()], {})
    assert (first == second) is (one == other)


def test_kinds_contents_targets_and_what_is_below_all_count():
    below = {b"x": b"1" * 32}
    several = [
        directory_digest([], {}),
        directory_digest([file(b"x", b"")], {}),
        directory_digest([folder(b"x")], {}),
        directory_digest([folder(b"x")], below),
        directory_digest([link(b"x", b"a")], {}),
        directory_digest([link(b"x", b"b")], {}),
    ]
    assert len(set(several)) == len(several)
    assert directory_digest([folder(b"x")], {b"x": EMPTY}) == several[2]
    assert directory_digest([file(b"x", b"", unknown=True)], {}) == several[0]


async def test_equal_trees_have_equal_digests_however_they_came_about(world, tmp_path):
    from tests.store.world import World

    other = World(tmp_path / "other")
    (other.top / "data").mkdir(parents=True)
    tree = {b"a/one": b"1", b"a/b/two": b"2", b"three": b"3"}
    async with world.store() as store, other.store() as second:
        await put(store, tree)
        first = await store.scrub_digests()
        for path in reversed(tree):
            await put(second, {path: b"other"})
            await second.scrub_digests()
        assert await second.scrub_digests() != first
        for path, body in tree.items():
            await put(second, {path: body})
        assert await second.scrub_digests() == first
        async with world.reader() as reader:
            assert await reader.digest(b"") == first and await reader.digest(b"nowhere") is None


async def test_a_change_far_below_shows_in_every_directory_above(world):
    async with world.store() as store:
        await put(store, {b"a/b/c/x": b"1"})
        before = await store.scrub_digests()
        await put(store, {b"a/b/c/x": b"22"})
        assert (await store.totals()).bytes == 2  # before the sums are brought up to date
        assert await store.scrub_digests() != before
        assert (await store.totals()).bytes == (await store.totals(b"a/b")).bytes == 2


async def test_a_file_is_found_while_its_batch_is_under_way(world, monkeypatch):
    """Between the rename and the result the record is still that of the version before."""
    seen: list[bytes] = []
    loop, settled = asyncio.get_running_loop(), publishing.settled
    async with world.store() as store:
        await put(store, {b"a": b"old"})
        async with world.reader() as reader:

            def look(*arguments):
                found = asyncio.run_coroutine_threadsafe(reader.open_file(b"a"), loop).result()
                assert found is not None
                with open(found[0], "rb") as opened:
                    seen.append(opened.read())
                assert found[1].sha256 == hashlib.sha256(b"newer").digest()
                return settled(*arguments)

            monkeypatch.setattr(publishing, "settled", look)
            await put(store, {b"a": b"newer"})
    assert seen == [b"newer"]


async def test_what_fails_after_its_caller_was_cancelled_is_no_complaint_of_the_loop(world) -> None:
    """A full disk ends a pass: what was under way fails as well, and nobody is left who would hear of it."""
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    go = asyncio.Event()

    async def fails() -> None:
        await go.wait()
        raise StoreError("the disk is full")

    async with world.store() as store:
        caller = asyncio.create_task(store._disk.whole(fails()))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        go.set()
    del caller
    gc.collect()
    assert told == []


HIDDEN, OPEN = 0o750, 0o755


@pytest.mark.parametrize(("before", "after"), [(HIDDEN, OPEN), (OPEN, HIDDEN)], ids=["shown", "hidden"])
@pytest.mark.parametrize("crash", [False, True], ids=["", "crash"])
async def test_a_directory_and_what_is_in_it_change_in_one_batch(world, monkeypatch, before, after, crash):
    """A release shows a directory on disk too, and one that is hidden is not left open (HAZARDS 26)."""
    old = folder(b"a", mode=before, private=before == HIDDEN)
    new = replace(old, mode=after, private=after == HIDDEN)
    async with world.store() as store:
        assert await store.publish([Change(b"", old)], {}, NOW) == [None]
        await put(store, {b"a/file": b"1"})
        batch = [
            Change(b"", new, previous=await store.held(b"a"), attributes=True),
            *await changes(store, {b"a/file": b"2"}),
            Change(b"a", folder(b"below", mode=after)),
        ]
        if crash:
            monkeypatch.setattr(publishing, "conclude", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await store.publish(batch, {}, NOW)
            monkeypatch.undo()
            (world.public / "a").chmod(before)  # as if it had not come so far
            (world.public / "a/below").chmod(before)
        else:
            assert await store.publish(batch, {}, NOW) == [None] * 3
    async with world.store() as store:
        held = await store.held(b"a")
        assert (held.mode, held.private) == (after, after == HIDDEN)
        modes = [(world.public / name).stat().st_mode & 0o777 for name in ("a", "a/below")]
        assert modes == [after, after] and (world.public / "a/file").read_bytes() == b"2"
