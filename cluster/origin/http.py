"""An origin read over HTTP or HTTPS: listings from its index pages, files as they are on the wire."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.errors import OriginError, Refused
from cluster.listing import parse
from cluster.model import Facts, Kind, Limits, Listing, OriginSpec, Stamp, href, join
from cluster.origin import http_file
from cluster.origin.base import Body, Loan, Plain, Properties, Traffic, Want
from cluster.origin.http_dial import Dialer
from cluster.origin.http_headers import facts_of
from cluster.origin.http_listing import page
from cluster.origin.http_pages import Pages
from cluster.origin.http_session import HttpSession, Patience
from cluster.origin.http_stream import Streams
from cluster.origin.http_zone import ServerZone

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

LARGE = 2**18  # bytes of page that are parsed beside the event loop: 5 ms of it and more


class HttpOrigin:
    """Implements `Origin`. Nothing is opened or read before the first request.

    `properties.exact_sizes` follows the newest listing that had files: it depends on how the server's
    administrator set up its index. `resolver` replaces the system's; its answers are judged like those.
    """

    def __init__(
        self,
        spec: OriginSpec,
        limits: Limits,
        *,
        user_agent: str | None = None,
        resolver: AbstractResolver | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.traffic = Traffic()
        self._session = HttpSession(
            spec, limits, self.traffic, user_agent=user_agent, resolver=resolver, patience=patience
        )
        dialer = Dialer(self._session)
        self._pages, self._streams = Pages(self._session, dialer), Streams(self._session, dialer)
        self.url = self._session.prefix
        scheme = self._session.base.scheme
        self.properties = Properties(scheme=scheme, lends=spec.proxy is None)
        self._limits = limits
        self._timezone = spec.timezone
        self._zone: ServerZone | None = None

    def __repr__(self) -> str:
        return f"<HttpOrigin {self.url} {self.traffic.requests} requests>"

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        """All names of a directory, as its index page shows them; times in UTC where the zone is known.

        Costs one request; the zone of a server that does not tell it, at most two more per hour.
        """
        async with self._session.places:
            got = await self._pages.page(directory) or await page(self._session, directory)
        token = hashlib.blake2b(got.body, digest_size=16).digest()
        if token == known:
            return Listing((), size=got.wire, token=token, same=True)
        arguments = (got.body, got.url, got.content_type)
        limit, name = self._limits.directory_entries, href(directory)
        if len(got.body) > LARGE:
            found = await asyncio.to_thread(parse, *arguments, limit=limit, path=name)
        else:
            found = parse(*arguments, limit=limit, path=name)
        shown = next((e for e in found.entries if e.kind is Kind.FILE), None)
        if shown is not None:
            self.properties = replace(self.properties, exact_sizes=shown.size is not None)
        return replace(await self._in_utc(found, directory), size=got.wire, token=token)

    async def facts(self, path: bytes) -> Facts:
        """What the origin says of one file: HEAD, or a GET of one byte where it has no HEAD."""
        async with self._session.places:
            answer = await self._pages.head(path) if self._session.has_head else None
            if answer is not None:
                return facts_of(answer.headers)
            return await http_file.facts(self._session, path)

    def read(self, path: bytes, want: Want) -> AbstractAsyncContextManager[Body]:
        """Open a file. A resumption that the origin does not honour begins again at 0 (`Body.start`)."""
        return http_file.Download(self._session, path, want, self._streams)

    async def lend(self, most: int) -> Plain | None:
        """See `Lending`. Who borrows uses as many of the session's places."""
        places = self._session.places
        await places.acquire()
        held = 1
        while held < most and not places.locked():
            await places.acquire()
            held += 1
        lent: Plain | None = None
        try:
            lent = await self._session.plain(held)
        finally:
            if lent is None:
                self._give(held)
        return lent

    def back(self, lent: Loan) -> None:
        self._give(lent.connections)

    def wanted(self) -> bool:
        return False  # as many wait for places as have a slot

    def _give(self, places: int) -> None:
        for _ in range(places):
            self._session.places.release()

    async def close(self) -> None:
        self._pages.close()
        await self._session.close()

    async def _in_utc(self, found: Listing, directory: bytes) -> Listing:
        if found.zone_known:
            return found
        if self._zone is None:
            try:
                self._zone = ServerZone(self._timezone)
            except (OSError, ValueError, KeyError):
                raise Refused(href(directory), f"{self._timezone}: not a time zone of this machine") from None

        async def modified(name: bytes) -> Stamp | None:
            try:
                return (await self.facts(join(directory, name))).mtime
            except OriginError:
                return None  # the listing is good without; the next hour asks again

        return await self._zone.settled(found, modified, time.time_ns())
