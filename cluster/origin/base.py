"""The interface between a pass and whatever it mirrors from.

Adapters implement it and classify what goes wrong; retry, limits and logging are wrappers around it.
Paths are checked relative paths (`cluster.model`); directories have no trailing slash.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cluster.errors import OriginError
from cluster.model import Facts, Listing, Stamp, href, value
from cluster.plan.listed import Known


@value
class Properties:
    """What this kind of origin tells. Decisions look here, never at the class."""

    exact_sizes: bool = False
    modes: bool = False
    symlinks: bool = False
    hard_links: bool = False
    network: bool = True
    lends: bool = False  # see Lending
    in_flight: bool = True  # several files may be asked for at once on a connection that is lent
    tells_times: bool = True  # a body comes with the time of the file as it is then
    batches: bool = False  # see Batching
    scheme: str = ""


@value
class Want:
    """The version of a file that a read must deliver, as far as the listing or a HEAD told it.

    `start` > 0 resumes: the reader holds that many bytes of the version that `etag` names and takes only
    the rest; `stop` ends a range there, for a spot check. `limit` is the largest number of body bytes that
    will be accepted.
    """

    size: int | None = None
    start: int = 0
    stop: int | None = None
    etag: str | None = None
    limit: int = 64 * 2**30
    mtime: Stamp | None = None  # as listed; only a copy of the origin is measured by it


class Body(Protocol):
    """A file on its way. `facts` are what the origin said of it with the first byte.

    `start` is where the bytes begin: `Want.start`, or 0 where the origin would not resume, and then
    what was held must be thrown away.
    """

    facts: Facts
    start: int

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in pieces of the transport's size. Ends normally only where the body is complete
        by the origin's own framing; raises OriginError otherwise."""
        ...


class Vessel(Protocol):
    """Where a thread puts the bytes of a body, in order. Both raise what the disk says."""

    def room(self) -> memoryview:
        """Where the next bytes go. Never empty."""
        ...

    def took(self, count: int) -> None:
        """So many of them are there now."""
        ...


@runtime_checkable
class Pouring(Protocol):
    """A body that a thread may receive, beside the event loop and cheaper than in `chunks`."""

    async def pour(self, vessel: Callable[[], Vessel], progress: Callable[[int], None]) -> int | None:
        """Put all of it into what `vessel` gives, complete as by `chunks`; how many bytes came. None, and
        nothing was taken, where it has to come in chunks. `progress` is told now and then how many have come.
        Raises OriginError, and what the vessel raises; then, and after a cancellation, the thread has ended.
        """
        ...


@dataclass(slots=True)
class Traffic:
    """What an origin cost so far. Wrappers and adapters add to it; the pass reports it."""

    requests: int = 0
    bytes: int = 0  # bodies of files as received, discarded ones included
    listings: int = 0  # bytes of listings as received


class Origin(Protocol):
    """Every method raises OriginError and nothing else (asyncio.CancelledError aside)."""

    properties: Properties
    url: str  # for people: no credentials in it

    @property
    def traffic(self) -> Traffic: ...

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        """All names of a directory. Raises NotAListing or IncompleteListing rather than guess.

        `known` is the token of an earlier listing: one that is byte for byte the same need not be taken
        apart again, and comes back as `same`, without entries.
        """
        ...

    async def facts(self, path: bytes) -> Facts:
        """What the origin says of one file (HEAD, stat)."""
        ...

    def read(self, path: bytes, want: Want) -> AbstractAsyncContextManager[Body]:
        """Open a file. Raises Changed when what answers is not the wanted version."""
        ...

    async def close(self) -> None: ...


@value
class Plain:
    """How small files are to be asked for over connections of one's own, to one host.

    A request is `head`, the target of `href` without its leading slash, and `tail`. `addresses` are
    (family, host, port), in the order to be tried; `connections` may be open at once. `connect` and
    `silence` are seconds. `tls`: whose certificate is expected, and the file of its authorities where those
    are not the system's.
    """

    addresses: tuple[tuple[int, str, int], ...]
    bind: str | None
    head: bytes
    tail: bytes
    connections: int
    connect: float
    silence: float
    tls: tuple[str, str | None] | None = None

    def target(self, path: bytes) -> bytes:
        """How a file is named in a request."""
        return href(path).encode("ascii")


@value
class PlainFtp:
    """The same for an FTP server, which is reached at `addresses`, one of them, and lets in `user`.

    Files lie below `folder`, and are named by their bytes. `utf8`: the server wants to be told that these are
    UTF-8; `extended`: it knows EPSV. `silence` is seconds.
    """

    addresses: tuple[tuple[int, str, int], ...]
    bind: str | None
    user: bytes
    password: bytes = field(compare=False)  # and so in no message
    folder: bytes
    utf8: bool
    extended: bool
    connections: int
    silence: float

    def target(self, path: bytes) -> bytes:
        return self.folder + path


Loan = Plain | PlainFtp


class Lending(Protocol):
    """An origin that can be asked for small files by a program beside ours."""

    async def lend(self, most: int) -> Loan | None:
        """Up to `most` of its connections, until they are given `back`; None where this origin, at this time,
        is asked in the ordinary way only. Waits until one is free, not for more."""
        ...

    def back(self, lent: Loan) -> None:
        """Its connections are closed, or idle."""
        ...

    def wanted(self) -> bool:
        """Whether somebody waits for what is lent, and for nothing else: give it back soon."""
        ...


@value
class Batch:
    """Files that are to come together, by their paths.

    Each comes to lie under its path in `folder`, which is private, empty or left by an earlier try, and on
    the file system of the public tree. What has begun to come lies in a folder called `begun` beside the
    place of the file, under its name. Of the directories in `whole` every file is wanted, so that they may be
    asked for as such. `older` is a folder in which older versions lie under the same paths, to be read only;
    None where there are none. `alike`: one may lie there under another name of the same directory.
    `largest` is the number of bytes beyond which no file is to be taken; `rate` what may come in a second.
    """

    folder: str
    begun: str
    files: tuple[bytes, ...]
    whole: tuple[bytes, ...] = ()
    older: str | None = None
    alike: bool = False
    largest: int = 64 * 2**30
    rate: int | None = None


Brought = tuple[bytes, int | OriginError]
"""The path of a file that has come to lie in a folder, and the bytes that came for it; or why it does not."""


class Batching(Protocol):
    """An origin from which a program of its own brings many files at once."""

    def bring(self, batch: Batch) -> AsyncGenerator[Sequence[Brought], None]:
        """What has come, as it comes. Whether a file is there, and is what was listed, is for the caller to
        look at: what is told proves nothing. Ends when the origin has sent all that it is willing to send.
        Raises OriginError; what has come by then stays, and another call with the same folder goes on with
        what had begun to come. When it is closed, and after an error, nobody writes into the folder any more.
        """
        ...


@runtime_checkable
class ByList(Protocol):
    """An origin that tells its listings out of a list of the whole tree, where that can be trusted."""

    def begin(self, known: Known) -> None:
        """A pass begins, and this is what it knows. Before the first listing."""
        ...

    def said(self) -> Sequence[str]:
        """What came of the list, for whoever reads about the pass."""
        ...


class Copyable(Protocol):
    """An origin on this machine's own file systems: the store copies from it itself."""

    def open(self, path: bytes) -> int:
        """An open file descriptor (O_RDONLY | O_NOFOLLOW, confined to the source) of a regular file.
        The store fstats it before and after the copy (HAZARDS 96). Blocking. Raises OriginError."""
        ...
