"""A large file by parts: what counts as here, what is promised, what an interruption and a crash leave."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
from itertools import pairwise
from pathlib import Path

import pytest
from blake3 import blake3

from cluster.errors import DiskFull, StoreError
from cluster.model import Held, Kind
from cluster.store import adoption, blocks, linux
from cluster.store.growing import Growing
from cluster.store.mirror import MirrorStore
from cluster.store.tree import Change
from tests.store.crash import Died, Fuse, arm, bury
from tests.store.world import NOW, TIME, World

BLOCK = 4 * 2**10
SIZE = 10 * BLOCK + 77
BODY = random.Random(1).randbytes(SIZE)
HELD = Held(b"big", Kind.FILE, mtime=TIME)
TAG = '"v1"'


@pytest.fixture(autouse=True)
def _shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", BLOCK)


def hashes(start: int, stop: int, body: bytes = BODY) -> bytes:
    return b"".join(blake3(body[at : min(at + BLOCK, stop)]).digest() for at in range(start, stop, BLOCK))


async def put(
    growing: Growing, start: int, stop: int, *, source: str = "origin", promised: bytes = b""
) -> bool:
    part = growing.part(start, stop, source, promised)
    for at in range(start, stop, 1000):
        await part.write(BODY[at : min(at + 1000, stop)])
    return await part.done()


def temporaries(world: World) -> list[str]:
    return os.listdir(world.top / "data/.sideways/tmp/deb")


async def test_parts_in_any_order_and_at_once_make_the_file(world: World) -> None:
    async with world.store() as store:
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        assert growing.runs() == []
        cuts = [0, 2 * BLOCK, 3 * BLOCK, 7 * BLOCK, 10 * BLOCK, SIZE]
        parts = list(pairwise(cuts))
        random.Random(2).shuffle(parts)
        assert all(await asyncio.gather(*(put(growing, *part) for part in parts)))
        assert growing.runs() == [(0, SIZE)] and growing.hashes(0, SIZE) == hashes(0, SIZE)
        staged = await growing.finish(HELD)
        assert staged.blocks == hashes(0, SIZE) and staged.held.size == SIZE
        descriptor = growing.opened()
        growing.close()
        assert await store.publish([Change(b"", staged.held, staged=staged)], {}, NOW) == [None]
        assert world.bodies() == {b"big": BODY}
        assert os.pread(descriptor, SIZE, 0) == BODY, "who reads it goes on where it has its name"
        os.close(descriptor)
        assert not await store.beginnings.is_growing(b"big")
    assert temporaries(world) == []
    async with world.reader() as reader:
        assert await reader.blocks(b"big") == hashes(0, SIZE)


async def test_a_part_may_come_in_very_small_pieces(world: World) -> None:
    size = 2**20 + BLOCK
    body = random.Random(3).randbytes(size)
    async with world.store() as store:
        growing = await store.beginnings.grow(b"big", size, TAG)
        part = growing.part(0, size, "origin")
        for at in range(0, size, 100):
            assert await part.write(body[at : at + 100])
        assert await part.done() and growing.hashes(0, size) == hashes(0, size, body)
        await growing.keep()


async def test_only_whole_blocks_are_here(world: World) -> None:
    async with world.store() as store:
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        part = growing.part(2 * BLOCK, 6 * BLOCK, "origin")
        await part.write(BODY[2 * BLOCK : 4 * BLOCK + 5])
        assert not await part.done()
        assert growing.runs() == [(2 * BLOCK, 4 * BLOCK)]
        assert growing.prefix(2 * BLOCK, 6 * BLOCK) == 2 * BLOCK
        assert growing.prefix(0, 2 * BLOCK) == 0
        assert growing.hashes(2 * BLOCK, 4 * BLOCK) == hashes(2 * BLOCK, 4 * BLOCK)
        assert growing.hashes(2 * BLOCK, 5 * BLOCK) is None
        assert await put(growing, 10 * BLOCK, SIZE), "the last block is shorter"
        assert growing.runs()[-1] == (10 * BLOCK, SIZE)
        await growing.keep()


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("wrong", [0, 2, 3])
async def test_a_block_that_is_not_what_was_promised_is_not_here(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: int, large: bool
) -> None:
    if large:  # every chunk goes to the disk by itself
        monkeypatch.setattr("cluster.store.growing.PIECE", 1)
    promised = bytearray(hashes(4 * BLOCK, 8 * BLOCK))
    promised[32 * wrong] ^= 1
    async with world.store() as store:
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        assert await put(growing, 0, BLOCK, source="oslo", promised=hashes(0, BLOCK))
        assert not await put(growing, 4 * BLOCK, 8 * BLOCK, source="oslo", promised=bytes(promised))
        assert not growing.has((4 + wrong) * BLOCK, (5 + wrong) * BLOCK)
        assert growing.prefix(4 * BLOCK, 8 * BLOCK) == wrong * BLOCK
        assert growing.sources() == {"oslo": 1 + wrong}
        await growing.keep()


async def test_more_than_a_part_is_not_taken(world: World) -> None:
    async with world.store() as store:
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        assert await put(growing, BLOCK, 2 * BLOCK)
        part = growing.part(0, BLOCK, "origin")
        assert not await part.write(bytes(BLOCK + 1))
        assert not await part.done()
        assert growing.runs() == [(BLOCK, 2 * BLOCK)]
        await growing.keep()


async def begun(store: MirrorStore, *, keep: bool = True) -> Growing:
    growing = await store.beginnings.grow(b"big", SIZE, TAG)
    await put(growing, 0, 2 * BLOCK)
    await put(growing, 6 * BLOCK, 8 * BLOCK, source="oslo")
    if keep:
        await growing.keep()
    return growing


async def test_what_is_here_is_found_again_with_where_it_came_from(world: World) -> None:
    async with world.store() as store:
        await begun(store)
    assert len(temporaries(world)) == 1
    async with world.store(NOW + 10) as store:
        assert await store.beginnings.is_growing(b"big")
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        assert growing.runs() == [(0, 2 * BLOCK), (6 * BLOCK, 8 * BLOCK)]
        assert growing.sources() == {"origin": 2, "oslo": 2}
        for first, end in ((2 * BLOCK, 6 * BLOCK), (8 * BLOCK, SIZE)):
            assert await put(growing, first, end)
        staged = await growing.finish(HELD)
        growing.close()
        assert await store.publish([Change(b"", staged.held, staged=staged)], {}, NOW) == [None]
        assert world.bodies() == {b"big": BODY}
    assert temporaries(world) == []


@pytest.mark.parametrize("damage", ["edited", "shorter", "gone", "a symlink"])
async def test_103_a_block_that_is_not_what_was_noted_is_not_believed(world: World, damage: str) -> None:
    async with world.store() as store:
        await begun(store)
        (name,) = temporaries(world)
        place = world.top / "data/.sideways/tmp/deb" / name
        match damage:
            case "edited":
                with place.open("r+b") as file:
                    file.seek(7 * BLOCK + 3)
                    file.write(b"X")
                left = [(0, 2 * BLOCK), (6 * BLOCK, 7 * BLOCK)]
            case "shorter":
                os.truncate(place, 7 * BLOCK + 100)
                left = [(0, 2 * BLOCK), (6 * BLOCK, 7 * BLOCK)]
            case "gone":
                place.unlink()
                left = []
            case _:
                (world.top / "outside").write_bytes(BODY)
                place.unlink()
                place.symlink_to(world.top / "outside")
                left = []
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        assert growing.runs() == left
        await growing.keep()
    if damage == "a symlink":
        assert (world.top / "outside").read_bytes() == BODY


@pytest.mark.parametrize(("size", "tag"), [(SIZE + 1, TAG), (SIZE, '"v2"')])
async def test_111_another_version_begins_anew_and_leaves_one_temporary(
    world: World, size: int, tag: str
) -> None:
    async with world.store() as store:
        await begun(store)
        growing = await store.beginnings.grow(b"big", size, tag)
        assert growing.runs() == [] and len(temporaries(world)) == 1
        await growing.keep()
    assert temporaries(world) == [], "of nothing, nothing is kept"


async def test_111_who_streams_it_after_all_takes_its_parts_away(world: World) -> None:
    async with world.store() as store:
        await begun(store)
        staging = await store.beginnings.stage(b"big", SIZE)
        assert len(temporaries(world)) == 1 and not await store.beginnings.is_growing(b"big")
        await staging.abandon(None)
    assert temporaries(world) == []


@pytest.mark.parametrize(
    ("length", "size", "tag", "left"),
    [
        (2 * BLOCK + 5, SIZE, TAG, [(0, 2 * BLOCK)]),
        (2 * BLOCK, SIZE, TAG, [(0, 2 * BLOCK)]),
        (BLOCK - 1, SIZE, TAG, []),
        (2 * BLOCK, SIZE + 1, TAG, []),
        (2 * BLOCK, SIZE, '"v2"', []),
    ],
)
async def test_111_who_fetches_it_by_parts_goes_on_with_its_beginning(
    world: World, length: int, size: int, tag: str, left: list[tuple[int, int]]
) -> None:
    async with world.store() as store:
        staging = await store.beginnings.stage(b"big", SIZE)
        await staging.write(BODY[:length])
        await staging.abandon(TAG)
        growing = await store.beginnings.grow(b"big", size, tag)
        assert growing.runs() == left and len(temporaries(world)) == 1
        assert growing.sources() == ({"origin": 2} if left else {})
        await growing.keep()
    async with world.store() as store:
        growing = await store.beginnings.grow(b"big", size, tag)
        assert growing.runs() == left
        await growing.keep()


async def test_111_a_beginning_that_was_damaged_is_thrown_away(world: World) -> None:
    async with world.store() as store:
        staging = await store.beginnings.stage(b"big", SIZE)
        await staging.write(BODY[: 3 * BLOCK])
        await staging.abandon(TAG)
        (name,) = temporaries(world)
        with (world.top / "data/.sideways/tmp/deb" / name).open("r+b") as file:
            file.write(b"XX")
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        assert growing.runs() == [] and len(temporaries(world)) == 1
        await growing.keep()


async def test_111_parts_that_nobody_went_on_with_are_removed_after_a_week(world: World) -> None:
    async with world.store() as store:
        await begun(store)
        await store._records.write(
            lambda c, _: c.execute("UPDATE growing SET at = ?", (NOW - adoption.KEPT - 1,)).rowcount
        )
    async with world.store(NOW) as store:
        assert not await store.beginnings.is_growing(b"big")
        assert temporaries(world) == []


async def test_what_was_written_is_read_again_before_it_is_believed(world: World) -> None:
    async with world.store() as store:
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        assert await put(growing, BLOCK, SIZE)
        (name,) = temporaries(world)
        with (world.top / "data/.sideways/tmp/deb" / name).open("r+b") as file:
            file.seek(5 * BLOCK)
            file.write(b"XX")
        assert await put(growing, 0, BLOCK)
        with pytest.raises(StoreError, match="what was written is not what is read"):
            await growing.finish(HELD)
        await growing.keep()
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        assert growing.runs() == [(0, 5 * BLOCK), (6 * BLOCK, SIZE)]
        await growing.keep()


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after an interruption"])
async def test_what_has_no_gap_before_it_is_read_while_the_rest_arrives(
    world: World, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """At the end only what came last is left to be read."""
    read: list[tuple[int, int]] = []

    def pread(descriptor: int, size: int, at: int) -> bytes:
        read.append((at, at + size))
        return real(descriptor, size, at)

    real = os.pread
    async with world.store() as store:
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        for first, end in ((2 * BLOCK, 6 * BLOCK), (8 * BLOCK, SIZE), (0, 2 * BLOCK)):
            assert await put(growing, first, end)
        if again:
            await growing.keep()
            growing = await store.beginnings.grow(b"big", SIZE, TAG)
        await growing._settled()
        monkeypatch.setattr(os, "pread", pread)
        assert await put(growing, 6 * BLOCK, 8 * BLOCK)
        staged = await growing.finish(HELD)
        assert staged.held.sha256 == hashlib.sha256(BODY).digest() and staged.blocks == hashes(0, SIZE)
        assert min(at for at, _ in read) == 6 * BLOCK
        growing.close()


async def test_a_disk_that_fails_while_the_rest_arrives_is_told_at_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pread(descriptor: int, size: int, at: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with world.store() as store:
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        with monkeypatch.context() as broken:
            broken.setattr(os, "pread", pread)
            assert await put(growing, 0, SIZE)
            with pytest.raises(StoreError, match="big"):
                await growing.finish(HELD)
        await growing.keep()


@pytest.mark.parametrize("works", [True, False], ids=["fallocate", "no fallocate"])
async def test_100_room_for_all_of_it_is_reserved_and_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    if not works:
        monkeypatch.setattr(linux, "fallocate", lambda descriptor, size: False)
    async with world.store() as store:
        growing = await begun(store, keep=False)
        (name,) = temporaries(world)
        place = world.top / "data/.sideways/tmp/deb" / name
        assert store._tree.space._promised == (0 if works else SIZE)
        assert not works or place.stat().st_blocks * 512 >= SIZE
        await growing.keep()
        assert store._tree.space._promised == 0
        assert place.stat().st_blocks * 512 <= 8 * BLOCK and place.stat().st_size == 8 * BLOCK


async def test_99_a_file_that_does_not_fit_is_not_begun(world: World) -> None:
    async with world.store() as store:
        with pytest.raises(DiskFull, match="big: the disk is full"):
            await store.beginnings.grow(b"big", 2**60, TAG)
        assert temporaries(world) == []


async def _story(store: MirrorStore) -> None:
    growing = await begun(store, keep=False)
    await put(growing, 2 * BLOCK, 6 * BLOCK)
    await put(growing, 8 * BLOCK, SIZE)
    staged = await growing.finish(HELD)
    growing.close()
    assert await store.publish([Change(b"", staged.held, staged=staged)], {}, NOW) == [None]


async def test_103_dying_at_any_effect_leaves_parts_that_are_right_or_the_file(tmp_path: Path) -> None:
    """Every note is an effect, and so is every sync and rename. What is believed afterwards is there."""
    here: list[int] = []
    for length in range(60):
        top = tmp_path / str(length)
        (top / "data").mkdir(parents=True)
        world = World(top)
        store = await MirrorStore.open(world.mirror, world.site, NOW)
        fuse = Fuse(length)
        arm(store, fuse)
        try:
            await _story(store)
        except Died:
            pass
        except BaseException:
            if not fuse.dead:
                raise
        await bury(store)
        async with world.store(NOW + 100) as store:
            held = await store.held(b"big")
            if held is not None:
                assert world.bodies() == {b"big": BODY} and temporaries(world) == []
                here.append(SIZE)
            else:
                growing = await store.beginnings.grow(b"big", SIZE, TAG)
                for first, end in growing.runs():
                    assert os.pread(growing._descriptor, end - first, first) == BODY[first:end]
                here.append(sum(end - first for first, end in growing.runs()))
                await growing.keep()
        if not fuse.dead:
            break
    assert not fuse.dead and here[0] == 0 and here == sorted(here)
    assert len(set(here)) >= 5, here


async def test_103_bytes_are_synced_before_they_are_noted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_sync, real_note = os.fdatasync, adoption.note_growing
    monkeypatch.setattr(os, "fdatasync", lambda fd: (done.append("sync"), real_sync(fd)))
    monkeypatch.setattr(adoption, "note_growing", lambda *of: (done.append("note"), real_note(*of)))
    async with world.store() as store:
        growing = await store.beginnings.grow(b"big", SIZE, TAG)
        await asyncio.gather(put(growing, 0, 2 * BLOCK), put(growing, 4 * BLOCK, 6 * BLOCK))
        await growing.keep()
    assert done and done == ["sync", "note"] * (len(done) // 2)
