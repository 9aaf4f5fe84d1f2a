"""Temporaries: complete files under random names, in a folder beside the public tree on the same file system.

A temporary is opened with O_EXCL and O_NOFOLLOW through the folder's descriptor, its writes are checked for
their length (HAZARDS 98), and it has its final mode, owner and time before it is renamed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cluster.errors import StoreError
from cluster.model import Held
from cluster.store import linux, small
from cluster.store.appearance import as_found
from cluster.store.blocks import block_hashes
from cluster.store.values import Staged

if TYPE_CHECKING:
    from cluster.store.appearance import Appearance
    from cluster.store.space import Space

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
_OURS = re.compile(rb"[0-9a-f]{24}")  # see `new_prefix`
_SYNC_EACH = 8  # more than that many are cheaper with one syncfs: HAZARDS 3.2


def written(temporary: bytes, held: Held, size: int, answer: small.Answer, blocks: bytes = b"") -> Staged:
    """A temporary that `small` has written, with the record as it is on disk."""
    inode, mtime, sha256 = answer
    return Staged(temporary, as_found(held, sha256, size, mtime, inode), inode, blocks)


def new_prefix() -> bytes:
    """24 random hexadecimal digits: the names of one run's temporaries are nobody else's."""
    return os.urandom(12).hex().encode()


class Temporaries:
    """The folder `folder` (a descriptor, owned from now on)."""

    def __init__(self, folder: int, space: Space, appearance: Appearance) -> None:
        self.folder = folder
        self.space = space
        self._appearance = appearance

    def create(self) -> tuple[bytes, int]:
        """A new empty temporary: (name, descriptor). Raises OSError."""
        name = new_prefix()
        return name, os.open(name, _NEW, 0o600, dir_fd=self.folder)

    def reopen(self, name: bytes) -> int:
        """A temporary of an earlier attempt, for reading and writing. Raises OSError."""
        return os.open(name, _OLD, dir_fd=self.folder)

    def read(self, name: bytes) -> int:
        """A complete temporary, to be read and nothing else: it may be a public file as well. Raises
        OSError."""
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.folder)

    def dressed(
        self, descriptor: int, held: Held, sha256: bytes | None, found: os.stat_result | None = None
    ) -> Held:
        """Set mode, owner and time, where it is known how it was `found` only what differs; `held` with its
        digest and what lstat will tell of it. Raises OSError."""
        if found is None:
            self._appearance.set(descriptor, held)
            found = os.fstat(descriptor)
        elif self._appearance.set_rest(descriptor, held, found):
            found = os.fstat(descriptor)
        return as_found(held, sha256, found.st_size, found.st_mtime_ns, found.st_ino)

    def order(self, held: Held) -> small.Order:
        """What is to be set on a temporary that will have this record."""
        return *self._appearance.of(held), held.sha256

    def write_small(self, files: Sequence[tuple[Held, bytes | memoryview]]) -> list[Staged]:
        """One temporary per body; what has no digest is hashed. All or none.

        Raises DiskFull, StoreError; nothing is left behind then.
        """
        self.space.require(sum(len(body) for _, body in files), len(files))
        prefix = new_prefix()
        result: list[Staged] = []
        try:
            for number, (held, body) in enumerate(files):
                name = small.name(prefix, number)
                answer = small.write(self.folder, name, self.order(held), body)
                result.append(written(name, held, len(body), answer, block_hashes(body)))
        except OSError as error:
            told = self.space.explain(held.name, error)  # before room is made again
            self._remove_run(prefix, len(result) + 1)
            raise told from error
        except BaseException:
            self._remove_run(prefix, len(result) + 1)
            raise
        return result

    def _remove_run(self, prefix: bytes, count: int) -> None:
        self.remove(small.name(prefix, number) for number in range(count))

    def sync(self, names: Sequence[bytes]) -> None:
        """Make them durable. Raises StoreError: final, a descriptor is never asked twice."""
        with contextlib.ExitStack() as stack:
            try:
                if len(names) > _SYNC_EACH:
                    linux.syncfs(self.folder)
                    return
                descriptors: list[int] = []
                for name in names:
                    descriptors.append(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.folder))
                    stack.callback(os.close, descriptors[-1])
                    linux.start_writing(descriptors[-1], 0, 0)
                for descriptor in descriptors:
                    os.fsync(descriptor)
            except OSError as error:
                raise StoreError(f"disk: {os.strerror(error.errno or 0)} while files were synced") from error

    def remove(self, names: Iterable[bytes]) -> None:
        """Remove temporaries that are of no use any more, and folders among them with all that is in them;
        those that are gone already do not matter."""
        for name in names:
            try:
                os.unlink(name, dir_fd=self.folder)
            except IsADirectoryError:
                shutil.rmtree(os.fsdecode(name), ignore_errors=True, dir_fd=self.folder)
            except OSError:
                pass

    def folders(self) -> list[bytes]:
        """Those of ours that are folders: of runs into which another program brought files."""
        with os.scandir(self.folder) as entries:
            named = [os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
        return [name for name in named if _OURS.fullmatch(name)]

    def remove_orphans(self, keep: set[bytes]) -> int:
        """Remove what dead runs left (HAZARDS 111), all but `keep`; how many. Only for who holds the lock."""
        orphans = [name for name in map(os.fsencode, os.listdir(self.folder)) if name not in keep]
        self.remove(orphans)
        return len(orphans)
