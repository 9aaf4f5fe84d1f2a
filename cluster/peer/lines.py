"""The lines of one site: one to each sibling, whoever of the two dialled it, and what is told on them.

Both dial. Where two lines meet, the one that the site with the lower name dialled is kept; a site that can
only dial out has the line that it dialled. Claims are told to everybody within milliseconds of a change.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from typing import Protocol

from cluster.errors import PeerBroke, PeerError, PeerLacks
from cluster.model import Cluster, Site
from cluster.peer import linewire
from cluster.peer.channel import Answer, Channels
from cluster.peer.claims import Changes, Claims
from cluster.peer.codec import WireError
from cluster.peer.https import HttpsSibling
from cluster.peer.line import KEPT, LEFT, Line, Socket, ended
from cluster.peer.listings import Listings
from cluster.peer.relaying import Relaying
from cluster.peer.siblings import Siblings
from cluster.peer.walkwire import Known, Listed, Walk

FLUSH = 0.01  # s in which changes are gathered: a word for many costs what a word for one does
BEHIND = 0.5  # s until a sibling that reads slowly is looked at again
REDIAL = 0.5  # s after which a line that ended is dialled again, doubling, with jitter
MAX_REDIAL = 30.0
FOREIGN = 300.0  # s, where a sibling does not know lines
POLITE = 1.0  # s that the site with the higher name leaves to the other one
FAREWELL = 2.0  # s for all lines to end before they are cut
SETTLED = 60.0  # s that a line must have lasted for its faults of before to be forgotten

log = logging.getLogger(__name__)


class Ear(Protocol):
    """Who tells and takes the journals (`cluster.peer.journals`)."""

    def begun(self, line: Line) -> None: ...
    def ended(self, line: Line) -> None: ...
    def follow(self, line: Line, message: linewire.Follow) -> None: ...
    def news(self, line: Line, message: linewire.News) -> None:
        """Raises WireError."""
        ...


class Lines:
    """One per site. `start` when the siblings and the peer port are, `stop` before they are stopped."""

    def __init__(
        self,
        site: Site,
        cluster: Cluster,
        siblings: Siblings,
        claims: Claims,
        clock: Callable[[], float],
        ear: Ear | None = None,
        listings: Listings | None = None,
    ) -> None:
        self._site, self._cluster, self._siblings = site, cluster, siblings
        self._claims, self._clock, self._ear = claims, clock, ear
        self._relaying = Relaying(listings or Listings(), clock)
        self._lines: dict[str, Line] = {}
        self._without: dict[str, asyncio.Event] = {}  # by sibling: set while there is no line to it
        self._dialling: dict[HttpsSibling, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._telling: list[asyncio.Task[None]] = []
        self._talking: set[asyncio.Task[object]] = set()
        self._stopping = False
        self.shares: Callable[[str, linewire.Shares], None] | None = None  # hears of what is shared
        self.answer: Answer | None = None  # serves what siblings ask through a line: the peer server's own

    # -- life

    def start(self) -> None:
        work = {"claims": self._tell(), "listings": self._relaying.run()}
        self._telling = [asyncio.create_task(telling, name=name) for name, telling in work.items()]
        self._dial_all()

    async def stop(self) -> None:
        self._stopping = True
        self._claims.listen(None)
        tasks = [*self._dialling.values(), *self._telling]
        for task in tasks:
            if task not in self._talking:
                task.cancel()
        for line in self._lines.values():
            line.end(LEFT, "this site is stopping")
        if self._talking:
            await asyncio.wait(self._talking, timeout=FAREWELL)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._dialling.clear()

    def reload(self, cluster: Cluster) -> None:
        """Another set of siblings or mirrors, after `Siblings` and `PeerServer` have taken it up."""
        self._site, self._cluster = cluster.sites.get(self._site.name, self._site), cluster
        for name, line in list(self._lines.items()):
            line.behind = True  # which mirrors are shared may be different now
            if name not in self._siblings.all:
                line.end(LEFT, "not a sibling any more")
            else:
                self._relaying.begun(line, self._relayed(name))
        self._changed.set()
        self._dial_all()

    def _dial_all(self) -> None:
        wanted = set(self._siblings.all.values())
        for sibling in self._dialling.keys() - wanted:
            self._dialling.pop(sibling).cancel()
        for sibling in wanted - self._dialling.keys():
            self._dialling[sibling] = asyncio.create_task(self._dial(sibling), name=f"dial {sibling.name}")

    # -- who is on the line

    def to(self, site: str) -> Line | None:
        """The line to a sibling, where there is one."""
        return self._lines.get(site)

    def shared(self, site: str) -> Iterator[str]:
        """The mirrors that a sibling carries as well as we do: nothing is told and believed of others."""
        for mirror in self._cluster.mirrors_of(self._site.name):
            if site in mirror.sites:
                yield mirror.name

    def _relayed(self, site: str) -> Iterator[str]:
        """Those of them of which listings may be taken, and are told."""
        return (name for name in self.shared(site) if self._cluster.mirrors[name].sideways.relays)

    def _shares(self, site: str, mirror: str) -> bool:
        known = self._cluster.mirrors.get(mirror)
        return known is not None and site in known.sites and self._site.name in known.sites

    # -- dialling and answering

    async def _dial(self, sibling: HttpsSibling) -> None:
        delay = REDIAL
        while not self._stopping:
            await self._no_line(sibling.name).wait()
            await sibling.link.answering.wait()
            if self._site.name > sibling.name:
                await asyncio.sleep(POLITE)
            if not sibling.up or sibling.name in self._lines:
                await asyncio.sleep(REDIAL)
                continue
            began = self._clock()
            try:
                async with sibling.link.dialled() as socket:
                    line = Line(sibling.name, self._site.name, socket, self._clock, self.answer)
                    await self._talk(line)
            except PeerLacks:
                delay = FOREIGN
            except PeerError as error:
                log.info("%s: no line: %s", sibling.name, error.message)
                delay = min(2 * delay, MAX_REDIAL)
            if self._clock() - began >= SETTLED:
                delay = REDIAL
            if not self._stopping:
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))

    async def accept(self, site: str, socket: Socket) -> None:
        """A sibling has dialled: talk with it for as long as the line lasts. Raises nothing."""
        if site not in self._siblings.all or self._stopping:
            return
        await self._talk(Line(site, site, socket, self._clock, self.answer))

    def welcome(self, site: str) -> bool:
        """Whether a sibling's call is worth answering: not while it is set aside for what it did."""
        sibling = self._siblings.all.get(site)
        return sibling is not None and not self._stopping and sibling.link.breaker.closed(self._clock())

    async def _talk(self, line: Line) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talking.add(task)
        began = self._clock()
        try:
            error = await ended(self._whole(line))
            self._leave(line)
            self._judge(line, error, self._clock() - began)
        finally:
            self._talking.discard(task)
            self._leave(line)
            await line.close()

    def _judge(self, line: Line, error: PeerError | None, lasted: float) -> None:
        """What the end of a line says about the sibling."""
        sibling = self._siblings.all.get(line.site)
        if sibling is None:
            return
        if isinstance(error, PeerBroke):
            log.warning("%s; its line is ended", error)
            sibling.link.broke("line", error.message)
        elif lasted >= SETTLED:
            sibling.link.breaker.succeeded("line")
        if error is not None:
            log.info("%s: the line has ended: %s", line.site, error.message)
            sibling.link.doubt()

    async def _whole(self, line: Line) -> None:
        await line.greet(linewire.Greeting(self._site.name, self._cluster.name))
        if not self._keep(line):
            line.end(KEPT, "another line is kept")
            return
        await line.talk(lambda message: self._hear(line, message))

    def _keep(self, line: Line) -> bool:
        """Whether this line is the one; another one to the same sibling is ended then."""
        kept = self._lines.get(line.site)
        if kept is not None:
            # Whoever has a line does not dial. That it did means that they crossed, or that it has lost ours
            # and we have not noticed yet.
            if line.dialler != kept.dialler and line.dialler > kept.dialler:
                kept.doubt()
                return False
            self._leave(kept)
            kept.end(KEPT, "another line is kept")
        self._lines[line.site] = line
        self._no_line(line.site).clear()
        if len(self._lines) == 1:
            self._claims.listen(self._changed.set)
        self._claims.heard.begin(line.site)
        self._snapshot(line)
        self._carries(line, line.channels)
        self._relaying.begun(line, self._relayed(line.site))
        if self._ear is not None:
            self._ear.begun(line)
        log.info("%s: a line, dialled by %s", line.site, line.dialler)
        return True

    def _leave(self, line: Line) -> None:
        if self._lines.get(line.site) is not line:
            return
        del self._lines[line.site]
        self._no_line(line.site).set()
        self._claims.heard.gone(line.site)
        self._carries(line, None)
        self._relaying.ended(line)
        if not self._lines:
            self._claims.listen(None)
        if self._ear is not None:
            self._ear.ended(line)

    def _carries(self, line: Line, channels: Channels | None) -> None:
        """A sibling that dialled may be one that cannot be reached: it is asked through its line then."""
        sibling = self._siblings.all.get(line.site)
        if sibling is not None and line.dialler == line.site:
            sibling.link.carried(channels)

    def _no_line(self, site: str) -> asyncio.Event:
        event = self._without.get(site)
        if event is None:
            event = self._without[site] = asyncio.Event()
            event.set()
        return event

    # -- hearing

    def _hear(self, line: Line, message: linewire.Message) -> None:
        """Raises WireError."""
        site, heard = line.site, self._claims.heard
        if self._lines.get(site) is not line:
            return
        sibling = self._siblings.all.get(site)
        if sibling is not None:
            sibling.link.heard()
        match message:
            case linewire.Sign(wanted=True):
                line.say(linewire.sign(linewire.Sign()))
            case linewire.Fetching(groups):
                now = self._clock()
                for mirror, directory, claims in groups:
                    if self._shares(site, mirror):
                        heard.claimed(site, mirror, directory, claims, now)
            case linewire.Gone(groups):
                for mirror, directory, parts in groups:
                    heard.released(site, mirror, directory, parts)
            case linewire.Going(mirror, headway) if self._shares(site, mirror):
                heard.goes(site, mirror, headway)
            case linewire.Cleared(mirror):
                heard.cleared(site, mirror)
            case linewire.Anew():
                heard.begin(site)
            case linewire.Whole():
                heard.whole(site)
            case linewire.Follow() if self._ear is not None and self._shares(site, message.mirror):
                self._ear.follow(line, message)
            case linewire.News() if self._ear is not None and self._shares(site, message.mirror):
                self._ear.news(line, message)
            case linewire.Shares() if self.shares is not None:
                self.shares(site, message)
            case Walk() | Listed() | Known():
                self._relaying.hear(line, message)
            case linewire.Greeting():
                raise WireError("greets twice")

    # -- telling

    async def _tell(self) -> None:
        while True:
            if any(line.behind for line in self._lines.values()):
                await asyncio.sleep(BEHIND)
            else:
                await self._changed.wait()
                await asyncio.sleep(FLUSH)
            self._changed.clear()
            changes = self._claims.changes(self._clock())
            messages = {mirror: list(_messages(mirror, changes)) for mirror in _mirrors(changes)}
            for line in list(self._lines.values()):
                if line.behind:
                    if line.roomy:
                        self._snapshot(line)
                    continue
                for mirror, told in messages.items():
                    if self._shares(line.site, mirror) and not all(line.say(one) for one in told):
                        line.behind = True

    def _snapshot(self, line: Line) -> None:
        now, going = self._clock(), self._claims.going
        told = (
            (mirror, directory, claim)
            for mirror in self.shared(line.site)
            for directory, claim in self._claims.all(mirror, now)
        )
        passes = (
            linewire.going(mirror, going[mirror]) for mirror in self.shared(line.site) if mirror in going
        )
        for message in (linewire.ANEW, *linewire.fetching(told), linewire.WHOLE, *passes):
            line.say(message, always=True)
        line.behind = False

    def __repr__(self) -> str:
        return f"<Lines {len(self._lines)} of {len(self._siblings.all)}>"


def _mirrors(changes: Changes) -> set[str]:
    return {
        *changes.cleared,
        *(mirror for mirror, _, _ in changes.released),
        *(mirror for mirror, _, _ in changes.claimed),
        *changes.going,
    }


def _messages(mirror: str, changes: Changes) -> Iterator[bytes]:
    """What is to be said about one mirror, in its order."""
    if mirror in changes.cleared:
        yield linewire.cleared(mirror)
    if mirror in changes.going:
        yield linewire.going(mirror, changes.going[mirror])
    yield from linewire.gone(one for one in changes.released if one[0] == mirror)
    yield from linewire.fetching(one for one in changes.claimed if one[0] == mirror)
