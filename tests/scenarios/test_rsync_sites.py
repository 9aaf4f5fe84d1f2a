"""Sites that mirror by rsync, as processes: killed at any moment, and beside a site that mirrors by HTTP."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.store.mirror import MirrorStore
from tests.cluster_of import ClusterOf, differences
from tests.invariants import check_disk
from tests.scenarios.trees import change, many_small, write
from tests.servers import Server, nginx, rsyncd

MOMENTS = 6
LONG = 100


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    made = tmp_path / "origin"
    many_small(made, 250, per_folder=25)
    change(made, 0)
    return made


@pytest.fixture
def server(origin: Path) -> Iterator[Server]:
    with rsyncd(origin) as running:
        yield running


def children_of(pid: int) -> list[int]:
    """Whoever descends from a process."""
    try:
        found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return found + [below for one in found for below in children_of(one)]


def alive(pid: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


async def killed_at_many_moments(folder: Path, origin: Path, url: str, moments: int, seed: int) -> None:
    chance = random.Random(seed)
    with ClusterOf(folder, ["kent"]) as cluster:
        cluster.mirror("m", url, order="shuffled")
        site, mirror, log = cluster.site("kent"), cluster.definition("kent", "m"), cluster.log("kent")
        temporaries = Path(site.data, ".sideways", "tmp", "m")
        length = 0.0
        for moment in range(moments):
            change(origin, seed * 1000 + moment)
            cluster.ledger.tree(origin)
            process = cluster.run(["pass", "--site", "kent", "m"], log)
            while process.poll() is None and not list(temporaries.glob("*")):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            began = time.monotonic()
            if moment:
                await asyncio.sleep(chance.uniform(0, length))
                orphans = children_of(process.pid)
                process.kill()
            status = process.wait()
            if not moment:
                assert status == 0, log.read_text()[-3000:]
                length = time.monotonic() - began
                continue
            check_disk(site, mirror, cluster.ledger, cluster.canary)
            while any(alive(pid) for pid in orphans):  # noqa: ASYNC110 - then nobody writes there any more
                await asyncio.sleep(0.01)
            store = await MirrorStore.open(mirror, site, int(time.time()))
            await store.close()
            await cluster.check("m", "kent", partials=4)
        process = cluster.run(["pass", "--site", "kent", "m"], log)
        assert process.wait() == 0, log.read_text()[-3000:]
        await cluster.check("m", "kent")
        assert not differences(origin, cluster.public("kent", "m"), links=True)


async def test_103_a_pass_by_rsync_may_be_killed_at_any_moment(
    tmp_path: Path, origin: Path, server: Server
) -> None:
    await killed_at_many_moments(tmp_path, origin, server.url, MOMENTS, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_103_a_pass_by_rsync_may_be_killed_at_any_moment_for_a_long_time(
    tmp_path: Path, origin: Path, server: Server
) -> None:
    await killed_at_many_moments(tmp_path, origin, server.url, LONG, seed=2)


class Mixed(ClusterOf):
    """Every site but the first has another origin of the same archive."""

    def other(self, name: str, url: str) -> None:
        for site in self.names[1:]:
            root = self.root_of(site)
            shutil.copytree(self.root, root)
            text = (root / "config" / "mirrors" / f"{name}.xml").read_text()
            first = text.index('url="') + 5
            text = text[:first] + url + text[text.index('"', first) :]
            (root / "config" / "mirrors" / f"{name}.xml").write_text(text)

    def root_of(self, site: str) -> Path:
        return self.root if site == self.names[0] else self.folder / f"cluster-{site}"


async def test_a_site_by_rsync_and_one_by_http_give_each_other_what_they_have(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    many_small(archive, 120, per_folder=20)
    with rsyncd(archive) as server, nginx(archive) as http, Mixed(tmp_path, ["kent", "oslo"]) as cluster:
        cluster.mirror("m", server.url)
        cluster.make_keys()
        cluster.other("m", http.url)
        await cluster.start()
        for number, (first, second) in enumerate((("kent", "oslo"), ("oslo", "kent"))):
            for place in list(archive.rglob("file-*"))[:: 1 + number]:
                write(place, os.urandom(500 + number), at=1_700_100_000 + number * 3600)
            cluster.ledger.tree(archive)
            found = {name: await cluster.one_pass(name, "m") for name in (first, second)}
            count = 120 // (1 + number)
            assert {name: result["outcome"] for name, result in found.items()} == dict.fromkeys(
                found, "complete"
            )
            assert (found[first]["files"]["origin"], found[first]["files"]["sideways"]) == (count, 0)
            assert (found[second]["files"]["origin"], found[second]["files"]["sideways"]) == (0, count)
            for name in found:
                assert not differences(archive, cluster.public(name, "m"), links=False)
        for name in ("kent", "oslo"):
            again = await cluster.one_pass(name, "m")
            assert (again["files"]["origin"], again["files"]["sideways"]) == (0, 0)
        await cluster.check("m")
