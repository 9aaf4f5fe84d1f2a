"""One content under two names: how a temporary gets the bytes of a file that is here already.

Three ways, the best first: its blocks are shared (reflink, FICLONE), it is the same file (a hard link), or
it is copied. Whatever the way, the bytes are read and must have the digest: a file that somebody edited in
place, with its size and time as before, gets no second name. A hard link is made only of a file that looks
exactly as the new name is to look, since mode, owner and time belong to the file. Blocking.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.errors import Changed
from cluster.model import Held, Once, value
from cluster.store.appearance import as_found
from cluster.store.blocks import Digest
from cluster.store.values import Staged

if TYPE_CHECKING:
    from cluster.store.temporaries import Temporaries

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_PIECE = 2**20  # bytes hashed at once
_NEVER = (
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.ENOSYS,
    errno.EXDEV,
)  # not this file system; else: not this file
_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_NO_LINK = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT, errno.EACCES)

Copy = Callable[[int, Held], Staged]


class Damaged(Exception):
    """The file has not the bytes that its record says."""


@value
class Source:
    """An open file that has the content, as its record says: the caller's to close."""

    descriptor: int
    held: Held


@value
class Shared:
    """A temporary with the content; `room` bytes of it take no room on the disk."""

    staged: Staged
    room: int


class Sharing:
    """The ways that are open on one file system. `parts`: siblings may ask for ranges of large files."""

    def __init__(self, temporaries: Temporaries, copy: Copy, once: Once, *, parts: bool) -> None:
        self._temporaries, self._copy, self._once, self._parts = temporaries, copy, once, parts
        self.apart: set[int] = set()  # devices whose files share no blocks with ours

    def stage(self, source: Source, held: Held, avoid: int, *, copy: bool) -> Shared | None:
        """A temporary that will have this record, with the bytes of `source`; None where no way is open, of
        which to `copy` is one only if asked for. `avoid` is the inode that the name has now.

        Raises Damaged, DiskFull, StoreError; nothing is left behind then.
        """
        assert held.sha256 is not None
        try:
            found = os.fstat(source.descriptor)
            shared = None
            if found.st_dev not in self.apart:
                shared = self._cloned(source.descriptor, held, found)
            if shared is None and self._may_link(source, held, found, avoid):
                shared = self._linked(source.descriptor, held, found)
        except OSError as error:
            raise self._temporaries.space.explain(held.name, error) from error
        return self._copied(source, held) if shared is None and copy else shared

    def _cloned(self, source: int, held: Held, found: os.stat_result) -> Shared | None:
        name, target = self._temporaries.create()
        try:
            try:
                fcntl.ioctl(target, _FICLONE, source)
            except OSError as error:
                if error.errno in _NEVER:
                    self.apart.add(found.st_dev)
                elif error.errno in _FAILED:
                    raise
                self._temporaries.remove([name])
                return None
            digest = self._verified(target, held)  # of what is ours now, whatever becomes of the other
            complete = self._temporaries.dressed(target, held, held.sha256)
        except BaseException:
            self._temporaries.remove([name])
            raise
        finally:
            os.close(target)
        return Shared(Staged(name, complete, complete.inode, digest.blocks), held.size)

    def _may_link(self, source: Source, held: Held, found: os.stat_result, avoid: int) -> bool:
        """Whether the new name would look exactly like the file. What the origin itself links shares its file
        with its own group only."""
        if self._once is not Once.YES or held.link != source.held.link:
            return False
        mode, uid, gid, mtime, _ = self._temporaries.order(held)
        owner = (os.geteuid() if uid == -1 else uid, os.getegid() if gid == -1 else gid)
        return (
            found.st_ino != avoid
            and found.st_mode & 0o7777 == mode
            and (found.st_uid, found.st_gid) == owner
            and mtime in (None, found.st_mtime_ns)
        )

    def _linked(self, source: int, held: Held, found: os.stat_result) -> Shared | None:
        """The very file that was read is linked, by its descriptor: nobody can put another in its place."""
        digest = self._verified(source, held)
        temporary = os.urandom(12).hex().encode()
        try:
            os.link(f"/proc/self/fd/{source}", temporary, dst_dir_fd=self._temporaries.folder)
        except OSError as error:
            if error.errno in _NO_LINK:
                return None
            raise
        after = os.fstat(source)
        if (after.st_size, after.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            self._temporaries.remove([temporary])
            raise Damaged
        complete = as_found(held, held.sha256, after.st_size, after.st_mtime_ns, after.st_ino)
        return Shared(Staged(temporary, complete, complete.inode, digest.blocks), held.size)

    def _copied(self, source: Source, held: Held) -> Shared:
        try:
            staged = self._copy(source.descriptor, held)
        except Changed as error:
            raise Damaged from error
        if (staged.held.size, staged.held.sha256) != (held.size, held.sha256):
            self._temporaries.remove([staged.temporary])
            raise Damaged
        return Shared(staged, 0)

    def _verified(self, descriptor: int, held: Held) -> Digest:
        """All of a file is read. Raises Damaged where it is another content."""
        digest = Digest()
        if not self._parts:
            digest.whole_only()
        buffer = memoryview(bytearray(min(_PIECE, held.size + 1)))
        while count := os.preadv(descriptor, [buffer], digest.length):
            digest.update(buffer[:count])
            if digest.length > held.size:
                raise Damaged
        if (digest.length, digest.sha256) != (held.size, held.sha256):
            raise Damaged
        return digest


def is_recorded(descriptor: int, held: Held) -> bool:
    """Whether an open file is the one of this record, as far as that shows without reading it."""
    found = os.fstat(descriptor)
    return (found.st_size, found.st_mtime_ns, found.st_ino) == (held.size, held.disk_mtime, held.inode)
