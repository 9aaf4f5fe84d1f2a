"""The Linux calls that Python 3.11 does not offer, by ctypes. They raise OSError like those of `os`.

Where the kernel or the file system lacks one, its docstring says what happens instead.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os

RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

_OPENAT2 = 437  # the number is the same on every architecture that Debian supports
_RENAME_NOREPLACE = 1
_FALLOC_FL_KEEP_SIZE = 1
_SYNC_FILE_RANGE_WRITE = 2

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_syscall = _libc["syscall"]
_syscall.argtypes = [
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(_OpenHow),
    ctypes.c_size_t,
]
_syscall.restype = ctypes.c_long
_renameat2 = getattr(_libc, "renameat2", None)
if _renameat2 is not None:
    _renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_syncfs = _libc.syncfs
_fallocate = _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_sync_file_range = _libc.sync_file_range
_sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def _failed() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


@functools.cache
def _how(flags: int) -> _OpenHow:
    return _OpenHow(flags | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH)


def openat2(directory: int, path: bytes, flags: int) -> int:
    """Open what exists at `path` below the folder `directory`; no symbolic link on the way or at the end.

    A link gives ELOOP. `path` is shorter than PATH_MAX. ENOSYS before Linux 5.6; EPERM from a seccomp
    filter that does not know the call.
    """
    how = _how(flags)
    while True:
        descriptor: int = _syscall(_OPENAT2, directory, path, how, ctypes.sizeof(how))
        if descriptor >= 0:
            return descriptor
        if ctypes.get_errno() not in (errno.EINTR, errno.EAGAIN):
            raise _failed()


def rename_new(source: bytes, target: bytes, source_folder: int, target_folder: int) -> None:
    """Rename only where nothing stands at `target`: FileExistsError otherwise.

    One atomic step, except on file systems without RENAME_NOREPLACE, where it is a look and a rename.
    """
    if _renameat2 is not None:
        if _renameat2(source_folder, source, target_folder, target, _RENAME_NOREPLACE) == 0:
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
            raise _failed()
    try:
        os.stat(target, dir_fd=target_folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def syncfs(descriptor: int) -> None:
    """Write out the whole file system. An I/O error since `descriptor` was opened is raised (Linux 5.8)."""
    if _syncfs(descriptor) != 0:
        raise _failed()


def fallocate(descriptor: int, size: int) -> bool:
    """Reserve blocks for `size` bytes without changing the file's size; False where that is not supported.

    Not posix_fallocate: glibc emulates that one by writing zeros.
    """
    if _fallocate(descriptor, _FALLOC_FL_KEEP_SIZE, 0, size) == 0:
        return True
    if ctypes.get_errno() in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise _failed()


def past_cache(descriptor: int, wanted: bool) -> None:
    """Whether what is written goes past the page cache (O_DIRECT). EINVAL: the file system cannot."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    new = flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT
    if new != flags:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, new)


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """Begin to write these bytes to the disk, without waiting for it and without any promise."""
    _sync_file_range(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)
