"""The disk of a site: one mirror's public tree, and the private folder beside all of them.

Every operation walks from an open folder by descriptors with O_NOFOLLOW, so that no name, link or race leads
outside (HAZARDS 15, 17, 18). Blocking: call it on a thread. Raises StoreError subclasses and UnsafeName.

    DATA/.sideways/marker            this site's identity (uuid), also in STATE/marker: a missing mount shows
    DATA/.sideways/tmp/MIRROR/       temporaries; random names
    DATA/.sideways/trash/MIRROR/T/   what was deleted at time T (s), with its path
    DATA/<mirror.path>/              the public tree: nothing of ours in it
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from cluster.errors import Changed, DataMissing, StoreError, UnsafeName
from cluster.model import Attributes, Held, Kind, depth, href, shown
from cluster.store import linux
from cluster.store.appearance import Appearance
from cluster.store.blocks import BLOCK, Digest
from cluster.store.changes import Changes, kind_of
from cluster.store.dirfd import FOLDER, Folders, make_beneath, open_beneath, store_error
from cluster.store.landing import Landing, rescued
from cluster.store.marker import PRIVATE, check_marker
from cluster.store.small import write_all
from cluster.store.space import Space
from cluster.store.temporaries import Temporaries
from cluster.store.trash import Trash
from cluster.store.values import Change, Shape, Staged, Stat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BLOCK", "Change", "Staged", "Stat", "Tree"]

T = TypeVar("T")

_PIECE = 2**20  # bytes read at once
_NO_COPYING = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)  # copy_file_range(2)
_SYNC_EACH = 8  # directories; more are cheaper with one syncfs
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO must not make us wait


def temporaries_of(data: str, mirror: str) -> str:
    """The folder of a mirror's temporaries; there once the mirror has been opened. What nobody has noted is
    removed from it whenever the mirror is."""
    return os.path.join(data, PRIVATE, "tmp", mirror)


class Tree:
    """See the module. One per mirror and process; its methods may be called from several threads.

    `data` and `state` are folders, `mirror` a name, `public` the mirror's public path. `reserve` is bytes of
    disk left free (`Space`); `attributes` the operator's owner and modes.
    """

    temporaries: Temporaries
    space: Space

    def __init__(
        self,
        data: str,
        mirror: str,
        public: str,
        *,
        site: str,
        state: str,
        reserve: int | None,
        attributes: Attributes,
    ) -> None:
        self._data, self._mirror, self._public = data, os.fsencode(mirror), os.fsencode(public.strip("/"))
        self._site, self._state = site, state
        self._reserve, self._attributes = reserve, attributes
        self._closing = contextlib.ExitStack()
        self._root = -1

    # -- opening

    def open(self, *, writing: bool = True) -> None:
        """Check the marker, make what is missing of the folders, keep them open.

        Without `writing` only the public root is opened, for the methods that read. Raises DataMissing,
        StoreError.
        """
        first = self._public.split(b"/")[0]
        if not first or first == os.fsencode(PRIVATE):
            raise StoreError(
                f"{self._mirror.decode()}: /{shown(self._public)} is no public path for a mirror"
            )
        if writing:
            check_marker(self._data, self._state, self._site)
        try:
            with contextlib.ExitStack() as closing:
                self._open(closing, writing=writing)
                self._closing = closing.pop_all()
        except FileNotFoundError:
            raise DataMissing(f"{self._data}: there is no /{shown(self._public)} in it") from None
        except OSError as error:
            raise store_error(os.fsencode(self._data), error) from error

    def _open(self, closing: contextlib.ExitStack, *, writing: bool) -> None:
        def kept(folder: int) -> int:
            closing.callback(os.close, folder)
            return folder

        data = kept(os.open(self._data, os.O_RDONLY | os.O_DIRECTORY))
        if not writing:
            self._root = kept(open_beneath(data, self._public))
            return
        self._root = kept(make_beneath(data, self._public))
        private = os.fsencode(PRIVATE)
        temporary = kept(make_beneath(data, private + b"/tmp/" + self._mirror, 0o700))
        self._trash = Trash(kept(make_beneath(data, private + b"/trash/" + self._mirror, 0o700)))
        self.space = Space(temporary, self._reserve, os.fsdecode(self._mirror))
        self._appearance = Appearance(self._attributes)
        self.temporaries = Temporaries(temporary, self.space, self._appearance)

    def close(self) -> None:
        """Close the folders; a Tree is not used after it."""
        self._closing.close()
        self._root = -1

    # -- reading

    def scan(self, directory: bytes) -> dict[bytes, Stat] | None:
        """Every name in a public directory; None where the directory is absent.

        Raises Blocked where a link or a file stands in its place or above it; StoreError, UnsafeName.
        """
        entries = self._entries(directory, lambda entry: (os.fsencode(entry.name), _entry_stat(entry)))
        return None if entries is None else {name: found for name, found in entries if found}

    def shapes(self, directory: bytes) -> list[Shape] | None:
        """The same as `looks_of` takes it: in half the time, for what is only compared. None also where a
        name went while we were looking."""
        return self._entries(directory, _shape)

    def _entries(self, directory: bytes, read: Callable[[os.DirEntry[str]], T]) -> list[T] | None:
        """What `read` makes of every name; None where the directory is absent, or `read` misses a name."""
        with _named(directory):
            try:
                folder = open_beneath(self._root, directory)
                try:
                    with os.scandir(folder) as entries:
                        return [read(entry) for entry in entries]
                finally:
                    os.close(folder)
            except FileNotFoundError:
                return None

    def lstat(self, path: bytes) -> Stat | None:
        """What is at `path`, a link itself; None where nothing is. Raises like `scan`."""
        with _named(path):
            try:
                found = open_beneath(self._root, path, os.O_PATH | os.O_NOFOLLOW)
            except FileNotFoundError:
                return None
            try:
                return _stat(os.fstat(found))
            finally:
                os.close(found)

    def names(self, path: bytes) -> int:
        """How many names a public file has; 0 where there is none. Raises like `scan`."""
        opened = self.open_file(path)
        if opened is None:
            return 0
        try:
            return os.fstat(opened).st_nlink
        finally:
            os.close(opened)

    def open_file(self, path: bytes) -> int | None:
        """A descriptor to read a public file by, the caller's to close; None where no regular file is.

        Devices and FIFOs are not opened (HAZARDS 24). Raises like `scan`.
        """
        found = self.lstat(path)
        if found is None or found.kind != Kind.FILE:
            return None
        with _named(path):
            try:
                opened = open_beneath(self._root, path, _FILE)
            except FileNotFoundError:
                return None
            if stat.S_ISREG(os.fstat(opened).st_mode):
                return opened
            os.close(opened)
            return None

    def read_small(self, files: Sequence[tuple[bytes, Held]]) -> list[tuple[int, bytes]]:
        """Files (directory and record) that are on disk exactly as recorded: where each stands in `files`,
        and its bytes. What is not, or cannot be read, is left out.
        """
        found: list[tuple[int, bytes]] = []
        with Folders(self._root) as folders:
            for place, (directory, held) in enumerate(files):
                try:
                    body = _recorded(folders[directory], held)
                except (OSError, StoreError, UnsafeName):
                    continue
                if body is not None:
                    found.append((place, body))
        return found

    def hash_file(self, path: bytes) -> tuple[bytes, bytes, Stat] | None:
        """(SHA-256, block hashes, lstat) of a public file; None where no regular file is.

        Raises StoreError where it changed while it was read.
        """
        opened = self.open_file(path)
        if opened is None:
            return None
        with _named(path):
            try:
                before = os.fstat(opened)
                digest = Digest()
                buffer = memoryview(bytearray(_PIECE))
                while count := os.readv(opened, [buffer]):
                    digest.update(buffer[:count])
                after = os.fstat(opened)
            finally:
                os.close(opened)
        if _version(before) != _version(after) or digest.length != after.st_size:
            raise StoreError(f"{shown(path)}: changed while it was read")
        return digest.sha256, digest.blocks, _stat(after)

    # -- temporaries

    def stage_small(self, files: Sequence[tuple[Held, bytes | memoryview]]) -> list[Staged]:
        """Write many small bodies to temporaries in one call; a body whose digest is not known is hashed.

        All or none: on DiskFull and StoreError nothing is left behind.
        """
        return self.temporaries.write_small(files)

    def copy(self, descriptor: int, held: Held) -> Staged:
        """Copy an open local file to a temporary, holes as holes, and hash it; it stays open.

        `held` gets size and SHA-256. Raises Changed where the source changed meanwhile (HAZARDS 96),
        DiskFull, StoreError.
        """
        before = os.fstat(descriptor)
        self.space.require(min(before.st_size, before.st_blocks * 512), path=held.name)
        digest = Digest()
        with _named(held.name, self.space):
            name, target = self.temporaries.create()
            try:
                _copy(descriptor, target, before.st_size, digest)
                _unchanged(held, before, os.fstat(descriptor), digest)
                complete = self.temporaries.dressed(target, held, digest.sha256)
                linux.start_writing(target, 0, 0)
            except BaseException:
                self.temporaries.remove([name])
                raise
            finally:
                os.close(target)
        return Staged(name, complete, complete.inode, digest.blocks)

    def landing(self) -> Landing:
        """A new folder into which another program may bring files. Raises DiskFull, StoreError."""
        temporaries = temporaries_of(self._data, os.fsdecode(self._mirror))
        public = os.path.join(self._data, os.fsdecode(self._public))
        return Landing(self.temporaries, os.path.abspath(temporaries), os.path.abspath(public))

    def sync(self, staged: Iterable[Staged]) -> None:
        """Make temporaries durable: fsync each, or one syncfs where there are more than 8.

        A failure is final: on StoreError `discard` them.
        """
        self.temporaries.sync([one.temporary for one in staged])

    def discard(self, staged: Iterable[Staged]) -> None:
        """Remove temporaries that will not be published."""
        self.temporaries.remove(one.temporary for one in staged)

    def rescue(self, least: int) -> list[tuple[bytes, bytes, int]]:
        """See `landing.rescued`, for every landing of a dead run. Only for who holds the mirror's lock."""
        folder = self.temporaries.folder
        return [one for name in self.temporaries.folders() for one in rescued(folder, name, least)]

    def remove_orphans(self, keep: set[bytes]) -> int:
        """Remove the temporaries of dead runs, all but the names in `keep`; how many they were.

        Only for who holds the mirror's lock, before anything is staged (HAZARDS 111).
        """
        return self.temporaries.remove_orphans(keep)

    # -- the public tree

    def make_directories(self, paths: Iterable[bytes]) -> None:
        """Make directories and those above them, as 0755; those that are there stay. Raises like `scan`."""
        for path in paths:
            with _named(path, self.space):
                os.close(make_beneath(self._root, path))

    def apply(self, changes: Sequence[Change], *, ordered: bool = False) -> list[Held | Exception]:
        """Rename everything into place, in this order; per change the record as it is on disk, or why not.

        No fsync of directories. The temporary of a change that failed is removed. `ordered`: after one that
        failed nothing more is tried, and the temporaries of the rest stay.
        """
        with Folders(self._root) as folders:
            batch = Changes(folders, self.temporaries, self._appearance, self.copy)
            done: list[Held | Exception] = []
            for change in changes:
                done.append(batch.make(change))
                if ordered and isinstance(done[-1], Exception):
                    after = StoreError(
                        f"{shown(change.held.name)}, which comes before it, failed: {done[-1]}"
                    )
                    return [*done, *(after for _ in changes[len(done) :])]
            return done

    def settle(self, directories: dict[bytes, Held | None]) -> None:
        """After names changed in them: set each directory's recorded mode, owner and mtime; make it durable.

        Deepest first; one syncfs instead of more than 8 fsyncs. All are tried, then the first failure is
        raised: Blocked or StoreError, also for a directory that is gone.
        """
        each = len(directories) <= _SYNC_EACH
        self._settle_all(directories, each=each, also=())

    def settle_with(self, directories: dict[bytes, Held | None], staged: Sequence[Staged]) -> None:
        """`settle`, and `sync` of these temporaries: with one syncfs for all of them, where that is cheaper
        for either. StoreError does not tell what it was that failed."""
        each = max(len(directories), len(staged)) <= _SYNC_EACH
        self._settle_all(directories, each=each, also=staged)

    def _settle_all(
        self, directories: dict[bytes, Held | None], *, each: bool, also: Sequence[Staged]
    ) -> None:
        failed: StoreError | None = None
        for path in sorted(directories, key=depth, reverse=True):
            try:
                self._settle(path, directories[path], sync=each)
            except StoreError as error:
                failed = failed or error
        if not each:
            with _named(b""):
                linux.syncfs(self.temporaries.folder)
        elif also:
            self.sync(also)
        if failed is not None:
            raise failed

    def _settle(self, path: bytes, held: Held | None, *, sync: bool) -> None:
        with _named(path, self.space):
            folder = open_beneath(self._root, path, FOLDER)
            try:
                if held is not None:
                    self._appearance.set(folder, held)
                if sync:
                    os.fsync(folder)
            finally:
                os.close(folder)

    # -- trash

    def trash(self, paths: Sequence[bytes], now: int) -> list[Exception | None]:
        """Move public names to DATA/.sideways/trash/MIRROR/NOW/path, a directory as one rename.

        Per path None (also where it is gone already), or why not. `now` in s. Not synced: `settle` what
        they were in.
        """
        return self._trash.take(self._root, paths, now)

    def empty_trash(self, older_than: int) -> None:
        """Remove for good what was moved to the trash at `older_than` (s) or before. Raises StoreError."""
        self._trash.empty(older_than)


def _recorded(folder: int, held: Held) -> bytes | None:
    """The bytes of a file in an open folder, if they are those of the record. Devices are not opened
    (HAZARDS 24), and what is read is what was looked at."""
    recorded = (held.size, held.disk_mtime, held.inode)
    found = os.stat(held.name, dir_fd=folder, follow_symlinks=False)
    if (found.st_size, found.st_mtime_ns, found.st_ino) != recorded or not stat.S_ISREG(found.st_mode):
        return None
    opened = os.open(held.name, _FILE, dir_fd=folder)
    try:
        found = os.fstat(opened)
        if (found.st_size, found.st_mtime_ns, found.st_ino) != recorded:
            return None
        body = os.read(opened, held.size + 1)
    finally:
        os.close(opened)
    return body if len(body) == held.size else None


@contextlib.contextmanager
def _named(path: bytes, space: Space | None = None) -> Iterator[None]:
    """OSError as a StoreError that names `path`."""
    try:
        yield
    except OSError as error:
        raise (space.explain(path, error) if space else store_error(path, error)) from error


def _entry_stat(entry: os.DirEntry[str]) -> Stat | None:
    try:
        return _stat(entry.stat(follow_symlinks=False))
    except FileNotFoundError:  # went while we were looking
        return None


def _shape(entry: os.DirEntry[str]) -> Shape:
    found = entry.stat(follow_symlinks=False)
    return entry.name, stat.S_IFMT(found.st_mode), found.st_size, found.st_mtime_ns, found.st_ino


def _stat(found: os.stat_result) -> Stat:
    return Stat(kind_of(found.st_mode), found.st_size, found.st_mtime_ns, found.st_ino, found.st_mode)


def _version(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _unchanged(held: Held, before: os.stat_result, after: os.stat_result, digest: Digest) -> None:
    if _version(before) != _version(after) or digest.length != before.st_size:
        raise Changed(href(held.name), "the source changed while it was copied")


def _copy(source: int, target: int, size: int, digest: Digest) -> None:
    """`size` bytes at most, to the same offsets; holes are hashed as the zeros that they read as.

    The kernel copies, which on XFS and Btrfs shares the blocks, and the copy is hashed; where it cannot,
    the bytes go through us.
    """
    buffer = memoryview(bytearray(_PIECE))
    zeros = bytes(_PIECE)
    by_kernel = True
    while digest.length < size:
        data, hole = _next_extent(source, digest.length, size)
        while digest.length < data:
            digest.update(zeros[: data - digest.length])
        while (at := digest.length) < hole:
            piece = buffer[: hole - at]
            count = (_by_kernel if by_kernel else _through_us)(source, target, piece, at)
            if not (count or by_kernel):
                return
            by_kernel = by_kernel and count > 0
            digest.update(piece[:count])
    os.ftruncate(target, size)


def _by_kernel(source: int, target: int, piece: memoryview, at: int) -> int:
    """Bytes that were copied, and read back; 0 where the kernel cannot (procfs just says 0)."""
    try:
        count = os.copy_file_range(source, target, len(piece), at, at)
    except OSError as error:
        if error.errno in _NO_COPYING:
            return 0
        raise
    return count and os.preadv(target, [piece[:count]], at)


def _through_us(source: int, target: int, piece: memoryview, at: int) -> int:
    """Bytes that were copied; 0 at the end of the source."""
    count = os.preadv(source, [piece], at)
    os.lseek(target, at, os.SEEK_SET)
    write_all(target, piece[:count])
    return count


def _next_extent(source: int, offset: int, size: int) -> tuple[int, int]:
    """Where data begins and ends from `offset` on; all is data where the file system does not know holes."""
    try:
        data = min(os.lseek(source, offset, os.SEEK_DATA), size)
        return data, min(os.lseek(source, data, os.SEEK_HOLE), size) if data < size else size
    except OSError as error:
        if error.errno == errno.ENXIO:  # a hole up to the end
            return size, size
        return offset, size
