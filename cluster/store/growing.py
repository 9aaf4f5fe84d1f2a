"""One large file that arrives by parts: in any order, from several places at once, and shared while it grows.

What counts are whole blocks of 8 MiB, each with its BLAKE3 from the moment when it was written. A block is
noted in the records after its bytes were synced; after an interruption every noted block is read and hashed
again before it is believed.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from blake3 import blake3

from cluster.errors import StoreError
from cluster.model import Held, shown
from cluster.store import blocks, linux
from cluster.store.staging import FEW, PIECE, Partial, explained
from cluster.store.temporaries import Temporaries
from cluster.store.tree import Staged, Tree

_T = TypeVar("_T")


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


class Growing:
    """See the module. Made by `open`; ends with `keep`, or with `finish` and `close`.

    Every method raises DiskFull or StoreError.
    """

    def __init__(
        self,
        temporaries: Temporaries,
        version: Grown,
        descriptor: int,
        note: Callable[[Grown], Awaitable[None]],
        executor: Executor | None,
    ) -> None:
        self.path, self.etag, self.size = version.path, version.etag, version.size
        self.temporary = version.temporary
        self._temporaries, self._descriptor = temporaries, descriptor
        self._note, self._executor = note, executor
        self._blocks: dict[int, tuple[bytes, str]] = {}  # number: hash, source
        self._unsaved: set[int] = set()
        self._promised = 0
        self._busy: set[asyncio.Future[Any]] = set()
        self._saving = asyncio.Lock()
        for run in version.runs:
            self._add(run.first, run.source, run.hashes)

    @classmethod
    async def open(
        cls,
        tree: Tree,
        version: Grown,
        note: Callable[[Grown], Awaitable[None]],
        executor: Executor | None = None,
    ) -> Growing:
        """Room for all of `version`, with those of its blocks that are still what was noted; without a
        temporary it begins. `note` is given what is new, to be kept in the records."""
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(executor, _opened, tree.temporaries, version)
        try:
            found, descriptor, promised = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise
        growing = cls(tree.temporaries, found, descriptor, note, executor)
        growing._promised = promised
        return growing

    # -- what is here

    def has(self, start: int, stop: int) -> bool:
        """Whether every byte from `start` to `stop` is here. Both are where a block begins, or the end."""
        return self.prefix(start, stop) == stop - start

    def prefix(self, start: int, stop: int) -> int:
        """How many bytes of whole blocks are here from `start` on, up to `stop`."""
        at = start
        while at < stop and at // blocks.BLOCK in self._blocks:
            at += blocks.BLOCK
        return min(at, stop) - start

    def runs(self) -> list[tuple[int, int]]:
        """What is here, as ascending ranges that do not touch: first byte and end."""
        found: list[tuple[int, int]] = []
        for number in sorted(self._blocks):
            start, stop = number * blocks.BLOCK, min((number + 1) * blocks.BLOCK, self.size)
            if found and found[-1][1] == start:
                found[-1] = (found[-1][0], stop)
            else:
                found.append((start, stop))
        return found

    def hashes(self, start: int, stop: int) -> bytes | None:
        """The BLAKE3 of each block from `start` to `stop`; None where not all of it is here."""
        if not self.has(start, stop):
            return None
        return b"".join(self._blocks[n][0] for n in range(start // blocks.BLOCK, _up(stop)))

    def sources(self) -> Counter[str]:
        """How many blocks came from where: "origin" or a sibling's name."""
        return Counter(source for _, source in self._blocks.values())

    def opened(self) -> int:
        """A descriptor of its own for whoever reads what is here. OSError once it is closed."""
        return os.dup(self._descriptor)

    # -- filling it

    def part(self, start: int, stop: int, source: str, promised: bytes = b"") -> Part:
        """Take the bytes from `start` to `stop`, in order. `promised` are the hashes that the blocks of it
        must have, where somebody said."""
        return Part(self, start, stop, source, promised)

    def _write(self, at: int, pieces: Sequence[bytes]) -> None:
        with explained(self._temporaries, self.path):
            size = sum(map(len, pieces))
            written = os.pwritev(self._descriptor, pieces, at)
            rest = memoryview(b"".join(pieces))[written:] if written != size else memoryview(b"")
            while rest:
                written = os.pwrite(self._descriptor, rest, at + size - len(rest))
                rest = rest[written:]
            linux.start_writing(self._descriptor, at, size)

    def _add(self, first: int, source: str, hashes: bytes) -> None:
        for n in range(len(hashes) // 32):
            self._blocks[first + n] = (hashes[32 * n : 32 * n + 32], source)

    async def save(self) -> None:
        """Sync what is here, and note what is new of it."""
        async with self._saving:
            new = sorted(self._unsaved)
            if not new:
                return
            await self._run(self._sync)
            runs = tuple(_runs((n, *self._blocks[n]) for n in new))
            await self._note(Grown(self.temporary, self.path, self.etag, self.size, runs))
            self._unsaved.difference_update(new)

    def _sync(self) -> None:
        with explained(self._temporaries, self.path):
            os.fdatasync(self._descriptor)

    # -- the end

    async def finish(self, held: Held) -> Staged:
        """The complete file, read once from its beginning to its end; `held` gets size and sha256 filled in.
        It is still open, so that siblings may go on reading, and noted until it has been published."""
        await self._settled()
        await self.save()
        return await self._run(self._finish, held)

    def _finish(self, held: Held) -> Staged:
        with explained(self._temporaries, self.path):
            os.ftruncate(self._descriptor, self.size)
            digest = blocks.Digest()
            while piece := os.pread(self._descriptor, PIECE, digest.length):
                digest.update(piece)
            if digest.length != self.size or digest.blocks != self.hashes(0, self.size):
                raise StoreError(f"{shown(self.path)}: what was written is not what is read from the disk")
            complete = self._temporaries.dressed(self._descriptor, held, digest.sha256)
        return Staged(self.temporary, complete, complete.inode, digest.blocks)

    async def keep(self) -> None:
        """Leave what is here to a later attempt. (Room that was reserved behind it is given back.)"""
        await self._settled()
        end = max((min((n + 1) * blocks.BLOCK, self.size) for n in self._blocks), default=0)
        try:
            if end:
                await self.save()
                await self._run(os.ftruncate, self._descriptor, end)
            else:
                await self._run(self._temporaries.remove, [self.temporary])
        finally:
            self.close()

    def close(self) -> None:
        """Nobody reads it here any more. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:
            os.close(descriptor)
            self._temporaries.space.promise(-self._promised)

    async def _settled(self) -> None:
        """Wait for the threads: what they use must not be closed before."""
        while self._busy:
            await asyncio.wait(self._busy)

    def _begin(self, work: Callable[..., _T], *arguments: object) -> asyncio.Future[_T]:
        working = asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*arguments))
        self._busy.add(working)
        working.add_done_callback(self._over)
        return working

    def _over(self, working: asyncio.Future[Any]) -> None:
        self._busy.discard(working)
        if not working.cancelled():
            working.exception()  # who was cancelled meanwhile does not ask for it

    async def _run(self, work: Callable[..., _T], *arguments: object) -> _T:
        working = self._begin(work, *arguments)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait([working])
            raise

    def __repr__(self) -> str:
        return f"<Growing {shown(self.path)} {len(self._blocks)} of {_up(self.size)} blocks>"


class Part:
    """Bytes on their way into a growing file, in order. While 1 MiB is written and hashed on a thread, the
    next is gathered."""

    def __init__(self, growing: Growing, start: int, stop: int, source: str, promised: bytes) -> None:
        self.received = start  # the byte of the file that comes next
        self._growing, self._source, self._promised = growing, source, promised
        self._first = start // blocks.BLOCK
        self._at, self._stop = start, stop  # `_at`: how far it has been written and hashed
        self._gathered: list[bytes] = []
        self._size = 0
        self._block = blake3()
        self._work: asyncio.Future[list[tuple[int, bytes]]] | None = None
        self._right = True

    async def write(self, chunk: bytes) -> bool:
        """Take the next bytes. False where a block is not what was promised, or there are too many: no block
        of which that is true counts as here, and nothing more may be written."""
        if self.received + len(chunk) > self._stop:
            self._right = False
        if self._right:
            self._gathered.append(chunk)
            self._size += len(chunk)
            self.received += len(chunk)
            if self._size >= PIECE:
                await self._hand_over()
        return self._right

    async def done(self) -> bool:
        """Nothing more is written: whether all of it is here. What is, is noted in the records."""
        await self._hand_over()
        await self._idle()
        await self._growing.save()
        return self._right and self._at == self._stop

    async def _hand_over(self) -> None:
        await self._idle()
        pieces, self._gathered, self._size = self._gathered, [], 0
        if pieces and self._right:
            joined = pieces if len(pieces) <= FEW else [b"".join(pieces)]
            self._work = self._growing._begin(self._take, joined)

    async def _idle(self) -> None:
        """Wait for the thread, and count the blocks that it found whole."""
        work, self._work = self._work, None
        for number, value in await asyncio.shield(work) if work is not None else ():
            place = 32 * (number - self._first)
            if self._promised and self._promised[place : place + 32] != value:
                self._right = False
                return
            self._growing._blocks[number] = (value, self._source)
            self._growing._unsaved.add(number)

    def _take(self, pieces: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Write and hash; the blocks that are whole now."""
        self._growing._write(self._at, pieces)
        whole: list[tuple[int, bytes]] = []
        for piece in pieces:
            view = memoryview(piece)
            while view:
                some = view[: blocks.BLOCK - self._at % blocks.BLOCK]
                self._block.update(some)
                self._at += len(some)
                view = view[len(some) :]
                if self._at % blocks.BLOCK == 0 or self._at == self._growing.size:
                    whole.append(((self._at - 1) // blocks.BLOCK, self._block.digest()))
                    self._block = blake3()
        return whole


# -- opening


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


def _opened(temporaries: Temporaries, version: Grown) -> tuple[Grown, int, int]:
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
        kept = Grown(version.temporary, version.path, version.etag, version.size, tuple(_runs(sure)))
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


def _close_unwanted(opening: asyncio.Future[tuple[Grown, int, int]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()[1])


def _runs(found: Iterable[tuple[int, bytes, str]]) -> Iterable[Run]:
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


def _up(end: int) -> int:
    """The number of the block behind the one that holds the byte before `end`."""
    return -(-end // blocks.BLOCK)
