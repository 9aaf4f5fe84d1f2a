"""The oracles bite: each of them sees what it is there to see."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.world import World
from tests.invariants import Violated


def _status(world: World) -> Path:
    return Path(world.site.state, "status", "deb", "a", ".sideways.json")


def _forged(world: World) -> None:
    told = json.loads(_status(world).read_text())
    told["entries"][1]["sha256"] = "0" * 64
    _status(world).write_text(json.dumps(told))


def _ahead(world: World) -> None:
    told = json.loads(_status(world).read_text())
    told["entries"].append(told["entries"][0] | {"name": "more", "href": "more"})
    _status(world).write_text(json.dumps(told))


def _older(world: World) -> None:
    """A whole version that the origin had once, in the place of the recorded one."""
    (world.public / "a" / "x").write_bytes(b"the first version")


def _secret(world: World) -> None:
    world.ledger.secrets.add(b"hunter2")
    Path(world.site.state, "told.log").write_bytes(b"user:hunter2")


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda w: (w.top / "canary" / "passwd").write_text("x"), "INV1"),
        (lambda w: (w.top / "canary" / "new").touch(), "INV1"),
        (lambda w: (w.public / "a" / "x").write_bytes(b"torn"), "INV2"),
        (lambda w: (w.public / "a" / "link").unlink() or os.symlink("/etc", w.public / "a" / "link"), "INV2"),
        (lambda w: (w.public / "a" / "x").unlink(), "INV3"),
        (lambda w: (w.public / "a" / ".sideways.json").touch(), "nothing of ours"),
        (lambda w: (w.public / "a" / "x").chmod(0o666), "HAZARDS 26"),
        (lambda w: Path(w.site.data, ".sideways", "tmp", "deb", "left").touch(), "INV4"),
        (_ahead, "INV5 status"),
        (_forged, "INV5 status"),
        (_older, "INV5"),
        (_secret, "INV7"),
    ],
)
async def test_every_invariant_is_seen_to_be_broken(
    tmp_path: Path, spoil: Callable[[World], object], name: str
) -> None:
    world = World(tmp_path)
    world.memory.put(b"a/x", b"the first version")
    world.memory.symlink(b"a/link", b"x")
    await world.run()
    world.memory.update(b"a/x", b"the second version")
    await world.run()
    spoil(world)
    with pytest.raises(Violated, match=name):
        await world.check()
