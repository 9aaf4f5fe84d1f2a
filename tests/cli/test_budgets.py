"""`sideways status` says how a site stands in what it shares with its siblings."""

import asyncio
import json
from dataclasses import asdict

from cluster.control import ControlServer
from cluster.plan.shares import Standing

PASS = ("pass", "--site", "kent", "m")
STANDINGS = [
    Standing("bandwidth", "ftp.example", 1000, 333, 500, 0, 1000, 0, 167),
    Standing("connections", "ftp.example", 8, 3, 4, 4, 9, 0, 1, ("oslo", "york")),
]


async def test_status_says_what_may_be_used_of_a_shared_origin(desk):
    (desk.source / "a").write_bytes(bytes(10))
    await asyncio.to_thread(desk, *PASS)

    async def budgets(_request, _tell):
        return {"budgets": [asdict(one) for one in STANDINGS]}

    daemon = ControlServer(str(desk.root / "state"), {"budgets": budgets})
    await daemon.start()
    try:
        said = (await asyncio.to_thread(desk, "status", "--site", "kent")).out.decode()
        told = json.loads((await asyncio.to_thread(desk, "status", "--site", "kent", "--json")).out)
    finally:
        await daemon.stop()
    assert said.endswith(
        "\nshared       what         budget    fair allowed  in use    lent borrowed  not heard\n"
        "ftp.example  bandwidth     100 %    33 %    50 %       -     0 %     17 %  -\n"
        "ftp.example  connections       8       3       4       4       0        1  oslo, york\n"
    )
    assert [one["allowed"] for one in told["budgets"]] == [500, 4]
    assert b"shared" not in (await asyncio.to_thread(desk, "status", "--site", "kent")).out
