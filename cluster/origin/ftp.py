"""An origin read over FTP, or over FTP with TLS (RFC 4217; from the first byte where the port is 990)."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cluster.errors import IncompleteListing, Refused
from cluster.model import Facts, Kind, Limits, Listing, OriginSpec, Rejected, href, join
from cluster.origin import ftp_file, ftp_listing, ftp_times
from cluster.origin.base import Body, Loan, PlainFtp, Properties, Traffic, Want
from cluster.origin.ftp_control import Control
from cluster.origin.ftp_pool import Pool
from cluster.origin.ftp_session import FtpSession

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

    from cluster.origin.http_session import Patience

LARGE = 2**17  # bytes of listing that are parsed beside the event loop


class FtpOrigin:
    """Implements `Origin`. Nothing is opened or read before the first request.

    Up to `limits.connections` control connections are kept between requests; a request holds one, and one
    data connection beside it. `resolver` replaces the system's; its answers are judged like those.
    """

    def __init__(
        self,
        spec: OriginSpec,
        limits: Limits,
        *,
        resolver: AbstractResolver | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.traffic = Traffic()
        self.url = spec.url if spec.url.endswith("/") else spec.url + "/"
        self._session = FtpSession(spec, limits, self.traffic, resolver=resolver, patience=patience)
        self._pool = Pool(self._session, max(1, limits.connections))
        scheme = "ftps" if self._session.secured else "ftp"
        self.properties = Properties(
            exact_sizes=True,
            modes=True,
            symlinks=True,
            lends=limits.connections > 1 and not self._session.secured,
            in_flight=False,
            tells_times=False,
            scheme=scheme,
        )
        self._limits, self._timezone = limits, spec.timezone
        self._young: set[bytes] = set()  # files that may be changed again without a sign of it in their time

    def __repr__(self) -> str:
        return f"<FtpOrigin {self.url} {self._pool!r} {self.traffic.requests} requests>"

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        """All names of a directory, by MLSD where it is offered. What LIST shows too coarsely is asked for by
        MDTM, in directories where something is not as it was."""
        listing, control = await self._pool.run(directory, lambda c: self._listed(c, directory, known))
        self._pool.give(control)
        return listing

    async def _listed(self, control: Control, directory: bytes, known: bytes) -> Listing:
        asked_at = time.time_ns()
        found = await ftp_listing.lines(self._session, control, directory)
        token, size = found.token, len(found.body)
        if token == known:
            return Listing((), size=size, token=token, same=True)
        listing = await self._parsed(found, directory, asked_at)
        if known and not found.counted:
            listing, token, size = await self._confirmed(control, directory, listing, asked_at)
        if any(e.kind is Kind.SYMLINK and e.target is None for e in listing.entries):
            by_list = await ftp_listing.targets(self._session, control, directory)
            if by_list is not None:
                listing = aimed(listing, await self._parsed(by_list, directory, asked_at))
        if ftp_times.running(listing, asked_at):
            token = b""  # the next listing may be the same bytes, and another version
        listing = await ftp_times.exact(self._session, control, directory, listing, self._zone(directory))
        self._young.update(join(directory, name) for name in ftp_times.young(listing, asked_at))
        return replace(listing, size=size, token=token)

    async def _confirmed(
        self, control: Control, directory: bytes, first: Listing, now: int
    ) -> tuple[Listing, bytes, int]:
        """A directory that is not as it was, listed once more: a listing that was cut between two lines looks
        whole, and only another one shows names that it lacks (HAZARDS 34). `now`: ns since 1970."""
        found = await ftp_listing.lines(self._session, control, directory)
        again = await self._parsed(found, directory, now)
        if missing := {entry.name for entry in first.entries} - {entry.name for entry in again.entries}:
            words = f"{len(missing)} of {len(first.entries)} names were missing when it was listed once more"
            raise IncompleteListing(href(directory), words)
        return again, found.token, len(found.body)

    async def _parsed(self, found: ftp_listing.Lines, directory: bytes, now: int) -> Listing:
        """`now`: ns since 1970."""
        name, limit = href(directory), self._limits.directory_entries
        if len(found.body) > LARGE:
            return await asyncio.to_thread(ftp_listing.parsed, found, now=now, limit=limit, name=name)
        return ftp_listing.parsed(found, now=now, limit=limit, name=name)

    async def facts(self, path: bytes) -> Facts:
        """SIZE and MDTM in one round trip."""
        facts, control = await self._pool.run(path, lambda c: ftp_file.facts(self._session, c, path))
        self._pool.give(control)
        return facts

    def read(self, path: bytes, want: Want) -> AbstractAsyncContextManager[Body]:
        """Open a file. A resumption that the origin does not honour begins again at 0 (`Body.start`)."""
        young = path in self._young
        return ftp_file.Download(self._session, self._pool, path, want, young=young)

    async def lend(self, most: int) -> PlainFtp | None:
        """See `Lending`. Who borrows opens connections of their own; as many fewer are open here."""
        lent = self._session.plain(most)
        held = self._pool.lend(most) if lent is not None else 0
        return replace(lent, connections=held) if lent is not None and held else None

    def back(self, lent: Loan) -> None:
        self._pool.back()

    def wanted(self) -> bool:
        return False  # one at least is never lent

    async def close(self) -> None:
        self._pool.close()
        self._session.close()

    def _zone(self, directory: bytes) -> ZoneInfo | None:
        if self._timezone is None:
            return None
        try:
            return ZoneInfo(self._timezone)
        except (OSError, ValueError, KeyError):
            raise Refused(href(directory), f"{self._timezone}: not a time zone of this machine") from None


def aimed(listing: Listing, by_list: Listing) -> Listing:
    """`listing` with the targets of links that another listing of the same directory tells. A link of which
    that one cannot tell where its name ends is no entry here either (HAZARDS 87)."""
    told = {entry.name: entry.target for entry in by_list.entries if entry.kind is Kind.SYMLINK}
    entries, lost = [], []
    for entry in listing.entries:
        if entry.kind is not Kind.SYMLINK or entry.target is not None:
            entries.append(entry)
        elif told.get(entry.name) is not None:
            entries.append(replace(entry, target=told[entry.name]))
        else:
            lost.append(Rejected(entry.name, "a link of which it is not told where it leads", Kind.SYMLINK))
    rejected = {one.name: one for one in (*listing.rejected, *lost)}
    return replace(
        listing, entries=tuple(entries), rejected=tuple(rejected[name] for name in sorted(rejected))
    )
