"""One process at a time works on a mirror: an flock on `STATE/MIRROR.lock` (HAZARDS 110).

The kernel drops the lock with the process, so that a file left by SIGKILL is no obstacle. The text in the
file only says who holds it. The file is never removed: a second process could be waiting on it.
"""

from __future__ import annotations

import fcntl
import os
import sys

from cluster.errors import Locked, StoreError


class Lock:
    """Held from `take` to `release`; also excludes a second opening in the same process."""

    def __init__(self, path: str, mirror: str) -> None:
        self._path, self._mirror = path, mirror
        self._descriptor = -1

    def take(self) -> None:
        """Raises Locked at once when somebody else has it, StoreError where the file cannot be opened."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 4096, 0).decode("utf-8", "replace").strip() or "another process"
            os.close(descriptor)
            raise Locked(self._mirror, holder) from None
        except OSError as error:
            os.close(descriptor)
            raise StoreError(f"{self._path}: cannot be locked: {error.strerror}") from error
        self._descriptor = descriptor
        text = f"process {os.getpid()} ({' '.join(sys.argv)[:200]})\n".encode("utf-8", "replace")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)

    @property
    def held(self) -> bool:
        return self._descriptor >= 0

    def release(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1
