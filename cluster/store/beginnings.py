"""What has begun to come of one mirror's files, and is gone on with after whatever ended it.

A file that comes in one piece leaves a partial, one that comes by parts is noted while it grows, and what
another program brings into a landing is taken from there.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from functools import partial

from cluster.store import adoption
from cluster.store.connections import Connections
from cluster.store.disk import Disk
from cluster.store.growing import Growing
from cluster.store.grown import Grown, adopted
from cluster.store.landing import Landing
from cluster.store.staging import Partial, Staging
from cluster.store.tree import Change, Tree


class Beginnings:
    """See the module. Every method raises DiskFull, StoreError."""

    def __init__(self, records: Connections, tree: Tree, disk: Disk) -> None:
        self._records, self._tree, self._disk = records, tree, disk
        self._growing: dict[bytes, bytes] = {}  # temporary: path, of what comes by parts

    async def land(self, begun: Sequence[bytes]) -> Landing:
        """A private folder into which another program may bring files. It goes on with what an earlier
        attempt has left of these paths. Raises DiskFull, StoreError."""
        found = [
            one
            for path in begun
            if (one := await self._records.read(partial(adoption.partial, path=path))) is not None
        ]
        landing = await self._disk.run(self._tree.landing)
        for one in found:
            await self._records.write(lambda c, _: adoption.take_partial(c, one.path))  # noqa: B023  # awaited
            await self._disk.run(landing.resume, one.path, one.temporary)
        return landing

    async def leave(self, landing: Landing, begun: Mapping[bytes, int]) -> None:
        """Nobody brings anything more. Of these paths (with their sizes) what has begun to come is kept for
        the next attempt; the folder is gone afterwards, also where the caller is cancelled meanwhile."""
        await self._disk.whole(self._leave(landing, begun))

    async def _leave(self, landing: Landing, begun: Mapping[bytes, int]) -> None:
        try:
            for path, size in begun.items():
                found = await self._disk.run(landing.interrupted, path, adoption.BROUGHT)
                if found is not None:
                    await self._keep(Partial(found[0], path, "", size, found[1], b""))
        finally:
            await self._disk.run(landing.remove)

    async def stage(self, path: bytes, size: int | None) -> Staging:
        """A temporary for one large file; goes on with a partial of an earlier attempt where there is one."""
        if await self.is_growing(path):
            await self._forget_growing(path)
        begun = await self._records.read(lambda c: adoption.partial(c, path))
        if begun is not None:
            begun = await self._records.write(lambda c, _: adoption.take_partial(c, path))
        return await Staging.open(
            self._tree, path, size, partial=begun, keep=self._keep, executor=self._disk.threads
        )

    async def _keep(self, kept: Partial) -> None:
        now = int(time.time())
        replaced = await self._records.write(lambda c, _: adoption.keep_partial(c, kept, now))
        if replaced:
            await self._disk.run(self._tree.temporaries.remove, [replaced])

    async def is_growing(self, path: bytes) -> bool:
        """Whether parts of it are here from an earlier attempt."""
        return await self._records.read(lambda c: adoption.growing(c, path)) is not None

    async def grow(self, path: bytes, size: int, etag: str) -> Growing:
        """A temporary for one large file that comes by parts; goes on with what is here of this very version,
        also where that was to come in one piece. It is noted until it has been published. Raises DiskFull,
        StoreError."""
        begun = await self._records.read(lambda c: adoption.growing(c, path))
        begun = begun or await self._beginning(path, size, etag)
        if begun is None or (begun.size, begun.etag) != (size, etag):
            await self._forget_growing(path)
            begun = Grown(b"", path, etag, size)
        growing = await Growing.open(self._tree, begun, self._note_growing, self._disk.threads)
        self._growing[growing.temporary] = path
        return growing

    async def ungrow(self, growing: Growing) -> None:
        """Throw away what is here of it: it is not what it was taken for. Raises StoreError."""
        await growing.keep()
        self._growing.pop(growing.temporary, None)
        await self._forget_growing(growing.path)

    async def _beginning(self, path: bytes, size: int, etag: str) -> Grown | None:
        """The beginning of a file that was to come in one piece, as parts from now on."""
        partial = await self._records.read(lambda c: adoption.partial(c, path))
        if partial is None or (partial.size, partial.etag) != (size, etag):
            return None
        found = await self._disk.run(adopted, self._tree.temporaries, partial)
        if found is None or not found.runs:
            return None
        now = int(time.time())

        def noted(connection: sqlite3.Connection) -> None:
            adoption.take_partial(connection, path)
            adoption.note_growing(connection, found, now)

        await self._records.write(lambda c, _: noted(c))
        return found

    async def _note_growing(self, new: Grown) -> None:
        now = int(time.time())
        await self._records.write(lambda c, _: adoption.note_growing(c, new, now))

    async def _forget_growing(self, path: bytes) -> None:
        """Both its parts and its beginning."""

        def forget(connection: sqlite3.Connection) -> list[bytes]:
            partial = adoption.take_partial(connection, path)
            names = [partial.temporary if partial else None, adoption.forget_growing(connection, path)]
            return [name for name in names if name is not None]

        names = await self._records.write(lambda c, _: forget(c))
        await self._disk.run(self._tree.temporaries.remove, names)

    async def drop_begun(self) -> None:
        """Everything that the origin lists is here: what was begun is of versions that it has no more."""
        if await self._records.read(adoption.begun):
            names = await self._records.write(lambda c, _: adoption.forget_begun(c))
            await self._disk.run(self._tree.temporaries.remove, names)

    def replaced(self, temporary: bytes, other: bytes) -> None:
        """What came by parts is over when `other` is published."""
        path = self._growing.pop(temporary, None)
        if path is not None:
            self._growing[other] = path

    def grown(self, change: Change) -> bytes | None:
        """The path of what came by parts."""
        return self._growing.pop(change.staged.temporary, None) if change.staged is not None else None
