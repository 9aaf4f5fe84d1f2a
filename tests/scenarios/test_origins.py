"""Two real servers of one archive: one dies, is behind, empty or broken; or one is for bytes alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import control
from tests.cluster_of import AT_ONCE, ClusterOf
from tests.scenarios.trees import write
from tests.servers import Server, nginx

FILES, AT = 30, 1_700_000_000
ONCE = f'{AT_ONCE}<limits retries="0" timeout="20s"/>'


def tree(root: Path) -> Path:
    for number in range(FILES):
        write(root / f"pool/{number % 3}/{number}.deb", b"body %d" % number * 100, at=AT + number)
    return root


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return tree(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path, first: Path) -> Path:
    """The same tree, times included, in another place."""
    return Path(shutil.copytree(first, tmp_path / "second"))


@pytest.fixture
def kent(tmp_path: Path, first: Path, second: Path) -> Iterator[ClusterOf]:
    (tmp_path / "cluster").mkdir()
    with ClusterOf(tmp_path / "cluster", ["kent"]) as cluster:
        for root in (first, second):
            cluster.ledger.tree(root)
        yield cluster


def both(cluster: ClusterOf, one: Server, other: Server, role: str = "reference") -> None:
    cluster.mirror("m", one.url, extra=f'<origin url="{other.url}" role="{role}"/>{ONCE}')


async def passes(cluster: ClusterOf) -> dict[str, Any]:
    await cluster.check("m")
    return (await cluster.passes("m"))["kent"]


def bodies(server: Server) -> list[str]:
    return [r.target for r in server.requests() if r.target.endswith(".deb") and r.method == "GET"]


async def test_when_a_server_dies_the_other_takes_over_without_a_body(
    kent: ClusterOf, first: Path, second: Path
) -> None:
    with nginx(second) as spare:
        with nginx(first) as server:
            both(kent, server, spare)
            await kent.start()
            assert (await passes(kent))["files"]["origin"] == FILES
        write(second / "pool/0/new.deb", b"news", at=AT + 500)
        kent.ledger.tree(second)
        result = await passes(kent)
        assert (result["outcome"], result["origin"]) == ("complete", spare.url), result
        assert (result["files"]["origin"], result["files"]["unchanged"]) == (1, FILES), result
        assert bodies(spare) == ["/pool/0/new.deb"]
        assert result["files"]["waiting"] == result["files"]["deleted"] == 0
        await kent.check("m")


@pytest.mark.parametrize("how", ["empty", "error page"])
async def test_a_server_that_has_lost_its_disk_or_its_mind_is_left_for_the_other(
    kent: ClusterOf, first: Path, second: Path, how: str
) -> None:
    broken = {
        "empty": f"location = / {{ root {first.parent}/lost; }}",
        "error page": 'location = / { default_type text/html; return 200 "<h1>Welcome</h1>"; }',
    }[how]
    (first.parent / "lost").mkdir()
    with nginx(first) as server, nginx(second) as spare:
        both(kent, server, spare)
        await kent.start()
        await passes(kent)
        with nginx(first, extra=broken) as worse:
            both(kent, worse, spare)
            await control.ask(kent.site("kent").state, {"command": "reload"})
            last = await passes(kent)
            assert (last["outcome"], last["origin"]) == ("complete", spare.url), last
            assert last["files"]["unchanged"] == FILES and not bodies(spare), last
        await kent.check("m")


async def test_a_server_that_falls_silent_in_the_middle_of_a_pass_is_left_by_the_next(
    kent: ClusterOf, first: Path, second: Path
) -> None:
    flag = first.parent / "silent"
    silent = f"location /pool/1/ {{ if (-f {flag}) {{ return 503; }} }}"
    with nginx(first, extra=silent) as server, nginx(second) as spare:
        both(kent, server, spare)
        await kent.start()
        await passes(kent)
        flag.touch()
        result = await passes(kent)
        assert (result["outcome"], result["origin"]) == ("incomplete", server.url), result
        result = await passes(kent)
        assert (result["outcome"], result["origin"]) == ("complete", spare.url), result
        assert result["files"]["unchanged"] == FILES and not bodies(spare), result
        await kent.check("m")


async def test_a_server_that_is_behind_does_not_take_a_mirror_back_in_time(
    kent: ClusterOf, first: Path, second: Path
) -> None:
    write(first / "pool/2/2.deb", b"a newer version", at=AT + 900)
    kent.ledger.tree(first)
    with nginx(second) as spare:
        with nginx(first) as server:
            both(kent, server, spare)
            await kent.start()
            await passes(kent)
        result = await passes(kent)
        assert result["outcome"] == "failed" and not bodies(spare), result
        assert any("behind what is held here" in error for error in result["errors"]), result
        assert (kent.public("kent", "m") / "pool/2/2.deb").read_bytes() == b"a newer version"
        await kent.check("m")


async def test_bytes_come_from_the_nearer_server_where_it_has_the_listed_version(
    kent: ClusterOf, first: Path, second: Path
) -> None:
    write(second / "pool/0/0.deb", b"of another size", at=AT)
    write(second / "pool/1/1.deb", (first / "pool/1/1.deb").read_bytes(), at=AT + 77_000)
    (second / "pool/2/2.deb").unlink()
    with nginx(first) as server, nginx(second) as near:
        both(kent, server, near, role="bytes")
        await kent.start()
        result = await passes(kent)
        assert (result["outcome"], result["origin"]) == ("complete", server.url), result
        assert sorted(bodies(server)) == ["/pool/0/0.deb", "/pool/1/1.deb", "/pool/2/2.deb"]
        assert len(set(bodies(near)) - set(bodies(server))) == FILES - 3
        assert not [request for request in near.requests() if request.target.endswith("/")]
        for path in first.rglob("*.deb"):
            here = kent.public("kent", "m") / path.relative_to(first)
            assert here.read_bytes() == path.read_bytes() and here.stat().st_mtime == path.stat().st_mtime
        assert (await passes(kent))["files"]["unchanged"] == FILES
        await kent.check("m")
