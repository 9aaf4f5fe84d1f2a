"""A disk that is really full: a small tmpfs holds the data."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_of import ClusterOf, differences
from tests.scenarios.trees import many_small, write


@pytest.fixture
def small(tmp_path: Path) -> Iterator[ClusterOf]:
    """A site whose data has 2 MiB."""
    with ClusterOf(tmp_path, ["kent"]) as cluster:
        data = cluster.site("kent").data
        if os.geteuid() != 0:
            pytest.skip("only root mounts a small file system")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "small", data], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode()}")
        try:
            yield cluster
        finally:
            subprocess.run(["umount", data], check=True)


async def test_98_a_pass_on_a_full_disk_ends_with_one_line_and_goes_on_when_there_is_room(
    small: ClusterOf, tmp_path: Path
) -> None:
    origin = tmp_path / "origin"
    many_small(origin, 100)
    for i in range(4):
        write(origin / "large" / f"{i}", random.Random(i).randbytes(900_000), at=1_700_000_000)
    small.ledger.tree(origin)
    small.mirror("m", f"file://{origin}/")
    site, log = small.site("kent"), small.log("kent")
    assert small.run(["pass", "--site", "kent", "m"], log).wait(60) == 1
    told = log.read_text()
    assert "Traceback" not in told, told
    assert "No space left" in told or "kept in reserve" in told, told
    assert len(told.splitlines()) < 10, told
    assert any(path.is_file() for path in small.public("kent", "m").rglob("*")), "what had come is not there"
    await small.check("m", partials=4)
    assert subprocess.run(["mount", "-o", "remount,size=20m", site.data], check=False).returncode == 0  # noqa: ASYNC221
    statuses = [small.run(["pass", "--site", "kent", "m"], log).wait(60) for _ in range(2)]
    assert statuses[-1] == 0, log.read_text()
    await small.check("m")
    assert not differences(origin, small.public("kent", "m"), links=True)
