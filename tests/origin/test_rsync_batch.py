"""Batches of files through the real rsync: what comes, what is said of what does not, what is left alone."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import OriginError, Refused, Unreachable, Vanished
from cluster.origin import rsync_child
from cluster.origin.base import Batch, Traffic
from cluster.origin.rsync_batch import Remote, Said, bring, names, options, withheld
from cluster.origin.rsync_child import Ended
from tests.origin.stalling import stalling
from tests.servers import Server, rsyncd

THEN = 1_600_000_000
SOME = random.Random(7).randbytes(3 * 2**20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    with rsyncd(root) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "landing"
    made.mkdir(mode=0o700)
    return made


def remote(server: Server, **facts: object) -> Remote:
    made = Remote(("rsync", "--no-motd", "--timeout=60"), server.url, "rsync", 60.0)
    return replace(made, **facts)  # type: ignore[arg-type]


def write(root: Path, path: bytes, body: bytes = b"body", mode: int = 0o644) -> Path:
    place = root / os.fsdecode(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(body)
    place.chmod(mode)
    os.utime(place, ns=(THEN * 10**9 + 123_456_789,) * 2)
    return place


def batch(folder: Path, *paths: bytes, **facts: object) -> Batch:
    return replace(Batch(str(folder), ".~begun", paths), **facts)  # type: ignore[arg-type]


def unknown(ended: Ended) -> OriginError:
    return Unreachable("/", f"exit {ended.code}")


async def brought(
    remote: Remote, batch: Batch, traffic: Traffic | None = None
) -> dict[bytes, int | OriginError]:
    """What is told of, each once."""
    found: dict[bytes, int | OriginError] = {}
    async with aclosing(bring(remote, batch, traffic or Traffic(), unknown)) as reports:
        async for report in reports:
            for path, told in report:
                assert path not in found
                found[path] = told
    return found


def there(folder: Path) -> dict[bytes, bytes]:
    """Every regular file."""
    return {
        os.fsencode(place.relative_to(folder)): place.read_bytes()
        for place in folder.rglob("*")
        if place.is_file() and not place.is_symlink()
    }


ODD = [
    b"plain",
    b"two words",
    b" leading",
    b"trailing ",
    b"new\nline",
    b"back\\slash",
    b"b\\#012",
    b"lat\xe9",
    "tromsø ☃".encode(),
    b"#hash",
    b";semicolon",
    b"-n",
    b"--delete",
    b"*",
    b"[a]?",
    b"a -> b",
    b"'\"$HOME`id`",
    b"\x1b[31m",
    b"~",
    b"x" * 255,
]


@pytest.mark.parametrize("whole", [False, True], ids=["by their names", "as a directory"])
@pytest.mark.parametrize("directory", [b"", b"deep/er \xff"], ids=["at the top", "below"])
async def test_names_come_byte_for_byte(
    root: Path, server: Server, folder: Path, whole: bool, directory: bytes
) -> None:
    paths = [os.path.join(directory, name) for name in ODD]
    for path in paths:
        write(root, path, path)
    wanted = batch(folder, *paths, whole=(directory,) if whole else ())
    assert set(await brought(remote(server), wanted)) == set(paths)
    assert there(folder) == {path: path for path in paths}


async def test_a_file_keeps_its_time_to_the_nanosecond_and_is_ours_alone_to_read(
    root: Path, server: Server, folder: Path
) -> None:
    write(root, b"d/f", mode=0o4777)
    await brought(remote(server), batch(folder, b"d/f"))
    found = (folder / "d" / "f").stat()
    assert found.st_mtime_ns == THEN * 10**9 + 123_456_789
    assert (found.st_mode & 0o7777, (folder / "d").stat().st_mode & 0o7777) == (0o600, 0o700)


@pytest.mark.parametrize("whole", [(), (b"d",)], ids=["by their names", "as a directory"])
async def test_a_mirror_of_a_part_of_a_module_has_the_paths_of_the_part(
    root: Path, server: Server, folder: Path, tmp_path: Path, whole: tuple[bytes, ...]
) -> None:
    write(root, b"pub/there/d/f", SOME + b"more")
    write(root, b"d/f", b"another")
    write(tmp_path / "older", b"d/f", SOME)
    traffic, older = Traffic(), str(tmp_path / "older")
    at = remote(server, base=b"pub/there")
    told = await brought(at, batch(folder, b"d/f", b"d/gone", older=older, whole=whole), traffic)
    assert there(folder) == {b"d/f": SOME + b"more"}
    assert isinstance(told.get(b"d/gone", Vanished("", "")), Vanished) and b"d/f" in told
    assert traffic.bytes < len(SOME) // 50


async def test_only_what_is_wanted_comes(root: Path, server: Server, folder: Path) -> None:
    for path in (b"d/f", b"d/g", b"d/sub/h", b"e/f", b"e/g"):
        write(root, path)
    (root / "d" / "link").symlink_to("f")
    os.mkfifo(root / "d" / "fifo")
    await brought(remote(server), batch(folder, b"e/g", b"d/f", b"d/g", whole=(b"d",)))
    assert sorted(there(folder)) == [b"d/f", b"d/g", b"e/g"]
    assert not (folder / "d" / "link").is_symlink() and not (folder / "d" / "fifo").exists()


async def test_nothing_comes_that_is_larger_than_what_is_wanted(
    root: Path, server: Server, folder: Path
) -> None:
    write(root, b"d/f", b"four")
    write(root, b"d/huge", bytes(100_000))
    await brought(remote(server), batch(folder, b"d/f", whole=(b"d",), largest=4))
    assert there(folder) == {b"d/f": b"four"}


async def test_what_is_gone_or_cannot_be_read_is_told_and_the_rest_comes(
    root: Path, server: Server, folder: Path
) -> None:
    write(root, b"a/f")
    write(root, b"z/f")
    wanted = batch(folder, b"a/f", b"a/go\nne", b"gone/f", b"z/f")
    told = await brought(remote(server), wanted)
    assert isinstance(told.pop(b"a/go\nne"), Vanished)
    assert isinstance(told.pop(b"gone/f"), Vanished)
    assert set(told) == set(there(folder)) == {b"a/f", b"z/f"}


@pytest.mark.parametrize(
    "line, path, kind",
    [
        ('rsync: [sender] link_stat "a/f" (in m) failed: No such file or directory (2)', b"a/f", Vanished),
        ('file has vanished: "/sub/a/f" (in m)', b"a/f", Vanished),
        ('rsync: [sender] send_files failed to open "/a/l\\#351" (in m): Permission denied (13)',
         b"a/l\xe9", Refused),
        ('rsync: [sender] read errors mapping "/a/f" (in m): Input/output error (5)', b"a/f", Unreachable),
        ('rsync: [sender] link_stat "/home/m/a/f" failed: No such file or directory (2)', b"a/f", Vanished),
    ],
)  # fmt: skip
def test_a_complaint_belongs_to_the_file_that_it_names(
    line: str, path: bytes, kind: type[OriginError], folder: Path
) -> None:
    ended = Ended(23, f"{line}\nrsync error: some files/attrs were not transferred (code 23) at main.c(1)\n")
    ((named, error),) = withheld(ended, batch(folder, b"a/f", b"a/l\xe9", b"f"))
    assert (named, type(error)) == (path, kind)


def test_a_file_is_told_of_when_the_next_line_says_that_it_has_its_name() -> None:
    said = Said()
    assert said.take([b"@41 a/f", b"@0 a/b/"]) == [(b"a/f", 41)]
    assert said.take([b"@7 a/b/x", b"@8 a/l\\#351", b"", b"Number of files: 3"]) == [(b"a/b/x", 7)]
    assert said.take([b"Total bytes received: 1234", b"@999999999999999999 f", b"sent 5 bytes"]) == []
    assert said.end() == [(b"a/l\xe9", 8)]
    assert (said.bytes, said.received, said.end()) == (56, 1234, [])


async def test_what_is_received_is_counted_by_rsync_itself(root: Path, server: Server, folder: Path) -> None:
    write(root, b"f", SOME)
    traffic = Traffic()
    await brought(remote(server), batch(folder, b"f"), traffic)
    assert (traffic.requests, traffic.bytes - len(SOME) in range(1, 2000)) == (1, True)


async def test_of_an_edited_file_only_what_differs_comes_and_the_older_version_stays(
    root: Path, server: Server, folder: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    before = write(older, b"d/image", SOME)
    write(root, b"d/image", SOME[: 2**20] + b"edited" + SOME[2**20 + 6 :])
    os.utime(root / "d" / "image", (THEN + 9, THEN + 9))
    looked = before.lstat()
    traffic = Traffic()
    await brought(remote(server), batch(folder, b"d/image", older=str(older)), traffic)
    assert there(folder)[b"d/image"] == (root / "d" / "image").read_bytes()
    assert traffic.bytes < len(SOME) // 50
    found = before.lstat()
    assert (found.st_ino, found.st_mtime_ns, found.st_ctime_ns) == (
        looked.st_ino,
        looked.st_mtime_ns,
        looked.st_ctime_ns,
    )
    assert before.read_bytes() == SOME
    assert sorted(there(older)) == [b"d/image"]


async def test_a_file_that_looks_like_the_older_one_comes_all_the_same(
    root: Path, server: Server, folder: Path, tmp_path: Path
) -> None:
    write(root, b"f", b"good")
    write(tmp_path / "older", b"f", b"evil")
    await brought(remote(server), batch(folder, b"f", older=str(tmp_path / "older")))
    assert there(folder) == {b"f": b"good"}


@pytest.mark.parametrize("alike", [True, False])
async def test_an_older_file_under_another_name_serves_where_that_is_asked_for(
    root: Path, server: Server, folder: Path, tmp_path: Path, alike: bool
) -> None:
    write(root, b"d/package_1.1.deb", SOME + b"more")
    write(tmp_path / "older", b"d/package_1.0.deb", SOME)
    write(tmp_path / "older", b"d/other", b"x")
    traffic = Traffic()
    wanted = batch(folder, b"d/package_1.1.deb", older=str(tmp_path / "older"), alike=alike)
    await brought(remote(server), wanted, traffic)
    assert there(folder) == {b"d/package_1.1.deb": SOME + b"more"}
    assert (traffic.bytes < len(SOME) // 50) is alike


async def test_what_had_begun_to_come_is_gone_on_with(root: Path, server: Server, folder: Path) -> None:
    write(root, b"d/big", SOME)
    write(folder, b"d/.~begun/big", SOME[: 2 * 2**20])
    traffic = Traffic()
    await brought(remote(server), batch(folder, b"d/big"), traffic)
    assert there(folder) == {b"d/big": SOME}
    assert traffic.bytes < len(SOME) // 2


async def test_what_comes_when_it_is_broken_off_is_kept_for_the_next_time(
    root: Path, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsync_child, "MERCY", 600.0)
    write(root, b"d/big", SOME, mode=0o444)
    async with stalling(server.url, 2**20) as url:
        running = asyncio.ensure_future(brought(remote(server, source=url), batch(folder, b"d/big")))
        while not any(place.stat().st_size >= 2**18 for place in folder.glob("d/.big.*")):
            await asyncio.sleep(0.01)
            assert not running.done()
        running.cancel()
        await asyncio.wait([running])
    (kept,) = there(folder)
    assert kept == b"d/.~begun/big"
    half = (folder / os.fsdecode(kept)).stat()
    assert (half.st_mode & 0o777, half.st_mtime_ns // 10**9 == THEN) == (0o600, False)
    traffic = Traffic()
    await brought(remote(server), batch(folder, b"d/big"), traffic)
    assert there(folder) == {b"d/big": SOME}
    assert traffic.bytes < len(SOME)


async def test_a_server_without_a_free_connection_or_with_another_word_is_an_error(
    root: Path, folder: Path
) -> None:
    write(root, b"f")
    with rsyncd(root, extra="max connections = -1") as server, pytest.raises(OriginError):
        await brought(remote(server), batch(folder, b"f"))
    with pytest.raises(OriginError):  # nobody is there any more
        await brought(remote(server), batch(folder, b"f"))
    assert there(folder) == {}


def test_a_rate_is_told_to_rsync(folder: Path) -> None:
    assert "--bwlimit=300" in options(batch(folder, b"f", rate=300 * 1024))
    assert "--bwlimit=1" in options(batch(folder, b"f", rate=5))
    assert not [one for one in options(batch(folder, b"f")) if one.startswith("--bwlimit")]


def test_rsync_is_never_told_to_delete_or_to_work_in_place(folder: Path) -> None:
    told = options(batch(folder, b"f", older="/older", alike=True, rate=9, whole=(b"d",)))
    assert not [one for one in told if "delete" in one or "inplace" in one or "backup" in one]


def test_a_directory_that_is_wanted_as_such_is_one_name(folder: Path) -> None:
    wanted = batch(folder, b"a/f", b"a/g", b"a/b/f", b"c", whole=(b"a",))
    assert names(wanted) == b"./a/\0./a/b/f\0./c\0"
    assert names(batch(folder, b"f", whole=(b"",))) == b"./\0"
