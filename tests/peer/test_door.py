"""Who is let in, what they may ask, and what they can cost (HAZARDS 117, 123, 126, 127, 132, 133)."""

import asyncio
import contextlib
import os
import ssl
import statistics
import time
from dataclasses import replace

import aiohttp
import pytest
from yarl import URL

from cluster.errors import PeerSilent
from cluster.model import Cluster, Entry
from cluster.origin.base import Want
from cluster.peer import bundlewire, listener, sending, server, shared, tls, wire
from cluster.peer.client import Wish
from tests.peer.cluster import make_cluster, running, with_keys

BODY = bytes(range(256)) * 8


def own_files(cluster: Cluster, name: str) -> tuple[str, str]:
    site = cluster.sites[name]
    return f"{site.state}/peer.key", site.peer.certificate_file


@contextlib.asynccontextmanager
async def as_site(cluster: Cluster, name: str, target: str = "oslo"):
    """A plain HTTP client with one site's certificate, that trusts another's."""
    context = tls.connecting(own_files(cluster, name), cluster.sites[target])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0)) as session:
        base = cluster.sites[target].peer.url

        async def get(raw: str, method: str = "GET", **options) -> tuple[int, bytes, dict]:
            async with session.request(method, URL(base + raw, encoded=True), **options) as response:
                return response.status, await response.read(), dict(response.headers)

        get.session = session
        yield get


async def raw_connection(cluster: Cluster, name: str, target: str = "oslo"):
    context = tls.connecting(own_files(cluster, name), cluster.sites[target])
    host, _, port = cluster.sites[target].peer.listen.rpartition(":")
    return await asyncio.open_connection(host, int(port), ssl=context)


# -- who is let in


@pytest.mark.parametrize("who", ["nobody", "stranger", "expired"])
async def test_without_a_siblings_valid_certificate_there_is_no_answer(cluster, tmp_path, who):
    """HAZARDS 117."""
    if who == "expired":
        kent = cluster.sites["kent"]
        expired = with_keys(kent, replace=True, now=time.time() - 11 * 366 * 86_400)
        cluster.sites["kent"] = replace(
            expired, peer=replace(expired.peer, certificates=(expired.peer.certificates[0],))
        )
    context = tls.connecting(own_files(cluster, "kent"), cluster.sites["oslo"])
    if who == "nobody":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if who == "stranger":
        os.mkdir(tmp_path / "else")
        stranger = make_cluster(str(tmp_path / "else"))
        context = tls.connecting(own_files(stranger, "kent"), cluster.sites["oslo"])
    async with running(cluster, "oslo") as (oslo,):
        url = cluster.sites["oslo"].peer.url + "/v1/hello"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            with pytest.raises((aiohttp.ClientError, OSError)):
                async with session.get(url):
                    pass
        assert oslo.files.asked == []


async def test_a_server_with_another_certificate_is_not_believed(cluster, tmp_path):
    os.mkdir(tmp_path / "else")
    pinned = make_cluster(str(tmp_path / "else")).sites["oslo"].peer.certificates
    oslo = cluster.sites["oslo"]
    doubt = dict(cluster.sites) | {"oslo": replace(oslo, peer=replace(oslo.peer, certificates=pinned))}
    async with running(cluster, "oslo"), running(replace(cluster, sites=doubt), "kent") as (kent,):
        await asyncio.sleep(0.4)
        assert not kent.sibling("oslo").up
        assert "certificate" in kent.sibling("oslo").trouble


async def test_old_versions_of_tls_are_refused(cluster):
    context = tls.connecting(own_files(cluster, "kent"), cluster.sites["oslo"])
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running(cluster, "oslo"):
        url = cluster.sites["oslo"].peer.url + "/v1/hello"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            with pytest.raises(aiohttp.ClientError):
                async with session.get(url):
                    pass


async def test_a_mirror_that_is_not_shared_looks_the_same_whatever_it_holds(cluster):
    """HAZARDS 117: oslo does not carry ctan."""
    async with running(cluster, "kent", "oslo") as (kent, _), as_site(cluster, "oslo", "kent") as get:
        kent.readers["ctan"].put(b"there", b"x")
        answers = [
            await get(f"/v1/{what}?mirror={mirror}&path={path}&directory=&name={path}")
            for what in ("file", "directory", "journal")
            for mirror in ("ctan", "no-such-mirror")
            for path in ("there", "absent")
        ]
        assert {(status, body) for status, body, _ in answers} == {(403, b"not shared between these sites\n")}
        for mirror in ("ctan", "no-such-mirror"):
            asked = bundlewire.question(mirror, [Wish(b"", Entry(b"there", size=1))])
            status, body, _ = await get("/v1/files", "POST", data=asked)
            assert (status, body) == (403, b"not shared between these sites\n")
        wake = wire.wake(wire.Wake("ctan", b""))
        assert (await get("/v1/wake", "POST", data=wake))[0] == 403
        assert kent.woken == []
        assert kent.readers["ctan"].asked == []
        _, told, _ = await get("/v1/mirrors")
        assert [m.mirror for m in wire.carried_read(told)] == ["debian"]


async def test_a_revoked_siblings_connections_are_cut_at_once(cluster):
    """HAZARDS 133."""
    async with running(cluster, "kent", "lancaster", "oslo") as (kent, lancaster, oslo):
        oslo.files.put(b"a", b"x" * 50_000_000)
        sibling = await kent.meets("oslo")
        offer = (await sibling.offered("debian", b"", 2.0)).held[b"a"]
        received = 0
        without = {name: site for name, site in cluster.sites.items() if name != "kent"}
        with pytest.raises(PeerSilent):
            async with sibling.read("debian", b"a", offer, Want()) as body:
                async for chunk in body.chunks():
                    if not received:
                        await oslo.server.reload(replace(cluster, sites=without))
                    received += len(chunk)
        assert 0 < received < 50_000_000
        async with asyncio.timeout(2):
            while sibling.up:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        other = await lancaster.meets("oslo")
        assert (await other.offered("debian", b"", 2.0)).held


async def test_two_certificates_are_accepted_while_a_key_is_replaced(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        await kent.meets("oslo")
        renewed = replace(
            cluster, sites=cluster.sites | {"oslo": with_keys(cluster.sites["oslo"], replace=True)}
        )
        assert len(tls.pems(renewed.sites["oslo"])) == 2
        await kent.siblings.reload(renewed)  # the others learn of it first, oslo still uses the old key
        sibling = await kent.meets("oslo")
        await oslo.server.reload(renewed)
        await oslo.siblings.reload(renewed)
        await kent.server.reload(renewed)
        sibling.link._discard()
        assert (await sibling.offered("debian", b"", 2.0)).site == "oslo"
        assert await oslo.meets("kent")


# -- what may be asked


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd", "/etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "a/../there", "a%00b", "a//there",
        "there/", "x" * 30_000, ".sideways/marker",
        "debian.db", "%ff", "a/" * 80 + "there", "", "?", "%", "%zz",
    ],
)  # fmt: skip
async def test_a_path_that_is_not_a_committed_name_is_not_found(cluster, path):
    """HAZARDS 123."""
    async with running(cluster, "oslo") as (oslo,), as_site(cluster, "kent") as get:
        oslo.files.put(b"there", b"x")
        for request in (f"file?mirror=debian&path={path}", f"file?mirror=debian&path=no&path={path}"):
            status, body, _ = await get(f"/v1/{request}")
            assert (status, body) == (404, b"Not Found\n")
        assert (await get("/v1/file?mirror=debian&path=there"))[1] == b"x"


@pytest.mark.parametrize(
    "raw", ["/", "/v1", "/v1/", "/v1/state", "/etc/passwd", "/v1/../../etc/passwd", "/vx/hello"]
)
async def test_there_is_nothing_but_the_protocol(cluster, raw):
    async with running(cluster, "oslo"), as_site(cluster, "kent") as get:
        assert (await get(raw))[0] == 404
        assert (await get("/v1/hello", "POST"))[0] == 405
        assert (await get("/v1/wake"))[0] == 405


async def test_another_major_version_is_refused_politely(cluster):
    """HAZARDS 132."""
    async with running(cluster, "oslo"), as_site(cluster, "kent") as get:
        status, body, _ = await get("/v2/hello")
        assert (status, body) == (501, b"this site speaks version 1 of the peer protocol, not 2\n")


LONG = b"GET /v1" + b"1" * 5000 + b"/hello HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PACKED = b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /v%C2%B2/hello HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /v\xc2\xb2/hello HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (LONG, 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /v1/hello HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"G\x00T / HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + PACKED, 400),
        (b"GET /v1/hello HTTP/1.1\r\nHost: x\r\n" + PACKED, 200),
        (b"POST /v1/files HTTP/1.1\r\nHost: x\r\n" + PACKED, 400),
        (CHUNKED + b"zz\r\n", 400),
    ],
    ids=["digit", "bytes", "long", "star", "connect", "version", "method", "two lengths", "packed", "body",
         "chunk"],
)  # fmt: skip
async def test_what_is_no_request_is_refused_without_a_traceback(cluster, caplog, sent, status):
    async with running(cluster, "oslo"):
        reader, writer = await raw_connection(cluster, "kent")
        writer.write(sent)
        async with asyncio.timeout(30):
            assert int((await reader.readline()).split()[1]) == status
            writer.close()
            while b"\n" in await reader.readline():
                pass
    assert not [record for record in caplog.records if record.exc_info or "\n" in record.getMessage()]


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        (None, 200, BODY),
        ("bytes=0-0", 206, BODY[:1]),
        ("bytes=5-9", 206, BODY[5:10]),
        ("bytes=2000-", 206, BODY[2000:]),
        ("bytes=2000-99999", 206, BODY[2000:]),
        ("bytes=-10", 206, BODY[-10:]),
        ("bytes=-99999", 206, BODY),
        ("bytes=-0", 416, b""),
        ("bytes=9-5", 416, b""),
        ("bytes=2048-", 416, b""),
        (f"bytes={2**63}-", 416, b""),
        (f"bytes=0-{10**30}", 416, b""),
        ("bytes=0-0,1-1", 416, b""),
        ("bytes=" + ",".join(["0-0"] * 1000), 416, b""),
        ("bytes=", 416, b""),
        ("bytes=-", 416, b""),
        ("items=0-1", 416, b""),
        ("bytes=٣-", 416, b""),
    ],
)  # fmt: skip
async def test_a_range_is_one_range_of_the_file_or_refused(cluster, text, status, expected):
    """HAZARDS 127."""
    async with running(cluster, "oslo") as (oslo,), as_site(cluster, "kent") as get:
        oslo.files.put(b"a", BODY)
        headers = {"Range": text} if text else {}
        answered, body, told = await get("/v1/file?mirror=debian&path=a", headers=headers)
        assert answered == status
        if status == 416:
            assert told["Content-Range"] == "bytes */2048"
            assert len(body) < 100
        else:
            assert body == expected
            assert int(told["Content-Length"]) == len(expected)


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", f"after={2**63}", "after=1e3", "limit=99999999999999999999", "after=%00"],
)
async def test_numbers_out_of_range_are_a_bad_request(cluster, query):
    async with running(cluster, "oslo"), as_site(cluster, "kent") as get:
        assert (await get(f"/v1/journal?mirror=debian&{query}"))[0] == 400


@pytest.mark.parametrize("body", [b"", b"\x80", b"\xdd\xff\xff\xff\xff", b"\x91" * 2000, b"x" * 60_000])
async def test_a_wake_that_is_none_is_a_bad_request(cluster, body):
    """HAZARDS 124."""
    async with running(cluster, "oslo") as (oslo,), as_site(cluster, "kent") as get:
        status, text, _ = await get("/v1/wake", "POST", data=body)
        assert status == 400
        assert text.count(b"\n") == 1
        assert (await get("/v1/wake", "POST", data=b"x" * 70_000))[0] == 413
        assert (await get("/v1/files", "POST", data=b"x" * (2**20 + 1)))[0] == 413
        assert oslo.woken == []


# -- what they can cost


async def test_strangers_who_say_nothing_do_not_shut_siblings_out(cluster, monkeypatch):
    """HAZARDS 126: 500 connections that never finish a handshake."""
    monkeypatch.setattr(listener, "HANDSHAKE", 3.0)
    async with running(cluster, "kent", "oslo") as (kent, _):
        sibling = await kent.meets("oslo")

        async def median() -> float:
            times = []
            for _ in range(40):
                started = time.perf_counter()
                await sibling.offered("debian", b"", 5.0)
                sibling.link._discard()  # each question with a handshake of its own
                times.append(time.perf_counter() - started)
            return statistics.median(times)

        quiet = await median()
        host, _, port = cluster.sites["oslo"].peer.listen.rpartition(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(500)]
        assert await median() < 2 * quiet + 0.05
        for _, writer in idle:
            writer.close()


async def test_one_sibling_holds_no_more_than_its_share_of_connections(cluster):
    async with running(cluster, "kent", "oslo") as (kent, _):
        many = [await raw_connection(cluster, "lancaster") for _ in range(30)]
        await asyncio.sleep(0.1)
        closed = [reader for reader, _ in many if reader.at_eof() or reader.exception()]
        assert len(closed) >= 30 - listener.STREAMS - 1  # one more, for the line
        sibling = await kent.meets("oslo")
        assert (await sibling.offered("debian", b"", 2.0)).known
        for _, writer in many:
            writer.transport.abort()


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /v1/hello HT", b"POST /v1/wake HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"],
    ids=["nothing", "half a header", "half a body"],
)
async def test_a_request_that_does_not_come_to_an_end_is_cut_off(cluster, monkeypatch, sent):
    """HAZARDS 126."""
    for module in (server, shared):
        monkeypatch.setattr(module, "DEADLINE", 0.5)
    async with running(cluster, "oslo"):
        reader, writer = await raw_connection(cluster, "kent")
        started = time.perf_counter()
        writer.write(sent)
        with contextlib.suppress(OSError):
            for _ in range(30):  # a byte now and then does not help
                writer.write(b"x" if sent else b"")
                await asyncio.sleep(0.05)
                if reader.at_eof():
                    break
            await asyncio.wait_for(reader.read(), 3.0)
        assert time.perf_counter() - started < 3.0
        writer.transport.abort()


async def test_a_reader_that_does_not_read_is_cut_off(cluster, monkeypatch):
    """HAZARDS 126."""
    monkeypatch.setattr(sending, "STALL", 0.5)
    async with running(cluster, "oslo") as (oslo,):
        oslo.files.put(b"a", b"x" * 60_000_000)
        reader, writer = await raw_connection(cluster, "kent")
        writer.write(b"GET /v1/file?mirror=debian&path=a HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.read(100)
        assert len(oslo.server._busy) == 1
        await asyncio.sleep(1.2)
        assert not oslo.server._busy
        received = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(3):  # what was on its way still comes, then the end
                while part := await reader.read(2**20):
                    received += len(part)
        assert received < 50_000_000
        writer.transport.abort()


async def test_ten_thousand_requests_at_once_leave_room_for_others(cluster):
    """HAZARDS 126: pipelining on one connection."""
    async with running(cluster, "kent", "oslo") as (kent, _):
        sibling = await kent.meets("oslo")
        _, writer = await raw_connection(cluster, "lancaster")
        writer.write(b"GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000)
        times = []
        for _ in range(20):
            started = time.perf_counter()
            await sibling.offered("debian", b"", 2.0)
            times.append(time.perf_counter() - started)
        assert max(times) < 0.5
        writer.transport.abort()


async def test_a_header_that_is_too_large_is_refused(cluster):
    async with running(cluster, "oslo"), as_site(cluster, "kent") as get:
        assert (await get("/v1/hello", headers={"X-Much": "x" * 20_000}))[0] == 400
        assert (await get("/v1/file?mirror=debian&path=" + "x" * 50_000))[0] == 400
