"""A tree on a temporary folder, and short words for what the tests do with it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.model import Attributes, Held, Kind, Stamp
from cluster.store.tree import Change, Staged, Tree

AT = 1_700_000_000 * 10**9


def tree_at(folder: Path, *, reserve: int | None = None, **attributes: str | int) -> Tree:
    tree = Tree(
        str(folder / "data"),
        "m",
        "/pub/m",
        site="kent",
        state=str(folder / "state"),
        reserve=reserve,
        attributes=Attributes(**attributes),  # type: ignore[arg-type]
    )
    tree.open()
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = tree_at(tmp_path)
    yield tree
    tree.close()


def public(folder: Path) -> Path:
    return folder / "data/pub/m"


def file(name: bytes, body: bytes, **more: object) -> Held:
    held = Held(name, Kind.FILE, len(body), hashlib.sha256(body).digest(), Stamp(AT))
    return replace(held, **more)  # type: ignore[arg-type]


def directory(name: bytes, **more: object) -> Held:
    return replace(Held(name, Kind.DIRECTORY), **more)  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes) -> Held:
    return Held(name, Kind.SYMLINK, target=target)


def staged(tree: Tree, held: Held, body: bytes) -> Staged:
    return tree.stage_small([(held, body)])[0]


def put(
    tree: Tree, path: bytes, body: bytes, previous: Held | None = None, **more: object
) -> Held | Exception:
    above, _, name = path.rpartition(b"/")
    held = file(name, body, **more)
    return tree.apply([Change(above, held, previous=previous, staged=staged(tree, held, body))])[0]


def held(result: Held | Exception) -> Held:
    assert isinstance(result, Held), result
    return result


def temporaries(folder: Path) -> list[str]:
    return os.listdir(folder / "data/.sideways/tmp/m")


@contextlib.contextmanager
def mounted(*options: str) -> Iterator[Path]:
    """A small tmpfs; skips where we may not mount."""
    folder = Path(tempfile.mkdtemp())
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        folder.rmdir()
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


@contextlib.contextmanager
def as_user(folder: Path) -> Iterator[None]:
    """Without root's rights: as user 65534, to whom the way to `folder` is opened."""
    if os.geteuid() != 0:
        yield
        return
    for above in (folder, *folder.parents):
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(above.stat().st_mode | 0o011)
    os.chown(folder, 65534, 65534)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextlib.contextmanager
def file_system(kind: str) -> Iterator[Path]:
    """A small disk of this kind in a file; skips where it cannot be made or mounted."""
    with tempfile.TemporaryDirectory() as folder:
        image, place = Path(folder) / "image", Path(folder) / "disk"
        place.mkdir()
        with open(image, "wb") as made:
            made.truncate(320 * 2**20)
        make = shutil.which(f"mkfs.{kind}", path=f"{os.environ['PATH']}:/sbin:/usr/sbin")
        commands = [[make or "", "-q", str(image)], ["mount", "-o", "loop", str(image), str(place)]]
        if make is None or any(subprocess.run(one, capture_output=True).returncode for one in commands):
            pytest.skip(f"no {kind} can be mounted here")
        try:
            yield place
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
