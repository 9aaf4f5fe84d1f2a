"""Listings over connections of our own: the same answers mean the same as through the ordinary client, also
where they are cut, late, or no listings; and what is plain costs one request on a connection that is kept."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import IncompleteListing, OriginError, TooLarge, Unreachable, Vanished
from cluster.model import SECOND, Limits, Listing, OriginSpec, Stamp
from cluster.origin.base import Want
from cluster.origin.http import HttpOrigin
from cluster.origin.http_answer import Answer, Odd
from cluster.origin.http_dial import Dialer
from cluster.origin.http_session import Patience
from tests.origin.conformance import received
from tests.origin.hostile import Hostile, Request, chunked, ok, redirect, reset, unframed
from tests.origin.test_http_guard import certificate
from tests.origin.test_http_hostile import HTML, INDEX

PATIENT = Patience(connect=20.0, low_rate=0, low_window=60.0)


@asynccontextmanager
async def opened(
    server: Hostile, *, timeout: float = 30.0, ca: str | None = None
) -> AsyncIterator[HttpOrigin]:
    """An origin that has answered a request."""
    server.answers.setdefault("/", ok(INDEX, HTML))
    origin = HttpOrigin(OriginSpec(server.url, ca=ca), Limits(timeout=timeout), patience=PATIENT)
    try:
        await origin.listing(b"")
        yield origin
    finally:
        await origin.close()


async def outcome(origin: HttpOrigin, directory: bytes) -> object:
    """What a listing came to, in what a pass sees of it."""
    try:
        found = await origin.listing(directory)
    except OriginError as error:
        return type(error), error.retry_after
    return found


async def cut(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(ok(INDEX, HTML)[:-30])
    await writer.drain()
    reset(writer)


LATER = "Retry-After: 120"

ANSWERS = {
    "length": ok(INDEX, HTML),
    "chunked": chunked(INDEX[:100], INDEX[100:], headers=(HTML,)),
    "many chunks": chunked(*(INDEX[i : i + 7] for i in range(0, len(INDEX), 7)), headers=(HTML,)),
    "unframed": unframed(INDEX, HTML),
    "closed": ok(INDEX, HTML, "Connection: close"),
    "gzip": ok(gzip.compress(INDEX), HTML, "Content-Encoding: gzip"),
    "HTTP/1.0": unframed(INDEX, HTML).replace(b"1.1", b"1.0"),
    "trailer": chunked(INDEX, end=False, headers=(HTML,)) + b"0\r\nX: y\r\n\r\n",
    "cut length": ok(INDEX[:250], HTML, length=len(INDEX)),
    "cut chunks": chunked(INDEX[:250], end=False, headers=(HTML,)),
    "cut hard": cut,
    "cut unframed": unframed(INDEX[:-40], HTML),
    "cut gzip": ok(gzip.compress(INDEX)[:-4], HTML, "Content-Encoding: gzip"),
    "chunk of another size": chunked(INDEX, headers=(HTML,)).replace(b"\r\n0\r\n", b"!\r\n0\r\n"),
    "no chunk": ok(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"zz\r\n" + INDEX,
    "two lengths": ok(INDEX, HTML, "Content-Length: 5"),
    "two framings": ok(b"0\r\n\r\n", "Transfer-Encoding: chunked"),
    "negative": ok(INDEX, HTML).replace(b"Content-Length: ", b"Content-Length: -"),
    "no HTTP": b"220 ready\r\n\r\n",
    "folded": ok(INDEX, HTML, "X: a\r\n b"),
    "no field": ok(INDEX, HTML, "nonsense"),
    "empty": ok(b"", HTML),
    "portal": ok(b"<html><body><form>Please log in</form></body></html>", HTML),
    "br": ok(INDEX, HTML, "Content-Encoding: br"),
    "to itself": redirect("/d/"),
    "to a login": redirect("/login"),
    "nothing at all": b"",
    **{
        status[:3]: ok(b"sorry", LATER, status=status)
        for status in (
            *("404 Not Found", "410 Gone", "401 Unauthorized", "403 Forbidden", "429 Too Many Requests"),
            *("500 Internal Server Error", "503 Service Unavailable", "300 Multiple Choices", "206 Partial"),
        )
    },
    "204": ok(b"", status="204 No Content"),
    "304": ok(b"", status="304 Not Modified"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_every_answer_means_what_it_means_to_the_ordinary_client(answer: object) -> None:
    async with Hostile({"/d/": answer, "/login": ok(INDEX, HTML)}) as server:  # type: ignore[dict-item]
        ordinary = HttpOrigin(OriginSpec(server.url), Limits(timeout=30.0), patience=PATIENT)
        ordinary._pages.close()
        expected = await outcome(ordinary, b"d")
        await ordinary.close()
        async with opened(server) as origin:
            assert await outcome(origin, b"d") == expected
            assert isinstance(await outcome(origin, b""), Listing), "the next one is clean"


async def test_what_is_plain_costs_one_request_on_a_connection_that_is_kept() -> None:
    async with Hostile({f"/{n}/": ok(INDEX, HTML) for n in range(5)}) as server, opened(server) as origin:
        for n in range(5):
            listing = await origin.listing(b"%d" % n)
            assert [entry.name for entry in listing.entries] == [b"a.txt", b"b"]
            assert listing.size == len(INDEX)
        asked = [request for request in server.requests if request.method == "GET"]
        assert [request.connection for request in asked] == [1] * 6
        assert origin.traffic.requests == len(server.requests)
        assert origin.traffic.listings == 6 * len(INDEX)
        origin._pages.close()
        await origin.listing(b"1")
        assert server.requests[-1].connection > 1, "asked by the ordinary client"
        assert server.requests[-1].headers == asked[0].headers


async def test_a_file_is_asked_about_on_the_connection_of_the_listings() -> None:
    told = ok(b"", "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT", length=70)
    async with Hostile({"/f": told}) as server, opened(server) as origin:
        facts = await origin.facts(b"f")
        assert (facts.size, facts.mtime) == (70, Stamp(1704067200 * SECOND, SECOND))
        with pytest.raises(Vanished):
            await origin.facts(b"gone")
        assert (await origin.listing(b"")).entries, "no body is waited for"
        asked = [(request.method, request.target, request.connection) for request in server.requests]
        assert asked[-3:] == [("HEAD", "/f", 1), ("HEAD", "/gone", 1), ("GET", "/", 1)]


async def test_what_is_known_comes_back_as_the_same() -> None:
    async with Hostile({"/d/": ok(INDEX, HTML)}) as server, opened(server) as origin:
        first = await origin.listing(b"d")
        again = await origin.listing(b"d", first.token)
        assert again.same and not again.entries


async def test_a_connection_that_was_closed_meanwhile_costs_nothing_but_another() -> None:
    gone: list[asyncio.StreamWriter] = []

    async def once(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(INDEX, HTML))
        await writer.drain()
        gone.append(writer)

    async with Hostile({"/d/": once}) as server, opened(server) as origin:
        for _ in range(3):
            assert (await origin.listing(b"d")).entries
        assert len(gone) == 3


async def test_garbage_after_an_answer_does_not_reach_the_next_one() -> None:
    answers = {"/d/": ok(INDEX, HTML) + ok(b"", status="404 Not Found"), "/e/": ok(INDEX, HTML)}
    async with Hostile(answers) as server, opened(server) as origin:
        for directory in (b"d", b"e", b"d", b"e"):
            assert (await origin.listing(directory)).entries


async def test_odd_answers_are_not_asked_for_twice_for_ever() -> None:
    async with Hostile({"/d/": unframed(INDEX, HTML)}) as server, opened(server) as origin:
        for _ in range(20):
            assert (await origin.listing(b"d")).entries
        assert len(server.requests) < 1 + 20 + 8


async def test_an_origin_may_be_asked_for_another_listing_before_it_ever_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connecting, go_on, connected = asyncio.Event(), asyncio.Event(), Dialer._connected

    async def held(*how: Any) -> Any:
        connecting.set()
        await go_on.wait()
        return await connected(*how)

    monkeypatch.setattr(Dialer, "_connected", held)
    async with Hostile({"/1/": ok(INDEX, HTML)}) as server:
        origin = HttpOrigin(OriginSpec(server.url), Limits(connections=4, timeout=30.0), patience=PATIENT)
        first = asyncio.ensure_future(origin.listing(b"1"))
        await connecting.wait()
        assert await origin._pages._dialer.open(asyncio.Protocol) is None, "by the ordinary client"
        go_on.set()
        assert (await first).entries
        await origin.close()


async def test_no_more_at_once_than_allowed_and_nobody_is_left_out() -> None:
    three = asyncio.Event()

    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        if server.busiest == 3:
            three.set()
        await three.wait()
        writer.write(ok(INDEX, HTML))
        await writer.drain()

    async with Hostile({"/": ok(INDEX, HTML), "/d/": slow}) as server:
        origin = HttpOrigin(OriginSpec(server.url), Limits(connections=3, timeout=30.0), patience=PATIENT)
        await origin.listing(b"")
        found = await asyncio.gather(*(origin.listing(b"d") for _ in range(12)))
        await origin.close()
        assert all(listing.entries for listing in found)
        assert server.busiest == 3


@pytest.mark.parametrize("where", ["nothing", "header", "body"])
async def test_69_silence_ends_with_the_timeout(where: str) -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        answer = ok(INDEX, HTML)
        writer.write({"nothing": b"", "header": answer[:20], "body": answer[:-20]}[where])
        await writer.drain()
        await asyncio.sleep(3600)

    async with Hostile({"/d/": silent}) as server, opened(server, timeout=2.0) as origin:
        kind, words = (IncompleteListing, "silent for") if where == "body" else (Unreachable, "no answer in")
        with pytest.raises(kind, match=words):
            await origin.listing(b"d")
        assert (await origin.listing(b"")).entries


async def test_69_a_drip_is_not_waited_for() -> None:
    async def drip(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(INDEX, HTML, length=10**6))
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with Hostile({"/": ok(INDEX, HTML), "/d/": drip}) as server:
        patience = Patience(connect=20.0, low_rate=100_000, low_window=2.0)
        origin = HttpOrigin(OriginSpec(server.url), Limits(timeout=60.0), patience=patience)
        await origin.listing(b"")
        with pytest.raises(IncompleteListing, match="bytes/s"):
            await origin.listing(b"d")
        await origin.close()


async def test_68_an_endless_listing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.origin.http_pages.MAX_PACKED", 50_000)
    monkeypatch.setattr("cluster.origin.http_pages.MAX_LISTING", 100_000)

    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()

    async with Hostile({"/d/": endless}) as server, opened(server) as origin:
        with pytest.raises(TooLarge):
            await origin.listing(b"d")
        assert (await origin.listing(b"")).entries


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    arrived = asyncio.Event()

    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.sleep(3600)

    async with Hostile({"/d/": silent, "/f": ok(b"x")}) as server:
        server.answers["/"] = ok(INDEX, HTML)
        origin = HttpOrigin(OriginSpec(server.url), Limits(connections=1, timeout=60.0), patience=PATIENT)
        await origin.listing(b"")
        waiting = asyncio.create_task(origin.listing(b"d"))
        await arrived.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await received(origin, b"f", Want(size=1)) == b"x"
        assert (await origin.listing(b"")).entries
        await origin.close()


async def test_an_origin_that_goes_away_is_told_as_ever() -> None:
    async with Hostile({"/d/": ok(INDEX, HTML)}) as server:
        origin = HttpOrigin(OriginSpec(server.url), Limits(timeout=30.0), patience=PATIENT)
        await origin.listing(b"d")
        await origin.listing(b"d")
    with pytest.raises(Unreachable, match="refused"):
        await origin.listing(b"d")
    await origin.close()


async def test_over_tls_the_certificate_is_verified_on_these_connections_too(tmp_path: Path) -> None:
    ca, context = certificate(tmp_path, "127.0.0.1")
    answers = {"/d/": ok(INDEX, HTML), "/f": ok(b"x")}
    async with Hostile(answers, tls=context) as server, opened(server, ca=ca) as origin:
        for _ in range(3):
            assert (await origin.listing(b"d")).entries
        asked = [request for request in server.requests if request.method == "GET"]
        assert [request.connection for request in asked] == [1, 1, 1, 1]
        assert await received(origin, b"f") == b"x"
        by_the_ordinary_client = server.requests[-1].connection
        certificate(tmp_path, "127.0.0.1", days=2)
        context.load_cert_chain(tmp_path / "127.0.0.1-2.both")  # another one, for connections from now on
        server.answers["/d/"] = ok(INDEX, HTML, "Connection: close")
        await origin.listing(b"d")
        server.answers["/d/"] = ok(INDEX, HTML)
        assert (await origin.listing(b"d")).entries
        assert server.requests[-1].connection == by_the_ordinary_client, (
            "which was verified, and is still open"
        )


async def test_authorities_that_went_away_meanwhile_cost_neither_listing_nor_file(tmp_path: Path) -> None:
    ca, context = certificate(tmp_path, "127.0.0.1")
    answers = {"/d/": ok(INDEX, HTML), "/f": ok(b"x")}
    async with Hostile(answers, tls=context) as server, opened(server, ca=ca) as origin:
        Path(ca).unlink()
        for _ in range(2):
            assert (await origin.listing(b"d")).entries
        assert await received(origin, b"f") == b"x"


async def test_what_is_asked_plainly_does_without_the_ordinary_client() -> None:
    """Its import is a fifth of what a pass costs in which nothing changed."""
    code = """
import asyncio, sys
import cluster.daemon.foreground
from cluster.model import Limits, OriginSpec
from cluster.origin.http import HttpOrigin

async def listed():
    origin = HttpOrigin(OriginSpec(sys.argv[1]), Limits())
    print([entry.name for entry in (await origin.listing(b"")).entries], "aiohttp" in sys.modules)
    await origin.close()

asyncio.run(listed())
"""
    async with Hostile({"/": ok(INDEX, HTML)}) as server:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, server.url, stdout=subprocess.PIPE
        )
        out, _ = await program.communicate()
    assert out == b"[b'a.txt', b'b'] False\n"


# -- what arrives, in whatever pieces ---------------------------------------------------------------

BODIES = st.binary(max_size=300)


def _plain(body: bytes, sizes: list[int]) -> bytes:
    if not sizes:
        return ok(body, HTML)
    pieces, at = [], 0
    for size in sizes:
        pieces.append(body[at : at + size])
        at += size
    return chunked(*(piece for piece in (*pieces, body[at:]) if piece), headers=(HTML,))


@given(
    BODIES, st.lists(st.integers(1, 50), max_size=5), st.lists(st.integers(0, 400), max_size=8), st.binary()
)
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(
    body: bytes, sizes: list[int], cuts: list[int], rest: bytes
) -> None:
    wire = _plain(body, sizes) + rest
    answer, places = Answer(), [0, *sorted(cuts), len(wire)]
    after = b""
    for begin, end in pairwise(places):
        if answer.complete:
            after += wire[begin:end]
        else:
            answer.feed(wire[begin:end])
    assert (answer.complete, answer.status, answer.body) == (True, 200, body)
    assert answer.rest + after == rest and answer.received == len(body)
    assert answer.headers["content-type"] == "text/html"


@given(BODIES, st.lists(st.integers(1, 50), max_size=5), st.data())
def test_a_cut_answer_is_never_complete(body: bytes, sizes: list[int], data: st.DataObject) -> None:
    wire = _plain(body, sizes)
    answer = Answer()
    assert not answer.feed(wire[: data.draw(st.integers(0, len(wire) - 1))])
    assert body.startswith(answer.body)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_no_bytes_are_too_strange(noise: bytes, cuts: list[int]) -> None:
    answer = Answer()
    places = [0, *sorted(cuts), len(noise)]
    try:
        for begin, end in pairwise(places):
            if answer.feed(b"HTTP/1.1 200 OK\r\n" * (begin == 0) + noise[begin:end]):
                break
    except Odd:
        pass
