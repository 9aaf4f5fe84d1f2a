"""A folder of this machine as an origin: links, mounts, and sources that are not what they seem."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster.errors import (
    Changed,
    IncompleteListing,
    OriginError,
    Refused,
    SourceMissing,
    TooLarge,
    Unreachable,
    UsageError,
    Vanished,
)
from cluster.model import Entry, Kind, Limits, OriginSpec, Stamp
from cluster.origin import local, local_names
from cluster.origin.base import Want
from cluster.origin.local import LocalOrigin, source_path
from tests.origin.conformance import received

LARGE = 3 * 2**20 + 5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    (root / "a").write_bytes(b"first")
    (root / "below").mkdir()
    (root / "below" / "b").write_bytes(b"second")
    return root


def origin_at(root: Path, *, marker: str | None = None, **limits: int) -> LocalOrigin:
    return LocalOrigin(OriginSpec(f"file://{root}", marker=marker), Limits(**limits))


async def entries(root: Path, directory: bytes = b"") -> dict[bytes, Entry]:
    return {entry.name: entry for entry in (await origin_at(root).listing(directory)).entries}


# -- what a listing tells


async def test_times_modes_and_owners_are_told_exactly(root: Path) -> None:
    os.utime(root / "a", ns=(1, 1_600_000_000_123_456_789))
    os.chmod(root / "a", 0o4751)
    entry = (await entries(root))[b"a"]
    assert (entry.size, entry.mtime, entry.mode) == (5, Stamp(1_600_000_000_123_456_789), 0o4751)
    assert (entry.uid, entry.gid) == (os.getuid(), os.getgid())


async def test_a_time_beyond_every_record_is_the_last_that_there_is(root: Path) -> None:
    (root / "far").write_bytes(b"x")
    os.utime(root / "far", (2**34, 2**34))  # the year 2514; ext4 makes it 2446
    stamp = (await entries(root))[b"far"].mtime
    assert stamp is not None
    assert (root / "far").stat().st_mtime_ns > 2**63 - 1 == stamp.ns


async def test_the_directory_tells_of_itself(root: Path) -> None:
    os.chmod(root / "below", 0o750)
    os.utime(root / "below", ns=(1, 77))
    own = (await origin_at(root).listing(b"below")).own
    assert own is not None
    assert (own.name, own.kind, own.mode, own.mtime) == (b"below", Kind.DIRECTORY, 0o750, Stamp(77))


async def test_symlinks_are_told_and_never_followed(root: Path) -> None:
    for name, target in ((b"out", b"/etc"), (b"up", b"../../x"), (b"loop", b"loop"), (b"odd", b"b\xff")):
        os.symlink(target, os.fsencode(root) + b"/" + name)
    found = await entries(root)
    assert {name: e.target for name, e in found.items() if e.kind is Kind.SYMLINK} == {
        b"out": b"/etc",
        b"up": b"../../x",
        b"loop": b"loop",
        b"odd": b"b\xff",
    }


async def test_a_link_in_the_source_leads_nowhere(root: Path, tmp_path: Path) -> None:
    """HAZARDS 15, 17."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"canary")
    os.symlink(tmp_path / "outside", root / "out")
    os.symlink(tmp_path / "outside" / "secret", root / "file")
    origin = origin_at(root)
    for path in (b"out/secret", b"file"):
        with pytest.raises(Changed):
            await received(origin, path)
        with pytest.raises(Changed):
            origin.open(path)
    with pytest.raises(Changed):
        await origin.listing(b"out")


@pytest.mark.parametrize(
    "path", [b"../outside", b"below/../../outside", b"/etc/passwd", b"below//b", b"a\0b", b"below/.."]
)
async def test_a_path_with_more_than_plain_names_is_refused(root: Path, path: bytes) -> None:
    with pytest.raises(Refused):
        await received(origin_at(root), path)
    with pytest.raises(Refused):
        await origin_at(root).facts(path)


async def test_hard_links_share_an_identity(root: Path) -> None:
    os.link(root / "a", root / "below" / "again")
    one, other = (await entries(root))[b"a"], (await entries(root, b"below"))[b"again"]
    assert one.link == other.link is not None
    assert (one.links, other.links) == (2, 2)
    assert (await entries(root, b"below"))[b"b"].link is None


async def test_special_files_are_listed_and_never_opened(root: Path) -> None:
    """HAZARDS 24. Opening a FIFO without a writer would wait for ever."""
    os.mkfifo(root / "fifo")
    assert (await entries(root))[b"fifo"].kind is Kind.SPECIAL
    with pytest.raises(Changed, match="not a regular file"):
        origin_at(root).open(b"fifo")


async def test_a_name_is_bytes(root: Path) -> None:
    name = b"\xff\n\\ \x01"
    Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"odd")
    assert name in await entries(root)
    assert await received(origin_at(root), name) == b"odd"


async def test_too_many_entries_are_an_error_and_not_a_part(root: Path) -> None:
    with pytest.raises(TooLarge, match="more than 1 entries"):
        await origin_at(root, directory_entries=1).listing(b"")


BIND = """
import asyncio, subprocess, sys
from cluster.model import Limits, OriginSpec
from cluster.origin.local import LocalOrigin
root = sys.argv[1]
subprocess.run(["mount", "--bind", root, root + "/below"], check=True)
async def main():
    origin = LocalOrigin(OriginSpec("file://" + root), Limits())
    listing = await origin.listing(b"")
    print([e.name for e in listing.entries], [(r.name, r.reason) for r in listing.rejected])
asyncio.run(main())
"""


def test_a_bind_mount_that_leads_back_is_reported_and_left_out(root: Path) -> None:
    """HAZARDS 19. In a mount namespace of its own, which goes with the process."""
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", sys.executable, "-c", BIND, root],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[b'a'] [(b'below', 'leads back to a directory above it')]", done.stderr


# -- sources that are not there (HAZARDS 36)


async def test_an_absent_source_is_missing_and_not_empty(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="No such file"):
        await origin_at(tmp_path / "absent").listing(b"")


async def test_an_empty_source_looks_like_an_unmounted_one(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="unmounted"):
        await origin_at(tmp_path).listing(b"")


async def test_a_marker_proves_a_source(root: Path) -> None:
    origin = origin_at(root, marker="below/b")
    await origin.listing(b"")
    (root / "below" / "b").unlink()
    for ask in (origin.listing(b""), origin.listing(b"below"), origin.facts(b"a"), received(origin, b"a")):
        with pytest.raises(SourceMissing, match="lacks its marker"):
            await ask


async def test_a_source_that_goes_away_during_a_pass_takes_nothing_with_it(root: Path) -> None:
    """Without a marker: what lies under the mount point is another folder, whatever is in it."""
    origin = origin_at(root)
    await origin.listing(b"")
    root.rename(root.with_name("gone"))
    (root / "below").mkdir(parents=True)
    for ask in (origin.listing(b"below"), origin.facts(b"a")):
        with pytest.raises(SourceMissing, match="another folder"):
            await ask
    (root / "a").touch()
    assert len((await origin.listing(b"")).entries) == 2, "a new pass begins at the root and looks anew"


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.EIO, Unreachable),
        (errno.ESTALE, Unreachable),
        (errno.ENOTCONN, SourceMissing),
        (errno.EACCES, Refused),
        (errno.ENOENT, Vanished),
        (errno.ELOOP, Changed),
    ],
)
async def test_an_error_while_reading_is_never_an_empty_listing(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[OriginError]
) -> None:
    def broken(*_: object) -> object:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(local_names.os, "scandir", broken)
    with pytest.raises(error) as raised:
        await origin_at(root).listing(b"below")
    assert raised.value.path == "below"


# -- changes meanwhile


def touching(root: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """The next `times` scans find a name that was made after they had begun."""
    scans: list[int] = []
    real = local.scan

    def scan(*args: object) -> object:
        listing = real(*args)  # type: ignore[arg-type]
        scans.append(1)
        if len(scans) <= times:
            (root / "below" / f"new{len(scans)}").touch()
        return listing

    monkeypatch.setattr(local, "scan", scan)
    return scans


async def test_a_directory_that_changed_while_it_was_listed_is_listed_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = touching(root, monkeypatch, times=1)
    os.utime(root / "below", ns=(1, 1))
    assert set(await entries(root, b"below")) == {b"b", b"new1"}
    assert len(scans) == 2


async def test_a_directory_that_never_rests_is_incomplete(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touching(root, monkeypatch, times=99)
    real = os.fstat
    count = iter(range(10**6))

    class Restless:
        def __init__(self, status: os.stat_result) -> None:
            self._status, self.st_ctime_ns = status, next(count)  # a clock finer than this kernel's

        def __getattr__(self, name: str) -> object:
            return getattr(self._status, name)

    monkeypatch.setattr(local.os, "fstat", lambda descriptor: Restless(real(descriptor)))
    with pytest.raises(IncompleteListing, match="changed each of the 3 times"):
        await origin_at(root).listing(b"below")


@pytest.mark.parametrize("change", ["append", "truncate", "replace", "rewrite"])
async def test_a_file_that_changes_while_it_is_read_is_not_delivered(root: Path, change: str) -> None:
    """HAZARDS 96."""
    file = root / "large"
    file.write_bytes(b"x" * LARGE)
    with pytest.raises(Changed):
        async with origin_at(root).read(b"large", Want(size=LARGE)) as body:
            async for _ in body.chunks():
                if change == "append":
                    with file.open("ab") as open_file:
                        open_file.write(b"y")
                elif change == "truncate":
                    os.truncate(file, LARGE - 1)
                elif change == "replace":
                    (root / "new").write_bytes(b"z" * LARGE)
                    (root / "new").rename(file)
                else:
                    file.write_bytes(b"w" * LARGE)


async def test_a_part_of_another_version_is_not_delivered(root: Path) -> None:
    with pytest.raises(Changed):
        await received(origin_at(root), b"a", Want(size=5, start=1, stop=2, etag='"other"'))


# -- descriptors and threads


async def test_no_descriptor_is_left_open(root: Path) -> None:
    origin = origin_at(root)
    before = os.listdir("/proc/self/fd")
    await origin.listing(b"below")
    await received(origin, b"below/b")
    for path, want in ((b"absent", Want()), (b"below", Want()), (b"a", Want(size=1)), (b"a", Want(limit=1))):
        with pytest.raises(OriginError):
            await received(origin, path, want)
    os.close(origin.open(b"a"))
    assert os.listdir("/proc/self/fd") == before


async def test_a_file_system_that_hangs_is_given_up_and_its_file_closed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, closed = threading.Event(), threading.Event()
    real_open, real_close = os.open, os.close
    opened: list[int] = []

    def slow(path: bytes, flags: int, **kwargs: int) -> int:
        descriptor = real_open(path, flags, **kwargs)
        if path == b"a":
            go_on.wait()
            opened.append(descriptor)
        return descriptor

    def close(descriptor: int) -> None:
        real_close(descriptor)
        if descriptor in opened:
            closed.set()

    monkeypatch.setattr(local.os, "open", slow)
    monkeypatch.setattr(local.os, "close", close)
    origin = LocalOrigin(OriginSpec(f"file://{root}"), Limits(timeout=0.05))
    with pytest.raises(Unreachable, match="no answer for"):
        await received(origin, b"a")
    go_on.set()
    assert await asyncio.to_thread(closed.wait, 5)


@pytest.mark.parametrize(
    "url", ["file://host/x", "file:x", "file:", "file:///x#y", "file:///x?y", "http://x/"]
)
def test_a_url_that_names_no_folder_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="not a folder of this machine"):
        source_path(OriginSpec(url))


@pytest.mark.parametrize(
    ("url", "path"),
    [("file:///a%20b/%ff/", b"/a b/\xff"), ("file://localhost/x", b"/x"), ("file:///", b"/")],
)
def test_a_url_names_a_folder_by_its_bytes(url: str, path: bytes) -> None:
    assert source_path(OriginSpec(url)) == path


async def test_a_file_that_is_left_while_a_thread_reads_it_is_closed_by_that_thread(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed before, its number could be another file's when the thread reads."""
    (root / "large").write_bytes(bytes(LARGE))
    reading, go_on = threading.Event(), threading.Event()
    real = local._read
    read: list[os.stat_result] = []

    def slow(shown: str, descriptor: int, status: os.stat_result, length: int, *, last: bool) -> bytes:
        reading.set()
        go_on.wait(10)
        read.append(os.fstat(descriptor))
        return real(shown, descriptor, status, length, last=last)

    before = len(os.listdir("/proc/self/fd"))
    origin = origin_at(root)

    async def leave_early() -> None:
        async with origin.read(b"large", Want()) as body:
            chunks = body.chunks()
            await anext(chunks)
            monkeypatch.setattr(local, "_read", slow)
            await anext(chunks)

    task = asyncio.create_task(leave_early())
    await asyncio.to_thread(reading.wait, 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    other = os.open("/etc/passwd", os.O_RDONLY)
    go_on.set()
    while len(os.listdir("/proc/self/fd")) > before + 1:  # noqa: ASYNC110  # a thread ends its read
        await asyncio.sleep(0.01)
    os.close(other)
    assert [found.st_size for found in read] == [LARGE]
    await origin.close()
