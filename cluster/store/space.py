"""Room on the disk: what is left, and what is kept free (HAZARDS 98-101, section 5)."""

from __future__ import annotations

import errno
import os
import threading

from cluster.errors import DiskFull, StoreError
from cluster.model import shown
from cluster.store.dirfd import store_error

GIB = 2**30


class Space:
    """The file system of one open folder, as `mirror` uses it.

    `reserve` bytes stay free for records and for everybody else; None: 2 % or 20 GiB, whichever is more,
    but never over 10 % of the disk, so that small file systems can be used at all. Of the inodes 1 % stay
    free where the file system counts them.
    """

    def __init__(self, folder: int, reserve: int | None, mirror: str) -> None:
        self._folder, self._mirror = folder, mirror
        self._lock = threading.Lock()
        self._promised = 0
        disk = os.fstatvfs(folder)
        total = disk.f_blocks * disk.f_frsize
        self.reserve = min(max(total // 50, 20 * GIB), total // 10) if reserve is None else reserve

    def require(self, size: int, files: int = 1, path: bytes = b"") -> None:
        """Raises DiskFull where `size` more bytes in `files` more files would use up the reserve; it names
        `path`, where it is one file."""
        disk = os.fstatvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize - self._promised
        if free - size < self.reserve:
            raise DiskFull(
                f"{self._who(path)}: the disk is full: {size} bytes are needed, {free} are free, "
                f"{self.reserve} are kept in reserve"
            )
        if disk.f_files and disk.f_favail - files < disk.f_files // 100:
            raise DiskFull(
                f"{self._who(path)}: the disk is full: {files} inodes are needed, {disk.f_favail} of "
                f"{disk.f_files} are free, 1 % are kept in reserve"
            )

    def _who(self, path: bytes) -> str:
        return f"{self._mirror}: {shown(path)}" if path else self._mirror

    def promise(self, size: int) -> None:
        """Count bytes that were not written yet (negative: written or given up), where fallocate cannot."""
        with self._lock:
            self._promised += size

    def explain(self, path: bytes, error: OSError) -> StoreError:
        """`error` as a StoreError; ENOSPC says whether bytes or inodes are used up."""
        if error.errno == errno.ENOSPC:
            disk = os.fstatvfs(self._folder)
            if disk.f_files and disk.f_favail == 0:
                return DiskFull(f"{store_error(path, error)} (no inodes left of {disk.f_files})")
            return DiskFull(f"{store_error(path, error)} ({disk.f_bavail * disk.f_frsize} bytes are free)")
        return store_error(path, error)
