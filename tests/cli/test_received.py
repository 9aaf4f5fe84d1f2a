"""`sideways status` says what each site received, and what that saved."""

import asyncio
import json
import time

from cluster.control import ControlServer

PASS = ("pass", "--site", "kent", "m")


def test_status_says_what_this_site_received(desk):
    assert b"last 30 days" not in desk("status", "--site", "kent").out
    (desk.source / "a").write_bytes(bytes(1500))
    desk(*PASS)
    said = desk("status", "--site", "kent").out.decode()
    assert said.endswith(
        "\nlast 30 days  from origins      sideways     saved\n"
        "kent                1.5 kB           0 B     0.0 %\n"
    )
    told = desk("status", "--site", "kent", "--json").json()
    today = {"day": time.strftime("%Y-%m-%d", time.gmtime()), "origin": 1500, "sideways": 0, "saved": 0.0}
    assert told["mirrors"][0]["received"]["days"] == [today]
    assert told["received"]["kent"]["total"] == {"origin": 1500, "sideways": 0, "saved": 0.0}


async def test_status_says_what_the_daemon_heard_from_the_others(desk):
    (desk.source / "a").write_bytes(bytes(1000))
    await asyncio.to_thread(desk, *PASS)
    spans = {span: {"origin": 0, "sideways": 3000, "saved": 1.0} for span in ("today", "month", "total")}

    async def received(_request, _tell):
        return {"sites": {"lancaster": spans | {"days": []}}}

    daemon = ControlServer(str(desk.root / "state"), {"received": received})
    await daemon.start()
    try:
        said = (await asyncio.to_thread(desk, "status", "--site", "kent")).out.decode().splitlines()
        told = json.loads((await asyncio.to_thread(desk, "status", "--site", "kent", "--json")).out)
    finally:
        await daemon.stop()
    assert [line.split() for line in said[-3:]] == [
        ["kent", "1.0", "kB", "0", "B", "0.0", "%"],
        ["lancaster", "0", "B", "3.0", "kB", "100.0", "%"],
        ["all", "sites", "1.0", "kB", "3.0", "kB", "75.0", "%"],
    ]
    assert list(told["received"]) == ["kent", "lancaster"]


async def test_an_older_daemon_that_cannot_tell_is_no_obstacle(desk):
    (desk.source / "a").write_bytes(bytes(1000))
    await asyncio.to_thread(desk, *PASS)
    daemon = ControlServer(str(desk.root / "state"), {})
    await daemon.start()
    try:
        said = await asyncio.to_thread(desk, "status", "--site", "kent")
    finally:
        await daemon.stop()
    assert said.out.decode().splitlines()[-1].startswith("kent ")
