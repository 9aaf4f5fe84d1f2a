"""What others are told of one mirror: the digests of its directories and the status files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from cluster.store import digest, publicity
from cluster.store.connections import Connections
from cluster.store.disk import Disk
from cluster.store.publicity import Publicity


class Telling:
    """See the module. One at a time writes status files: they share file names."""

    def __init__(self, records: Connections, disk: Disk, publicity: Publicity) -> None:
        self._records, self._disk, self._publicity = records, disk, publicity
        self._alone = asyncio.Lock()

    async def scrub_digests(self) -> bytes:
        """Bring the directory digests up to date after changes; the root's digest."""
        while await self._records.write(lambda c, _: digest.scrub_some(c)):
            pass
        return await self._records.read(lambda c: digest.stored_digest(c, b"")) or digest.EMPTY

    async def write_status(self, limit_seconds: float | None = None) -> None:
        """Rewrite the status files of directories that changed, and the mirror's.

        With a limit it stops after that many seconds, and passes over large directories that were written
        lately; without one everything is up to date afterwards. Raises DiskFull, StoreError; what was
        there stays then.
        """
        await self._disk.whole(self._write_status(limit_seconds))  # one at a time: they share file names

    async def _write_status(self, limit_seconds: float | None) -> None:
        started = time.monotonic()
        async with self._alone:
            await self.scrub_digests()
            after = 0
            while limit_seconds is None or time.monotonic() - started < limit_seconds:
                now, last = int(time.time()), after
                after, written = await self._records.read(
                    lambda c: self._publicity.write_some(c, last, now, patient=limit_seconds is not None)  # noqa: B023
                )
                if not written:
                    break
                await self._records.write(lambda c, _: publicity.done(c, written))  # noqa: B023
            now = int(time.time())
            await self._records.read(lambda c: self._publicity.write_mirror(c, now))

    async def withdraw(self, paths: Sequence[bytes], above: Sequence[bytes], now: int) -> None:
        """These are gone: out of the status files of the directories above them, before they go."""
        async with self._alone:
            await self._records.read(lambda c: self._publicity.write(c, above, now))
            await self._disk.run(self._publicity.files.remove, paths)

    def close(self) -> None:
        self._publicity.files.close()
