"""The threads that touch one mirror's tree, and work that its caller cannot cut off half way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")

THREADS = 4


class Disk:
    """See the module. One per mirror's store."""

    def __init__(self, name: str) -> None:
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self._protected: set[asyncio.Task[Any]] = set()

    async def run(self, work: Callable[..., _T], *arguments: Any) -> _T:  # noqa: ANN401  # passed on
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)

    async def whole(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run to its end even where the caller is cancelled: effects are not left half told."""
        task = asyncio.create_task(work)
        self._protected.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._protected.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that was cancelled meanwhile does not ask for it

    async def settled(self) -> None:
        """When everything that runs to its end has come there."""
        if self._protected:
            await asyncio.wait(self._protected)
