"""What was deleted: moved aside with its path, removed for good later."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

from cluster.errors import StoreError, UnsafeName
from cluster.model import checked_name, shown, split
from cluster.store import linux
from cluster.store.dirfd import Folders, make_beneath, store_error

if TYPE_CHECKING:
    from collections.abc import Sequence

_TAKEN = (errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY, errno.EISDIR, errno.ELOOP)
_TRIES = 1000


class Trash:
    """The folder `folder` (a descriptor): `T/path` in it, or `T.1/path` where that was taken."""

    def __init__(self, folder: int) -> None:
        self.folder = folder

    def take(self, root: int, paths: Sequence[bytes], now: int) -> list[Exception | None]:
        """Move public names here, a directory with all it holds as one rename; per path None or why not.

        A name that is gone already is None. Nothing is synced: settle the directories that they were in.
        """
        with Folders(root) as folders:
            return [self._take(folders, path, now) for path in paths]

    def _take(self, folders: Folders, path: bytes, now: int) -> Exception | None:
        directory, name = split(path)
        try:
            folder = folders[directory]
            os.stat(checked_name(name), dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            return store_error(path, error)
        except UnsafeName as error:
            return error
        for attempt in range(_TRIES):
            place = b"%d.%d" % (now, attempt) if attempt else b"%d" % now
            try:
                self._move(folder, name, place + b"/" + directory if directory else place)
            except OSError as error:
                if error.errno not in _TAKEN:
                    return store_error(path, error)
            else:
                return None
        return StoreError(f"{shown(path)}: no free name in the trash of {now}")

    def _move(self, folder: int, name: bytes, place: bytes) -> None:
        target = make_beneath(self.folder, place, 0o700)
        try:
            linux.rename_new(name, name, folder, target)
        finally:
            os.close(target)

    def empty(self, older_than: int) -> None:
        """Remove for good what was moved here at `older_than` (s) or before.

        Raises StoreError for what could not be removed, when the rest is.
        """
        failed: list[StoreError] = []
        for place in os.listdir(self.folder):
            moved = place.partition(".")[0]
            if moved.isascii() and moved.isdigit() and int(moved) <= older_than:
                try:
                    shutil.rmtree(place, dir_fd=self.folder)
                except OSError as error:
                    failed.append(store_error(b"trash/" + os.fsencode(place), error))
        if failed:
            raise failed[0]
