"""Some blocks of a large file on their way from a sibling."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cluster.peer.arriving import count

if TYPE_CHECKING:
    from cluster.errors import PeerBroke
    from cluster.peer.https import HttpsSibling
    from cluster.peer.stream import Stream


class PartBody:
    """Opened by `async with`. `hashes` are the BLAKE3 of its blocks as the sibling says: that the bytes have
    them is for the caller to find out."""

    hashes: bytes

    def __init__(self, sibling: HttpsSibling, stream: Stream, first: int, end: int) -> None:
        self._sibling, self._stream = sibling, stream
        self._expected = end - first
        self._hashes = 32 * count(first, end)
        self._rest = b""

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        try:
            await self._begin()
        except BaseException as error:
            await self._stream.__aexit__(type(error), error, None)
            raise
        return self

    async def _begin(self) -> None:
        announced, due = self._stream.response.content_length, self._hashes + self._expected
        if announced != due:
            raise self._broke(f"announces {announced} bytes, asked for were {due}")
        self._parts = self._stream.parts()
        head = b""
        while len(head) < self._hashes:
            part = await anext(self._parts, b"")
            if not part:
                raise self._broke("ends among the hashes of its blocks")
            head += part
        self.hashes, self._rest = head[: self._hashes], head[self._hashes :]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, error, trace)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Exactly the bytes that were asked for. Raises PeerError otherwise."""
        left = self._expected
        part = self._rest or await anext(self._parts, b"")
        while part:
            left -= len(part)
            if left < 0:
                raise self._broke("sent more than it announced")
            self._sibling.traffic.bytes += len(part)
            yield part
            part = await anext(self._parts, b"")
        if left:
            raise self._broke(f"sent {left} bytes less than it announced")

    def _broke(self, message: str) -> PeerBroke:
        return self._sibling.link.broke("body", message)
