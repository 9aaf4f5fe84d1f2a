"""Room on the disk: what is left, and what is kept free (HAZARDS 98-101, section 5)."""

from __future__ import annotations

import errno
import os
import threading

from cluster.errors import DiskFull, StoreError
from cluster.store.dirfd import store_error

GIB = 2**30


class Space:
    """The file system of one open folder.

    `reserve` bytes stay free for records and for everybody else; None: 2 % or 20 GiB, whichever is more,
    but never over 10 % of the disk, so that small file systems can be used at all. Of the inodes 1 % stay
    free where the file system counts them.
    """

    def __init__(self, folder: int, reserve: int | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._promised = 0
        disk = os.fstatvfs(folder)
        total = disk.f_blocks * disk.f_frsize
        self.reserve = min(max(total // 50, 20 * GIB), total // 10) if reserve is None else reserve

    def require(self, size: int, files: int = 1) -> None:
        """Raises DiskFull where `size` more bytes in `files` more files would use up the reserve."""
        disk = os.fstatvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize - self._promised
        if free - size < self.reserve:
            raise DiskFull(
                f"disk: {free} bytes free, {self.reserve} are kept in reserve, {size} more are needed"
            )
        if disk.f_files and disk.f_favail - files < disk.f_files // 100:
            raise DiskFull(f"disk: {disk.f_favail} inodes free of {disk.f_files}, {files} more are needed")

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
            return DiskFull(f"{store_error(path, error)} ({disk.f_bavail * disk.f_frsize} bytes left)")
        return store_error(path, error)
