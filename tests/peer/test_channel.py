"""A site that can only dial out is asked and read from through its own line."""

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import PeerLacks, PeerSilent
from cluster.model import Kind, Offer, Row
from cluster.origin.base import Want
from cluster.peer import channel, linewire
from cluster.peer.codec import WireError
from cluster.peer.line import Line
from tests.peer.cluster import running
from tests.peer.hostile import dialled, farewell, greeted
from tests.peer.test_bundles import bundle, wish
from tests.peer.test_lines import fetched_by, unreachable, until
from tests.peer.test_talk import read

ROW = Row(size=7)


async def test_what_only_a_site_that_dials_out_holds_is_read_through_its_line(cluster):
    async with running(unreachable(cluster, "oslo"), "kent", "oslo", talk=True) as (kent, oslo):
        content = bytes(range(256)) * 4096 * 9
        oslo.files.put(b"iso", content)
        for n in range(300):
            oslo.files.put(b"pool/%d" % n, b"small %d" % n)
        sibling = await kent.meets("oslo")
        offered = await sibling.offered("debian", b"", 2.0)
        assert await read(sibling, "debian", b"iso", offered.held[b"iso"]) == content
        wishes = [wish(oslo, b"pool/%d" % n) for n in range(300)]
        _, got = await bundle(sibling, wishes)
        assert got == {n: b"small %d" % n for n in range(300)}
        (told,) = await sibling.mirrors()
        assert told.mirror == "debian"
        kent.files.put(b"here", b"x")
        back = await oslo.meets("kent")
        assert b"here" in (await back.offered("debian", b"", 2.0)).held


async def test_a_site_that_is_reachable_is_asked_directly(cluster):
    async with running(cluster, "kent", "oslo", talk=True) as (kent, oslo):
        await oslo.has_line("kent")
        oslo.files.put(b"a", b"x")
        for here, there in ((kent, "oslo"), (oslo, "kent")):
            sibling = await here.meets(there)
            await sibling.offered("debian", b"", 2.0)
            assert not sibling.link._through
        assert not any(one.channels._open for one in kent.lines._lines.values())
        assert kent.sibling("oslo").link._channels is None  # kent dialled, so it can reach oslo
        assert oslo.sibling("kent").link._channels is not None


def test_what_is_said_goes_before_bytes_and_every_channel_has_its_turn():
    class Nothing:
        def get_extra_info(self, name):
            return None

    said = Line("oslo", "kent", Nothing(), time.monotonic)
    writers = []

    class Writer(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b"x" * 100_000)
            writers.append(transport)

    for _ in range(2):
        said.channels.open(Writer())
    sent = [said._next() for _ in range(4)]
    assert [frame[1:6] for frame in sent] == [
        *(channel.HEAD.pack(channel.MARK, channel.OPEN, n)[1:] for n in (0, 2)),
        *(channel.HEAD.pack(channel.MARK, channel.DATA, n)[1:] for n in (0, 2)),
    ]
    said.say(linewire.WHOLE)
    assert said._next() == linewire.WHOLE


async def test_claims_are_known_at_once_while_bytes_fill_the_line(cluster):
    async with running(unreachable(cluster, "oslo"), "kent", "oslo", talk=True) as (kent, oslo):
        oslo.files.put(b"iso", b"x" * 20_000_000)
        sibling = await kent.meets("oslo")
        offer = (await sibling.offered("debian", b"", 2.0)).held[b"iso"]
        reading = [asyncio.create_task(read(sibling, "debian", b"iso", offer)) for _ in range(3)]
        await asyncio.sleep(0.05)
        took = []
        while not all(one.done() for one in reading):
            name = b"%d" % len(took)
            oslo.claims.claim("debian", b"pool", name, ROW, time.monotonic())
            path = b"pool/" + name
            took.append(await until(lambda p=path: fetched_by(kent, p)))
        assert took
        assert sorted(took)[len(took) // 2] < 0.25
        assert [len(await one) for one in reading] == [20_000_000] * 3


async def test_who_reads_slowly_fills_nobodys_memory_and_holds_up_nobody(cluster):
    async with running(unreachable(cluster, "oslo"), "kent", "oslo", talk=True) as (kent, oslo):
        oslo.files.put(b"iso", b"x" * 20_000_000)
        oslo.files.put(b"small", b"y")
        sibling = await kent.meets("oslo")
        held = (await sibling.offered("debian", b"", 2.0)).held
        async with sibling.read("debian", b"iso", held[b"iso"], Want(size=20_000_000)) as body:
            chunks = body.chunks()
            received = len(await anext(chunks))
            await asyncio.sleep(0.5)  # we do not read
            waiting = [one for one in oslo.lines.to("kent").channels._open.values() if one._out]
            assert len(waiting) == 1
            assert len(waiting[0]._out) < 4 * 2**20
            kept = sum(len(one._in) for one in kent.lines.to("oslo").channels._open.values())
            assert kept <= channel.WINDOW
            assert await read(sibling, "debian", b"small", held[b"small"]) == b"y"
            async for chunk in chunks:
                received += len(chunk)
        assert received == 20_000_000


async def test_a_line_that_ends_ends_what_is_read_through_it_at_once(cluster):
    async with running(unreachable(cluster, "oslo"), "kent", "oslo", talk=True) as (kent, oslo):
        oslo.files.put(b"iso", b"x" * 50_000_000)
        sibling = await kent.meets("oslo")
        offer = (await sibling.offered("debian", b"", 2.0)).held[b"iso"]
        reading = asyncio.create_task(read(sibling, "debian", b"iso", offer))
        await until(lambda: sibling.traffic.bytes > 1_000_000)
        started = time.monotonic()
        await oslo.lines.stop()
        with pytest.raises(PeerSilent):
            await reading
        assert time.monotonic() - started < 3.0
        assert not sibling.up


async def test_mirrors_that_are_not_shared_are_not_told_through_a_line_either(cluster):
    """HAZARDS 117."""
    async with running(unreachable(cluster, "oslo"), "kent", "oslo", talk=True) as (kent, oslo):
        oslo.readers["ctan"].put(b"there", b"x")
        sibling = await kent.meets("oslo")
        for path in (b"there", b"absent"):
            with pytest.raises(PeerLacks, match="403"):
                await read(sibling, "ctan", path, Offer(path, Kind.FILE, 1, bytes(32)))


def frame(sort: int, number: int, rest: bytes = b"") -> bytes:
    return channel.HEAD.pack(channel.MARK, sort, number) + rest


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([b"\xc1"], "a frame of 1 bytes"),
        ([frame(9, 0)], "channel: sort 9"),
        ([frame(channel.OPEN, 1)], "1 is not to be opened"),
        ([frame(channel.OPEN, 0), frame(channel.OPEN, 0)], "0 is not to be opened"),
        ([frame(channel.OPEN, 0), frame(channel.GRANT, 0, b"\xff\xff\xff\xff")], "grants more than it read"),
        ([frame(channel.OPEN, 0), frame(channel.GRANT, 0)], "a grant without a number"),
        (
            [frame(channel.OPEN, 0)] + [frame(channel.DATA, 0, b"G" * 65_536)] * 40,
            "sends more than was granted|",
        ),
    ],
    ids=["short", "unknown", "not its number", "twice", "too much", "nothing", "flood"],
)
async def test_frames_that_break_the_rules_end_the_line(cluster, frames, says):
    async with running(cluster, "kent") as (kent,), dialled(cluster, "oslo", "kent") as evil:
        await greeted(evil, "oslo")
        await until(lambda: kent.lines.to("oslo"))
        for one in frames:
            await evil.send_bytes(one)
        if "|" in says:  # refused as HTTP long before what was granted is used up
            await asyncio.sleep(0.3)
            assert len(kent.lines.to("oslo").channels._open) <= 1
        else:
            assert says in (await farewell(evil))[1]


def test_bytes_that_were_not_granted_are_a_fault():
    class Slow(asyncio.Protocol):
        def connection_made(self, transport):
            transport.pause_reading()

    many = channel.Channels(1, lambda: None, Slow, lambda name: None)
    many.received(frame(channel.OPEN, 0))
    for _ in range(channel.WINDOW // 2**16):
        many.received(frame(channel.DATA, 0, bytes(2**16)))
    with pytest.raises(WireError, match="sends more than was granted"):
        many.received(frame(channel.DATA, 0, b"x"))


async def test_more_channels_than_allowed_are_shut_and_the_line_goes_on(cluster):
    async with running(cluster, "kent") as (kent,), dialled(cluster, "oslo", "kent") as evil:
        await greeted(evil, "oslo")
        await until(lambda: kent.lines.to("oslo"))
        for n in range(200):
            await evil.send_bytes(frame(channel.OPEN, 2 * n))
        shut = 0
        while shut < 200 - channel.CHANNELS:
            data = (await evil.receive()).data
            shut += data[:1] == b"\xc1" and data[1] == channel.SHUT
        theirs = [number for number in kent.lines.to("oslo").channels._open if number % 2 == 0]
        assert len(theirs) == channel.CHANNELS
        await evil.send_bytes(linewire.WHOLE)
        await until(lambda: kent.claims.heard.knows("oslo"))


@given(st.lists(st.integers(0, 200_000), max_size=12), st.integers(1, 3), st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_is_written_arrives_in_order_however_it_is_read(sizes, streams, data):
    """Two ends of one line, and nothing between them but frames."""

    async def both() -> None:
        got = {n: bytearray() for n in range(streams)}
        over = []

        class Reader(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport, self.number = transport, len(readers)
                readers.append(self)

            def data_received(self, part):
                got[self.number] += part
                assert self.transport.is_reading()
                if data.draw(st.booleans()):
                    self.transport.pause_reading()

            def connection_lost(self, error):
                over.append(self.number)

        class Writer(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

        readers, writers = [], [Writer() for _ in range(streams)]
        here = channel.Channels(0, lambda: None, None, lambda name: None)
        there = channel.Channels(1, lambda: None, Reader, lambda name: None)
        for writer in writers:
            here.open(writer)
        sent = dict.fromkeys(range(streams), b"")
        for at, size in enumerate(sizes):
            part = bytes([at]) * size
            sent[at % streams] += part
            writers[at % streams].transport.write(part)
        for writer in writers:
            writer.transport.close()
        while len(over) < streams:
            moved = False
            for one, other in ((here, there), (there, here)):
                while (piece := one.frame()) is not None:
                    other.received(piece)
                    moved = True
            await asyncio.sleep(0)
            if not moved:
                for reader in readers:
                    reader.transport.resume_reading()
        assert {n: bytes(part) for n, part in got.items()} == sent

    asyncio.run(both())
