"""What a sibling was caught with is remembered: HAZARDS section 4."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cluster.errors import PeerSilent
from cluster.model import Cluster
from cluster.peer import caught
from tests.peer.cluster import running


async def test_a_sibling_that_is_caught_is_remembered_with_its_time(cluster: Cluster) -> None:
    async with running(cluster, "kent", "oslo") as (kent, _):
        sibling = await kent.meets("oslo")
        began = time.time()
        sibling.deceived("bytes that do not match their digest")
        assert not sibling.up and "do not match" in sibling.trouble
        with pytest.raises(PeerSilent):
            await sibling.offered("debian", b"", 1.0)
        ((site, at),) = caught.known(kent.site.state).items()
        assert site == "oslo" and began <= at <= time.time()


def test_of_each_sibling_the_last_time_is_kept(tmp_path: Path) -> None:
    state = str(tmp_path)
    assert caught.known(state) == {}
    for site, at in (("oslo", 1.5), ("york", 2.5), ("oslo", 3.5)):
        caught.note(state, site, at)
    assert caught.known(state) == {"oslo": 3.5, "york": 2.5}


def test_a_register_that_cannot_be_read_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for text in ("[", "[1]", '{"oslo": []}', '{"oslo": "soon"}'):
        (tmp_path / "caught.json").write_text(text)
        caplog.clear()
        assert caught.known(str(tmp_path)) == {}
        (said,) = caplog.messages
        assert said.startswith(f"{tmp_path}/caught.json: ") and "\n" not in said
    caught.note(str(tmp_path), "oslo", 1.0)
    assert caught.known(str(tmp_path)) == {"oslo": 1.0}
    caplog.clear()
    caught.note(str(tmp_path / "gone"), "oslo", 1.0)
    assert len(caplog.messages) == 1
