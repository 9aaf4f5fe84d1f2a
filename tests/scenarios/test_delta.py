"""A new version from the older one and what a sibling has of it, between real sites over nginx."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from tests.cluster_of import AT_ONCE
from tests.scenarios.test_cluster import bodies, equal, sites
from tests.scenarios.trees import write
from tests.servers import nginx, program

OLD = random.Random(5).randbytes(20_000_000)
NEW = OLD[:3_000_000] + b"inserted" + OLD[3_000_000:12_000_000] + bytes(500) + OLD[12_000_700:]


async def test_one_site_fetches_the_new_version_and_the_other_what_differs(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    write(origin / "a.iso", OLD, at=1_700_000_000)
    write(origin / "src" / "foo-1.0.tar", OLD[:5_000_000], at=1_700_000_000)
    with sites(tmp_path, "kent", "oslo") as cluster, nginx(origin) as server:
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=f'{AT_ONCE}\n  <sideways delta="always"/>')
        await cluster.start()
        await cluster.passes("m")
        equal(cluster, origin)
        write(origin / "a.iso", NEW, at=1_700_100_000)
        write(origin / "src" / "foo-1.1.tar", b"more" + OLD[:5_000_000], at=1_700_100_000)
        cluster.ledger.tree(origin)
        before = bodies(server)
        first = await cluster.one_pass("kent", "m")
        second = await cluster.one_pass("oslo", "m")
        equal(cluster, origin)
        assert (first["outcome"], second["outcome"]) == ("complete", "complete")
        assert bodies(server) - before == len(NEW) + 5_000_004
        assert second["files"]["sideways"] == 2
        assert second["bytes"]["sideways"] < 20_000
        assert second["saved"] > 24_000_000
        await cluster.check("m")


async def test_a_published_zsync_makes_the_new_version_from_the_older_one(tmp_path: Path) -> None:
    origin = tmp_path / "origin"

    def published(body: bytes, at: int) -> None:
        write(origin / "a.iso", body, at=at)
        command = [program("zsyncmake"), "-u", "a.iso", "-o", "a.iso.zsync", "a.iso"]
        subprocess.run(command, cwd=origin, check=True, capture_output=True)

    published(OLD, 1_700_000_000)
    with sites(tmp_path, "kent") as cluster, nginx(origin) as server:
        cluster.mirror("m", server.url)
        for body, at in ((OLD, 1_700_000_000), (NEW, 1_700_100_000)):
            published(body, at)
            cluster.ledger.tree(origin)
            before = bodies(server)
            if body is OLD:
                await cluster.start()
            result = await cluster.one_pass("kent", "m")
            equal(cluster, origin)
            assert result["outcome"] == "complete"
        control = (origin / "a.iso.zsync").stat().st_size
        assert bodies(server) - before < 2 * control + 300_000
        assert result["saved"] > 19_000_000
        await cluster.check("m")
