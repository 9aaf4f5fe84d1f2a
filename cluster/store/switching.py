"""Repositories at one site's disk: temporaries that wait for their state, and the switch from state to state.

A switch is one batch: its names are renamed in one go, the root last, with nothing between the renames. It is
committed beforehand that the state is the one to be published. So whoever dies in the middle of it finishes
it when the store is opened again: two states are mixed for as long as nobody runs, and no longer."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from cluster.model import Held, join, shown
from cluster.repository.verify import hasher
from cluster.store import adoption, rows, states
from cluster.store.states import Name, Stand, State
from cluster.store.tree import Change, Staged

if TYPE_CHECKING:
    from cluster.store.connections import Connections
    from cluster.store.tree import Tree

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

PIECE = 2**20  # bytes hashed at once

Publish = Callable[..., Awaitable[list[Exception | None]]]
OnDisk = Callable[..., Awaitable[Any]]


class Repositories:
    """See the module. One per mirror's store. Every method raises StoreError."""

    def __init__(self, records: Connections, tree: Tree, on_disk: OnDisk, publish: Publish) -> None:
        self._records, self._tree, self._on_disk, self._publish = records, tree, on_disk, publish

    async def ask(self, question: Callable[..., _T], *arguments: object) -> _T:
        """A question of `cluster.store.states`."""
        return await self._records.read(lambda c: question(c, *arguments))

    async def note(self, work: Callable[..., _T], *arguments: object) -> _T:
        """A change of `cluster.store.states` that forgets no temporaries. Not durable by itself: what is lost
        with the power is found out anew."""
        return await self._records.write(lambda c, _: work(c, *arguments))

    async def propose(self, new: State, names: Sequence[Name]) -> State:
        """A candidate in the place of the one before."""
        made, unused = await self._records.write(lambda c, _: states.propose(c, new, names))
        await self._remove(unused)
        return made

    async def forget(self, root: bytes) -> None:
        """A root is gone: what it named is protected no longer."""
        await self._remove(await self._records.write(lambda c, _: states.forget(c, root), durable=True))

    async def approve(self, older: bytes) -> bytes:
        """`states.approve`, durably: the root of the state. Raises UsageError."""
        return await self._records.write(lambda c, _: states.approve(c, older), durable=True)

    async def keep(self, kept: Sequence[tuple[bytes, Staged]]) -> None:
        """These (directory, temporary) wait for the switch, also over a crash. On StoreError they are
        gone."""
        try:
            await self._on_disk(self._tree.sync, [staged for _, staged in kept])
            unused = await self._records.write(lambda c, _: _kept(c, kept), durable=True)
        except BaseException:
            await self._on_disk(self._tree.discard, [staged for _, staged in kept])
            raise
        await self._remove(unused)

    async def refuse(self, refused: Sequence[tuple[bytes, Staged]]) -> None:
        """These are not what they should be: nobody goes on with them."""
        await self._on_disk(self._tree.discard, [staged for _, staged in refused])
        await self._records.write(lambda c, _: _forget_growing(c, refused))

    async def _remove(self, temporaries: Sequence[bytes]) -> None:
        if temporaries:
            await self._on_disk(self._tree.temporaries.remove, temporaries)

    async def open(self, path: bytes) -> BinaryIO | None:
        """What waits at `path`, or else is published there, to be read; None where neither is."""
        kept = await self.ask(states.waiting, path)
        descriptor: int | None = None
        if kept is not None:
            with contextlib.suppress(FileNotFoundError):
                descriptor = await self._on_disk(self._tree.temporaries.read, kept.temporary)
        if descriptor is None:
            descriptor = await self._on_disk(self._tree.open_file, path)
        return None if descriptor is None else os.fdopen(descriptor, "rb")

    async def copy(self, path: bytes, held: Held) -> Staged | None:
        """A temporary with the bytes of `open`, for a name that holds the same; None where they are
        others."""
        source = await self.open(path)
        if source is None:
            return None
        with source:
            staged: Staged = await self._on_disk(self._tree.copy, source.fileno(), held)
        if staged.held.sha256 == held.sha256:
            return staged
        await self._on_disk(self._tree.discard, [staged])
        return None

    async def prove(self, one: Name) -> bool:
        """Whether what is at `one.path` has the digest by which it is named; then its SHA-256 is known."""
        source = await self.open(one.path)
        if source is None:
            return False
        with source:
            sha256 = await self._on_disk(_proof, source, one)
        if sha256 is not None:
            await self.note(states.proven, one, sha256)
        return sha256 is not None

    async def matches(self, staged: Staged, one: Name) -> bool:
        """Whether a temporary is what is named."""
        if one.sha256 is not None:
            return staged.held.sha256 == one.sha256
        descriptor: int = await self._on_disk(self._tree.temporaries.read, staged.temporary)
        with os.fdopen(descriptor, "rb") as source:
            return await self._on_disk(_proof, source, one) is not None

    # -- the switch

    async def switch(self, state: State, now: int) -> list[tuple[bytes, str]]:
        """Publish everything of a complete state that waits, its root last. Returns why names could not be
        published, as (path, reason): the state is then still to be switched to, with the rest of them."""
        await self._records.write(lambda c, _: states.switching(c, state.id), durable=True)
        return await self._go_on(state, now)

    async def finish(self, now: int) -> None:
        """What a dead process had begun to switch to."""
        for state in await self.ask(states.standing, Stand.SWITCHING):
            for path, reason in await self._go_on(state, now):
                _log.warning("%s: %s", shown(path), reason)

    async def _go_on(self, state: State, now: int) -> list[tuple[bytes, str]]:
        groups = await self.ask(states.changes, state.id)
        waiting = [change for some in groups for change in some]
        there = await self._on_disk(_there, self._tree, waiting)
        failed = [
            _lost(change) for change, here in zip(waiting, there, strict=True) if _is_lost(change, here)
        ]
        gone = {id(change) for change, here in zip(waiting, there, strict=True) if not here}
        for some in groups:  # what is new by its name is on record before anything names it
            left = [change for change in some if id(change) not in gone]
            failed += await self._publish_some(left, now) if left and not failed else []
        there = await self._on_disk(_there, self._tree, waiting)
        over = [
            (change.directory, change.held.name)
            for change, here in zip(waiting, there, strict=True)
            if not here
        ]

        def conclude(connection: sqlite3.Connection) -> list[bytes]:
            states.no_longer(connection, over)
            if failed:
                states.back(connection, state.id)
                return []
            return states.switched(connection, state, now)

        await self._remove(await self._records.write(lambda c, _: conclude(c), durable=True))
        return failed

    async def _publish_some(self, changes: Sequence[Change], now: int) -> list[tuple[bytes, str]]:
        """As one batch; why names of it are not public, as (path, reason)."""
        own = await self._records.read(lambda c: {x.directory: rows.held(c, x.directory) for x in changes})
        attributes = {path: held for path, held in own.items() if held is not None}
        outcomes = await self._publish(changes, attributes, now, ordered=True)
        return [
            (join(change.directory, change.held.name), str(outcome))
            for change, outcome in zip(changes, outcomes, strict=True)
            if outcome is not None
        ]


def _is_lost(change: Change, here: bool) -> bool:
    """A temporary that is gone, and not because it was renamed."""
    published = change.previous is not None and change.previous.sha256 == change.held.sha256
    return not here and not published


def _lost(change: Change) -> tuple[bytes, str]:
    return join(change.directory, change.held.name), "what was fetched of it is gone"


def _kept(connection: sqlite3.Connection, kept: Sequence[tuple[bytes, Staged]]) -> list[bytes]:
    """What came by parts is no beginning any more."""
    _forget_growing(connection, kept)
    return states.keep(connection, kept)


def _forget_growing(connection: sqlite3.Connection, over: Sequence[tuple[bytes, Staged]]) -> None:
    for directory, staged in over:
        adoption.forget_growing(connection, join(directory, staged.held.name))


def _there(tree: Tree, changes: Sequence[Change]) -> list[bool]:
    """Which of their temporaries are there: what a dead process renamed is not."""
    found = []
    for change in changes:
        assert change.staged is not None
        try:
            os.stat(change.staged.temporary, dir_fd=tree.temporaries.folder, follow_symlinks=False)
        except FileNotFoundError:
            found.append(False)
        else:
            found.append(True)
    return found


def _proof(source: BinaryIO, name: Name) -> bytes | None:
    """The SHA-256 of all of `source`, if it is what is named. What we cannot compute proves nothing."""
    ours, size = hashlib.sha256(), 0
    try:
        told = hasher(name.algorithm) if name.algorithm else None
    except ValueError:
        return None
    while piece := source.read(PIECE):
        size += len(piece)
        ours.update(piece)
        if told is not None:
            told.update(piece)
    right = name.size in (None, size) and (told is None or told.digest() == name.digest)
    return ours.digest() if right else None
