"""Following journals on lines: ours is told to whoever follows it, theirs are taken from where we were."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.errors import SidewaysError
from cluster.peer import linewire
from cluster.peer.cursors import Cursors, Place
from cluster.peer.line import Line
from cluster.peer.wire import Record

if TYPE_CHECKING:
    from cluster.store.mirror import Reader

GATHERED = 0.2  # s between two looks into a journal that changes
AT_ONCE = 500  # records read at once
LOOK = 30.0  # s between looks for what was written without our being told: another process of this site
SAVE = 1.0  # s between two writings of the places

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Follower:
    """The other end of one line, as it follows us. `places`: by mirror, what it has been told."""

    line: Line
    places: dict[str, Place] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Journals:
    """One per site; implements `cluster.peer.lines.Ear`.

    `follows(site)` names the mirrors whose journals at a sibling are worth following. `take(site, mirror,
    records, place)` is given what is new there, `lost(site, mirror, place)` is called where the place was
    lost and what differs must be found by comparing; whoever takes them puts `place` into `cursors` when it
    has been worked off.
    """

    def __init__(
        self,
        cursors: Cursors,
        open_reader: Callable[[str], Awaitable[Reader]],
        follows: Callable[[str], Iterable[str]],
        take: Callable[[str, str, Sequence[Record], Place], None],
        lost: Callable[[str, str, Place], None],
    ) -> None:
        self._cursors, self._open_reader, self._follows = cursors, open_reader, follows
        self._take, self._lost = take, lost
        self._followers: dict[Line, _Follower] = {}
        self._heard: dict[Line, dict[str, Place]] = {}

    async def run(self) -> None:
        """Keep the places, and look now and then for records that nobody spoke of."""
        rounds = 0
        try:
            while True:
                await asyncio.sleep(SAVE)
                if self._cursors.unsaved:
                    await asyncio.to_thread(self._cursors.save)
                rounds += 1
                if rounds >= LOOK / SAVE:
                    rounds = 0
                    for mirror in {m for follower in self._followers.values() for m in follower.places}:
                        self.changed(mirror)
        finally:
            if self._cursors.unsaved:
                self._cursors.save()

    # -- telling

    def changed(self, mirror: str) -> None:
        """Records may have been added to our journal."""
        for follower in self._followers.values():
            if mirror in follower.places and mirror not in follower.pending:
                follower.pending.add(mirror)
                follower.wanted.set()

    def follow(self, line: Line, message: linewire.Follow) -> None:
        """A sibling wants to be told, from a place on."""
        follower = self._followers[line]
        follower.places[message.mirror] = Place(message.epoch, message.after)
        follower.pending.add(message.mirror)
        follower.wanted.set()

    async def _tell(self, follower: _Follower) -> None:
        while True:
            await follower.wanted.wait()
            follower.wanted.clear()
            pending, follower.pending = sorted(follower.pending), set()
            for mirror in pending:
                with contextlib.suppress(SidewaysError, OSError):  # no records yet, or not readable: later
                    await self._tell_one(follower, mirror)
            await asyncio.sleep(GATHERED)

    async def _tell_one(self, follower: _Follower, mirror: str) -> None:
        # Opened anew each time: records that were set aside as damaged have a new file in their place.
        reader = await self._open_reader(mirror)
        try:
            epoch, first, last = await reader.position()
            place = follower.places[mirror]
            if place.epoch != epoch or not first - 1 <= place.seq <= last:
                message, _ = linewire.news(mirror, epoch, last, [], lost=True)
                follower.line.say(message, always=True)
                follower.places[mirror] = Place(epoch, last)
                return
            while place.seq < last and follower.places[mirror] == place:  # not asked for anew meanwhile
                records = [record async for record in reader.journal(place.seq, AT_ONCE)]
                if not records:
                    return
                message, count = linewire.news(mirror, epoch, max(last, records[-1].seq), records)
                await follower.line.room()
                if follower.places[mirror] != place:
                    return
                follower.line.say(message, always=True)
                place = follower.places[mirror] = Place(epoch, records[count - 1].seq)
        finally:
            await reader.close()

    # -- following

    def begun(self, line: Line) -> None:
        """A new line: follow from where we are."""
        follower = self._followers[line] = _Follower(line)
        follower.task = asyncio.create_task(self._tell(follower), name=f"journals for {line.site}")
        self._heard[line] = {}
        self._ask(line)

    def ended(self, line: Line) -> None:
        """Nothing more is told or taken on it."""
        follower = self._followers.pop(line)
        if follower.task is not None:
            follower.task.cancel()
        del self._heard[line]

    def reload(self) -> None:
        """Other mirrors may be worth following now."""
        for line in self._heard:
            self._ask(line)

    def _ask(self, line: Line) -> None:
        for mirror in self._follows(line.site):
            if mirror not in self._heard[line]:
                place = self._cursors.places.get((line.site, mirror), Place("", 0))
                self._heard[line][mirror] = place
                line.say(linewire.follow(linewire.Follow(mirror, place.epoch, place.seq)), always=True)

    def news(self, line: Line, message: linewire.News) -> None:
        """What is behind our place is taken; what was told before, or belongs to another epoch than the one
        that we follow, is passed over (HAZARDS 121)."""
        heard, page, mirror = self._heard[line], message.page, message.mirror
        known = heard.get(mirror)
        if known is None:
            return
        if page.lost:
            place = heard[mirror] = Place(page.epoch, page.last)
            self._lost(line.site, mirror, place)
            return
        records = [record for record in page.records if record.seq > known.seq]
        if page.epoch != known.epoch or not records:
            return
        place = heard[mirror] = Place(page.epoch, records[-1].seq)
        self._take(line.site, mirror, records, place)

    def __repr__(self) -> str:
        return f"<Journals {len(self._followers)} followers>"
