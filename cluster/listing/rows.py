"""Rows of a page become a Listing: unique names in the order of their bytes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from cluster.errors import TooLarge, UnsafeName
from cluster.listing.names import Place
from cluster.listing.sizes import NO_SIZE, Size
from cluster.model import Entry, Kind, Listing, Rejected, Stamp

MAX_REJECTED = 1000  # one page that refuses more than this is shown with the first ones


class Names:
    """Collects what a listing tells of one directory.

    `path` names the listing in errors; more than `limit` names raise TooLarge.
    """

    def __init__(self, path: str, limit: int) -> None:
        self.path, self.limit = path, limit
        self.entries: dict[bytes, Entry] = {}
        self.rejected: dict[bytes, Rejected] = {}

    def put(self, entry: Entry) -> None:
        """A row whose name is checked already. A name that is told twice is kept once."""
        entries = self.entries
        known = entries.setdefault(entry.name, entry)
        if known is not entry:
            if known != entry:
                entries[entry.name] = _either(known, entry)
        elif len(entries) > self.limit:
            raise TooLarge(self.path, f"more than {self.limit} entries")

    def reject(self, name: bytes, reason: str, kind: Kind = Kind.FILE) -> None:
        if len(self.rejected) < MAX_REJECTED:
            self.rejected.setdefault(name, Rejected(name, reason, kind))

    def listing(self, form: str, size: int, *, zone_known: bool, own: Entry | None = None) -> Listing:
        entries = self.entries
        return Listing(
            tuple(map(entries.__getitem__, sorted(entries))),
            tuple([self.rejected[name] for name in sorted(self.rejected)]),
            zone_known or not any(entry.mtime for entry in entries.values()),
            form,
            size,
            own,
        )


class Rows(Names):
    """The same of a page with links, which are read against the `place` of the directory."""

    def __init__(self, place: Place, path: str, limit: int) -> None:
        super().__init__(path, limit)
        self.place = place

    def link(
        self, href: bytes, size: Size = NO_SIZE, mtime: Stamp | None = None, *, directory: bool = False
    ) -> None:
        """A row whose name is given by an href. Links of the page itself are passed over."""
        try:
            named = self.place.name(href)
        except UnsafeName as problem:
            self.reject(href, str(problem), Kind.DIRECTORY if href.endswith(b"/") else Kind.FILE)
            return
        if named:
            self.add(named[0], Kind.DIRECTORY if named[1] or directory else Kind.FILE, size, mtime)

    def add(self, name: bytes, kind: Kind, size: Size = NO_SIZE, mtime: Stamp | None = None) -> None:
        """A row whose name is checked already. A directory's size says nothing about what it holds."""
        if kind is not Kind.FILE:
            size = NO_SIZE
        self.put(Entry(name, kind, size.exact, size.rounded, mtime))


def fingerprint(listing: Listing) -> bytes:
    """A digest of the rows: equal for a directory and an ancestor means that the server turns in circles
    (HAZARDS 20)."""
    digest = hashlib.sha256()
    for e in listing.entries:
        stamp = (e.mtime.ns, e.mtime.precision) if e.mtime else None
        digest.update(repr((e.name, e.kind.value, e.size, e.rounded, stamp, e.target)).encode())
    return digest.digest()


def token(listing: Listing) -> bytes:
    """Of a listing whose origin has no page that could be told by its bytes: the same for the same facts."""
    told = repr((listing.entries, listing.rejected, listing.own))
    return hashlib.blake2b(told.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _either(one: Entry, other: Entry) -> Entry:
    """One name with two sets of facts keeps what both agree on, and what both permit (HAZARDS 21)."""
    modes = [entry.mode for entry in (one, other) if entry.mode is not None]
    return replace(
        one,
        kind=one.kind if one.kind is other.kind else Kind.FILE,
        size=one.size if one.size == other.size else None,
        rounded=one.rounded if one.rounded == other.rounded else None,
        mtime=one.mtime if one.mtime == other.mtime else None,
        mode=modes[0] & modes[-1] if modes else None,
        target=one.target if one.target == other.target else None,
        ambiguous=True,
    )
