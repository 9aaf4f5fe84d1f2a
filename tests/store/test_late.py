"""Hashes of the blocks of a file that came when nobody could ask for parts of it."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import StoreError
from cluster.model import Held, Kind
from cluster.store import blocks, late
from cluster.store.blocks import Digest, block_hashes, of_range
from cluster.store.late import LateHashes

BLOCK = 2**16
BODY = random.Random(2).randbytes(5 * BLOCK + 9)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", BLOCK)
    monkeypatch.setattr(blocks, "PIECE", 10_000)
    monkeypatch.setattr(late, "PIECE", 10_000)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(BODY)
    descriptor = os.open(tmp_path / "file", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def hashes() -> Iterator[LateHashes]:
    made = LateHashes()
    yield made
    made.close()


def record(body: bytes = BODY) -> Held:
    digest = Digest()
    digest.update(body)
    return Held(b"file", Kind.FILE, size=len(body), sha256=digest.sha256)


async def test_all_who_ask_get_those_of_the_file_which_is_read_once(hashes: LateHashes, opened: int) -> None:
    found = await asyncio.gather(*(hashes.of(b"file", record(), opened) for _ in range(5)))
    assert found == [block_hashes(BODY)] * 5
    os.ftruncate(opened, 0)
    assert await hashes.of(b"file", record(), opened) == block_hashes(BODY)


async def test_who_gives_up_takes_nothing_from_the_others_and_leaves_nothing_open(
    hashes: LateHashes, opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, held, go = len(os.listdir("/proc/self/fd")), record(), threading.Event()
    monkeypatch.setattr(late, "Digest", lambda: Digest() if go.wait(60) else None)
    another = asyncio.ensure_future(hashes.of(b"another", replace(held, sha256=bytes(32)), opened))
    first = asyncio.ensure_future(hashes.of(b"file", held, opened))  # waits in line
    second = asyncio.ensure_future(hashes.of(b"file", held, opened))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    go.set()
    assert await second == block_hashes(BODY)
    with pytest.raises(StoreError):
        await another
    assert len(os.listdir("/proc/self/fd")) == before


async def test_what_the_disk_has_changed_gets_none_until_it_is_mended(
    hashes: LateHashes, opened: int
) -> None:
    os.pwrite(opened, b"\0" * 4, 70_000)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"^file: what is read from the disk is not what was written$"):
            await hashes.of(b"file", record(), opened)
    os.pwrite(opened, BODY[70_000:70_004], 70_000)
    assert await hashes.of(b"file", record(), opened) == block_hashes(BODY)


async def test_no_more_files_are_remembered_than_there_is_room_for(
    hashes: LateHashes, opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late, "KEPT", 2)
    for length in (5 * BLOCK, 4 * BLOCK, 3 * BLOCK):
        os.ftruncate(opened, length)
        assert await hashes.of(b"file", record(BODY[:length]), opened) == block_hashes(BODY[:length])
    assert repr(hashes) == "<LateHashes of 2 files>"


async def test_when_the_records_are_closed_whoever_waits_is_told(
    opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = LateHashes()
    monkeypatch.setattr(late, "Digest", lambda: hashes.close() or Digest())
    with pytest.raises(StoreError, match="not read to its end"):
        await hashes.of(b"file", record(), opened)


@pytest.mark.parametrize(
    ("first", "end"),
    [(0, len(BODY)), (0, BLOCK), (2 * BLOCK, 4 * BLOCK), (4 * BLOCK, len(BODY)), (5 * BLOCK, len(BODY))],
)
def test_a_range_has_the_hashes_of_its_blocks(opened: int, first: int, end: int) -> None:
    assert of_range(opened, first, end) == block_hashes(BODY)[first // BLOCK * 32 : -(-end // BLOCK) * 32]
