"""What a change does to the public tree, and what it leaves alone."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import Blocked, StoreError, UnsafeName
from cluster.model import Held, Kind, Stamp
from cluster.store.tree import Change, Tree
from tests.store.trees import (
    AT,
    as_user,
    directory,
    file,
    held,
    public,
    put,
    staged,
    symlink,
    temporaries,
    tree,
    tree_at,
)

__all__ = ["tree"]


def test_a_published_file_has_its_bytes_time_and_mode_and_its_record_says_what_lstat_says(
    tree: Tree, tmp_path: Path
) -> None:
    tree.make_directories([b"a/b"])
    record = held(put(tree, b"a/b/f", b"hello"))
    found = os.lstat(public(tmp_path) / "a/b/f")
    assert (public(tmp_path) / "a/b/f").read_bytes() == b"hello"
    assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode)) == (AT, 0o644)
    assert (record.disk_mtime, record.inode) == (found.st_mtime_ns, found.st_ino)
    seen = tree.lstat(b"a/b/f")
    assert seen is not None
    assert (seen.kind, seen.size, seen.mtime, seen.inode) == (Kind.FILE, 5, AT, found.st_ino)
    assert temporaries(tmp_path) == []


def test_a_recorded_file_is_replaced_also_when_it_was_edited_or_removed(tree: Tree, tmp_path: Path) -> None:
    record = held(put(tree, b"f", b"one"))
    record = held(put(tree, b"f", b"two", record))
    (public(tmp_path) / "f").write_bytes(b"edited by hand")
    record = held(put(tree, b"f", b"three", record))
    (public(tmp_path) / "f").unlink()
    held(put(tree, b"f", b"four", record))
    assert (public(tmp_path) / "f").read_bytes() == b"four"


def plant(place: Path, kind: str) -> None:
    match kind:
        case "file":
            place.write_bytes(b"stranger")
        case "directory":
            place.mkdir()
            (place / "inside").write_bytes(b"stranger")
        case "symlink":
            place.symlink_to("/etc/passwd")
        case "fifo":
            os.mkfifo(place)


def looks(place: Path) -> tuple[int, int, int]:
    found = os.lstat(place)
    return found.st_ino, found.st_mode, found.st_mtime_ns


@pytest.mark.parametrize("stranger", ["file", "directory", "symlink", "fifo"])
@pytest.mark.parametrize("wanted", ["file", "directory", "symlink", "hard link"])
def test_a_stranger_at_a_public_name_is_left_alone(
    tree: Tree, tmp_path: Path, stranger: str, wanted: str
) -> None:
    place = public(tmp_path) / "x"
    plant(place, stranger)
    before = looks(place)
    put(tree, b"other", b"body")
    change = {
        "file": lambda: Change(b"", file(b"x", b"new"), staged=staged(tree, file(b"x", b"new"), b"new")),
        "directory": lambda: Change(b"", directory(b"x")),
        "symlink": lambda: Change(b"", symlink(b"x", b"target")),
        "hard link": lambda: Change(b"", file(b"x", b"body"), link_to=b"other"),
    }[wanted]()
    result = tree.apply([change])[0]
    if (stranger, wanted) == ("directory", "directory"):
        assert held(result).inode == before[0]
    else:
        assert isinstance(result, Blocked), result
    assert looks(place) == before
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize(
    ("was", "becomes"), [("file", "directory"), ("symlink", "directory"), ("directory", "file")]
)
def test_a_directory_never_takes_the_place_of_a_file_nor_the_reverse(
    tree: Tree, tmp_path: Path, was: str, becomes: str
) -> None:
    place = public(tmp_path) / "x"
    plant(place, was)
    before = looks(place)
    previous = Held(b"x", Kind(was))
    if becomes == "file":
        result = put(tree, b"x", b"new", previous)
    else:
        result = tree.apply([Change(b"", directory(b"x"), previous=previous)])[0]
    assert isinstance(result, Blocked)
    assert looks(place) == before


@pytest.mark.parametrize("stranger", ["directory", "fifo"])
def test_what_took_the_place_of_a_recorded_file_and_is_none_is_left_alone(
    tree: Tree, tmp_path: Path, stranger: str
) -> None:
    record = held(put(tree, b"x", b"ours"))
    place = public(tmp_path) / "x"
    place.unlink()
    plant(place, stranger)
    before = looks(place)
    result = put(tree, b"x", b"new", record)
    assert isinstance(result, Blocked)
    assert "stands where a file was recorded" in str(result)
    assert looks(place) == before


def test_what_is_right_already_is_adopted(tree: Tree, tmp_path: Path) -> None:
    root = public(tmp_path)
    (root / "link").symlink_to("target")
    (root / "file").write_bytes(b"body")
    (root / "dir").mkdir()
    inodes = [os.lstat(root / name).st_ino for name in ("link", "file", "dir")]
    results = tree.apply(
        [
            Change(b"", symlink(b"link", b"target")),
            Change(b"", file(b"file", b"body", mode=0o640), attributes=True),
            Change(b"", directory(b"dir")),
        ]
    )
    assert [held(result).inode for result in results] == inodes
    found = os.lstat(root / "file")
    assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode)) == (AT, 0o640)
    assert held(results[1]).private


def test_attributes_are_not_set_on_another_version_than_was_examined(tree: Tree, tmp_path: Path) -> None:
    record = held(put(tree, b"f", b"body"))
    os.utime(public(tmp_path) / "f", ns=(1, 1))
    change = Change(b"", replace(record, mtime=Stamp(5)), previous=record, attributes=True)
    assert isinstance(tree.apply([change])[0], StoreError)
    assert os.lstat(public(tmp_path) / "f").st_mtime_ns == 1


def test_a_symlink_of_ours_is_turned_elsewhere(tree: Tree, tmp_path: Path) -> None:
    first = held(tree.apply([Change(b"", symlink(b"l", b"a"))])[0])
    second = held(tree.apply([Change(b"", symlink(b"l", b"b"), previous=first)])[0])
    assert os.readlink(public(tmp_path) / "l") == "b"
    found = tree.lstat(b"l")
    assert found is not None
    assert (found.kind, found.inode) == (Kind.SYMLINK, second.inode)


def test_hard_links_share_an_inode_and_a_second_time_changes_nothing(tree: Tree, tmp_path: Path) -> None:
    tree.make_directories([b"d"])
    first = held(put(tree, b"f", b"body"))
    link = held(tree.apply([Change(b"d", file(b"g", b"body"), link_to=b"f")])[0])
    assert (link.inode, link.disk_mtime) == (first.inode, first.disk_mtime)
    again = held(tree.apply([Change(b"d", link, previous=link, link_to=b"f")])[0])
    assert again == link
    assert os.lstat(public(tmp_path) / "f").st_nlink == 2
    later = Stamp(AT + 7)
    both = [replace(first, mtime=later), replace(link, mtime=later)]
    assert all(
        held(result).disk_mtime == AT + 7
        for result in tree.apply(
            [Change(b"", both[0], first, attributes=True), Change(b"d", both[1], link, attributes=True)]
        )
    )
    assert temporaries(tmp_path) == []


def test_a_hard_link_to_nothing_or_to_a_symlink_is_refused(tree: Tree, tmp_path: Path) -> None:
    (public(tmp_path) / "l").symlink_to("/etc/passwd")
    for source in (b"absent", b"l"):
        assert isinstance(tree.apply([Change(b"", file(b"g", b""), link_to=source)])[0], StoreError)
    assert tree.lstat(b"g") is None


def test_one_change_that_fails_does_not_stop_the_others(tree: Tree, tmp_path: Path) -> None:
    (public(tmp_path) / "pool").symlink_to("/etc")
    changes = [
        Change(above, file(b"f", b"x"), staged=staged(tree, file(b"f", b"x"), b"x"))
        for above in (b"pool", b"absent", b"../m", b"")
    ]
    results = tree.apply(changes)
    assert [type(result) for result in results] == [Blocked, StoreError, UnsafeName, Held]
    assert "pool/f: a symbolic link" in str(results[0])
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "told", "seen", "private"),
    [
        (Kind.FILE, None, 0o644, False),
        (Kind.FILE, 0o4755, 0o755, False),
        (Kind.FILE, 0o777, 0o775, False),
        (Kind.FILE, 0o640, 0o640, True),
        (Kind.FILE, 0o000, 0o000, True),
        (Kind.DIRECTORY, None, 0o755, False),
        (Kind.DIRECTORY, 0o7777, 0o775, False),
        (Kind.DIRECTORY, 0o751, 0o751, True),
        (Kind.DIRECTORY, 0o555, 0o555, False),
    ],
)
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_modes_are_the_origins_without_set_id_and_world_write_under_any_umask(
    tree: Tree, tmp_path: Path, kind: Kind, told: int | None, seen: int, private: bool, umask: int
) -> None:
    if os.geteuid() != 0:
        seen |= 0o400 if kind is Kind.FILE else 0o700
    before = os.umask(umask)
    try:
        if kind is Kind.FILE:
            record = held(put(tree, b"x", b"body", mode=told))
        else:
            record = held(tree.apply([Change(b"", directory(b"x", mode=told))])[0])
            tree.settle({b"x": record})
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.lstat(public(tmp_path) / "x").st_mode) == seen
    assert record.private is private
    assert record.mode == told


def test_the_operators_mode_opens_nothing_that_the_origin_keeps_private(tmp_path: Path) -> None:
    tree = tree_at(tmp_path, file_mode=0o664, directory_mode=0o2777)
    for name, mode in ((b"open", 0o600 | 0o044), (b"closed", 0o600)):
        held(put(tree, name, b"x", mode=mode))
    held(tree.apply([Change(b"", directory(b"d", mode=0o755))])[0])
    found = {
        name: stat.S_IMODE(os.lstat(public(tmp_path) / name).st_mode) for name in ("open", "closed", "d")
    }
    assert found == {"open": 0o664, "closed": 0o660, "d": 0o775}
    tree.close()


def test_owners_are_set_as_root_only(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    tree = tree_at(tmp_path / "a", group="0")
    held(put(tree, b"f", b"x", uid=1234, gid=1234))
    assert (os.lstat(public(tmp_path / "a") / "f").st_uid, os.lstat(public(tmp_path / "a") / "f").st_gid) == (
        1234,
        0,
    )
    tree.close()
    with pytest.raises(StoreError, match="nobody-of-this-name: no such user"):
        tree_at(tmp_path / "b", owner="nobody-of-this-name")
    with as_user(tmp_path):
        tree = tree_at(tmp_path / "c", owner="root")
        held(put(tree, b"f", b"x", uid=1234))
    assert os.lstat(public(tmp_path / "c") / "f").st_uid == 65534
    tree.close()


def test_a_directory_without_owner_write_does_not_lock_an_ordinary_user_out(tmp_path: Path) -> None:
    with as_user(tmp_path):
        tree = tree_at(tmp_path)
        record = held(tree.apply([Change(b"", directory(b"d", mode=0o555))])[0])
        tree.settle({b"d": record})
        first = held(put(tree, b"d/f", b"one", mode=0o000))
        held(put(tree, b"d/f", b"two", first))
        assert tree.hash_file(b"d/f") is not None
        assert tree.trash([b"d"], 1) == [None]
        tree.empty_trash(1)
        tree.close()
    assert os.listdir(tmp_path / "data/.sideways/trash/m") == []


def test_settling_sets_times_of_directories_after_their_contents_and_reports_one_that_is_gone(
    tree: Tree, tmp_path: Path
) -> None:
    names = [b"d%d" % number for number in range(12)]  # more than are synced one by one
    tree.make_directories([name + b"/sub" for name in names])
    for name in names:
        held(put(tree, name + b"/sub/f", b"x"))
    records: dict[bytes, Held | None] = {name: directory(name, mtime=Stamp(AT)) for name in names}
    records |= {name + b"/sub": directory(b"sub", mtime=Stamp(AT + 1)) for name in names}
    tree.settle(records | {b"": None})
    assert {os.lstat(public(tmp_path) / os.fsdecode(name)).st_mtime_ns for name in names} == {AT}
    with pytest.raises(StoreError, match="gone"):
        tree.settle({b"gone": None, b"d1": directory(b"d1", mtime=Stamp(AT + 5))})
    assert os.lstat(public(tmp_path) / "d1").st_mtime_ns == AT + 5


def test_a_reader_sees_one_complete_version_at_every_instant_of_a_thousand_replacements(
    tree: Tree, tmp_path: Path
) -> None:
    versions = [bytes([number]) * (1000 + number) for number in range(10)]
    record = held(put(tree, b"f", versions[0]))
    opened = (public(tmp_path) / "f").open("rb")
    seen: set[bytes] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.add((public(tmp_path) / "f").read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1000):
            record = held(put(tree, b"f", versions[number % 10], record))
    finally:
        over.set()
        reader.join()
    assert seen <= set(versions)
    assert len(seen) > 1
    assert opened.read() == versions[0]
    opened.close()


names = st.binary(min_size=1, max_size=255).filter(lambda b: b"/" not in b and b"\0" not in b)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bodies=st.dictionaries(names.filter(lambda b: b not in (b".", b"..")), st.binary(max_size=64), max_size=8)
)
def test_any_names_and_bodies_come_back_as_they_were_published(
    tree: Tree, bodies: dict[bytes, bytes]
) -> None:
    for name, body in bodies.items():
        held(put(tree, name, body))
    found = tree.scan(b"")
    assert found is not None
    assert {name: stat.size for name, stat in found.items()} == {n: len(b) for n, b in bodies.items()}
    for name, body in bodies.items():
        hashed = tree.hash_file(name)
        assert hashed is not None
        assert hashed[0] == file(name, body).sha256
    assert tree.trash(list(bodies), 1) == [None] * len(bodies)
    assert tree.scan(b"") == {}


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b", b"x" * 256])
def test_what_is_no_plain_name_is_refused(tree: Tree, tmp_path: Path, name: bytes) -> None:
    change = Change(b"", file(name, b"x"), staged=staged(tree, file(b"x", b"x"), b"x"))
    assert isinstance(tree.apply([change])[0], UnsafeName)
    assert os.listdir(public(tmp_path)) == temporaries(tmp_path) == []
