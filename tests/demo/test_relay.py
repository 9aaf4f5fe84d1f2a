"""A link of the demo is as slow, as late and as fair as it says, and ends with whoever started it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from cluster.demo.link import ShapedLink
from cluster.demo.relay import WINDOW, Link, Relay

MB = 1_000_000


@contextlib.asynccontextmanager
async def relayed(rate: float, delay: float, answers) -> AsyncIterator[tuple[int, Link]]:
    """An origin that gives every connection to `answers`, behind a link in this process: (port, link)."""
    origin = await asyncio.start_server(answers, "127.0.0.1", 0)
    link = Link(rate, delay)
    relay = Relay(link, origin.sockets[0].getsockname()[1])
    server = await asyncio.start_server(relay.connected, "127.0.0.1", 0)
    carrying = asyncio.ensure_future(link.run())
    yield server.sockets[0].getsockname()[1], link
    carrying.cancel()
    server.close()
    origin.close()


async def sends(count: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """So many bytes for each line that comes."""
    with contextlib.suppress(OSError):
        while await reader.readline():
            writer.write(b"x" * count)
            await writer.drain()
    writer.close()


def origin_of(count: int):
    async def answers(reader, writer):
        await sends(count, reader, writer)

    return answers


async def fetch(port: int, count: int) -> float:
    """Seconds from opening a connection until `count` bytes have come."""
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\n")
    await reader.readexactly(count)
    writer.close()
    return time.monotonic() - begun


async def test_connections_share_one_rate():
    async with relayed(4 * MB, 0.0, origin_of(MB)) as (port, link):
        seconds = await asyncio.gather(fetch(port, MB), fetch(port, MB))
        assert 0.4 < max(seconds) < 1.5
        assert link.carried == 2 * MB


async def test_a_small_answer_does_not_wait_for_a_large_one():
    async with relayed(2 * MB, 0.0, origin_of(2 * MB)) as (port, _):
        large = asyncio.ensure_future(fetch(port, 2 * MB))
        await asyncio.sleep(0.1)
        small = await fetch(port, 50_000)  # of 2 MB: at half the rate 0.05 s, behind the large one 1 s
        assert small < 0.5
        assert not large.done()
        await large


async def test_every_connection_has_its_handshake_and_its_round_trip():
    async with relayed(100 * MB, 0.1, origin_of(10)) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        begun = time.monotonic()
        writer.write(b"\n")
        await reader.readexactly(10)
        assert 0.4 <= time.monotonic() - begun < 1.0
        begun = time.monotonic()
        writer.write(b"\n")
        await reader.readexactly(10)
        assert 0.2 <= time.monotonic() - begun < 0.6
        writer.close()


async def test_a_site_that_does_not_read_holds_up_nobody_and_little_memory():
    async with relayed(50 * MB, 0.0, origin_of(40 * MB)) as (port, link):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(b"\n")
        await asyncio.sleep(0.5)
        stalled = link.carried
        await asyncio.sleep(0.2)
        assert link.carried == stalled < 20 * MB  # what kernels and WINDOW hold
        assert await fetch(port, MB) < 2.0
        assert reader is not None
        writer.close()


async def test_what_was_sent_arrives_before_the_end_does():
    async def once(reader, writer):
        await reader.readline()
        writer.write(b"y" * (3 * WINDOW))
        await writer.drain()
        writer.close()

    async with relayed(10 * MB, 0.05, once) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\n")
        assert len(await reader.read()) == 3 * WINDOW
        writer.close()


async def test_the_origin_hears_of_a_site_that_goes_away():
    gone = asyncio.Event()

    async def waits(reader, writer):
        await reader.read()
        gone.set()
        writer.close()

    async with relayed(MB, 0.0, waits) as (port, _):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.wait_for(gone.wait(), 2)


async def test_an_origin_that_refuses_is_a_connection_that_ends():
    async with relayed(MB, 0.0, origin_of(1)) as (_, link):
        nobody = await asyncio.start_server(origin_of(1), "127.0.0.1", 0)
        port = nobody.sockets[0].getsockname()[1]
        nobody.close()
        await nobody.wait_closed()
        server = await asyncio.start_server(Relay(link, port).connected, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()
        server.close()


async def test_the_process_tells_what_it_carried_and_ends_when_it_is_told():
    origin = await asyncio.start_server(origin_of(MB), "127.0.0.1", 0)
    link = ShapedLink(origin.sockets[0].getsockname()[1], 10 * MB, 0.001)
    await link.start()
    process = link._process
    await fetch(link.port, MB)
    for _ in range(100):
        if link.carried == MB:
            break
        await asyncio.sleep(0.05)
    assert link.carried == MB
    link.stop()
    assert process.returncode == 0
    origin.close()
