"""Our end of the carrier: its process, and the talks with siblings that it has for us (`said`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self, cast

from cluster.courier import said, wire
from cluster.courier.process import Process

if TYPE_CHECKING:
    from cluster.courier.said import Order, Place, Report


class CarrierGone(Exception):
    """The process has ended; what it was asked for is asked for again, in another way."""


class Carrier:
    """A process that asks siblings for bundles, and writes what they send into one folder of temporaries."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._places: dict[Place, int] = {}
        self._talks: dict[int, Talk] = {}
        self._number = 0
        self._unsent: list[bytes] = []
        self._more = asyncio.Event()
        self.gone = False
        self._tasks = [
            asyncio.create_task(self._write(), name="to the carrier"),
            asyncio.create_task(self._read(), name="carrier"),
        ]

    def __repr__(self) -> str:
        return f"<Carrier {self._process.pid} {len(self._talks)} talks>"

    @classmethod
    async def start(cls, folder: int) -> Self:
        """`folder` is an open directory. Raises OSError."""
        return cls(await Process.start("carrying", folder))

    def ask(self, place: Place, request: bytes, patience: float, window: float) -> Talk:
        """Begin a talk. Raises CarrierGone."""
        if self.gone:
            raise CarrierGone
        if place not in self._places:
            self._places[place] = len(self._places)
            self.say((said.PLACE, self._places[place], place))
        self._number += 1
        talk = self._talks[self._number] = Talk(self, self._number)
        self.say((said.ASK, self._number, self._places[place], request, patience, window))
        return talk

    def say(self, message: object) -> None:
        """It is sent soon, and whole: whoever says it may be cancelled meanwhile."""
        self._unsent.append(wire.frame(message))
        self._more.set()

    async def close(self) -> None:
        """Afterwards it writes nothing more."""
        self._ended()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._process.close()

    async def _write(self) -> None:
        with contextlib.suppress(OSError):  # the reader notices that the process is gone
            while True:
                await self._more.wait()
                self._more.clear()
                frames, self._unsent = b"".join(self._unsent), []
                await self._process.send(frames)

    async def _read(self) -> None:
        async for message in self._process.messages():
            report = cast("Report", message)
            talk = self._talks.get(report[0])
            if talk is not None:
                talk.hear(report)
                if report[1] in said.LAST:
                    del self._talks[report[0]]
        self._ended()

    def _ended(self) -> None:
        self.gone = True
        talks, self._talks = self._talks, {}
        for talk in talks.values():
            talk.hear(None)


class Talk:
    """One question to one sibling, and what is reported of its answer."""

    def __init__(self, carrier: Carrier, number: int) -> None:
        self._carrier, self._number = carrier, number
        self._reports: asyncio.Queue[Report | None] = asyncio.Queue()
        self._over = asyncio.Event()
        self._dropped = False

    def hear(self, report: Report | None) -> None:
        """None: the process has ended."""
        self._reports.put_nowait(report)
        if report is None or report[1] in said.LAST:
            self._over.set()

    async def next(self) -> Report:
        """Raises CarrierGone."""
        report = await self._reports.get()
        if report is None:
            raise CarrierGone
        return report

    def take(self, prefix: bytes, sizes: Mapping[int, int], orders: Sequence[Order]) -> None:
        """To be said once, when it has been told what the sibling holds."""
        self._carrier.say((said.TAKE, self._number, prefix, dict(sizes), list(orders)))

    async def over(self) -> None:
        """Wait until nothing more is written for it; what is under way is dropped."""
        if not self._over.is_set() and not self._dropped:
            self._dropped = True
            self._carrier.say((said.DROP, self._number))
        await self._over.wait()
