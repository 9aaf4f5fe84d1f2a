"""Real repositories that are updated many times while the sites that share them are killed at random.

Clients use one site's tree through a front end that stays up: a package manager, and a checker that fetches
everything. Not one fault is allowed, at any moment, whether the origin changes at once or file by file.

    REPOSITORY_UPDATES=50 .venv/bin/pytest -m soak --timeout 0 -s tests/soak/test_repository.py

REPOSITORY_SEED is for another course of things, REPOSITORY_SITES says how many sites there are.
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
from tests.scenarios.aptrepository import AptArchive
from tests.scenarios.changing import Client, Managed
from tests.scenarios.yumrepository import SimpleYumRepository, YumRepository
from tests.servers import nginx
from tests.signatures.keys import signers

UPDATES = int(os.environ.get("REPOSITORY_UPDATES", "50"))
SEED = int(os.environ.get("REPOSITORY_SEED", "1"))
SITES = ["kent", "oslo", "lima"][: int(os.environ.get("REPOSITORY_SITES", "2"))]
PASSES = 20  # after the last update, until everything is there
KEPT = '<delete hold-files="1000000" sightings="1" grace="1h" emptied-after="0s"/>'


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", [AptArchive, YumRepository, SimpleYumRepository])
async def test_41_no_client_ever_finds_half_a_state(tmp_path: Path, kind: type[Managed]) -> None:
    with signers("archive") as (signer,), ClusterOf(tmp_path, SITES) as cluster:
        origin = kind(tmp_path / "origin", signer, SEED)
        with nginx(origin.served, access_log=False) as server:
            extra = f'{KEPT}<repository type="{origin.type}" keyring="{signer.ring}"/>'
            cluster.mirror("m", server.url, extra=extra)
            await cluster.start()
            results = await cluster.passes("m")
            assert {one["outcome"] for one in results.values()} == {"complete"}
            with nginx(cluster.public("kent", "m"), access_log=False) as front:
                story = _Story(cluster, origin, front.url.rstrip("/"))
                try:
                    with origin.client(tmp_path / "client", story.url) as client:
                        await story.play(client)
                    await story.ends_well()
                finally:
                    story.tell()


class _Story:
    def __init__(self, cluster: ClusterOf, origin: Managed, url: str) -> None:
        self.cluster, self.origin, self.url = cluster, origin, url
        self.chance = random.Random(SEED)
        self.updates = self.published = self.deaths = self.checked = self.rounds = 0
        self._over = False

    def tell(self) -> None:
        print(
            f"{type(self.origin).__name__}: {self.updates} updates, {self.published} states published, "
            f"{self.deaths} deaths, {self.checked} whole checks, "
            f"{self.rounds} rounds of the package manager, {self.origin.crossed} met two states"
        )

    async def play(self, client: Client) -> None:
        async with asyncio.TaskGroup() as group:
            for site in SITES:
                group.create_task(self._passes(site))
            group.create_task(self._checks())
            group.create_task(self._package_manager(client))
            group.create_task(self._deaths())
            group.create_task(self._updates())

    async def ends_well(self) -> None:
        for _ in range(PASSES):
            results = await self.cluster.passes("m")
            if {one["outcome"] for one in results.values()} == {"complete"}:
                break
        else:
            raise AssertionError(results)
        assert await asyncio.to_thread(self.origin.checked, self.url) == self.origin.newest

    async def _updates(self) -> None:
        for _ in range(UPDATES):
            careful = self.chance.random() < 0.5
            await asyncio.to_thread(self.origin.update, self._breathe, careful=careful)
            self.updates += 1
            await asyncio.sleep(self.chance.uniform(0, 3))
        self._over = True

    def _breathe(self) -> None:
        time.sleep(self.chance.uniform(0, 0.2))

    async def _passes(self, site: str) -> None:
        while not self._over:
            try:
                result = await self.cluster.one_pass(site, "m")
                self.published += result["published"]
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
            assert await asyncio.to_thread(self.origin.check, self.url) == ""
            self.checked += 1

    async def _package_manager(self, client: Client) -> None:
        while not self._over:
            assert await asyncio.to_thread(self.origin.judged, self.url, client.run) == ""
            self.rounds += 1
