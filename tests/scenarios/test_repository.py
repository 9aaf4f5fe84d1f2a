"""Real repositories change while they are mirrored: package managers and a checker find no fault, ever."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.cluster_of import ClusterOf
from tests.scenarios.aptrepository import AptArchive
from tests.scenarios.changing import Client, Managed
from tests.scenarios.yumrepository import SimpleYumRepository, YumRepository
from tests.servers import nginx
from tests.signatures.keys import signers

KEPT = '<delete hold-files="1000000" sightings="1" grace="1h" emptied-after="0s"/>'


@pytest.mark.parametrize(("kind", "updates"), [(AptArchive, 5), (YumRepository, 4), (SimpleYumRepository, 3)])
async def test_41_clients_find_a_whole_state_at_every_moment(
    tmp_path: Path, kind: type[Managed], updates: int
) -> None:
    with signers("archive") as (signer,), ClusterOf(tmp_path, ["kent"]) as cluster:
        origin = kind(tmp_path / "origin", signer, seed=1)
        with nginx(origin.served) as server:
            extra = f'{KEPT}<repository type="{origin.type}" keyring="{signer.ring}"/>'
            cluster.mirror("m", server.url, order="forward", extra=extra)
            await cluster.start()
            first = await cluster.one_pass("kent", "m")
            assert (first["outcome"], first["published"]) == ("complete", 1), first["errors"]
            url = f"{cluster.site('kent').public_url}/m"
            with origin.client(tmp_path / "client", url) as client:
                await _while_it_changes(cluster, origin, url, client, updates)
            last = await cluster.one_pass("kent", "m")
            assert last["outcome"] == "complete", last["errors"]
            assert await asyncio.to_thread(origin.checked, url) == origin.newest


async def _while_it_changes(
    cluster: ClusterOf, origin: Managed, url: str, client: Client, updates: int
) -> None:
    """Updates, passes and two clients at once."""
    over = asyncio.Event()

    async def passes() -> None:
        while not over.is_set():
            await cluster.one_pass("kent", "m")

    async def checks() -> None:
        while not over.is_set():
            assert await asyncio.to_thread(origin.check, url) == ""

    async def package_manager() -> None:
        while not over.is_set():
            assert await asyncio.to_thread(origin.judged, url, client.run) == ""

    async def changes() -> None:
        for number in range(updates):
            await asyncio.to_thread(origin.update, _breathe, careful=number % 2 == 1)
            await cluster.one_pass("kent", "m")
        over.set()

    async with asyncio.TaskGroup() as group:
        for work in (passes, checks, package_manager, changes):
            group.create_task(work())


def _breathe() -> None:
    time.sleep(0.05)
