"""A site that nobody can connect to takes full part over the connections that it opens: real processes over
nginx, which refuses what is beyond the budget that all sites share."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from cluster import control
from tests.cluster_of import AT_ONCE, ClusterOf
from tests.scenarios.test_cluster import bodies, equal, sites
from tests.scenarios.test_parts import SHRUNK, large
from tests.scenarios.test_sharing import FOUR, LATE, refused, standing
from tests.scenarios.trees import many_small, write
from tests.servers import Server, free_port, nginx

DIRECTORIES = 26  # of the tree below, its root and `iso` included
SOON = 90.0  # s in which news must have gone round, on a machine that does much else
PATIENT = LATE.replace("from cluster.cli import main\nmain()\n", "") + SHRUNK
LIMITS = '<limits connections="4" retries="0" bandwidth="6MB/s" shared="yes"/>'


def unreachable(cluster: ClusterOf, name: str) -> None:
    """Siblings are told an address of this site where nobody listens."""
    file = cluster.root / "sites" / f"{name}.toml"
    real = f'url = "https://127.0.0.1:{cluster.ports[name]}"'
    text = file.read_text()
    assert real in text
    file.write_text(text.replace(real, f'url = "https://127.0.0.1:{free_port()}"'))


async def until_published(cluster: ClusterOf, name: str) -> None:
    """Wait until every site has it in the mirror whose news is followed."""
    deadline = time.monotonic() + SOON
    while missing := [site for site in cluster.names if not (cluster.public(site, "news") / name).exists()]:
        assert time.monotonic() < deadline, f"{name}: not at {missing}"
        await asyncio.sleep(0.05)


async def until_all_share(cluster: ClusterOf) -> None:
    """Wait until every site hears how the others stand in the budget."""
    async with asyncio.timeout(SOON):
        for site in cluster.names:
            while (await standing(cluster, site))["silent"]:  # noqa: ASYNC110  # of another process
                await asyncio.sleep(0.05)


async def published(cluster: ClusterOf, origin: Path, name: str, told: str) -> None:
    """The origin has a new file, one site is told, and all have it."""
    write(origin / name, name.encode(), at=1_700_000_000)
    cluster.ledger.tree(origin)
    assert await control.ask(cluster.site(told).state, {"command": "push", "mirror": "news", "path": ""})
    await until_published(cluster, name)


def listings(server: Server) -> int:
    return sum(request.target.endswith("/") for request in server.requests())


@pytest.mark.parametrize("hidden", ["kent", "york"])
async def test_a_site_that_can_only_dial_out_takes_full_part(tmp_path: Path, hidden: str) -> None:
    """Whether by its name it would be the one that dials, or the one that waits."""
    origin = tmp_path / "origin"
    total = many_small(origin / "m", 480, per_folder=20) + large(origin / "m", "a", 12_000_001)
    write(origin / "news" / "first", b"so that there is something", at=1_700_000_000)
    extra = f'{AT_ONCE}\n  <sideways listings="5m"/>\n  {LIMITS}'
    with sites(tmp_path, "kent", "oslo", "york") as cluster, nginx(origin, http=FOUR) as server:
        cluster.entry = ("-c", PATIENT)
        unreachable(cluster, hidden)
        for name in ("from", "to"):
            many_small(origin / name, 120)
            cluster.mirror(name, f"{server.url}{name}/", extra=AT_ONCE)
        for name in ("from", "to", "m", "news"):
            cluster.ledger.tree(origin / name)
        cluster.mirror("m", f"{server.url}m/", extra=extra)
        cluster.mirror("news", f"{server.url}news/", schedule='every="12h"', extra=extra)
        await cluster.start()
        await until_published(cluster, "first")
        await until_all_share(cluster)

        server.forget()
        results = await cluster.passes("m")
        assert {r["outcome"] for r in results.values()} == {"complete"}, results
        equal(cluster, origin / "m")
        assert bodies(server) <= 1.1 * total, f"{bodies(server) / total:.3f} times the unique bytes"
        assert listings(server) < 2.5 * DIRECTORIES, "three sites alone ask three times as often"
        assert refused(server) == 0
        await cluster.check("m")

        other = next(site for site in cluster.names if site != hidden)
        for mirror, first, then in (("from", hidden, other), ("to", other, hidden)):
            assert (await cluster.one_pass(first, mirror))["files"]["origin"] == 120
            result = await cluster.one_pass(then, mirror)
            assert result["files"]["sideways"] > 100, f"{then} got little from {first}: {result}"
            assert result["requests"]["sideways"] < 100, f"{then} asked for each file alone: {result}"
        await published(cluster, origin / "news", "told by it", hidden)
        await published(cluster, origin / "news", "below/told to it", other)
        await cluster.check("news")
