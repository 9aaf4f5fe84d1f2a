"""One small file into a new temporary: the system calls, and nothing else.

Imports little of the standard library and nothing of the package: the courier, a program that must be there
within 30 ms, calls it as well.
"""

import hashlib
import os

Order = tuple[int, int, int, int | None, bytes | None]
"""Mode, uid and gid (-1: as it is), mtime (ns; None: as it is), SHA-256 where it is known."""

Answer = tuple[int, int, bytes]
"""Inode, mtime (ns) and SHA-256 of what was written."""

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def name(prefix: bytes, number: int) -> bytes:
    """The temporary of file `number` of a run."""
    return b"%s.%d" % (prefix, number)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte. A short write is followed by another, which tells why (ENOSPC): HAZARDS 98."""
    written = os.write(descriptor, data)
    if written != len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.write(descriptor, view[written:])


def dress(descriptor: int, mode: int, uid: int, gid: int, mtime: int | None) -> None:
    """Set owner, mode and time of an open file or directory, as in `Order`. Raises OSError."""
    if uid != -1 or gid != -1:
        os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)
    if mtime is not None:
        os.utime(descriptor, ns=(mtime, mtime))


def write(folder: int, temporary: bytes, order: Order, body: bytes | memoryview) -> Answer:
    """A new file with its mode, owner and time. Raises OSError, with what was written still there.

    It is made with its mode, which is set once more only where the umask or an ACL took something of it.
    """
    mode, uid, gid, mtime, sha256 = order
    descriptor = os.open(temporary, _NEW, mode, dir_fd=folder)
    try:
        write_all(descriptor, body)
        if uid != -1 or gid != -1:
            os.fchown(descriptor, uid, gid)
        if mtime is not None:
            os.utime(descriptor, ns=(mtime, mtime))
        found = os.fstat(descriptor)
        if found.st_mode & 0o7777 != mode:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    return found.st_ino, found.st_mtime_ns, sha256 or hashlib.sha256(body).digest()
