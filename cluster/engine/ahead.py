"""A glance at the directories that a walk comes to next, many with one question to the store.

Where nothing changed, what a pass costs is what each directory costs: a thread's turn and a handful of
questions for each of them was a third of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from cluster.engine.clock import Clock
from cluster.store.mirror import Glance, MirrorStore, View

AT_ONCE = 16  # directories of one question
HOLDS = 2.0  # s for which what was seen is believed: a deep tree is walked long after its siblings were seen
KEPT = 1024  # directories that were seen and not yet come to

_Seen = asyncio.Future[tuple[float, Mapping[bytes, Glance | View]]]


class Ahead:
    """`next_paths` are those that the walk is going to visit, the nearest first."""

    def __init__(self, store: MirrorStore, clock: Clock, next_paths: Callable[[], Iterable[bytes]]) -> None:
        self._store, self._clock, self._next_paths = store, clock, next_paths
        self._asked: dict[bytes, _Seen] = {}

    def __repr__(self) -> str:
        return f"<Ahead {len(self._asked)} asked about>"

    async def glance(self, directory: bytes) -> Glance | View | None:
        """A view where the directory is new and empty; None where it needs a whole one. Raises StoreError."""
        asked = self._asked.pop(directory, None)
        if asked is not None:
            at, found = await asyncio.shield(asked)
            if self._clock.monotonic() - at < HOLDS:
                return found.get(directory)
        _, found = await asyncio.shield(self._ask(directory))
        return found.get(directory)

    def close(self) -> None:
        """Nobody comes to what was asked about."""
        for asked in set(self._asked.values()):
            asked.cancel()
        self._asked.clear()

    def _ask(self, directory: bytes) -> _Seen:
        if len(self._asked) >= KEPT:
            self._asked.clear()
        further = (path for path in self._next_paths() if path not in self._asked and path != directory)
        paths = [directory, *islice(further, AT_ONCE - 1)]
        asked = asyncio.ensure_future(self._see(paths))
        for path in paths[1:]:
            self._asked[path] = asked
        return asked

    async def _see(self, paths: list[bytes]) -> tuple[float, Mapping[bytes, Glance | View]]:
        at = self._clock.monotonic()
        return at, await self._store.glances(paths)
