"""An origin whose listings come out of a list of the whole tree, where that can be trusted.

One or two requests replace the walk. What the list is good for, `cluster.plan.listed` decides at the first
listing of the root: its rows are listings; or equal rows only say that nothing changed; or the tree is
walked. A directory is told out of the list once: who asks again wants to know what the origin says by then,
and so nothing is deleted on a list's word. What is asked for in a walk and is as the list has it gets the
token of its rows, so that the next pass need not ask.

Not told out of a list are: what lies beside a link, where the origin's own listings show what links lead to;
what lies beside a name with a dot in front, where they hide that; and what came last in a list that does not
say where it ends.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO, cast

from cluster.errors import Malformed, NotAListing, OriginError, TooMuch, Vanished
from cluster.listing import bulk
from cluster.model import (
    SECOND,
    Entry,
    Facts,
    Kind,
    Listing,
    OriginSpec,
    from_href,
    href,
    split,
)
from cluster.origin import index_spool
from cluster.origin.around import Around, Asking
from cluster.origin.base import (
    Origin,
    Want,
)
from cluster.plan.listed import TAKES, Checked, Picture, Rules, Use, agree, check, judged, use
from cluster.repository import unpack

MAX_PACKED = 2 * 2**30  # bytes of a list on the wire; the largest seen, Fedora's, has 0.8 GiB
MAX_LIST = 8 * 2**30  # and unpacked
AUTO = "auto"
SPOTS = 6  # directories that are laid beside a new list, besides the last one in it

log = logging.getLogger("sideways.pass")


class Indexed(Around):
    """See the module."""

    def __init__(self, inner: Origin, spec: OriginSpec, asking: Asking) -> None:
        super().__init__(inner, b"" if spec.index == AUTO else spec.index.encode())
        self._spec, self._asking = spec, asking
        self._spool: index_spool.Spool | None = None
        self._use, self._facts, self._new = Use.WALK, False, True
        self._own = Entry(b"")  # the list itself, as the origin has it now
        self._given: set[int] = set()
        self._asked: set[int] = set()  # of which the origin says something else now
        self._looked: dict[bytes, Listing] = {}  # real listings that nobody has asked for yet

    def __repr__(self) -> str:
        return f"<Indexed {self._use.value} {len(self._given)} given {self.inner!r}>"

    async def close(self) -> None:
        if self._spool is not None:
            with suppress(sqlite3.Error):
                self._spool.asked(self._asked)
            self._spool.close()
            self._spool = None
        await super().close()

    # -- listings

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        """Out of the list, or asked for. A pass that does not begin at the root is about something new: then
        the list is not even looked at."""
        if not self._begun:
            self._begun = True
            if not directory:
                await self._open()
        told = self._told(directory, known)
        if told is not None:
            return told
        real = self._looked.pop(directory, None)
        if real is None:
            at = self._at(directory)
            # A page that is like the last one has no rows that could be laid beside the list's.
            real = await self.inner.listing(directory, b"" if at else known)
        return self._as_listed(directory, real)

    def _told(self, directory: bytes, known: bytes) -> Listing | None:
        """What the list says, where that does; None where the origin is to be asked."""
        at = self._at(directory)
        if at is None or at.number in self._given:
            return None
        self._given.add(at.number)
        assert self._spool is not None
        meta, token = self._spool.meta, at.token
        as_of = max(meta.mtime / SECOND - TAKES, self._known.compared or 0)
        age = max(0.0, self._asking.clock() - as_of)
        if self._use is not Use.WALK and token == known:
            return Listing((), format=meta.form, token=token, same=True, age=age, secondhand=True)
        if self._use is not Use.FACTS or not self._facts or at.asked:
            return None
        if self._new and directory == split(self._path)[0]:
            return None  # when it was listed, the list was not there yet
        rows = self._rows(directory)
        if rows is None or not self._tells_all(directory, rows):
            return None
        rows = replace(rows, entries=tuple(map(self._bare, rows.entries)), own=None, zone_known=True)
        return replace(rows, token=token, age=age, secondhand=True)

    def _bare(self, entry: Entry) -> Entry:
        """A row without what the origin's listings do not tell, and without owners, mostly told by names."""
        return replace(entry, mode=entry.mode if self.properties.modes else None, uid=None, gid=None)

    def _as_listed(self, directory: bytes, real: Listing) -> Listing:
        """A real listing, with the list's token where both say the same."""
        at = None if real.same else self._at(directory)
        rows = None if at is None else self._rows(directory)
        if at is None or rows is None:
            return real
        if agree(rows, real, times=self._facts, hides=self._hides):
            return replace(real, token=at.token)
        self._asked.add(at.number)
        return real

    def _at(self, directory: bytes) -> index_spool.Told | None:
        """A directory of the list."""
        if self._spool is None:
            return None
        try:
            found = self._spool.told(directory)
        except sqlite3.Error as error:
            self._lost(error)
            return None
        if found is not None and directory == split(self._path)[0]:
            own = f"{self._own.size} {self._own.mtime}".encode()
            found = found._replace(token=index_spool.token("", (found.token, own)))
        return found

    def _rows(self, directory: bytes) -> Listing | None:
        """What the list says of it; None where that cannot be read."""
        assert self._spool is not None
        meta, limit = self._spool.meta, self._asking.limits.directory_entries
        try:
            rows = self._spool.rows(directory)
            listing = bulk.read(meta.form, rows, now=meta.mtime, limit=limit, path=href(directory))
        except OriginError:
            return None
        except sqlite3.Error as error:
            self._lost(error)
            return None
        above, name = split(self._path)
        if directory == above and name:
            entries = {entry.name: entry for entry in listing.entries} | {name: self._own}
            listing = replace(listing, entries=tuple(entries[n] for n in sorted(entries)))
        return listing

    def _lost(self, error: sqlite3.Error) -> None:
        self._say(f"what was kept of it cannot be read ({error}); the tree is walked")
        self._spool = None

    @property
    def _hides(self) -> bool:
        """Whether the origin's own listings leave out names that begin with a dot."""
        return self.properties.scheme in ("http", "https")

    def _tells_all(self, directory: bytes, rows: Listing) -> bool:
        """Whether the rows are what the origin's own listing would be."""
        assert self._spool is not None
        meta, links = self._spool.meta, self.properties.symlinks
        if rows.rejected or (directory == meta.last and not meta.ended):
            return False
        return not any(
            entry.ambiguous
            or (entry.kind is Kind.SYMLINK and not (links and entry.target))
            or (self._hides and entry.name.startswith(b"."))
            for entry in rows.entries
        )

    # -- the list

    async def _open(self) -> None:
        """Get it, and find out what it is good for. Never raises but when cancelled."""
        try:
            await self._looked_at()
        except (OriginError, Malformed, TooMuch) as error:
            self._say(f"{error.message}; the tree is walked")
        except (sqlite3.Error, OSError) as error:
            self._say(f"{error}; the tree is walked")

    async def _looked_at(self) -> None:
        before = await asyncio.to_thread(index_spool.opened, self._asking.place)
        try:
            facts = await self._found(before)
            if facts is None:
                return
            told = self._facts_of(facts)
            if before and told == {key: getattr(before.meta, key) for key in told}:
                picture = Picture(before.meta.mtime // SECOND, before.meta.files, same=True)
                self._judge(before, picture, before.meta.walked)
                return
            await self._take(facts, told, before.meta if before else None)
        finally:
            if before is not None and before is not self._spool:
                before.close()

    async def _found(self, before: index_spool.Spool | None) -> Facts | None:
        """What the origin says of the list, which is looked for where the descriptor leaves that to us."""
        if self._spec.index != AUTO:
            return await self.inner.facts(self._path)
        if before is not None and before.meta.path:
            self._path = from_href(before.meta.path)
            with suppress(Vanished):
                return await self.inner.facts(self._path)
        self._looked[b""] = root = await self.inner.listing(b"")
        names = [entry.name for entry in root.entries if entry.kind is not Kind.DIRECTORY]
        self._path = bulk.best(names) or b""
        if not self._path:
            self._say("nothing in the root looks like a list of everything; the tree is walked")
            return None
        return await self.inner.facts(self._path)

    def _facts_of(self, facts: Facts) -> dict[str, object]:
        """What one list is told from another by. Raises NotAListing where that is not told."""
        if facts.mtime is None or facts.size is None:
            raise NotAListing(href(self._path), "its size and time are not told")
        self._own = Entry(split(self._path)[1], size=facts.size, mtime=facts.mtime)
        etag = facts.etag or ""
        return {"path": href(self._path), "size": facts.size, "mtime": facts.mtime.ns, "etag": etag}

    async def _take(self, facts: Facts, told: Mapping[str, object], old: index_spool.Meta | None) -> None:
        """Fetch a list that is new here, and keep it where it can be believed."""
        intake = await self._fetched(facts)
        try:
            spool = index_spool.Spool(intake.base)
            assert facts.mtime is not None
            spool.meta.mtime, spool.meta.path = facts.mtime.ns, href(self._path)
            earlier = old.mtime // SECOND if old and old.path == spool.meta.path else None
            picture = Picture(facts.mtime.ns // SECOND, spool.meta.files, earlier)
            self._judge(spool, picture, old.walked if old else None)
            if self._spool is not None:
                await self._check(picture)
            if self._spool is None:
                intake.drop()
                return
            now = int(self._asking.clock())
            walked = now if self._use is Use.WALK or old is None else old.walked
            self._spool = await asyncio.to_thread(lambda: intake.kept(**told, walked=walked))
        except BaseException:
            self._spool = None
            intake.drop()
            raise

    def _judge(self, spool: index_spool.Spool, picture: Picture, walked: int | None) -> None:
        spec, now = self._spec, self._asking.clock()
        rules = Rules(spec.index_age, spec.index_walk, self._asking.delete)
        self._use, why = use(picture, self._known, rules, now=now, walked=walked)
        self._facts, self._new = spool.meta.facts and not spool.meta.zoned, not picture.same
        self._spool = None if self._use is Use.NOTHING else spool
        at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(picture.mtime))
        if self._use in (Use.WALK, Use.NOTHING):
            self._say(f"of {at}: {why}; the tree is walked")
            if picture.same:
                spool.note(walked=int(now))
        elif self._use is Use.TOKENS:
            self._say(f"of {at}: {why}; what has changed since then is asked for")
        else:
            self._say(f"of {at}: {picture.files} files")

    async def _check(self, picture: Picture) -> None:
        """Lay some directories beside it that nobody can foretell."""
        spool = self._spool
        assert spool is not None
        count = spool.meta.directories
        numbers = {1 + int(self._asking.chance() * count) % max(1, count) for _ in range(SPOTS)}
        found = Checked()
        for directory in dict.fromkeys((*map(spool.directory, sorted(numbers)), spool.meta.last)):
            rows = self._rows(directory)
            try:
                real = await self.inner.listing(directory)
            except Vanished:
                continue
            self._looked[directory] = real
            if rows is None:
                found.there += 1
                continue
            check(found, rows, real, picture.as_of, facts=spool.meta.facts, hides=self._hides)
        if why := judged(found):
            self._say(f"is not what the origin lists: {why}; the tree is walked")
            self._use, self._spool = Use.NOTHING, None
        elif found.zoned:
            spool.note(zoned=True)
            self._facts = False
            self._say("shows the clock of another zone: what has changed in it is asked for")

    async def _fetched(self, facts: Facts) -> index_spool.Intake:
        """Blocking work is done on a thread, which ends by itself where nobody waits for it any more."""
        mtime = facts.mtime.ns if facts.mtime else 0
        with cast("BinaryIO", tempfile.TemporaryFile()) as file:
            async with self.inner.read(self._path, Want(size=facts.size, limit=MAX_PACKED)) as body:
                async for chunk in body.chunks():
                    self._received += len(chunk)
                    file.write(chunk)
            file.seek(0)
            reading = asyncio.ensure_future(asyncio.to_thread(self._read, file, mtime))
            try:
                return await asyncio.shield(reading)
            except asyncio.CancelledError:
                (await reading).drop()
                raise

    def _read(self, file: BinaryIO, mtime: int) -> index_spool.Intake:
        intake = index_spool.Intake(self._asking.place, self._asking.limits.files)
        name = href(self._path)
        try:
            pieces = unpack.pieces(self._path, file, MAX_LIST)
            intake.read(index_spool.lines_of(pieces, name), name, mtime)
        except BaseException:
            intake.drop()
            raise
        return intake
