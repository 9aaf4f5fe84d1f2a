"""Real sites of which one leaves out more than the others."""

from __future__ import annotations

import random
from pathlib import Path

import aiohttp

from tests.cluster_of import AT_ONCE, ClusterOf, differences
from tests.scenarios.trees import many_small, write
from tests.servers import nginx

LESS = """<select>
  <exclude pattern="iso-*/" reason="no room" site="oslo"/>
  <exclude pattern="*.large" larger="1MB" reason="much too large" site="oslo"/>
</select>
<sideways listings="5m"/>"""


async def test_what_one_site_leaves_out_the_others_share_among_themselves(tmp_path: Path) -> None:
    origin, chance = tmp_path / "origin", random.Random(3)
    total = many_small(origin, 300, per_folder=10)
    for i in range(300):
        body = chance.randbytes(1500 + i)
        write(origin / f"iso-{i // 10}" / f"f{i}", body, at=1_700_000_000 + i)
        total += len(body)
    write(origin / "d001" / "x.large", chance.randbytes(3_000_000), at=1_700_000_000)
    (tmp_path / "cluster-of").mkdir()
    with ClusterOf(tmp_path / "cluster-of", ("kent", "oslo", "york")) as cluster, nginx(origin) as server:
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra=f"{AT_ONCE}\n{LESS}")
        await cluster.start()
        results = await cluster.passes("m")
        assert {r["outcome"] for r in results.values()} == {"complete"}
        for site, left_out in (("kent", ()), ("york", ()), ("oslo", ("iso-*", "*.large"))):
            found = differences(origin, cluster.public(site, "m"), links=False, left_out=left_out)
            assert not found, site
        assert not list(cluster.public("oslo", "m").glob("iso-*"))
        bodies = [r for r in server.requests() if r.status in (200, 206) and not r.target.endswith("/")]
        sent = sum(r.sent for r in bodies if not r.target.endswith("x.large"))
        assert sent <= 1.05 * total, f"{sent / total:.3f} times the unique bytes"
        told = {"files": 0, "directories": 0, "others": 0, "bytes": 0}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{cluster.site('oslo').web}/m/?json") as page,
        ):
            assert (await page.json())["all_left_out"] == [
                told | {"reason": "much too large", "files": 1, "bytes": 3_000_000},
                told | {"reason": "no room", "directories": 30},
            ]
        await cluster.check("m")
