"""What a sibling that breaks the rules, is slow or dead costs the one who asks (HAZARDS 125, 129, 132)."""

import asyncio
import contextlib
import gzip
import resource
import time

import msgpack
import pytest

from cluster.errors import PeerBroke, PeerError, PeerSilent
from cluster.model import Kind, Offer, Row
from cluster.origin.base import Want
from cluster.peer import wire
from tests.peer.cluster import Station, held, running
from tests.peer.hostile import always, hostile, nothing, pretending, whole

OFFER = Offer(b"a", Kind.FILE, 10, bytes(32))


async def read(sibling, offer=OFFER, **want) -> bytes:
    async with sibling.read("debian", b"a", offer, Want(**want)) as body:
        return b"".join([chunk async for chunk in body.chunks()])


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 2000,
        b"\x80" * 2**20,
        b"\xdc\x27\x10" + (b"\xdc\x27\x10" + b"\x80" * 10_000) * 104,
        b"x" * 16 * 2**20,
        b"",
        msgpack.packb({"v": [1, 0], "held": [[b"../x"]]}),
        msgpack.packb({"v": [2, 0]}),
        msgpack.packb({"v": [1, 0], "known": True, "more": True, "claims": [], "held": []}),
    ],
    ids=["huge array", "deep", "maps", "many values", "16 MiB", "nothing", "bad name", "major 2", "endless"],
)
async def test_an_answer_that_is_no_page_is_refused_within_bounds(cluster, body):
    """HAZARDS 125."""
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(body))):
        sibling = await kent.meets("oslo")
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with pytest.raises(PeerBroke, match=r"^oslo: "):
            await sibling.offered("debian", b"", 5.0)
        assert time.process_time() - started < 1.0
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


async def test_an_answer_without_end_is_left_after_a_mebibyte(cluster):
    """HAZARDS 125."""
    sent = 0

    async def endless(target, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            await writer.drain()
            sent += 65_536

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", endless):
        sibling = await kent.meets("oslo")
        with pytest.raises(PeerBroke, match="more than 1048576 bytes"):
            await sibling.offered("debian", b"", 5.0)
        assert sent < 20_000_000


QUESTIONS = {
    "offered": lambda oslo: oslo.offered("debian", b"", 30.0),
    "mirrors": lambda oslo: oslo.mirrors(30.0),
    "journal": lambda oslo: oslo.journal("debian", 0, "", patience=30.0),
    "digests": lambda oslo: oslo.digests("debian", b"", 30.0),
    "listing": lambda oslo: oslo.listing("debian", b"", "http://o.example/", 60.0, b"", 30.0),
    "agreement": lambda oslo: oslo.agreement("debian", b"", "http://o.example/", b"", b"", 30.0),
    "parts": lambda oslo: oslo.parts("debian", b"a", 10, "modified:0", 30.0),
    "wake": lambda oslo: oslo.wake("debian", patience=30.0),
    "bundle": lambda oslo: bundled(oslo),
    "file": lambda oslo: read(oslo),
    "part": lambda oslo: parted(oslo),
    "blocks": lambda oslo: newer(oslo).blocks(),
    "sums": lambda oslo: newer(oslo).sums(512, [(0, 2)]),
    "pieces": lambda oslo: pieced(oslo),
    "line": lambda oslo: lined(oslo),
}


async def bundled(sibling) -> list[object]:
    return [one async for one in sibling.bundle("debian", [], 30.0)]


async def parted(sibling) -> None:
    async with sibling.part("debian", b"a", 2**20, '"tag"', 0, 2**20) as body:
        async for _ in body.chunks():
            pass


def newer(sibling):
    return sibling.newer("debian", b"a", Offer(b"a", Kind.FILE, 2**24, bytes(32)))


async def pieced(sibling) -> list[bytes]:
    return [piece async for piece in newer(sibling).pieces([(0, 100)])]


async def lined(sibling) -> None:
    async with sibling.link.dialled():
        pass


HEADERS = {
    "declared": "Content-Length: 1000000000",
    "chunked": "Transfer-Encoding: chunked",
    "gzip": "Content-Length: 1000000000\r\nContent-Encoding: gzip",
    "unending": "Connection: close",
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
async def test_a_gigabyte_in_answer_to_any_question_is_left_within_bounds(cluster, question, header):
    """HAZARDS 125."""
    sent = 0
    piece = b"\xdd" * 65_536

    async def gigabyte(target, writer):
        nonlocal sent
        writer.write(f"HTTP/1.1 200 OK\r\n{header}\r\n\r\n".encode())
        while sent < 10**9:
            writer.write(b"10000\r\n" + piece + b"\r\n" if "chunked" in header else piece)
            await writer.drain()
            sent += len(piece)

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", gigabyte):
        sibling = await kent.meets("oslo")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(PeerError, match=r"^oslo: "):
            await QUESTIONS[question](sibling)
        assert sent < 40_000_000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


async def test_three_answers_of_a_gigabyte_set_a_sibling_aside(cluster, caplog):
    """HAZARDS 125."""
    flood = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"\xdd" * 2**21
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(flood)) as asked:
        sibling = await kent.meets("oslo")
        for _ in range(3):
            with pytest.raises(PeerBroke, match="more than 1048576 bytes"):
                await sibling.offered("debian", b"", 30.0)
        with pytest.raises(PeerSilent):
            await sibling.offered("debian", b"", 30.0)
        assert not sibling.up and len(asked) == 3
        assert [line for line in caplog.messages if "oslo" in line and "1048576" in line]


GZIPPED = gzip.compress(wire.page([], [], known=True, more=False))


async def test_an_answer_that_is_packed_is_not_unpacked(cluster):
    """Nobody asks for it, and a kilobyte could stand for a gigabyte."""
    answer = always(whole(GZIPPED, headers="Content-Encoding: gzip\r\n"))
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", answer):
        sibling = await kent.meets("oslo")
        with pytest.raises(PeerBroke):
            await sibling.offered("debian", b"", 30.0)


async def test_a_greeting_of_a_gigabyte_is_left_within_bounds(cluster):
    """HAZARDS 125."""
    sent = 0

    async def serve(reader, writer):
        nonlocal sent
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while sent < 10**9:
                writer.write(b"\xdd" * 65_536)
                await writer.drain()
                sent += 65_536
        writer.transport.abort()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with pretending(cluster, "oslo", serve):
        kent = Station(cluster.sites["kent"], cluster)
        kent.siblings.start()
        try:
            async with asyncio.timeout(60):
                while "more than 1048576 bytes" not in kent.sibling("oslo").trouble:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert not kent.sibling("oslo").up
        finally:
            await kent.siblings.stop()
    assert sent < 40_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


async def test_pages_without_end_are_left_when_patience_ends(cluster):
    count = 0

    async def page(target, writer):
        nonlocal count
        count += 1
        writer.write(whole(wire.page([held(b"%09d" % count)], [], known=True, more=True)))
        await asyncio.sleep(0.02)

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", page):
        sibling = await kent.meets("oslo")
        started = time.perf_counter()
        offered = await sibling.offered("debian", b"", 0.5)
        assert 1 < len(offered.held) <= count
        assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (whole(b"x" * 9), "announces 9 bytes, offered were 10"),
        (whole(b"x" * 11), "announces 11 bytes"),
        (whole(b"x" * 5, "206 Partial Content", "Content-Range: bytes 0-4/10\r\n"), "another range"),
        (whole(b"x" * 5, "206 Partial Content"), "another range"),
        (whole(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"), "302"),
        (whole(b"no\nway\x1b[31m", "500 Oops"), "500 no"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nxxxx\r\n0\r\n\r\n", "announces None"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 12\r\n\r\nxxxxxxxxxx", "oslo: "),
        (b"\x00\x01garbage\r\n\r\n", "oslo: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_body_that_is_not_the_offered_one_is_refused(cluster, answer, says):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(answer)):
        sibling = await kent.meets("oslo")
        with pytest.raises(PeerError, match=says) as caught:
            await read(sibling, limit=100)
        assert "\n" not in str(caught.value)
        assert "\x1b" not in str(caught.value)


async def test_a_body_that_ends_early_is_never_whole(cluster):
    async def cut(target, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nxxxx")
        await writer.drain()
        writer.close()

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", cut):
        sibling = await kent.meets("oslo")
        with pytest.raises(PeerSilent):
            await read(sibling)


async def test_a_body_whose_connection_was_dropped_between_two_reads_has_ended_early(cluster):
    """Somebody else found the sibling silent while what had come of this body was being written."""
    served = asyncio.Event()

    async def half(target, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nxxxx")
        await writer.drain()
        await served.wait()

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", half):
        sibling = await kent.meets("oslo")
        with pytest.raises(PeerSilent):
            async with sibling.read("debian", b"a", OFFER, Want()) as body:
                async for _ in body.chunks():
                    sibling.link._discard()
                    await asyncio.gather(*sibling.link._closing)
        served.set()


async def test_silence_costs_everybody_their_patience_once(cluster):
    """HAZARDS 129: what waits fails together, what comes later fails at once."""
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", nothing):
        sibling = await kent.meets("oslo")
        sibling.link.patience = 30.0
        started = time.perf_counter()
        waiting = [sibling.offered("debian", b"%d" % n, 0.5 if n == 0 else 60.0) for n in range(5)]
        waiting += [read(sibling) for _ in range(9)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, PeerSilent) for result in results), results
        assert 0.4 < time.perf_counter() - started < 1.5
        assert sibling.link.breaker.closed(time.monotonic())  # one incident, not fourteen
        started = time.perf_counter()
        with pytest.raises(PeerSilent):
            await sibling.offered("debian", b"", 60.0)
        assert time.perf_counter() - started < 0.1


async def test_a_sibling_that_greets_and_never_answers_is_given_up_after_three_tries(cluster):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", nothing) as asked:
        for _ in range(3):
            sibling = await kent.meets("oslo")
            with pytest.raises(PeerSilent):
                await sibling.offered("debian", b"", 0.2)
        await asyncio.sleep(1.0)
        assert not sibling.up
        assert 50 < sibling.link.breaker.wait(time.monotonic()) <= 60
        assert len(asked) == 3


async def test_a_sibling_at_a_kilobyte_a_second_is_left(cluster):
    async def drip(target, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
        while True:
            writer.write(b"x" * 100)
            await writer.drain()
            await asyncio.sleep(0.1)

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", drip):
        sibling = await kent.meets("oslo")
        sibling.link.window = 1.0
        started = time.perf_counter()
        with pytest.raises(PeerSilent, match="slower than 64 KiB/s"):
            await read(sibling, Offer(b"a", Kind.FILE, 10_000_000, bytes(32)))
        assert time.perf_counter() - started < 2.0
        assert sibling.up  # once is no proof


async def test_a_slow_disk_of_ours_is_not_the_siblings_fault(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.files.put(b"a", b"x" * 20_000_000)
        sibling = await kent.meets("oslo")
        sibling.link.window = 0.2
        offer = (await sibling.offered("debian", b"", 2.0)).held[b"a"]
        received = 0
        async with sibling.read("debian", b"a", offer, Want()) as body:
            async for chunk in body.chunks():
                received += len(chunk)
                if received < 4_000_000:
                    await asyncio.sleep(0.1)
        assert received == 20_000_000


@pytest.mark.parametrize(
    ("hello", "says"),
    [
        (wire.hello(wire.Hello("kent", "test", 8)), "says it is kent of test"),
        (wire.hello(wire.Hello("oslo", "other", 8)), "says it is oslo of other"),
        (msgpack.packb({"v": [2, 0]}), "version 2 of the peer protocol, this program speaks 1"),
        (b"<html>", "message"),
    ],
    ids=["another site", "another cluster", "a major version ahead", "no message"],
)
async def test_who_is_not_what_we_expect_stays_down(cluster, caplog, hello, says):
    """HAZARDS 132."""
    async with hostile(cluster, "oslo", nothing, hello):
        kent = Station(cluster.sites["kent"], cluster)
        kent.siblings.start()
        try:
            await asyncio.sleep(0.5)
            assert not kent.sibling("oslo").up
            assert says in kent.sibling("oslo").trouble
        finally:
            await kent.siblings.stop()


async def test_a_minor_version_ahead_is_welcome(cluster):
    hello = msgpack.packb({"v": [1, 9], "site": "oslo", "cluster": "test", "streams": 8, "mood": "good"})
    page = msgpack.packb({"v": [1, 9], "known": True, "more": False, "claims": [], "held": [], "new": {}})
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(page)), hello):
        sibling = await kent.meets("oslo")
        assert (await sibling.offered("debian", b"", 2.0)).known


async def test_nobody_asks_on_anothers_behalf(cluster):
    """HAZARDS 128: three sites that all lack a file; each question ends where it was asked."""
    async with running(cluster) as stations:
        for asking in stations:
            for name in cluster.sites:
                if name != asking.site.name:
                    sibling = await asking.meets(name)
                    assert not (await sibling.offered("debian", b"pool", 2.0)).held
        assert [s.sibling(n).traffic.requests for s in stations for n in s.siblings.all] == [1] * 6
        asking = stations[0]
        asking.claims.claim("debian", b"pool", b"a", Row(), 0.0)
        for name in asking.siblings.all:
            assert not (await asking.sibling(name).offered("debian", b"pool", 2.0)).claims
        assert [s.sibling(n).traffic.requests for s in stations[1:] for n in s.siblings.all] == [1] * 4
