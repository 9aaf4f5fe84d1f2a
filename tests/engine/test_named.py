"""A file about which the origin has to be asked comes from a sibling that read the version it names now."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from cluster.model import SECOND, Claim, Offered, Row, Sideways, Stamp, Trust
from cluster.origin.memory import validator
from cluster.plan.compare import YOUNG
from cluster.plan.order import yields
from tests.engine.world import FakeSibling, World

# The sizes are equal: no listing tells the two versions apart.
PATH, BODY, CHANGED = b"index", b"as it was first read", b"as it was later read"
SOON = int(time.time() + 3600) * SECOND  # a minute that is not over however long a test takes


async def young(world: World) -> FakeSibling:
    """A site that has a file from a sibling which read it within the second of its own time."""
    world.memory.precision = 60 * SECOND
    world.memory.put(PATH, BODY, mtime=SOON)
    sibling = world.sibling()
    sibling.hold(PATH, BODY, mtime=SOON, etag=YOUNG)
    report = await world.run()
    assert (report.outcome, report.files.sideways) == ("complete", 1)
    sibling.delivered.clear()
    world.memory.fresh()
    return sibling


def named(world: World) -> str:
    return validator(world.memory.tree()[PATH])


async def test_what_a_sibling_has_read_again_is_settled_without_a_byte(world: World) -> None:
    sibling = await young(world)
    sibling.hold(PATH, BODY, mtime=SOON, etag=named(world))
    report = await world.run()
    assert (report.outcome, report.files.unchanged) == ("complete", 1)
    assert world.memory.asked("facts") == [PATH]
    assert not world.memory.asked("read") and not sibling.delivered
    assert (await world.records())[PATH].etag == named(world)
    sibling.up = False
    report = await world.run()
    assert report.files.unchanged == 1 and not world.memory.asked("read")


async def test_what_changed_within_the_second_comes_from_a_sibling_that_read_it_afterwards(
    world: World,
) -> None:
    sibling = await young(world)
    world.memory.put(PATH, CHANGED, mtime=SOON)
    sibling.hold(PATH, CHANGED, mtime=SOON, etag=named(world))
    report = await world.run()
    world.equal()
    assert report.files.sideways == 1 and sibling.delivered == [PATH]
    assert not world.memory.asked("read")


@pytest.mark.parametrize("why", ["young there as well", "another version there", "strict", "off", "down"])
async def test_else_the_origin_is_read_again(world: World, why: str) -> None:
    sibling = await young(world)
    world.memory.put(PATH, CHANGED, mtime=SOON)
    sibling.hold(PATH, BODY, mtime=SOON, etag=YOUNG if why.startswith("young") else named(world))
    if why == "another version there":
        sibling.hold(PATH, BODY, mtime=SOON, etag='"of another"')
    sibling.up = why != "down"
    trust = Trust.STRICT if why == "strict" else Trust.SIBLINGS
    world.mirror = replace(world.mirror, sideways=Sideways(enabled=why != "off", trust=trust))
    report = await world.run()
    world.equal()
    assert report.files.origin == 1 and world.memory.asked("read") == [PATH]
    assert not sibling.delivered


@pytest.mark.parametrize("started", [True, False])
async def test_what_a_sibling_is_reading_again_is_not_read_here_as_well(world: World, started: bool) -> None:
    sibling = await young(world)
    world.memory.put(PATH, CHANGED, mtime=SOON)
    looks = 0
    offered = sibling.offered

    async def reading(*asked: Any, **what: Any) -> Offered:
        nonlocal looks
        looks += 1
        if looks == 3:
            del sibling.claims[PATH]
            sibling.hold(PATH, CHANGED, mtime=SOON, etag=named(world))
        return await offered(*asked, **what)

    sibling.offered = reading  # type: ignore[method-assign]
    row = Row(len(CHANGED), None, Stamp(SOON, 60 * SECOND))
    sibling.claims[PATH] = Claim(PATH, row, started=started)
    report = await world.run()
    world.equal()
    if started or yields(PATH, world.site.name, sibling.name):
        assert (looks, sibling.delivered, world.memory.asked("read")) == (3, [PATH], [])
    else:
        assert (looks, report.files.origin) == (1, 1)


async def test_who_reads_it_without_end_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.engine.named.LONGEST", 1.0)
    sibling = await young(world)
    world.memory.put(PATH, CHANGED, mtime=SOON)
    row = Row(len(CHANGED), None, Stamp(SOON, 60 * SECOND))
    sibling.claims[PATH] = Claim(PATH, row)
    report = await world.run()
    world.equal()
    assert report.files.origin == 1
