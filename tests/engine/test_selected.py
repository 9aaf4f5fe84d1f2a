"""Rules of `<select>` in passes: what is left out and why, and sites whose rules differ."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

from cluster.model import Deletion, Kind, Order, Rule
from cluster.origin.memory import EPOCH
from cluster.plan.order import owner
from cluster.plan.steal import LARGE
from cluster.store.mirror import Reader
from tests.engine.several import Several
from tests.engine.world import Told, World

NO_ISO = Rule(False, "iso-*/", "no room", sites=("oslo",))
SITES = ("kent", "oslo", "york")


def directory(start: str, first: str) -> bytes:
    """A directory that begins so, and for which this site ranks first."""
    found = (f"{start}{i}".encode() for i in range(1000))
    return next(path for path in found if owner(path, ("kent", "oslo")) == first)


async def test_what_a_sibling_leaves_out_is_not_left_to_it(world: World) -> None:
    """It would be first in rank; the rest of what it is first for waits until the walk is over."""
    left_out, carried = directory("iso-", "oslo"), directory("pool-", "oslo")
    for folder in (left_out, carried):
        world.memory.put(folder + b"/x", b"body of " + folder)
    world.mirror = replace(world.mirror, order=Order.RENDEZVOUS, elsewhere=(("oslo", (NO_ISO,)),))
    world.sibling()
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"
    assert world.memory.asked("read") == [left_out + b"/x", carried + b"/x"]


async def test_sites_whose_rules_differ_have_together_asked_for_each_file_once(tmp_path: Path) -> None:
    several = Several(tmp_path, SITES)
    chance = random.Random(7)
    for i in range(30):
        several.put(b"pool-%d/file" % i, chance.randbytes(500 + i))
        several.put(b"iso-%d/file" % i, chance.randbytes(500 + i))
    several.put(b"iso-9/large", chance.randbytes(LARGE + 10))
    for name, world in several.worlds.items():
        own = name == "oslo"
        elsewhere = (("kent", ()), ("york", ())) if own else (("oslo", (NO_ISO,)),)
        world.mirror = replace(world.mirror, select=(NO_ISO,) if own else (), elsewhere=elsewhere)
    reports = await asyncio.gather(*(several.one_pass(name) for name in SITES))
    assert {report.outcome for report in reports} == {"complete"}
    assert reports[1].files.skipped == 30 and not any(b"iso-" in p for p in several.worlds["oslo"].bodies())
    for name in ("kent", "york"):
        several.worlds[name].equal()
    read = [path for path in several.read() if not path.endswith(b"large")]
    assert len(read) == len(set(read)) == 60
    for world in several.worlds.values():
        await world.check()


async def test_a_size_or_an_age_leaves_a_file_out_and_says_so(world: World) -> None:
    day = 86_400
    world.memory.put(b"old", b"x", mtime=EPOCH - 400 * day * 10**9)
    world.memory.put(b"a/large", b"x" * 2000)
    world.memory.put(b"a/small", b"x")
    world.clock.moved = EPOCH / 10**9 + 30 * day - world.clock.now()
    world.mirror = replace(
        world.mirror,
        select=(Rule(False, "**", "too large", larger=1999), Rule(False, "**", "too old", older=365 * day)),
    )
    report = await world.run()
    assert (report.outcome, report.files.skipped, set(world.bodies())) == ("complete", 2, {b"a/small"})
    reader = await Reader.open("deb", world.site)
    try:
        told = {one.name: (one.reason, one.size) for d in (b"", b"a") for one in (await reader.notes(d))[0]}
    finally:
        await reader.close()
    assert told == {b"old": ("too old", 1), b"large": ("too large", 2000)}


async def test_what_has_become_too_old_since_is_left_out_though_its_listing_is_the_same(world: World) -> None:
    day = 86_400
    world.memory.put(b"a/file", b"x")
    world.memory.put(b"b", b"x", mtime=EPOCH + 3000 * day * 10**9)
    world.clock.moved = EPOCH / 10**9 + 360 * day - world.clock.now()
    world.mirror = replace(world.mirror, select=(Rule(False, "**", older=365 * day),))
    assert (await world.run()).files.skipped == 0
    assert (await world.run()).files.skipped == 0
    world.clock.moved += 10 * day
    world.ledger.lacked.add(b"a/file")  # by our rule
    report = await world.run()
    assert (report.files.skipped, report.files.deleted, set(world.bodies())) == (1, 1, {b"b"})


async def test_what_a_new_rule_excludes_is_shown_first_and_goes_as_if_the_origin_had_deleted_it(
    world: World,
) -> None:
    world.memory.put(b"keep", b"x")
    world.memory.put(b"iso/a", b"x")
    await world.run()
    world.mirror = replace(
        world.mirror, select=(Rule(False, "iso/", "no room"),), delete=replace(Deletion(), grace=3600.0)
    )
    told = Told()
    await world.run(dry=True, told=told)
    assert ("missing", b"iso", "left out: no room") in told.details
    assert set(world.bodies()) == {b"keep", b"iso/a"}
    assert (await world.run()).files.waiting == 1
    world.clock.moved += 2 * 3600.0
    world.ledger.lacked.add(b"iso")
    report = await world.run()
    assert (report.files.deleted, set(world.bodies())) == (1, {b"keep"})
    assert [one.kind for one in (await world.records()).values()] == [Kind.FILE]


async def test_a_pass_says_how_much_is_left_out_for_which_reason_and_which_rules_match_nothing(
    world: World,
) -> None:
    for name in (b"a.iso", b"b/c.iso", b"keep", b"debug/x", b"b/debug/y"):
        world.memory.put(name, b"x" * 100)
    world.mirror = replace(
        world.mirror,
        select=(
            Rule(True, "d/nothing"),
            Rule(False, "*.iso", "no room"),
            Rule(False, "debug/", "no use"),
            Rule(False, "*.img"),
        ),
    )
    told = {"files": 0, "directories": 0, "others": 0, "bytes": 0}
    expected = [
        told | {"reason": "no room", "files": 2, "bytes": 200},
        told | {"reason": "no use", "directories": 2},
    ]
    first = await world.run()
    assert (first.left_out, first.unused) == (expected, ["include d/nothing", "exclude *.img"])
    again = await world.run()  # nothing is looked at anew
    assert (again.left_out, again.unused) == (expected, ["include d/nothing", "exclude *.img"])
    world.memory.put(b"d/nothing", b"x")
    assert (await world.run()).unused == ["exclude *.img"]
    assert (await world.run()).unused == ["exclude *.img"]
    world.mirror = replace(world.mirror, select=world.mirror.select[1:2])
    assert (await world.run(scope=b"d")).unused is None  # who knows what the rest would say
    assert (await world.run()).unused == []
