"""The large files that arrive at this site by parts: siblings may read what is here of them already."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.model import Kind
from cluster.peer.client import Parts
from cluster.peer.sending import open_file
from cluster.plan.chain import version_held
from cluster.store import blocks

if TYPE_CHECKING:
    from cluster.model import Held
    from cluster.store.growing import Growing
    from cluster.store.mirror import Reader


@dataclass(slots=True)
class Arriving:
    """One per site; `Claims.arriving` is it. The engine writes, the peer server reads."""

    _files: dict[str, dict[bytes, Growing]] = field(default_factory=dict)

    def begin(self, mirror: str, growing: Growing) -> None:
        """From now on its blocks may be read."""
        self._files.setdefault(mirror, {})[growing.path] = growing

    def end(self, mirror: str, path: bytes) -> Growing | None:
        """It is published, or given up. Whoever began it closes it."""
        return self._files.get(mirror, {}).pop(path, None)

    def clear(self, mirror: str) -> None:
        """The pass over this mirror has ended: what is left is closed."""
        for growing in self._files.pop(mirror, {}).values():
            growing.close()

    def count(self, mirror: str) -> int:
        """How many files of a mirror arrive so."""
        return len(self._files.get(mirror, {}))

    def of(self, mirror: str, version: Version) -> Growing | None:
        """What arrives of exactly this version."""
        growing = self._files.get(mirror, {}).get(version.path)
        same = growing is not None and (growing.size, growing.etag) == (version.size, version.etag)
        return growing if same else None

    def __repr__(self) -> str:
        return f"<Arriving {sum(map(len, self._files.values()))} files>"


@dataclass(frozen=True, slots=True)
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
) -> tuple[int, bytes] | None:
    """A descriptor to be closed, and the BLAKE3 of each block from `first` to `end`; None where not all of
    that is here."""
    if growing is not None:
        hashes = growing.hashes(first, end)
        return None if hashes is None else (growing.opened(), hashes)
    if reader is None:
        return None
    every = await reader.blocks(version.path)
    hashes = every[32 * (first // blocks.BLOCK) : 32 * count(0, end)]
    opened = await open_file(reader, version.path)
    if opened is None:
        return None
    descriptor, held = opened
    if _is(held, version) and len(hashes) == 32 * count(first, end):
        return descriptor, hashes
    with contextlib.suppress(OSError):
        os.close(descriptor)
    return None


def count(first: int, end: int) -> int:
    """How many blocks there are from `first`, where one begins, to `end`."""
    return -(-end // blocks.BLOCK) - first // blocks.BLOCK


def _is(held: Held, version: Version) -> bool:
    same = (held.size, version_held(held)) == (version.size, version.etag)
    return held.kind is Kind.FILE and not held.unknown and same
