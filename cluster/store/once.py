"""Content that is here already gets its second name: `cluster.store.contents`, for whoever runs a pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.model import split
from cluster.store import contents, intents, rows
from cluster.store.contents import Contents, Need, Place
from cluster.store.sharing import Shared
from cluster.store.tree import Staged

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from cluster.store.connections import Connections
    from cluster.store.disk import Disk

__all__ = ["Need", "Place", "Shared", "StoredOnce"]


class StoredOnce:
    """What one pass asks of the contents of a site. Every method raises StoreError. `close` it."""

    def __init__(
        self,
        records: Connections,
        found: Contents,
        disk: Disk,
        replaced: Callable[[bytes, bytes], None],
    ) -> None:
        """`replaced` hears of a temporary that another one is published in the place of."""
        self._records, self._contents, self._disk = records, found, disk
        self._replaced = replaced

    @property
    def apart(self) -> bool:
        """Whether the file system turned out to be unable to share blocks."""
        return self._contents.apart

    def note(self, ready: Iterable[tuple[bytes, Staged]]) -> None:
        """These (path, temporary) are about to be published, or wait to be."""
        for path, staged in ready:
            self._contents.note(path, staged)

    async def find(self, digests: Sequence[bytes]) -> list[list[Place]]:
        """For each SHA-256, the files of this mirror that are recorded with it: some of them."""
        return await self._records.read(lambda c: [contents.find(c, one) for one in digests])

    async def stage(
        self, needs: Sequence[Need], known: Sequence[Sequence[Place]], *, copy: bool
    ) -> list[Shared | None]:
        """For each a temporary with the bytes that are here already, None where that cannot be. `known` is
        what `find` told. `copy`: also where it takes as much room again. Raises DiskFull as well.

        A file that turns out to be damaged is doubted from now on: the next pass heals it.
        """
        found, damaged = await self._disk.run(lambda: self._contents.stage(needs, known, copy=copy))
        if damaged:
            await self._records.write(lambda c, _: _doubt(c, damaged), durable=True)
        return found

    async def instead(self, ready: Sequence[tuple[Need, Staged]]) -> tuple[list[Staged], int]:
        """In the place of temporaries that have just come those that share their bytes with what was here
        before, where there are such; and how many bytes need no room so."""
        asked = [(at, need) for at, (need, _) in enumerate(ready) if need.held.sha256 and need.held.size]
        staged, room = [one for _, one in ready], 0
        known = await self.find([need.held.sha256 or b"" for _, need in asked])
        some = [
            (*one, places) for one, places in zip(asked, known, strict=True) if self._may_be(one[1], places)
        ]
        if not some:
            return staged, 0
        found = await self.stage([need for _, need, _ in some], [places for *_, places in some], copy=False)
        for (at, _, _), shared in zip(some, found, strict=True):
            if shared is not None:
                self._replaced(staged[at].temporary, shared.staged.temporary)
                await self._disk.run(self._contents.discard, staged[at])
                staged[at] = replace(shared.staged, blocks=shared.staged.blocks or staged[at].blocks)
                room += shared.room
        return staged, room

    def _may_be(self, need: Need, places: Sequence[Place]) -> bool:
        return bool(places) or (need.held.sha256 is not None and self._contents.may_have(need.held.sha256))

    async def close(self) -> None:
        await self._disk.run(self._contents.close)


def _doubt(connection: sqlite3.Connection, damaged: Iterable[bytes]) -> None:
    """Nobody believes these before they have been read again; their directories are looked at."""
    for path in damaged:
        directory, name = split(path)
        identity = rows.directory_id(connection, directory)
        if identity is not None:
            intents.doubt(connection, identity, [name])
            rows.mark_changed(connection, [directory])
