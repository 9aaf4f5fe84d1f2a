"""A sibling over HTTPS: its answers as model values, its bytes checked for what can be checked here."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import quote_from_bytes

from cluster.errors import PeerBroke, PeerSilent
from cluster.model import Claim, Facts, Offer, Offered, Site
from cluster.origin.base import Traffic, Want
from cluster.peer import agreedwire, bundlewire, listingwire, partwire, wire
from cluster.peer.carried import CarriedBundle
from cluster.peer.client import Agreement, Bodies, Parts, Relayed, Told, Wish
from cluster.peer.link import FIRST_BYTE, Link
from cluster.peer.newer import Newer
from cluster.peer.partbody import PartBody
from cluster.peer.stream import Stream

if TYPE_CHECKING:
    from cluster.courier.carrier import Carrier

MAX_OFFERS = 250_000  # in one directory, as everywhere
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")


class HttpsSibling:
    """Implements `cluster.peer.client.Sibling`. `start` begins to look for it; until it has answered it is
    not `up`, and every method raises PeerSilent at once. `caught` is told its name when it has deceived us.

    `traffic` counts what was asked of it since it was made: requests, and bytes of files as received.
    """

    def __init__(
        self,
        site: Site,
        own_files: tuple[str, str],
        cluster: str,
        clock: Callable[[], float],
        caught: Callable[[str], None] = lambda site: None,
    ) -> None:
        self.name, self._caught = site.name, caught
        self.site = site
        self.link = Link(site, own_files, cluster, clock)
        self.traffic = Traffic()

    def start(self) -> None:
        self.link.start()

    async def stop(self) -> None:
        await self.link.stop()

    @property
    def up(self) -> bool:
        return self.link.up

    @property
    def speed(self) -> float | None:
        return self.link.speed

    @property
    def trouble(self) -> str:
        """What last went wrong with it; for people."""
        return self.link.trouble

    def deceived(self, reason: str) -> None:
        self.link.deceived(reason)
        self._caught(self.name)

    # -- questions

    async def offered(
        self, mirror: str, directory: bytes, patience: float, *, first: bytes = b"", last: bytes | None = None
    ) -> Offered:
        """Page by page, within `patience` seconds in all. Where time runs out after the first page, what has
        arrived is the answer: an offer is a hint, and the origin has the rest.
        """
        clock = self.link.clock
        until = clock() + patience
        target = "directory?" + _query(mirror=mirror, directory=directory)
        target += f"&first={_quoted(first)}" if first else ""
        target += f"&last={_quoted(last)}" if last is not None else ""
        held: dict[bytes, Offer] = {}
        claims: dict[bytes, Claim] = {}
        known, after = False, None
        while True:
            more = f"&after={_quoted(after)}" if after is not None else ""
            try:
                body = await self._asked(target + more, max(0.1, until - clock()) if after else patience)
            except PeerSilent:
                if after is None or not self.link.up:
                    raise
                break
            with self.link.judged("question"), self.link.broken():
                page = wire.page_read(body, after)
            known = known or page.known
            held.update((offer.name, offer) for offer in page.held)
            claims.update((claim.name, claim) for claim in page.claims)
            if not page.more or len(held) > MAX_OFFERS or clock() >= until:
                break
            after = page.held[-1].name
        return Offered(self.name, held, claims, known)

    async def mirrors(self, patience: float = FIRST_BYTE) -> list[wire.Carried]:
        """What it carries of the mirrors that this site carries too."""
        body = await self._asked("mirrors", patience)
        with self.link.judged("question"), self.link.broken():
            return wire.carried_read(body)

    async def journal(
        self,
        mirror: str,
        after: int,
        epoch: str,
        limit: int = wire.MAX_ENTRIES,
        patience: float = FIRST_BYTE,
    ) -> wire.JournalPage:
        """What changed there after record `after` of `epoch` (0 and "": from its beginning)."""
        target = f"journal?{_query(mirror=mirror, epoch=epoch)}&after={after}&limit={limit}"
        body = await self._asked(target, patience)
        with self.link.judged("question"), self.link.broken():
            return wire.journal_read(body, after)

    async def digests(self, mirror: str, directory: bytes, patience: float = FIRST_BYTE) -> wire.Digests:
        """What it holds in and below a directory, as digests."""
        body = await self._asked("digests?" + _query(mirror=mirror, directory=directory), patience)
        with self.link.judged("question"), self.link.broken():
            return wire.digests_read(body)

    async def listing(
        self, mirror: str, directory: bytes, origin: str, age: float, known: bytes, patience: float
    ) -> Relayed:
        """See `Sibling`. An age on its clock, which runs as ours does."""
        target = "listing?" + _query(mirror=mirror, directory=directory, origin=origin, known=known.hex())
        body = await self._asked(f"{target}&age={round(age * 1000)}", patience)
        with self.link.judged("question"), self.link.broken():
            return listingwire.told_read(body)

    async def agreement(
        self, mirror: str, directory: bytes, origin: str, known: bytes, after: bytes, patience: float
    ) -> Agreement:
        """See `Sibling`."""
        target = "agreement?" + _query(
            mirror=mirror, directory=directory, origin=origin, known=known.hex(), after=after
        )
        body = await self._asked(target, patience)
        with self.link.judged("question"), self.link.broken():
            return agreedwire.told_read(body, after)

    async def parts(self, mirror: str, path: bytes, size: int, etag: str, patience: float) -> Parts:
        """See `Sibling`."""
        body = await self._asked(f"parts?{_query(mirror=mirror, path=path, etag=etag)}&size={size}", patience)
        with self.link.judged("question"), self.link.broken():
            return partwire.told_read(body, size)

    async def wake(self, mirror: str, path: bytes = b"", patience: float = FIRST_BYTE) -> None:
        """Tell it that something changed below `path`."""
        self.traffic.requests += 1
        await self.link.question("wake", patience, body=wire.wake(wire.Wake(mirror, path)))

    async def _asked(self, target: str, patience: float) -> bytes:
        self.traffic.requests += 1
        return await self.link.question(target, patience)

    # -- bytes

    def read(self, mirror: str, path: bytes, offer: Offer, want: Want) -> SiblingBody:
        """The version that `offer` names, from `want.start` on: another one is PeerLacks."""
        headers = {}
        if offer.sha256 is not None:
            headers["If-Match"] = f'"{offer.sha256.hex()}"'
        if want.start:
            headers["Range"] = f"bytes={want.start}-"
        self.traffic.requests += 1
        stream = Stream(self.link, "file?" + _query(mirror=mirror, path=path), headers)
        return SiblingBody(self, stream, offer, want)

    def part(self, mirror: str, path: bytes, size: int, etag: str, first: int, end: int) -> PartBody:
        """See `Sibling`."""
        self.traffic.requests += 1
        target = f"part?{_query(mirror=mirror, path=path, etag=etag)}&size={size}&first={first}&end={end}"
        return PartBody(self, Stream(self.link, target), first, end)

    def newer(self, mirror: str, path: bytes, offer: Offer) -> Newer:
        """See `Sibling`."""
        return Newer(self, _query(mirror=mirror, path=path), offer.size, offer.sha256 or b"")

    async def bundle(
        self, mirror: str, wishes: Sequence[Wish], patience: float
    ) -> AsyncIterator[Told | Bodies]:
        """See `Sibling`. At most MAX_ROWS files, and 64 MiB of bodies; the first that do not fit are left
        out by the sibling. Anything that was not asked for is PeerBroke."""
        question = bundlewire.question(mirror, wishes)
        answer = bundlewire.Answer(wishes)
        self.traffic.requests += 1
        async with Stream(self.link, "files", question=question, patience=patience) as stream:
            async for part in stream.parts():
                self.traffic.bytes += len(part)
                with self.link.judged("body"), self.link.broken():
                    whole = list(answer.feed(part))
                for one in whole:
                    yield one
        if not answer.complete:
            raise self.link.broke("body", "a bundle without its end")

    @property
    def lends(self) -> bool:
        return self.link.lends

    def carried(
        self, mirror: str, wishes: Sequence[Wish], patience: float, carrier: Carrier
    ) -> CarriedBundle:
        """See `cluster.peer.client.Lending`."""
        self.traffic.requests += 1
        return CarriedBundle(self, carrier, mirror, wishes, patience)

    def __repr__(self) -> str:
        return f"<HttpsSibling {self.name} {self.link!r}>"


class SiblingBody:
    """A file on its way: `cluster.origin.base.Body`, opened by `async with`."""

    facts: Facts
    start: int

    def __init__(self, sibling: HttpsSibling, stream: Stream, offer: Offer, want: Want) -> None:
        self._sibling, self._stream, self._offer, self._want = sibling, stream, offer, want

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        try:
            self.start = self._checked()
        except BaseException as error:
            await self._stream.__aexit__(type(error), error, None)
            raise
        offer = self._offer
        self.facts = Facts(offer.size, offer.mtime, offer.etag, offer.kind, ranges=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, error, trace)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Exactly the bytes from `start` to the end of the offered size. Raises PeerError otherwise."""
        expected = self._offer.size - self.start
        async for part in self._stream.parts():
            expected -= len(part)
            if expected < 0:
                raise self._broke("sent more than it announced")
            self._sibling.traffic.bytes += len(part)
            yield part
        if expected:
            raise self._broke(f"sent {expected} bytes less than it announced")

    def _checked(self) -> int:
        """Where the body begins. Raises PeerBroke where header and offer disagree."""
        response, size = self._stream.response, self._offer.size
        if size > self._want.limit:
            raise self._broke(f"offers {size} bytes, wanted are at most {self._want.limit}")
        if response.status == 200:
            if response.content_length != size:
                raise self._broke(f"announces {response.content_length} bytes, offered were {size}")
            return 0
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or tuple(map(int, match.groups())) != (self._want.start, size - 1, size):
            raise self._broke("answers with another range than the one asked for")
        return self._want.start

    def _broke(self, message: str) -> PeerBroke:
        return self._sibling.link.broke("body", message)


def _quoted(value: bytes) -> str:
    return quote_from_bytes(value, safe="/~")


def _query(**fields: str | bytes) -> str:
    return "&".join(
        f"{key}={_quoted(value if isinstance(value, bytes) else value.encode())}"
        for key, value in fields.items()
    )
