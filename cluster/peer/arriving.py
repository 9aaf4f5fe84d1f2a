"""The large files that arrive at this site by parts: siblings may read what is here of them already."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from cluster.errors import StoreError
from cluster.model import Kind, shown, value
from cluster.peer.client import Parts
from cluster.plan.chain import version_held
from cluster.store import blocks

if TYPE_CHECKING:
    from cluster.model import Held
    from cluster.store.growing import Growing
    from cluster.store.mirror import Reader


IDLE = 1.0  # s after which a sibling that has read nothing is not about to
COPYING = 10.0  # s for one range


@dataclass(slots=True)
class Spread:
    """Which ranges came here from the origin and are nowhere else, as far as siblings have read them here.

    One per mirror and pass. Times are monotonic.
    """

    _alone: dict[bytes, dict[int, int]] = field(default_factory=dict)  # by path: first byte, end
    _copied: dict[bytes, set[int]] = field(default_factory=dict)  # by path: blocks
    _read: float = float("-inf")  # when anything was last read
    _advanced: float = 0.0  # when a range was last copied, or reading began
    _slow: bool = False

    def came(self, path: bytes, first: int, end: int, now: float) -> None:
        """All of this range is here."""
        self._alone.setdefault(path, {})[first] = end
        self._look(path, now)

    def copied(self, path: bytes, first: int, end: int, now: float) -> None:
        """A sibling has been sent the bytes from `first`, where a block begins, to `end`."""
        if now - self._read >= IDLE:
            self._advanced = now
        self._read = now
        self._copied.setdefault(path, set()).update(_whole(first, end))
        self._look(path, now)

    def alone(self, now: float) -> int:
        """How many ranges there are that siblings are about to copy. None, where they read nothing for `IDLE`
        s; nor from then on where they copied no range for `COPYING` s: the origin is faster than they are."""
        waiting = sum(map(len, self._alone.values()))
        if now - self._read >= IDLE or not waiting:
            return 0
        self._slow = self._slow or now - self._advanced >= COPYING
        return 0 if self._slow else waiting

    def forget(self, path: bytes) -> None:
        """It arrives no more."""
        self._alone.pop(path, None)
        self._copied.pop(path, None)

    def _look(self, path: bytes, now: float) -> None:
        waiting, copied = self._alone.get(path, {}), self._copied.get(path, set())
        for first in [first for first, end in waiting.items() if copied.issuperset(_whole(first, end))]:
            del waiting[first]
            self._advanced = now


def _whole(first: int, end: int) -> range:
    """The blocks from `first`, where one begins, that are complete at `end`, a block's or the file's."""
    return range(first // blocks.BLOCK, -(-end // blocks.BLOCK))


@dataclass(slots=True)
class Arriving:
    """One per site; `Claims.arriving` is it. The engine writes, the peer server reads."""

    _files: dict[str, dict[bytes, Growing]] = field(default_factory=dict)
    _spread: dict[str, Spread] = field(default_factory=dict)

    def spread(self, mirror: str) -> Spread:
        """What siblings have copied of it."""
        return self._spread.setdefault(mirror, Spread())

    def begin(self, mirror: str, growing: Growing) -> None:
        """From now on its blocks may be read."""
        self._files.setdefault(mirror, {})[growing.path] = growing

    def end(self, mirror: str, path: bytes) -> Growing | None:
        """It is published, or given up. Whoever began it closes it."""
        if (spread := self._spread.get(mirror)) is not None:
            spread.forget(path)
        files = self._files.get(mirror)
        return files.pop(path, None) if files else None

    def clear(self, mirror: str) -> None:
        """The pass over this mirror has ended: what is left is closed."""
        self._spread.pop(mirror, None)
        for growing in self._files.pop(mirror, {}).values():
            growing.close()

    def count(self, mirror: str) -> int:
        """How many files of a mirror arrive so."""
        return len(self._files.get(mirror, {}))

    def has(self, mirror: str, path: bytes) -> bool:
        """Whether this file arrives so."""
        return path in self._files.get(mirror, {})

    def of(self, mirror: str, version: Version) -> Growing | None:
        """What arrives of exactly this version."""
        growing = self._files.get(mirror, {}).get(version.path)
        same = growing is not None and (growing.size, growing.etag) == (version.size, version.etag)
        return growing if same else None

    def __repr__(self) -> str:
        return f"<Arriving {sum(map(len, self._files.values()))} files>"


@value
class Version:
    """A file as the origin has it now: its size, and what names its version (`plan.chain.version_named`)."""

    path: bytes
    size: int
    etag: str


async def here(growing: Growing | None, reader: Reader | None, version: Version) -> Parts:
    """What can be read here of a version; without claims."""
    if growing is not None:
        return Parts(tuple(growing.runs()), arriving=True, sha256=growing.sha256)
    held = await reader.held(version.path) if reader is not None else None
    if held is None or not _is(held, version):
        return Parts()
    return Parts(((0, version.size),), sha256=held.sha256)


async def part_here(
    growing: Growing | None, reader: Reader | None, version: Version, first: int, end: int
) -> tuple[int, Callable[[], Awaitable[bytes]]] | None:
    """A descriptor to be closed, and how to get the BLAKE3 of each block from `first` to `end`, which may
    take its time, and raise StoreError; None where not all of that is here."""
    if growing is not None:
        hashes = growing.hashes(first, end)
        return None if hashes is None else (growing.opened(), partial(_known, hashes))
    if reader is None:
        return None
    from cluster.peer.sending import open_file  # with aiohttp's server, which a pass by itself has no use for

    opened = await open_file(reader, version.path)
    if opened is None:
        return None
    descriptor, held = opened
    if _is(held, version) and held.size > blocks.BLOCK:
        return descriptor, partial(_of_held, reader, version.path, held, descriptor, first, end)
    with contextlib.suppress(OSError):
        os.close(descriptor)
    return None


async def _known(hashes: bytes) -> bytes:
    return hashes


async def _of_held(reader: Reader, path: bytes, held: Held, descriptor: int, first: int, end: int) -> bytes:
    every = await reader.block_hashes(path, held, descriptor)
    hashes = every[32 * (first // blocks.BLOCK) : 32 * count(0, end)]
    if len(hashes) != 32 * count(first, end):
        raise StoreError(f"{shown(path)}: another version is recorded by now")
    return hashes


def count(first: int, end: int) -> int:
    """How many blocks there are from `first`, where one begins, to `end`."""
    return -(-end // blocks.BLOCK) - first // blocks.BLOCK


def _is(held: Held, version: Version) -> bool:
    same = (held.size, version_held(held)) == (version.size, version.etag)
    return held.kind is Kind.FILE and not held.unknown and same
