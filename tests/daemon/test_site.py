"""A site's daemon as its operator meets it: real processes, the real command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from cluster import control
from cluster.errors import StoreError, UsageError
from tests.cluster_of import ClusterOf


def sideways(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "pool" / "deep").mkdir(parents=True)
    (root / "pool" / "deep" / "file").write_bytes(b"contents\n")
    (root / "README").write_bytes(b"read me\n")
    return root


@pytest.fixture
def one(tmp_path: Path, source: Path):
    (tmp_path / "cluster-of").mkdir()
    with ClusterOf(tmp_path / "cluster-of", ["kent", "oslo"]) as cluster:
        cluster.ledger.tree(source)
        cluster.mirror("m", f"file://{source}/")
        yield cluster


async def get(url: str) -> dict:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return json.loads(await answer.read())


async def test_the_cluster_page_shows_what_the_siblings_tell(one: ClusterOf) -> None:
    await one.start()
    await one.passes("m")
    web = one.site("kent").web
    for _ in range(150):
        told = await get(f"http://{web}/-/cluster?json")
        (oslo,) = [s for s in told["sites"] if s["name"] == "oslo"]
        row = told["mirrors"][0]["sites"]["oslo"] or {}
        if row.get("outcome") == "complete":
            break
        await asyncio.sleep(0.1)
    assert oslo["up"]
    assert row["files"] == 2
    assert row["bytes"] == len(b"contents\nread me\n")
    assert row["fresh"] > 0


async def test_a_pass_from_origins_that_are_all_paused_says_so_at_once(one: ClusterOf, source: Path) -> None:
    await one.start("kent")
    state = one.site("kent").state
    await control.ask(state, {"command": "pause", "mirror": "m", "origin": f"file://{source}/"})
    for command in ("pass", "push"):
        with pytest.raises(StoreError, match="every origin of it is paused"):
            await asyncio.wait_for(control.ask(state, {"command": command, "mirror": "m", "path": ""}), 10)


async def test_a_pass_over_one_directory_does_not_make_the_mirror_look_complete(one: ClusterOf) -> None:
    await one.start("kent")
    assert (await one.one_pass("kent", "m"))["outcome"] == "complete"
    before = json.loads(sideways(one.root, "status", "--site", "kent", "--json").stdout)
    await asyncio.sleep(1.1)
    result = await control.ask(one.site("kent").state, {"command": "pass", "mirror": "m", "path": "pool"})
    assert result is not None
    assert result["directories"] == 2
    after = json.loads(sideways(one.root, "status", "--site", "kent", "--json").stdout)
    assert after["mirrors"][0]["complete"] == before["mirrors"][0]["complete"]


def test_one_invalid_descriptor_hides_no_status_but_starts_no_pass(one: ClusterOf) -> None:
    data = one.site("kent").data
    (one.root / "config" / "mirrors" / "bad.xml").write_text('<mirror name="bad"><tilte>x</tilte></mirror>')
    told = sideways(one.root, "status", "--site", "kent")
    assert told.returncode == 0
    assert "warning: config/mirrors/bad.xml:1: " in told.stderr
    assert told.stdout.splitlines()[1].startswith("m ")
    for words in (("status",), ("journal",), ("push",), ("pause",)):
        named = sideways(one.root, *words, "--site", "kent", "bad")
        assert (named.returncode, named.stderr[:26]) == (2, "config/mirrors/bad.xml:1: ")
        assert sideways(one.root, *words, "--site", "kent", "m").returncode == 1  # no records, no daemon
    refused = sideways(one.root, "pass", "--site", "kent", "m")
    assert refused.returncode == 2
    assert refused.stderr.startswith("config/mirrors/bad.xml:1: ")
    assert not os.listdir(data)


async def test_a_new_descriptor_does_not_get_the_path_of_one_that_keeps_its_old_definition(
    one: ClusterOf, source: Path
) -> None:
    await one.start("kent")
    descriptor = one.root / "config" / "mirrors" / "m.xml"
    good = descriptor.read_text()
    one.mirror("n", f"file://{source}/")
    other = one.root / "config" / "mirrors" / "n.xml"
    state = one.site("kent").state
    other.write_text(other.read_text().replace("/n</path>", "/m</path>"))
    descriptor.write_text("<mirror")
    said = await control.ask(state, {"command": "reload"})
    assert (
        said is not None
        and "config/mirrors/n.xml:4: <path>: /m is the same as /m of mirror m" in said["message"]
    )
    result = await control.ask(state, {"command": "pass", "mirror": "m", "path": ""})
    assert result is not None and result["outcome"] == "complete"
    with pytest.raises(UsageError, match=r"^n: no such mirror at kent: config/mirrors/n\.xml:4: "):
        await control.ask(state, {"command": "pass", "mirror": "n", "path": ""})
    descriptor.write_text(good.replace("/m</path>", "/moved</path>"))
    said = await control.ask(state, {"command": "reload"})
    assert said == {"message": "the configuration is read again"}
    result = await control.ask(state, {"command": "pass", "mirror": "n", "path": ""})
    assert result is not None and result["outcome"] == "complete"


def test_the_log_of_a_foreground_pass_has_a_line_per_event(one: ClusterOf, tmp_path: Path) -> None:
    log = tmp_path / "pass.log"
    done = sideways(one.root, "-v", "pass", "--site", "kent", "m", "--log", str(log))
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    assert any("published path=pool/deep/file size=9 source=origin" in line for line in lines)
    assert "complete path=/ origin=2" in [line for line in lines if " info " in line][-1]


def test_a_path_that_is_no_directory_is_said_to_be_none(one: ClusterOf) -> None:
    assert sideways(one.root, "pass", "--site", "kent", "m").returncode == 0
    done = json.loads(sideways(one.root, "pass", "--site", "kent", "m", "pool/nowhere", "--json").stdout)
    assert done["notes"] == ["pool/nowhere: no directory here yet; pool is compared instead"]


async def test_a_port_that_is_taken_is_no_bad_usage(one: ClusterOf) -> None:
    await one.start("kent")
    host, _, port = (one.site("kent").web or "").rpartition(":")
    file = one.root / "sites" / "oslo.toml"
    text = file.read_text().replace(one.site("oslo").web or "", f"{host}:{port}")
    file.write_text(text)
    done = sideways(one.root, "run", "--site", "oslo")
    assert done.returncode == 1
    assert "cannot listen" in done.stderr.splitlines()[-1]
