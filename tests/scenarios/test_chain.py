"""Large files of an origin that sends no parts, between real sites over nginx: it sends each once.

In these processes blocks have 64 KiB, and large is what has more than 1 MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from cluster.plan.order import owner
from tests.cluster_of import AT_ONCE, ClusterOf
from tests.scenarios.test_cluster import bodies, equal, sites
from tests.scenarios.test_parts import by_parts, large
from tests.servers import nginx

RATE = "5MB/s"  # of each site, after the first 5 MB
BY_TAG, BY_TIME = "max_ranges 0;", "max_ranges 0; etag off;"
NAMES = ("kent", "oslo", "york")


async def test_what_comes_in_one_piece_only_is_handed_on_while_it_grows(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    total = large(origin, "a", 24_000_001) + large(origin, "b", 16 * 2**20) + large(origin, "c", 9_000_000)
    with sites(tmp_path, *NAMES) as cluster, nginx(origin, extra=BY_TAG) as server:
        by_parts(cluster)
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=f'{AT_ONCE}\n  <limits bandwidth="{RATE}"/>')
        await cluster.start()
        results = await cluster.passes("m")
        assert {r["outcome"] for r in results.values()} == {"complete"}
        equal(cluster, origin)
        assert bodies(server) <= 1.5 * total, f"{bodies(server) / total:.3f} times the unique bytes"
        assert sum(r["bytes"]["sideways"] for r in results.values()) >= 1.5 * total
        await cluster.check("m")


async def killed_at(cluster: ClusterOf, name: str, size: int) -> None:
    """Kill a site when that much of its file is there, or all. (The origin's log tells of a request at its
    end only.)"""
    folder = Path(cluster.site(name).data, ".sideways/tmp/m")
    while not list(cluster.public(name, "m").glob("iso/*")):
        with contextlib.suppress(FileNotFoundError):
            if sum(one.stat().st_size for one in folder.glob("*")) >= size:
                break
        await asyncio.sleep(0.02)
    cluster.kill(name)


async def test_where_the_one_that_fetches_dies_the_others_go_on(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    file = next(str(n) for n in range(99) if owner(b"iso/%d" % n, NAMES) == "york")
    total = large(origin, file, 30_000_000)
    with sites(tmp_path, *NAMES) as cluster, nginx(origin, extra=BY_TIME) as server:
        by_parts(cluster)
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=f'{AT_ONCE}\n  <limits bandwidth="{RATE}"/>')
        await cluster.start()
        _, results = await asyncio.gather(
            killed_at(cluster, "york", total // 2), cluster.passes("m", may_die="york")
        )
        assert {r["outcome"] for r in results.values()} == {"complete"}
        equal(cluster, origin, "kent", "oslo")
        assert sum(results[site]["bytes"]["origin"] for site in ("kent", "oslo")) <= 1.5 * total
        await cluster.check("m", "kent", "oslo")
