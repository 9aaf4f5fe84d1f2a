"""What a site received is counted however its pass ends."""

from __future__ import annotations

import asyncio

from cluster.errors import Unreachable
from cluster.plan.saving import Received
from cluster.store.mirror import Reader
from tests.engine.world import World


async def received(world: World) -> Received:
    reader = await Reader.open(world.mirror.name, world.site)
    try:
        days, total = await reader.received()
        assert sum(told.origin for told in days.values()) == total.origin
        return total
    finally:
        await reader.close()


async def test_what_a_pass_received_before_it_was_cut_off_is_counted_as_well(world: World) -> None:
    for number in range(40):
        world.memory.put(b"f%02d" % number, b"x" * 1000)
    await world.cut(20)
    await asyncio.sleep(0)
    before = await received(world)
    assert 0 < before.origin < 40_000
    report = await world.run()
    assert (await received(world)).origin == before.origin + report.bytes_origin >= 40_000


async def test_a_pass_that_is_incomplete_or_could_not_begin_is_counted_once(world: World) -> None:
    world.memory.put(b"a", b"x" * 1000)
    world.memory.put(b"b", b"x" * 1000)
    world.memory.fail("read", b"b", Unreachable, times=100)
    report = await world.run()
    assert report.outcome == "incomplete"
    assert await received(world) == Received(report.bytes_origin, 0) == Received(1000, 0)
    world.memory.fail("listing", b"", Unreachable, times=100)
    assert (await world.run()).outcome == "failed"
    assert await received(world) == Received(1000, 0)
