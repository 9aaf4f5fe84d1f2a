"""A directory that the origin renames moves no body, at no site, as the origin's log tells."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.cluster_of import AT_ONCE, ClusterOf
from tests.engine.suite import INRELEASE, Suite, client
from tests.engine.world import World
from tests.servers import Server, nginx, rsyncd

ONCE = f'{AT_ONCE}<repository type="apt"/><storage once="yes"/>'


def written(origin: Path, suite: Suite) -> None:
    """What the suite is now, as files; indexes last, as a careful origin does it."""
    shutil.rmtree(origin / "pool", ignore_errors=True)
    shutil.rmtree(origin / "packages", ignore_errors=True)
    tree = suite.world.memory.tree()
    for path, node in sorted(tree.items(), key=lambda item: (item[0].startswith(b"dists/"), item[0])):
        place = origin / os.fsdecode(path)
        if not node.data or (path.startswith((b"pool/", b"packages/")) and path not in suite.packages):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(node.data)
        os.utime(place, ns=(node.mtime, node.mtime))


def bodies(server: Server) -> list[str]:
    """The packages that were sent, in the words of either server."""
    if server.access_log is not None:
        return [
            one.target for one in server.requests() if one.method == "GET" and one.target.endswith(".deb")
        ]
    lines = (server.folder / "rsyncd.log").read_text().splitlines()
    return [line for line in lines if " body send " in line and line.endswith(".deb")]


@pytest.mark.parametrize("served", [nginx, rsyncd])
async def test_a_renamed_directory_moves_no_body(tmp_path: Path, served: object) -> None:
    (tmp_path / "memory").mkdir()
    suite, origin = Suite(World(tmp_path / "memory")), tmp_path / "origin"
    suite.update(*(f"p{number}" for number in range(20)))
    suite.packages[b"pool/large_1_all.deb"] = os.urandom(600_000)
    suite.update()
    suite.world.memory.put(b"pool/large_1_all.deb", suite.packages[b"pool/large_1_all.deb"])
    written(origin, suite)
    extra = {} if served is nginx else {"extra": "transfer logging = yes\nlog format = body %o %f"}
    with served(origin, **extra) as server, ClusterOf(tmp_path, ["kent", "oslo"]) as cluster:  # type: ignore[operator]
        cluster.mirror("m", server.url, order="forward", extra=ONCE)
        cluster.ledger.tree(origin)
        await cluster.start()
        for site in ("kent", "oslo", "kent", "oslo"):
            result = await cluster.one_pass(site, "m")
            assert result["outcome"] == "complete", result["errors"]
        before = len(bodies(server))
        assert before == 21

        suite.packages = {p.replace(b"pool/", b"packages/", 1): b for p, b in suite.packages.items()}
        at = {path: node.mtime for path, node in suite.world.memory.tree().items()}
        suite.update()
        for path, body in suite.packages.items():
            suite.world.memory.put(path, body, mtime=at[path.replace(b"packages/", b"pool/", 1)])
        written(origin, suite)
        cluster.ledger.tree(origin)
        size = sum(map(len, suite.packages.values()))
        for site in ("kent", "oslo"):
            result = await cluster.one_pass(site, "m")
            assert result["outcome"] == "complete", result["errors"]
            assert result["saved"] >= size and result["shared"] >= size, result
            assert result["bytes"]["sideways"] < size
            assert client(cluster.public(site, "m")) == suite.world.memory.tree()[INRELEASE].data
        assert len(bodies(server)) == before
        await cluster.check("m")
