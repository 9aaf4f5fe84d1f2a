"""Temporaries: large files in pieces, small ones in batches, local copies, and disks that are full."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import re
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from cluster.errors import Changed, DiskFull, StoreError
from cluster.model import Held, Kind, Stamp
from cluster.store import linux, small
from cluster.store.staging import Partial, Staging
from cluster.store.tree import BLOCK, Change, Tree
from tests.store.trees import AT, file, held, mounted, public, put, staged, temporaries, tree, tree_at

__all__ = ["tree"]

LARGE = Held(b"large", Kind.FILE, mtime=Stamp(AT))


def blocks_of(body: bytes) -> bytes:
    if len(body) <= BLOCK:
        return b""
    return b"".join(blake3(body[at : at + BLOCK]).digest() for at in range(0, len(body), BLOCK))


async def send(staging: Staging, body: bytes, chunk: int = 65_536) -> None:
    for at in range(0, len(body), chunk):
        await staging.write(body[at : at + chunk])


@pytest.mark.parametrize(
    "size", [0, 1, 2**20, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 12345], ids=str
)
@pytest.mark.parametrize("known", [True, False])
async def test_a_large_file_arrives_with_its_hashes_and_is_published(
    tree: Tree, tmp_path: Path, size: int, known: bool
) -> None:
    body = random.Random(size).randbytes(size)
    staging = await Staging.open(tree, b"large", size if known else None)
    assert (staging.start, staging.etag) == (0, None)
    await send(staging, body, 70_001)
    one = await staging.finish(LARGE)
    assert (one.held.size, one.held.sha256) == (size, hashlib.sha256(body).digest())
    assert one.blocks == blocks_of(body)
    tree.sync([one])
    record = held(tree.apply([Change(b"", one.held, staged=one)])[0])
    assert (public(tmp_path) / "large").read_bytes() == body
    found = os.lstat(public(tmp_path) / "large")
    assert (found.st_mtime_ns, found.st_ino, found.st_mode & 0o777) == (AT, record.inode, 0o644)
    assert found.st_blocks * 512 <= size + 65_536
    assert tree.hash_file(b"large") == (record.sha256, one.blocks, tree.lstat(b"large"))


async def test_an_abandoned_file_leaves_nothing(tree: Tree, tmp_path: Path) -> None:
    staging = await Staging.open(tree, b"large", 3 * 2**20)
    await send(staging, bytes(2 * 2**20))
    assert len(temporaries(tmp_path)) == 1
    await staging.abandon("etag without anybody to keep it")
    await staging.abandon(None)
    assert temporaries(tmp_path) == []


async def interrupted(tree: Tree, body: bytes, size: int) -> Partial:
    kept: list[Partial] = []

    async def keep(partial: Partial) -> None:
        kept.append(partial)

    staging = await Staging.open(tree, b"large", size, keep=keep)
    await send(staging, body)
    await staging.abandon('"v1"')
    return kept[0]


async def test_an_interrupted_file_goes_on_where_it_stopped(tree: Tree, tmp_path: Path) -> None:
    body = random.Random(1).randbytes(2 * BLOCK + 77)
    partial = await interrupted(tree, body[: BLOCK + 999], len(body))
    assert (partial.length, partial.etag, partial.path) == (BLOCK + 999, '"v1"', b"large")
    assert tree.remove_orphans({partial.temporary}) == 0
    staging = await Staging.open(tree, b"large", len(body), partial=partial)
    assert (staging.start, staging.etag) == (BLOCK + 999, '"v1"')
    await send(staging, body[staging.start :])
    one = await staging.finish(LARGE)
    assert (one.held.sha256, one.blocks) == (hashlib.sha256(body).digest(), blocks_of(body))
    tree.apply([Change(b"", one.held, staged=one)])
    assert (public(tmp_path) / "large").read_bytes() == body


@pytest.mark.parametrize("damage", ["edited", "shorter", "gone", "other size", "a symlink"])
async def test_a_partial_that_is_not_what_was_kept_is_thrown_away(
    tree: Tree, tmp_path: Path, damage: str
) -> None:
    body = random.Random(2).randbytes(2**20)
    partial = await interrupted(tree, body[:500_000], len(body))
    place = tmp_path / "data/.sideways/tmp/m" / os.fsdecode(partial.temporary)
    match damage:
        case "edited":
            with place.open("r+b") as opened:
                opened.write(b"XX")
        case "shorter":
            os.truncate(place, 400_000)
        case "gone":
            place.unlink()
        case "other size":
            partial = replace(partial, size=12)
        case "a symlink":
            (tmp_path / "outside").write_bytes(body)
            place.unlink()
            place.symlink_to(tmp_path / "outside")
    staging = await Staging.open(tree, b"large", len(body), partial=partial)
    assert (staging.start, staging.etag) == (0, None)
    await send(staging, body)
    assert (await staging.finish(LARGE)).held.sha256 == hashlib.sha256(body).digest()
    if damage == "a symlink":
        assert (tmp_path / "outside").read_bytes() == body
    else:
        assert len(temporaries(tmp_path)) == 1


async def test_a_restart_forgets_what_came_before(tree: Tree, tmp_path: Path) -> None:
    body = random.Random(3).randbytes(2**20 + 5)
    staging = await Staging.open(tree, b"large", len(body))
    await send(staging, bytes(3 * 2**20))
    await staging.restart()
    await send(staging, body)
    one = await staging.finish(LARGE)
    assert (one.held.size, one.held.sha256) == (len(body), hashlib.sha256(body).digest())
    held(tree.apply([Change(b"", one.held, staged=one)])[0])
    assert (public(tmp_path) / "large").read_bytes() == body


async def test_room_reserved_beyond_what_came_is_given_back(tree: Tree, tmp_path: Path) -> None:
    staging = await Staging.open(tree, b"large", 8 * 2**20)
    await staging.write(b"short")
    one = await staging.finish(LARGE)
    assert one.held.size == 5
    held(tree.apply([Change(b"", one.held, staged=one)])[0])
    assert os.lstat(public(tmp_path) / "large").st_blocks * 512 <= 65_536


async def test_a_cancelled_transfer_waits_for_its_thread_before_it_closes(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, writing = threading.Event(), threading.Event()
    real = os.writev

    def slow(descriptor: int, data: list[bytes]) -> int:
        writing.set()
        go.wait(5)
        return real(descriptor, data)

    staging = await Staging.open(tree, b"large", None)
    monkeypatch.setattr(os, "writev", slow)

    async def transfer() -> None:
        try:
            await send(staging, bytes(4 * 2**20))
        finally:
            await staging.abandon(None)

    task = asyncio.create_task(transfer())
    await asyncio.to_thread(writing.wait, 5)
    task.cancel()
    await asyncio.sleep(0.02)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert temporaries(tmp_path) == []


# -- writes that do less, disks that are full


def write_half(limit: int) -> Callable[[int, bytes], int]:
    real = os.write
    return lambda descriptor, data: real(descriptor, memoryview(data)[: max(1, min(limit, len(data) // 2))])


async def test_short_writes_are_followed_by_the_rest(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = random.Random(4).randbytes(3 * 2**20)
    monkeypatch.setattr(os, "write", write_half(100_000))
    monkeypatch.setattr(os, "writev", lambda fd, pieces: os.write(fd, b"".join(pieces)))
    held(put(tree, b"small", body[:5000]))
    staging = await Staging.open(tree, b"large", len(body))
    await send(staging, body)
    one = await staging.finish(LARGE)
    held(tree.apply([Change(b"", one.held, staged=one)])[0])
    assert (public(tmp_path) / "small").read_bytes() == body[:5000]
    assert (public(tmp_path) / "large").read_bytes() == body


async def test_a_disk_that_fills_up_leaves_the_old_version_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with mounted("size=4m") as folder:
        tree = tree_at(folder, reserve=0)
        record = held(put(tree, b"f", b"old"))
        monkeypatch.setattr(
            tree.space, "require", lambda *_, **__: None
        )  # as if others had taken the room meanwhile
        bodies = [(file(b"%d" % number, bytes(2**20)), bytes(2**20)) for number in range(6)]
        with pytest.raises(DiskFull, match="No space left on device"):
            tree.stage_small(bodies)
        monkeypatch.setattr(linux, "fallocate", lambda *_: False)
        staging = await Staging.open(tree, b"f", 8 * 2**20)
        with pytest.raises(DiskFull, match="f: No space left"):
            await send(staging, bytes(8 * 2**20))
        await staging.abandon('"v"')
        with (folder / "source").open("wb") as source:
            source.write(bytes(2**20))
        with (folder / "source").open("rb") as source:
            for _ in range(2):
                tree.discard([tree.copy(source.fileno(), file(b"f", b""))])
        assert temporaries(folder) == []
        assert (public(folder) / "f").read_bytes() == b"old"
        held(put(tree, b"f", bytes(2**20), record))
        tree.close()


async def test_room_for_a_large_file_is_reserved_before_its_first_byte() -> None:
    with mounted("size=8m") as folder:
        tree = tree_at(folder, reserve=2**20)
        with pytest.raises(DiskFull) as full:
            await Staging.open(tree, b"a/b", 8 * 2**20)
        words = r"m: a/b: the disk is full: 8388608 bytes are needed, \d+ are free, 1048576 are kept"
        assert re.match(words, str(full.value)), full.value
        first = await Staging.open(tree, b"a", 5 * 2**20)
        with pytest.raises(DiskFull):
            await Staging.open(tree, b"b", 5 * 2**20)
        await first.abandon(None)
        second = await Staging.open(tree, b"b", 5 * 2**20)
        await second.abandon(None)
        assert temporaries(folder) == []
        tree.close()


async def test_room_is_counted_where_the_file_system_cannot_reserve_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linux, "fallocate", lambda *_: False)
    await test_room_for_a_large_file_is_reserved_before_its_first_byte()


def test_used_up_inodes_are_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted("size=4m", "nr_inodes=40") as folder:
        tree = tree_at(folder, reserve=0)
        bodies = [(file(b"%d" % number, b"x"), b"x") for number in range(60)]
        with pytest.raises(DiskFull, match=r"^m: the disk is full: 60 inodes are needed, \d+ of 40 are free"):
            tree.stage_small(bodies)
        monkeypatch.setattr(tree.space, "require", lambda *_, **__: None)
        with pytest.raises(DiskFull, match="no inodes left of 40"):
            tree.stage_small(bodies)
        assert temporaries(folder) == []
        held(put(tree, b"f", b"still works"))
        tree.close()


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_small_file_has_its_mode_and_time_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    folder, before = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY), os.umask(umask)
    try:
        for mode in (0o644, 0o600, 0o775, 0o444):
            small.write(folder, b"%o" % mode, (mode, -1, -1, 10**18, None), b"body")
    finally:
        os.umask(before)
        os.close(folder)
    for mode in (0o644, 0o600, 0o775, 0o444):
        found = (tmp_path / f"{mode:o}").stat()
        assert (found.st_mode & 0o7777, found.st_mtime_ns) == (mode, 10**18)


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.EROFS, errno.EIO])
def test_other_failures_of_the_disk_are_told_by_name(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", fail)
    expected = DiskFull if code == errno.EDQUOT else StoreError
    with pytest.raises(expected, match=f"f: {os.strerror(code)}") as raised:
        staged(tree, file(b"f", b"x"), b"x")
    assert type(raised.value) is expected
    assert temporaries(tmp_path) == []


def test_a_small_disk_keeps_a_tenth_free_and_a_large_one_its_fiftieth() -> None:
    with mounted("size=10m") as folder:
        tree = tree_at(folder)
        assert tree.space.reserve == 2**20
        with pytest.raises(DiskFull):
            staged(tree, file(b"f", bytes(9 * 2**20 + 4096)), bytes(9 * 2**20 + 4096))
        tree.close()


# -- durability


@pytest.mark.parametrize(
    ("files", "calls"), [(0, []), (3, ["fsync"] * 3), (8, ["fsync"] * 8), (9, ["syncfs"])]
)
def test_few_files_are_synced_each_and_many_at_once(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, files: int, calls: list[str]
) -> None:
    seen: list[str] = []
    real_fsync, real_syncfs = os.fsync, linux.syncfs
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append("fsync"), real_fsync(fd)))
    monkeypatch.setattr(linux, "syncfs", lambda fd: (seen.append("syncfs"), real_syncfs(fd)))
    tree.sync(tree.stage_small([(file(b"%d" % n, b"x"), b"x") for n in range(files)]))
    assert seen == calls


@pytest.mark.parametrize("files", [1, 20])
def test_a_failing_sync_is_final(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    seen: list[int] = []

    def fail(descriptor: int) -> None:
        seen.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(linux, "syncfs", fail)
    ready = tree.stage_small([(file(b"%d" % n, b"x"), b"x") for n in range(files)])
    with pytest.raises(StoreError, match="Input/output error"):
        tree.sync(ready)
    assert len(seen) == 1
    tree.discard(ready)
    assert temporaries(tmp_path) == []


def test_orphans_of_dead_runs_go_and_another_mirrors_temporaries_stay(tree: Tree, tmp_path: Path) -> None:
    kept = staged(tree, file(b"f", b"x"), b"x")
    staged(tree, file(b"g", b"x"), b"x")
    (tmp_path / "data/.sideways/tmp/other").mkdir()
    (tmp_path / "data/.sideways/tmp/other/1").write_bytes(b"live")
    assert tree.remove_orphans({kept.temporary}) == 1
    assert temporaries(tmp_path) == [os.fsdecode(kept.temporary)]
    assert (tmp_path / "data/.sideways/tmp/other/1").exists()


# -- local copies


@pytest.mark.parametrize("holes", ["none", "begin", "middle", "end", "all"])
def test_a_copy_has_the_same_bytes_and_the_same_holes(tree: Tree, tmp_path: Path, holes: str) -> None:
    size = 3 * BLOCK + 5
    source = tmp_path / "source"
    data = random.Random(5).randbytes(BLOCK + 5)
    offsets = {
        "none": [0, BLOCK, 2 * BLOCK],
        "begin": [2 * BLOCK],
        "middle": [0, 2 * BLOCK],
        "end": [0],
        "all": [],
    }
    with source.open("wb") as opened:
        opened.truncate(size)
        for at in offsets[holes]:
            os.pwrite(opened.fileno(), data, at)
    body = source.read_bytes()
    with source.open("rb") as opened:
        one = tree.copy(opened.fileno(), file(b"f", b""))
    assert (one.held.size, one.held.sha256, one.blocks) == (
        size,
        hashlib.sha256(body).digest(),
        blocks_of(body),
    )
    held(tree.apply([Change(b"", one.held, staged=one)])[0])
    copied = public(tmp_path) / "f"
    assert copied.read_bytes() == body
    assert os.lstat(copied).st_blocks <= os.lstat(source).st_blocks + 8


@pytest.mark.parametrize(
    "refuses", [errno.EXDEV, errno.EOPNOTSUPP, "from the second piece on", "says that it copied nothing"]
)
def test_where_the_kernel_does_not_copy_the_bytes_go_through_us(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: int | str
) -> None:
    body = random.Random(6).randbytes(BLOCK + 5)
    (tmp_path / "source").write_bytes(body)
    real, calls = os.copy_file_range, []

    def copy_file_range(source: int, target: int, count: int, *offsets: int) -> int:
        calls.append(count)
        match refuses:
            case int():
                raise OSError(refuses, os.strerror(refuses))
            case "from the second piece on" if len(calls) == 1:
                return real(source, target, count // 2, *offsets)
            case "from the second piece on":
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return 0

    monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    with (tmp_path / "source").open("rb") as opened:
        one = tree.copy(opened.fileno(), file(b"f", b""))
    assert (one.held.sha256, one.blocks) == (hashlib.sha256(body).digest(), blocks_of(body))
    assert len(calls) == 1 + (refuses == "from the second piece on")
    held(tree.apply([Change(b"", one.held, staged=one)])[0])
    assert (public(tmp_path) / "f").read_bytes() == body


def test_a_copy_that_the_kernel_makes_is_hashed_as_it_is_on_disk(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(bytes(BLOCK))
    real = os.copy_file_range

    def copy_file_range(source: int, target: int, count: int, at: int, to: int) -> int:
        copied = real(source, target, count, at, to)
        os.pwrite(target, b"other", to)
        return copied

    monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    with (tmp_path / "source").open("rb") as opened:
        one = tree.copy(opened.fileno(), file(b"f", b""))
    held(tree.apply([Change(b"", one.held, staged=one)])[0])
    assert one.held.sha256 == hashlib.sha256((public(tmp_path) / "f").read_bytes()).digest()


@pytest.mark.parametrize("change", ["grows", "shrinks", "is touched"])
def test_a_source_that_changes_while_it_is_copied_is_not_published(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 8192)
    real = os.preadv

    def preadv(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        count = real(descriptor, buffers, offset)
        match change:
            case "grows":
                with source.open("ab") as opened:
                    opened.write(b"more")
            case "shrinks":
                os.truncate(source, 1_500_000)
            case "is touched":
                os.utime(source, ns=(5, 5))
        return count

    monkeypatch.setattr(os, "preadv", preadv)
    with source.open("rb") as opened, pytest.raises(Changed, match="while it was copied"):
        tree.copy(opened.fileno(), file(b"f", b""))
    assert temporaries(tmp_path) == []


@pytest.fixture(autouse=True)
async def no_descriptor_is_left() -> AsyncIterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the fixture's tree goes after us
