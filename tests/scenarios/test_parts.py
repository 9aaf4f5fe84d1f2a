"""Large files by parts between real sites over nginx: what the origin sends, and what a death costs.

In these processes blocks have 64 KiB, ranges 512 KiB, and large is what has more than 1 MiB: what would be
100 GB is 100 MB.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path
from typing import Any

from tests.cluster_of import AT_ONCE, ClusterOf
from tests.scenarios.test_cluster import bodies, equal, sites
from tests.scenarios.trees import many_small, write
from tests.servers import Server, nginx

SHRUNK = """
from cluster.plan import steal
from cluster.store import blocks
steal.BLOCK = blocks.BLOCK = 64 * 2**10
steal.RANGE, steal.LARGE = 512 * 2**10, 2**20
from cluster.cli import main
main()
"""

RATE = "5MB/s"  # of each site, after the first 5 MB


def large(root: Path, name: str, size: int) -> int:
    write(root / "iso" / name, random.Random(name).randbytes(size), at=1_700_000_000)
    return size


def by_parts(cluster: ClusterOf) -> None:
    cluster.entry = ("-c", SHRUNK)


async def test_three_sites_fetch_large_files_together_and_the_origin_sends_each_byte_once(
    tmp_path: Path,
) -> None:
    origin = tmp_path / "origin"
    total = many_small(origin, 100) + large(origin, "a", 28_000_001) + large(origin, "b", 16 * 2**20)
    with sites(tmp_path, "kent", "oslo", "york") as cluster, nginx(origin) as server:
        by_parts(cluster)
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=f'{AT_ONCE}\n  <limits bandwidth="{RATE}"/>')
        await cluster.start()
        results = await cluster.passes("m")
        assert {r["outcome"] for r in results.values()} == {"complete"}
        equal(cluster, origin)
        assert bodies(server) <= 1.1 * total, f"{bodies(server) / total:.3f} times the unique bytes"
        shares = [r["bytes"]["origin"] / total for r in results.values()]
        assert min(shares) > 0.02, f"shares of the sites: {shares}"
        await cluster.check("m")


async def killed(cluster: ClusterOf, name: str, server: Server, sent: float) -> None:
    """Kill a site when the origin has sent that much."""
    while bodies(server) < sent:  # noqa: ASYNC110  # it is a log
        await asyncio.sleep(0.02)
    cluster.kill(name)


async def test_103_one_of_three_may_die_in_the_middle_and_goes_on_from_what_it_has(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    total = large(origin, "a", 60_000_000)
    with sites(tmp_path, "kent", "oslo", "york") as cluster, nginx(origin) as server:
        by_parts(cluster)
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=f'{AT_ONCE}\n  <limits bandwidth="{RATE}"/>')
        await cluster.start()
        _, results = await asyncio.gather(
            killed(cluster, "york", server, total / 2), cluster.passes("m", may_die="york")
        )
        assert results.keys() == {"kent", "oslo"}, "york had finished before"
        assert {r["outcome"] for r in results.values()} == {"complete"}
        equal(cluster, origin, "kent", "oslo")
        again = bodies(server) / total  # and what nobody had read from it: the more, the slower the machine
        assert again <= 1.3, f"{again:.3f} times the unique bytes"
        await cluster.check("m", "kent", "oslo")

        server.forget()
        await cluster.start("york")
        result: dict[str, Any] = await cluster.one_pass("york", "m")
        assert result["outcome"] == "complete", result
        equal(cluster, origin)
        assert bodies(server) == 0
        kept = total - result["bytes"]["sideways"]
        assert kept > 0.1 * total, f"only {kept} of {total} bytes were still there"
        await cluster.check("m")
        digest = hashlib.sha256((cluster.public("york", "m") / "iso/a").read_bytes()).digest()
        assert digest == hashlib.sha256((origin / "iso/a").read_bytes()).digest()
