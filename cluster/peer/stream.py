"""One body on its way from a sibling."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cluster.peer.pace import Pace

if TYPE_CHECKING:
    import aiohttp

    from cluster.peer.link import Link


class Stream:
    """One body on its way. `async with` opens it; what the caller raises inside passes through unchanged."""

    response: aiohttp.ClientResponse

    def __init__(
        self,
        link: Link,
        target: str,
        headers: dict[str, str] | None = None,
        *,
        question: bytes | None = None,
        patience: float | None = None,
    ) -> None:
        """`question` is the body of the request. Its header comes within `patience` seconds, or else."""
        self._link, self._target, self._headers = link, target, headers or {}
        self._question, self._patience = question, patience
        self._slots = link.slots

    async def __aenter__(self) -> Self:
        await self._slots.acquire()
        try:
            self._link.worth_asking()
            with self._link.judged("body"):
                self.response = await self._link.open(
                    self._target, self._headers, self._question, self._patience
                )
        except BaseException:
            self._slots.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slots.release()
        if self.response.content.at_eof():
            self.response.release()
        else:
            self.response.close()

    async def parts(self) -> AsyncIterator[bytes]:
        """The bytes as they arrive. Raises PeerSilent where they stop short or come too slowly."""
        pace = Pace(self._link.window)
        while True:
            with self._link.judged("body"):
                part = await self._link.next_part(self.response, pace)
            if not part:
                break
            yield part
        self._link.breaker.succeeded("body")
