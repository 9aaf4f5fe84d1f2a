"""Our end of the courier: its process, and what is said to it (`wire`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Self, cast

from cluster.courier import wire
from cluster.courier.process import Process
from cluster.origin.base import PlainFtp

if TYPE_CHECKING:
    from cluster.origin.base import Loan, Plain


class Courier:
    """A process that fetches from one origin into one folder of temporaries."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._sending = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Courier {self._process.pid}>"

    @classmethod
    async def start(cls, lent: Loan, folder: int) -> Self:
        """One for what the origin lent; `folder` is an open directory. Raises OSError."""
        settings: wire.Settings | wire.FtpSettings
        if isinstance(lent, PlainFtp):
            program, settings = "ftp_program", _ftp_settings(lent)
        else:
            program, settings = "program", _settings(lent)
        process = await Process.start(program, folder)
        try:
            await process.send(wire.frame(settings))
        except BaseException:
            await process.close()
            raise
        return cls(process)

    async def send(self, errand: wire.Errand) -> None:
        """Raises OSError where the process is gone."""
        async with self._sending:
            await self._process.send(wire.frame(errand))

    async def reports(self) -> AsyncIterator[wire.Report]:
        """Until the process is gone."""
        async for report in self._process.messages():
            yield cast("wire.Report", report)

    async def close(self) -> None:
        """See `Process.close`."""
        await self._process.close()


def _settings(lent: Plain) -> wire.Settings:
    return lent.addresses, lent.bind, lent.head, lent.tail, lent.connect, lent.silence, lent.tls


def _ftp_settings(lent: PlainFtp) -> wire.FtpSettings:
    (address,) = lent.addresses
    return address, lent.bind, lent.user, lent.password, lent.utf8, lent.extended, lent.silence
