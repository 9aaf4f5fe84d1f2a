"""Origins that tell what changed lately (RECENT files): only that is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from cluster.model import SECOND, Limits, OriginSpec
from cluster.origin.around import Asking
from cluster.origin.recently import Recently
from tests.engine.test_by_list import LONG_AGO, grown
from tests.engine.world import AT_ONCE, Noted, World

SPANS = {"1h": 3600, "6h": 21_600, "1d": 86_400}


class Recording:
    """A world whose origin writes down what changes below `pool`."""

    def __init__(self, world: World, *, name: str = "pool/RECENT-1h.json", walk: float | None = None) -> None:
        self.world, self.events, self.mark = world, [], "1"
        self.spec = OriginSpec("memory://origin/", index=name, index_walk=walk)
        world.mirror = replace(world.mirror, delete=AT_ONCE)
        place = f"{world.top}/state/lists/deb"
        world._open = lambda spec, mirror: Recently(  # type: ignore[assignment, method-assign]
            world.memory,
            self.spec,
            Asking(Limits(), AT_ONCE, place, world.clock.now),
        )
        self.event(b"0/file-000")

    @property
    def memory(self) -> Noted:
        return self.world.memory

    def event(self, path: bytes, kind: str = "new") -> None:
        self.events.append((Decimal(str(round(self.world.clock.now(), 5))), path.decode(), kind))
        self.write()

    def write(self) -> None:
        now = Decimal(str(self.world.clock.now()))
        for interval, span in SPANS.items():
            rows = [e for e in reversed(self.events) if e[0] > now - span]
            times = [e[0] for e in rows] or [now]
            meta = {
                "interval": interval,
                "aggregator": list(SPANS),
                "dirtymark": self.mark,
                "minmax": {"max": str(max(times)), "min": str(min(times))},
            }
            told = {"meta": meta, "recent": [{"epoch": str(t), "path": p, "type": k} for t, p, k in rows]}
            name, at = f"pool/RECENT-{interval}.json".encode(), int(now * SECOND)
            self.memory.put(name, json.dumps(told).encode(), mtime=at)

    def put(self, path: bytes, body: bytes) -> None:
        self.memory.put(b"pool/" + path, body, mtime=int(self.world.clock.now() * SECOND))
        self.event(path)

    def later(self, seconds: float = 600.0) -> None:
        self.world.clock.moved += seconds

    @property
    def listed(self) -> set[bytes]:
        """But for where the event lies that the last pass knew already."""
        return set(self.memory.asked("listing")) - {b"pool/0"}


async def settled(world: World) -> Recording:
    """After a first copy, and a pass by which everything has a token."""
    grown(world)
    by = Recording(world)
    by.later(5)
    await world.run()
    by.later(120)
    await world.run()
    by.later(120)
    return by


async def test_only_what_changed_is_asked_for(world: World) -> None:
    by = await settled(world)
    by.put(b"3/new", b"new")
    world.memory.remove(b"pool/7/file-007")
    by.event(b"7/file-007", "delete")
    by.later(5)
    report = await world.run()
    world.equal()
    assert by.listed == {b"", b"pool", b"pool/3", b"pool/7"}
    assert report.files.deleted == 1 and b"pool/3/new" in world.memory.asked("read")
    by.later()
    await world.run()
    by.later()
    report = await world.run()
    assert by.listed <= {b"", b"pool", b"pool/7"} and report.outcome == "complete"


async def test_a_longer_file_is_read_where_the_shortest_does_not_go_back(world: World) -> None:
    by = await settled(world)
    by.put(b"3/new", b"new")
    by.later(2 * 3600)
    by.put(b"4/newer", b"newer")
    by.later(5)
    await world.run()
    world.equal()
    assert by.listed == {b"", b"pool", b"pool/3", b"pool/4"}
    assert b"pool/RECENT-6h.json" in world.memory.asked("read")


async def test_where_no_file_goes_back_to_the_last_pass_the_tree_is_walked(world: World) -> None:
    by = await settled(world)
    by.later(3 * 86_400)
    world.memory.put(b"pool/3/new", b"told by nobody any more", mtime=LONG_AGO)
    by.put(b"4/newer", b"newer")
    by.later(5)
    report = await world.run()
    world.equal()
    assert len(by.listed) == 21 and any("does not go back" in note for note in report.notes)


async def test_history_that_was_written_anew_makes_the_pass_walk(world: World) -> None:
    by = await settled(world)
    by.mark = "2"
    by.write()
    report = await world.run()
    assert len(by.listed) == 21 and any("written anew" in note for note in report.notes)


async def test_the_tree_is_walked_when_it_is_time_for_it(world: World) -> None:
    grown(world)
    by = Recording(world, walk=7200.0)
    by.later(5)
    await world.run()
    by.later(7300)
    by.event(b"1/file-001")
    report = await world.run()
    assert len(by.listed) == 21 and any("too long ago" in note for note in report.notes)


async def test_what_a_pass_missed_that_broke_off_is_asked_for_by_the_next(world: World) -> None:
    by = await settled(world)
    by.put(b"3/new", b"new")
    by.later(5)
    await world.cut(after=1)
    by.later()
    await world.run()
    world.equal()


async def test_without_the_file_the_tree_is_walked(world: World) -> None:
    by = await settled(world)
    by.spec = OriginSpec("memory://origin/", index="pool/RECENT-2h.json")
    report = await world.run()
    assert len(by.listed) == 21 and any("no such name; the tree is walked" in note for note in report.notes)


@pytest.mark.parametrize("body", [b"", b"{}", b"---\nmeta:\n  - x\n", b'{"meta": {}, "recent": []}', b"\xff"])
async def test_what_is_no_such_file_makes_the_pass_walk(world: World, body: bytes) -> None:
    by = await settled(world)
    world.memory.put(b"pool/RECENT-1h.json", body, mtime=LONG_AGO)
    report = await world.run()
    assert len(by.listed) == 21 and any("no RECENT file" in note for note in report.notes)
