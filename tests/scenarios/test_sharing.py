"""Sites that share what an origin allows, as real processes over nginx, which counts the requests at work and
refuses what is one too many."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

from cluster import control
from tests.cluster_of import AT_ONCE, ClusterOf
from tests.scenarios.test_cluster import equal, sites
from tests.scenarios.trees import many_small, write
from tests.servers import Server, nginx

SHARED = f'{AT_ONCE}\n  <limits connections="4" retries="0" shared="yes"/>'


FOUR = "limit_conn_zone $server_port zone=all:1m; limit_conn all 4;"

# How soon a site counts as silent, in processes of these tests: nobody does because the machine is busy with
# something else, or a killed one does soon.
AFTER = """
from cluster.peer import leases
leases.TERM, leases.FRESH, leases.ABSENT, leases.RENEW = {}
from cluster.cli import main
main()
"""
LATE, SOON = AFTER.format("90.0, 60.0, 120.0, 4.0"), AFTER.format("4.0, 2.5, 5.0, 1.0")


def refused(server: Server) -> int:
    return sum(request.status == 503 for request in server.requests())


async def test_three_sites_together_never_ask_for_more_than_the_descriptor_allows(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    many_small(origin, 600, per_folder=30)
    for number in range(12):
        write(origin / "iso" / f"{number}", random.Random(number).randbytes(400_000), at=1_700_000_000)
    with (
        sites(tmp_path, "kent", "oslo", "york") as cluster,
        nginx(origin, limit=400_000, http=FOUR) as server,
    ):
        cluster.entry = ("-c", LATE)
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=SHARED)
        await cluster.start()
        results = await cluster.passes("m")
        assert {r["outcome"] for r in results.values()} == {"complete"}
        assert refused(server) == 0
        equal(cluster, origin)
        await cluster.check("m")


async def test_three_sites_together_take_no_more_bytes_a_second_than_the_descriptor_allows(
    tmp_path: Path,
) -> None:
    origin = tmp_path / "origin"
    for number in range(30):
        write(origin / f"{number}" / "a", random.Random(number).randbytes(200_000), at=1_700_000_000)
    limits = '<limits connections="6" bandwidth="1MB/s" shared="yes"/>'
    with sites(tmp_path, "kent", "oslo", "york") as cluster, nginx(origin) as server:
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=f"{AT_ONCE}\n  {limits}")
        await cluster.start()
        began = time.monotonic()
        results = await cluster.passes("m")
        took = time.monotonic() - began
        assert {r["outcome"] for r in results.values()} == {"complete"}
        equal(cluster, origin)
        assert took > 3.5, (
            "six megabytes less what a site may have saved up; alone each would take one second"
        )
        await cluster.check("m")


async def standing(cluster: ClusterOf, site: str) -> dict[str, Any]:
    """How a site stands in the connections that are shared."""
    answer = await control.ask(cluster.site(site).state, {"command": "budgets"})
    assert answer is not None
    return next(one for one in answer["budgets"] if one["sort"] == "connections")


async def until_allowed(cluster: ClusterOf, expected: dict[str, int]) -> None:
    """Wait until these sites use and may use so many connections."""
    async with asyncio.timeout(90):
        while True:
            told = {name: await standing(cluster, name) for name in expected}
            if all((one["allowed"], one["used"]) == (expected[name],) * 2 for name, one in told.items()):
                return
            await asyncio.sleep(0.05)


async def test_what_a_killed_site_used_is_used_by_the_others(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    for number in range(300):
        write(origin / f"{number % 30}" / "a" / f"{number}", bytes(100_000), at=1_700_000_000)
    with sites(tmp_path, "kent", "oslo", "york") as cluster, nginx(origin, limit=50_000) as server:
        cluster.entry = ("-c", SOON)
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=SHARED.replace('connections="4"', 'connections="6"'))
        await cluster.start()
        passes = asyncio.create_task(cluster.passes("m", may_die="york"))
        await until_allowed(cluster, {"kent": 2, "oslo": 2, "york": 2})
        cluster.kill("york")
        await until_allowed(cluster, {"kent": 3, "oslo": 3})
        assert (await standing(cluster, "kent"))["silent"] == ["york"]
        for name in ("kent", "oslo"):
            cluster.kill(name)
        await asyncio.gather(passes, return_exceptions=True)
