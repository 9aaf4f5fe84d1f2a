"""Any files, any server: each file comes back exactly once, and what arrived is what the origin has."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.courier.errands import Errands
from tests.origin.hostile import reset

ANSWERS = (
    "plain", "plain", "plain", "plain", "in pieces", "and close", "and end", "missing", "missing without end",
    "longer", "shorter", "chunked", "cut", "reset", "nothing", "silent", "noise", "early", "1.0", "twice",
)  # fmt: skip


class Server:
    """Answers the n-th request that it gets in the n-th way; pipelined or not."""

    def __init__(self, bodies: list[bytes], ways: list[str]) -> None:
        self.bodies, self.ways, self.count = bodies, ways, 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while await self._answer(await reader.readuntil(b"\r\n\r\n"), writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> bool:
        way = self.ways[self.count % len(self.ways)]
        self.count += 1
        body = self.bodies[int(head.split()[1][1:])]
        good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        sent = {
            "and close": good.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
            "missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n12345",
            "missing without end": b"HTTP/1.1 404 Not Found\r\nContent-Length: 50\r\n\r\n12345",
            "longer": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sx" % (len(body) + 1, body),
            "shorter": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            if body
            else b"HTTP/1.1 204 No\r\n\r\n",
            "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            "cut": good[: len(good) // 2],
            "reset": b"",
            "nothing": b"",
            "silent": b"",
            "noise": b"what?\r\n\r\n",
            "early": b"HTTP/1.1 103 Early Hints\r\n\r\n" + good,
            "1.0": good.replace(b"/1.1", b"/1.0"),
            "twice": good + good,
        }.get(way, good)
        if way == "in pieces":
            for at in range(0, len(sent), 1 + len(sent) // 3):
                writer.write(sent[at : at + 1 + len(sent) // 3])
                await asyncio.sleep(0.001)
            return True
        writer.write(sent)
        await writer.drain()
        if way == "silent":
            await asyncio.sleep(1)
        if way == "reset":
            reset(writer)
        return way in ("plain", "missing", "longer", "shorter", "chunked", "early", "1.0")


BODIES = st.lists(
    st.one_of(
        st.just(b""),
        st.binary(max_size=40),
        st.builds(lambda n, c: bytes([c]) * n, st.integers(1, 70_000), st.integers(0, 255)),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    BODIES, st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 3)
)
def test_each_file_comes_back_once_and_as_it_is(
    bodies: list[bytes], ways: list[str], connections: int, errands: int
) -> None:
    asyncio.run(_story(bodies, ways, connections, errands))


async def _story(bodies: list[bytes], ways: list[str], connections: int, count: int) -> None:
    answering = Server(bodies, ways)
    server = await asyncio.start_server(answering, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    files = [(str(i), len(body)) for i, body in enumerate(bodies)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with Errands(port, Path(folder), connections=connections, silence=0.1) as errands:
                for start in range(count):
                    await errands.send(files[start::count])
                found = await errands.outcome()
        assert len(found) == len(files) and not found.failed
        if "twice" not in ways:  # an answer that nobody asked for can be taken for another file's
            assert found.arrived == {t: bodies[int(t)] for t in found.arrived}
    finally:
        server.close()
        tasks = list(answering.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
