"""Reaching names below an open folder, so that no link and no race leads outside (HAZARDS 12, 15, 17, 18).

Paths are bytes relative to that folder, of any length; every component is a plain name. No symbolic link is
followed, not even one that stays inside.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Self

from cluster.errors import Blocked, DiskFull, StoreError
from cluster.model import checked_name, shown
from cluster.store import linux

if TYPE_CHECKING:
    from types import TracebackType

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_LONGEST = 4000  # bytes that openat2 gets at once; PATH_MAX is 4096 with its NUL
_OPEN_FOLDERS = 64  # of one batch

_openat2_works = True


def open_beneath(root: int, path: bytes, flags: int = FOLDER) -> int:
    """A new descriptor of `path` below the folder `root`, which is `b""` itself. The caller closes it.

    Raises OSError: ELOOP or ENOTDIR where a link or a file stands where a folder must be; UnsafeName.
    """
    if not path:
        return os.open(b".", flags, dir_fd=root)
    names = path.split(b"/")
    for name in names:
        checked_name(name)
    if _openat2_works and len(path) <= _LONGEST:
        try:
            return linux.openat2(root, path, flags)
        except OSError as error:
            _note_missing(error)
    return _walk(root, names, flags)


def _note_missing(error: OSError) -> None:
    global _openat2_works  # noqa: PLW0603  # a fact about the running kernel
    if error.errno not in (errno.ENOSYS, errno.EPERM):
        raise error
    _openat2_works = False


def _walk(root: int, names: list[bytes], flags: int) -> int:
    """Component by component: for paths beyond PATH_MAX, and for kernels without openat2."""
    folder = root
    try:
        for name in names[:-1]:
            below = os.open(name, _STEP, dir_fd=folder)
            if folder != root:
                os.close(folder)
            folder = below
        return os.open(names[-1], flags | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        if folder != root:
            os.close(folder)


def make_beneath(root: int, path: bytes, mode: int = 0o755) -> int:
    """Make the folders of `path` that are not there, with `mode` whatever the umask; open the last one.

    Raises like `open_beneath`.
    """
    try:
        return open_beneath(root, path)
    except FileNotFoundError:
        pass
    folder = os.dup(root)
    try:
        for name in path.split(b"/"):
            below = _made(folder, checked_name(name), mode)
            os.close(folder)
            folder = below
    except BaseException:
        os.close(folder)
        raise
    return folder


def _made(folder: int, name: bytes, mode: int) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        return os.open(name, FOLDER, dir_fd=folder)
    below = os.open(name, FOLDER, dir_fd=folder)
    os.fchmod(below, mode)
    return below


class Folders:
    """The folders that one batch works in, each opened once; closed with the batch. For one thread."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def __getitem__(self, path: bytes) -> int:
        """A descriptor, good until 64 other folders were asked for. Raises like `open_beneath`."""
        folder = self._open.get(path)
        if folder is None:
            folder = self._open[path] = open_beneath(self._root, path)
            if len(self._open) > _OPEN_FOLDERS:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(path)
        return folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for folder in self._open.values():
            os.close(folder)
        self._open.clear()


_WORDS = {
    errno.ELOOP: "a symbolic link or a file stands where a folder must be",
    errno.ENOTDIR: "a symbolic link or a file stands where a folder must be",
    errno.EISDIR: "a folder stands there",
    errno.EEXIST: "something stands there that was not put there by a pass",
    errno.ENOTEMPTY: "a folder stands there",
    errno.EXDEV: "another file system is mounted there",
}
_BLOCKING = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)


def store_error(path: bytes, error: OSError) -> StoreError:
    """What went wrong at `path`, as the errors that callers tell apart."""
    words = _WORDS.get(error.errno or 0) or os.strerror(error.errno or 0)
    message = f"{shown(path) or '/'}: {words}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(message)
    return Blocked(message) if error.errno in _BLOCKING else StoreError(message)
