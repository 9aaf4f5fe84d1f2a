"""One large file on its way to a temporary: received on the event loop, written and hashed on threads.

While one piece is written and hashed the next one is gathered, so that network and disk overlap; a file
holds at most two pieces and one chunk in memory. What a thread can receive goes another way (`intake`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from cluster.errors import StoreError
from cluster.model import Held, value
from cluster.store import linux
from cluster.store.blocks import Digest
from cluster.store.intake import PAGE, Intake
from cluster.store.small import write_all
from cluster.store.temporaries import Temporaries
from cluster.store.tree import Staged, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

PIECE = 2**20  # bytes handed to the threads at once
FEW = 32  # chunks that are written as they are; more are joined, which costs a copy
_START_WRITING = 8 * 2**20  # the disk begins to write after that many

_T = TypeVar("_T")


@value
class Partial:
    """What arrived of a version that `etag` names, kept for a resume. `sha256` is of its `length` bytes."""

    temporary: bytes
    path: bytes
    etag: str
    size: int | None  # of the whole version, as it was expected
    length: int
    sha256: bytes


class Staging:
    """See the module. Made by `open`; ends with `finish` or `abandon`, of which a second call does nothing.

    Every method raises DiskFull or StoreError; then, as on every other way out, `abandon` it.
    """

    start: int
    """Bytes of an earlier attempt that are there already (verified on open)."""
    etag: str | None
    """The strong validator they belong to."""

    def __init__(
        self,
        sink: _Sink,
        path: bytes,
        size: int | None,
        partial: Partial | None,
        keep: Callable[[Partial], Awaitable[None]] | None,
        executor: Executor | None,
    ) -> None:
        self.start = sink.digest.length
        self.etag = partial.etag if partial is not None and self.start else None
        self._sink, self._path, self._keep, self._executor = sink, path, keep, executor
        self._expected = size
        self._gathered: list[bytes] = []
        self._size = 0
        self._work: list[asyncio.Future[None]] = []
        self._intake: Intake | None = None
        self._over = False

    @classmethod
    async def open(
        cls,
        tree: Tree,
        path: bytes,
        size: int | None,
        *,
        partial: Partial | None = None,
        keep: Callable[[Partial], Awaitable[None]] | None = None,
        executor: Executor | None = None,
    ) -> Staging:
        """A temporary for the file that will be at `path`, with room for `size` bytes where that is known.

        `partial` is what an earlier `keep` was given: it goes on from there where its bytes are still those
        that were hashed, and is removed otherwise. Without `keep`, nothing is kept by `abandon`.
        """
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(executor, _Sink.open, tree.temporaries, path, size, partial)
        try:
            sink = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise
        return cls(sink, path, size, partial, keep, executor)

    async def restart(self) -> None:
        """Throw away what is there."""
        await self._idle()
        self._gathered, self._size = [], 0
        await self._run(self._sink.restart)
        self.start, self.etag = 0, None

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Returns when there is room for more."""
        self._gathered.append(chunk)
        self._size += len(chunk)
        if self._size >= PIECE:
            await self._hand_over()

    def intake(self, *, aside: bool, parts: bool = True) -> Intake:
        """Where one thread puts the rest of the bytes, instead of `write`; it has ended when anything else is
        called here. `aside`: nobody will soon read them here, so that they need not be kept in memory. Not
        `parts`: nobody is there who may ask for ranges of it (`cluster.store.late`)."""
        if aside:
            self._sink.go_aside(self._expected)
        if not parts:
            self._sink.digest.whole_only()
        self._intake = Intake(self._sink.digest, self._sink.write_one, self._sink.digest.length)
        return self._intake

    async def finish(self, held: Held) -> Staged:
        """Set times and modes; `held` gets size and sha256 filled in."""
        await self._all_written()
        staged = await self._run(self._sink.finish, held)
        self._over = True
        return staged

    async def abandon(self, etag: str | None) -> None:
        """Keep what arrived for a resume when `etag` names its version, else remove it."""
        if self._over:
            return
        self._over = True
        partial: Partial | None = None
        try:
            if etag is not None and self._keep is not None:
                await self._all_written()
                partial = await self._run(self._sink.suspend, self._path, etag, self._expected)
                await self._keep(partial)
        except StoreError:
            partial = None
        finally:
            await self._settled()
            if self._intake is not None:
                await self._run(self._intake.close)
            if partial is None:
                await self._run(self._sink.remove)

    async def _all_written(self) -> None:
        if self._intake is not None:
            await self._run(self._intake.flush)
        await self._hand_over()
        await self._idle()

    async def _hand_over(self) -> None:
        """Give the gathered piece to the threads, when they are done with the last one."""
        await self._idle()
        if self._gathered:
            pieces, self._gathered, self._size = self._gathered, [], 0
            loop = asyncio.get_running_loop()
            if len(pieces) > FEW:
                pieces = [b"".join(pieces)]
            self._work = [
                loop.run_in_executor(self._executor, self._sink.write, pieces),
                loop.run_in_executor(self._executor, self._sink.hash, pieces),
            ]

    async def _idle(self) -> None:
        """Wait for the threads. Raises what they raised."""
        await self._settled()
        work, self._work = self._work, []
        for done in work:
            done.result()

    async def _settled(self) -> None:
        # asyncio.wait, unlike await, leaves the work alone when we are cancelled: the thread goes on
        # using the descriptor, which must not be closed before it is done.
        if self._work:
            await asyncio.wait(self._work)

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        working = asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*arguments))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait([working])
            raise


def _close_unwanted(opening: asyncio.Future[_Sink]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().remove()


class _Sink:
    """The open temporary. Used by one thread at a time, but that the digest runs beside the write."""

    def __init__(self, temporaries: Temporaries, path: bytes, name: bytes, descriptor: int) -> None:
        self.digest = Digest()
        self._temporaries, self._path = temporaries, path
        self._name, self._descriptor = name, descriptor
        self._written = 0
        self._started = 0  # how far the disk was told to write
        self._promised = 0
        self._aside = False  # written past the page cache

    @classmethod
    def open(cls, temporaries: Temporaries, path: bytes, size: int | None, partial: Partial | None) -> _Sink:
        with explained(temporaries, path):
            sink = cls._resumed(temporaries, path, size, partial) if partial is not None else None
            sink = sink or cls(temporaries, path, *temporaries.create())
            try:
                sink._reserve(size)
            except BaseException:
                sink.remove()
                raise
            return sink

    @classmethod
    def _resumed(
        cls, temporaries: Temporaries, path: bytes, size: int | None, partial: Partial
    ) -> _Sink | None:
        """The temporary of an earlier attempt, if its size fits and its bytes are those that were hashed."""
        try:
            sink = cls(temporaries, path, partial.temporary, temporaries.reopen(partial.temporary))
        except OSError:
            return None
        with contextlib.suppress(OSError):
            if size in (None, partial.size) and sink._verified(partial):
                return sink
        sink.remove()
        return None

    def _verified(self, partial: Partial) -> bool:
        while self.digest.length < partial.length:
            piece = os.read(self._descriptor, min(PIECE, partial.length - self.digest.length))
            if not piece:
                return False
            self.digest.update(piece)
        os.ftruncate(self._descriptor, partial.length)
        self._written = self._started = partial.length
        return self.digest.sha256 == partial.sha256

    def _reserve(self, size: int | None) -> None:
        missing = max((size or 0) - self._written, 0)
        self._temporaries.space.require(missing, path=self._path)
        if missing and not linux.fallocate(self._descriptor, size or 0):
            self._promised = missing
            self._temporaries.space.promise(missing)

    def restart(self) -> None:
        with explained(self._temporaries, self._path):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.digest = Digest()
        self._written = self._started = 0

    def hash(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self.digest.update(piece)

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        with explained(self._temporaries, self._path):
            size = sum(map(len, pieces))
            written = os.writev(self._descriptor, pieces)
            if written != size:
                write_all(self._descriptor, memoryview(b"".join(pieces))[written:])
            self._written += size
            if self._written - self._started >= _START_WRITING:
                linux.start_writing(self._descriptor, self._started, self._written - self._started)
                self._started = self._written

    def go_aside(self, size: int | None) -> None:
        """From now on write past the page cache what is aligned, where the file system can. A file that has
        its size already is not made longer by each write, which would cost an entry in the journal."""
        with explained(self._temporaries, self._path):
            self._aside = True
            if size is not None:
                os.ftruncate(self._descriptor, size)

    def write_one(self, piece: memoryview) -> None:
        """The next bytes, in a piece of some megabytes."""
        if not (self._aside and self._wrote_aside(piece)):
            self.write([piece])

    def _wrote_aside(self, piece: memoryview) -> bool:
        """Whether it was written past the page cache. Whoever refuses that is not asked again."""
        if self._written % PAGE or len(piece) % PAGE:
            return False
        with explained(self._temporaries, self._path):
            try:
                linux.past_cache(self._descriptor, True)
                written = os.write(self._descriptor, piece)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._aside, written = False, 0
            finally:
                linux.past_cache(self._descriptor, False)
            write_all(self._descriptor, piece[written:])
        self._written += len(piece)
        self._started = self._written
        return True

    def finish(self, held: Held) -> Staged:
        with explained(self._temporaries, self._path):
            os.ftruncate(self._descriptor, self._written)  # gives back what was reserved beyond
            linux.start_writing(self._descriptor, self._started, 0)
            complete = self._temporaries.dressed(self._descriptor, held, self.digest.sha256)
        self._close()
        return Staged(self._name, complete, complete.inode, self.digest.blocks)

    def suspend(self, path: bytes, etag: str, size: int | None) -> Partial:
        with explained(self._temporaries, self._path):
            os.ftruncate(self._descriptor, self._written)
        self._close()
        return Partial(self._name, path, etag, size, self._written, self.digest.sha256)

    def remove(self) -> None:
        self._close()
        self._temporaries.remove([self._name])

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:
            os.close(descriptor)
            self._temporaries.space.promise(-self._promised)


@contextlib.contextmanager
def explained(temporaries: Temporaries, path: bytes) -> Iterator[None]:
    """What the disk refuses inside, as DiskFull or StoreError that names `path`."""
    try:
        yield
    except OSError as error:
        raise temporaries.space.explain(path, error) from error
