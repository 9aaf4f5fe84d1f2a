"""How long a sibling that says nothing is waited for.

A second; longer where this machine itself is late: siblings that share an overloaded one are as late as we
are, and what looks like silence is a queue for the processor. How late is measured by our own timers.
"""

from __future__ import annotations

import asyncio

from cluster.engine.clock import Clock

SILENT = 1.0  # s without a word
LONGEST = 10.0
LATE = 10.0  # times that our own timers are late
TICK = 0.05  # s between two looks
FORGET = 0.97  # of the lateness is remembered at the next look: half of it after a second


class Patience:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._late = 0.0  # s

    @property
    def seconds(self) -> float:
        return min(LONGEST, SILENT + LATE * self._late)

    async def tick(self, sooner: asyncio.Event | None = None) -> None:
        """Wait for a moment, or until something happened `sooner`."""
        began = self._clock.monotonic()
        if sooner is None:
            await self._clock.sleep(TICK)
        else:
            try:
                async with asyncio.timeout(TICK):
                    await sooner.wait()
            except TimeoutError:
                pass
            else:
                return
        self._late = max(self._clock.monotonic() - began - TICK, self._late * FORGET)

    def __repr__(self) -> str:
        return f"<Patience {self.seconds:.1f} s>"
