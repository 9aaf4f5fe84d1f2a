"""Asking again: a wrapper around any origin.

The first failure of the network is not the last word; an origin's own "not now" is (HAZARDS 32).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar, cast

from cluster.errors import OriginError, Unreachable
from cluster.model import Facts, Listing, href
from cluster.origin.base import Batch, Batching, Body, Brought, Copyable, Lending, Loan, Origin, Want

T = TypeVar("T")

FIRST_PAUSE = 1.0  # s; the pause before try n is drawn from 0 to this times 2^n
LONGEST_PAUSE = 60.0  # s that a pass waits for an origin; beyond, it goes on with something else
LONGEST_WORD = 3600.0  # s: what an origin may ask for by Retry-After (HAZARDS section 5)


@dataclass(slots=True)
class Quiet:
    """Until when each host asked to be left alone (s, monotonic). One per site, shared by its mirrors."""

    until: dict[str, float] = field(default_factory=dict)

    def asked(self, host: str, seconds: float, now: float) -> None:
        """The host sent a Retry-After; the longest word counts."""
        self.until[host] = max(self.until.get(host, 0.0), now + min(max(seconds, 0.0), LONGEST_WORD))

    def remaining(self, host: str, now: float) -> float:
        """Seconds for which the host is to be left alone."""
        until = self.until.get(host)
        if until is None:
            return 0.0
        if until <= now:
            del self.until[host]
            return 0.0
        return until - now


class Retrying:
    """Each listing, each facts and each *opening* of a read is tried `tries` times unless it failed for good.

    Pauses grow exponentially with full jitter. A `retry_after` up to a minute is waited for; a longer one is
    raised, and until it is over every request to that host raises Unreachable without being sent.
    A body that breaks is the reader's affair: it holds the bytes to go on from.
    """

    def __init__(
        self,
        inner: Origin,
        host: str,
        *,
        tries: int = 3,
        quiet: Quiet | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.inner = inner
        self.properties, self.traffic, self.url = inner.properties, inner.traffic, inner.url
        self._host, self._tries = host, max(1, tries)
        self._quiet = Quiet() if quiet is None else quiet
        self._clock, self._chance, self._sleep = clock, chance, sleep

    def __repr__(self) -> str:
        return f"<Retrying {self._tries} tries {self.inner!r}>"

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        return await self._persist(directory, lambda: self.inner.listing(directory, known))

    async def facts(self, path: bytes) -> Facts:
        return await self._persist(path, lambda: self.inner.facts(path))

    def read(self, path: bytes, want: Want) -> _Opening:
        return _Opening(self, path, want)

    def open(self, path: bytes) -> int:
        """See `Copyable`: where the adapter is on this machine (`properties.network` is False)."""
        return cast("Copyable", self.inner).open(path)

    async def lend(self, most: int) -> Loan | None:
        """See `Lending`. A host that wants to be left alone lends nothing."""
        if self._quiet.remaining(self._host, self._clock()):
            return None
        return await cast("Lending", self.inner).lend(most)

    def back(self, lent: Loan) -> None:
        cast("Lending", self.inner).back(lent)

    def wanted(self) -> bool:
        return cast("Lending", self.inner).wanted()

    async def bring(self, batch: Batch) -> AsyncGenerator[Sequence[Brought], None]:
        """See `Batching`. Tried once: who asked knows what has come, and what is to be asked for again."""
        await self._respect(batch.files[0])
        try:
            async with contextlib.aclosing(cast("Batching", self.inner).bring(batch)) as reports:
                async for report in reports:
                    yield report
        except OriginError as error:
            if error.retry_after is not None:
                self._quiet.asked(self._host, error.retry_after, self._clock())
            raise

    async def close(self) -> None:
        await self.inner.close()

    async def _persist(self, path: bytes, attempt: Callable[[], Awaitable[T]]) -> T:
        if self._quiet.until:
            await self._respect(path)
        for number in range(self._tries):
            try:
                return await attempt()
            except OriginError as error:
                pause = self._pause(error, number)
                if pause is None:
                    raise
            await self._sleep(pause)
            await self._respect(path)
        raise AssertionError("the last try returns or raises")

    def _pause(self, error: OriginError, number: int) -> float | None:
        """Seconds until the next try, or None where there is none."""
        asked = error.retry_after
        if asked is not None:
            self._quiet.asked(self._host, asked, self._clock())
        if error.permanent or number + 1 >= self._tries or (asked is not None and asked > LONGEST_PAUSE):
            return None
        drawn: float = self._chance() * min(LONGEST_PAUSE, FIRST_PAUSE * 2**number)
        return max(asked or 0.0, drawn)

    async def _respect(self, path: bytes) -> None:
        """Wait while the host wants to be left alone. Raises Unreachable where that is too long."""
        while remaining := self._quiet.remaining(self._host, self._clock()):
            if remaining > LONGEST_PAUSE:
                message = f"{self._host} asked to be left alone for another {remaining:.0f} s"
                raise Unreachable(href(path), message, retry_after=remaining)
            await self._sleep(remaining)


class _Opening:
    __slots__ = ("_entered", "_origin", "_path", "_want")

    def __init__(self, origin: Retrying, path: bytes, want: Want) -> None:
        self._origin, self._path, self._want = origin, path, want
        self._entered: AbstractAsyncContextManager[Body] | None = None

    async def __aenter__(self) -> Body:
        return await self._origin._persist(self._path, self._attempt)

    async def _attempt(self) -> Body:
        reading = self._origin.inner.read(self._path, self._want)
        body = await reading.__aenter__()
        self._entered = reading
        return body

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._entered is not None
        return await self._entered.__aexit__(kind, error, traceback)
