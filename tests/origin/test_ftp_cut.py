"""TLS under a transfer that somebody on the way cuts short, at the end of a row."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.errors import IncompleteListing
from tests.origin.ftp_servers import paired
from tests.origin.hostile_ftp import HostileFtp, Session
from tests.origin.test_ftp_hostile import opened

OWN = b"drwxr-xr-x 2 ftp ftp 4096 Jan 02  2020 .\r\n"
ROW = b"-rw-r--r-- 1 ftp ftp 1 Jan 02  2020 %b\r\n"


@contextlib.asynccontextmanager
async def secured(folder: Path) -> AsyncIterator[tuple[HostileFtp, str]]:
    """A server that speaks TLS, and the file with its authority."""
    both, authority = paired(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)

    async def auth(session: Session, argument: bytes) -> None:
        session.reply(b"234 Go ahead.")
        await session.writer.start_tls(context)

    async def epsv(session: Session, argument: bytes) -> None:
        session.leave()
        arrived: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

        def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not arrived.done():
                arrived.set_result(writer)

        session._arrived = arrived
        session._listener = await asyncio.start_server(came, "127.0.0.1", 0, ssl=context)
        session.reply(b"229 Ready (|||%d|)" % session._listener.sockets[0].getsockname()[1])

    async with HostileFtp({b"a": b"1", b"b": b"1"}) as server:
        server.url = server.url.replace("ftp:", "ftps:")
        server.say |= {b"AUTH": auth, b"EPSV": epsv, b"PBSZ": b"200 Yes.\r\n", b"PROT": b"200 Yes.\r\n"}
        yield server, authority


async def cut(session: Session, writer: asyncio.StreamWriter) -> bytes:
    writer.write(OWN + ROW % b"a")
    await writer.drain()
    writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
    return b"226 Done."


async def test_34_a_listing_over_tls_that_is_cut_at_a_row_is_incomplete(tmp_path: Path) -> None:
    async with secured(tmp_path) as (server, authority), opened(server, ca=authority) as origin:
        whole = await origin.listing(b"")
        assert [e.name for e in whole.entries] == [b"a", b"b"]
        server.data[b"LIST"] = cut
        with pytest.raises(IncompleteListing, match="TLS was cut off, without an alert"):
            await origin.listing(b"")


async def test_a_server_that_never_says_when_tls_ends_is_read_all_the_same(tmp_path: Path) -> None:
    async with secured(tmp_path) as (server, authority), opened(server, ca=authority) as origin:
        server.data[b"LIST"] = cut
        server.say[b"MDTM"] = b"213 20200102000000\r\n"
        for _ in range(2):
            assert [e.name for e in (await origin.listing(b"")).entries] == [b"a"]
