"""One patience for many waits.

A timer for each wait, as `asyncio.timeout` and aiohttp's `sock_read` make them, costs up to 14 us with
uvloop, a fifth of a whole request for a small file (measured 2026-11-21). All waits of a session are
equally long, so that the one that began first ends first, and a single timer serves them all.
"""

from __future__ import annotations

import asyncio


class Deadline:
    """Cancels a task that is still in its wait `within` seconds after `begin`.

    The task calls `begin` and `end` around the wait, and asks `expired` about a CancelledError: True
    means that it was this deadline, and that the cancellation is taken back.
    """

    def __init__(self, within: float) -> None:
        self.within = within
        self._due: dict[asyncio.Task[object], float] = {}  # in the order of the times
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> asyncio.Task[object]:
        task = asyncio.current_task()
        assert task is not None, "a deadline is for tasks"
        loop = task.get_loop()
        self._due[task] = loop.time() + self.within
        if self._timer is None:
            self._timer = loop.call_later(self.within, self._look, loop)
        return task

    def end(self, task: asyncio.Task[object]) -> None:
        self._due.pop(task, None)

    def expired(self, task: asyncio.Task[object]) -> bool:
        if task not in self._late:
            return False
        self._late.discard(task)
        return task.uncancel() == 0

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, self._timer = loop.time(), None
        for task, due in list(self._due.items()):
            if due > now:
                self._timer = loop.call_at(due, self._look, loop)
                return
            del self._due[task]
            self._late.add(task)
            task.cancel()
