"""Small files that are asked for without aiohttp: what is taken so, and what goes back to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from cluster.errors import Changed, OriginError, Refused, Unreachable, Vanished
from cluster.model import Limits, OriginSpec
from cluster.origin.base import Want
from cluster.origin.http import HttpOrigin
from cluster.origin.http_guard import Guard, GuardedResolver
from cluster.origin.http_plain import NotPlain, Plain
from cluster.origin.http_session import Patience
from tests.origin.conformance import received
from tests.origin.hostile import Answer, Hostile, Request, chunked, ok, redirect, reset, unframed

BODY = bytes(range(256)) * 40
SIZE = len(BODY)
WANT = Want(size=SIZE)


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    async with Hostile({"/proof": ok(b"p"), "/f": ok(BODY)}) as server:
        yield server


@pytest.fixture
async def origin(hostile: Hostile) -> AsyncIterator[HttpOrigin]:
    """An origin that has answered already."""
    spec = OriginSpec(hostile.url, private=True)
    opened = HttpOrigin(spec, Limits(timeout=0.5, connections=3), patience=Patience(connect=1.0))
    await received(opened, b"proof")
    hostile.requests.clear()
    yield opened
    await opened.close()


async def test_small_files_share_connections_of_their_own(hostile: Hostile, origin: HttpOrigin) -> None:
    for _ in range(4):
        assert await received(origin, b"f", WANT) == BODY
    assert await asyncio.gather(*(received(origin, b"f", WANT) for _ in range(12))) == [BODY] * 12
    assert {r.connection for r in hostile.requests} == {2, 3, 4}  # the first was aiohttp's
    assert origin.traffic.requests == 17
    assert origin.traffic.bytes == 16 * SIZE + 1


async def test_nothing_is_asked_so_before_the_origin_has_answered(hostile: Hostile) -> None:
    origin = HttpOrigin(OriginSpec(hostile.url, private=True), Limits())
    await received(origin, b"f", WANT)
    await received(origin, b"f", WANT)
    await received(origin, b"f", Want())  # of unknown size: on aiohttp's connection
    assert [r.connection for r in hostile.requests] == [1, 2, 1]
    await origin.close()


async def test_the_request_is_the_one_that_aiohttp_sends(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers["/a%20b/%C3%A9"] = ok(BODY)
    for want in (WANT, Want()):
        await received(origin, "a b/\u00e9".encode(), want)
    ours, theirs = hostile.requests
    assert ours[:3] == theirs[:3]


async def test_what_the_header_says_is_known_with_the_first_byte(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    hostile.answers["/f"] = ok(BODY, 'ETag: "v"', "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")
    async with origin.read(b"f", WANT) as body:
        assert (body.facts.size, body.facts.etag, body.start) == (SIZE, '"v"', 0)
        assert body.facts.mtime is not None
        assert body.facts.mtime.ns == 784_111_777 * 10**9


@pytest.mark.parametrize(
    "answer",
    [chunked(BODY), unframed(BODY), redirect("/elsewhere")],
    ids=["chunked", "until the connection ends", "redirect"],
)
async def test_an_origin_that_answers_otherwise_is_left_to_aiohttp(
    hostile: Hostile, origin: HttpOrigin, answer: bytes
) -> None:
    hostile.answers |= {"/f": answer, "/elsewhere": ok(BODY)}
    assert await received(origin, b"f", WANT) == BODY
    assert hostile.targets.count("GET /f") == 2
    assert await received(origin, b"f", WANT) == BODY
    assert hostile.targets.count("GET /f") == 3


@pytest.mark.parametrize(
    "answer",
    [
        [b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(BODY), ok(BODY)],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", ok(BODY)],
        [b"SSH-2.0-OpenSSH_9\r\n\r\n", ok(BODY)],
        [ok(BODY, "X: " + "x" * 300_000), ok(BODY)],
    ],
    ids=["early hints", "two lengths", "not HTTP", "header without end"],
)
async def test_a_strange_answer_is_asked_for_again_through_aiohttp(
    hostile: Hostile, origin: HttpOrigin, answer: Answer
) -> None:
    hostile.answers["/f"] = answer
    assert await received(origin, b"f", WANT) == BODY
    assert [r.target for r in hostile.requests] == ["/f", "/f"]
    assert await received(origin, b"f", WANT) == BODY
    assert len(hostile.requests) == 3  # it is no reason to give up small files


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (ok(b"no", status="404 Not Found"), Vanished, "404 Not Found"),
        (ok(b"no", "Retry-After: 7", status="503 Later"), Unreachable, "503 Later"),
        (ok(b"no", status="403 Forbidden"), Refused, "403 Forbidden"),
        (ok(BODY + b"x"), Changed, "10241 bytes arrive"),
        (ok(BODY[:-1]), Changed, "10239 bytes arrive"),
    ],
)
async def test_an_unwelcome_answer_is_judged_without_asking_twice(
    hostile: Hostile, origin: HttpOrigin, answer: bytes, error: type[OriginError], words: str
) -> None:
    hostile.answers["/f"] = answer
    with pytest.raises(error, match=words) as failed:
        await received(origin, b"f", WANT)
    assert failed.value.retry_after == (7 if "503" in words else None)
    assert hostile.targets == ["GET /f"]
    hostile.answers["/f"] = ok(BODY)
    assert await received(origin, b"f", WANT) == BODY


async def test_the_body_of_an_error_is_not_waited_for(hostile: Hostile, origin: HttpOrigin) -> None:
    hostile.answers["/f"] = ok(b"", status="404 Not Found", length=10**9)
    with pytest.raises(Vanished):
        await received(origin, b"f", WANT)


@pytest.mark.parametrize("hard", [False, True], ids=["FIN", "RST"])
async def test_a_body_that_breaks_off_is_worth_a_retry(
    hostile: Hostile, origin: HttpOrigin, hard: bool
) -> None:
    async def cut(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY[:6000], length=SIZE))
        await writer.drain()
        await asyncio.sleep(0.05)
        if hard:
            reset(writer)

    hostile.answers["/f"] = cut
    with pytest.raises(Unreachable, match="the connection broke after 6000 bytes") as failed:
        await received(origin, b"f", WANT)
    assert not failed.value.permanent


async def test_a_connection_that_was_closed_while_it_was_idle_is_no_failure(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    async def once(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY))
        await writer.drain()
        await asyncio.sleep(0.05)  # and is closed behind our back

    hostile.answers["/f"] = once
    assert await received(origin, b"f", WANT) == BODY
    await asyncio.sleep(0.1)
    hostile.answers["/f"] = ok(BODY)
    assert await received(origin, b"f", WANT) == BODY


async def test_a_connection_that_ends_with_our_request_is_asked_again(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    async def mute(request: Request, writer: asyncio.StreamWriter) -> None:
        hostile.answers["/f"] = ok(BODY)

    assert await received(origin, b"f", WANT) == BODY
    hostile.answers["/f"] = mute
    assert await received(origin, b"f", WANT) == BODY
    assert len(hostile.requests) == 3


async def test_a_new_connection_that_says_nothing_is_the_origins_failure(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    async def mute(request: Request, writer: asyncio.StreamWriter) -> None:
        pass

    hostile.answers["/f"] = mute
    with pytest.raises(Unreachable, match="closed without an answer"):
        await received(origin, b"f", WANT)
    assert len(hostile.requests) == 1


@pytest.mark.parametrize("more", [ok(b"x" * SIZE), b"??"], ids=["another answer", "noise"])
async def test_what_follows_an_answer_unasked_is_no_answer_to_the_next_request(
    hostile: Hostile, origin: HttpOrigin, more: bytes
) -> None:
    hostile.answers["/f"] = ok(BODY) + more
    for _ in range(3):
        assert await received(origin, b"f", WANT) == BODY
    assert len({r.connection for r in hostile.requests}) == 3


@pytest.mark.parametrize("before", [b"", ok(BODY[:100], length=SIZE)], ids=["no answer", "half an answer"])
async def test_silence_ends_at_the_limit(hostile: Hostile, origin: HttpOrigin, before: bytes) -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(before)
        await asyncio.sleep(5)

    hostile.answers["/f"] = silent
    with pytest.raises(Unreachable, match="silent for 0.5 s" if before else "no answer in 0.5 s"):
        await received(origin, b"f", WANT)
    hostile.answers["/f"] = ok(BODY)
    assert await received(origin, b"f", WANT) == BODY


async def test_a_reader_that_leaves_early_costs_the_connection_and_nothing_else(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY[:100], length=SIZE))
        await writer.drain()
        await asyncio.sleep(5)

    hostile.answers["/f"] = slow
    async with origin.read(b"f", WANT) as body:
        async for _ in body.chunks():
            break
    hostile.answers["/f"] = ok(BODY)
    assert await received(origin, b"f", WANT) == BODY
    first, second = hostile.requests
    assert first.connection != second.connection


async def test_a_cancelled_request_leaves_no_connection_that_would_answer_the_next(
    hostile: Hostile, origin: HttpOrigin
) -> None:
    async def late(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(ok(b"y" * SIZE))

    hostile.answers |= {"/late": late}
    asked = asyncio.create_task(received(origin, b"late", WANT))
    await asyncio.sleep(0.05)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert await received(origin, b"f", WANT) == BODY


class _Leading(AbstractResolver):
    """Every name leads to this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("judged", ["by the resolver", "at the socket"])
async def test_73_a_name_that_leads_inside_is_not_connected_to(hostile: Hostile, judged: str) -> None:
    base = URL(f"http://mirror.example:{hostile.port}/")
    guard = Guard(OriginSpec(str(base)), base)
    resolver: AbstractResolver = _Leading()
    if judged == "by the resolver":
        resolver = GuardedResolver(resolver, guard, 1.0)
    plain = Plain(base, {}, resolver=resolver, guard=guard, bind=None, patience=1.0)
    with pytest.raises(NotPlain):
        await plain.connection()
    assert hostile.connections == 0


async def test_names_and_credentials_are_those_of_the_origin(hostile: Hostile) -> None:
    base = URL(f"http://mirror.example:{hostile.port}/pub/")
    guard = Guard(OriginSpec(str(base), private=True), base)
    plain = Plain(
        base, {"Authorization": "Basic x"}, resolver=_Leading(), guard=guard, bind=None, patience=1.0
    )
    hostile.answers["/pub/f"] = ok(BODY)
    connection = await plain.connection()
    exchange = await connection.ask(plain.request("f"))
    assert await exchange.readany() == BODY
    (request,) = hostile.requests
    assert request.headers == {"host": f"mirror.example:{hostile.port}", "authorization": "Basic x"}
    exchange.release()
    assert await plain.connection() is connection
    plain.close()
