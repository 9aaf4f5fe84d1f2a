"""How long a pass that begins with a command waits until it knows which siblings are there."""

from __future__ import annotations

import socket
from dataclasses import replace

from cluster.model import Cluster
from tests.peer.cluster import Station, running


async def test_siblings_are_looked_for_until_each_has_answered_or_refused(cluster: Cluster) -> None:
    async with running(cluster, "kent", "oslo") as (kent, _):
        await kent.siblings.looked_for(cluster.mirrors["debian"], 60.0)
        assert kent.sibling("oslo").up
        assert not kent.sibling("lancaster").up
        assert kent.sibling("lancaster").trouble


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
