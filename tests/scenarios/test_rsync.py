"""What rsync itself promises of a mirror, promised by passes over a real daemon: `docs/design/rsync.md` has
the table of its behaviours, and which test is of which."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cluster.engine import batches
from cluster.model import Mirror, OriginSpec, Rule
from cluster.origin.base import Origin
from cluster.origin.limit import Hosts, Limited
from cluster.origin.logged import Logged
from cluster.origin.rsync import RsyncOrigin
from tests.engine.world import Told, World
from tests.origin.stalling import stalling
from tests.servers import Server, rsyncd

THEN = 1_600_000_000 * 10**9
SOME = random.Random(11).randbytes(3 * 2**20)


@dataclass
class Net(World):
    """A world whose origin is a daemon of rsync over `root`; each pass opens it anew."""

    url: str = ""
    opened: list[RsyncOrigin] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.top / "source"

    def _open(self, spec: OriginSpec, mirror: Mirror) -> Origin:
        self.opened.append(RsyncOrigin(OriginSpec(self.url, private=True), mirror.limits))
        return Limited(Logged(self.opened[-1]), "127.0.0.1", mirror.limits, Hosts())

    def put(self, path: bytes, body: bytes | None = None, *, mode: int = 0o644, at: int = 0) -> Path:
        place = self.root / os.fsdecode(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_bytes(path * 3 if body is None else body)
        self.ledger.file(path, place.read_bytes())
        place.chmod(mode)
        os.utime(place, ns=(THEN + at, THEN + at))
        return place


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "source").mkdir()
    with rsyncd(tmp_path / "source") as running:
        yield running


@pytest.fixture
async def world(server: Server, tmp_path: Path) -> AsyncIterator[Net]:
    made = Net(tmp_path, url=server.url)
    made.origin = None
    yield made
    await made.check()


def shape(root: Path) -> dict[str, tuple[Any, ...]]:
    """Kind, mode, time, size or target of everything."""
    found: dict[str, tuple[Any, ...]] = {}
    for place in sorted(root.rglob("*")):
        looked = place.lstat()
        kind = "link" if place.is_symlink() else "folder" if place.is_dir() else "file"
        told = (os.readlink(place),) if kind == "link" else (looked.st_mode & 0o777, looked.st_mtime_ns)
        found[str(place.relative_to(root))] = (kind, *told, place.read_bytes() if kind == "file" else b"")
    return found


def age(root: Path) -> None:
    """Directories have an old time as well."""
    for place in sorted(root.rglob("*"), reverse=True):
        if place.is_dir() and not place.is_symlink():
            os.utime(place, ns=(THEN, THEN))
    os.utime(root, ns=(THEN, THEN))


async def test_a_tree_comes_as_it_is_and_a_second_pass_brings_nothing(world: Net) -> None:
    for n in range(40):
        world.put(b"d%d/f%d" % (n % 4, n), at=n * 1000)
    world.put(b"d0/deeper/script", mode=0o755)
    world.put(b"new\nline and l\xe9/b\\#012")
    world.put(b"empty", b"")
    (world.root / "hollow").mkdir()
    (world.root / "d0" / "to").symlink_to("f0")
    (world.root / "up").symlink_to("d0/f4")
    age(world.root)
    report = await world.run()
    assert (report.outcome, report.files.origin) == ("complete", 43)
    assert shape(world.public) == shape(world.root)
    again = await world.run()
    assert (again.outcome, again.files.origin, again.bytes_origin) == ("complete", 0, 0)
    assert again.files.unchanged >= 43
    assert world.opened[-1].traffic.bytes == 0


async def test_what_is_received_is_what_rsync_says(world: Net) -> None:
    world.put(b"a", SOME)
    report = await world.run()
    assert 0 < report.bytes_origin - len(SOME) < 2000


async def test_a_mode_that_changes_copies_nothing(world: Net) -> None:
    world.put(b"d/f")
    await world.run()
    (world.root / "d" / "f").chmod(0o755)
    report = await world.run()
    assert (report.outcome, report.bytes_origin) == ("complete", 0)
    assert (world.public / "d" / "f").stat().st_mode & 0o777 == 0o755


async def test_names_of_one_file_stay_one_file_and_come_once(world: Net) -> None:
    first = world.put(b"a/first", SOME)
    (world.root / "b").mkdir()
    os.link(first, world.root / "b" / "second")
    report = await world.run()
    assert (report.outcome, report.bytes_origin < 2 * len(SOME)) == ("complete", True)
    one, two = world.public / "a" / "first", world.public / "b" / "second"
    assert one.stat().st_ino == two.stat().st_ino


async def test_of_an_edited_image_only_the_difference_comes(world: Net) -> None:
    world.put(b"image", SOME)
    await world.run()
    world.put(b"image", SOME[: 2**20] + b"edited" + SOME[2**20 :], at=10**9)
    report = await world.run()
    assert (report.outcome, report.files.origin) == ("complete", 1)
    assert report.bytes_origin < len(SOME) // 50
    assert (world.public / "image").read_bytes() == (world.root / "image").read_bytes()


async def test_a_file_that_was_renamed_comes_from_the_older_name(world: Net) -> None:
    world.put(b"d/package_1.0.iso", SOME)
    await world.run()
    (world.root / "d" / "package_1.0.iso").rename(world.root / "d" / "package_1.1.iso")
    report = await world.run()
    assert report.bytes_origin < len(SOME) // 50
    assert (world.public / "d" / "package_1.1.iso").read_bytes() == SOME


async def test_the_same_size_and_time_with_other_bytes_here_is_mended(world: Net) -> None:
    world.put(b"d/f", b"right")
    await world.run()
    place = world.public / "d" / "f"
    place.write_bytes(b"wrong")
    os.utime(place, ns=(THEN + 5, THEN + 5))
    assert (await world.run()).outcome == "complete"
    assert place.read_bytes() == b"right"


async def test_what_the_origin_deletes_goes_here_by_our_judgement_alone(world: Net) -> None:
    world.put(b"d/f")
    world.put(b"d/g")
    await world.run()
    (world.root / "d" / "g").unlink()
    report = await world.run()
    assert report.files.deleted == 1
    assert sorted(place.name for place in (world.public / "d").iterdir()) == ["f"]


async def test_what_a_rule_leaves_out_is_never_asked_for(world: Net) -> None:
    world.mirror = replace(world.mirror, select=(Rule(False, pattern="**.iso", reason="large"),))
    world.put(b"d/f")
    world.put(b"d/huge.iso", SOME)
    report = await world.run()
    assert report.bytes_origin < len(SOME)
    assert [place.name for place in (world.public / "d").iterdir()] == ["f"]


async def test_a_file_that_cannot_be_read_fails_alone(world: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(b"a/f")
    world.put(b"a/g")
    real = RsyncOrigin.bring

    def gone(self: RsyncOrigin, batch: Any) -> Any:
        (world.root / "a" / "g").unlink(missing_ok=True)
        return real(self, batch)

    monkeypatch.setattr(RsyncOrigin, "bring", gone)
    told = Told()
    report = await world.run(told=told)
    assert (report.outcome, told.failures) == ("complete", [])  # its directory was listed again: it is gone
    assert [place.name for place in (world.public / "a").iterdir()] == ["f"]


async def test_a_file_that_grows_before_it_comes_is_listed_again(
    world: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(b"a/f")
    world.put(b"a/log", b"short")
    real, calls = RsyncOrigin.bring, 0

    def growing(self: RsyncOrigin, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            world.put(b"a/log", b"much longer", at=10**9)
        return real(self, batch)

    monkeypatch.setattr(RsyncOrigin, "bring", growing)
    report = await world.run()
    assert (report.outcome, calls) == ("complete", 2)
    assert (world.public / "a" / "log").read_bytes() == b"much longer"


async def test_a_special_file_or_a_link_that_leads_out_is_not_made(world: Net) -> None:
    world.put(b"d/f")
    os.mkfifo(world.root / "d" / "fifo")
    (world.root / "d" / "out").symlink_to("../../../etc/passwd")
    report = await world.run()
    assert (report.outcome, report.files.skipped) == ("complete", 2)
    assert [place.name for place in (world.public / "d").iterdir()] == ["f"]


async def test_a_pass_that_is_cut_off_goes_on_with_the_large_file_that_it_was_at(
    world: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "LARGE", 2**20)
    monkeypatch.setattr("cluster.origin.rsync_child.MERCY", 600.0)
    world.put(b"d/big", SOME)
    temporaries = world.top / "data" / ".sideways" / "tmp" / "deb"
    direct = world.url
    async with stalling(direct, 2 * 2**20) as world.url:
        running = asyncio.ensure_future(world.run())
        while not any(place.stat().st_size >= 5 * 2**18 for place in temporaries.glob("*/d/.big.*")):
            assert not running.done()
            await asyncio.sleep(0.01)
        world.partials = 1
        running.cancel()
        await asyncio.wait([running])
    world.url, world.partials = direct, 0
    report = await world.run()
    assert report.outcome == "complete"
    assert report.bytes_origin < len(SOME) - 2**20
    assert (world.public / "d" / "big").read_bytes() == SOME
