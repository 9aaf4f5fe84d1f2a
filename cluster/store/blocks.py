"""SHA-256 of a file and of each of its 8 MiB blocks, in one read."""

from __future__ import annotations

import hashlib

BLOCK = 8 * 2**20


class Digest:
    """Feed it the bytes in order. `blocks` stays empty for files of one block, which the whole hash names.

    The first block's hash is the whole's at that point, so that nothing is hashed twice up to 8 MiB.
    """

    def __init__(self) -> None:
        self.length = 0
        self._whole = hashlib.sha256()
        self._block = hashlib.sha256()
        self._done: list[bytes] = []

    def update(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            part = view[: BLOCK - self.length % BLOCK]
            self._whole.update(part)
            if self.length >= BLOCK:
                self._block.update(part)
            self.length += len(part)
            if self.length % BLOCK == 0:
                self._done.append((self._whole if self.length == BLOCK else self._block).digest())
                self._block = hashlib.sha256()
            view = view[len(part) :]

    @property
    def sha256(self) -> bytes:
        return self._whole.digest()

    @property
    def blocks(self) -> bytes:
        """Concatenated SHA-256 of each block; `b""` for a file of at most 8 MiB."""
        if self.length <= BLOCK:
            return b""
        last = [self._block.digest()] if self.length % BLOCK else []
        return b"".join(self._done + last)
