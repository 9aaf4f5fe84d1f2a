"""The web server upon a real store: what was published is what is served, and nothing else of the folder."""

from __future__ import annotations

import os
from dataclasses import replace

import aiohttp

from cluster.model import Cluster, Kind, Skipped
from cluster.store.mirror import Compared, Reader
from cluster.store.tree import Change
from cluster.web.server import WebServer
from tests.store.world import NOW, World, full_pass, link, put
from tests.web.fakes import FakeView, Running


async def test_what_was_published_is_served_and_what_was_not_is_not(tmp_path):
    (tmp_path / "data").mkdir()
    world = World(tmp_path)
    async with world.store() as store:
        await put(store, {b"a/f.txt": b"hello", b"big.iso": b"x" * 3_000_000, b"a/\xff": b"latin"})
        await put(store, {b"secret": b"hidden"}, mode=0o600)
        await store.publish([Change(b"", link(b"latest", b"a/f.txt"))], {}, NOW)
        left_out = Compared(b"a", skipped=(Skipped(b"hurd", Kind.FILE, "no users here"),),
                            failures=((b"late.deb", "connection reset"),))  # fmt: skip
        await full_pass(store, NOW, left_out)
    (world.public / "stranger").write_bytes(b"not ours")
    site = world.site
    sites = {"kent": replace(site, web="127.0.0.1:0")}
    cluster = Cluster("c", sites, {"deb": world.mirror})
    view = FakeView()
    server = WebServer(
        sites["kent"], cluster, open_reader=lambda name: Reader.open(name, site), view=view,
        clock=lambda: NOW + 60,
    )  # fmt: skip
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            web = Running(server, session, {}, view)
            assert (await web.get("/deb/a/f.txt"))[2] == b"hello"
            assert (await web.get("/deb/latest"))[2] == b"hello"
            assert (await web.get("/deb/a/%FF"))[2] == b"latin"
            status, _, body = await web.get("/deb/big.iso", headers={"Range": "bytes=1000000-2999999"})
            assert (status, len(body)) == (206, 2_000_000)
            for path in ("stranger", "secret", "../.sideways/site", "a/hurd"):
                assert (await web.get(f"/deb/{path}"))[0] == 404
            facts = await web.json("/deb/a/")
            assert facts["compared"] == {"at": NOW, "origin": "http://origin.example/"}
            assert [entry["href"] for entry in facts["entries"]] == ["f.txt", "%FF"]
            assert facts["totals"]["bytes"] == 10
            assert facts["skipped"][0]["origin"] == "http://origin.example/a/hurd"
            assert facts["failures"][0]["error"] == "connection reset"
            assert (await web.json("/deb/"))["totals"]["files"] == 4
            assert isinstance(facts["failures"][0]["at"], int)
            (line,) = (await web.json("/-/cluster"))["mirrors"]
            assert line["sites"]["kent"]["errors"] == 1
            assert line["sites"]["kent"]["fresh"] == NOW
            with open(os.path.join(world.public, "a/f.txt"), "ab") as file:
                file.write(b" edited by somebody")
            assert (await web.get("/deb/a/f.txt"))[0] == 503
    finally:
        await server.stop()
