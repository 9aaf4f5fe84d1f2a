"""`sideways status` says what the daemon does now and next, and its log what siblings do."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from cluster.control import ControlServer
from cluster.daemon.logs import to_file
from tests.cli.conftest import until

PASS = ("pass", "--site", "kent", "m")
RUNNING = {"started": 1795269508.0, "current": "pool/a", "origin_bytes": 3000, "sideways_bytes": 2_000_000}
NOW = "  now: a pass since 2026-11-21 13:58:28 UTC, at /pool/a, 3.0 kB from the origin, 2.0 MB sideways"


@pytest.mark.parametrize(
    ("doing", "last", "following", "below"),
    [
        ({"running": None, "next": 1795269508.0, "paused": ""}, "complete", "2026-11-21 13:58:28 UTC", []),
        ({"running": None, "next": None, "paused": ""}, "complete", "when woken", []),
        ({"running": None, "next": None, "paused": "operator"}, "complete", "paused: operator", []),
        ({"running": RUNNING, "next": None, "paused": ""}, "running", "when woken", [NOW.strip()]),
    ],
)
async def test_status_says_what_the_daemon_does_with_a_mirror(desk, doing, last, following, below):
    (desk.source / "empty").touch()
    await asyncio.to_thread(desk, *PASS)

    async def now(_request, _tell):
        return {"mirrors": {"m": doing}}

    daemon = ControlServer(str(desk.root / "state"), {"now": now})
    await daemon.start()
    try:
        said = (await asyncio.to_thread(desk, "status", "--site", "kent")).out.decode()
        told = await asyncio.to_thread(desk, "status", "--site", "kent", "--json")
    finally:
        await daemon.stop()
    head, row, *rest = (line.strip() for line in said.splitlines())
    assert head.endswith("last pass   errors  next pass")
    assert f" UTC  {last:10}  0 " in row
    assert row.endswith(following)
    assert rest == below
    assert told.json()["mirrors"][0]["now"] == doing


def test_status_without_a_daemon_promises_no_next_pass(desk):
    (desk.source / "empty").touch()
    desk(*PASS)
    said = desk("status", "--site", "kent")
    assert b"next pass" not in said.out
    assert desk("status", "--site", "kent", "--json").json()["mirrors"][0]["now"] is None


def test_a_real_daemon_tells_what_is_paused_and_where_it_answers(desk):
    desk.mirror("m", schedule='every="never"')
    desk.run()
    assert desk("status", "--site", "kent").out.splitlines()[0].endswith(b"next pass")
    desk("pause", "--site", "kent", "m")
    desk(*PASS, status=1)
    told = desk("status", "--site", "kent", "--json").json()["mirrors"][0]["now"]
    assert told == {"running": None, "next": None, "paused": "operator", "downstreams": []}
    log = desk.root / "log"
    until(lambda: b": running: 1 mirror, users at 127.0.0.1:" in log.read_bytes())


def test_what_siblings_do_is_in_the_log_under_our_name(tmp_path: Path):
    file = tmp_path / "log"
    with to_file(str(file), console=True):
        logging.getLogger("cluster.peer.link").info("oslo: answers")
        logging.getLogger("cluster.peer.link").debug("too much")
        logging.getLogger("asyncio").info("not ours")
        logging.getLogger("asyncio").warning("slow")
    lines = [line.split(" ", 1)[1] for line in file.read_text().splitlines()]
    assert lines == ["info sideways.peer.link: oslo: answers", "warning asyncio: slow"]
