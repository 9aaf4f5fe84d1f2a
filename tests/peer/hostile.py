"""A sibling with a valid certificate that answers whatever a test wants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp

from cluster.model import Cluster
from cluster.peer import linewire, tls, wire
from cluster.peer.listener import bind

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def whole(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@contextlib.asynccontextmanager
async def hostile(
    cluster: Cluster, name: str, answer: Answer, hello: bytes | None = None
) -> AsyncIterator[list[str]]:
    """Says hello as `name` should, then leaves every other request to `answer`. Yields what it was asked."""
    greeting = hello if hello is not None else wire.hello(wire.Hello(name, cluster.name, 8))
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ")[1].decode()
                if target.endswith("/hello"):
                    writer.write(whole(greeting))
                else:
                    asked.append(target)
                    await answer(target, writer)
                await writer.drain()
        writer.transport.abort()

    async with pretending(cluster, name, serve):
        yield asked


@contextlib.asynccontextmanager
async def pretending(cluster: Cluster, name: str, serve: Serve) -> AsyncIterator[None]:
    """Where `name` should be listening, with its certificate, `serve` has every connection."""
    site = cluster.sites[name]
    others = [other for other in cluster.sites.values() if other.name != name]
    own = f"{site.state}/peer.key", site.peer.certificate_file
    tasks = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(accept, sock=bind(site.peer.listen), ssl=tls.accepting(own, others))
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def dialled(cluster: Cluster, name: str, to: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A line that `name` dials, to say on it whatever a test wants."""
    site = cluster.sites[name]
    context = tls.connecting((f"{site.state}/peer.key", site.peer.certificate_file), cluster.sites[to])
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield await session.ws_connect(f"{cluster.sites[to].peer.url}/v1/line", max_msg_size=2**22)


async def greeted(socket: aiohttp.ClientWebSocketResponse, name: str) -> None:
    await socket.send_bytes(linewire.greeting(linewire.Greeting(name, "test")))
    assert isinstance(linewire.read((await socket.receive()).data), linewire.Greeting)


async def said(socket: aiohttp.ClientWebSocketResponse) -> linewire.Message | None:
    """The next message on a line; frames of channels are passed over."""
    while (data := (await socket.receive()).data)[:1] == b"\xc1":
        pass
    return linewire.read(data)


async def farewell(socket: aiohttp.ClientWebSocketResponse) -> tuple[int, str]:
    """Code and reason with which the other side ends the line."""
    async with asyncio.timeout(5):
        while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
            pass
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return message.data, message.extra


async def nothing(target: str, writer: asyncio.StreamWriter) -> None:
    """Accepts, reads, and never answers."""
    await asyncio.sleep(3600)


def always(raw: bytes) -> Answer:
    async def answer(target: str, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return answer
