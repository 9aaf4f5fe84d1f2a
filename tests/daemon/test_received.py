"""Two sites, one origin: each of them knows what both received."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.cluster_of import ClusterOf
from tests.daemon.test_site import get, sideways


async def test_a_site_knows_what_its_sibling_received_from_where(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(bytes(30_000))
    (tmp_path / "cluster-of").mkdir()
    with ClusterOf(tmp_path / "cluster-of", ["kent", "oslo"]) as cluster:
        cluster.ledger.tree(source)
        cluster.mirror("m", f"file://{source}/")
        await cluster.start()
        assert (await cluster.one_pass("kent", "m"))["bytes"]["origin"] == 30_000
        assert (await cluster.one_pass("oslo", "m"))["bytes"]["sideways"] == 30_000
        both = {}
        for _ in range(150):
            told = await get(f"http://{cluster.site('kent').web}/-/cluster?json")
            both = told["received"]
            if both["total"]["sideways"]:
                break
            await asyncio.sleep(0.1)
        assert both["total"] == both["today"] == {"origin": 30_000, "sideways": 30_000, "saved": 0.5}
        assert both["sites"]["oslo"]["days"][0]["sideways"] == 30_000
        said = await asyncio.to_thread(sideways, cluster.root, "status", "--site", "kent", "--json")
        received = json.loads(said.stdout)["received"]
        assert received["kent"]["month"] == {"origin": 30_000, "sideways": 0, "saved": 0.0}
        assert received["oslo"]["month"] == {"origin": 0, "sideways": 30_000, "saved": 1.0}


async def test_nothing_is_said_for_a_sibling_that_was_never_heard(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(bytes(30_000))
    (tmp_path / "cluster-of").mkdir()
    with ClusterOf(tmp_path / "cluster-of", ["kent", "oslo"]) as cluster:
        cluster.ledger.tree(source)
        cluster.mirror("m", f"file://{source}/")
        await cluster.start("kent")
        await cluster.one_pass("kent", "m")
        for _ in range(300):
            told = await get(f"http://{cluster.site('kent').web}/-/cluster?json")
            if told["sites"][1]["problem"]:
                break
            await asyncio.sleep(0.1)
        assert told["sites"][1]["problem"]
        said = await asyncio.to_thread(sideways, cluster.root, "status", "--site", "kent")
        assert [line.split()[0] for line in said.stdout.splitlines()[3:]] == ["last", "kent"]
