"""Files that another program brought into a folder of ours: how they become temporaries, and what is kept."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import Changed
from cluster.model import SECOND, Held, Kind, Stamp
from cluster.store.adoption import BROUGHT
from cluster.store.blocks import block_hashes
from cluster.store.landing import SMALL, Landing
from cluster.store.tree import BLOCK, Staged, Tree
from tests.store.trees import AT, temporaries, tree
from tests.store.world import World

__all__ = ["tree"]


def land(landing: Landing, path: str, body: bytes, mtime: int = AT) -> Path:
    place = Path(landing.folder) / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(body)
    place.chmod(0o600)
    os.utime(place, ns=(mtime, mtime))
    return place


def listed(name: bytes, size: int, **facts: object) -> Held:
    return replace(Held(name, Kind.FILE, size, mtime=Stamp(AT, SECOND)), **facts)  # type: ignore[arg-type]


def one(landing: Landing, path: bytes, held: Held, *, parts: bool = True) -> Staged | Changed | None:
    (taken,) = landing.take([(path, held)], parts=parts)
    return taken


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, BLOCK, BLOCK + 5], ids=str)
@pytest.mark.parametrize("parts", [True, False], ids=["with siblings", "alone"])
def test_a_file_becomes_a_temporary_with_its_hashes_and_looks(
    tree: Tree, tmp_path: Path, size: int, parts: bool
) -> None:
    body = random.Random(size).randbytes(size)
    landing = tree.landing()
    assert landing.older == str(tmp_path / "data/pub/m")
    place = land(landing, "a/b/f", body, AT + 5)
    inode = place.stat().st_ino
    staged = one(landing, b"a/b/f", listed(b"f", size, mode=0o640), parts=parts)
    assert isinstance(staged, Staged)
    assert (staged.held.sha256, staged.inode) == (hashlib.sha256(body).digest(), inode)
    assert staged.held.mtime == Stamp(AT + 5), "told more exactly than it was listed"
    assert staged.blocks == (block_hashes(body) if parts else b"")
    found = (tmp_path / "data/.sideways/tmp/m" / os.fsdecode(staged.temporary)).stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns, found.st_size) == (0o640, AT + 5, size)
    assert not place.exists()
    landing.remove()
    assert temporaries(tmp_path) == [os.fsdecode(staged.temporary)]


@pytest.mark.parametrize(
    "mode, at, listed_as, set_again",
    [
        (0o644, AT, Stamp(AT, SECOND), []),
        (0o644, AT + 5, Stamp(AT, SECOND), []),
        (0o600, AT, Stamp(AT), ["fchmod"]),
        (0o4755, AT, Stamp(AT), ["fchmod"]),
        (0o644, AT + 20 * SECOND, Stamp(AT, 60 * SECOND), ["utime"]),
    ],
    ids=["as wanted", "a finer time", "ours alone", "more than wanted", "a time listed in minutes"],
)
def test_of_what_came_only_those_looks_are_set_that_differ(
    tree: Tree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: int,
    at: int,
    listed_as: Stamp,
    set_again: list[str],
) -> None:
    landing = tree.landing()
    land(landing, "f", b"four", at).chmod(mode)
    calls: list[str] = []
    for call in ("fchmod", "fchown", "utime"):
        monkeypatch.setattr(os, call, partial(noted, calls, call, getattr(os, call)))
    staged = one(landing, b"f", listed(b"f", 4, mode=0o644, mtime=listed_as))
    monkeypatch.undo()
    assert isinstance(staged, Staged)
    assert calls == set_again
    found = (tmp_path / "data/.sideways/tmp/m" / os.fsdecode(staged.temporary)).stat()
    assert (found.st_mode & 0o7777, found.st_mtime_ns) == (0o644, AT if "utime" in calls else at)
    assert staged.held.disk_mtime == found.st_mtime_ns
    landing.remove()


def noted(calls: list[str], name: str, call: Callable[..., None], *given: Any, **more: Any) -> None:
    calls.append(name)
    call(*given, **more)


def test_what_is_not_there_is_not_taken_and_says_nothing_of_the_others(tree: Tree) -> None:
    landing = tree.landing()
    land(landing, "a/f", b"four")
    taken = landing.take([(b"a/g", listed(b"g", 4)), (b"a/f", listed(b"f", 4))], parts=False)
    assert taken[0] is None and isinstance(taken[1], Staged)
    landing.remove()


def test_what_is_not_the_listed_file_is_removed_and_told(tree: Tree) -> None:
    landing = tree.landing()
    place = land(landing, "f", b"longer")
    assert isinstance(one(landing, b"f", listed(b"f", 4)), Changed)
    assert not place.exists()
    place = land(landing, "f", b"four", AT + SECOND)
    assert isinstance(one(landing, b"f", listed(b"f", 4)), Changed)
    assert one(landing, b"f", listed(b"f", 4)) is None
    landing.remove()


def test_how_much_has_come_of_a_file_shows_under_the_name_that_it_has_until_then(tree: Tree) -> None:
    landing = tree.landing()
    land(landing, "a/.f.Ab12cD", bytes(700))
    land(landing, "a/.g.Ab12cD", bytes(900))
    assert landing.growth([b"a/f", b"a/x", b"b/f"]) == [700, 0, 0]
    landing.remove()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("kind", ["named", "not named yet", "set aside"])
async def test_what_had_come_of_a_large_file_when_the_process_died_is_gone_on_with(
    world: World, kind: str
) -> None:
    body = random.Random(1).randbytes(BROUGHT)
    async with world.store() as store:
        landing = await store.beginnings.land([])
        place = {"named": "a/f", "not named yet": "a/.f.Ab12cD", "set aside": f"a/{landing.begun}/f"}[kind]
        land(landing, place, body)
        land(landing, "a/g", body[:-1])
        dead = Path(landing.folder)
        kept = dead.with_name("kept")
        dead.rename(kept)  # closing in order would take it away
        outside = world.top / "outside"
        outside.mkdir()
        (outside / "f").write_bytes(body)
        (kept / "link").symlink_to(outside)
        aside = world.top / "aside"
        kept.rename(aside)
    aside.rename(dead)
    async with world.store() as store:
        landing = await store.beginnings.land([b"a/f", b"a/g"])
        begun = Path(landing.folder) / "a" / landing.begun
        assert [(one.name, one.read_bytes() == body) for one in begun.iterdir()] == [("f", True)]
        await store.beginnings.leave(landing, {b"a/f": 2 * BROUGHT})
    assert (outside / "f").exists()
    async with world.store() as store:
        landing = await store.beginnings.land([b"a/f"])
        assert (Path(landing.folder) / "a" / landing.begun / "f").read_bytes() == body
        await store.beginnings.leave(landing, {})
    assert list(dead.parent.iterdir()) == []


async def test_of_a_folder_that_is_no_landing_nothing_is_kept_when_the_process_died(world: World) -> None:
    async with world.store() as store:
        landing = await store.beginnings.land([])
        other = Path(landing.folder).with_name("sideways-rsync-ab12cd34")
        await store.beginnings.leave(landing, {})
    other.mkdir(mode=0o700)
    (other / "f").write_bytes(bytes(BROUGHT))
    async with world.store() as store:
        assert not other.exists()
        landing = await store.beginnings.land([b"f"])
        assert list(Path(landing.folder).iterdir()) == []
        await store.beginnings.leave(landing, {})


async def test_a_file_that_comes_in_another_way_does_not_go_on_with_what_a_program_brought(
    world: World,
) -> None:
    async with world.store() as store:
        landing = await store.beginnings.land([])
        land(landing, f"{landing.begun}/f", bytes(BROUGHT))
        await store.beginnings.leave(landing, {b"f": 2 * BROUGHT})
        staging = await store.beginnings.stage(b"f", 2 * BROUGHT)
        assert (staging.start, staging.etag) == (0, None)
        await staging.abandon(None)
