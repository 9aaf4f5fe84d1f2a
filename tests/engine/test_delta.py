"""A new version of a large file is made from the older one that is here and what differs at a sibling."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from cluster.errors import PeerBroke, PeerLacks, PeerSilent
from cluster.model import Delta, Mirror, Sideways, Trust
from cluster.store import rows
from cluster.store.reader import Reader
from cluster.store.summary import summarise
from tests.engine.world import FakeSibling, World

SIZE = 3_000_000
OLD = random.Random(11).randbytes(SIZE)


def edited(old: bytes = OLD) -> bytes:
    """Some bytes are others, some came and some went."""
    return old[:700_000] + b"new" + old[700_000:1_500_000] + old[1_500_100:2_000_000] + b"x" + old[2_000_001:]


def settings(mirror: Mirror, **said: object) -> Mirror:
    return replace(mirror, sideways=replace(mirror.sideways, **said))


async def older(world: World, path: bytes = b"img/a.iso", body: bytes = OLD) -> FakeSibling:
    """A world that holds one file, and a sibling that has joined since."""
    world.memory.put(path, body)
    await world.run()
    return world.sibling()


async def test_a_new_version_costs_what_differs(world: World) -> None:
    sibling = await older(world)
    world.memory.update(b"img/a.iso", edited())
    sibling.hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.sideways, report.files.origin) == ("complete", 1, 0)
    assert report.bytes_sideways < 10_000
    assert report.bytes_saved == len(edited()) - report.bytes_sideways
    assert not sibling.delivered and (await world.records())[b"img/a.iso"].source == "oslo"
    reader = await Reader.open(world.mirror.name, world.site)
    assert (await summarise(reader)).saved_bytes == report.bytes_saved
    await reader.close()


@pytest.mark.parametrize("hashed", [True, False])
async def test_what_was_appended_to_a_file_of_many_blocks_is_all_that_comes(
    world: World, hashed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it came without hashes of its blocks, since nobody was there to ask for them."""
    body = OLD * 6
    sibling = await older(world, body=body)
    if not hashed:
        monkeypatch.setattr(rows, "blocks", lambda connection, path: b"")
    world.memory.update(b"img/a.iso", body + b"appended")
    sibling.hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert report.bytes_sideways < 2_000


async def test_a_release_is_made_from_the_one_before_it(world: World) -> None:
    sibling = await older(world, b"src/foo-1.9.tar")
    world.memory.put(b"src/foo-1.10.tar", edited())
    sibling.hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert report.bytes_sideways < 10_000 and sibling.newer_asked == [b"src/foo-1.10.tar"]


@pytest.mark.parametrize(
    "name", [b"src/bar-1.10.tar", b"src/foo-1.9.tar.gz", b"other/foo-1.10.tar", b"src/foo-2"]
)
async def test_what_is_no_other_version_of_anything_comes_whole(world: World, name: bytes) -> None:
    sibling = await older(world, b"src/foo-1.9.tar")
    world.memory.put(name, edited())
    sibling.hold_all(world.memory)
    await world.run()
    world.equal()
    assert not sibling.newer_asked and sibling.delivered == [name]


async def test_what_has_next_to_nothing_in_common_comes_whole(world: World) -> None:
    sibling = await older(world)
    world.memory.update(b"img/a.iso", random.Random(12).randbytes(SIZE))
    sibling.hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert sibling.newer_asked and sibling.delivered and report.bytes_saved == 0
    assert report.bytes_sideways < 1.01 * SIZE


@pytest.mark.parametrize(
    ("mode", "speed", "asked"),
    [
        (Delta.AUTO, None, True),
        (Delta.AUTO, 2e6, True),
        (Delta.AUTO, 900e6, False),
        (Delta.ALWAYS, 900e6, True),
        (Delta.NO, 2e6, False),
    ],
)
async def test_it_is_chosen_where_the_measured_link_makes_it_faster(
    world: World, mode: Delta, speed: float | None, asked: bool
) -> None:
    world.mirror = settings(world.mirror, delta=mode)
    sibling = await older(world)
    sibling.speed = speed
    world.memory.update(b"img/a.iso", edited())
    sibling.hold_all(world.memory)
    await world.run()
    world.equal()
    assert bool(sibling.newer_asked) is asked and bool(sibling.delivered) is not asked


@pytest.mark.parametrize("method", ["sums", "pieces"])
@pytest.mark.parametrize("error", [PeerLacks, PeerSilent, PeerBroke])
async def test_129_a_sibling_that_fails_on_the_way_costs_no_more_than_the_whole_file(
    world: World, method: str, error: type[Exception]
) -> None:
    sibling = await older(world)
    sibling.newer_fails[method] = error("oslo", "as the test wants it")
    world.memory.update(b"img/a.iso", edited())
    sibling.hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert report.outcome == "complete" and sibling.delivered == [b"img/a.iso"] and report.bytes_saved == 0


async def test_118_pieces_that_are_not_the_files_are_not_published(world: World) -> None:
    sibling = await older(world)
    sibling.newer_spoilt = True
    world.memory.update(b"img/a.iso", edited())
    sibling.hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert sibling.delivered == [b"img/a.iso"] and report.files.sideways == 1
    assert not sibling.deceptions, "it may have been our older version"


async def test_118_a_sibling_that_lies_in_the_whole_file_too_is_left_for_the_origin(world: World) -> None:
    sibling = await older(world)
    sibling.newer_spoilt, sibling.substitute = True, b"x" * len(edited())
    world.memory.update(b"img/a.iso", edited())
    sibling.hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert sibling.deceptions and report.files.origin == 1


async def test_108_an_older_version_that_is_damaged_makes_no_new_one(world: World) -> None:
    sibling = await older(world)
    place = world.public / "img" / "a.iso"
    times = place.stat()
    with place.open("r+b") as file:
        file.seek(2_500_000)
        file.write(b"rotten")
    os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))
    world.memory.update(b"img/a.iso", edited())
    sibling.hold_all(world.memory)
    await world.run()
    world.equal()


async def test_119_strict_mirrors_take_ranges_of_it_from_the_origin_as_of_a_whole_file(world: World) -> None:
    world.mirror = replace(world.mirror, sideways=Sideways(trust=Trust.STRICT))
    sibling = await older(world)
    world.memory.update(b"img/a.iso", edited())
    sibling.hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert report.files.sideways == 1 and 0 < report.bytes_origin < 300_000
    assert report.bytes_sideways < 10_000


async def test_a_small_file_is_not_worth_it(world: World) -> None:
    sibling = await older(world, body=OLD[:900_000])
    world.memory.update(b"img/a.iso", OLD[:899_000])
    sibling.hold_all(world.memory)
    await world.run()
    assert not sibling.newer_asked
