"""A relay in front of a server that stops in the middle of what the server sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


@asynccontextmanager
async def stalling(url: str, most: int) -> AsyncIterator[str]:
    """`url` by way of a relay that passes on `most` bytes of the server's on each connection, then none."""
    parts = urlsplit(url)

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> None:
        with suppress(OSError):
            while data := await reader.read(2**16 if left is None else min(left, 2**16)):
                writer.write(data)
                await writer.drain()
                if left is not None:
                    left -= len(data)
                    if not left:
                        await asyncio.Event().wait()
            writer.write_eof()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near = asyncio.current_task()
        assert near is not None
        running.add(near)
        try:
            theirs, to_them = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                await asyncio.gather(passed_on(reader, to_them, None), passed_on(theirs, writer, most))
            finally:
                to_them.close()
        finally:
            writer.close()
            running.discard(near)

    running: set[asyncio.Task[object]] = set()
    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield parts._replace(netloc=f"127.0.0.1:{port}").geturl()
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
