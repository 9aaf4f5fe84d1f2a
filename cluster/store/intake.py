"""Where a thread puts the bytes of one large file: hashed where they lie, written while the next ones come.

Two buffers of 4 MiB take turns. A piece is hashed while it is still in the processor's cache; in all, a byte
is copied once on its way from the connection to the disk where the pieces go past the page cache.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from cluster.store.blocks import Digest

PIECE = 4 * 2**20  # bytes handed to the disk at once
STEP = 2**19  # bytes that are hashed at once
PAGE = 4096  # bytes: what a write past the page cache is aligned to, in the file and in memory


class Intake:
    """The bytes from `at` on. `write` gets them in order, one call at a time on another thread; a piece
    begins and ends at a multiple of `PAGE`, but for the beginning of the first and the end of the last.

    `took` raises what `write` raised, and so does `flush`, also again: nothing is written after a failure.
    Used by one thread at a time.
    """

    def __init__(self, digest: Digest, write: Callable[[memoryview], None], at: int) -> None:
        self._digest, self._write = digest, write
        self._buffers = [memoryview(mmap.mmap(-1, PIECE)) for _ in range(2)]
        self._begin = self._filled = self._hashed = at % PAGE
        self._thread = ThreadPoolExecutor(1, "intake")
        self._writing: Future[None] | None = None
        self._failed: BaseException | None = None

    def room(self) -> memoryview:
        """Where the next bytes go."""
        return self._buffers[0][self._filled : min(self._hashed + STEP, PIECE)]

    def took(self, count: int) -> None:
        """So many of them are there now."""
        self._filled += count
        if self._filled == min(self._hashed + STEP, PIECE):
            self._hash()
        if self._filled == PIECE:
            self._hand_over()

    def flush(self) -> None:
        """Return when all of it is hashed and written. More may be put in only before."""
        self._hash()
        self._hand_over()
        self._settled()
        self.close()

    def close(self) -> None:
        """Wait for the write under way, whatever comes of it. A second call does nothing."""
        self._thread.shutdown()

    def _hash(self) -> None:
        self._digest.update(self._buffers[0][self._hashed : self._filled])
        self._hashed = self._filled

    def _hand_over(self) -> None:
        self._settled()
        if self._filled > self._begin:
            piece = self._buffers[0][self._begin : self._filled]
            self._writing = self._thread.submit(self._write, piece)
            self._buffers.reverse()
            self._begin = self._filled = self._hashed = 0

    def _settled(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            self._failed = writing.exception()
        if self._failed is not None:
            raise self._failed
