"""A link with a round trip and a rate, for any TCP server of this machine: the demo's relay, as a process.

    python -m tests.bench.link RATE DELAY PORT...

RATE is bytes/s towards whoever connects, one rate for all ports together (`inf`: none); DELAY is s one way.
It prints the ports on which it listens, one for each PORT in the same order, and ends with standard input.
"""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster import eventloop
from cluster.demo.relay import Link, Relay
from tests.bench.measure import Unusable

PIECE = 64 * 2**10  # bytes in turn: 1.6 ms at 40 MB/s, and a quarter of the wake-ups of the demo's
WINDOW = 6 * 2**20  # bytes of one connection under way: Linux lets a window grow to that (tcp_rmem)


@contextmanager
def link(ports: Sequence[int], delay: float, rate: float = math.inf) -> Iterator[list[int]]:
    """A way to each of these ports of this machine, `delay` s one way; together they carry `rate` bytes/s
    towards whoever connects. Yields the ports to use instead. Raises Unusable."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.bench.link", str(rate), str(delay)]
        + [str(port) for port in ports],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = process.stdout.readline()
        if not told:
            raise Unusable("the link: its process ended at once")
        yield json.loads(told)
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


async def _carry(rate: float, delay: float, ports: Sequence[int]) -> None:
    shared = Link(rate, delay, piece=PIECE, window=WINDOW)
    servers = [
        await asyncio.start_server(Relay(shared, port).connected, "127.0.0.1", 0, backlog=512, limit=PIECE)
        for port in ports
    ]
    sys.stdout.write(json.dumps([server.sockets[0].getsockname()[1] for server in servers]) + "\n")
    sys.stdout.flush()
    carrying = asyncio.ensure_future(shared.run())
    parent = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(parent), sys.stdin.buffer
    )
    await parent.read()
    carrying.cancel()


if __name__ == "__main__":
    eventloop.run(_carry(float(sys.argv[1]), float(sys.argv[2]), [int(port) for port in sys.argv[3:]]))
