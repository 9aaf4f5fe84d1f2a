"""HTTP origins that break, lie, stall and lead astray: HAZARDS 59 to 83, and the listings of 22 to 32."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.errors import (
    Changed,
    IncompleteListing,
    NotAListing,
    OriginError,
    Refused,
    TooLarge,
    Unreachable,
    Vanished,
)
from cluster.model import Limits, OriginSpec
from cluster.origin.base import Want
from cluster.origin.http import HttpOrigin
from cluster.origin.http_session import Patience
from tests.origin.conformance import received
from tests.origin.hostile import Hostile, Request, chunked, ok, redirect, reset, unframed
from tests.servers import free_port

QUICK = Patience(connect=1.0, low_rate=1000, low_window=0.3)
BODY = bytes(range(256)) * 40
SIZE = len(BODY)
ETAG = 'ETag: "v1"'


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    async with Hostile() as server:
        yield server


@pytest.fixture
async def origin(hostile: Hostile) -> AsyncIterator[HttpOrigin]:
    opened = HttpOrigin(OriginSpec(hostile.url), Limits(timeout=2.0), patience=QUICK)
    yield opened
    await opened.close()


def part(first: int, last: int, total: int | str, *headers: str, body: bytes | None = None) -> bytes:
    data = BODY[first : last + 1] if body is None else body
    return ok(
        data, f"Content-Range: bytes {first}-{last}/{total}", ETAG, *headers, status="206 Partial Content"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
async def test_an_origin_where_nobody_listens_is_one_line(host: str) -> None:
    port = free_port()
    origin = HttpOrigin(
        OriginSpec(f"http://{host}:{port}/", private=True), Limits(timeout=2.0), patience=QUICK
    )
    try:
        with pytest.raises(Unreachable) as refused:
            await origin.listing(b"pool")
    finally:
        await origin.close()
    assert str(refused.value) == f"pool: cannot connect to {host}:{port}: refused"


# -- bodies that end early, late, or never ------------------------------------------------------


@pytest.mark.parametrize("hard", [False, True], ids=["FIN", "RST"])
async def test_59_a_body_cut_inside_its_length_is_worth_a_retry(
    hostile: Hostile, origin: HttpOrigin, hard: bool
) -> None:
    async def cut(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY[:6000], length=SIZE))
        await writer.drain()
        await asyncio.sleep(0.05)
        if hard:
            reset(writer)

    hostile.answers["/f"] = cut
    got = b""
    with pytest.raises(Unreachable):
        async with origin.read(b"f", Want(size=SIZE)) as body:
            async for piece in body.chunks():
                got += piece
    assert got == BODY[:6000]


async def test_59_the_rest_is_taken_where_the_validator_is_strong(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    hostile.answers["/f"] = part(6000, SIZE - 1, SIZE)
    async with origin.read(b"f", Want(size=SIZE, start=6000, etag='"v1"')) as body:
        assert body.start == 6000
        assert body.facts.size == SIZE
        assert b"".join([p async for p in body.chunks()]) == BODY[6000:]
    headers = hostile.requests[0].headers
    assert (headers["range"], headers["if-range"]) == ("bytes=6000-", '"v1"')


@pytest.mark.parametrize("hard", [False, True], ids=["FIN", "RST"])
async def test_60_a_body_that_only_its_connection_ended_is_rejected_when_short(
    hostile: Hostile, origin: HttpOrigin, hard: bool
) -> None:
    async def cut(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(unframed(BODY[:6000]))
        await writer.drain()
        await asyncio.sleep(0.05)
        if hard:
            reset(writer)

    hostile.answers["/f"] = cut
    with pytest.raises(Unreachable, match=r"f: "):
        await received(origin, b"f", Want(size=SIZE))


async def test_60_it_is_accepted_where_its_size_is_known(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers["/f"] = unframed(BODY)
    assert await received(origin, b"f", Want(size=SIZE)) == BODY
    assert hostile.targets == ["GET /f"]


async def test_60_where_it_is_not_HEAD_must_agree(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers |= {"GET /f": unframed(BODY), "HEAD /f": ok(length=SIZE)}
    assert await received(origin, b"f") == BODY
    hostile.answers["HEAD /f"] = ok(length=SIZE + 1)
    with pytest.raises(Unreachable, match="unverified-length"):
        await received(origin, b"f")
    hostile.answers["HEAD /f"] = unframed(b"")
    with pytest.raises(Unreachable, match="unverified-length"):
        await received(origin, b"f")


async def test_60_the_second_opinion_needs_no_second_connection(hostile: Hostile) -> None:
    hostile.answers |= {"GET /f": unframed(BODY), "HEAD /f": ok(length=SIZE)}
    origin = HttpOrigin(OriginSpec(hostile.url), Limits(connections=1, timeout=2.0))
    try:
        async with asyncio.timeout(2):
            assert await received(origin, b"f") == BODY
    finally:
        await origin.close()


@pytest.mark.parametrize("start", [0, 6000])
async def test_61_an_ignored_range_begins_again_at_0(
    hostile: Hostile, origin: HttpOrigin, start: int
) -> None:
    hostile.answers["/f"] = ok(BODY, ETAG)
    async with origin.read(b"f", Want(size=SIZE, start=start, etag='"v1"')) as body:
        assert body.start == 0
        assert b"".join([p async for p in body.chunks()]) == BODY


@pytest.mark.parametrize(
    "wrong",
    [
        part(5999, SIZE - 1, SIZE),
        part(6000, SIZE - 1, SIZE + 1),
        part(6000, SIZE, SIZE + 1, body=BODY[6000:] + b"x"),
        part(6000, SIZE - 2, SIZE),
        chunked(BODY[6000:-1], headers=(f"Content-Range: bytes 6000-{SIZE - 2}/{SIZE}",)).replace(
            b"200 OK", b"206 Partial Content"
        ),
        part(6000, SIZE - 1, "*"),
        ok(BODY[6000:], ETAG, "Content-Range: bytes */10240", status="206 Partial Content"),
        ok(BODY[6000:], ETAG, "Content-Type: multipart/byteranges; boundary=x", status="206 Partial Content"),
        ok(BODY[6000:], status="206 Partial Content"),
        part(6000, SIZE - 1, SIZE, body=BODY[6000:-1]),
        part(6000, SIZE - 1, SIZE).replace(b'"v1"', b'"v2"'),
        part(6000, SIZE - 1, SIZE, "Content-Encoding: gzip"),
        ok(b"", status="416 Range Not Satisfiable"),
    ],
    ids=[
        "start",
        "total",
        "larger",
        "end",
        "end, chunked",
        "unknown",
        "unsatisfied",
        "multipart",
        "bare",
        "short",
        "etag",
        "packed",
        "416",
    ],
)
async def test_62_64_a_wrong_part_is_discarded_and_the_whole_asked_once(
    hostile: Hostile, origin: HttpOrigin, wrong: bytes
) -> None:
    hostile.answers["/f"] = [wrong, ok(BODY)]
    async with origin.read(b"f", Want(size=SIZE, start=6000, etag='"v1"')) as body:
        assert body.start == 0
        assert b"".join([p async for p in body.chunks()]) == BODY
    assert len(hostile.requests) == 2
    assert "range" not in hostile.requests[1].headers


async def test_62_a_part_that_nobody_asked_for_is_refused(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers["/f"] = part(0, SIZE - 1, SIZE)
    with pytest.raises(Changed, match="206"):
        await received(origin, b"f", Want(size=SIZE))


@pytest.mark.parametrize("etag", ['W/"v1"', None, "v1", '"', '"a"b"'])
async def test_63_a_weak_validator_resumes_nothing(
    hostile: Hostile, origin: HttpOrigin, etag: str | None
) -> None:
    hostile.answers["/f"] = ok(BODY)
    async with origin.read(b"f", Want(size=SIZE, start=6000, etag=etag)) as body:
        assert body.start == 0
    assert not {"range", "if-range"} & set(hostile.requests[0].headers)


async def test_64_a_second_416_is_an_error(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers["/f"] = ok(b"", status="416 Range Not Satisfiable")
    with pytest.raises(Refused, match="416"):
        await received(origin, b"f", Want(size=SIZE, start=6000, etag='"v1"'))
    assert len(hostile.requests) == 2


# -- codings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [True, False])
async def test_65_packed_files_are_stored_as_they_are_on_the_wire(
    hostile: Hostile, origin: HttpOrigin, size: bool
) -> None:
    wire = gzip.compress(BODY)
    hostile.answers["/f.tar.gz"] = ok(wire, "Content-Encoding: gzip")
    assert await received(origin, b"f.tar.gz", Want(size=len(wire) if size else None)) == wire
    assert hostile.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip"])
async def test_66_a_text_that_the_server_packs_unasked_is_an_error(
    hostile: Hostile, origin: HttpOrigin, coding: str
) -> None:
    hostile.answers["/f.txt"] = ok(gzip.compress(BODY), f"Content-Encoding: {coding}")
    with pytest.raises(Changed):
        await received(origin, b"f.txt", Want(size=SIZE))
    with pytest.raises(Refused, match=coding):
        await received(origin, b"f.txt")


async def test_67_a_bomb_stays_packed_in_a_file_and_is_bounded_in_a_listing(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    bomb = gzip.compress(b"\0" * (100 * 2**20), 9)
    hostile.answers |= {
        "/f.gz": ok(bomb, "Content-Encoding: gzip"),
        "/d/": ok(bomb, "Content-Encoding: gzip", "Content-Type: text/html"),
    }
    assert await received(origin, b"f.gz") == bomb
    with pytest.raises(TooLarge):
        await origin.listing(b"d")


# -- too much, too slow -------------------------------------------------------------------------


async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("want", "error"),
    [(Want(size=SIZE), Changed), (Want(limit=SIZE), TooLarge)],
    ids=["size known", "limit"],
)
async def test_68_an_endless_body_is_cut(
    hostile: Hostile, origin: HttpOrigin, want: Want, error: type[OriginError]
) -> None:
    hostile.answers["/f"] = endless
    got = 0
    with pytest.raises(error):
        async with origin.read(b"f", want) as body:
            async for piece in body.chunks():
                got += len(piece)
    assert got <= SIZE
    assert origin.traffic.bytes > SIZE  # what was thrown away counts


async def test_68_a_listing_is_cut_too(
    hostile: Hostile, origin: HttpOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.origin.http_listing.MAX_LISTING", 100_000)
    hostile.answers["/"] = endless
    with pytest.raises(TooLarge):
        await origin.listing(b"")


async def test_69_a_drip_is_aborted_within_two_windows(hostile: Hostile, origin: HttpOrigin) -> None:
    async def drip(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(length=SIZE))
        for byte in BODY:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    hostile.answers |= {"/f": drip, "/ok": ok(b"ok")}
    before = time.monotonic()
    with pytest.raises(Unreachable, match="bytes/s"):
        await received(origin, b"f", Want(size=SIZE))
    assert time.monotonic() - before < 2 * QUICK.low_window + 0.3
    assert await received(origin, b"ok") == b"ok"


async def test_69_a_good_start_does_not_pay_for_a_drip(hostile: Hostile, origin: HttpOrigin) -> None:
    async def fades(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(length=10 * SIZE))
        await asyncio.sleep(QUICK.low_window + 0.05)
        writer.write(BODY)
        for byte in BODY:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    hostile.answers["/f"] = fades
    before = time.monotonic()
    with pytest.raises(Unreachable, match="bytes/s"):
        await received(origin, b"f", Want(size=10 * SIZE))
    assert time.monotonic() - before < 3 * QUICK.low_window + 0.5


async def test_69_one_silent_request_does_not_end_a_later_one(hostile: Hostile) -> None:
    async def late(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60 if request.target == "/silent" else 0.3)
        writer.write(ok(b"ok"))
        await writer.drain()

    hostile.answers |= {"/silent": late, "/late": late}
    origin = HttpOrigin(OriginSpec(hostile.url), Limits(timeout=0.5))
    try:
        silent = asyncio.create_task(received(origin, b"silent"))
        await asyncio.sleep(0.3)
        assert await received(origin, b"late") == b"ok"
        with pytest.raises(Unreachable, match="no answer in"):
            await silent
    finally:
        await origin.close()


@pytest.mark.parametrize("where", ["nothing", "header", "body"])
async def test_69_silence_and_a_dripping_header_end_with_the_timeout(hostile: Hostile, where: str) -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        if where == "header":
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)
        if where == "body":
            writer.write(ok(b"first", length=SIZE))
        await asyncio.sleep(60)

    hostile.answers["/f"] = silent
    origin = HttpOrigin(OriginSpec(hostile.url), Limits(timeout=0.3))
    try:
        before = time.monotonic()
        with pytest.raises(Unreachable, match=r"no answer in|silent for"):
            await received(origin, b"f", Want(size=SIZE))
        assert 0.25 < time.monotonic() - before < 1.5
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
    finally:
        await origin.close()


async def test_69_a_cancelled_read_stays_cancelled(hostile: Hostile, origin: HttpOrigin) -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    hostile.answers |= {"/f": silent, "/ok": ok(b"ok")}
    task = asyncio.create_task(received(origin, b"f"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await received(origin, b"ok") == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2**20 + b"\r\n\r\n",
        b"HTTP/1.1 200 " + b"O" * (8 * 2**20) + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
        b"",
    ],
    ids=["headers", "header", "status", "protocol", "lengths", "length-and-chunked", "negative", "nothing"],
)
async def test_70_71_a_broken_answer_is_one_error_and_the_next_request_is_clean(
    hostile: Hostile, origin: HttpOrigin, answer: bytes
) -> None:
    async def broken(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    hostile.answers |= {"/f": broken, "/ok": ok(b"ok")}
    with pytest.raises(Unreachable) as caught:
        await received(origin, b"f", Want(size=3))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert await received(origin, b"ok", Want(size=2)) == b"ok"


async def test_71_garbage_after_a_body_does_not_reach_the_next_one(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    hostile.answers |= {"/f": ok(b"abc") + b"garbage", "/ok": ok(b"ok")}
    with contextlib.suppress(Unreachable):
        assert await received(origin, b"f", Want(size=3)) == b"abc"
    assert await received(origin, b"ok", Want(size=2)) == b"ok"


# -- statuses and other pages -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("404 Not Found", Vanished),
        ("410 Gone", Vanished),
        ("401 Unauthorized", Refused),
        ("403 Forbidden", Refused),
        ("429 Too Many Requests", Unreachable),
        ("500 Internal Server Error", Unreachable),
        ("503 Service Unavailable", Unreachable),
        ("304 Not Modified", Changed),
        ("204 No Content", Changed),
        ("300 Multiple Choices", Changed),
    ],
)
@pytest.mark.parametrize("method", ["read", "facts", "listing"])
async def test_31_80_a_status_means_the_same_everywhere(
    hostile: Hostile, origin: HttpOrigin, status: str, error: type[OriginError], method: str
) -> None:
    hostile.answers |= {"/f": ok(b"", status=status), "/f/": ok(b"", status=status)}
    expected = NotAListing if error is Changed and method == "listing" else error
    with pytest.raises(expected, match=status[:3]):
        if method == "read":
            await received(origin, b"f", Want(size=SIZE))
        else:
            await getattr(origin, method)(b"f")


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ("120", 120.0),
        ("1000000000", 3600.0),
        ("Sat, 21 Nov 2026 13:02:00 GMT", 120.0),
        ("Sat, 21 Nov 2026 12:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
    ],
)
async def test_32_the_origin_says_when_to_come_back(
    hostile: Hostile, origin: HttpOrigin, said: str, waits: float | None
) -> None:
    date = "Date: Sat, 21 Nov 2026 13:00:00 GMT"
    hostile.answers["/f"] = ok(b"", f"Retry-After: {said}", date, status="503 Service Unavailable")
    with pytest.raises(Unreachable) as caught:
        await received(origin, b"f")
    assert caught.value.retry_after == waits


@pytest.mark.parametrize("answer", [ok(b""), ok(BODY[:-1]), ok(BODY + b"x"), chunked(BODY[:-1])])
async def test_45_80_another_size_than_the_listed_one_is_not_this_version(
    hostile: Hostile, origin: HttpOrigin, answer: bytes
) -> None:
    hostile.answers["/f"] = answer
    with pytest.raises(Changed):
        await received(origin, b"f", Want(size=SIZE))


async def test_45_a_length_that_is_not_the_listed_one_costs_no_body(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    hostile.answers["/f"] = ok(BODY * 1000)
    with pytest.raises(Changed, match=rf"{SIZE * 1000} bytes arrive"):
        async with origin.read(b"f", Want(size=SIZE)):
            pytest.fail("opened")
    assert origin.traffic.bytes < SIZE * 100


async def test_chunked_bodies_are_complete_by_their_own_framing(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers |= {"/f": chunked(BODY[:99], BODY[99:]), "/cut": chunked(BODY, end=False)}
    assert await received(origin, b"f") == BODY
    with pytest.raises(Unreachable):
        await received(origin, b"cut")


async def test_79_a_portal_page_is_not_a_package(hostile: Hostile, origin: HttpOrigin) -> None:
    page = ok(b"<html>Please log in</html>", "Content-Type: text/html; charset=utf-8")
    hostile.answers |= {"/foo.deb": page, "/foo.html": page}
    with pytest.raises(Changed):
        await received(origin, b"foo.deb", Want(size=SIZE))
    with pytest.raises(Changed, match="HTML"):
        await received(origin, b"foo.deb")
    assert await received(origin, b"foo.html")


async def test_81_a_slow_reader_gets_a_complete_body_of_a_server_that_closed_early(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    large = BODY * 200  # 2 MB, more than aiohttp buffers

    async def closes(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(large, "Connection: close"))
        await writer.drain()

    hostile.answers["/f"] = closes
    got = bytearray()
    async with origin.read(b"f", Want(size=len(large))) as body:
        async for piece in body.chunks():
            got += piece
            await asyncio.sleep(0.05)
    assert bytes(got) == large


async def test_81_a_slow_reader_is_not_a_slow_origin(hostile: Hostile, origin: HttpOrigin) -> None:
    large = BODY * 100
    hostile.answers["/f"] = ok(large)
    async with origin.read(b"f", Want(size=len(large))) as body:
        got = 0
        async for piece in body.chunks():
            got += len(piece)
            await asyncio.sleep(QUICK.low_window + 0.1 if got == len(piece) else 0)
    assert got == len(large)


async def test_83_no_more_connections_than_allowed(hostile: Hostile) -> None:
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(ok(b"ok") if request.method == "GET" else ok(length=2))
        await writer.drain()

    hostile.answers |= {f"/{n}": slow for n in range(30)} | {"/moved": redirect("/1")}
    origin = HttpOrigin(OriginSpec(hostile.url), Limits(connections=4, timeout=2.0))
    try:
        async with asyncio.timeout(10):
            bodies = [received(origin, b"%d" % n) for n in range(30)]
            facts: list[Any] = [origin.facts(b"moved") for _ in range(5)]
            await asyncio.gather(*bodies, *facts)
    finally:
        await origin.close()
    assert hostile.busiest == 4


async def test_a_place_is_free_again_after_a_failure(hostile: Hostile) -> None:
    hostile.answers["/f"] = ok(b"ok")
    origin = HttpOrigin(OriginSpec(hostile.url), Limits(connections=1, timeout=2.0))
    try:
        async with asyncio.timeout(2):
            for _ in range(3):
                with pytest.raises(Vanished):
                    await received(origin, b"gone")
            assert await received(origin, b"f") == b"ok"
    finally:
        await origin.close()


async def test_bytes_that_nobody_read_are_counted(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers["/f"] = ok(BODY)
    async with origin.read(b"f", Want(size=SIZE)):
        await asyncio.sleep(0.05)
    assert origin.traffic.bytes == SIZE


# -- listings -----------------------------------------------------------------------------------

INDEX = (
    b"<html>\r\n<head><title>Index of /</title></head>\r\n<body>\r\n<h1>Index of /</h1><hr><pre>"
    b'<a href="../">../</a>\r\n'
    b'<a href="a.txt">a.txt</a>                             21-Nov-2026 10:00              12\r\n'
    b'<a href="b/">b/</a>                                21-Nov-2026 10:00               -\r\n'
    b"</pre><hr></body>\r\n</html>\r\n"
)
HTML = "Content-Type: text/html"


@pytest.mark.parametrize(
    "answer",
    [
        ok(INDEX, HTML),
        unframed(INDEX, HTML),
        chunked(INDEX[:100], INDEX[100:], headers=(HTML,)),
        ok(gzip.compress(INDEX), HTML, "Content-Encoding: gzip"),
    ],
    ids=["length", "unframed", "chunked", "gzip"],
)
async def test_a_listing_is_read_in_every_framing(
    hostile: Hostile, origin: HttpOrigin, answer: bytes
) -> None:
    hostile.answers["/d/"] = answer
    listing = await origin.listing(b"d")
    assert [e.name for e in listing.entries] == [b"a.txt", b"b"]
    assert listing.size == origin.traffic.listings > 0
    assert origin.properties.exact_sizes


@pytest.mark.parametrize(
    "answer",
    [
        ok(INDEX[:250], HTML, length=len(INDEX)),
        unframed(INDEX[:-40], HTML),
        chunked(INDEX[:250], end=False, headers=(HTML,)),
        ok(gzip.compress(INDEX)[:-20], HTML, "Content-Encoding: gzip"),
        ok(
            gzip.compress(INDEX)[:-4], HTML, "Content-Encoding: gzip"
        ),  # the page is there, its checksum is not
    ],
    ids=["length", "unframed", "chunked", "gzip", "gzip without its end"],
)
async def test_29_30_a_cut_listing_proves_nothing(
    hostile: Hostile, origin: HttpOrigin, answer: bytes
) -> None:
    hostile.answers["/d/"] = answer
    with pytest.raises(IncompleteListing):
        await origin.listing(b"d")


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"<html><body><form>Please log in</form></body></html>", HTML),
        ok(b"", HTML),
        ok(INDEX, HTML, "Content-Encoding: br"),
        ok(INDEX, HTML, "Content-Encoding: gzip"),
        redirect("/login"),
        redirect("/d/index.html"),
        redirect("/"),
    ],
    ids=["portal", "empty", "br", "not-gzip", "login", "index", "root"],
)
async def test_28_what_is_not_a_listing_proves_nothing(
    hostile: Hostile, origin: HttpOrigin, answer: bytes
) -> None:
    hostile.answers |= {"/d/": answer, "/login": ok(INDEX, HTML), "/": ok(INDEX, HTML)}
    hostile.answers["/d/index.html"] = ok(INDEX, HTML)
    with pytest.raises(NotAListing, match=r"^d: "):
        await origin.listing(b"d")


# -- redirects ----------------------------------------------------------------------------------


async def test_redirects_within_the_origin_are_followed(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers |= {"/f": redirect("g"), "/g": redirect(f"{hostile.url}h%2Fi", "308 X")}
    hostile.answers["/h%2Fi"] = ok(BODY)
    assert await received(origin, b"f", Want(size=SIZE)) == BODY
    assert origin.traffic.requests == len(hostile.requests) == 3
    hostile.answers |= {"/d/": redirect("/d"), "/d": ok(INDEX, HTML)}
    assert (await origin.listing(b"d")).entries


async def test_a_file_that_became_a_directory_is_told_apart(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers["/f"] = redirect("/f/", "301 Moved Permanently")
    assert (await origin.facts(b"f")).kind == "directory"
    with pytest.raises(Changed, match="directory"):
        await received(origin, b"f", Want(size=SIZE))


@pytest.mark.parametrize(
    "location", ["/f", "/g", "", "http://", "http://[x/", "file:///etc/passwd", "ftp://h/f", "gopher://h/"]
)
async def test_72_75_a_redirect_that_leads_nowhere_is_refused(
    hostile: Hostile, origin: HttpOrigin, location: str
) -> None:
    hostile.answers |= {"/f": redirect(location), "/g": redirect("/f")}
    with pytest.raises(Refused, match="redirect"):
        await received(origin, b"f")
    assert len(hostile.requests) <= 6


async def test_72_five_redirects_are_followed_and_not_six(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers |= {f"/{n}": redirect(f"/{n + 1}") for n in range(6)} | {"/6": ok(b"x")}
    assert await received(origin, b"1") == b"x"
    with pytest.raises(Refused, match="redirect"):
        await received(origin, b"0")


# -- facts --------------------------------------------------------------------------------------


async def test_facts_are_what_HEAD_tells(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers["/f"] = ok(
        BODY, ETAG, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Accept-Ranges: bytes"
    )
    facts = await origin.facts(b"f")
    assert facts.mtime is not None
    assert (facts.size, facts.etag, facts.ranges) == (SIZE, '"v1"', True)
    assert facts.mtime.ns == 784_111_777 * 10**9
    assert hostile.targets == ["HEAD /f"]


@pytest.mark.parametrize("status", ["405 Method Not Allowed", "501 Not Implemented"])
async def test_a_server_without_HEAD_is_asked_for_one_byte(
    hostile: Hostile, origin: HttpOrigin, status: str
) -> None:
    hostile.answers |= {"HEAD /f": ok(b"", status=status), "GET /f": part(0, 0, SIZE)}
    assert (await origin.facts(b"f")).size == SIZE
    hostile.answers["GET /f"] = ok(BODY)
    assert (await origin.facts(b"f")).size == SIZE
    assert hostile.targets == ["HEAD /f", "GET /f", "GET /f"]


async def test_of_another_version_no_part_is_sent(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers |= {
        "GET /f": ok(b"", status="412 Precondition Failed"),
        "HEAD /f": ok(b"", 'ETag: "v2"', length=SIZE),
    }
    with pytest.raises(Changed, match="v2"):
        await received(origin, b"f", Want(size=SIZE, start=10, stop=20, etag='"v1"'))
    assert hostile.targets == ["GET /f", "HEAD /f"]
    assert hostile.requests[0].headers["if-match"] == '"v1"'


async def test_who_denies_the_version_that_it_has_is_asked_without_a_condition(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    about = (ETAG, f"Content-Range: bytes 10-19/{SIZE}")
    answers = [
        ok(b"", status="412 Precondition Failed"),
        ok(BODY[10:20], *about, status="206 Partial Content"),
    ]
    hostile.answers |= {"GET /f": answers, "HEAD /f": ok(b"", ETAG, length=SIZE)}
    want = Want(size=SIZE, start=10, stop=20, etag='"v1"')
    assert await received(origin, b"f", want) == BODY[10:20]
    assert "if-match" not in hostile.requests[-1].headers


async def test_a_part_of_another_version_is_a_change(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers["/f"] = ok(BODY, 'ETag: "v2"')
    with pytest.raises(Changed):
        await received(origin, b"f", Want(size=SIZE, start=10, stop=20, etag='"v1"'))
    hostile.answers["/f"] = ok(BODY, ETAG)
    async with origin.read(b"f", Want(size=SIZE, start=10, stop=20, etag='"v1"')) as body:
        assert body.start == 0
        assert b"".join([p async for p in body.chunks()]) == BODY[:20]
