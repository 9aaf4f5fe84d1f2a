"""One file by rsync: asked about, or brought into a private folder and given out from there.

The program verifies what it wrote by a digest of the whole; that nobody changed the file meanwhile shows when
it is asked about once more (HAZARDS 45).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from cluster.errors import Changed, TooLarge, Unreachable, Vanished
from cluster.listing import rsync as printed
from cluster.model import SECOND, Entry, Facts, Kind, Stamp, href, split
from cluster.origin.base import Traffic, Want
from cluster.origin.rsync_child import Child, Ended, started
from cluster.origin.rsync_command import BY_NAME, NOBODY, Access, names
from cluster.origin.rsync_errors import Wish, failure

CHUNK = 2**20
LOOK = 0.05  # s between looks at whether the end of a wanted part is there


async def facts(access: Access, traffic: Traffic, path: bytes) -> Facts:
    """What the origin says of one name, whatever it is. Raises OriginError."""
    reach = await access.reach(path)
    traffic.requests += 1
    command = (*reach.program, *BY_NAME, "--dry-run", "--archive", "--no-recursive", "--dirs",
               "--numeric-ids", f"--out-format={printed.FORMAT}", reach.source, NOBODY)  # fmt: skip
    found: list[Entry] = []
    async with started(
        command, shown=href(path), given=names(access.base, [path]), more=reach.more, silence=access.silence
    ) as child:
        async for lines in child.lines():
            for line in lines:
                name = printed.placed(line)
                if name is not None and name.path == path:
                    found.append(printed.entry_of(path, name.row)[0])
        if error := failure(await child.ended(), path, Wish.FILE):
            raise error
    if not found:
        raise Vanished(href(path), "no such name")
    return as_facts(found[0])


def as_facts(entry: Entry) -> Facts:
    """Its validator is of whole seconds: `cluster.plan.compare.validator` knows when that proves nothing."""
    if entry.kind is not Kind.FILE or entry.mtime is None:
        return Facts(entry.size, entry.mtime, kind=entry.kind)
    etag = f'"{entry.size:x}-{entry.mtime.ns:x}"'
    return Facts(entry.size, entry.mtime, etag, entry.kind, ranges=True)


class Reading:
    """One file on its way: the context and the body in one object. Its copy lies in a folder of its own in
    `private`, or where the system has its temporary files if that is not there."""

    facts: Facts
    start: int

    def __init__(self, access: Access, traffic: Traffic, path: bytes, want: Want, private: str) -> None:
        self._access, self._traffic, self._path, self._want = access, traffic, path, want
        self._private, self._folder = private, ""
        self._descriptor = -1
        self._end = 0

    async def __aenter__(self) -> Self:
        shown, want = href(self._path), self._want
        told = await facts(self._access, self._traffic, self._path)
        if told.kind is not Kind.FILE or told.size is None:
            raise Changed(shown, f"a {told.kind}, not a {Kind.FILE}")
        if want.size is not None and told.size != want.size:
            raise Changed(shown, f"{told.size} bytes, {want.size} were listed")
        same = want.etag is not None and want.etag == told.etag
        if want.stop is not None and want.etag is not None and not same:
            raise Changed(shown, "another version than the one of which a part is wanted")
        self.start = want.start if same and 0 < want.start <= told.size else 0
        self._end = told.size if want.stop is None else min(told.size, want.stop)
        if self._end - self.start > want.limit:
            raise TooLarge(shown, f"{self._end - self.start} bytes, at most {want.limit} are accepted")
        self.facts = told
        try:
            await self._bring(told.size)
        except OSError as error:
            await self.__aexit__(None, None, None)
            raise Unreachable(shown, f"its private copy: {error.strerror or error}") from error
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    async def chunks(self) -> AsyncIterator[bytes]:
        """From the private copy, which is complete."""
        position = self.start
        while position < self._end:
            length = min(CHUNK, self._end - position)
            chunk = await asyncio.to_thread(os.pread, self._descriptor, length, position)
            if not chunk:
                raise Unreachable(href(self._path), "its private copy ended early")
            position += len(chunk)
            yield chunk

    # -- inside

    async def _bring(self, size: int) -> None:
        """Have it written to a folder of its own; what the reader holds is not sent again."""
        shown = href(self._path)
        self._folder = tempfile.mkdtemp(
            prefix="sideways-rsync-",
            dir=os.path.abspath(self._private) if os.path.isdir(self._private) else None,
        )
        copy = os.path.join(os.fsencode(self._folder), split(self._path)[1])
        self._descriptor = os.open(
            copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        os.ftruncate(self._descriptor, self.start)
        before = os.fstat(self._descriptor).st_ino
        if self.start < self._end:
            try:
                if await self._receive(size):
                    now = await facts(self._access, self._traffic, self._path)
                    if now != self.facts:
                        raise Changed(shown, "changed while it was read")
            finally:
                self._traffic.bytes += max(0, os.fstat(self._descriptor).st_size - self.start)
        status = os.stat(copy, follow_symlinks=False)
        if status.st_ino != before or status.st_size < self._end:
            raise Changed(shown, f"{status.st_size} bytes came, {size} were told")
        self.facts = replace(self.facts, mtime=_finer(self.facts.mtime, status.st_mtime_ns))

    async def _receive(self, size: int) -> bool:
        """Run the child until what is wanted is there. False where it was ended before the file was whole."""
        path, access = self._path, self._access
        reach = await access.reach(path)
        self._traffic.requests += 1
        command = (*reach.program, *BY_NAME, "--no-relative", "--times", "--inplace", "--append",
                   f"--max-size={size}", reach.source, self._folder + "/")  # fmt: skip
        async with started(
            command,
            shown=href(path),
            given=names(access.base, [path]),
            more=reach.more,
            silence=access.silence,
            stirring=lambda: os.fstat(self._descriptor).st_size,
        ) as child:
            ending = asyncio.ensure_future(_ended(child))
            try:
                while not ending.done():
                    await asyncio.wait((ending,), timeout=LOOK if self._end < size else None)
                    if self._end < size and os.fstat(self._descriptor).st_size >= self._end:
                        return False
                if error := failure(ending.result(), path, Wish.FILE):
                    raise error
            finally:
                ending.cancel()
                await asyncio.gather(ending, return_exceptions=True)
        return True


async def _ended(child: Child) -> Ended:
    async for _ in child.output():
        pass
    return await child.ended()


def _finer(told: Stamp | None, ns: int) -> Stamp | None:
    """The time that the program gave the copy: the origin's, to the nanosecond where it can tell that."""
    finer = Stamp(ns)
    return finer if told is not None and ns % SECOND and told.agrees(finer) else told
