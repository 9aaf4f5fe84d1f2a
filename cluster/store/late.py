"""Block hashes of a file that came when nobody was there who could ask for parts of it.

They are worked out when somebody does: in one read with the SHA-256 of the whole file, so that bytes which
the disk has changed since are not given hashes that make them look right.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from cluster.errors import StoreError
from cluster.model import Held, shown
from cluster.store.blocks import Digest

PIECE = 2**20  # bytes
KEPT = 256  # files whose hashes are remembered


class LateHashes:
    """One file is read at a time; who asks for one that is being read waits for the same."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "late-hashes")
        self._known: OrderedDict[bytes, Future[bytes]] = OrderedDict()  # by SHA-256
        self._over = threading.Event()

    def __repr__(self) -> str:
        return f"<LateHashes of {len(self._known)} files>"

    async def of(self, path: bytes, held: Held, descriptor: int) -> bytes:
        """The BLAKE3 of each block of the open file that is recorded so. Raises StoreError where it has not
        the recorded SHA-256, or cannot be read."""
        assert held.sha256 is not None
        found = self._known.get(held.sha256)
        if found is None:
            found = self._thread.submit(self._worked_out, path, held.sha256, os.dup(descriptor))
            self._known[held.sha256] = found
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(held.sha256)
        try:
            return await asyncio.shield(asyncio.wrap_future(found))
        except StoreError:
            self._known.pop(held.sha256, None)  # what is on disk may be mended
            raise

    def close(self) -> None:
        """Whoever waits is told; nothing more is read."""
        self._over.set()
        self._thread.shutdown(wait=False)

    def _worked_out(self, path: bytes, sha256: bytes, descriptor: int) -> bytes:
        digest = Digest()
        try:
            while piece := os.pread(descriptor, PIECE, digest.length):
                digest.update(piece)
                if self._over.is_set():
                    raise StoreError(f"{shown(path)}: not read to its end")
        except OSError as error:
            raise StoreError(f"{shown(path)}: {error.strerror}") from error
        finally:
            os.close(descriptor)
        if digest.sha256 != sha256:
            raise StoreError(f"{shown(path)}: what is read from the disk is not what was written")
        return digest.blocks
