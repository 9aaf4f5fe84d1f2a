"""An origin that tells what changed lately: only those directories are asked for.

RECENT files name what came and went below the directory that they lie in. Where they go back to the last walk
or pass of this kind, every other directory there is as it was, and a pass is one request and some. What lies
elsewhere, and the directory of the files themselves, is asked for as ever.

How far back they have to go is not a matter of our clock: what is kept is the newest event that the files
told of when a pass began, and only of the pass that everything here was last compared by.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal

from cluster.errors import NotAListing, OriginError
from cluster.listing.bulk import recent
from cluster.model import Listing, OriginSpec, href, join, split
from cluster.origin.around import Around, Asking
from cluster.origin.base import Origin, Want

KEPT = 50  # beginnings of passes
SECONDS = 1  # that a time in whole seconds may be too early


@dataclass(frozen=True, slots=True)
class Begun:
    """When (s) a pass read the files, as of when (s) all had been compared by then, the newest event and the
    mark."""

    at: float
    compared: int | None
    newest: str
    mark: str


class Recently(Around):
    """See the module."""

    def __init__(self, inner: Origin, spec: OriginSpec, asking: Asking) -> None:
        super().__init__(inner, spec.index.encode())
        self._spec, self._asking = spec, asking
        self._below = split(self._path)[0]
        self._changed: set[bytes] | None = None  # directories with news; None: all may have some
        self._given: set[bytes] = set()

    def __repr__(self) -> str:
        changed = "?" if self._changed is None else len(self._changed)
        return f"<Recently {changed} changed {self.inner!r}>"

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        """As it was, where nothing has been told of it; else asked for."""
        if not self._begun:
            self._begun = True
            if not directory:
                await self._begin()
        inside = directory.startswith(join(self._below, b"")) if self._below else bool(directory)
        if self._changed is None or not inside or not known or directory in self._given:
            return await self.inner.listing(directory, known)
        self._given.add(directory)
        if directory in self._changed:
            return await self.inner.listing(directory, known)
        return Listing((), format="RECENT", token=known, same=True)

    async def _begin(self) -> None:
        """Find out what changed. Never raises but when cancelled."""
        begun, walked = await asyncio.to_thread(_kept, self._asking.place)
        try:
            newest = await self._file(self._path)
            now = Begun(self._asking.clock(), self._known.compared, str(newest.newest), newest.mark)
            due = self._spec.index_walk is not None and now.at - walked > self._spec.index_walk
            await self._judge(newest, self._last(begun), due=due)
            walked = now.at if self._changed is None else walked
            await asyncio.to_thread(_keep, self._asking.place, [*begun[-KEPT:], now], walked)
        except OriginError as error:
            self._changed = None
            self._say(f"{error.message}; the tree is walked")
        except OSError as error:
            self._say(str(error))

    async def _judge(self, newest: recent.Recent, last: Begun | None, *, due: bool) -> None:
        if last is None:
            self._say("no pass before has gone by it; the tree is walked")
        elif due:
            self._say("the last walk is too long ago; the tree is walked")
        elif last.mark != newest.mark:
            self._say("its history was written anew; the tree is walked")
        else:
            await self._since(newest, Decimal(last.newest))

    def _last(self, begun: Sequence[Begun]) -> Begun | None:
        """A reading from before anything was asked by the pass that everything was last compared by; later
        ones knew of that pass already. A pass reads the files just before its records say that it began, and
        others may have looked in between: the first of those that knew as much as it did."""
        compared = self._known.compared
        if compared is None:
            return None
        before = [
            one
            for one in begun
            if one.at <= compared + SECONDS and (one.compared is None or one.compared < compared)
        ]
        return next((one for one in before if one.compared == before[-1].compared), None)

    async def _since(self, newest: recent.Recent, reference: Decimal) -> None:
        """All events from this one on, out of as few files as tell of them."""
        changed: set[bytes] = set()
        file, longer = newest, list(newest.longer)
        while True:
            for time, path in file.events:
                if time >= reference:
                    changed.update(self._touched(path))
            if file.oldest <= reference:
                break
            if not longer:
                self._say("does not go back to the last pass; the tree is walked")
                return
            before = file
            file = await self._file(self._sibling(newest.interval, longer.pop(0)))
            if file.newest < before.oldest:
                self._say(f"nothing tells what was before {before.interval}; the tree is walked")
                return
        self._changed = changed
        self._say(f"{len(changed)} directories have changed since the last pass")

    def _touched(self, path: bytes) -> set[bytes]:
        """The directories that an event may have changed: one may have come or gone with all below it."""
        touched = set()
        while path:
            path = split(path)[0]
            touched.add(join(self._below, path) if path else self._below)
        return touched

    def _sibling(self, interval: str, other: str) -> bytes:
        above, name = split(self._path)
        marked = f"-{interval}.".encode()
        if marked not in name:
            raise NotAListing(href(self._path), f"no name tells where the file of {other} is")
        return join(above, name.replace(marked, f"-{other}.".encode()))

    async def _file(self, path: bytes) -> recent.Recent:
        pieces = []
        async with self.inner.read(path, Want(limit=recent.MAX_RECENT)) as body:
            async for chunk in body.chunks():
                self._received += len(chunk)
                pieces.append(chunk)
        return await asyncio.to_thread(recent.read, b"".join(pieces), href(path))


def _kept(place: str) -> tuple[list[Begun], float]:
    """Readings in their order, and when (s) the tree was walked last. Blocking. Nothing where nothing is
    kept, or not by this program."""
    try:
        with open(f"{place}.json", encoding="ascii") as file:
            told = json.load(file)
        return [Begun(**one) for one in told["begun"]], float(told["walked"])
    except (OSError, ValueError, KeyError, TypeError):
        return [], 0.0


def _keep(place: str, begun: Sequence[Begun], walked: float) -> None:
    """Blocking. Raises OSError."""
    if not place:
        return
    folder, name = os.path.split(place)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    text = json.dumps({"begun": [asdict(one) for one in begun], "walked": walked})
    with tempfile.NamedTemporaryFile("w", prefix=f".new-{name}-", dir=folder, delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, f"{place}.json")
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.name)
            raise
