"""A sibling's newer version of a file that is here in an older one: its sums, and pieces of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from cluster.peer import deltawire
from cluster.peer.stream import Stream
from cluster.store import blocks

if TYPE_CHECKING:
    from cluster.errors import PeerBroke
    from cluster.peer.https import HttpsSibling


class Newer:
    """Implements `cluster.peer.client.Newer`. `query` names the file, `sha256` its version."""

    def __init__(self, sibling: HttpsSibling, query: str, size: int, sha256: bytes) -> None:
        self._sibling, self._query, self._size = sibling, query, size
        self._headers = {"If-Match": f'"{sha256.hex()}"'}
        self.received = self.requests = 0

    async def blocks(self) -> bytes:
        """BLAKE3 of each block of 8 MiB, as the sibling says; 32 bytes each."""
        size = -(-self._size // blocks.BLOCK) * 32 if self._size > blocks.BLOCK else 0
        return await self._exactly(f"sums?{self._query}", size)

    async def sums(self, block: int, ranges: deltawire.Ranges) -> bytes:
        """The sums (`deltawire.SUM` bytes each) of the blocks that these ranges of their numbers name."""
        found = []
        most = min(deltawire.MAX_SUMS, deltawire.MAX_SUMMED // block)
        for asked, text in deltawire.requests(ranges, most):
            size = deltawire.SUM * sum(end - first for first, end in asked)
            found.append(await self._exactly(f"sums?{self._query}&block={block}&ranges={text}", size))
        return b"".join(found)

    async def pieces(self, ranges: deltawire.Ranges) -> AsyncGenerator[bytes, None]:
        """The bytes of these ranges, one after the other, as many requests as it takes."""
        for asked, text in deltawire.requests(ranges, self._size):
            units = deltawire.units(asked)
            async with self._stream(f"pieces?{self._query}&ranges={text}") as stream:
                buffer = bytearray()
                async for part in stream.parts():
                    self._count(part)
                    buffer += part
                    while len(buffer) >= 4:
                        size = int.from_bytes(buffer[:4], "big")
                        if size > deltawire.MAX_FRAME:
                            raise self._broke(f"sends a frame of {size} bytes")
                        if len(buffer) < 4 + size:
                            break
                        packed = bytes(memoryview(buffer)[4 : 4 + size])
                        del buffer[: 4 + size]
                        yield await self._unpacked(packed, next(units, []))
                if buffer or next(units, None) is not None:
                    raise self._broke("ends in the middle of the pieces")

    async def _unpacked(self, packed: bytes, unit: deltawire.Ranges) -> bytes:
        expected = sum(end - first for first, end in unit)
        if not expected:
            raise self._broke("sends more pieces than were asked for")
        with self._sibling.link.judged("body"), self._sibling.link.broken():
            return await asyncio.to_thread(deltawire.frame_read, packed, expected)

    async def _exactly(self, target: str, size: int) -> bytes:
        found = bytearray()
        async with self._stream(target) as stream:
            async for part in stream.parts():
                self._count(part)
                found += part
                if len(found) > size:
                    raise self._broke(f"sends more than {size} bytes of sums")
        if len(found) != size:
            raise self._broke(f"sends {len(found)} bytes of sums, due were {size}")
        return bytes(found)

    def _stream(self, target: str) -> Stream:
        self.requests += 1
        self._sibling.traffic.requests += 1
        return Stream(self._sibling.link, target, self._headers, timed=False)

    def _count(self, part: bytes) -> None:
        self.received += len(part)
        self._sibling.traffic.bytes += len(part)

    def _broke(self, message: str) -> PeerBroke:
        return self._sibling.link.broke("body", message)
