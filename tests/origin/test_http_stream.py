"""Large bodies over connections of our own: what arrives, and what every kind of answer means, is the same as
through the ordinary client."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.errors import DiskFull, OriginError, Unreachable
from cluster.model import Limits, OriginSpec
from cluster.origin.base import Body, Pouring, Want
from cluster.origin.http import HttpOrigin
from cluster.origin.http_session import Patience
from tests.origin.conformance import received
from tests.origin.hostile import Hostile, Request, chunked, ok, redirect, reset, unframed
from tests.origin.test_http_guard import certificate
from tests.origin.test_http_hostile import HTML, INDEX
from tests.servers import free_port, nginx

PATIENT = Patience(connect=20.0, low_rate=0, low_window=60.0)
BODY = random.Random(1).randbytes(300_000)
SIZE = len(BODY)
ETAG = 'ETag: "v1"'
THEN = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of known size is a large one, in buffers that it does not fit into."""
    monkeypatch.setattr("cluster.origin.http_file.LARGE", 1)
    monkeypatch.setattr("cluster.origin.http_stream.BUFFER", 2**16)
    monkeypatch.setattr("cluster.origin.http_stream.ROOM", 2**10)
    monkeypatch.setattr("cluster.origin.http_stream.AHEAD", 2**17)


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    async with Hostile({"/": ok(INDEX, HTML)}) as server:
        yield server


async def warm(server_url: str, **facts: object) -> HttpOrigin:
    """An origin that has answered an ordinary request."""
    limits = Limits(timeout=float(facts.pop("timeout", 30.0)))  # type: ignore[arg-type]
    origin = HttpOrigin(OriginSpec(server_url, **facts), limits, patience=PATIENT)  # type: ignore[arg-type]
    await origin.listing(b"")
    return origin


class Bucket:
    """Where a thread puts what it receives: a little at a time."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self._room = bytearray(50_000)

    def room(self) -> memoryview:
        return memoryview(self._room)

    def took(self, count: int) -> None:
        self.bytes += self._room[:count]


async def outcome(origin: HttpOrigin, want: Want, bucket: Bucket | None = None) -> object:
    """What a read came to: what was told of it, or how it failed; and the bytes that came, those that can
    into `bucket`."""
    got = b""
    try:
        async with origin.read(b"f", want) as body:
            facts, start = body.facts, body.start
            if bucket is not None and (came := await poured(body, bucket)) is not None:
                assert came == len(bucket.bytes)
                return facts, start, bytes(bucket.bytes)
            async for piece in body.chunks():
                got += piece
    except OriginError as error:
        return type(error), error.retry_after, got or bytes(bucket.bytes if bucket else b"")
    return facts, start, got


async def poured(body: Body, bucket: Bucket) -> int | None:
    assert isinstance(body, Pouring)
    return await body.pour(lambda: bucket, lambda came: None)


async def cut(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(ok(BODY[: SIZE // 2], length=SIZE))
    await writer.drain()


async def cut_hard(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(ok(length=SIZE))
    await writer.drain()
    reset(writer)


def part(first: int, last: int, *headers: str) -> bytes:
    about = (f"Content-Range: bytes {first}-{last}/{SIZE}", ETAG, *headers)
    return ok(BODY[first : last + 1], *about, status="206 Partial Content")


WHOLE = Want(size=SIZE)
REST = Want(size=SIZE, start=100_000, etag='"v1"')
RANGE = Want(size=SIZE, start=1000, stop=201_000, etag='"v1"')

CASES = {
    "whole": (ok(BODY, ETAG, THEN), WHOLE),
    "closed": (ok(BODY, "Connection: close"), WHOLE),
    "chunked": (chunked(BODY[:1000], BODY[1000:]), WHOLE),
    "unframed": (unframed(BODY), WHOLE),
    "HTTP/1.0": (unframed(BODY).replace(b"1.1", b"1.0"), WHOLE),
    "short": (ok(BODY[:-1]), WHOLE),
    "long": (ok(BODY + b"x"), WHOLE),
    "cut": (cut, WHOLE),
    "cut hard": (cut_hard, WHOLE),
    "another behind it": (ok(BODY) + ok(b"", status="404 Not Found"), WHOLE),
    "another behind a small one": (ok(BODY[:5]) + ok(BODY), Want(size=5)),
    "two lengths": (ok(BODY, "Content-Length: 5"), WHOLE),
    "folded": (ok(BODY, "X: a\r\n b"), WHOLE),
    "no HTTP": (b"220 ready\r\n\r\n", WHOLE),
    "nothing": (b"", WHOLE),
    "packed": (ok(BODY, "Content-Encoding: gzip"), WHOLE),
    "redirect": (redirect("/g"), WHOLE),
    "directory": (redirect("/f/"), WHOLE),
    "rest": (part(100_000, SIZE - 1), REST),
    "ignored": (ok(BODY, ETAG), REST),
    "another version": (ok(BODY, 'ETag: "v2"'), REST),
    "another part": ([part(99_999, SIZE - 1), ok(BODY, ETAG)], REST),
    "range": (part(1000, 200_999), RANGE),
    "range of a whole": (ok(BODY, ETAG), RANGE),
    "range of another": (ok(BODY, 'ETag: "v2"'), RANGE),
    "no such range": (
        [ok(b"", status="416 Range Not Satisfiable"), ok(BODY, ETAG)],
        REST,
    ),
    "too large": (ok(BODY), Want(size=SIZE, limit=SIZE - 1)),
    **{
        status[:3]: (ok(b"sorry", "Retry-After: 120", status=status), WHOLE)
        for status in (
            *("404 Not Found", "410 Gone", "401 Unauthorized", "403 Forbidden", "429 Too Many Requests"),
            *("500 Internal Server Error", "503 Service Unavailable", "300 Multiple Choices", "206 Partial"),
        )
    },
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("by", ["the event loop", "a thread"])
@pytest.mark.parametrize(("answer", "want"), CASES.values(), ids=CASES.keys())
async def test_every_answer_means_what_it_means_to_the_ordinary_client(
    answer: object, want: Want, by: str
) -> None:
    def answers() -> dict[str, object]:
        again = list(answer) if isinstance(answer, list) else answer
        return {"/f": again, "/g": ok(BODY), "/": ok(INDEX, HTML)}

    async with Hostile(answers()) as server:  # type: ignore[arg-type]
        ordinary = HttpOrigin(OriginSpec(server.url), Limits(timeout=30.0), patience=PATIENT)
        expected = await outcome(ordinary, want)  # its first request is always an ordinary one
        await ordinary.close()
        server.answers.update(answers())  # type: ignore[arg-type]
        origin = await warm(server.url)
        before, bucket = origin.traffic.bytes, Bucket() if by == "a thread" else None
        found = await outcome(origin, want, bucket)
        assert _rounded(found) == _rounded(expected)
        assert origin.traffic.bytes - before >= len(found[2])  # type: ignore[index]
        server.answers["/f"] = ok(BODY)
        assert await received(origin, b"f", Want(size=SIZE)) == BODY, "the next one is clean"
        await origin.close()


def _rounded(found: object) -> object:
    """How much came before a failure is a matter of pieces."""
    *told, got = found  # type: ignore[misc]
    if isinstance(told[0], type):
        assert BODY.startswith(got) or BODY[1000:].startswith(got)
        return told
    return found


@pytest.mark.usefixtures("small")
async def test_a_large_file_has_a_connection_of_its_own(hostile: Hostile) -> None:
    hostile.answers |= {"/f": ok(BODY), "/g": ok(b"small")}
    origin = await warm(hostile.url)
    before = len(hostile.requests)
    assert await received(origin, b"f", Want(size=SIZE)) == BODY
    assert await received(origin, b"g") == b"small"
    first, second = hostile.requests[before:]
    assert (first.target, first.connection, second.connection) == ("/f", 2, 3)
    assert first.headers == second.headers
    assert origin.traffic.requests == len(hostile.requests)
    assert origin.traffic.bytes == SIZE + 5
    await origin.close()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("begun", "bucket"), [(False, None), (True, None), (True, Bucket())])
async def test_69_silence_ends_with_the_timeout(hostile: Hostile, begun: bool, bucket: Bucket | None) -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY[:1000], length=SIZE) if begun else b"HTTP/1.1 2")
        await writer.drain()
        await asyncio.sleep(3600)

    hostile.answers["/f"] = silent
    origin = await warm(hostile.url, timeout=2.0)
    with pytest.raises(Unreachable, match="silent for 2 s after 1000 bytes" if begun else "no answer in 2 s"):
        await (received(origin, b"f", WHOLE) if bucket is None else bodied(origin, bucket))
    await origin.close()


async def bodied(origin: HttpOrigin, bucket: Bucket) -> None:
    """A read that a thread receives."""
    async with origin.read(b"f", WHOLE) as body:
        assert await poured(body, bucket) == SIZE


@pytest.mark.usefixtures("small")
async def test_69_what_drips_is_as_good_as_gone(hostile: Hostile) -> None:
    async def drip(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY[:1000], length=SIZE))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    hostile.answers["/f"] = drip
    slow = Patience(connect=20.0, low_rate=10**6, low_window=0.1)
    origin = HttpOrigin(OriginSpec(hostile.url), Limits(timeout=30.0), patience=slow)
    await origin.listing(b"")
    with pytest.raises(Unreachable, match=r"^f: \d+ bytes/s for \d+ s, after \d+ bytes"):
        await bodied(origin, Bucket())
    await origin.close()


@pytest.mark.usefixtures("small")
async def test_what_a_thread_received_is_told_while_it_comes(hostile: Hostile) -> None:
    more, told = asyncio.Event(), list[int]()

    async def by_halves(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY[: SIZE // 2], length=SIZE))
        await writer.drain()
        await more.wait()
        writer.write(BODY[SIZE // 2 :])
        await writer.drain()

    def progress(came: int) -> None:
        told.append(came)
        assert origin.traffic.bytes == came
        if came == SIZE // 2:
            more.set()

    hostile.answers["/f"] = by_halves
    origin, bucket = await warm(hostile.url), Bucket()
    async with origin.read(b"f", WHOLE) as body:
        assert isinstance(body, Pouring)
        assert await body.pour(lambda: bucket, progress) == SIZE
    assert (bucket.bytes, told[-1]) == (BODY, SIZE)
    assert SIZE // 2 in told
    await origin.close()


@pytest.mark.usefixtures("small")
async def test_a_thread_that_is_not_waited_for_any_more_has_ended(hostile: Hostile) -> None:
    loop, arrived, threads = asyncio.get_running_loop(), asyncio.Event(), list[threading.Thread]()

    class Noticed(Bucket):
        def took(self, count: int) -> None:
            threads.append(threading.current_thread())
            loop.call_soon_threadsafe(arrived.set)

    async def half(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY[:1000], length=SIZE))
        await writer.drain()
        await asyncio.sleep(3600)

    hostile.answers |= {"/f": half, "/g": ok(BODY)}
    origin = HttpOrigin(OriginSpec(hostile.url), Limits(connections=1, timeout=60.0), patience=PATIENT)
    await origin.listing(b"")
    waiting = asyncio.create_task(bodied(origin, Noticed()))
    await arrived.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.to_thread(threads[0].join, 60)
    assert not threads[0].is_alive()
    assert await received(origin, b"g", WHOLE) == BODY
    await origin.close()


@pytest.mark.usefixtures("small")
async def test_what_the_vessel_raises_ends_it(hostile: Hostile) -> None:
    class Full(Bucket):
        def took(self, count: int) -> None:
            raise DiskFull("f: No space left on device")

    hostile.answers |= {"/f": ok(BODY), "/g": ok(BODY)}
    origin = await warm(hostile.url)
    with pytest.raises(DiskFull, match="f: No space left"):
        await bodied(origin, Full())
    assert await received(origin, b"g", WHOLE) == BODY
    await origin.close()


@pytest.mark.usefixtures("small")
async def test_a_slow_reader_is_waited_for_and_holds_no_more_than_some_buffers(hostile: Hostile) -> None:
    body, sent = os.urandom(32 * 2**20), 0

    async def pour(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(ok(length=len(body)))
        for at in range(0, len(body), 2**16):
            writer.write(body[at : at + 2**16])
            await writer.drain()
            sent = at + 2**16

    hostile.answers["/f"] = pour
    origin = await warm(hostile.url)
    async with origin.read(b"f", Want(size=len(body))) as opened:
        before = -1
        while sent != before:  # until the server cannot get rid of any more
            before = sent
            await asyncio.sleep(0.3)
        assert sent < len(body)
        assert b"".join([piece async for piece in opened.chunks()]) == body
    await origin.close()


@pytest.mark.usefixtures("small")
async def test_who_is_cancelled_leaves_nothing_behind(hostile: Hostile) -> None:
    arrived = asyncio.Event()

    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.sleep(3600)

    hostile.answers |= {"/f": silent, "/g": ok(BODY)}
    origin = HttpOrigin(OriginSpec(hostile.url), Limits(connections=1, timeout=60.0), patience=PATIENT)
    await origin.listing(b"")
    waiting = asyncio.create_task(received(origin, b"f", Want(size=SIZE)))
    await arrived.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await received(origin, b"g", Want(size=SIZE)) == BODY
    await origin.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_large_file_of_a_real_server_arrives_whole_and_in_parts(tmp_path: Path, tls: bool) -> None:
    body = os.urandom(24 * 2**20 + 5)
    root = tmp_path / "root"
    root.mkdir()
    (root / "f").write_bytes(body)
    ca, _ = certificate(tmp_path, "127.0.0.1")
    port, both = free_port(), ca.removesuffix("pem") + "both"
    extra = f"listen 127.0.0.1:{port} ssl; ssl_certificate {both}; ssl_certificate_key {both};"
    with nginx(root, extra=extra) as server:
        url = f"https://127.0.0.1:{port}/" if tls else server.url
        origin = await warm(url, private=True, ca=ca)
        facts = await origin.facts(b"f")
        size = len(body)
        assert await received(origin, b"f", Want(size=size)) == body
        some = Want(size=size, start=9_000_001, stop=9_000_001 + 10 * 2**20, etag=facts.etag)
        assert await received(origin, b"f", some) == body[some.start : some.stop]
        for want in (Want(size=size), some):
            bucket = Bucket()
            async with origin.read(b"f", want) as opened:
                expected = body[want.start : want.stop]
                assert await poured(opened, bucket) == (None if tls else len(expected))
                came = b"".join([piece async for piece in opened.chunks()]) if tls else bytes(bucket.bytes)
            assert came == expected
        await origin.close()
