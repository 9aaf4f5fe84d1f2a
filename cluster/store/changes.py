"""Carrying out changes in the public tree: one rename each, and nothing that is not ours is touched."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.errors import Blocked, Changed, SidewaysError, StoreError
from cluster.model import Held, Kind, checked_name, join, shown, split
from cluster.store import linux
from cluster.store.appearance import as_found
from cluster.store.dirfd import FOLDER, Folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cluster.store.appearance import Appearance
    from cluster.store.temporaries import Temporaries
    from cluster.store.values import Change, Staged

_REPLACEABLE = (Kind.FILE, Kind.SYMLINK)


def kind_of(mode: int) -> Kind:
    """The kind that lstat's mode tells."""
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    return Kind.SYMLINK if stat.S_ISLNK(mode) else Kind.SPECIAL


class Changes:
    """The rules of `Change`, for one batch on one thread."""

    def __init__(
        self,
        folders: Folders,
        temporaries: Temporaries,
        appearance: Appearance,
        copy: Callable[[int, Held], Staged],
    ) -> None:
        self._folders = folders
        self._temporaries = temporaries
        self._appearance = appearance
        self._copy = copy

    def make(self, change: Change) -> Held | Exception:
        """The record as it is on disk now, or why nothing was changed. No temporary is left."""
        failed: Exception
        held, staged = change.held, change.staged
        try:
            folder, name = self._folders[change.directory], checked_name(held.name)
            if staged is not None and change.previous is None and staged.held is held:
                linux.rename_new(staged.temporary, name, self._temporaries.folder, folder)
                return held
            return self._made(change, folder, name)
        except OSError as error:
            failed = self._temporaries.space.explain(join(change.directory, change.held.name), error)
        except SidewaysError as error:
            failed = error
        if change.staged is not None:
            self._temporaries.remove([change.staged.temporary])
        return failed

    def _made(self, change: Change, folder: int, name: bytes) -> Held:
        if change.staged is not None:
            return self._place_staged(change, change.staged, folder, name)
        if change.link_to is not None:
            return self._link(change, change.link_to, folder, name)
        if change.held.kind is Kind.DIRECTORY:
            return self._directory(change, folder, name)
        if change.held.kind is Kind.SYMLINK:
            return self._symlink(change, folder, name)
        if change.held.kind is Kind.FILE and change.attributes:
            return self._attributes(change, folder, name)
        raise StoreError(f"{_path(change)}: a {change.held.kind} without content cannot be published")

    def _place_staged(self, change: Change, staged: Staged, folder: int, name: bytes) -> Held:
        self._place(change, staged.temporary, folder, name)
        known = staged.held
        if change.held is known:
            return known
        return replace(change.held, disk_mtime=known.disk_mtime, inode=staged.inode, private=known.private)

    def _place(self, change: Change, temporary: bytes, folder: int, name: bytes) -> None:
        """Rename a temporary to a name that is free, or that is ours to replace.

        What an administrator edited is healed so (HAZARDS 109). Raises Blocked, OSError.
        """
        if change.previous is None or change.previous.kind not in _REPLACEABLE:
            linux.rename_new(temporary, name, self._temporaries.folder, folder)
            return
        found = _lstat(folder, name)
        if found is not None and kind_of(found.st_mode) not in _REPLACEABLE:
            raise Blocked(f"{_path(change)}: a {kind_of(found.st_mode)} stands where a file was recorded")
        os.rename(temporary, name, src_dir_fd=self._temporaries.folder, dst_dir_fd=folder)
        if found is not None and change.staged is not None and found.st_ino == change.staged.inode:
            self._temporaries.remove([temporary])  # rename(2) leaves two names of one file alone

    def _link(self, change: Change, source: bytes, folder: int, name: bytes) -> Held:
        directory, source_name = split(source)
        source_folder = self._folders[directory]
        wanted = _lstat(source_folder, checked_name(source_name))
        if wanted is None or not stat.S_ISREG(wanted.st_mode):
            raise StoreError(f"{_path(change)}: {shown(source)}, which it is a link to, is no file here")
        if change.held.inode and not _is_known(change.held, wanted):
            raise Changed(_path(change), f"{shown(source)}, which it is a link to, was replaced meanwhile")
        folder = self._folders[change.directory]  # the other one may have pushed it out
        found = _lstat(folder, name)
        if found is None or (found.st_ino, found.st_dev) != (wanted.st_ino, wanted.st_dev):
            temporary = os.urandom(12).hex().encode()
            os.link(
                source_name,
                temporary,
                src_dir_fd=source_folder,
                dst_dir_fd=self._temporaries.folder,
                follow_symlinks=False,
            )
            with self._removed_on_error(temporary):
                linked = _lstat(self._temporaries.folder, temporary)
                if linked is None or linked.st_ino != wanted.st_ino:
                    raise StoreError(f"{shown(source)}: replaced while it was linked")
                self._place(change, temporary, folder, name)
        return _as_found(change.held, wanted)

    def _symlink(self, change: Change, folder: int, name: bytes) -> Held:
        target = change.held.target
        if not target or b"\0" in target:
            raise StoreError(f"{_path(change)}: a symbolic link without a usable target")
        found = _lstat(folder, name)
        if found is not None and stat.S_ISLNK(found.st_mode) and os.readlink(name, dir_fd=folder) == target:
            if change.attributes:
                self._appearance.set_link(folder, name, change.held)
            return _as_found(change.held, _lstat(folder, name) or found)
        temporary = os.urandom(12).hex().encode()
        os.symlink(target, temporary, dir_fd=self._temporaries.folder)
        with self._removed_on_error(temporary):
            self._appearance.set_link(self._temporaries.folder, temporary, change.held)
            made = os.stat(temporary, dir_fd=self._temporaries.folder, follow_symlinks=False)
            self._place(change, temporary, folder, name)
        return _as_found(change.held, made)

    def _directory(self, change: Change, folder: int, name: bytes) -> Held:
        """Made with its own mode: a private one is never open for an instant. Adopted where it exists."""
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            made = False
        opened = os.open(name, FOLDER, dir_fd=folder)
        try:
            if made or change.attributes:
                self._appearance.set(opened, change.held)
            return _as_found(change.held, os.fstat(opened))
        finally:
            os.close(opened)

    def _attributes(self, change: Change, folder: int, name: bytes) -> Held:
        found = _lstat(folder, name)
        if found is None or not stat.S_ISREG(found.st_mode):
            raise Blocked(f"{_path(change)}: no file is there to be given its attributes")
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        try:
            before = os.fstat(opened)
            _expect(change, before)
            if (
                before.st_nlink > 1
                and change.held.link is None
                and not self._appearance.has(before, change.held)
            ):
                return self._parted(change, opened, folder, name)
            self._appearance.set(opened, change.held)
            return _as_found(change.held, os.fstat(opened))
        finally:
            os.close(opened)

    def _parted(self, change: Change, opened: int, folder: int, name: bytes) -> Held:
        """What looks otherwise from now on gets a body of its own: the other names of its file, which
        is theirs as well (`cluster.store.sharing`), go on looking as they do. It is durable before it has
        the name."""
        staged = self._copy(opened, change.held)
        with self._removed_on_error(staged.temporary):
            if change.held.sha256 not in (None, staged.held.sha256):
                raise StoreError(f"{_path(change)}: what is on disk is not what was recorded")
            self._temporaries.sync([staged.temporary])
            os.rename(staged.temporary, name, src_dir_fd=self._temporaries.folder, dst_dir_fd=folder)
        return staged.held

    @contextlib.contextmanager
    def _removed_on_error(self, temporary: bytes) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._temporaries.remove([temporary])
            raise


def _path(change: Change) -> str:
    return shown(join(change.directory, change.held.name))


def _expect(change: Change, found: os.stat_result) -> None:
    """What gets a record must still be the file that was examined.

    The wanted time is right as well: another name of the same inode was here first.
    """
    known = change.held if change.held.inode else change.previous
    same = found.st_size == change.held.size
    if known is not None and known.inode:
        wanted = change.held.mtime.ns if change.held.mtime is not None else known.disk_mtime
        same = same and found.st_ino == known.inode and found.st_mtime_ns in (known.disk_mtime, wanted)
    if not same:
        raise StoreError(f"{_path(change)}: changed on disk since it was examined")


def _is_known(held: Held, found: os.stat_result) -> bool:
    """Whether a file is still the one whose record lent `held` its inode and times."""
    times = (held.disk_mtime, held.mtime.ns if held.mtime is not None else held.disk_mtime)
    return (found.st_ino, found.st_size) == (held.inode, held.size) and found.st_mtime_ns in times


def _lstat(folder: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _as_found(held: Held, found: os.stat_result) -> Held:
    return as_found(held, held.sha256, held.size, found.st_mtime_ns, found.st_ino)
