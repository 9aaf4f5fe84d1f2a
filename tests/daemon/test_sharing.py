"""What real sites share over real lines: the slots of one fill when the slots of another are not used."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.daemon.sharing import BANDWIDTH, CONNECTIONS, PARTS, Sharing, shared
from cluster.model import Cluster, Limits, OriginSpec
from cluster.origin.limit import Hosts
from cluster.peer.leases import Terms
from tests.peer.cluster import Station, make_cluster, running

HOST = "origin.example"
ALL = ("kent", "lancaster", "oslo")


def sharing_cluster(folder: str, **limits: object) -> Cluster:
    """Everybody carries `debian`, of which six connections are shared."""
    made = make_cluster(folder)
    told = Limits(**{"connections": 6, "shared": True, **limits})  # type: ignore[arg-type]
    debian = replace(made.mirrors["debian"], limits=told, origins=(OriginSpec(f"http://{HOST}/debian/"),))
    return replace(made, mirrors=made.mirrors | {"debian": debian})


class Site:
    """A station that also shares; `slots` are those of the origin's host."""

    def __init__(self, station: Station, cluster: Cluster) -> None:
        self.station, hosts = station, Hosts()
        self.sharing = Sharing(station.site.name, hosts, time.monotonic)
        self.sharing.configure(cluster)
        self.sharing.connect(station.lines, station.siblings)
        self.slots = hosts.of(HOST)
        self.slots.join(6)
        self.task = asyncio.create_task(self.sharing.run())

    async def fill(self, count: int) -> list[asyncio.Task[None]]:
        """So many requests want to run."""
        return [asyncio.create_task(self.slots.take()) for _ in range(count)]


@contextlib.asynccontextmanager
async def sharing(cluster: Cluster, *names: str) -> AsyncIterator[list[Site]]:
    async with running(cluster, *names, talk=True) as stations:
        sites = [Site(station, cluster) for station in stations]
        try:
            yield sites
        finally:
            for site in sites:
                site.task.cancel()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return sharing_cluster(str(tmp_path))


def test_what_is_shared_is_what_descriptors_say_by_host(cluster: Cluster) -> None:
    assert shared(cluster, "kent") == {
        (CONNECTIONS, HOST): Terms(6, ALL),
        (BANDWIDTH, HOST): Terms(PARTS, ALL),
    }
    ctan = replace(
        cluster.mirrors["ctan"],
        limits=Limits(connections=2, shared=True),
        origins=(OriginSpec(f"https://{HOST}/ctan/"), OriginSpec("file:///srv/ctan")),
    )
    more = replace(cluster, mirrors=cluster.mirrors | {"ctan": ctan})
    assert shared(more, "kent")[CONNECTIONS, HOST] == Terms(2, ALL), "the smallest counts"
    own = replace(cluster.mirrors["debian"], limits=Limits())
    assert shared(replace(cluster, mirrors={"debian": own}), "kent") == {}


async def test_a_site_that_works_alone_has_all_slots_and_gives_them_up_as_they_become_free(
    cluster: Cluster,
) -> None:
    async with sharing(cluster) as (kent, lancaster, oslo):
        busy = await kent.fill(9)
        await until(lambda: kent.slots.running == 6)
        waiting = await oslo.fill(9)
        await until(lambda: kent.slots.capacity == 3)
        assert (kent.slots.running, oslo.slots.running) == (6, 0), "nothing is torn down"
        for given in range(1, 4):
            kent.slots.give()
            await until(lambda given=given: oslo.slots.running == given)  # type: ignore[misc]
            assert kent.slots.running + oslo.slots.running == 6
        assert lancaster.slots.running == 0
        (told, bandwidth) = oslo.sharing.standings()[::-1]
        assert (told.budget, told.fair, told.allowed, told.used, told.silent) == (6, 2, 3, 3, ())
        assert (bandwidth.sort, bandwidth.wanted) == (BANDWIDTH, 0)
        for task in [*busy, *waiting]:
            task.cancel()


async def test_a_site_whose_siblings_do_not_run_has_everything(cluster: Cluster) -> None:
    async with sharing(cluster, "kent") as (kent,):
        busy = await kent.fill(9)
        await until(lambda: kent.slots.running == 6)
        for task in busy:
            task.cancel()


async def test_what_is_shared_no_more_is_limited_by_the_mirror_alone(cluster: Cluster) -> None:
    async with sharing(cluster, "kent", "oslo") as (kent, oslo):
        busy, others = await kent.fill(9), await oslo.fill(9)
        await until(lambda: kent.slots.running == oslo.slots.running == 3)
        for site in (kent, oslo):
            site.sharing.configure(replace(cluster, mirrors={}))
            assert (site.slots.running, site.slots.part) == (6, 1.0)
            assert site.sharing.standings() == []
        for task in [*busy, *others]:
            task.cancel()
