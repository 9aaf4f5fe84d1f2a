"""An older state is approved while the daemon runs: it begins the pass that publishes it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from cluster.daemon.approval import approve_state
from tests.cluster_of import ClusterOf


def _release(origin: Path, day: int) -> bytes:
    """A flat repository without a package, as of a day."""
    (origin / "Packages").write_bytes(b"")
    none = hashlib.sha256(b"").hexdigest()
    text = f"Date: Tue, {day} Nov 2023 00:00:00 UTC\nSHA256:\n {none} 0 Packages\n".encode()
    (origin / "Release").write_bytes(text)
    return text


async def test_an_approval_begins_the_pass_that_it_is_for(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    with ClusterOf(tmp_path, ["kent"]) as cluster:
        cluster.mirror("m", f"file://{origin}/", extra='<repository type="apt"/>')
        _release(origin, 14)
        await cluster.start()
        assert (await cluster.one_pass("kent", "m"))["published"] == 1
        older = _release(origin, 7)
        assert (await cluster.one_pass("kent", "m"))["outcome"] == "incomplete"
        sha256 = hashlib.sha256(older).digest()
        answer = await approve_state(cluster.site("kent"), cluster.definition("kent", "m"), sha256)
        assert answer["root"] == "Release"
        while (cluster.public("kent", "m") / "Release").read_bytes() != older:  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.05)
