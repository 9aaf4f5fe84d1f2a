"""How long a sibling that says nothing, or does not answer, is waited for.

A second or two; longer where this machine itself is late: siblings that share an overloaded one are as late
as we are, and what looks like silence is a queue for the processor. How late is measured by our own timers.
"""

from __future__ import annotations

import asyncio

SILENT = 1.0  # s without a word
ANSWER = 2.0  # s from a question to the beginning of its answer
LONGEST = 10.0
LATE = 10.0  # times that our own timers are late
TICK = 0.05  # s between two looks
FORGET = 0.97  # of the lateness is remembered at the next look: half of it after a second


class Patience:
    """Measured in real time, also where a pass has another clock: it is this machine that is late."""

    def __init__(self) -> None:
        self._late = 0.0  # s

    @property
    def seconds(self) -> float:
        return min(LONGEST, SILENT + LATE * self._late)

    @property
    def answer(self) -> float:
        return min(LONGEST, ANSWER + LATE * self._late)

    def was_late(self, seconds: float) -> None:
        """A timer of ours went off so long after its time."""
        self._late = max(seconds, self._late * FORGET)

    async def watch(self) -> None:
        """Measure, until cancelled."""
        while True:
            await self.tick(asyncio.Event())

    async def tick(self, sooner: asyncio.Event) -> None:
        """Wait for a moment, or until something happened `sooner`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(TICK):
                await sooner.wait()
        except TimeoutError:
            self.was_late(loop.time() - began - TICK)

    def __repr__(self) -> str:
        return f"<Patience {self.seconds:.1f} s>"
