"""One run: what happens when, until every site that lives is complete.

Between two events everything flows evenly, so that time jumps from one to the next. What a site does is
decided by `cluster.plan`; here is only what those decisions lead to.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from cluster.errors import SidewaysError
from cluster.model import Order
from cluster.plan.steal import Fetch, Piece, Wait, gives_way, next_piece, verified
from cluster.simulate.between import Between
from cluster.simulate.division import Division
from cluster.simulate.knowledge import Fact, News, View
from cluster.simulate.links import Flow, Network
from cluster.simulate.result import Result, SiteResult
from cluster.simulate.scenario import Cut, Member, Scenario, Tells, bound, checked

LAST_BYTE = 0.5  # bytes: what is left of a flow that has ended, but for rounding
ENDLESS = 1000.0  # times what the slowest scheme needs: this scenario never ends


@dataclass(slots=True)
class Transfer:
    """A piece on its way to a site; `source` is "" for the origin. `flow` is None until it is answered."""

    piece: Piece
    source: str
    begin: int
    flow: Flow | None = None

    @property
    def received(self) -> float:
        wanted = self.piece.stop - self.begin
        return max(0.0, wanted - self.flow.left) if self.flow is not None else 0.0


@dataclass(eq=False, slots=True)
class Runner:
    """One site in the run."""

    member: Member
    index: int
    view: View
    offset: float  # from its start to its first question, where it asks from time to time
    transfers: dict[Piece, Transfer] = field(default_factory=dict)
    from_origin: int = 0
    sideways: int = 0
    bytes_here: int = 0
    origin_bytes: int = 0
    sideways_bytes: int = 0
    stolen: int = 0
    gave_way: int = 0
    started: bool = False
    asked: float = -1.0  # when it last had an answer
    wake: float = float("inf")
    finished: float | None = None
    died: float | None = None
    fell: bool = False  # it has died once

    @property
    def done(self) -> bool:
        """Nothing more is waited for here."""
        gone = self.died is not None and self.member.returns is None
        return self.finished is not None or gone

    @property
    def name(self) -> str:
        return self.member.name


def play(scenario: Scenario) -> Result:
    """Run it to its end. Raises UsageError for what cannot be played, SidewaysError for what never ends."""
    return _Play(checked(scenario)).run()


class _Play:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._now = 0.0
        self._alive = [member.name for member in scenario.members]  # as everybody believes
        self._division = Division(scenario)
        chance = random.Random(scenario.seed)
        self._sites = {
            member.name: Runner(
                member, i, View(member.name, self._division.walk(i)), chance.uniform(0, scenario.every)
            )
            for i, member in enumerate(scenario.members)
        }
        self._network = Network(
            [
                scenario.origin,
                *(m.down for m in scenario.members),
                *(m.up for m in scenario.members),
                *(m.limit or scenario.origin for m in scenario.members),
            ]
        )
        self._carries: dict[Flow, tuple[Runner, Transfer]] = {}
        self._fetching: dict[Piece, set[str]] = {}  # who fetches a piece from the origin
        self._facts: list[Fact] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._touched: dict[str, None] = {}
        self._between = Between()

    # -- time

    def run(self) -> Result:
        scenario = self._scenario
        for site in self._sites.values():
            self._at(site.member.starts, partial(self._start, site))
        for cut in scenario.cuts:
            self._at(cut.begins, partial(self._cut, cut))
            self._at(cut.ends, partial(self._heal, cut))
        least = bound(scenario)
        patience = ENDLESS * len(self._sites) * (least + scenario.patience + scenario.every + 1)
        patience += max((cut.ends for cut in scenario.cuts), default=0.0)
        while not all(site.done for site in self._sites.values()):
            end = self._network.next_end()
            event = self._events[0][0] if self._events else float("inf")
            then = min(self._now + end, event)
            if then == float("inf") or self._now > patience:
                raise SidewaysError(f"the simulation stands still after {self._now:.0f} s; {self!r}")
            self._network.advance(then - self._now)
            self._now = then
            self._ended()
            while self._events and self._events[0][0] <= self._now:
                heapq.heappop(self._events)[2]()
            touched, self._touched = self._touched, {}
            for name in touched:
                self._dispatch(self._sites[name])
        return self._result(least)

    def __repr__(self) -> str:
        return f"<Play {', '.join(repr(site.view) for site in self._sites.values())}>"

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act))

    def _soon(self, site: Runner, when: float) -> None:
        """Let a site decide again at `when`, unless it does so before."""
        if self._now < site.wake <= when:
            return
        site.wake = when
        self._at(when, partial(self._touch, site))

    def _touch(self, site: Runner) -> None:
        self._touched[site.name] = None

    def _start(self, site: Runner) -> None:
        site.started = True
        self._touch(site)
        if self._scenario.every:
            self._at(self._now + site.offset, partial(self._ask, site))

    def _ask(self, site: Runner) -> None:
        """A site's regular question to its siblings."""
        if site.died is None:
            site.asked = self._now
            self._touch(site)
        if not site.done:
            self._at(self._now + self._scenario.every, partial(self._ask, site))

    # -- what sites tell

    def _tell(self, site: Runner, news: News, piece: Piece, *, first: bool = False) -> None:
        tells = self._scenario.tells
        if tells is Tells.NOTHING or (tells is Tells.HELD and news is not News.HELD):
            return
        self._facts.append(Fact(self._now, news, site.name, piece, first))
        if self._scenario.every:
            return
        for other in self._sites.values():
            if other is not site and other.started and self._matters(other, news, piece):
                self._soon(other, self._now + self._scenario.latency)

    def _matters(self, site: Runner, news: News, piece: Piece) -> bool:
        """Whether news makes a site do something at once; else it suffices to know when it decides next."""
        if news is News.CLAIMED:
            return site.name in self._fetching.get(piece, ())
        if news is News.DROPPED:
            return site.from_origin < site.member.slots
        free = site.sideways < self._scenario.sideways_slots
        return free and piece not in site.view.here and piece not in site.view.busy

    def _catch_up(self, site: Runner) -> None:
        """Let news reach a site, and let it give way where somebody fetches what it fetches."""
        view, scenario = site.view, self._scenario
        delay, until = (0.0, site.asked) if scenario.every else (scenario.latency, self._now)
        while view.read < len(self._facts) and self._facts[view.read].at + delay <= until:
            fact = self._facts[view.read]
            view.read += 1
            if fact.site != site.name and not self._between.hold(site.name, fact):
                self._learn(site, fact)

    def _learn(self, site: Runner, fact: Fact) -> None:
        site.view.learn(fact)
        if fact.news is News.CLAIMED and site.name in self._fetching.get(fact.piece, ()):
            self._judge(site, site.transfers[fact.piece])

    def _judge(self, site: Runner, transfer: Transfer) -> None:
        piece = transfer.piece
        received = int(transfer.received) + transfer.begin - piece.start
        for rival in site.view.claims(piece.path, partial(self._pulse, site)):
            if rival.touches(piece) and gives_way(
                piece, site.name, received, rival, now=self._now, patience=self._scenario.patience
            ):
                site.gave_way += 1
                self._break_off(site, transfer)
                self._tell(site, News.DROPPED, piece)
                return

    def _pulse(self, site: Runner, other: str) -> float:
        """When `site` last saw a sibling make progress."""
        died, scenario = self._sites[other].died, self._scenario
        until = site.asked if scenario.every else self._now - scenario.latency
        cut = self._between.since(site.name, other)
        return min([until, *(moment for moment in (died, cut) if moment is not None)])

    # -- what a site does

    def _dispatch(self, site: Runner) -> None:
        """Fill the free slots of one site."""
        if not site.started or site.died is not None or site.finished is not None:
            return
        self._catch_up(site)
        self._fetch(site)
        view = site.view
        while site.sideways < self._scenario.sideways_slots and view.offered:
            piece = next(iter(view.offered))
            source = view.source(piece)
            assert source is not None
            self._begin(site, Transfer(piece, source, piece.start + verified(view.prefix.get(piece, 0))))

    def _fetch(self, site: Runner) -> None:
        view, scenario = site.view, self._scenario
        while site.from_origin < site.member.slots:
            found = next_piece(
                site.name,
                view.open.get(site.name, ()),
                view.tails() if scenario.stealing else {},
                view.backlogs(self._now - site.member.starts),
                lambda path: view.claims(path, partial(self._pulse, site)),
                sites=self._alive,
                now=self._now,
                patience=scenario.patience,
                prefix=lambda piece: view.prefix.get(piece, 0),
            )
            if isinstance(found, Wait):
                self._soon(site, max(found.until, self._now + scenario.latency))
            if not isinstance(found, Fetch):
                return
            site.stolen += found.owner != site.name
            self._begin(site, Transfer(found.piece, "", found.begin))

    def _begin(self, site: Runner, transfer: Transfer) -> None:
        piece = transfer.piece
        site.view.begin(piece)
        site.transfers[piece] = transfer
        if transfer.source:
            site.sideways += 1
        else:
            site.from_origin += 1
            rivals = self._fetching.setdefault(piece, set())
            if rivals and not self._scenario.every:  # their claims may be on their way
                self._soon(site, self._now + self._scenario.latency)
            rivals.add(site.name)
            self._tell(site, News.CLAIMED, piece)
        # A question there, an answer back.
        self._at(self._now + 2 * self._scenario.latency, partial(self._flow, site, transfer))

    def _flow(self, site: Runner, transfer: Transfer) -> None:
        if site.transfers.get(transfer.piece) is not transfer:
            return  # broken off before it was answered
        member, count = site.member, len(self._sites)
        wanted = float(transfer.piece.stop - transfer.begin)
        if transfer.source:
            source = self._sites[transfer.source].index
            links: tuple[int, ...] = (1 + count + source, 1 + site.index)
            cap = member.sideways
        else:
            links, cap = (0, 1 + site.index), member.connection
            if member.limit is not None:
                links = (*links, 1 + 2 * count + site.index)
        transfer.flow = self._network.begin(links, cap, wanted)
        self._carries[transfer.flow] = (site, transfer)

    # -- how transfers end

    def _ended(self) -> None:
        for flow in self._network.ended(LAST_BYTE):
            if flow in self._carries:  # not cut off by what another one's end led to
                self._arrived(*self._carries[flow])

    def _arrived(self, site: Runner, transfer: Transfer) -> None:
        piece, first = transfer.piece, not transfer.source
        self._leave(site, transfer, piece.stop - transfer.begin)
        site.view.arrived(piece, first=first)
        site.bytes_here += piece.size
        self._tell(site, News.HELD, piece, first=first)
        self._touch(site)
        if site.view.complete:
            site.finished = self._now
        dies = site.member.dies
        if dies is not None and not site.fell and site.bytes_here >= dies * self._scenario.bytes:
            self._die(site)

    def _leave(self, site: Runner, transfer: Transfer, received: int | None = None) -> None:
        """The slot and the links are free again; what came is counted."""
        count = int(transfer.received) if received is None else received
        del site.transfers[transfer.piece]
        if transfer.source:
            site.sideways -= 1
            site.sideways_bytes += count
        else:
            site.from_origin -= 1
            site.origin_bytes += count
            self._fetching[transfer.piece].discard(site.name)
        if transfer.flow is not None:
            self._network.end(transfer.flow)
            del self._carries[transfer.flow]

    def _break_off(self, site: Runner, transfer: Transfer) -> None:
        """What came by now is kept as far as whole blocks can be verified."""
        self._leave(site, transfer)
        piece = transfer.piece
        site.view.prefix[piece] = verified(transfer.begin - piece.start + int(transfer.received))
        site.view.broke_off(piece)
        self._touch(site)

    def _die(self, site: Runner) -> None:
        site.died, site.finished, site.fell = self._now, None, True
        for transfer in list(site.transfers.values()):
            self._leave(site, transfer)
            site.view.broke_off(transfer.piece)
        for other in self._sites.values():
            if other is not site:
                self._lose(other, site)
        self._at(self._now + self._scenario.patience, partial(self._mourned, site))
        if site.member.returns is not None:
            self._at(self._now + site.member.returns, partial(self._return, site))

    def _lose(self, site: Runner, other: Runner) -> None:
        """Nothing more comes from another site."""
        for transfer in [t for t in site.transfers.values() if t.source == other.name]:
            self._break_off(site, transfer)
        site.view.lose(other.name)
        self._touch(site)

    def _mourned(self, site: Runner) -> None:
        """Everybody knows that a site is gone: what it owned gets other owners."""
        if site.died is not None and site.name in self._alive:
            self._alive.remove(site.name)
            self._divide_anew()

    def _divide_anew(self) -> None:
        for other in self._sites.values():
            if self._scenario.order(other.index) is Order.RENDEZVOUS:
                other.view.divide_anew(partial(self._division.owner, sites=tuple(self._alive)))
            self._touch(other)

    def _return(self, site: Runner) -> None:
        """It is back, with what it had."""
        site.died = None
        if site.view.complete:
            site.finished = self._now
        for other in self._sites.values():
            if other is site:
                continue
            other.view.forget_claims(site.name)
            if other.died is None and self._between.since(site.name, other.name) is None:
                other.view.find(site.name)
        if site.name not in self._alive:
            self._alive = [name for name in self._sites if name in {*self._alive, site.name}]
            self._divide_anew()
        for other in self._sites.values():
            self._touch(other)

    # -- ways that are cut

    def _cut(self, cut: Cut) -> None:
        if self._between.cut(cut.one, cut.other, self._now):
            one, other = self._sites[cut.one], self._sites[cut.other]
            self._lose(one, other)
            self._lose(other, one)

    def _heal(self, cut: Cut) -> None:
        if not self._between.heal(cut.one, cut.other):
            return
        one, other = self._sites[cut.one], self._sites[cut.other]
        for site, sibling in ((one, other), (other, one)):
            if sibling.died is None:
                site.view.find(sibling.name)
            for fact in self._between.untold(site.name, sibling.name):
                self._learn(site, fact)
            self._touch(site)

    def _result(self, least: float) -> Result:
        sites = tuple(
            SiteResult(
                s.name,
                s.finished,
                s.died,
                s.origin_bytes,
                s.sideways_bytes,
                s.stolen,
                s.gave_way,
            )
            for s in self._sites.values()
        )
        origin = sum(s.origin_bytes for s in self._sites.values())
        last = max(s.finished for s in self._sites.values() if s.finished is not None)
        return Result(last, least, self._scenario.bytes, origin, sites)
