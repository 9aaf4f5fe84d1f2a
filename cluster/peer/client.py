"""Asking siblings, and reading their bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cluster.model import Claim, Entry, Listing, Offer, Offered, value
from cluster.origin.base import Body, Want
from cluster.store.agreement import Agreed

if TYPE_CHECKING:
    from cluster.courier.carrier import Carrier
    from cluster.courier.said import Order, Written


@value
class Relayed:
    """What a sibling said when it was asked for a listing: None where it has none that is fresh enough, else
    how long ago (s) it asked the origin for it."""

    listing: Listing | None
    age: float = 0.0


@value
class Through:
    """A pass over the whole of a mirror that came to its end: how long ago (s) the origin gave the oldest of
    the answers that it rests on, and a digest of the rules by which they were compared."""

    age: float
    rules: bytes


@value
class Agreement:
    """What a sibling said of one directory: with which listings of the origin its records agree. `through` is
    None where no pass of its own stands behind that."""

    through: Through | None
    found: Agreed


@value
class Parts:
    """What a sibling said of one version of a large file: the ranges of it that can be read there (first
    byte, end; ascending), and what it is fetching of that file. `arriving`: more of it is on its way there;
    `sha256` is of the whole, where all of it is there and known to be of one version."""

    runs: tuple[tuple[int, int], ...] = ()
    claims: tuple[Claim, ...] = ()
    arriving: bool = False
    sha256: bytes | None = None


@value
class Wish:
    """One file that a sibling is asked for: the version that `sha256` names where it is told, else the one
    that the origin lists as `entry`. `send`: its body is wanted as well, if it is small."""

    directory: bytes
    entry: Entry
    sha256: bytes | None = None
    send: bool = True


@value
class Told:
    """What a sibling said of files that it was asked for, by their places in the question: those that it
    holds, and those that it is fetching. What is in neither, it lacks."""

    held: Mapping[int, Offer]
    claims: Mapping[int, Claim]


@value
class Bodies:
    """Files that have arrived: place and bytes, of the size that was told. Their digest is to be checked."""

    files: Sequence[tuple[int, memoryview]]


class Carried(Protocol):
    """The answer to a question for many files, taken by a program beside ours. `told` is what the sibling
    said first."""

    told: Told

    def files(self, prefix: bytes, orders: Sequence[Order]) -> AsyncGenerator[Sequence[Written], None]:
        """Those of the ordered ones that come, each verified and in its temporary: see `cluster.store.small`.
        Once only; raises PeerError, Unwritten, CarrierGone."""
        ...


class Part(Protocol):
    """Blocks on their way. `hashes` are their BLAKE3, as the sibling says."""

    hashes: bytes

    def chunks(self) -> AsyncIterator[bytes]:
        """Exactly the bytes that were asked for. Raises PeerError otherwise."""
        ...


class Newer(Protocol):
    """The version of a file that a sibling offers, to be made from an older one.

    Every method raises PeerError and nothing else; PeerLacks where it holds another version, knows no such
    question, or has no time for it. What it says is a hint: the digest of the whole file decides.
    """

    received: int  # bytes, so far
    requests: int

    async def blocks(self) -> bytes:
        """The BLAKE3 of each block of 8 MiB, one after the other; empty for a file of one block."""
        ...

    async def sums(self, block: int, ranges: Sequence[tuple[int, int]]) -> bytes:
        """The sums (`cluster.peer.deltawire`) of whole blocks of this size, by ranges of their numbers."""
        ...

    def pieces(self, ranges: Sequence[tuple[int, int]]) -> AsyncGenerator[bytes, None]:
        """The bytes of these ranges, which ascend and do not touch, one after the other."""
        ...


class Unwritten(Exception):
    """A file of a question, by its place, could not be written: `code` is the errno."""

    def __init__(self, place: int, code: int) -> None:
        super().__init__(place, code)
        self.place, self.code = place, code


class Sibling(Protocol):
    """One sibling, as the engine uses it. Every method raises PeerError and nothing else."""

    name: str

    @property
    def up(self) -> bool:
        """Its connection has answered lately and its breaker is closed. Only then is it worth asking."""
        ...

    @property
    def speed(self) -> float | None:
        """Bytes/s that its bodies came with lately, each by itself; None before the first large one."""
        ...

    async def offered(
        self, mirror: str, directory: bytes, patience: float, *, first: bytes = b"", last: bytes | None = None
    ) -> Offered:
        """Everything it holds and is fetching in one directory, or between two names of it (both included).
        PeerSilent after `patience` seconds.
        """
        ...

    async def listing(
        self, mirror: str, directory: bytes, origin: str, age: float, known: bytes, patience: float
    ) -> Relayed:
        """The listing that it had from this origin (a URL) at most `age` seconds ago; as `same` where its
        token is `known`. PeerSilent after `patience` seconds.
        """
        ...

    async def agreement(
        self, mirror: str, directory: bytes, origin: str, known: bytes, after: bytes, patience: float
    ) -> Agreement:
        """With which listings of this origin (a URL) it agrees in and below a directory; subdirectories only
        where its sum is not `known`, and of those with names above `after`. PeerSilent after `patience`
        seconds; PeerLacks where it does not know the question.
        """
        ...

    def bundle(self, mirror: str, wishes: Sequence[Wish], patience: float) -> AsyncIterator[Told | Bodies]:
        """What it says of these files, all of it first; then those that it sends, in their order. PeerSilent
        where no answer has begun after `patience` seconds. The bytes are checked against `Offer.sha256` by
        the caller; what was told and does not come, it could not send after all.
        """
        ...

    def read(self, mirror: str, path: bytes, offer: Offer, want: Want) -> AbstractAsyncContextManager[Body]:
        """One file. The bytes are checked against `offer.sha256` by the caller."""
        ...

    def newer(self, mirror: str, path: bytes, offer: Offer) -> Newer:
        """The version that `offer` names, to be made from an older one that is here."""
        ...

    async def parts(self, mirror: str, path: bytes, size: int, etag: str, patience: float) -> Parts:
        """What can be read there of the version that size and validator name. PeerSilent after `patience`
        seconds; PeerLacks where it does not know the question."""
        ...

    def part(
        self, mirror: str, path: bytes, size: int, etag: str, first: int, end: int
    ) -> AbstractAsyncContextManager[Part]:
        """The blocks from `first` to `end` of that version, at most one range (`cluster.plan.steal`)."""
        ...

    def deceived(self, reason: str) -> None:
        """Its bytes were not what it promised: counts heavily against it, is shown, and is remembered with
        its time (`cluster.peer.caught`)."""
        ...


@runtime_checkable
class Lending(Protocol):
    """A sibling whose bundles a program beside ours can take."""

    @property
    def lends(self) -> bool:
        """Whether it can now."""
        ...

    def carried(
        self, mirror: str, wishes: Sequence[Wish], patience: float, carrier: Carrier
    ) -> AbstractAsyncContextManager[Carried]:
        """As `Sibling.bundle`. Entered when it has been told what the sibling holds; left, nothing more is
        written. Raises PeerError, CarrierGone."""
        ...
