"""Sites that share what an origin allows, as real processes over nginx, which counts the requests at work and
refuses what is one too many."""

from __future__ import annotations

import random
from pathlib import Path

from tests.cluster_of import AT_ONCE
from tests.scenarios.test_cluster import equal, sites
from tests.scenarios.trees import many_small, write
from tests.servers import Server, nginx

SHARED = f'{AT_ONCE}\n  <limits connections="4" retries="0" shared="yes"/>'


FOUR = "limit_conn_zone $server_port zone=all:1m; limit_conn all 4;"


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
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=SHARED)
        await cluster.start()
        results = await cluster.passes("m")
        assert {r["outcome"] for r in results.values()} == {"complete"}
        assert refused(server) == 0
        equal(cluster, origin)
        await cluster.check("m")
