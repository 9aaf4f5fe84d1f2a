"""What is noted of a large file that arrives by parts, and how much of that is really on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from blake3 import blake3

from cluster.store import blocks, linux
from cluster.store.staging import PIECE, Partial, explained
from cluster.store.temporaries import Temporaries


@dataclass(frozen=True, slots=True)
class Run:
    """Blocks that follow each other: the number of the first, where all came from, their hashes."""

    first: int
    source: str
    hashes: bytes


@dataclass(frozen=True, slots=True)
class Grown:
    """What is on disk of one version of a file, as the records say. `runs` may be what is new in it."""

    temporary: bytes
    path: bytes
    etag: str
    size: int
    runs: tuple[Run, ...] = ()


def adopted(temporaries: Temporaries, beginning: Partial) -> Grown | None:
    """The whole blocks of the beginning of a file that was to come in one piece; None where its bytes are
    not those that were hashed, or its size was not known."""
    try:
        descriptor = temporaries.reopen(beginning.temporary)
    except OSError:
        return None
    whole, found, at = sha256(), [blake3()], 0
    try:
        while at < beginning.length and (piece := os.pread(descriptor, _left(at, beginning.length), at)):
            whole.update(piece)
            found[-1].update(piece)
            at += len(piece)
            if at % blocks.BLOCK == 0:
                found.append(blake3())
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if whole.digest() != beginning.sha256 or beginning.size is None:
        return None
    hashes = b"".join(block.digest() for block in found[: at // blocks.BLOCK])
    runs = (Run(0, "origin", hashes),) if hashes else ()
    return Grown(beginning.temporary, beginning.path, beginning.etag, beginning.size, runs)


def _left(at: int, end: int) -> int:
    """How much is read at once: no piece goes beyond a block."""
    return min(PIECE, blocks.BLOCK - at % blocks.BLOCK, end - at)


def opened(temporaries: Temporaries, version: Grown) -> tuple[Grown, int, int]:
    """What is really here of it, its descriptor, and how many bytes the file system could not reserve."""
    with explained(temporaries, version.path):
        found = _resumed(temporaries, version) if version.temporary else None
        if found is None:
            name, descriptor = temporaries.create()
            found = Grown(name, version.path, version.etag, version.size), descriptor
        try:
            promised = _reserve(temporaries, found[0], found[1])
        except BaseException:
            os.close(found[1])
            if not found[0].runs:
                temporaries.remove([found[0].temporary])
            raise
    return *found, promised


def _resumed(temporaries: Temporaries, version: Grown) -> tuple[Grown, int] | None:
    try:
        descriptor = temporaries.reopen(version.temporary)
    except OSError:
        return None
    try:
        sure = [one for run in version.runs for one in _verified(descriptor, run, version.size)]
    except OSError:
        sure = []
    if sure:
        kept = Grown(version.temporary, version.path, version.etag, version.size, tuple(as_runs(sure)))
        return kept, descriptor
    os.close(descriptor)
    temporaries.remove([version.temporary])
    return None


def _verified(descriptor: int, run: Run, size: int) -> Iterable[tuple[int, bytes, str]]:
    """The blocks whose bytes have the hash that was noted."""
    for place in range(len(run.hashes) // 32):
        number, value = run.first + place, run.hashes[32 * place : 32 * place + 32]
        at, end = number * blocks.BLOCK, min((number + 1) * blocks.BLOCK, size)
        found = blake3()
        while at < end and (piece := os.pread(descriptor, min(PIECE, end - at), at)):
            found.update(piece)
            at += len(piece)
        if at == end and found.digest() == value:
            yield number, value, run.source


def _reserve(temporaries: Temporaries, version: Grown, descriptor: int) -> int:
    missing = max(version.size - os.fstat(descriptor).st_blocks * 512, 0)
    temporaries.space.require(missing, path=version.path)
    if not missing or linux.fallocate(descriptor, version.size):
        return 0
    temporaries.space.promise(missing)
    return missing


def as_runs(found: Iterable[tuple[int, bytes, str]]) -> Iterable[Run]:
    """Blocks (number, hash, source) in ascending order, as runs."""
    run: Run | None = None
    for number, value, source in found:
        if run is not None and number == run.first + len(run.hashes) // 32 and source == run.source:
            run = Run(run.first, source, run.hashes + value)
            continue
        if run is not None:
            yield run
        run = Run(number, source, value)
    if run is not None:
        yield run
