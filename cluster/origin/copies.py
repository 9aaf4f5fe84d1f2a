"""An origin whose bytes may come from copies of it, servers of the same archive that tell no facts.

Facts are the reference's alone. A copy's file is taken where its size is exactly the listed one and its time,
where it is told, agrees with the listed one; everything else comes from the reference.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from cluster.errors import Changed, OriginError, Vanished
from cluster.model import Facts, Listing
from cluster.origin.base import Body, Origin, Traffic, Want
from cluster.plan.steal import LARGE

PAUSE, LONGEST = 30.0, 3600.0  # s that a copy which failed is not asked; doubled each time
MISSES = 16  # other versions in a row, after which a copy is taken for one that is behind


@dataclass(slots=True)
class Copy:
    """A server that sends bytes, and how it has done lately."""

    host: str
    origin: Origin
    until: float = 0.0  # monotonic s; not asked before
    pauses: int = 0
    misses: int = 0

    def pause(self, now: float) -> None:
        self.until = now + min(LONGEST, PAUSE * 2.0**self.pauses)
        self.pauses, self.misses = min(self.pauses + 1, 16), 0


class WithCopies:
    """`reference`, with the bytes of files from `copies` where these have the listed version."""

    def __init__(
        self,
        reference: Origin,
        copies: Sequence[Copy],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reference, self._copies, self._clock = reference, copies, clock
        self._elsewhere: set[bytes] = set()  # what broke off at a copy: the reference is asked next
        # What is lent out, or brought many at a time, is asked for by somebody who knows no copies.
        self.properties = replace(reference.properties, lends=False, batches=False)
        self.url = reference.url

    @property
    def traffic(self) -> Traffic:
        """What all of them cost together."""
        every = [origin.traffic for origin in (self._reference, *(copy.origin for copy in self._copies))]
        return Traffic(
            sum(one.requests for one in every),
            sum(one.bytes for one in every),
            sum(one.listings for one in every),
        )

    def __repr__(self) -> str:
        return f"<WithCopies {len(self._well())} of {len(self._copies)} copies, {self._reference!r}>"

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        return await self._reference.listing(directory, known)

    async def facts(self, path: bytes) -> Facts:
        """A file that sites would share by parts comes whole, under its time, where a copy may send it:
        parts and validators are the reference's own."""
        facts = await self._reference.facts(path)
        large = (facts.size or 0) > LARGE
        return replace(facts, ranges=False, etag=None) if large and self._well() else facts

    def read(self, path: bytes, want: Want) -> _Opening:
        return _Opening(self, path, want)

    async def close(self) -> None:
        for origin in (self._reference, *(copy.origin for copy in self._copies)):
            await origin.close()

    def _well(self) -> list[Copy]:
        now = self._clock()
        return [copy for copy in self._copies if copy.until <= now]

    def _for(self, path: bytes, want: Want) -> list[Copy]:
        """The copies that may be asked for this. A version that is named by the reference's validator, and a
        part of one, is the reference's own."""
        plain = not (want.start or want.etag or want.stop is not None) and path not in self._elsewhere
        return self._well() if plain else []


class _Opening:
    """Opens a file at the first copy that has it as it is listed, else at the reference."""

    __slots__ = ("_copy", "_entered", "_origin", "_path", "_want")

    def __init__(self, origin: WithCopies, path: bytes, want: Want) -> None:
        self._origin, self._path, self._want = origin, path, want
        self._copy: Copy | None = None
        self._entered: object = None

    async def __aenter__(self) -> Body:
        for copy in self._origin._for(self._path, self._want):
            body = await self._at(copy)
            if body is not None:
                return body
        reading = self._origin._reference.read(self._path, self._want)
        body = await reading.__aenter__()
        self._entered = reading
        return body

    async def _at(self, copy: Copy) -> Body | None:
        origin = self._origin
        want = self._want
        if want.size is None:  # the listing shows a rounded one, which proves nothing
            want = replace(want, size=(await origin._reference.facts(self._path)).size)
        if want.size is None:
            return None
        reading = copy.origin.read(self._path, want)
        try:
            body = await reading.__aenter__()
        except (Changed, Vanished):
            self._missed(copy)
            return None
        except OriginError:
            copy.pause(origin._clock())
            return None
        facts, listed = body.facts, want.mtime
        other = facts.mtime is not None and listed is not None and not facts.mtime.agrees(listed)
        if other or facts.size not in (None, want.size):
            await reading.__aexit__(None, None, None)
            self._missed(copy)
            return None
        self._copy, self._entered = copy, reading
        copy.misses = copy.pauses = 0
        return _Copied(body, copy.host, want.size)

    def _missed(self, copy: Copy) -> None:
        copy.misses += 1
        if copy.misses >= MISSES:
            copy.pause(self._origin._clock())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._copy is not None and isinstance(error, OriginError):
            self._origin._elsewhere.add(self._path)
            self._copy.pause(self._origin._clock())
        return await self._entered.__aexit__(kind, error, traceback)  # type: ignore[attr-defined, no-any-return]


class _Copied:
    """A body from a copy. Its validator is the copy's own and says nothing about the reference's file."""

    def __init__(self, body: Body, host: str, size: int) -> None:
        self._body = body
        self.facts = replace(body.facts, size=size, etag=None, ranges=False, copy=host)
        self.start = body.start

    def chunks(self) -> AsyncIterator[bytes]:
        return self._body.chunks()
