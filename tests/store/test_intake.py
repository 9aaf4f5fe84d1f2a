"""A large file that a thread puts into its buffers: the same hashes, bytes and partials as in chunks."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.errors import DiskFull
from cluster.model import Held, Kind, Stamp
from cluster.store import intake, linux
from cluster.store.intake import PAGE, Intake
from cluster.store.staging import Partial, Staging
from cluster.store.tree import BLOCK, Change, Tree
from tests.store.test_staging import blocks_of, send, write_half
from tests.store.trees import AT, held, mounted, public, temporaries, tree, tree_at

__all__ = ["tree"]

LARGE = Held(b"large", Kind.FILE, mtime=Stamp(AT))
PIECE, STEP = 4 * PAGE, 3 * PAGE  # a step that does not fit into a piece evenly
SIZES = [0, 1, PAGE, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 9 * PIECE + PAGE, 9 * PIECE + 12345]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "PIECE", PIECE)
    monkeypatch.setattr(intake, "STEP", STEP)


async def pour(into: Intake, body: bytes, most: int = 70_001) -> None:
    """As a thread does that receives at most so many bytes at once."""

    def work() -> None:
        left = memoryview(body)
        while left:
            room = into.room()
            assert room
            some = left[: min(most, len(room))]
            room[: len(some)] = some
            into.took(len(some))
            left = left[len(some) :]

    await asyncio.to_thread(work)


@pytest.mark.parametrize("size", [*SIZES, BLOCK + 5], ids=str)
@pytest.mark.parametrize("aside", [False, True], ids=["cached", "aside"])
@pytest.mark.parametrize("most", [1000, 70_001])
async def test_what_a_thread_puts_in_arrives_with_its_hashes(
    tree: Tree, tmp_path: Path, size: int, aside: bool, most: int
) -> None:
    body = random.Random(size).randbytes(size)
    staging = await Staging.open(tree, b"large", size)
    await pour(staging.intake(aside=aside), body, most)
    one = await staging.finish(LARGE)
    assert (one.held.size, one.held.sha256) == (size, hashlib.sha256(body).digest())
    assert one.blocks == blocks_of(body)
    held(tree.apply([Change(b"", one.held, staged=one)])[0])
    assert (public(tmp_path) / "large").read_bytes() == body


@pytest.mark.parametrize("aside", [False, True], ids=["cached", "aside"])
async def test_of_what_nobody_asks_for_by_parts_only_the_whole_is_hashed(tree: Tree, aside: bool) -> None:
    body = random.Random(5).randbytes(BLOCK + 5)
    staging = await Staging.open(tree, b"large", len(body))
    await pour(staging.intake(aside=aside, parts=False), body)
    one = await staging.finish(LARGE)
    assert (one.held.size, one.held.sha256, one.blocks) == (len(body), hashlib.sha256(body).digest(), b"")


@pytest.mark.parametrize("begun", [0, 1, PAGE - 1, PAGE, 3 * PIECE, 2 * PIECE + 777], ids=str)
@pytest.mark.parametrize("aside", [False, True], ids=["cached", "aside"])
async def test_an_interrupted_one_goes_on_where_it_stopped(
    tree: Tree, tmp_path: Path, begun: int, aside: bool
) -> None:
    body, kept = random.Random(1).randbytes(6 * PIECE + 99), list[Partial]()

    async def keep(partial: Partial) -> None:
        kept.append(partial)

    staging = await Staging.open(tree, b"large", len(body), keep=keep)
    await pour(staging.intake(aside=aside), body[:begun])
    await staging.abandon('"v1"')
    assert (kept[0].length, kept[0].sha256) == (begun, hashlib.sha256(body[:begun]).digest())
    assert os.stat(tmp_path / "data/.sideways/tmp/m" / os.fsdecode(kept[0].temporary)).st_size == begun
    staging = await Staging.open(tree, b"large", len(body), partial=kept[0])
    assert staging.start == begun
    await pour(staging.intake(aside=aside), body[begun:])
    one = await staging.finish(LARGE)
    held(tree.apply([Change(b"", one.held, staged=one)])[0])
    assert (one.held.sha256, one.blocks) == (hashlib.sha256(body).digest(), blocks_of(body))
    assert (public(tmp_path) / "large").read_bytes() == body


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        (0, [(PIECE, True), (PIECE, True), (5, False)]),
        (PIECE, [(PIECE, True), (PIECE, True), (5, False)]),
        (100, [(PIECE - 100, False), (PIECE, True), (105, False)]),
    ],
)
async def test_what_is_not_to_be_kept_in_memory_goes_past_the_page_cache(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, begun: int, expected: list[tuple[int, bool]]
) -> None:
    seen: list[tuple[int, bool]] = []
    past = False

    def past_cache(descriptor: int, wanted: bool) -> None:
        nonlocal past
        past = wanted

    def noted(real: Callable[..., int]) -> Callable[..., int]:
        def write(descriptor: int, data: object) -> int:
            written = real(descriptor, data)
            seen.append((written, past))
            return written

        return write

    monkeypatch.setattr(linux, "past_cache", past_cache)
    monkeypatch.setattr(os, "write", noted(os.write))
    monkeypatch.setattr(os, "writev", noted(os.writev))
    staging = await Staging.open(tree, b"large", begun + 2 * PIECE + 5)
    await send(staging, bytes(begun))
    await staging._all_written()
    seen.clear()
    into = staging.intake(aside=True)
    await pour(into, bytes(2 * PIECE + 5))
    await staging.finish(LARGE)
    assert [one for one in seen if one[0]] == expected


@pytest.mark.parametrize("where", ["where it is asked for", "where it is written"])
async def test_a_file_system_that_cannot_write_past_its_cache_is_written_to_as_it_can(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    real, asked = linux.past_cache, list[bool]()

    def past_cache(descriptor: int, wanted: bool) -> None:
        asked.append(wanted)
        if wanted and where == "where it is asked for":
            raise OSError(errno.EINVAL, "no")
        real(descriptor, wanted)

    write = os.write

    def refusing(descriptor: int, data: bytes) -> int:
        if linux.fcntl.fcntl(descriptor, linux.fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "not so")
        return write(descriptor, data)

    monkeypatch.setattr(linux, "past_cache", past_cache)
    monkeypatch.setattr(os, "write", refusing)
    body = random.Random(5).randbytes(5 * PIECE)
    staging = await Staging.open(tree, b"large", len(body))
    await pour(staging.intake(aside=True), body)
    one = await staging.finish(LARGE)
    held(tree.apply([Change(b"", one.held, staged=one)])[0])
    assert (public(tmp_path) / "large").read_bytes() == body
    assert asked.count(True) == 1, "it is asked once"


@pytest.mark.parametrize("aside", [False, True], ids=["cached", "aside"])
async def test_98_short_writes_are_followed_by_the_rest(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aside: bool
) -> None:
    body = random.Random(4).randbytes(5 * PIECE + 7)
    monkeypatch.setattr(os, "write", write_half(5000))
    monkeypatch.setattr(os, "writev", lambda fd, pieces: os.write(fd, b"".join(pieces)))
    staging = await Staging.open(tree, b"large", len(body))
    await pour(staging.intake(aside=aside), body)
    one = await staging.finish(LARGE)
    held(tree.apply([Change(b"", one.held, staged=one)])[0])
    assert (public(tmp_path) / "large").read_bytes() == body


@pytest.mark.parametrize("aside", [False, True], ids=["cached", "aside"])
async def test_98_a_disk_that_fills_up_ends_it_and_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, aside: bool
) -> None:
    async def keep(partial: Partial) -> None:
        raise AssertionError(f"{partial}: what was lost on its way to the disk is not a beginning")

    with mounted("size=4m") as folder:
        tree = tree_at(folder, reserve=0)
        monkeypatch.setattr(tree.space, "require", lambda *_, **__: None)
        monkeypatch.setattr(linux, "fallocate", lambda *_: False)
        staging = await Staging.open(tree, b"f", 8 * 2**20, keep=keep)
        with pytest.raises(DiskFull, match="f: No space left"):
            await pour(staging.intake(aside=aside), bytes(8 * 2**20))
        await staging.abandon('"v"')
        assert temporaries(folder) == []
        tree.close()


async def test_who_gives_it_up_waits_for_the_write_that_is_under_way(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, writing, real = threading.Event(), threading.Event(), os.writev

    def slow(descriptor: int, data: list[bytes]) -> int:
        writing.set()
        assert go.wait(60)
        return real(descriptor, data)

    staging = await Staging.open(tree, b"large", None)
    monkeypatch.setattr(os, "writev", slow)
    await pour(staging.intake(aside=False), bytes(PIECE))
    assert await asyncio.to_thread(writing.wait, 60)
    giving_up = asyncio.create_task(staging.abandon(None))
    await asyncio.sleep(0.02)
    assert not giving_up.done()
    go.set()
    await giving_up
    assert temporaries(tmp_path) == []


async def test_an_intake_that_nothing_was_put_into_is_as_good_as_none(tree: Tree) -> None:
    staging = await Staging.open(tree, b"large", 100)
    staging.intake(aside=False)
    await send(staging, bytes(100))
    assert (await staging.finish(LARGE)).held.sha256 == hashlib.sha256(bytes(100)).digest()
