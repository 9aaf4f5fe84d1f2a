"""Reading an origin that is a folder of this machine: a local disk, or an NFS mount of somebody else's.

Below the source's root every path is walked by descriptors with O_NOFOLLOW, so that no link in the source
leads out of it (HAZARDS 15, 17). The root itself may be a link: the operator named it. File system calls run
on threads of this origin's own, so that a file server that hangs holds up this mirror only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

from cluster.errors import (
    Changed,
    IncompleteListing,
    OriginError,
    Refused,
    SourceMissing,
    TooLarge,
    Unreachable,
    UnsafeName,
    UsageError,
)
from cluster.model import Facts, Limits, Listing, OriginSpec, checked_name, href
from cluster.model import split as split_path
from cluster.origin.base import Properties, Traffic, Want
from cluster.origin.local_names import as_facts, classified, scan, validator, version

T = TypeVar("T")

FIRST = 256 * 2**10  # read together with opening the file: a small one then costs one hop to a thread
CHUNK = 2**20
TRIES = 3  # of listing a directory that changes meanwhile

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def source_path(spec: OriginSpec) -> bytes:
    """The folder that a `file:` URL names. Raises UsageError where it names none on this machine."""
    parts = urlsplit(spec.url)
    path = unquote_to_bytes(parts.path)
    here = parts.scheme == "file" and parts.netloc in ("", "localhost")
    if not here or parts.query or parts.fragment or not path.startswith(b"/") or b"\0" in path:
        raise UsageError(f"{spec.url}: not a folder of this machine; write file:///path/of/folder")
    return path.rstrip(b"/") or b"/"


class LocalOrigin:
    """See the module. Sizes are exact, times are in nanoseconds; nothing is cached between calls.

    A source proves that it is mounted by `spec.marker`, a name that must exist below the root. Without one,
    an empty root is taken for an empty mount point, and a root that became another one while this origin is
    open for a mount that went away (HAZARDS 36): both raise SourceMissing.
    """

    properties = Properties(
        exact_sizes=True, modes=True, symlinks=True, hard_links=True, network=False, scheme="file"
    )

    def __init__(self, spec: OriginSpec, limits: Limits) -> None:
        self.url = spec.url if spec.url.endswith("/") else spec.url + "/"
        self.traffic = Traffic()
        self._root = source_path(spec)
        self._marker = os.fsencode(spec.marker) if spec.marker else None
        self._limits = limits
        self._identity: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max(1, limits.connections), thread_name_prefix="source")

    def __repr__(self) -> str:
        return f"<LocalOrigin {self.url} {self.traffic.requests} requests>"

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        """Names by their bytes. A hard link's `link` is `device:inode`; a directory that is its own ancestor
        through a bind mount is rejected (HAZARDS 19). Listed again when it changed meanwhile; after three
        tries raises IncompleteListing.
        """
        self.traffic.requests += 1
        progress = [0]
        return await self._on_thread(directory, lambda: self._list(directory, progress), progress)

    async def facts(self, path: bytes) -> Facts:
        self.traffic.requests += 1

        def work() -> Facts:
            with self._parent(path) as (parent, name):
                return as_facts(os.stat(name, dir_fd=parent, follow_symlinks=False))

        return await self._on_thread(path, work)

    def read(self, path: bytes, want: Want) -> _Reading:
        """The strong validator is made of inode, size and times, so that a read can be resumed."""
        return _Reading(self, path, want)

    def open(self, path: bytes) -> int:
        """See `Copyable`. Raises Changed for what is not a regular file. Who copies counts the traffic."""
        return self._open(path)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -- on the caller's thread

    def _list(self, directory: bytes, progress: list[int]) -> Listing:
        for _ in range(TRIES):
            with self._descend(directory) as (descriptor, ancestors):
                before = os.fstat(descriptor)
                listing = scan(descriptor, directory, ancestors, before, self._limits, progress)
                if listing is not None and version(before) == version(os.fstat(descriptor)):
                    break
        else:
            raise IncompleteListing(href(directory), f"changed each of the {TRIES} times that it was listed")
        if not directory and not listing.entries and self._marker is None:
            raise SourceMissing(
                "", f"{self.url} is empty, like an unmounted folder; name a marker if it may be"
            )
        return listing

    def _open(self, path: bytes) -> int:
        with self._parent(path) as (parent, name):
            # Opening a device may act on it, so the kind is known before (HAZARDS 24).
            if not stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise Changed(href(path), "not a regular file")
            descriptor = os.open(name, _FILE, dir_fd=parent)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise Changed(href(path), "not a regular file")
            return descriptor

    @contextlib.contextmanager
    def _parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The open directory of a path and the last name of it; the root is `.` in itself."""
        directory, name = split_path(path)
        with self._descend(directory, path) as (descriptor, _):
            yield descriptor, checked_name(name) if path else b"."

    @contextlib.contextmanager
    def _descend(
        self, directory: bytes, asked: bytes | None = None
    ) -> Iterator[tuple[int, set[tuple[int, int]]]]:
        """The open directory, and the identities of itself and all above it. Errors speak of `asked`."""
        shown = href(directory if asked is None else asked)
        descriptor = self._open_root()
        try:
            status = os.fstat(descriptor)
            self._prove(descriptor, status, repin=not directory and asked is None)
            ancestors = {(status.st_dev, status.st_ino)}
            for name in directory.split(b"/") if directory else ():
                below = os.open(checked_name(name), _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
                status = os.fstat(descriptor)
                ancestors.add((status.st_dev, status.st_ino))
            yield descriptor, ancestors
        except UnsafeName as error:
            raise Refused(shown, str(error)) from error
        except OSError as error:
            raise classified(shown, error) from error
        finally:
            os.close(descriptor)

    def _open_root(self) -> int:
        try:
            return os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise Refused("", f"{self.url} may not be read: {error.strerror}") from error
            raise SourceMissing("", f"{self.url} cannot be opened: {error.strerror}") from error

    def _prove(self, descriptor: int, status: os.stat_result, *, repin: bool) -> None:
        """Raises SourceMissing unless the marker is there or, without one, the root is still the same."""
        if self._marker is not None:
            try:
                os.stat(self._marker, dir_fd=descriptor, follow_symlinks=False)
            except OSError as error:
                marker = os.fsdecode(self._marker)
                raise SourceMissing(
                    "", f"{self.url} lacks its marker {marker!r}: {error.strerror}"
                ) from error
            return
        identity = (status.st_dev, status.st_ino)
        with self._lock:
            if repin or self._identity is None:
                self._identity = identity
            elif self._identity != identity:
                raise SourceMissing("", f"{self.url} is another folder than when its root was listed")

    # -- to a thread and back

    async def _on_thread(
        self,
        path: bytes,
        work: Callable[[], T],
        progress: list[int] | None = None,
        unwanted: Callable[[T], None] | None = None,
    ) -> T:
        """What `work` returns. Raises Unreachable after `limits.timeout` without an end or progress.

        A thread cannot be stopped: what comes back after nobody waits any more is given to `unwanted`.
        """
        future = self._threads.submit(work)
        waiting = asyncio.wrap_future(future)
        seen, taken = -1, False
        try:
            while True:
                done, _ = await asyncio.wait((waiting,), timeout=self._limits.timeout)
                if done:
                    taken = True
                    return waiting.result()
                if progress is None or progress[0] == seen:
                    raise Unreachable(
                        href(path), f"the file system gave no answer for {self._limits.timeout:g} s"
                    )
                seen = progress[0]
        finally:
            if not taken:
                waiting.cancel()
                if unwanted is not None:
                    future.add_done_callback(lambda late: _discard(late, unwanted))


class _Reading:
    """One file on its way: the context and the body in one object."""

    facts: Facts
    start: int

    def __init__(self, origin: LocalOrigin, path: bytes, want: Want) -> None:
        self._origin, self._path, self._want = origin, path, want
        self._descriptor = -1
        self._status: os.stat_result
        self._first = b""
        self._turns = threading.Lock()  # for the two below, which a thread and the loop change
        self._read_from = self._left = False

    async def __aenter__(self) -> Self:
        self._origin.traffic.requests += 1
        opened = await self._origin._on_thread(self._path, self._open, unwanted=lambda o: os.close(o[0]))
        self._descriptor, self._status, self.start, self._first = opened
        self.facts = as_facts(self._status)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._turns:
            self._left, reading = True, self._read_from
        if not reading:
            os.close(self._descriptor)

    def _open(self) -> tuple[int, os.stat_result, int, bytes]:
        shown, want = href(self._path), self._want
        descriptor = self._origin._open(self._path)
        try:
            status = os.fstat(descriptor)
            if want.size is not None and status.st_size != want.size:
                raise Changed(shown, f"{status.st_size} bytes, {want.size} were listed")
            same = want.etag == validator(status)
            if want.stop is not None and want.etag is not None and not same:
                raise Changed(shown, "another version than the one of which a part is wanted")
            start = want.start if same and 0 < want.start <= status.st_size else 0
            end = self._end(status)
            if end - start > want.limit:
                raise TooLarge(shown, f"{end - start} bytes, at most {want.limit} are accepted")
            os.lseek(descriptor, start, os.SEEK_SET)
            length = max(0, min(FIRST, end - start))
            return (
                descriptor,
                status,
                start,
                _read(shown, descriptor, status, length, last=start + length >= end),
            )
        except OSError as error:
            os.close(descriptor)
            raise classified(shown, error) from error
        except OriginError:
            os.close(descriptor)
            raise

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises Changed where the file was changed, replaced or removed since it was opened (HAZARDS 96)."""
        end, position = self._end(self._status), self.start
        chunk = self._first
        while chunk:
            position += len(chunk)
            self._origin.traffic.bytes += len(chunk)
            yield chunk
            if position >= end:
                return
            chunk = await self._origin._on_thread(self._path, lambda at=position: self._next(at))  # type: ignore[misc]

    def _next(self, position: int) -> bytes:
        """On a thread. Who is left meanwhile goes on: the number must not stand for another file before a
        read from it has returned, so it is closed here then."""
        end = self._end(self._status)
        shown, length = href(self._path), min(CHUNK, end - position)
        with self._turns:
            if self._left:
                raise Changed(shown, "left before it was read")
            self._read_from = True
        try:
            return _read(shown, self._descriptor, self._status, length, last=position + length >= end)
        except OSError as error:
            raise classified(shown, error) from error
        finally:
            with self._turns:
                self._read_from, left = False, self._left
            if left:
                os.close(self._descriptor)

    def _end(self, status: os.stat_result) -> int:
        return status.st_size if self._want.stop is None else min(status.st_size, self._want.stop)


def _read(shown: str, descriptor: int, status: os.stat_result, length: int, *, last: bool) -> bytes:
    """`length` bytes. The last piece is given out only if the file is still the one that was opened."""
    chunk = os.read(descriptor, length)
    while len(chunk) < length:
        more = os.read(descriptor, length - len(chunk))
        if not more:
            raise Changed(shown, f"ended before the {status.st_size} bytes that it had when it was opened")
        chunk += more
    if last and version(os.fstat(descriptor)) != version(status):
        raise Changed(shown, "changed while it was read")
    return chunk


def _discard(late: Future[T], unwanted: Callable[[T], None]) -> None:
    if not late.cancelled() and late.exception() is None:
        unwanted(late.result())
