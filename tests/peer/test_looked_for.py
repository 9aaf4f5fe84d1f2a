"""How long a pass that begins with a command waits until it knows which siblings are there."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

from cluster.model import Cluster
from tests.peer.cluster import Station, running, with_keys


async def test_siblings_are_looked_for_until_each_has_answered_or_refused(cluster: Cluster) -> None:
    async with running(cluster, "kent", "oslo") as (kent, _):
        await kent.siblings.looked_for(cluster.mirrors["debian"], 60.0)
        assert kent.sibling("oslo").up
        assert not kent.sibling("lancaster").up
        port = cluster.sites["lancaster"].peer.url.rpartition(":")[2]
        told = kent.sibling("lancaster").trouble
        assert told == f"cannot connect to 127.0.0.1:{port}: Connection refused"


async def test_a_sibling_whose_certificate_has_ended_is_told_from_a_stranger(cluster: Cluster) -> None:
    ended = with_keys(cluster.sites["oslo"], replace=True, now=time.time() - 11 * 366 * 86_400)
    newest = replace(ended, peer=replace(ended.peer, certificates=ended.peer.certificates[:1]))
    known = replace(cluster, sites=cluster.sites | {"oslo": newest})
    async with running(known, "kent", "oslo") as (kent, _):
        await kent.siblings.looked_for(known.mirrors["debian"], 60.0)
        told = kent.sibling("oslo").trouble
        assert told == "its certificate has ended; it has to make a new one: sideways keys --rotate"


async def test_a_sibling_that_is_silent_is_not_waited_for_beyond_the_patience(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        peer = replace(cluster.sites["oslo"].peer, url=f"https://127.0.0.1:{mute.getsockname()[1]}")
        known = replace(cluster, sites=cluster.sites | {"oslo": replace(cluster.sites["oslo"], peer=peer)})
        kent = Station(known.sites["kent"], known)
        await kent.start()
        try:
            await kent.siblings.looked_for(known.mirrors["debian"], 0.05)
            assert not kent.sibling("oslo").link.looked.is_set()
        finally:
            await kent.stop()
