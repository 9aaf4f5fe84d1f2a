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
    """One body on its way. `async with` opens it; what the caller raises inside passes through unchanged.

    A body that is `timed` tells the link how fast it is: not one that has to be worked out first."""

    response: aiohttp.ClientResponse

    def __init__(
        self,
        link: Link,
        target: str,
        headers: dict[str, str] | None = None,
        *,
        question: bytes | None = None,
        patience: float | None = None,
        timed: bool = True,
    ) -> None:
        """`question` is the body of the request. Its header comes within `patience` seconds, or else."""
        self._link, self._target, self._headers = link, target, headers or {}
        self._question, self._patience, self._timed = question, patience, timed
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
        waited, received = 0.0, 0
        while True:
            began = self._link.clock()
            with self._link.judged("body"):
                part = await self._link.next_part(self.response, pace)
            waited += self._link.clock() - began
            if not part:
                break
            received += len(part)
            yield part
        if self._timed:
            self._link.measured(received, waited)
        self._link.breaker.succeeded("body")
