"""A private folder into which another program brings files, each under its path, and how they become ours.

The folder lies among the temporaries, on the file system of the public tree. Whoever filled it is not
believed: a file is reached by descriptors beneath the folder with O_NOFOLLOW, must be a regular file with one
name and the listed size and time, is hashed by us, and is a temporary like any other from then on (HAZARDS
15, 45, 94). Blocking: call it on a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.errors import Changed, StoreError
from cluster.model import SECOND, Held, Stamp, href, join, split
from cluster.store import linux, small
from cluster.store.blocks import Digest
from cluster.store.dirfd import FOLDER, Folders, make_beneath, open_beneath
from cluster.store.temporaries import new_prefix
from cluster.store.values import Staged

if TYPE_CHECKING:
    from cluster.store.temporaries import Temporaries

SMALL = 2**18  # bytes that are read in one go
PIECE = 2**20  # bytes that are read at once of larger ones
_UNNAMED = re.compile(rb"\.(.+)\.[A-Za-z0-9]{6}", re.DOTALL)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO must not make us wait

Taken = Staged | Changed | None
"""A file that is ours now; why it is not the listed one; None where there is none."""


class Landing:
    """See the module. `folder` is its path for the program that writes there, `older` that of the public
    tree. Made empty; `remove` takes away what is left."""

    def __init__(self, temporaries: Temporaries, path: str, older: str) -> None:
        self._temporaries, self._name = temporaries, new_prefix()
        self.folder, self.older = os.path.join(path, self._name.decode()), older
        self.begun = f".~{self._name.decode()}"  # no name of an origin's
        try:
            os.mkdir(self._name, 0o700, dir_fd=temporaries.folder)
            self._root = os.open(self._name, FOLDER, dir_fd=temporaries.folder)
        except OSError as error:
            raise temporaries.space.explain(self._name, error) from error

    def __repr__(self) -> str:
        return f"<Landing {self.folder}>"

    def take(self, files: Sequence[tuple[bytes, Held]], *, parts: bool) -> list[Taken]:
        """Make temporaries of the files at these paths, each with the record that it is to have. `parts`:
        siblings may ask for ranges of large ones. What is not the listed file is removed. Raises DiskFull,
        StoreError; those that were taken by then are removed.
        """
        prefix, taken = new_prefix(), list[Taken]()
        try:
            with Folders(self._root) as folders:
                for number, (path, held) in enumerate(files):
                    taken.append(self._one(folders, path, held, small.name(prefix, number), parts))
        except BaseException:
            self._temporaries.remove(small.name(prefix, number) for number in range(len(files)))
            raise
        return taken

    def _one(self, folders: Folders, path: bytes, held: Held, temporary: bytes, parts: bool) -> Taken:
        directory, name = split(path)
        try:
            folder = folders[directory]
            descriptor = os.open(name, _FILE, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            return Changed(href(path), f"what came is no file: {os.strerror(error.errno or 0)}")
        try:
            found = os.fstat(descriptor)
            wrong = _not_listed(found, held)
            if wrong is None:
                return self._ours(folder, name, descriptor, found, held, temporary, parts)
        except OSError as error:
            raise self._temporaries.space.explain(path, error) from error
        finally:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
        return Changed(href(path), wrong)

    def _ours(
        self,
        folder: int,
        name: bytes,
        descriptor: int,
        found: os.stat_result,
        held: Held,
        temporary: bytes,
        parts: bool,
    ) -> Staged:
        sha256, blocks = _hashed(descriptor, held.size, parts)
        complete = self._temporaries.dressed(descriptor, _finer(held, found), sha256, found)
        if held.size > SMALL:
            linux.start_writing(descriptor, 0, 0)
        os.rename(name, temporary, src_dir_fd=folder, dst_dir_fd=self._temporaries.folder)
        moved = os.stat(temporary, dir_fd=self._temporaries.folder, follow_symlinks=False)
        if moved.st_ino != found.st_ino:
            raise StoreError(f"{href(held.name)}: somebody else works in {self.folder}")
        return Staged(temporary, complete, complete.inode, blocks)

    def resume(self, path: bytes, temporary: bytes) -> None:
        """Go on with the temporary of an earlier attempt, which is then no temporary any more. Raises
        StoreError."""
        directory, name = split(path)
        try:
            folder = make_beneath(self._root, join(directory, self.begun.encode()), 0o700)
            try:
                os.rename(temporary, name, src_dir_fd=self._temporaries.folder, dst_dir_fd=folder)
            finally:
                os.close(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._temporaries.space.explain(path, error) from error

    def interrupted(self, path: bytes, least: int) -> tuple[bytes, int] | None:
        """What has begun to come of a file, as a temporary, and its length; None where that is less than
        `least` bytes. Nobody else writes there any more."""
        directory, name = split(path)
        temporary = new_prefix()
        try:
            folder = open_beneath(self._root, join(directory, self.begun.encode()))
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size < least:
                    return None
                os.rename(name, temporary, src_dir_fd=folder, dst_dir_fd=self._temporaries.folder)
            finally:
                os.close(folder)
        except OSError:
            return None
        return temporary, found.st_size

    def growth(self, paths: Sequence[bytes]) -> list[int]:
        """How many bytes have come of each of these files, as far as that shows: of one that is on its way
        there is a file whose name begins with its own, behind a dot."""
        with Folders(self._root) as folders:
            return [_growth(folders, path) for path in paths]

    def remove(self) -> None:
        """The folder and whatever is in it. Nobody else writes there any more."""
        if self._root != -1:
            os.close(self._root)
            self._root = -1
        self._temporaries.remove([self._name])


def rescued(temporaries: int, name: bytes, least: int) -> list[tuple[bytes, bytes, int]]:
    """Of a landing that nobody left in order: the files of which at least so many bytes had come, now as
    temporaries: path, temporary and length. What rsync has not named yet is called as the file, with a dot
    before and a dot and six characters behind."""
    found: list[tuple[bytes, bytes, int]] = []
    begun = b".~" + name
    with contextlib.suppress(OSError):
        for place, _, files, folder in os.fwalk(name, dir_fd=temporaries):
            directory = place[len(name) + 1 :]
            for file in files:
                if os.path.basename(directory) == begun:
                    path = join(os.path.dirname(directory), file)
                else:
                    unnamed = _UNNAMED.fullmatch(file)
                    path = join(directory, unnamed[1] if unnamed else file)
                with contextlib.suppress(OSError):
                    looked = os.stat(file, dir_fd=folder, follow_symlinks=False)
                    if stat.S_ISREG(looked.st_mode) and looked.st_nlink == 1 and looked.st_size >= least:
                        temporary = new_prefix()
                        os.rename(file, temporary, src_dir_fd=folder, dst_dir_fd=temporaries)
                        found.append((path, temporary, looked.st_size))
    return found


def _not_listed(found: os.stat_result, held: Held) -> str | None:
    """Why this is not the file of the record, if it is not."""
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        return "what came is no file of its own"
    if found.st_size != held.size:
        return f"{found.st_size} bytes, {held.size} were listed"
    if held.mtime is not None and not Stamp(found.st_mtime_ns).agrees(held.mtime):
        return "another time than was listed"
    return None


def _finer(held: Held, found: os.stat_result) -> Held:
    """With the time of what came, where that is told more exactly than it was listed."""
    told = held.mtime
    if told is None or told.precision == 1 or found.st_mtime_ns == told.ns or not found.st_mtime_ns % SECOND:
        return held
    return replace(held, mtime=Stamp(found.st_mtime_ns))


def _hashed(descriptor: int, size: int, parts: bool) -> tuple[bytes, bytes]:
    """SHA-256 and block hashes. Raises StoreError where it is not as long any more: somebody writes to it."""
    if size <= SMALL:
        body = os.read(descriptor, size + 1)
        if len(body) == size:
            return hashlib.sha256(body).digest(), b""
        raise StoreError(f"{len(body)} bytes of a file that came had {size} a moment ago")
    digest = Digest()
    if not parts:
        digest.whole_only()
    buffer = memoryview(bytearray(PIECE))
    while count := os.readv(descriptor, [buffer]):
        digest.update(buffer[:count])
    if digest.length != size:
        raise StoreError(f"{digest.length} bytes of a file that came had {size} a moment ago")
    return digest.sha256, digest.blocks


def _growth(folders: Folders, path: bytes) -> int:
    directory, name = split(path)
    most = 0
    with contextlib.suppress(OSError), os.scandir(folders[directory]) as entries:
        for entry in entries:
            if os.fsencode(entry.name).startswith(b"." + name):
                most = max(most, entry.stat(follow_symlinks=False).st_size)
    return most
