"""Real daemons: what one site publishes, the others compare with the origin at once, and news ends."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from cluster import control
from tests.cluster_of import ClusterOf
from tests.servers import free_port

FAST = 60.0  # s, on a machine that does much else; by schedule it would be six hours


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for place in ("pool/a", "pool/b", "dists"):
        (root / place).mkdir(parents=True)
        (root / place / "file").write_bytes(b"first\n")
    return root


@pytest.fixture
def three(tmp_path: Path, source: Path):
    (tmp_path / "of").mkdir()
    with ClusterOf(tmp_path / "of", ["kent", "lancaster", "oslo"]) as cluster:
        cluster.mirror("m", f"file://{source}/")
        file = cluster.root / "config" / "mirrors" / "m.xml"
        file.write_text(file.read_text().replace('<schedule paused="yes"/>', '<schedule every="6h"/>'))
        yield cluster


async def until(true, cluster: ClusterOf) -> float:
    started = time.monotonic()
    while not true():
        logs = "\n".join(cluster.log(name).read_text()[-1500:] for name in cluster.names)
        assert time.monotonic() - started < FAST, logs
        await asyncio.sleep(0.02)
    return time.monotonic() - started


def everywhere(cluster: ClusterOf, path: str, content: bytes, *sites: str) -> bool:
    files = [cluster.public(name, "m") / path for name in sites or cluster.names]
    return all(file.exists() and file.read_bytes() == content for file in files)


def passes(cluster: ClusterOf, site: str) -> list[str]:
    """What passes a site has begun, and why."""
    return [line for line in cluster.log(site).read_text().splitlines() if ": pass of " in line]


async def test_what_one_site_finds_all_have_within_seconds_and_then_there_is_quiet(three, source):
    await three.start()
    await until(lambda: everywhere(three, "pool/b/file", b"first\n"), three)
    await until(lambda: all("pass ended" in three.log(n).read_text() for n in three.names), three)
    await asyncio.sleep(1.0)
    before = {name: len(passes(three, name)) for name in three.names}
    (source / "pool" / "b" / "new").write_bytes(b"second\n")
    (source / "pool" / "a" / "unnoticed").write_bytes(b"third\n")
    state = three.site("kent").state
    await control.ask(state, {"command": "push", "mirror": "m", "path": "pool/b"})
    took = await until(lambda: everywhere(three, "pool/b/new", b"second\n"), three)
    print(f"known everywhere after {took:.2f} s")
    assert not (three.public("oslo", "m") / "pool" / "a" / "unnoticed").exists()
    await asyncio.sleep(3.0)
    for name in ("lancaster", "oslo"):
        begun = passes(three, name)[before[name] :]
        assert 1 <= len(begun) <= 2, begun
        assert all("pass of pool/b begins" in line and "published something new" in line for line in begun)
    assert len(passes(three, "kent")) == before["kent"] + 1
    assert (three.public("oslo", "m") / "pool" / "b" / "new").read_bytes() == b"second\n"
    three.ledger.tree(source)
    await three.check("m")


async def test_a_site_that_was_away_goes_on_where_it_had_stopped(three, source):
    await three.start()
    await until(lambda: everywhere(three, "pool/b/file", b"first\n"), three)
    await until(lambda: "kent" in followed(three, "oslo"), three)
    three.stop("oslo")
    (source / "pool" / "b" / "new").write_bytes(b"second\n")
    await control.ask(three.site("kent").state, {"command": "push", "mirror": "m", "path": "pool/b"})
    await until(lambda: everywhere(three, "pool/b/new", b"second\n", "kent", "lancaster"), three)
    old = len(passes(three, "oslo"))
    await three.start("oslo")
    await until(lambda: everywhere(three, "pool/b/new", b"second\n", "oslo"), three)
    assert any("pass of pool/b begins" in line for line in passes(three, "oslo")[old:])


async def test_a_site_that_lost_its_place_compares_digests_and_looks_only_where_they_differ(three, source):
    await three.start()
    await until(lambda: everywhere(three, "pool/b/file", b"first\n"), three)
    await until(lambda: "kent" in followed(three, "oslo"), three)
    three.stop("oslo")
    place = Path(three.site("oslo").state) / "followed.json"
    told = json.loads(place.read_text())
    place.write_text(json.dumps({site: {"m": ["another epoch", 3]} for site in told}))
    (source / "pool" / "b" / "new").write_bytes(b"second\n")
    await control.ask(three.site("kent").state, {"command": "push", "mirror": "m", "path": "pool/b"})
    await until(lambda: everywhere(three, "pool/b/new", b"second\n", "kent", "lancaster"), three)
    old = len(passes(three, "oslo"))
    await three.start("oslo")
    await until(lambda: everywhere(three, "pool/b/new", b"second\n", "oslo"), three)
    assert all("pass of pool/b begins" in line for line in passes(three, "oslo")[old:])


def followed(cluster: ClusterOf, site: str) -> dict:
    try:
        return json.loads((Path(cluster.site(site).state) / "followed.json").read_text())
    except FileNotFoundError:
        return {}


async def test_a_site_behind_a_firewall_gives_its_siblings_what_it_has(tmp_path, start_nginx):
    """Nobody reaches oslo. It mirrors first; kent then reads from it, through the line that oslo dialled."""
    root = tmp_path / "source"
    for n in range(20):
        (root / f"d{n % 3}").mkdir(parents=True, exist_ok=True)
        (root / f"d{n % 3}" / f"{n}").write_bytes(b"%d\n" % n * (200_000 if n == 7 else 20))
        old = time.time() - 3600
        os.utime(root / f"d{n % 3}" / f"{n}", (old, old))
    (tmp_path / "of").mkdir()
    server = start_nginx(root, autoindex_format="json")
    with ClusterOf(tmp_path / "of", ["kent", "oslo"]) as cluster:
        cluster.mirror("m", server.url)
        site = cluster.root / "sites" / "oslo.toml"
        address = f"https://127.0.0.1:{cluster.ports['oslo']}"
        site.write_text(site.read_text().replace(address, f"https://127.0.0.1:{free_port()}"))
        await cluster.start()
        assert (await cluster.one_pass("oslo", "m"))["files"]["origin"] == 20
        files = (await cluster.one_pass("kent", "m"))["files"]
        assert (files["sideways"], files["origin"]) == (20, 0)
