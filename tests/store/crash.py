"""A program that dies at its n-th effect: before it, or (for renames) in the middle of it.

Effects are the calls into the tree and into the status files, and the transactions. After the death nothing
of the dead store has any effect, as nothing of a killed process has.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Any

from cluster.model import Held, Kind, join, split
from cluster.store.mirror import MirrorStore
from tests.store.world import World


class Died(BaseException):
    pass


TREE = ("stage_small", "sync", "apply", "settle", "settle_with", "trash", "discard", "scan", "hash_file")
STATUS = ("write", "remove", "write_mirror", "forget")


class Fuse:
    """Burns down by one with each effect."""

    def __init__(self, length: int) -> None:
        self.left = length
        self.log: list[str] = []

    @property
    def dead(self) -> bool:
        return self.left < 0

    def burn(self, effect: str) -> None:
        if self.left <= 0:
            self.left = -1
            raise Died(effect)
        self.left -= 1
        self.log.append(effect)


class Mortal:
    """Some methods of an object are effects."""

    def __init__(self, inner: Any, fuse: Fuse, effects: tuple[str, ...]) -> None:
        self._inner, self._fuse, self._effects = inner, fuse, effects

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in self._effects:
            return value

        def effect(*arguments: Any, **named: Any) -> Any:
            if name in ("apply", "trash") and len(arguments[0]) > 1:
                return [one for item in arguments[0] for one in effect([item], *arguments[1:], **named)]
            self._fuse.burn(name)
            return value(*arguments, **named)

        return effect


def arm(store: MirrorStore, fuse: Fuse) -> None:
    tree, publicity = Mortal(store._tree, fuse, TREE), store._telling._publicity
    for part in (store, store._effects, store.beginnings, store.repositories):
        part._tree = tree  # type: ignore[assignment]
    publicity.files = Mortal(publicity.files, fuse, STATUS)  # type: ignore[assignment]
    records = store._records
    transact = records._transact

    def mortal(work: Any, durable: bool) -> Any:
        fuse.burn("commit" if durable else "note")
        return transact(work, durable)

    records._transact = mortal  # type: ignore[method-assign]


async def bury(store: MirrorStore) -> None:
    """Free what the kernel frees when a process is gone; nothing else."""
    records = store._records
    records._reading.shutdown()
    records._writing.shutdown()
    for connection in [*records._opened, records._writer]:
        with contextlib.suppress(Exception):
            connection.rollback()
        connection.close()
    store._disk.threads.shutdown()
    inner = store._tree._inner if isinstance(store._tree, Mortal) else store._tree
    inner.close()
    os.close(store._lock._descriptor)
    store._lock._descriptor = -1


async def check(world: World, store: MirrorStore, versions: dict[bytes, set[bytes]]) -> None:
    """Every public file is one whole version; what is recorded without doubt is on disk, byte for byte."""
    on_disk = world.bodies()
    for path, body in on_disk.items():
        assert body in versions[path], path
    for path in versions:
        held = await store.held(path)
        if held is not None and not held.unknown:
            await check_one(world, path, held, on_disk)


async def check_one(world: World, path: bytes, held: Held, on_disk: dict[bytes, bytes]) -> None:
    assert held.kind is Kind.FILE
    assert path in on_disk, f"{path!r} is recorded, and not on disk"
    assert hashlib.sha256(on_disk[path]).digest() == held.sha256, f"{path!r} has other content"
    stat = os.stat(join(os.fsencode(world.public), path))
    assert (stat.st_ino, stat.st_mtime_ns) == (held.inode, held.disk_mtime), path
    assert split(path)[1] == held.name
