"""Changes of a local source are told as they happen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cluster.errors import SourceMissing
from cluster.model import OriginSpec
from cluster.origin.watch import changes


async def told(root: Path, *steps: Callable[[], object], until: bytes) -> set[bytes]:
    """Every directory that is told after the steps, until `until` is among them."""
    seen: set[bytes] = set()
    stop = asyncio.Event()

    async def watch() -> None:
        async for found in changes(OriginSpec(f"file://{root}"), debounce=100, quiet=20, stop=stop):
            seen.update(found)

    watching = asyncio.create_task(watch())
    try:
        for step in steps:
            async with asyncio.timeout(15):
                while until not in seen:  # the watch takes a moment to begin
                    step()
                    await asyncio.sleep(0.15)
    finally:
        stop.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(watching, 5)
    return seen


async def test_a_change_is_told_by_its_directory(tmp_path: Path) -> None:
    (tmp_path / "pool" / "deep").mkdir(parents=True)
    seen = await told(tmp_path, (tmp_path / "pool" / "deep" / "f").touch, until=b"pool/deep")
    assert seen == {b"pool/deep"}


async def test_a_change_at_the_root_is_told_as_the_root(tmp_path: Path) -> None:
    assert await told(tmp_path, (tmp_path / "f").touch, until=b"") == {b""}


async def test_a_name_that_is_not_text_stands_for_the_whole_source(tmp_path: Path) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"\xff")
    (tmp_path / "pool").mkdir()
    os.mkdir(folder)

    def touch() -> None:
        os.close(os.open(os.path.join(folder, b"f"), os.O_CREAT | os.O_WRONLY))

    assert await told(tmp_path, touch, until=b"") == {b""}


async def test_the_watch_goes_on_after_such_a_name(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()

    def touch() -> None:
        os.close(os.open(os.path.join(os.fsencode(tmp_path), b"\xff"), os.O_CREAT | os.O_WRONLY))

    async def both() -> set[bytes]:
        seen: set[bytes] = set()
        stop = asyncio.Event()

        async def watch() -> None:
            async for found in changes(OriginSpec(f"file://{tmp_path}"), debounce=100, quiet=20, stop=stop):
                seen.update(found)

        watching = asyncio.create_task(watch())
        async with asyncio.timeout(15):
            while b"" not in seen:
                touch()
                await asyncio.sleep(0.15)
            while b"pool" not in seen:
                (tmp_path / "pool" / "f").touch()
                await asyncio.sleep(0.15)
        stop.set()
        await asyncio.wait_for(watching, 5)
        return seen

    assert await both() == {b"", b"pool"}


async def test_an_absent_source_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        await anext(aiter(changes(OriginSpec(f"file://{tmp_path}/absent"))))
