"""What lies under /-/: webhook, health, metrics; and the server's own start and stop."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import replace

import pytest

from cluster.errors import SidewaysError
from cluster.model import Schedule
from cluster.plan.saving import Received
from cluster.plan.shares import Standing
from cluster.store.mirror import PassRecord
from cluster.web.server import WebServer
from cluster.web.view import Progress, SiblingSummary
from cluster.web.wake import authorised
from tests.web.fakes import NOW, ORIGIN, FakeReader, FakeView, cluster, mirror, serving

SECRET = b"0123456789abcdef0123456789abcdef"
SIGNED = "sha256=" + hmac.new(SECRET, b'{"a": 1}', hashlib.sha256).hexdigest()


@pytest.fixture
async def hooked(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(SECRET + b"\n")
    made = mirror(schedule=Schedule(webhook=str(file)))
    async with serving({"debian": FakeReader(tmp_path)}, made, mirror("plain")) as site:
        yield site


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {SECRET.decode()}"}, 202),
        ({"Authorization": f"bearer {SECRET.decode()}"}, 202),
        ({"X-Hub-Signature-256": SIGNED}, 202),
        ({"Authorization": "Bearer wrong", "X-Hub-Signature-256": SIGNED}, 202),
        ({}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {SECRET.decode()}"}, 401),
        ({"Authorization": f"Bearer {SECRET.decode()}x"}, 401),
        ({"X-Hub-Signature-256": SIGNED[:-1]}, 401),
        ({"X-Hub-Signature-256": SIGNED.removeprefix("sha256=")}, 401),
        ({"X-Hub-Signature-256": "sha256=ü"}, 401),
    ],
)
async def test_only_who_knows_the_secret_wakes_a_mirror(hooked, headers, status):
    got, response, _ = await hooked.get("/-/wake/debian", "POST", headers=headers, data=b'{"a": 1}')
    assert got == status
    assert hooked.view.woken == (["debian"] if status == 202 else [])
    assert ("WWW-Authenticate" in response.headers) == (status == 401)


async def test_a_signature_belongs_to_one_body(hooked):
    headers = {"X-Hub-Signature-256": SIGNED}
    assert (await hooked.get("/-/wake/debian", "POST", headers=headers, data=b'{"a": 2}'))[0] == 401


async def test_nothing_is_woken_by_get_nor_where_no_webhook_is_nor_by_a_huge_body(hooked):
    """HAZARDS 144."""
    headers = {"Authorization": f"Bearer {SECRET.decode()}"}
    status, response, _ = await hooked.get("/-/wake/debian", headers=headers)
    assert (status, response.headers["Allow"]) == (405, "POST")
    assert (await hooked.get("/-/wake/plain", "POST", headers=headers))[0] == 404
    assert (await hooked.get("/-/wake/nosuch", "POST", headers=headers))[0] == 404
    assert (await hooked.get("/-/wake/debian", "POST", headers=headers, data=b"x" * 2_000_000))[0] == 413
    assert hooked.view.woken == []


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /-/wake/debian HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
        b"POST /-/wake/debian HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    ],
    ids=["cut off", "not what it says", "of a GET"],
)
async def test_a_body_that_is_broken_leaves_no_traceback_in_the_log(hooked, caplog, raw):
    _, writer = await asyncio.open_connection(*hooked.server.address)
    writer.write(raw)
    await writer.drain()
    await asyncio.sleep(0.1)  # it is being read
    writer.close()
    while hooked.server._runner.server.connections:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("secret", [b"", b"short", b"\n"])
async def test_a_secret_that_is_empty_short_or_unreadable_lets_nobody_in(tmp_path, secret):
    file = tmp_path / "secret"
    if secret != b"\n":
        file.write_bytes(secret)
    made = mirror(schedule=Schedule(webhook=str(file)))
    async with serving({"debian": FakeReader(tmp_path)}, made) as site:
        headers = {"Authorization": f"Bearer {secret.decode().strip()}"}
        assert (await site.get("/-/wake/debian", "POST", headers=headers))[0] == 401
        assert site.view.woken == []


def test_secrets_are_compared_in_constant_time(monkeypatch):
    compared = []

    def watched(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("cluster.web.wake.hmac.compare_digest", watched)
    assert authorised(SECRET, {"Authorization": f"Bearer {SECRET.decode()}"}, b"")
    assert (SECRET, SECRET) in compared


async def test_health_answers_for_the_process_and_for_one_mirror(tmp_path):
    async with serving({"debian": FakeReader(tmp_path)}, mirror(), mirror("broken")) as site:
        assert (await site.get("/-/health"))[::2] == (200, b"ok\n")
        assert (await site.get("/-/health?mirror=debian"))[0] == 200
        assert (await site.get("/-/health?mirror=broken"))[0] == 503
        assert (await site.get("/-/health?mirror=%0a<nosuch>"))[0] == 404


async def test_metrics_tell_the_facts_of_the_cluster_page(tmp_path):
    reader = FakeReader(tmp_path)
    reader.add(b"f", b"12345")
    bytes_ = {"bytes": {"origin": 3, "sideways": 2}}
    reader.recorded = [PassRecord(1, 100, 200, "complete", ORIGIN, bytes_)]
    reader.days = {1: Received(1, 2), 2: Received(30, 40)}
    async with serving({"debian": reader}, mirror(), mirror("broken")) as site:
        site.view.passes["debian"] = Progress(NOW)
        site.view.others["lancaster"] = SiblingSummary(False)
        site.view.shared = [Standing("connections", "ftp.example", 8, 4, 6, 5, 9, 0, 2, ("lancaster",))]
        await site.get("/nosuch")
        _, response, body = await site.get("/-/metrics")
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = body.decode().splitlines()
    for line in (
        'sideways_mirror_readable{mirror="broken"} 0',
        'sideways_mirror_files{mirror="debian"} 1',
        'sideways_mirror_bytes{mirror="debian"} 5',
        'sideways_mirror_fresh_timestamp_seconds{mirror="debian"} 100',
        'sideways_mirror_last_pass_bytes{mirror="debian",source="sideways"} 2',
        'sideways_mirror_last_pass_info{mirror="debian",outcome="complete"} 1',
        'sideways_received_bytes_total{mirror="debian",source="origin"} 31',
        'sideways_received_bytes_total{mirror="debian",source="sideways"} 42',
        "# TYPE sideways_received_bytes_total counter",
        'sideways_mirror_running{mirror="debian"} 1',
        'sideways_sibling_up{site="lancaster"} 0',
        'sideways_shared_budget{host="ftp.example",sort="connections"} 8',
        'sideways_shared_allowed{host="ftp.example",sort="connections"} 6',
        'sideways_shared_borrowed{host="ftp.example",sort="connections"} 2',
        'sideways_shared_silent_sites{host="ftp.example",sort="connections"} 1',
        "sideways_config_errors 0",
        'sideways_web_responses_total{status="404"} 1',
    ):
        assert line in lines
    names = [line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")]
    declared = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert set(names) <= declared
    assert len([line for line in lines if line.startswith("# TYPE")]) == len(declared)


@pytest.mark.parametrize("web", ["nonsense", "127.0.0.1", ":x", "127.0.0.1:99999999", "192.0.2.1:80", None])
async def test_an_address_that_cannot_be_listened_on_is_one_clear_line(web):
    made = cluster(mirror())
    site = replace(made.sites["kent"], web=web)

    async def opener(name):
        raise AssertionError

    server = WebServer(site, made, open_reader=opener, view=FakeView(), clock=lambda: NOW)
    with pytest.raises(SidewaysError, match=r"^kent: web: [^\n]+$"):
        await server.start()
    await server.stop()


async def test_a_stopped_server_can_be_started_again(tmp_path):
    made = cluster(mirror())

    async def opener(name):
        return FakeReader(tmp_path)

    server = WebServer(made.sites["kent"], made, open_reader=opener, view=FakeView(), clock=lambda: NOW)
    for _ in range(2):
        await server.start()
        assert server.address[1] > 0
        await server.stop()


async def test_a_header_that_drips_is_not_waited_for_long(tmp_path, monkeypatch):
    """A request that never ends its header must not hold a connection."""
    import asyncio

    monkeypatch.setattr("cluster.web.server.HEADER_PATIENCE", 1)
    async with serving({"debian": FakeReader(tmp_path)}, mirror()) as site:
        reader, writer = await asyncio.open_connection(*site.server.address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        await reader.readuntil(b"</html>\n")
        writer.write(b"GET / HTTP/1.1\r\nX-Drip: ")
        ended = await asyncio.wait_for(reader.read(), 5)
        assert ended == b""
        writer.close()
