"""No name, link or race leads outside the public tree; no depth is too deep."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from cluster.errors import Blocked, DataMissing, StoreError
from cluster.model import Attributes, Kind
from cluster.store import dirfd
from cluster.store.tree import Change, Tree
from tests.store.trees import as_user, directory, file, held, public, put, staged, tree, tree_at

__all__ = ["tree"]


@pytest.fixture(params=["openat2", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reaching a path: with openat2, and as on a kernel without it."""
    if request.param == "walk":
        monkeypatch.setattr(dirfd, "_openat2_works", False)


@pytest.mark.usefixtures("way")
def test_a_planted_symlink_is_refused_by_every_operation_and_left_alone(tree: Tree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"canary")
    (public(tmp_path) / "pool").symlink_to(outside)
    before = [os.lstat(place) for place in (outside, outside / "f", public(tmp_path) / "pool")]

    for read in (tree.scan, lambda path: tree.lstat(path + b"/f"), lambda path: tree.open_file(path + b"/f")):
        with pytest.raises(Blocked, match="stands where a folder must be"):
            read(b"pool")
    for write in (
        lambda: tree.make_directories([b"pool/new"]),
        lambda: tree.settle({b"pool": directory(b"pool", mode=0o700)}),
    ):
        with pytest.raises(Blocked):
            write()
    refused = tree.apply(
        [
            Change(b"pool", file(b"f", b"x"), file(b"f", b"x"), staged(tree, file(b"f", b"x"), b"x")),
            Change(b"pool", directory(b"d")),
            Change(b"pool", file(b"f", b"canary"), attributes=True),
            Change(b"", directory(b"pool"), attributes=True),
        ]
    )
    assert [type(one) for one in refused] == [Blocked] * 4
    assert [type(one) for one in tree.trash([b"pool/f"], 1)] == [Blocked]
    assert tree.open_file(b"pool") is None
    assert [os.lstat(place) for place in (outside, outside / "f", public(tmp_path) / "pool")] == before


def test_the_trash_takes_a_symlink_itself(tree: Tree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"canary")
    (public(tmp_path) / "pool").symlink_to(outside)
    assert tree.trash([b"pool"], 1) == [None]
    tree.empty_trash(1)
    assert (outside / "f").read_bytes() == b"canary"
    assert tree.scan(b"") == {}


@pytest.mark.usefixtures("way")
def test_nothing_is_written_outside_while_a_racer_swaps_a_parent_for_a_symlink(
    tree: Tree, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub/f").write_bytes(b"canary")
    tree.make_directories([b"pool/sub"])
    pool, aside = public(tmp_path) / "pool", public(tmp_path) / "aside"
    over = threading.Event()

    def race() -> None:
        while not over.is_set():
            time.sleep(0.0002)
            pool.rename(aside)
            pool.symlink_to(outside)
            time.sleep(0.0002)
            pool.unlink()
            aside.rename(pool)

    racer = threading.Thread(target=race)
    racer.start()
    done = refused = 0
    before = os.lstat(outside / "sub"), os.lstat(outside / "sub/f")
    begun = time.monotonic()
    try:
        while (passed := time.monotonic() - begun) < 0.7 or (min(done, refused) < 10 and passed < 20):
            record = file(b"f", b"ours")
            result = put(tree, b"pool/sub/f", b"ours", record)
            done, refused = (
                done + (not isinstance(result, Exception)),
                refused + isinstance(result, Exception),
            )
            tree.apply([Change(b"pool/sub", directory(b"d"))])
            tree.trash([b"pool/sub/f", b"pool/sub/d"], 1)
    finally:
        over.set()
        racer.join()
    assert done >= 10
    assert refused >= 10
    assert (os.lstat(outside / "sub"), os.lstat(outside / "sub/f")) == before
    assert os.listdir(outside / "sub") == ["f"]


@pytest.mark.usefixtures("way")
def test_paths_beyond_path_max_work(tree: Tree, tmp_path: Path) -> None:
    path = b"/".join([b"%03d" % number + b"x" * 197 for number in range(60)])
    assert len(path) > 12_000
    tree.make_directories([path])
    record = held(put(tree, path + b"/f", b"deep"))
    tree.settle({path: directory(b"", mode=0o755)})
    found = tree.scan(path)
    assert found is not None
    assert found[b"f"].inode == record.inode
    hashed = tree.hash_file(path + b"/f")
    assert hashed is not None
    assert hashed[0] == record.sha256
    assert tree.trash([path + b"/f", path.split(b"/")[0]], 5) == [None, None]
    tree.empty_trash(5)
    assert os.listdir(tmp_path / "data/.sideways/trash/m") == []


def test_what_is_absent_is_none_and_a_file_is_no_directory(tree: Tree) -> None:
    held(put(tree, b"f", b"x"))
    assert tree.scan(b"absent") is tree.lstat(b"absent/f") is tree.open_file(b"absent") is None
    assert tree.hash_file(b"absent") is None
    with pytest.raises(Blocked):
        tree.scan(b"f")
    with pytest.raises(Blocked):
        tree.lstat(b"f/g")
    assert tree.lstat(b"") is not None


def test_devices_and_fifos_are_seen_but_never_opened(tree: Tree, tmp_path: Path) -> None:
    os.mkfifo(public(tmp_path) / "fifo")
    found = tree.scan(b"")
    assert found is not None
    assert found[b"fifo"].kind == Kind.SPECIAL
    assert tree.open_file(b"fifo") is None
    assert tree.hash_file(b"fifo") is None


def test_a_tree_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    tree = tree_at(tmp_path)
    tree.make_directories([b"d%d" % number for number in range(100)])
    tree.apply([Change(b"d%d" % number, directory(b"x")) for number in range(100)])
    record = held(put(tree, b"f", b"x"))
    tree.sync([])
    tree.hash_file(b"f")
    tree.settle({b"": None})
    put(tree, b"absent/f", b"x", record)
    tree.trash([b"f", b"absent/f"], 1)
    tree.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_the_trash_keeps_everything_that_was_moved_to_one_name_and_is_emptied_by_age(
    tree: Tree, tmp_path: Path
) -> None:
    trash = tmp_path / "data/.sideways/trash/m"
    for body in (b"one", b"two"):
        tree.make_directories([b"d"])
        held(put(tree, b"d/f", body))
        assert tree.trash([b"d/f"], 100) == [None]
    held(put(tree, b"g", b"a file"))
    assert tree.trash([b"d", b"g", b"g"], 101) == [None, None, None]
    kept = sorted(str(place.relative_to(trash)) for place in trash.rglob("*") if place.is_file())
    assert kept == ["100.1/d/f", "100/d/f", "101/g"]
    tree.empty_trash(99)
    assert len(os.listdir(trash)) == 3
    tree.empty_trash(100)
    assert os.listdir(trash) == ["101"]


def test_a_directory_with_all_it_holds_goes_to_the_trash_as_one(tree: Tree, tmp_path: Path) -> None:
    tree.make_directories([b"d/e"])
    held(put(tree, b"d/e/f", b"x"))
    assert tree.trash([b"d", b""], 7)[0] is None
    assert (tmp_path / "data/.sideways/trash/m/7/d/e/f").read_bytes() == b"x"
    assert isinstance(tree.trash([b""], 7)[0], Exception)


@pytest.mark.parametrize("path", ["/", "/.sideways/x"])
def test_a_mirror_never_owns_the_private_folder(tmp_path: Path, path: str) -> None:
    places = {"site": "s", "state": str(tmp_path / "state")}
    tree = Tree(str(tmp_path / "data"), "m", path, **places, reserve=None, attributes=Attributes())
    with pytest.raises(StoreError, match="no public path"):
        tree.open()


def test_reading_needs_no_rights_to_the_private_folder(tree: Tree, tmp_path: Path) -> None:
    held(put(tree, b"f", b"x"))
    places = {"site": "s", "state": str(tmp_path / "no state")}
    with as_user(tmp_path):
        for path in ("/pub/m", "/absent"):
            reader = Tree(str(tmp_path / "data"), "m", path, **places, reserve=None, attributes=Attributes())
            if path == "/absent":
                with pytest.raises(DataMissing):
                    reader.open(writing=False)
            else:
                reader.open(writing=False)
                assert reader.hash_file(b"f") is not None
                reader.close()
