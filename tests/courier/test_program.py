"""The courier's program against servers that answer as they are told: what it takes, what it hands back."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from cluster.courier import program, wire
from cluster.courier.desk import BARREN, TRIES
from cluster.courier.head import MAX_HEADER, SKIPPED
from cluster.courier.program import DEPTH, GAIN, LEAST
from cluster.store import small
from tests.courier.errands import MTIME, Errands, fetched
from tests.origin.hostile import (
    NOT_FOUND,
    Answer,
    Handler,
    Hostile,
    Request,
    chunked,
    ok,
    redirect,
    reset,
    unframed,
)
from tests.origin.test_http_guard import certificate
from tests.servers import free_port

BODY = bytes(range(256)) * 4
SIZE = len(BODY)
SUNDAY = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"


def body_of(number: int) -> bytes:
    return b"%d " % number * (number % 50 + 1)


def plain(count: int) -> tuple[dict[str, Answer], list[tuple[str, int]]]:
    """So many files, each with a body of its own: the answers of a good server, and what to ask for."""
    answers: dict[str, Answer] = {f"/{i}": ok(body_of(i)) for i in range(count)}
    return answers, [(str(i), len(body_of(i))) for i in range(count)]


def bodies(files: Iterable[tuple[str, int]]) -> dict[str, bytes]:
    return {target: body_of(int(target)) for target, _ in files}


def slowly(answer: bytes, pause: float, pieces: int = 4) -> Handler:
    async def send(request: Request, writer: asyncio.StreamWriter) -> None:
        step = -(-len(answer) // pieces)
        for at in range(0, len(answer), step):
            writer.write(answer[at : at + step])
            await writer.drain()
            await asyncio.sleep(pause)

    return send


# -- the plain case


async def test_files_arrive_with_their_bytes_mode_and_time(tmp_path: Path) -> None:
    answers = {"/a": ok(BODY, 'ETag: "v1"', SUNDAY), "/b": ok(b"", 'ETag: W/"weak"'), "/c": ok(b"c")}
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, ("a", SIZE), ("b", 0), ("c", 1))
    assert found.arrived == {"a": BODY, "b": b"", "c": b"c"}
    assert found.told["a"][4:] == ('"v1"', 784_111_777)
    assert found.told["b"][4:] == (None, None)
    assert [found.told[target][2] for target in "abc"] == [784_111_777 * 10**9, MTIME, MTIME]
    assert {r.headers["host"] for r in server.requests} == {"origin"}


async def test_a_file_without_any_time_keeps_the_one_of_its_making(tmp_path: Path) -> None:
    async with Hostile({"/a": ok(BODY)}) as server, Errands(server.port, tmp_path) as errands:
        await errands.send([("a", SIZE)], mtime=None)
        found = await errands.outcome()
    assert abs(found.told["a"][2] / 10**9 - time.time()) < 60


async def test_many_errands_over_few_connections(tmp_path: Path) -> None:
    answers, files = plain(500)
    async with Hostile(answers) as server, Errands(server.port, tmp_path, connections=4) as errands:
        for start in range(0, 500, 100):
            await errands.send(files[start : start + 100])
        found = await errands.outcome()
    assert found.arrived == bodies(files)
    assert server.connections <= 4
    assert (len(server.requests), found.requests) == (500, 500)
    assert found.discarded == 0


async def test_a_second_request_waits_for_the_first_answer_and_many_for_many(tmp_path: Path) -> None:
    answers, files = plain(6 * DEPTH)
    seen: list[int] = []  # requests that are there before each answer

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = b""
        while data := await reader.read(2**16):
            await asyncio.sleep(0.05)
            *heads, held = (held + data).split(b"\r\n\r\n")
            seen.append(len(heads))
            writer.writelines(answers[head.split()[1].decode()] for head in heads)  # type: ignore[misc]
        writer.close()

    server = await asyncio.start_server(counting, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Errands(port, tmp_path) as errands:
        found = await fetched(errands, *files)
    server.close()
    assert found.arrived == bodies(files)
    assert seen[:2] == [1, LEAST]
    assert max(seen) == DEPTH
    assert all(asked <= max(LEAST, sum(seen[:at]) // GAIN) for at, asked in enumerate(seen) if at)


async def test_large_bodies_in_many_pieces(tmp_path: Path) -> None:
    large = os.urandom(256 * 2**10)
    answers: dict[str, Answer] = {f"/{i}": ok(large[: 2**18 - i]) for i in range(20)}
    async with Hostile(answers) as server, Errands(server.port, tmp_path, connections=2) as errands:
        found = await fetched(errands, *((str(i), 2**18 - i) for i in range(20)))
    assert found.arrived == {str(i): large[: 2**18 - i] for i in range(20)}


@pytest.mark.parametrize("cut", [1, 7, 16, 19, 60])
async def test_an_answer_may_come_in_pieces_cut_anywhere(tmp_path: Path, cut: int) -> None:
    answer = ok(BODY[:50])

    async def pieces(request: Request, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(answer), cut):
            writer.write(answer[at : at + cut])
            await asyncio.sleep(0.002)

    async with Hostile({"/a": pieces}) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, ("a", 50))
    assert found.arrived == {"a": BODY[:50]}


# -- answers that are not plain

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
ODD: dict[str, Answer] = {
    "chunked": chunked(b"hello"),
    "chunked and a length": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked, with a space": HEAD + b"Transfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "until the connection ends": unframed(b"hello"),
    "redirect": redirect("/elsewhere"),
    "early hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(b"hello"),
    "continue": b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n" + ok(b"hello"),
    "two lengths": HEAD + b"Content-Length: 5\r\n\r\nhello",
    "two lengths in one": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    "not HTTP": b"SSH-2.0-OpenSSH_9\r\n",
    "a tag as long as a book": ok(b"hello", 'ETag: "' + "x" * MAX_HEADER + '"'),
    "not HTTP, and much": b"x" * (2 * MAX_HEADER),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no status": b"HTTP/1.1 \r\nContent-Length: 5\r\n\r\nhello",
    "header without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * (2 * MAX_HEADER),
    "too long": ok(b"hello!"),
    "too short": ok(b"hell"),
    "length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "hexadecimal length": b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
    "no length at all": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
    "an endless length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 5000 + b"5\r\n\r\nhello",
    "superscript length": "HTTP/1.1 200 OK\r\nContent-Length: \u2075\r\n\r\nhello".encode(),
    "folded header": HEAD + b"X: a\r\n b: c\r\n\r\nhello",
    "folded first": b"HTTP/1.1 200 OK\r\n Content-Length: 5\r\n\r\nhello",
    "a line that is no field": HEAD + b"nonsense\r\n\r\nhello",
    "line feeds only": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "line feeds in between": b"HTTP/1.1 200 OK\r\nX: a\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 5\r\n\r\nhello",
    "a line feed at the end": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello",
    "a date that is none": ok(b"hello", "Last-Modified: yesterday"),
    "a month that is none": ok(b"hello", "Last-Modified: Sun, 06 Abc 1994 08:49:37 GMT"),
    "a date that is not ASCII": ok(b"hello", "Last-Modified: Sun, 06 Nov 1994 08:49:3\xb2 GMT"),
    "part": ok(b"hello", "Content-Range: bytes 0-4/5", status="206 Partial Content"),
    "no content": ok(b"", status="204 No Content"),
    "404 without a length": b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nno such file",
    "404 in chunks": b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    "404 with a length": ok(b"no such file", status="404 Not Found"),
    "404 without a body": NOT_FOUND,
    "404 and the end": ok(b"no such file", "Connection: close", status="404 Not Found"),
    "404 cut off": ok(b"no such file", status="404 Not Found", length=100),
    "403": ok(b"not for you", status="403 Forbidden"),
    "410": ok(b"gone", status="410 Gone"),
    "416": ok(b"hello", status="416 Range Not Satisfiable"),
    "401": ok(b"who are you", status="401 Unauthorized"),
    "a huge error page": ok(b"x" * (2 * SKIPPED), status="404 Not Found"),
    "an error page without end": ok(b"x" * 1000, status="404 Not Found", length=10**15),
}


@pytest.mark.parametrize("which", ODD)
async def test_what_is_not_plain_is_asked_for_alone_and_harms_nothing_else(
    tmp_path: Path, which: str
) -> None:
    answers, files = plain(40)
    answers["/odd"] = ODD[which]
    asked = [*files[:20], ("odd", 5), *files[20:]]
    began = time.monotonic()
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, *asked)
    assert found.alone == {"odd": wire.ODD}
    assert found.arrived == bodies(files)
    assert time.monotonic() - began < 3, "waited for what cannot come"


@pytest.mark.parametrize("which", ODD)
async def test_an_origin_that_never_answers_plainly_is_given_up_soon(tmp_path: Path, which: str) -> None:
    files = [(f"{i}", 5) for i in range(200)]
    answers = {f"/{i}": ODD[which] for i in range(200)}
    async with Hostile(answers) as server, Errands(server.port, tmp_path, connections=4) as errands:
        found = await fetched(errands, *files)
    assert not found.arrived and len(found.alone) == 200
    assert len(server.requests) <= 200 + TRIES * BARREN


async def test_an_origin_that_answers_every_second_file_oddly_is_not_asked_for_each_many_times(
    tmp_path: Path,
) -> None:
    answers, files = plain(400)
    for i in range(1, 400, 2):
        answers[f"/{i}"] = chunked(body_of(i))
    async with Hostile(answers) as server, Errands(server.port, tmp_path, connections=4) as errands:
        found = await fetched(errands, *files)
    assert len(found) == 400 and found.arrived
    assert len(server.requests) < 600


async def test_a_missing_file_costs_no_connection(tmp_path: Path) -> None:
    answers, files = plain(100)
    gone = {f"/{i}" for i in range(0, 100, 3)}
    answers |= {target: ok(b"no" * 100, status="404 Not Found") for target in gone}
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, *files)
    assert {f"/{target}" for target in found.alone} == gone
    assert (server.connections, len(server.requests)) == (1, 100)


@pytest.mark.parametrize("more", [ok(b"x" * SIZE), b"??"], ids=["another answer", "noise"])
async def test_what_follows_an_answer_unasked_is_no_answer_to_the_next_request(
    tmp_path: Path, more: bytes
) -> None:
    answers: dict[str, Answer] = {"/a": ok(BODY) + more, "/b": ok(BODY)}
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        for target in ("a", "b", "a", "b"):
            found = await fetched(errands, (target, SIZE))
            assert found.arrived == {target: BODY}
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("status", ["408 Timeout", "425 Too Early", "429 Slow Down", "500 Oops", "503 Later"])
async def test_an_origin_that_is_busy_is_asked_nothing_more(tmp_path: Path, status: str) -> None:
    answers, files = plain(200)
    answers["/100"] = ok(b"later", "Retry-After: 7", status=status)
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        await errands.send(files)
        found = await errands.outcome()
        asked = len(server.requests)
        late = await fetched(errands, *((f"late{i}", 5) for i in range(50)))
        assert len(server.requests) == asked, "what came afterwards was asked for"
    assert set(found.arrived) == {str(i) for i in range(100)}
    assert set(found.alone.values()) == {wire.BUSY}
    assert set(late.alone.values()) == {wire.BUSY}
    assert asked <= 100 + DEPTH


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"<html>",
    ],
)
async def test_what_is_no_http_is_not_waited_for(tmp_path: Path, answer: bytes) -> None:
    async def said(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await asyncio.sleep(30)

    began = time.monotonic()
    async with Hostile({"/odd": said, "/a": ok(b"a")}) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, ("a", 1), ("odd", 5), ("a", 1))
    assert found.alone == {"odd": wire.ODD}
    assert time.monotonic() - began < 3


# -- dates and tags that no store can keep


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"])
async def test_a_time_beyond_what_can_be_kept_is_for_others_to_judge(tmp_path: Path, date: str) -> None:
    answers, files = plain(20)
    answers["/odd"] = ok(b"hello", f"Last-Modified: {date}")
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, ("odd", 5), *files)
    assert found.alone == {"odd": wire.ODD}
    assert found.arrived == bodies(files)


async def test_a_listed_time_beyond_what_can_be_kept_is_set_as_far_as_it_can_be(tmp_path: Path) -> None:
    async with Hostile({"/a": ok(BODY)}) as server, Errands(server.port, tmp_path) as errands:
        await errands.send([("a", SIZE)], mtime=253_402_300_799 * 10**9)
        found = await errands.outcome()
    assert found.told["a"][2] < 2**63


async def test_a_tag_that_is_no_text_keeps_its_bytes(tmp_path: Path) -> None:
    answer = b'HTTP/1.1 200 OK\r\nETag: "\xff\xfe"\r\nContent-Length: 5\r\n\r\nhello'
    async with Hostile({"/a": answer}) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, ("a", 5))
    tag = found.told["a"][4]
    assert tag is not None
    assert tag.encode("utf-8", "surrogateescape") == b'"\xff\xfe"'


# -- connections that break


@pytest.mark.parametrize("hard", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("sent", [0, 10, 60, 500], ids=["nothing", "status", "header", "half"])
async def test_a_file_that_always_breaks_off_is_asked_for_alone(
    tmp_path: Path, hard: bool, sent: int
) -> None:
    answers, files = plain(60)

    async def cut(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY)[:sent])
        await writer.drain()
        await asyncio.sleep(0.02)
        if hard:
            reset(writer)

    answers["/odd"] = cut
    asked = [*files[:30], ("odd", SIZE), *files[30:]]
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, *asked)
    assert found.alone == {"odd": wire.ODD}
    assert found.arrived == bodies(files)
    assert [r.target for r in server.requests].count("/odd") <= TRIES + 1


@pytest.mark.parametrize("said", [True, False], ids=["said", "unsaid"])
@pytest.mark.parametrize("after", [1, 2, 7, 16])
async def test_a_server_that_closes_after_so_many_answers_delivers_all_the_same(
    tmp_path: Path, said: bool, after: int
) -> None:
    answers, files = plain(150)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for number in range(1, after + 1):
                head = await reader.readuntil(b"\r\n\r\n")
                answer = answers[head.split()[1].decode()]
                assert isinstance(answer, bytes)
                if said and number == after:
                    answer = answer.replace(b"OK\r\n", b"OK\r\nConnection: Close\r\n", 1)
                writer.write(answer)
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Errands(server.sockets[0].getsockname()[1], tmp_path, connections=2) as errands:
        found = await fetched(errands, *files)
    server.close()
    # What was in flight may be lost to the reset that follows unread requests, and is asked for again.
    assert len(found) == 150 and not found.failed
    assert found.arrived == {t: b for t, b in bodies(files).items() if t not in found.alone}
    assert len(found.arrived) >= (150 if said else 100)


async def test_a_reset_with_requests_in_flight_loses_none(tmp_path: Path) -> None:
    answers, files = plain(100)
    count = 0

    async def once(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        if count < 3:
            reset(writer)
            return
        writer.write(ok(body_of(50)))
        await writer.drain()

    answers["/50"] = once
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, *files)
    assert len(found) == 100 and not found.failed
    assert found.arrived == {t: b for t, b in bodies(files).items() if t not in found.alone}
    assert len(found.alone) <= 1


async def test_a_connection_that_was_closed_while_it_was_idle_is_no_failure(tmp_path: Path) -> None:
    async def once(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY))
        await writer.drain()
        await asyncio.sleep(0.03)  # and is closed behind our back

    async with Hostile({"/a": once}) as server, Errands(server.port, tmp_path) as errands:
        for _ in range(12):
            assert (await fetched(errands, ("a", SIZE))).arrived == {"a": BODY}
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("hard", [False, True], ids=["FIN", "RST"])
async def test_a_server_that_hangs_up_at_once_is_given_up(tmp_path: Path, hard: bool) -> None:
    connections = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if hard:
            reset(writer)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with Errands(server.sockets[0].getsockname()[1], tmp_path, connections=3) as errands:
        found = await fetched(errands, *((f"{i}", 5) for i in range(100)))
    server.close()
    assert len(found.alone) == 100
    assert connections <= BARREN + 3


async def test_a_connection_that_breaks_when_it_is_first_used_does_not_end_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and the first request there is no event that would tell of it."""
    answers, files = plain(40)
    times = 0
    real = program.Courier.send

    def send(self: program.Courier, connection: program.Connection) -> None:
        nonlocal times
        times += 1
        if times <= 2:
            self.broke(connection)
        else:
            real(self, connection)

    monkeypatch.setattr(program.Courier, "send", send)
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, *files)
    assert found.arrived == bodies(files)


async def test_files_that_are_lost_when_they_are_asked_for_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.Courier, "send", program.Courier.broke)
    async with Hostile({}) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, ("a", 5), ("b", 5))
    assert set(found.alone) == {"a", "b"}


# -- silence


@pytest.mark.parametrize(
    "sent", [0, 10, 60, 500], ids=["before", "in the status", "in the header", "in the body"]
)
async def test_silence_ends_at_the_limit(tmp_path: Path, sent: int) -> None:
    answers, files = plain(40)

    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(BODY)[:sent])
        await asyncio.sleep(10)

    answers["/odd"] = silent
    began = time.monotonic()
    async with Hostile(answers) as server, Errands(server.port, tmp_path, silence=0.5) as errands:
        found = await fetched(errands, *files[:20], ("odd", SIZE), *files[20:])
    assert found.alone == {"odd": wire.ODD}
    assert found.arrived == bodies(files)
    assert 0.4 < time.monotonic() - began < 3


async def test_a_trickle_is_no_answer(tmp_path: Path) -> None:
    answers: dict[str, Answer] = {"/odd": slowly(ok(BODY), 0.05, pieces=len(BODY)), "/a": ok(b"a")}
    began = time.monotonic()
    async with Hostile(answers) as server, Errands(server.port, tmp_path, silence=0.5) as errands:
        found = await fetched(errands, ("odd", SIZE), ("a", 1))
    assert (found.alone, found.arrived) == ({"odd": wire.ODD}, {"a": b"a"})
    assert time.monotonic() - began < 3


async def test_waiting_costs_no_processor_time(tmp_path: Path) -> None:
    """One connection in the silence of an origin that is allowed more time than a connection."""
    answers = {"/a": slowly(ok(BODY), 0.25)}
    async with (
        Hostile(answers) as server,
        Errands(server.port, tmp_path, connect=0.01, silence=5.0) as errands,
    ):
        turns = 0
        assign = errands.program.assign

        def counted() -> None:
            nonlocal turns
            turns += 1
            assign()

        errands.program.assign = counted  # type: ignore[method-assign]
        await fetched(errands, ("a", SIZE))
    assert turns < 20


# -- where to connect to


def closed_port() -> int:
    return free_port()


async def test_nobody_there(tmp_path: Path) -> None:
    async with Errands(closed_port(), tmp_path, connections=4) as errands:
        found = await fetched(errands, *((f"{i}", 5) for i in range(100)))
    assert set(found.alone.values()) == {wire.GONE} and len(found.alone) == 100


async def test_the_address_that_refuses_is_passed_over(tmp_path: Path) -> None:
    answers, files = plain(200)
    async with Hostile(answers) as server:
        addresses = [
            (int(socket.AF_INET), "127.0.0.2", closed_port()),
            (int(socket.AF_INET), "127.0.0.1", server.port),
        ]
        async with Errands(0, tmp_path, addresses=addresses, connections=4) as errands:
            found = await fetched(errands, *files)
    assert found.arrived == bodies(files)


async def test_an_address_of_a_family_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    answers, files = plain(40)
    async with Hostile(answers) as server:
        addresses = [(9999, "::1", 1), (int(socket.AF_INET), "127.0.0.1", server.port)]
        async with Errands(0, tmp_path, addresses=addresses, connections=2) as errands:
            found = await fetched(errands, *files)
    assert found.arrived == bodies(files)


async def test_an_address_that_does_not_answer_is_passed_over(tmp_path: Path) -> None:
    answers, files = plain(40)
    full = socket.socket()  # a queue of connections that nobody takes: more of them are not answered
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting = []
    for _ in range(3):
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(full.getsockname())
    try:
        async with Hostile(answers) as server:
            addresses = [
                (int(socket.AF_INET), *full.getsockname()),
                (int(socket.AF_INET), "127.0.0.1", server.port),
            ]
            async with Errands(0, tmp_path, addresses=addresses, connections=4, connect=0.4) as errands:
                found = await fetched(errands, *files)
    finally:
        for one in (full, *waiting):
            one.close()
    assert found.arrived == bodies(files)


async def test_requests_leave_from_the_address_that_was_given(tmp_path: Path) -> None:
    peers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"a"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Errands(server.sockets[0].getsockname()[1], tmp_path, bind="127.0.0.9") as errands:
        assert (await fetched(errands, ("a", 1))).arrived == {"a": b"a"}
    server.close()
    assert peers == ["127.0.0.9"]


async def test_over_ipv6(tmp_path: Path) -> None:
    answers, files = plain(40)
    async with Hostile(answers, host="::1") as server:
        addresses = [(int(socket.AF_INET6), "::1", server.port)]
        async with Errands(0, tmp_path, addresses=addresses, connections=2) as errands:
            found = await fetched(errands, *files)
    assert found.arrived == bodies(files)


async def test_no_more_connections_than_are_lent_now(tmp_path: Path) -> None:
    """They may become fewer between two errands."""
    answers, files = plain(300)
    async with Hostile(answers) as server, Errands(server.port, tmp_path, connections=4) as errands:
        await fetched(errands, *files)
        assert len({r.connection for r in server.requests}) == 4
        server.requests.clear()
        errands.connections = 1
        await fetched(errands, *files)
        assert len({r.connection for r in server.requests}) == 1


# -- TLS


@pytest.mark.parametrize("connections", [1, 4])
async def test_over_tls_every_file_arrives(tmp_path: Path, connections: int) -> None:
    ca, context = certificate(tmp_path, "127.0.0.1")
    (tmp_path / "t").mkdir()
    answers, files = plain(200)
    large = os.urandom(256 * 2**10)
    answers["/large"] = ok(large)
    async with (
        Hostile(answers, tls=context) as server,
        Errands(server.port, tmp_path / "t", connections=connections, tls=("127.0.0.1", ca)) as errands,
    ):
        found = await fetched(errands, ("large", len(large)), *files, ("large", len(large)))
        assert server.connections <= connections
    assert found.arrived == bodies(files) | {"large": large}
    assert not found.alone and len(server.requests) == found.requests == 202


async def test_over_tls_a_server_that_closes_after_some_answers_costs_no_file(tmp_path: Path) -> None:
    ca, context = certificate(tmp_path, "127.0.0.1")
    (tmp_path / "t").mkdir()
    answers, files = plain(60)
    for number in range(0, 60, 7):
        answers[f"/{number}"] = ok(body_of(number), "Connection: close")
    async with (
        Hostile(answers, tls=context) as server,
        Errands(server.port, tmp_path / "t", connections=2, tls=("127.0.0.1", ca)) as errands,
    ):
        found = await fetched(errands, *files)
    assert found.arrived == bodies(files)


@pytest.mark.parametrize("wrong", ["expired", "host", "self-signed", "no authorities", "no TLS"])
async def test_78_without_the_right_certificate_nothing_is_asked_for(tmp_path: Path, wrong: str) -> None:
    days = -5 if wrong == "expired" else 1
    ca, context = certificate(tmp_path, "127.0.0.9" if wrong == "host" else "127.0.0.1", days=days)
    (tmp_path / "t").mkdir()
    authorities = {"self-signed": None, "no authorities": str(tmp_path / "none")}.get(wrong, ca)
    answers, files = plain(20)
    async with (
        Hostile(answers, tls=None if wrong == "no TLS" else context) as server,
        Errands(server.port, tmp_path / "t", tls=("127.0.0.1", authorities)) as errands,
    ):
        found = await fetched(errands, *files)
        assert not server.requests
    assert found.alone == dict.fromkeys([target for target, _ in files], wire.GONE)


async def test_a_handshake_that_never_ends_is_given_up(tmp_path: Path) -> None:
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with Errands(port, tmp_path, connect=0.3, tls=("127.0.0.1", None)) as errands:
        found = await fetched(errands, ("a", 1))
    silent.close()
    assert found.alone == {"a": wire.GONE}


# -- this machine's disk


async def test_a_file_that_cannot_be_written_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = small.write

    def write(folder: int, temporary: bytes, *rest: object) -> object:
        if temporary == b"e1.3":
            raise OSError(errno.EIO, "planted")
        return real(folder, temporary, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(small, "write", write)
    answers, files = plain(20)
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, *files)
    assert found.failed == {"3": errno.EIO}
    assert len(found.arrived) == 19


async def test_a_name_that_is_there_already_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "e1.1").write_text("somebody's")
    answers, files = plain(3)
    async with Hostile(answers) as server, Errands(server.port, tmp_path) as errands:
        found = await fetched(errands, *files)
    assert found.failed == {"1": errno.EEXIST}
    assert (tmp_path / "e1.1").read_text() == "somebody's"


async def test_what_it_holds_of_a_hostile_origin_has_a_bound(tmp_path: Path) -> None:
    """Bodies without end, headers without end, answers that nobody asked for."""
    flood = b"x" * 2**20

    def pouring(head: bytes) -> Handler:
        async def pour(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(head)
            for _ in range(20):
                writer.write(flood)
                await writer.drain()

        return pour

    heads = [
        ok(length=10**15),
        b"HTTP/1.1 200 OK\r\nX: ",
        ok(b"hello"),
        ok(length=10**15, status="404 Not Found"),
    ]
    answers: dict[str, Answer] = {f"/{i}": pouring(head) for i, head in enumerate(heads)}
    most = 0
    async with Hostile(answers) as server, Errands(server.port, tmp_path, connections=4) as errands:
        take = errands.program.take

        def measured(connection: program.Connection) -> int:
            nonlocal most
            most = max(most, len(connection.received))
            return take(connection)

        errands.program.take = measured  # type: ignore[method-assign]
        found = await fetched(errands, *((str(i), 5) for i in range(len(heads))))
    assert len(found) == len(heads)
    assert most <= MAX_HEADER + 2 * program.READ
