"""What this site may use of the budgets that it shares with its siblings, and what it tells them about that.

A state object fed with the time (seconds, monotonic); pure. `cluster.plan.shares` has the rules of division;
here is what makes them safe while words are on their way. A unit belongs to one home, which lends it by its
word. The home counts it as used until the borrower, having heard that it is wanted back, says that it holds
it no longer; the borrower counts it as its own for TERM from when it said what that word answers, so that it
ends earlier at the borrower than at the home, however long the word took.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cluster.model import value
from cluster.peer.codec import WireError
from cluster.peer.linewire import Share, Shares
from cluster.plan.order import ranking
from cluster.plan.shares import Standing, divided, loans, sharing

TERM = 15.0  # s for which what was lent may be used without a further word
ABSENT = 20.0  # s without a word after which a sibling is not there: more than TERM
FRESH = 10.0  # s: who was heard since has not begun to fall silent
RENEW = 4.0  # s between two words where nothing changes
SETTLE = 3.0  # s that a site which has just started waits for its siblings' words before it uses its share
PATIENCE = 300.0  # s that a sibling has to end what it does with what it gives back
STARVED = 900.0  # s without anything after which a site uses what is its own, whatever is said
TURN = 10.0  # s after which those who have nothing are served, where there is not one unit for each
HOLD = 3.0  # s for which what was needed counts as needed
MAX_TURN, AHEAD = 2**40, 10**6  # a number beyond the first is believed where it is not far beyond ours
HOP = 1.0  # s added to the age of what a sibling heard, for the way of the word
MAX_SHARES = 300  # in one message: 100 KiB where hosts have long names
UNANSWERED = 256  # messages of ours whose time is known

Pool = tuple[str, str]  # what is divided (`connections` or `bandwidth`), and the origin's host
PARTED = "bandwidth"  # its budget is a whole in so many parts: no site's is smaller than another's


@value
class Terms:
    """What is shared and by whom. `budget` is a number of units."""

    budget: int
    members: tuple[str, ...]


@dataclass(slots=True)
class _Dealing:
    """Between this site and one sibling in one pool. `word` is what we lend, `holding` what the sibling
    says that it uses of ours, `lent` what it lends us, `owed` what we use of its though it is not lent."""

    want: int = 0
    used: int = 0
    budget: int | None = None
    word: int = 0
    words: deque[tuple[int, int]] = field(default_factory=deque)  # (last message that said it, word), unheard
    holding: int = 0
    waiting: float | None = None  # since when (s) it has been asked for more than it gave back
    distrusted: bool = False  # it did not give back what it should
    lent: int = 0
    counted: int = 0  # of `lent`: 0 once its time is over
    owed: int = 0

    def reserved(self) -> int:
        """What the sibling may be using of ours."""
        if self.distrusted:
            return self.word
        return max(self.word, self.holding, *(word for _, word in self.words), 0)


@dataclass(slots=True)
class _Division:
    terms: Terms
    ranked: list[str] = field(default_factory=list)
    used: int = 0
    demand: int = 0
    want: int = 0
    wanted: float = -math.inf  # when (s) so much was last needed
    turn: int = 0
    turned: float = -math.inf
    home: int = 0
    should: int = 0
    served: bool = True  # whoever should have something, uses it
    allowed: int = 0
    unsettled: bool = True  # what ends here is somebody else's to use
    hungry: float = 0.0  # s for which it wanted some and might use none, less those for which it might
    settled: float | None = None  # when (s) that was last looked at
    here: frozenset[str] = frozenset()
    dealings: dict[str, _Dealing] = field(default_factory=dict)

    def turn_over(self, now: float) -> bool:
        """Whether it is time that others are served, and this site among them. Whose turn it is must have
        come to it, which may take as long as what is open lasts."""
        left_out = self.want > 0 and not self.should and not self.used
        return left_out and now - self.turned >= (TURN if self.served else PATIENCE)

    def facts(self) -> tuple[object, ...]:
        """What somebody acts upon, or is told."""
        dealt = [(dealing.word, dealing.counted + dealing.owed) for dealing in self.dealings.values()]
        return self.allowed, self.want, self.turn, dealt


@dataclass(slots=True)
class _Sibling:
    life: int = 0  # of its process; 0: not heard yet
    number: int = 0  # of its last message
    heard: float = -math.inf
    answers: bool = False  # it has heard of our process
    until: float = -math.inf  # s: what it lends us may be used
    sent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=UNANSWERED))  # number, when
    count: int = 0
    acknowledged: int = 0
    said: tuple[Share, ...] | None = None
    at: float = -math.inf
    elsewhere: dict[str, float] = field(default_factory=dict)  # site: when (s) somebody heard it, as it says


class Leases:
    """One per site. `life` is a number that no other process of this site has had; `refuses` tells whether
    a sibling's machine is there and nobody answers on it."""

    def __init__(self, site: str, life: int, refuses: Callable[[str], bool] = lambda site: False) -> None:
        self.site, self._life, self._refuses = site, life, refuses
        self._began: float | None = None
        self._pools: dict[Pool, _Division] = {}
        self._siblings: dict[str, _Sibling] = {}
        self._changed: Callable[[], None] | None = None

    # -- what is shared

    def configure(self, pools: Mapping[Pool, Terms], now: float) -> None:
        """What is shared from now on, and with whom."""
        if self._began is None:
            self._began = now
        self._pools = {key: self._pools.get(key) or _Division(terms) for key, terms in pools.items()}
        for key, terms in pools.items():
            division = self._pools[key]
            division.terms = terms
            division.ranked = ranking(" ".join(key).encode(), terms.members)
            for site in division.dealings.keys() - set(terms.members):
                del division.dealings[site]
            for site in terms.members:
                if site != self.site:
                    division.dealings.setdefault(site, _Dealing())
        known = {site for division in self._pools.values() for site in division.dealings}
        self._siblings = {site: self._siblings.get(site) or _Sibling() for site in known}
        self.look(now)

    def listen(self, changed: Callable[[], None] | None) -> None:
        """`changed` is called when there may be something to say, or something else is allowed."""
        self._changed = changed

    @property
    def pools(self) -> list[Pool]:
        return list(self._pools)

    # -- what is used

    def allowed(self, pool: Pool) -> int:
        """How many units may be in use. What is in use beyond is not taken away, but not begun anew."""
        return self._pools[pool].allowed

    def use(self, pool: Pool, used: int, demand: int, now: float) -> None:
        """`used` units are in use; `demand`, these included, could be."""
        division = self._pools[pool]
        before, division.used, division.demand = division.used, used, demand
        if demand >= division.want:
            division.wanted = now
            if demand == division.want and used >= before:
                return
            division.want = demand
        elif used >= before or not division.unsettled:
            return
        self._settle(division, now)

    def look(self, now: float) -> None:
        """Time has passed: once a second or so."""
        for division in self._pools.values():
            if division.demand < division.want and now - division.wanted >= HOLD:
                division.want, division.wanted = division.demand, now
            if division.turn_over(now):
                division.turn, division.turned = division.turn + 1, now
            self._settle(division, now)

    # -- talking

    def hear(self, site: str, said: Shares, now: float) -> None:
        """What a sibling says; `look` is to be called soon, once for all that was heard meanwhile. Raises
        WireError for an answer to what was never said."""
        them = self._siblings.get(site)
        if them is None:
            return
        if said.life != them.life:
            self._born_again(site, them, said.life)
        if said.number <= them.number:
            return
        if said.echo_life == self._life and said.echo > them.count:
            raise WireError(f"shares: answers message {said.echo} of {them.count}")
        them.number, them.heard = said.number, now
        self._answered(them, said)
        them.elsewhere = {
            other: now - age / 1000 - HOP
            for other, age in said.hears
            if other in self._siblings and other != site  # else it would be told on, however much it is
        }
        told = {(one.sort, one.host): one for one in said.shares}
        for pool, division in self._pools.items():
            dealing = division.dealings.get(site)
            if dealing is not None:
                self._told(site, division, dealing, told.get(pool), now)
                if pool[0] == PARTED:
                    dealing.budget = None

    def _born_again(self, site: str, them: _Sibling, life: int) -> None:
        """Its former process is gone with all that it used."""
        them.life, them.number, them.acknowledged, them.said = life, 0, 0, None
        them.until, them.answers = -math.inf, False
        for division in self._pools.values():
            if (dealing := division.dealings.get(site)) is not None:
                dealing.word = dealing.holding = 0
                dealing.words.clear()
                dealing.waiting, dealing.distrusted = None, False

    def _answered(self, them: _Sibling, said: Shares) -> None:
        if said.echo_life != self._life:
            them.answers, them.said = False, None
            return
        them.answers = True
        if said.echo > them.acknowledged:
            them.acknowledged = said.echo
            while them.sent and them.sent[0][0] < said.echo:
                them.sent.popleft()
            if them.sent and them.sent[0][0] == said.echo:
                them.until = them.sent[0][1] + TERM

    def _told(
        self, site: str, division: _Division, dealing: _Dealing, share: Share | None, now: float
    ) -> None:
        them = self._siblings[site]
        dealing.want, dealing.used = (share.want, share.used) if share else (0, 0)
        dealing.budget = share.budget if share else None
        # No home is larger than half of it while there are two, and nobody uses more of ours than we have.
        half = (division.terms.budget + 1) // 2
        dealing.lent = min(share.lent, half) if share else 0
        dealing.holding = min(share.holding, division.terms.budget) if share else 0
        while dealing.words and dealing.words[0][0] <= them.acknowledged:
            dealing.words.popleft()
        if share and division.turn < share.turn <= max(MAX_TURN, division.turn + AHEAD):
            division.turn, division.turned = share.turn, now

    def say(self, site: str, now: float, *, always: bool = False) -> Shares | None:
        """What that sibling is to be told now; None where there is nothing new. `always`: the line is new."""
        them = self._siblings.get(site)
        if them is None:
            return None
        shares = tuple(self._shares(site))
        if shares == them.said and now - them.at < RENEW and not always:
            return None
        them.said, them.at, them.count = shares, now, them.count + 1
        them.sent.append((them.count, now))
        for division in self._pools.values():
            dealing = division.dealings.get(site)
            if dealing is not None:
                if dealing.words and dealing.words[-1][1] == dealing.word:
                    dealing.words.pop()
                dealing.words.append((them.count, dealing.word))
        heard = self._heard(now)
        hears = tuple((other, round(1000 * (now - at))) for other, at in sorted(heard.items()))
        return Shares(self._life, them.count, them.life, them.number, hears, shares)

    def _shares(self, site: str) -> list[Share]:
        """Only where there is anything to say: what is not mentioned is nought."""
        found = []
        for (sort, host), division in sorted(self._pools.items()):
            dealing = division.dealings.get(site)
            if dealing is None:
                continue
            holding = dealing.counted + dealing.owed
            if division.want or dealing.word or holding:
                told = (division.terms.budget, division.want, int(division.used > 0), dealing.word, holding)
                found.append(Share(sort, host, *told, division.turn))
        return sorted(found, key=lambda one: not (one.lent or one.holding))[:MAX_SHARES]

    # -- who is there

    def _heard(self, now: float) -> dict[str, float]:
        """Who is there, and when (s) somebody last heard it, for others: what they say themselves is not
        told to them again as ours, since ages only grow."""
        found: dict[str, float] = {}
        for site, them in self._siblings.items():
            for other, at in ((site, them.heard), *them.elsewhere.items()):
                if now - at < ABSENT:
                    found[other] = max(at, found.get(other, at))
        return found

    def _direct(self, site: str, now: float) -> bool:
        return now - self._siblings[site].heard < ABSENT

    def _settled(self, division: _Division, now: float) -> bool:
        """Whether this site may use its own share: what siblings used of it before it came, they say."""
        if self._began is None or now - self._began >= SETTLE:
            return True
        return all(self._siblings[site].answers or self._refuses(site) for site in division.dealings)

    # -- dividing

    def _settle(self, division: _Division, now: float) -> None:
        before = division.facts()
        heard = self._heard(now)
        homes = self._homes(division, heard, now)
        self._lose(division, homes, now)
        division.here = frozenset(homes)
        division.home = homes[self.site]
        own = division.home if self._settled(division, now) else 0
        free = own + sum(dealing.counted for dealing in division.dealings.values())
        free -= sum(self._reserved(site, dealing, now) for site, dealing in division.dealings.items())
        self._pay(division, free)
        free -= self._lend(division, homes, free, now)
        self._starve(division, free, now)
        own = max(1, division.home) if division.hungry >= STARVED else 0
        division.allowed = min(division.terms.budget, max(own, free))
        division.unsettled = division.used > division.allowed or any(
            d.owed for d in division.dealings.values()
        )
        if before != division.facts() and self._changed is not None:
            self._changed()

    def _homes(self, division: _Division, heard: Mapping[str, float], now: float) -> dict[str, int]:
        members = division.terms.members
        here = [site for site in members if site == self.site or site in heard]
        fresh = [site for site in here if site == self.site or now - heard[site] < FRESH]
        gone = [site for site in members if site not in here and self._refuses(site)]
        told = (division.dealings[site].budget for site in here if site != self.site)
        budget = min((one for one in told if one is not None), default=division.terms.budget)
        return sharing(min(budget, division.terms.budget), division.ranked, here, fresh, gone)

    def _lose(self, division: _Division, homes: Mapping[str, int], now: float) -> None:
        """What was this site's to use and is so no longer is owed: to the siblings that are back for what was
        theirs, to those that lent it for what they want back."""
        lost = division.home - homes[self.site]
        for site in sorted(homes.keys() - division.here - {self.site}):
            part = max(0, min(lost, homes[site]))
            division.dealings[site].owed += part
            lost -= part
        for site, dealing in division.dealings.items():
            counted = dealing.lent if now < self._siblings[site].until else 0
            dealing.owed += max(0, dealing.counted - counted)
            dealing.counted = counted

    def _reserved(self, site: str, dealing: _Dealing, now: float) -> int:
        if not self._direct(site, now):
            dealing.word = dealing.holding = 0
            dealing.words.clear()
        elif dealing.reserved() > dealing.word:
            dealing.waiting = now if dealing.waiting is None else dealing.waiting
            if now - dealing.waiting >= PATIENCE:
                dealing.distrusted = True
            return dealing.reserved()
        if dealing.holding <= dealing.word:
            dealing.waiting, dealing.distrusted = None, False
        return dealing.reserved()

    def _starve(self, division: _Division, free: int, now: float) -> None:
        """How long others have left nothing to this site, which wants some. Where not all can have any at
        once, one turn ends it."""
        passed = now - (now if division.settled is None else division.settled)
        division.settled = now
        if free < 1:
            division.hungry = min(STARVED, division.hungry + passed) if division.want else 0.0
        elif division.terms.budget < len(division.terms.members):
            division.hungry = 0.0
        else:
            division.hungry = max(0.0, division.hungry - passed)

    def _pay(self, division: _Division, free: int) -> None:
        """Of what is owed, only what is in use beyond what may be is still kept."""
        kept = max(0, division.used - free)
        for dealing in division.dealings.values():
            dealing.owed = min(dealing.owed, kept)
            kept -= dealing.owed

    def _lend(self, division: _Division, homes: Mapping[str, int], free: int, now: float) -> int:
        """Say what is lent to whom, as far as it is not in use here; the rest is not used again. How much of
        `free` that takes."""
        direct = {site for site in division.dealings if self._direct(site, now) and site in homes}
        told = {site: division.dealings[site].want for site in direct} | {self.site: division.want}
        wants = {site: told.get(site, home) for site, home in homes.items()}
        should = divided(sum(homes.values()), wants, division.turn)
        division.should = should[self.site]
        division.served = all(division.dealings[site].used for site in direct if should[site])
        row = loans(homes, should).get(self.site, {})
        taken = 0
        for site, dealing in division.dealings.items():
            due = row.get(site, 0) if site in direct and not dealing.distrusted else 0
            reserved = dealing.reserved()
            if due > reserved:
                room = max(0, free - taken - max(division.used, division.should))
                dealing.word = min(due, max(dealing.word, reserved + room))
                taken += due - reserved
            else:
                dealing.word = due
        return taken

    # -- showing

    def standings(self, now: float) -> list[Standing]:
        """Every pool, by sort and host."""
        heard = self._heard(now)
        return [
            Standing(
                *pool,
                budget=division.terms.budget,
                fair=division.home,
                allowed=division.allowed,
                used=division.used,
                wanted=division.want,
                lent=sum(dealing.reserved() for dealing in division.dealings.values()),
                borrowed=sum(dealing.counted for dealing in division.dealings.values()),
                silent=tuple(site for site in division.dealings if site not in heard),
            )
            for pool, division in sorted(self._pools.items())
        ]

    def __repr__(self) -> str:
        held = ", ".join(f"{host} {d.used}/{d.allowed} {sort}" for (sort, host), d in self._pools.items())
        return f"<Leases {held or 'nothing shared'}>"
