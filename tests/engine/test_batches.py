"""Files that a program of the origin's brings many at once: what is taken of them, and what is not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.engine import batches
from cluster.errors import OriginError, Unreachable
from cluster.model import Kind, Sideways
from cluster.origin.base import Batch, Brought
from cluster.origin.memory import EPOCH
from cluster.peer.claims import Claims
from tests.engine.world import Ledger, Noted, Told, World

BIG = batches.LARGE


class Bringing(Noted):
    """A memory origin that brings files into folders, and misbehaves as it is told."""

    def __init__(self, ledger: Ledger, **facts: Any) -> None:
        super().__init__(ledger, **facts)
        self.properties = replace(self.properties, batches=True)
        self.batches: list[Batch] = []
        self.instead: dict[bytes, Callable[[Path], object]] = {}  # what is put where a file belongs
        self.untold: set[bytes] = set()  # files that come, and nothing is said of them
        self.also: list[Brought] = []  # what is told beside
        self.failures: list[tuple[int, OriginError]] = []  # of one batch after another: after so many files
        self.extra: Callable[[Path], object] = lambda folder: None
        self.between: Callable[[bytes], Awaitable[None]] | None = None  # awaited before each file
        self.writing = 0

    async def bring(self, batch: Batch) -> AsyncGenerator[Sequence[Brought], None]:
        self.batches.append(batch)
        self.traffic.requests += 1
        self.writing += 1
        try:
            self.extra(Path(batch.folder))
            yield self.also
            after, error = self.failures.pop(0) if self.failures else (-1, None)
            for number, path in enumerate(batch.files):
                if error is not None and number == after:
                    raise error
                if self.between is not None:
                    await self.between(path)
                node = self.tree().get(path)
                if node is None or node.kind is not Kind.FILE:
                    continue
                self._put(Path(batch.folder), path, node.data, node.mtime)
                self.traffic.bytes += len(node.data)
                if path not in self.untold:
                    yield [(path, len(node.data))]
            if error is not None and after >= len(batch.files):
                raise error
        finally:
            self.writing -= 1

    def _put(self, folder: Path, path: bytes, body: bytes, mtime: int) -> None:
        place = folder / os.fsdecode(path)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path in self.instead:
            self.instead[path](place)
        else:
            place.write_bytes(body)
            os.utime(place, ns=(mtime, mtime))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    made.origin = made.memory = Bringing(made.ledger)
    yield made
    assert origin(made).writing == 0
    await made.check()


def origin(world: World) -> Bringing:
    assert isinstance(world.memory, Bringing)
    return world.memory


def put(world: World, *paths: bytes, body: Callable[[bytes], bytes] = lambda path: path * 9) -> None:
    for path in paths:
        world.memory.put(path, body(path))


async def test_what_is_wanted_comes_in_few_batches_and_a_second_pass_asks_for_none(world: World) -> None:
    put(world, *[b"d%d/f%d" % (n % 7, n) for n in range(200)], b"top", "naïve\n".encode("latin-1"))
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin) == ("complete", 202)
    assert len(origin(world).batches) <= 8  # one for each directory at most, however slow the walk
    assert world.memory.asked("read") == []
    again = await world.run()
    assert (again.files.unchanged, again.files.origin, again.requests_origin) == (202, 0, 8)


async def test_a_directory_is_asked_for_as_such_where_all_of_it_is_wanted(world: World) -> None:
    put(world, *[b"all/%d" % n for n in range(20)], *[b"some/%d" % n for n in range(20)])
    await world.run()
    assert {path for batch in origin(world).batches for path in batch.whole} == {b"all", b"some"}
    world.memory.update(b"some/3", b"newer")
    world.memory.update(b"some/4", b"newer")
    del origin(world).batches[:]
    await world.run()
    world.equal()
    (batch,) = origin(world).batches
    assert (batch.whole, batch.files, batch.older) == ((), (b"some/3", b"some/4"), str(world.public))


def _as_listed(place: Path) -> None:
    place.write_bytes(b"a/f" * 9)
    os.utime(place, ns=(EPOCH, EPOCH))


def _link(place: Path) -> None:
    _as_listed(place.with_name("what it leads to"))
    place.symlink_to("what it leads to")


def _two_names(place: Path) -> None:
    _as_listed(place)
    os.link(place, place.with_name("second"))


def _later(place: Path) -> None:
    place.write_bytes(b"a/f" * 9)


@pytest.mark.parametrize(
    "put_there",
    [
        _link,
        _two_names,
        _later,
        os.mkfifo,
        Path.mkdir,
        lambda place: place.write_bytes(b"short"),
        lambda place: place.write_bytes(b"much longer than it was listed, by far"),
    ],
    ids=["a link", "two names", "another time", "a fifo", "a folder", "shorter", "longer"],
)
async def test_what_comes_is_taken_only_where_it_is_the_listed_file(
    world: World, put_there: Callable[[Path], object]
) -> None:
    put(world, b"a/f", b"a/good")
    origin(world).instead[b"a/f"] = put_there
    report = await world.run()
    assert world.bodies() == {b"a/good": b"a/good" * 9}
    assert (report.outcome, report.files.failed) == ("incomplete", 1)
    assert world.memory.asked("listing").count(b"a") == 2, "its directory is listed once more first"
    origin(world).instead.clear()
    assert (await world.run()).outcome == "complete"
    world.equal()


async def test_nothing_is_taken_that_was_not_asked_for(world: World) -> None:
    put(world, b"a/f", b"b")

    def more(folder: Path) -> None:
        (folder / "a").mkdir(exist_ok=True)
        (folder / "a" / "g").write_bytes(b"not listed")
        (folder / "unlisted").mkdir()
        (folder / "unlisted" / "f").write_bytes(b"not listed")

    origin(world).extra = more
    origin(world).also = [(b"a/g", 10), (b"../up", 1), (b"gone", Unreachable("/gone", "no such name"))]
    assert (await world.run()).outcome == "complete"
    world.equal()


async def test_a_link_in_the_place_of_a_directory_leads_nowhere(world: World) -> None:
    put(world, b"a/f")
    outside = world.top / "outside"
    outside.mkdir()
    origin(world).extra = lambda folder: (folder / "a").symlink_to(outside)
    report = await world.run()
    assert (report.outcome, world.bodies()) == ("incomplete", {})


async def test_what_is_not_told_of_is_found_at_the_end(world: World) -> None:
    put(world, b"a/f", b"a/g")
    origin(world).untold = {b"a/f"}
    assert (await world.run()).outcome == "complete"
    world.equal()


async def test_a_batch_that_breaks_off_is_gone_on_with(world: World) -> None:
    put(world, *[b"f%d" % n for n in range(10)])
    origin(world).failures = [(4, Unreachable("/", "connection lost")), (3, Unreachable("/", "again"))]
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"
    assert [len(batch.files) for batch in origin(world).batches] == [10, 6, 3]


async def test_an_origin_that_never_answers_fails_each_file_and_nothing_else(world: World) -> None:
    put(world, b"f", b"g")
    origin(world).failures = [(0, Unreachable("/", "max connections reached")) for _ in range(9)]
    told = Told()
    report = await world.run(told=told)
    assert (report.outcome, report.files.failed) == ("incomplete", 2)
    assert {error for _, error in told.failures} == {"max connections reached"}
    assert len(origin(world).batches) == world.mirror.limits.retries
    origin(world).failures = []
    assert (await world.run()).outcome == "complete"


async def test_a_file_that_vanishes_makes_its_directory_be_listed_again_and_others_come(world: World) -> None:
    put(world, b"a/f", b"a/gone", b"b/f")

    async def vanish(path: bytes) -> None:
        if path == b"a/gone" and path in world.memory.tree():
            world.memory.remove(path)

    origin(world).between = vanish
    report = await world.run()
    assert (report.outcome, report.files.failed) == ("complete", 0)
    assert sorted(world.bodies()) == [b"a/f", b"b/f"]
    assert world.memory.asked("listing").count(b"a") == 2
    assert world.memory.asked("listing").count(b"b") == 1


async def test_a_pass_that_is_cancelled_keeps_what_came_and_leaves_no_folder(world: World) -> None:
    put(world, *[b"f%d" % n for n in range(6)])
    begun = asyncio.Event()

    async def hang(path: bytes) -> None:
        if path == b"f3":
            begun.set()
            await asyncio.Event().wait()

    origin(world).between = hang
    running = asyncio.ensure_future(world.run())
    await begun.wait()
    running.cancel()
    await asyncio.wait([running])
    assert sorted(world.bodies()) == [b"f0", b"f1", b"f2"]
    temporaries = Path(world.site.data) / ".sideways" / "tmp" / "deb"
    assert list(temporaries.iterdir()) == []
    origin(world).between = None
    assert (await world.run()).files.origin == 3
    world.equal()


async def test_what_has_begun_to_come_is_there_for_the_next_attempt(world: World) -> None:
    body = bytes(BIG) + b"end"
    put(world, b"a/big", body=lambda path: body)

    def begins(place: Path) -> None:
        batch = origin(world).batches[-1]
        folder = place.parent / batch.begun
        seen.append((folder / "big").read_bytes() if (folder / "big").exists() else b"")
        folder.mkdir(exist_ok=True)
        (folder / "big").write_bytes(body[: 3 * 2**20])

    seen: list[bytes] = []
    origin(world).instead[b"a/big"] = begins
    world.partials = 1
    assert (await world.run()).outcome == "incomplete"
    assert (await world.run()).outcome == "incomplete"
    assert seen[0] == b"" and seen[-1] == body[: 3 * 2**20]
    origin(world).instead.clear()
    world.partials = 0
    assert (await world.run()).outcome == "complete"
    world.equal()


async def test_what_a_sibling_holds_is_not_asked_for(world: World) -> None:
    put(world, *[b"d/f%d" % n for n in range(20)])
    oslo = world.sibling()
    for n in range(15):
        oslo.hold(b"d/f%d" % n, b"d/f%d" % n * 9)
    report = await world.run()
    world.equal()
    assert (report.files.sideways, report.files.origin) == (15, 5)
    assert {path for batch in origin(world).batches for path in batch.files} == {
        b"d/f%d" % n for n in range(15, 20)
    }
    assert all(batch.whole == () for batch in origin(world).batches)


async def test_while_a_large_file_comes_siblings_hear_how_much_of_it_has(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world, b"a/big", body=lambda path: bytes(BIG))
    world.mirror = replace(world.mirror, sideways=Sideways(patience=0.03))
    world.sibling()
    heard: asyncio.Queue[int] = asyncio.Queue()
    real = Claims.progress

    def noted(self: Claims, mirror: str, directory: bytes, name: bytes, received: int, now: float) -> None:
        heard.put_nowait(received)
        real(self, mirror, directory, name, received, now)

    monkeypatch.setattr(Claims, "progress", noted)

    async def slowly(path: bytes) -> None:
        place = Path(origin(world).batches[-1].folder) / "a"
        place.mkdir(mode=0o700)
        for size in (1000, 2000):
            (place / ".big.Xy12Zz").write_bytes(bytes(size))
            while await heard.get() != size:
                pass

    origin(world).between = slowly
    assert (await world.run()).outcome == "complete"
    world.equal()


@pytest.mark.parametrize("files, size", [(3, 10**9), (10**6, 40)], ids=["files", "bytes"])
async def test_a_batch_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch, files: int, size: int
) -> None:
    monkeypatch.setattr(batches, "FILES", files)
    monkeypatch.setattr(batches, "BYTES", size)
    put(world, *[b"f%d" % n for n in range(10)], body=lambda path: bytes(10))
    assert (await world.run()).outcome == "complete"
    world.equal()
    counts = [len(batch.files) for batch in origin(world).batches]
    assert sum(counts) == 10 and max(counts) <= max(files if files < 10 else 4, 1)


async def test_few_files_are_asked_for_by_name_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "NAMED", 3)
    put(world, *[b"all/%d" % n for n in range(10)], *[b"some/%d" % n for n in range(12)])
    await world.run()
    assert {len(batch.files) for batch in origin(world).batches} <= {10, 12, 22}, "whole directories"
    for n in range(10):
        world.memory.update(b"some/%d" % n, b"newer")
    del origin(world).batches[:]
    origin(world).failures = [(2, Unreachable("some", "broke off"))]
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin) == ("complete", 10)
    assert max(len(batch.files) for batch in origin(world).batches) == 3


async def test_a_dry_run_brings_nothing(world: World) -> None:
    put(world, b"f")
    told = Told()
    await world.run(told=told, dry=True)
    assert (origin(world).batches, told.plan) == ([], [("fetch", b"f")])
