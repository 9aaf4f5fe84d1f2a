"""A real apt repository that changes while it is mirrored: apt-get and a checker find no fault, ever."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.cluster_of import ClusterOf
from tests.scenarios.aptrepository import AptClient, Changing, checked
from tests.servers import nginx
from tests.signatures.keys import signers

UPDATES = 5
KEPT = '<delete hold-files="1000000" sightings="1" grace="1h" emptied-after="0s"/>'


async def test_41_apt_finds_a_whole_state_at_every_moment(tmp_path: Path) -> None:
    with signers("archive") as (signer,), ClusterOf(tmp_path, ["kent"]) as cluster:
        origin = Changing(tmp_path / "origin", signer, seed=1)
        with nginx(origin.served) as server:
            extra = f'{KEPT}<repository type="apt" keyring="{signer.ring}"/>'
            cluster.mirror("m", server.url, order="forward", extra=extra)
            await cluster.start()
            first = await cluster.one_pass("kent", "m")
            assert (first["outcome"], first["published"]) == ("complete", 1), first["errors"]
            url = f"{cluster.site('kent').public_url}/m"
            await _while_it_changes(cluster, origin, url, signer.ring)
            last = await cluster.one_pass("kent", "m")
            assert last["outcome"] == "complete", last["errors"]
            assert (
                await asyncio.to_thread(checked, url) == (origin.work / "dists/stable/InRelease").read_bytes()
            )


async def _while_it_changes(cluster: ClusterOf, origin: Changing, url: str, ring: Path) -> None:
    """Updates, passes and two clients at once. The clients look at least once after each update."""
    over = asyncio.Event()
    client = AptClient(origin.top / "apt", url, ring)

    async def passes() -> None:
        while not over.is_set():
            await cluster.one_pass("kent", "m")

    async def checks() -> None:
        while not over.is_set():
            assert await asyncio.to_thread(checked, url) in origin.complete

    async def apt() -> None:
        while not over.is_set():
            assert await asyncio.to_thread(client.run) == ""

    async def updates() -> None:
        for number in range(UPDATES):
            await asyncio.to_thread(origin.update, _breathe, careful=number % 2 == 1)
            await cluster.one_pass("kent", "m")
        over.set()

    async with asyncio.TaskGroup() as group:
        for work in (passes, checks, apt, updates):
            group.create_task(work())


def _breathe() -> None:
    time.sleep(0.05)
