"""kill -9 at any moment: what is on disk is whole, what is recorded is on disk, the next pass converges."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.store.mirror import MirrorStore
from tests.cluster_of import ClusterOf, differences
from tests.invariants import check_disk, check_invariants
from tests.scenarios.trees import change, many_small

MOMENTS = 20
LONG = 200


class Victim:
    """One site that mirrors a folder, whose passes are killed."""

    def __init__(self, folder: Path, cluster: ClusterOf) -> None:
        self.folder, self.cluster = folder, cluster
        self.origin = folder / "origin"
        many_small(self.origin, 250, per_folder=25)
        change(self.origin, 0)
        cluster.mirror("m", f"file://{self.origin}/", order="shuffled")
        self.site, self.mirror = cluster.site("kent"), cluster.definition("kent", "m")
        self.log = cluster.log("kent")

    def begin(self, *before: str) -> subprocess.Popen[bytes]:
        self.cluster.ledger.tree(self.origin)
        return self.cluster.run(["pass", "--site", "kent", "m"], self.log, *before)

    def writing(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the pass has begun to write to its disk; False when it ended before."""
        place = Path(self.site.data, ".sideways", "tmp", "m")
        while process.poll() is None:
            if place.exists() and any(place.iterdir()):
                return True
            time.sleep(0.001)
        return False

    def _copy(self, copy: Path) -> None:
        """Files keep their inodes: recovery looks at them."""
        subprocess.run(["cp", "-al", self.site.data, f"{copy}-data"], check=True)
        subprocess.run(["cp", "-a", self.site.state, f"{copy}-state"], check=True)

    async def whole(self, *, told: bool = True) -> None:
        """At once after a death: the disk as it is, and a copy of it with its records recovered."""
        check_disk(self.site, self.mirror, self.cluster.ledger, self.cluster.canary)
        copy = self.folder / "copy"
        self._copy(copy)
        try:
            site = replace(self.site, data=f"{copy}-data", state=f"{copy}-state")
            store = await MirrorStore.open(self.mirror, site, int(time.time()))
            await store.close()
            await check_invariants(
                site, self.mirror, self.cluster.ledger, self.cluster.canary, partials=4, told=told
            )
        finally:
            shutil.rmtree(f"{copy}-data")
            shutil.rmtree(f"{copy}-state")

    async def converges(self, *, passes: int = 1) -> None:
        """The next pass does all that was left, and says so. One that goes on where an interrupted one had
        stopped still tells what had failed then: it may take two."""
        statuses = [self.begin().wait(60) for _ in range(passes)]
        assert statuses[-1] == 0, self.log.read_text()[-3000:]
        await self.cluster.check("m", "kent")
        public = self.cluster.public("kent", "m")
        assert not differences(self.origin, public, links=True)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    with ClusterOf(tmp_path, ["kent"]) as cluster:
        yield Victim(tmp_path, cluster)


async def killed_at_many_moments(victim: Victim, moments: int, seed: int) -> None:
    chance = random.Random(seed)
    process = victim.begin()
    assert victim.writing(process)
    began = time.monotonic()
    assert process.wait(60) == 0
    length = time.monotonic() - began
    hit = 0
    for moment in range(1, moments + 1):
        change(victim.origin, seed * 1000 + moment)
        process = victim.begin()
        victim.writing(process)
        await asyncio.sleep(chance.uniform(0, length))
        hit += process.poll() is None
        process.kill()
        process.wait()
        await victim.whole()
        if moment % 3 == 0 or moment == moments:  # else the next death comes before anything was mended
            await victim.converges()
    assert hit >= moments // 4, f"only {hit} of {moments} deaths came before the end of the pass"


async def test_103_a_pass_may_be_killed_at_any_moment(victim: Victim) -> None:
    await killed_at_many_moments(victim, MOMENTS, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_103_a_pass_may_be_killed_at_any_moment_for_a_long_time(victim: Victim) -> None:
    await killed_at_many_moments(victim, LONG, seed=2)


# -- system calls that fail, or are the last one


def strace(fault: str) -> list[str]:
    calls = fault.partition(":")[0]
    return ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e", f"inject={fault}"]


@pytest.fixture(scope="module")
def traced() -> None:
    """Skips where the kernel lets nobody be traced."""
    try:
        done = subprocess.run([*strace("execveat:error=EIO"), "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.fail("strace: not installed; run make setup", pytrace=False)
    if done.returncode:
        pytest.skip(f"strace cannot trace here: {done.stderr.decode()}")


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "fault",
    [
        "renameat,renameat2:signal=KILL:when=1",
        "renameat,renameat2:signal=KILL:when=25",
        "fsync,fdatasync,syncfs:signal=KILL:when=3",
        "unlinkat,unlink:signal=KILL:when=2",
    ],
)
async def test_103_the_last_call_of_a_pass_may_be_any(victim: Victim, fault: str) -> None:
    assert victim.begin().wait(60) == 0
    change(victim.origin, 5)
    process = victim.begin(*strace(fault))
    assert process.wait(60) != 0, "the fault did not happen"
    await victim.whole()
    await victim.converges()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "fault",
    [
        "fsync,fdatasync,syncfs:error=EIO:when=2",
        "fsync,fdatasync,syncfs:error=EIO:when=4+",
        "fallocate:error=ENOSPC",
        "pwrite64:error=ENOSPC:when=20+",
        "renameat,renameat2:error=ENOSPC:when=5..9",
    ],
)
async def test_98_to_101_a_disk_that_fails_costs_one_line_and_no_truth(victim: Victim, fault: str) -> None:
    assert victim.begin().wait(60) == 0
    change(victim.origin, 6)
    before = victim.log.stat().st_size
    process = victim.begin(*strace(fault))
    status = process.wait(60)
    told = victim.log.read_text()[before:]
    assert status in (0, 1) and "Traceback" not in told, told[-3000:]
    await victim.whole(told=False)
    await victim.converges(passes=2)
