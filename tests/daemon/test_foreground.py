"""A pass that a command makes by itself, where no daemon runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cluster.config.load import load
from cluster.daemon import foreground
from tests.bench.link import link
from tests.cluster_of import ClusterOf
from tests.servers import nginx

FAR = 0.1  # s one way


async def test_it_reads_from_a_sibling_that_takes_a_while_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "origin").mkdir()
    for number in range(20):
        (tmp_path / "origin" / f"file-{number}").write_bytes(b"x" * number)
    monkeypatch.setattr(foreground, "LOOKED_FOR", 60.0)
    with nginx(tmp_path / "origin") as origin, ClusterOf(tmp_path, ["kent", "oslo"]) as cluster:
        cluster.mirror("m", origin.url)
        await cluster.start("oslo")
        await cluster.one_pass("oslo", "m")
        with link([cluster.ports["oslo"]], FAR) as (port,):
            _moved(cluster.root / "sites" / "oslo.toml", port)
            loaded = load(str(cluster.root), "kent")
            told = await foreground.foreground_pass(
                loaded, loaded.sites["kent"], loaded.mirrors["m"], b"", False, lambda _: None
            )
    assert told["files"] == told["files"] | {"origin": 0, "sideways": 20}


def _moved(site: Path, port: int) -> None:
    site.write_text(re.sub(r'(url = "https://127\.0\.0\.1:)\d+', rf"\g<1>{port}", site.read_text()))
