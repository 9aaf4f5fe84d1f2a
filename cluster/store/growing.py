"""One large file that arrives by parts: in any order, from several places at once, and shared while it grows.

What counts are whole blocks of 8 MiB, each with its BLAKE3 from the moment when it was written. A block is
noted in the records after its bytes were synced; after an interruption every noted block is read and hashed
again before it is believed.

What is here without a gap from the beginning on is read on a thread for its SHA-256 while the rest arrives,
most of it from memory still, so that at the end little of the file is left to be read.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from blake3 import blake3

from cluster.errors import StoreError
from cluster.model import Held, shown
from cluster.store import blocks, linux
from cluster.store.grown import Grown, as_runs, opened
from cluster.store.staging import FEW, PIECE, explained
from cluster.store.temporaries import Temporaries
from cluster.store.tree import Staged, Tree

STRIDE = 4 * blocks.BLOCK  # bytes that are read for the SHA-256 before a thread is free for others again

_T = TypeVar("_T")


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
        self.sha256: bytes | None = None  # of the whole, once it is known that all of it is one version
        self._temporaries, self._descriptor = temporaries, descriptor
        self._note, self._executor = note, executor
        self._blocks: dict[int, tuple[bytes, str]] = {}  # number: hash, source
        self._unsaved: set[int] = set()
        self._promised = 0
        self._digest = blocks.Digest()  # of what is here without a gap
        self._reading: asyncio.Future[None] | None = None
        self._ending = False
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
        opening = loop.run_in_executor(executor, opened, tree.temporaries, version)
        try:
            found, descriptor, promised = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise
        growing = cls(tree.temporaries, found, descriptor, note, executor)
        growing._promised = promised
        growing._read_on()
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
        must have, where somebody said. Blocks that are here are compared with what comes, and stay."""
        return Part(self, start, stop, source, promised)

    def _write(self, at: int, pieces: Sequence[bytes | memoryview]) -> None:
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

    def _here(self, number: int, value: bytes, source: str) -> None:
        if number not in self._blocks:
            self._unsaved.add(number)
        self._blocks[number] = (value, source)
        self._read_on()

    def _read_on(self) -> None:
        """Let a thread read what has no gap before it any more, unless one does."""
        at = self._digest.length
        end = at + self.prefix(at, min(at + STRIDE, self.size)) if at % blocks.BLOCK == 0 else at
        if end > at and not self._ending and (self._reading is None or self._reading.done()):
            self._reading = self._begin(self._read, end)
            self._reading.add_done_callback(self._was_read)

    def _was_read(self, reading: asyncio.Future[None]) -> None:
        if not reading.cancelled() and reading.exception() is None:
            self._read_on()  # else `finish` meets what is wrong again

    def _read(self, end: int) -> None:
        digest = self._digest
        while digest.length < end:
            piece = os.pread(self._descriptor, min(PIECE, end - digest.length), digest.length)
            if not piece:
                return
            digest.update(piece)

    async def save(self) -> None:
        """Sync what is here, and note what is new of it."""
        async with self._saving:
            new = sorted(self._unsaved)
            if not new:
                return
            await self._run(self._sync)
            runs = tuple(as_runs((n, *self._blocks[n]) for n in new))
            await self._note(Grown(self.temporary, self.path, self.etag, self.size, runs))
            self._unsaved.difference_update(new)

    def _sync(self) -> None:
        with explained(self._temporaries, self.path):
            os.fdatasync(self._descriptor)

    # -- the end

    async def finish(self, held: Held) -> Staged:
        """The complete file, read once from its beginning to its end; `held` gets size and sha256 filled in.
        It is still open, so that siblings may go on reading, and noted until it has been published."""
        self._ending = True
        await self._settled()
        await self.save()
        return await self._run(self._finish, held)

    def _finish(self, held: Held) -> Staged:
        with explained(self._temporaries, self.path):
            os.ftruncate(self._descriptor, self.size)
            self._read(self.size)
            digest = self._digest
            if digest.length != self.size or digest.blocks != self.hashes(0, self.size):
                raise StoreError(f"{shown(self.path)}: what was written is not what is read from the disk")
            complete = self._temporaries.dressed(self._descriptor, held, digest.sha256)
        return Staged(self.temporary, complete, complete.inode, digest.blocks)

    async def keep(self) -> None:
        """Leave what is here to a later attempt. (Room that was reserved behind it is given back.)"""
        self._ending = True
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
        self.differs = False  # from what is here

    async def write(self, chunk: bytes) -> bool:
        """Take the next bytes. False where a block is not what was promised or what is here, or there are too
        many: no block of which that is true counts as here, and nothing more may be written."""
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
            have = self._growing._blocks.get(number)
            self.differs = have is not None and have[0] != value
            if self.differs or (self._promised and self._promised[place : place + 32] != value):
                self._right = False
                return
            self._growing._here(number, value, self._source)

    def _take(self, pieces: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Write what is new, and hash; the blocks that are whole now."""
        whole: list[tuple[int, bytes]] = []
        new: list[memoryview] = []
        for piece in pieces:
            view = memoryview(piece)
            while view:
                some = view[: blocks.BLOCK - self._at % blocks.BLOCK]
                if self._at // blocks.BLOCK not in self._growing._blocks:
                    new.append(some)
                elif new:
                    self._flush(new)
                self._block.update(some)
                self._at += len(some)
                view = view[len(some) :]
                if self._at % blocks.BLOCK == 0 or self._at == self._growing.size:
                    whole.append(((self._at - 1) // blocks.BLOCK, self._block.digest()))
                    self._block = blake3()
        if new:
            self._flush(new)
        return whole

    def _flush(self, new: list[memoryview]) -> None:
        """Write what ends where `_at` is."""
        self._growing._write(self._at - sum(map(len, new)), new)
        new.clear()


def _close_unwanted(opening: asyncio.Future[tuple[Grown, int, int]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()[1])


def _up(end: int) -> int:
    """The number of the block behind the one that holds the byte before `end`."""
    return -(-end // blocks.BLOCK)
