"""What the wrappers have in common that answer listings by something that the origin publishes."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import cast

from cluster.model import Deletion, Facts, Limits, shown
from cluster.origin.base import (
    Batch,
    Batching,
    Body,
    Brought,
    Copyable,
    Lending,
    Loan,
    Origin,
    Traffic,
    Want,
)
from cluster.plan.listed import Known

log = logging.getLogger("sideways.pass")


@dataclass(frozen=True, slots=True)
class Asking:
    """What bears on the list of one origin: the mirror's limits and deletion guard, where the list is kept
    (empty: nowhere), and clock (s since 1970) and chance."""

    limits: Limits
    delete: Deletion
    place: str = ""
    clock: Callable[[], float] = time.time
    chance: Callable[[], float] = lambda: 0.5


class Around:
    """Everything but listings, of the origin that is wrapped. `path` is what listings are answered by."""

    def __init__(self, inner: Origin, path: bytes) -> None:
        self.inner = inner
        self.properties, self.url = inner.properties, inner.url
        self._path = path
        self._known = Known()
        self._begun = False
        self._said: list[str] = []
        self._received = 0  # bytes of what is published for this

    @property
    def traffic(self) -> Traffic:
        """What is read for listings counts as one."""
        inner = self.inner.traffic
        return Traffic(inner.requests, inner.bytes - self._received, inner.listings + self._received)

    async def facts(self, path: bytes) -> Facts:
        return await self.inner.facts(path)

    def read(self, path: bytes, want: Want) -> AbstractAsyncContextManager[Body]:
        return self.inner.read(path, want)

    def open(self, path: bytes) -> int:
        """See `Copyable`: where the adapter is on this machine (`properties.network` is False)."""
        return cast("Copyable", self.inner).open(path)

    async def lend(self, most: int) -> Loan | None:
        """See `Lending`."""
        return await cast("Lending", self.inner).lend(most)

    def back(self, lent: Loan) -> None:
        cast("Lending", self.inner).back(lent)

    def wanted(self) -> bool:
        return cast("Lending", self.inner).wanted()

    async def bring(self, batch: Batch) -> AsyncGenerator[Sequence[Brought], None]:
        """See `Batching`."""
        async with aclosing(cast("Batching", self.inner).bring(batch)) as reports:
            async for report in reports:
                yield report

    async def close(self) -> None:
        await self.inner.close()

    def begin(self, known: Known) -> None:
        """See `ByList`."""
        self._known = known

    def said(self) -> Sequence[str]:
        """See `ByList`."""
        return self._said

    def _say(self, text: str) -> None:
        line = f"{shown(self._path) or 'index'}: {text}"
        self._said.append(line)
        log.info("%s: %s", self.url, line)
