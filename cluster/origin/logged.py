"""One line at debug level for each request to an origin."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import cast

from cluster.model import Facts, Listing, href
from cluster.origin.base import Batch, Batching, Body, Brought, Copyable, Lending, Loan, Origin, Want

log = logging.getLogger("sideways.origin")


class Logged:
    """Around the adapter itself, so that a line is a request made. Costs nothing where nobody reads."""

    def __init__(self, inner: Origin, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.inner = inner
        self.properties, self.traffic, self.url = inner.properties, inner.traffic, inner.url
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Logged {self.inner!r}>"

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        if not log.isEnabledFor(logging.DEBUG):
            return await self.inner.listing(directory, known)
        began = self._clock()
        try:
            listing = await self.inner.listing(directory, known)
        except BaseException as error:
            self.say("listing", directory, began, failed(error))
            raise
        self.say("listing", directory, began, f"{len(listing.entries)} entries, {listing.format}")
        return listing

    async def facts(self, path: bytes) -> Facts:
        if not log.isEnabledFor(logging.DEBUG):
            return await self.inner.facts(path)
        began = self._clock()
        try:
            facts = await self.inner.facts(path)
        except BaseException as error:
            self.say("facts", path, began, failed(error))
            raise
        self.say("facts", path, began, f"{facts.kind}, {facts.size} bytes")
        return facts

    def read(self, path: bytes, want: Want) -> AbstractAsyncContextManager[Body]:
        reading = self.inner.read(path, want)
        return _Reading(self, reading, path, self._clock()) if log.isEnabledFor(logging.DEBUG) else reading

    def open(self, path: bytes) -> int:
        """See `Copyable`: where the adapter is on this machine (`properties.network` is False)."""
        return cast("Copyable", self.inner).open(path)

    async def lend(self, most: int) -> Loan | None:
        """See `Lending`. Where each request is to be told, nothing is lent."""
        return None if log.isEnabledFor(logging.DEBUG) else await cast("Lending", self.inner).lend(most)

    def back(self, lent: Loan) -> None:
        cast("Lending", self.inner).back(lent)

    def wanted(self) -> bool:
        return cast("Lending", self.inner).wanted()

    async def bring(self, batch: Batch) -> AsyncGenerator[Sequence[Brought], None]:
        """See `Batching`."""
        began, files = self._clock(), 0
        try:
            async with contextlib.aclosing(cast("Batching", self.inner).bring(batch)) as reports:
                async for report in reports:
                    files += len(report)
                    yield report
        except BaseException as error:
            self.say("batch", batch.files[0], began, failed(error))
            raise
        self.say("batch", batch.files[0], began, f"{files} of {len(batch.files)} files from here on")

    async def close(self) -> None:
        await self.inner.close()

    def say(self, verb: str, path: bytes, began: float, result: str) -> None:
        """`began` on this wrapper's clock."""
        log.debug("%s%s: %s: %s, %.3f s", self.url, href(path), verb, result, self._clock() - began)


class _Reading:
    def __init__(
        self, origin: Logged, reading: AbstractAsyncContextManager[Body], path: bytes, began: float
    ) -> None:
        self._origin, self._reading, self._path, self._began = origin, reading, path, began
        self._start = 0
        self._size: int | None = None

    async def __aenter__(self) -> Body:
        try:
            body = await self._reading.__aenter__()
        except BaseException as error:
            self._origin.say("read", self._path, self._began, failed(error))
            raise
        self._start, self._size = body.start, body.facts.size
        return body

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        result = f"{self._size} bytes from {self._start}" if error is None else failed(error)
        self._origin.say("read", self._path, self._began, result)
        return await self._reading.__aexit__(kind, error, traceback)


def failed(error: BaseException) -> str:
    """What went wrong, on one line."""
    text = getattr(error, "message", None) or str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
