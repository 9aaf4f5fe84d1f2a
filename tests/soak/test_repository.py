"""A real apt repository that is updated many times while two sites that share it are killed at random.

Clients use one site's tree through a front end that stays up: apt-get, and a checker that fetches everything.
Not one fault is allowed, at any moment, whether the origin changes at once or file by file.

    REPOSITORY_UPDATES=50 .venv/bin/pytest -m soak --timeout 0 -s tests/soak/test_repository.py
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from cluster.errors import SidewaysError
from tests.cluster_of import ClusterOf
from tests.scenarios.aptrepository import AptClient, Changing, checked
from tests.servers import nginx
from tests.signatures.keys import signers

UPDATES = int(os.environ.get("REPOSITORY_UPDATES", "50"))
SEED = int(os.environ.get("REPOSITORY_SEED", "1"))
SITES = ["kent", "oslo"]
PASSES = 20  # after the last update, until everything is there
KEPT = '<delete hold-files="1000000" sightings="1" grace="1h" emptied-after="0s"/>'


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_41_no_client_ever_finds_half_a_state(tmp_path: Path) -> None:
    with signers("archive") as (signer,), ClusterOf(tmp_path, SITES) as cluster:
        origin = Changing(tmp_path / "origin", signer, SEED)
        with nginx(origin.served, access_log=False) as server:
            extra = f'{KEPT}<repository type="apt" keyring="{signer.ring}"/>'
            cluster.mirror("m", server.url, extra=extra)
            await cluster.start()
            results = await cluster.passes("m")
            assert {one["outcome"] for one in results.values()} == {"complete"}
            with nginx(cluster.public("kent", "m"), access_log=False) as front:
                story = _Story(cluster, origin, front.url.rstrip("/"))
                await story.play(AptClient(tmp_path / "apt", story.url, signer.ring))
                await story.ends_well()
    print(f"{UPDATES} updates, {story.deaths} deaths, {story.checked} whole checks, {story.apt} of apt-get")


class _Story:
    def __init__(self, cluster: ClusterOf, origin: Changing, url: str) -> None:
        self.cluster, self.origin, self.url = cluster, origin, url
        self.chance = random.Random(SEED)
        self.deaths = self.checked = self.apt = 0
        self._over = False

    async def play(self, client: AptClient) -> None:
        async with asyncio.TaskGroup() as group:
            for site in SITES:
                group.create_task(self._passes(site))
            group.create_task(self._checks())
            group.create_task(self._apt(client))
            group.create_task(self._deaths())
            group.create_task(self._updates())

    async def ends_well(self) -> None:
        newest = (self.origin.work / "dists/stable/InRelease").read_bytes()
        for _ in range(PASSES):
            results = await self.cluster.passes("m")
            if {one["outcome"] for one in results.values()} == {"complete"}:
                break
        else:
            raise AssertionError(results)
        assert await asyncio.to_thread(checked, self.url) == newest

    async def _updates(self) -> None:
        for _ in range(UPDATES):
            careful = self.chance.random() < 0.5
            await asyncio.to_thread(self.origin.update, self._breathe, careful=careful)
            await asyncio.sleep(self.chance.uniform(0, 3))
        self._over = True

    def _breathe(self) -> None:
        time.sleep(self.chance.uniform(0, 0.2))

    async def _passes(self, site: str) -> None:
        while not self._over:
            try:
                await self.cluster.one_pass(site, "m")
            except (SidewaysError, AssertionError, OSError):  # it was killed
                await asyncio.sleep(0.2)

    async def _deaths(self) -> None:
        while not self._over:
            await asyncio.sleep(self.chance.uniform(0.5, 6))
            site = self.chance.choice(SITES)
            self.cluster.kill(site)
            self.deaths += 1
            await self.cluster.start(site)

    async def _checks(self) -> None:
        while not self._over:
            assert await asyncio.to_thread(checked, self.url) in self.origin.complete
            self.checked += 1

    async def _apt(self, client: AptClient) -> None:
        while not self._over:
            assert await asyncio.to_thread(client.run) == ""
            self.apt += 1
