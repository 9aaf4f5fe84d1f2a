"""How the parts of a site fit together."""

from __future__ import annotations

from pathlib import Path

from cluster.daemon.parts import surroundings
from cluster.model import Mirror, OriginSpec, Site
from cluster.origin.base import Want
from cluster.origin.open import Shared
from cluster.peer.claims import Claims
from cluster.peer.listings import Listings
from cluster.store.mirror import MirrorStore
from tests.servers import rsyncd


async def test_what_a_program_brings_alone_is_swept_with_the_mirror_when_the_process_has_died(
    tmp_path: Path,
) -> None:
    source, data, state = (tmp_path / name for name in ("source", "data", "state"))
    for folder in (source, data, state):
        folder.mkdir()
    (source / "file").write_bytes(b"body")
    site = Site("kent", str(data), str(state))
    with rsyncd(source) as server:
        spec = OriginSpec(server.url, private=True)
        mirror = Mirror("m", "/pub/m", (spec,))
        needed = surroundings(site, Shared(), Claims(kept=False), lambda _: (), Listings(), lambda _: ())
        store = await MirrorStore.open(mirror, site, 0)
        origin = needed.open_origin(spec, mirror)
        async with origin.read(b"file", Want(size=4)):
            (copy,) = data.rglob("file")
            await store.close()  # as the next start does
            assert not copy.parent.exists() and list(data.rglob("file")) == []
        await origin.close()
