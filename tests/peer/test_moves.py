"""A site that moves its peer port while it runs."""

from __future__ import annotations

import logging
import socket
from dataclasses import replace

import pytest

from cluster.model import Cluster
from cluster.origin.base import Want
from tests.peer.cluster import free_port, running


def moved_to(cluster: Cluster, name: str, port: int) -> Cluster:
    site = cluster.sites[name]
    assert site.peer is not None
    peer = replace(site.peer, url=f"https://127.0.0.1:{port}", listen=f"127.0.0.1:{port}")
    return replace(cluster, sites=cluster.sites | {name: replace(site, peer=peer)})


def port_of(cluster: Cluster, name: str) -> int:
    peer = cluster.sites[name].peer
    assert peer is not None
    return int(peer.listen.rpartition(":")[2])


async def test_a_new_address_is_taken_and_the_old_one_given_up_without_cutting_a_body(
    cluster: Cluster,
) -> None:
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.files.put(b"a", b"x" * 30_000_000)
        sibling = await kent.meets("oslo")
        offer = (await sibling.offered("debian", b"", 2.0)).held[b"a"]
        received, moved = 0, moved_to(cluster, "oslo", free_port())
        async with sibling.read("debian", b"a", offer, Want()) as body:
            async for chunk in body.chunks():
                if not received:
                    await oslo.server.reload(moved)
                received += len(chunk)
        assert received == 30_000_000
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port_of(cluster, "oslo")), 2)
        assert oslo.server.address == ("127.0.0.1", port_of(moved, "oslo"))
        await kent.siblings.reload(moved)
        found = await kent.meets("oslo")
        assert found is not sibling and (await found.offered("debian", b"", 2.0)).held


async def test_an_address_that_is_taken_is_one_line_and_the_old_one_stays(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        sibling = await kent.meets("oslo")
        with socket.create_server(("127.0.0.1", 0)) as other:
            moved = moved_to(cluster, "oslo", other.getsockname()[1])
            await oslo.server.reload(moved)
        (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
        assert line.startswith(f"oslo: peer: cannot listen on 127.0.0.1:{port_of(moved, 'oslo')}: Address")
        assert f"goes on at 127.0.0.1:{port_of(cluster, 'oslo')} " in line
        assert (await sibling.offered("debian", b"", 2.0)).site == "oslo"
        await oslo.server.reload(moved)  # free by now
        await kent.siblings.reload(moved)
        assert (await (await kent.meets("oslo")).offered("debian", b"", 2.0)).site == "oslo"
