"""Bundles that the carrier's process takes: what a sibling may do to it, and what it does to the sibling.

What bundles are in either way is in `test_bundles.py`.
"""

import asyncio
import errno
import os
import signal
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.courier.carrier import CarrierGone
from cluster.courier.response import Response, Unframed
from cluster.errors import PeerBroke, PeerLacks, PeerSilent
from cluster.model import Held
from cluster.peer import bundlewire
from cluster.peer.client import Unwritten
from tests.peer.carried import Carried
from tests.peer.cluster import free_port, held, running, with_keys
from tests.peer.hostile import always, hostile, nothing, whole
from tests.peer.test_bundles import asked_for, head, sizes_of, wish

FILES = [held(b"f%d" % n, b"body %d" % n) for n in range(3)]
BODIES = {n: b"body %d" % n for n in range(3)}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def carried(tmp_path):
    async with Carried(tmp_path / "taken") as one:
        yield one


def answer_of(files: list[Held], bodies: dict[int, bytes]) -> bytes:
    return head(files) + bundlewire.group(bodies.items()) + bundlewire.last(len(bodies))


GOOD = answer_of(FILES, BODIES)


def chunks(data: bytes, size: int) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


# -- framing


@given(
    st.binary(max_size=300),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["chunks", "length", "end"]),
)
@settings(deadline=None)
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(body, size, step, framing):
    if framing == "chunks":
        data = CHUNKED + chunks(body, size)
    else:
        length = b"Content-Length: %d\r\n" % len(body) if framing == "length" else b""
        data = b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body
    response, got = Response(), b""
    for at in range(0, len(data), step):
        assert not response.complete
        got += b"".join(response.feed(data[at : at + step]))
    assert response.ended() and got == body and response.status == 200
    assert response.keep == (framing != "end")


@given(st.binary(max_size=200), st.integers(1, 50), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", CHUNKED]))
@settings(deadline=None)
def test_random_bytes_are_no_answer_or_wait_for_more(data, step, begun):
    response = Response()
    try:
        for at in range(0, len(begun + data), step):
            response.feed((begun + data)[at : at + step])
    except Unframed:
        pass


UNFRAMED = {
    "no HTTP": b"SSH-2.0-x\r\n",
    "another version": whole(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "header without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "another coding": whole(GOOD, headers="Content-Encoding: gzip\r\n"),
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "a field that is none": b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
    "a folded field": b"HTTP/1.1 200 OK\r\nX: a\r\n b: c\r\nContent-Length: 1\r\n\r\n",
    "no chunk": CHUNKED + b"zz\r\n",
    "a chunk's line without end": CHUNKED + b"1;" + b"x" * 300,
    "a chunk of another size": CHUNKED + b"1\r\nxyz\r\n",
    "fields after the chunks": CHUNKED + b"0\r\nX: y\r\n\r\n",
    "early hints": b"HTTP/1.1 103 Early Hints\r\n\r\n",
}


@pytest.mark.parametrize("raw", UNFRAMED.values(), ids=UNFRAMED)
def test_framing_that_leaves_a_doubt_is_refused(raw):
    with pytest.raises(Unframed):
        Response().feed(raw)


# -- what a sibling may do


@pytest.mark.parametrize("size", [1, 10_000])
async def test_chunks_of_any_size_bring_the_same_files(cluster, carried, size):
    async with (
        running(cluster, "kent") as (kent,),
        hostile(cluster, "oslo", always(CHUNKED + chunks(GOOD, size))),
    ):
        _, got = await carried.bundle(await kent.meets("oslo"), asked_for(*FILES))
        assert got == BODIES


BROKEN = {
    "framing": UNFRAMED["two lengths"],
    "no end": whole(head(FILES)),
    "goes on": whole(GOOD + b"x"),
    "counts wrongly": whole(head(FILES) + bundlewire.last(1)),
    "an unknown place": whole(head(FILES) + bundlewire.group([(7, b"x")])),
    "backwards": whole(head(FILES) + bundlewire.group([(1, BODIES[1]), (0, BODIES[0])])),
    "a place that is none": whole(head(FILES) + b"\x00\x00\x00\x02\x91\xc3"),
    "fewer places than it says": whole(head(FILES) + b"\x00\x00\x00\x02\x92\x00"),
    "a group's header without end": whole(head(FILES) + b"\x7f\xff\xff\xff"),
    "an error": whole(b"no", "500 Broken"),
    "a redirect": whole(b"", "302 Found", "Location: https://127.0.0.1:1/\r\n"),
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
async def test_what_breaks_the_protocol_is_a_fault_of_the_sibling(cluster, carried, raw):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(raw)):
        sibling = await kent.meets("oslo")
        for _ in range(3):
            with pytest.raises(PeerBroke):
                await carried.bundle(sibling, asked_for(*FILES))
        assert not sibling.up


async def test_bytes_that_are_not_what_was_promised_are_never_written(cluster, carried):
    lie = answer_of(FILES, BODIES | {1: b"lies 1"})
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(lie))):
        sibling = await kent.meets("oslo")
        _, got = await carried.bundle(sibling, asked_for(*FILES))
        assert got == {0: BODIES[0]}
        assert not sibling.up and "digest" in sibling.trouble


async def test_what_was_offered_and_is_not_wanted_is_read_over(cluster, carried):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(GOOD))):
        sibling = await kent.meets("oslo")
        async with sibling.carried("debian", asked_for(*FILES), 60.0, carried.carrier) as answer:
            assert [one async for one in answer.files(b"none", [])] == []
        assert sibling.up


async def test_a_sibling_sends_no_more_than_a_bundle_may_hold(cluster, carried):
    files = sizes_of(*[2**20] * 5)
    raw = head(files) + bundlewire.group([(n, b"") for n in range(5)])
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(raw))):
        with pytest.raises(PeerBroke, match="4194304 bytes in a group"):
            await carried.bundle(await kent.meets("oslo"), asked_for(*files))


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_who_cannot_answer_now_is_silent(cluster, carried, status):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(b"later", status))):
        with pytest.raises(PeerSilent, match=rf"{status[:3]} later"):
            await carried.bundle(await kent.meets("oslo"), asked_for(*FILES))


async def test_who_does_not_answer_costs_the_patience_and_is_down(cluster, carried):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", nothing):
        sibling = await kent.meets("oslo")
        with pytest.raises(PeerSilent, match=r"0\.2 s"):
            await carried.bundle(sibling, asked_for(*FILES), patience=0.2)
        assert not sibling.up


async def test_every_wait_for_a_sibling_ends_when_it_is_declared_silent(cluster, carried):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", nothing):
        sibling = await kent.meets("oslo")
        asking = [
            asyncio.create_task(carried.bundle(sibling, asked_for(*FILES), patience=patience))
            for patience in (0.3, 3600.0)
        ]
        async with asyncio.timeout(50):
            for task in asking:
                with pytest.raises(PeerSilent):
                    await task


async def test_who_stops_in_the_middle_is_waited_for_as_long_as_the_window(cluster, carried):
    async def answer(target, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + GOOD[:-10])
        await writer.drain()
        await asyncio.sleep(3600)

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", answer):
        sibling, got = await kent.meets("oslo"), {}
        sibling.link.window = 0.5
        with pytest.raises(PeerSilent, match=r"0\.5 s"):
            await carried.bundle(sibling, asked_for(*FILES), got)
        assert got == BODIES


async def test_who_drips_is_too_slow(cluster, carried):
    files = [held(b"f", bytes(2**18))]

    async def answer(target, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + head(files))
        writer.write(bundlewire.group([(0, bytes(2**18))])[:10])
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", answer):
        sibling = await kent.meets("oslo")
        sibling.link.window = 1.0
        with pytest.raises(PeerSilent, match="slower than 64 KiB/s"):
            await carried.bundle(sibling, asked_for(*files))


async def test_what_came_before_a_break_is_there(cluster, carried):
    async def answer(target, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + head(FILES))
        writer.write(bundlewire.group([(0, BODIES[0]), (1, BODIES[1])])[:-3])
        await writer.drain()
        raise OSError

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", answer):
        got = {}
        with pytest.raises(PeerSilent, match="cut off"):
            await carried.bundle(await kent.meets("oslo"), asked_for(*FILES), got)
        assert got == {0: BODIES[0]}


async def test_who_has_another_certificate_than_the_known_one_is_not_asked(cluster, carried, tmp_path):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(GOOD))) as asked:
        sibling = await kent.meets("oslo")
        other = replace(cluster.sites["oslo"], state=str(tmp_path / "other"))
        other = replace(
            other, peer=replace(other.peer, certificate_file=str(tmp_path / "other.pem"), certificates=())
        )
        sibling.link._trusted = with_keys(other).peer.certificates
        with pytest.raises(PeerBroke, match="not the one we know"):
            await carried.bundle(sibling, asked_for(*FILES))
        assert asked == []


async def test_where_nobody_listens_any_more_the_sibling_is_down(cluster, carried):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(GOOD))):
        sibling = await kent.meets("oslo")
        sibling.link._base = f"https://127.0.0.1:{free_port()}"
        with pytest.raises(PeerSilent, match="Connection refused"):
            await carried.bundle(sibling, asked_for(*FILES))
        assert sibling.link.refused


async def test_an_address_that_does_not_answer_is_followed_by_the_next(cluster, carried):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(GOOD))):
        sibling = await kent.meets("oslo")
        addresses = (await sibling.link.place())[0]
        dead = addresses[0][0], ("127.0.0.1", free_port())
        sibling.link._addresses = (dead, *addresses)
        assert (await carried.bundle(sibling, asked_for(*FILES)))[1] == BODIES


# -- connections


async def test_questions_to_one_sibling_share_a_connection_while_it_is_kept(cluster, carried):
    seen = []

    async def answer(target, writer):
        seen.append(writer.get_extra_info("peername"))
        writer.write(whole(GOOD))

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", answer):
        sibling = await kent.meets("oslo")
        for _ in range(3):
            assert (await carried.bundle(sibling, asked_for(*FILES)))[1] == BODIES
        assert len(seen) == 3 and len(set(seen)) == 1


async def test_a_connection_that_was_closed_meanwhile_is_nobodys_fault(cluster, carried):
    """As long as nothing of an answer has come: then the question is asked once more."""
    count = 0

    async def answer(target, writer):
        nonlocal count
        count += 1
        if count == 2:
            raise OSError
        writer.write(whole(GOOD))

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", answer):
        sibling = await kent.meets("oslo")
        for _ in range(3):
            assert (await carried.bundle(sibling, asked_for(*FILES)))[1] == BODIES
        assert count == 4 and sibling.up


async def test_several_siblings_are_read_at_once(cluster, carried):
    async with running(cluster) as stations:
        kent, *others = stations
        for station in others:
            for n in range(300):
                station.files.put(b"f%d" % n, b"%s %d" % (station.site.name.encode(), n))
        siblings = [(station, await kent.meets(station.site.name)) for station in others for _ in range(2)]
        answers = await asyncio.gather(
            *(
                carried.bundle(sibling, [wish(station, b"f%d" % n) for n in range(300)])
                for station, sibling in siblings
            )
        )
        names = [sibling.name.encode() for _, sibling in siblings]
        for name, (_, got) in zip(names, answers, strict=True):
            assert got == {n: b"%s %d" % (name, n) for n in range(300)}


async def test_nothing_is_read_before_it_is_known_what_is_wanted(cluster, carried):
    """What a sibling sends meanwhile fills the connection, not this machine's memory."""
    files, sent = sizes_of(*[2**20] * 60), 0

    async def answer(target, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n" + head(files))
        for n in range(60):
            writer.write(bundlewire.group([(n, bytes(2**20))]))
            await writer.drain()
            sent = n

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", answer):
        sibling = await kent.meets("oslo")
        async with sibling.carried("debian", asked_for(*files), 60.0, carried.carrier):
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 40


async def test_a_question_that_is_given_up_leaves_nothing_and_blames_nobody(cluster, carried):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        for n in range(20):
            lancaster.files.put(b"f%02d" % n, b"x" * 2**20)
        sibling = await kent.meets("lancaster")
        asked = [wish(lancaster, b"f%02d" % n) for n in range(20)]
        for _ in range(10):  # more than there are connections
            async with sibling.carried("debian", asked, 60.0, carried.carrier) as answer:
                assert len(answer.told.held) == 20
        assert sibling.up
        assert len((await carried.bundle(sibling, asked))[1]) == 20


# -- the machine


async def test_a_file_that_cannot_be_written_is_told_with_its_reason(cluster, carried):
    (carried.folder / "t1.1").write_bytes(b"in the way")
    carried.known.add("t1.1")
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(GOOD))):
        sibling, got = await kent.meets("oslo"), {}
        with pytest.raises(Unwritten) as failed:
            await carried.bundle(sibling, asked_for(*FILES), got)
        assert (failed.value.place, failed.value.code) == (1, errno.EEXIST)
        assert got == {0: BODIES[0]} and sibling.up


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_process_that_dies_says_nothing_about_the_sibling(cluster, carried, when):
    async def answer(target, writer):
        os.kill(carried.carrier._process.pid, signal.SIGKILL)
        await asyncio.sleep(3600)

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", answer):
        sibling = await kent.meets("oslo")
        if when == "before":
            await carried.carrier.close()
        with pytest.raises(CarrierGone):
            await carried.bundle(sibling, asked_for(*FILES))
        assert sibling.up


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_everybody_does_not_end_it(cluster, carried, number):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(GOOD))):
        sibling = await kent.meets("oslo")
        assert (await carried.bundle(sibling, asked_for(*FILES)))[1] == BODIES
        os.kill(carried.carrier._process.pid, number)
        assert (await carried.bundle(sibling, asked_for(*FILES)))[1] == BODIES


async def test_who_does_not_carry_the_mirror_lacks_everything(cluster, carried):
    lacks = always(whole(b"404: Not Found", "404 Not Found"))
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", lacks):
        sibling = await kent.meets("oslo")
        for _ in range(4):
            with pytest.raises(PeerLacks):
                await carried.bundle(sibling, asked_for(*FILES))
        assert sibling.up
