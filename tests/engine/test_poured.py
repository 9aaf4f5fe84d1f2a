"""A large file of a site that is alone, from a real origin: received by a thread of its own."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace

import pytest

from cluster.engine import transfer
from cluster.model import Limits, OriginSpec
from cluster.origin.http import HttpOrigin
from cluster.store import intake
from cluster.store.blocks import block_hashes
from cluster.store.intake import Intake
from cluster.store.mirror import MirrorStore, Reader
from cluster.store.staging import Staging
from tests.engine.world import Told, World
from tests.origin.hostile import Hostile, Request, ok
from tests.servers import nginx

BODY = random.Random(3).randbytes(14 * 2**20 + 321)


@pytest.fixture
def asides(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether what a thread received went past the page cache, for each file."""
    seen: list[bool] = []
    real = Staging.intake

    def noted(self: Staging, *, aside: bool, parts: bool) -> Intake:
        seen.append(aside)
        return real(self, aside=aside, parts=parts)

    monkeypatch.setattr(Staging, "intake", noted)
    monkeypatch.setattr(transfer, "RANGE", 9 * 2**20)
    monkeypatch.setattr(intake, "PIECE", 2**20)
    return seen


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a sibling"])
async def test_a_very_large_one_stays_in_memory_only_where_siblings_will_read_it(
    world: World, asides: list[bool], beside: bool
) -> None:
    root = world.top / "root"
    root.mkdir()
    for name, body in ((b"f", BODY), (b"g", BODY[: 8 * 2**20 + 1])):
        (root / os.fsdecode(name)).write_bytes(body)
        os.utime(root / os.fsdecode(name), (10**9, 10**9))
        world.ledger.file(name, body)
    if beside:
        world.sibling()
    with nginx(root) as server:
        world.origin = HttpOrigin(OriginSpec(server.url), Limits())
        report = await world.run()
    assert (report.outcome, report.bytes_origin) == ("complete", len(BODY) + 8 * 2**20 + 1)
    assert world.bodies() == {b"f": BODY, b"g": BODY[: 8 * 2**20 + 1]}
    assert sorted(asides) == ([False, False] if beside else [False, True])
    recorded, told = await hashes(world)
    assert recorded == (block_hashes(BODY) if beside else b"")
    assert told == block_hashes(BODY)


async def hashes(world: World) -> tuple[bytes, bytes]:
    """Of the blocks of `f`: what is recorded, and what a sibling that asks is told."""
    store = await MirrorStore.open(world.mirror, world.site, 0)
    recorded = await store.blocks(b"f")
    await store.close()
    reader = await Reader.open(world.mirror.name, world.site)
    try:
        descriptor, held = await reader.open_file(b"f") or (-1, None)
        assert held is not None
        with os.fdopen(descriptor):
            return recorded, await reader.block_hashes(b"f", held, descriptor)
    finally:
        await reader.close()


async def test_59_what_broke_off_goes_on_with_the_byte_that_comes_next(
    world: World, asides: list[bool]
) -> None:
    cut, etag = 5 * 2**20 + 77, 'ETag: "v1"'
    row = f'<a href="f">f</a>  01-Jan-2001 00:00  {len(BODY)}'
    index = f"<html><title>Index of /</title><h1>Index of /</h1><pre>{row}\n</pre></html>"

    async def file(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.method == "HEAD":
            writer.write(ok(b"", etag, length=len(BODY)))
        elif "range" not in request.headers:
            writer.write(ok(BODY[:cut], etag, length=len(BODY)))
        else:
            about = (f"Content-Range: bytes {cut}-{len(BODY) - 1}/{len(BODY)}", etag)
            writer.write(ok(BODY[cut:], *about, status="206 Partial Content"))
        await writer.drain()

    world.ledger.file(b"f", BODY)
    async with Hostile({"/": ok(index.encode(), "Content-Type: text/html"), "/f": file}) as server:
        world.origin = HttpOrigin(OriginSpec(server.url), Limits())
        world.mirror = replace(world.mirror, limits=Limits(retries=3))
        told = Told()
        report = await world.run(told=told)
        asked = [request.headers.get("range") for request in server.requests if request.method == "GET"]
    assert (report.outcome, told.failures, report.bytes_origin) == ("complete", [], len(BODY))
    assert world.bodies() == {b"f": BODY}
    assert asked == [None, None, f"bytes={cut}-"], "a listing, a file, the rest of it"
    assert asides == [True, True]
