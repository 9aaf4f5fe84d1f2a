"""Being polite to origins: how many requests at once, how many bytes a second. Wraps any origin."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import cast

from cluster.errors import Unreachable
from cluster.model import Facts, Limits, Listing, href
from cluster.origin.base import Batch, Batching, Body, Brought, Copyable, Lending, Loan, Origin, Want

BURST = 1.0  # s of the rate that may have been saved up
PART_HOLDS = 0.2  # s after which it is looked again whether siblings leave anything of a bandwidth
RATE_HOLDS = 15.0  # s after which the hour is looked at again


class Slots:
    """How many requests to one host may run at once: the smallest number that one of its mirrors allows.

    First come, first served. Unlike a semaphore it can be resized while it is in use. Where several sites
    share the host, `lease` says how many there may be here; what runs beyond ends by itself.
    """

    def __init__(self) -> None:
        self.allowed: list[int] = []
        self.running = 0
        self.lent = 0  # of the running ones
        self.wished = 0  # more that whoever was lent some would have taken
        self.capacity = 1
        self.bodies = 0  # on their way, of which the bytes are counted
        self.part = 1.0  # of each bandwidth: what siblings leave
        self._leased: int | None = None
        self._watch: Callable[[], None] | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        return f"<Slots {self.running} of {self.capacity}, {len(self._waiting)} waiting>"

    def join(self, allowed: int) -> None:
        """A mirror begins to use this host."""
        self.allowed.append(max(1, allowed))
        self._fit()

    def leave(self, allowed: int) -> None:
        """A mirror is done with it."""
        self.allowed.remove(max(1, allowed))
        self._fit()

    def lease(self, most: int | None, watch: Callable[[], None] | None) -> None:
        """At most so many from now on, whatever mirrors allow; None: the host is not shared. `watch` is
        called when `running`, `demand` or `bodies` may be another."""
        self._leased, self._watch = most, watch
        self._fit()

    @property
    def demand(self) -> int:
        """How many could run if there were no siblings."""
        wanted = self.running + len(self._waiting) + self.wished
        return min(wanted, min(self.allowed, default=1))

    def _fit(self) -> None:
        most = min(self.allowed, default=1)
        self.capacity = most if self._leased is None else min(most, self._leased)
        self._admit()

    def _tell(self) -> None:
        if self._watch is not None:
            self._watch()

    async def take(self) -> None:
        """Wait for a slot. Who was cancelled does not hold one."""
        if self.running < self.capacity and not self._waiting:
            self.running += 1
            self._tell()
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._tell()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            else:
                with contextlib.suppress(ValueError):  # it was passed over
                    self._waiting.remove(turn)
                self._tell()
            raise

    def take_free(self, most: int) -> int:
        """Up to `most` slots that nobody uses or waits for; how many."""
        free = 0 if self._waiting else max(0, min(most, self.capacity - self.running))
        if free:
            self.running += free
            self._tell()
        return free

    @property
    def starved(self) -> bool:
        """Whether what is lent should come back: somebody waits, and every slot is lent; there are fewer
        slots than before; or there are more, of which whoever was lent some would take another."""
        if self._leased is not None and self.lent:
            if self.running > self.capacity:
                return True
            if self.wished and not self._waiting and self.running + 1 < self.capacity:
                return True
        return bool(self._waiting) and self.lent >= self.capacity

    def give(self) -> None:
        """Hand the slot back."""
        self.running -= 1
        self._tell()
        self._admit()

    def moved(self, lent: int, wished: int, bodies: int = 0) -> None:
        """So many more (or fewer) are lent, wished for, on their way."""
        self.lent += lent
        self.wished += wished
        self.bodies += bodies
        self._tell()

    def _admit(self) -> None:
        before = self.running
        while self._waiting and self.running < self.capacity:
            turn = self._waiting.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)
        if self.running != before:
            self._tell()


@dataclass(slots=True)
class Hosts:
    """The slots of every host. One per site."""

    slots: dict[str, Slots] = field(default_factory=dict)

    def of(self, host: str) -> Slots:
        return self.slots.setdefault(host, Slots())


def minute_of_day(now: float) -> int:
    """Minutes since local midnight at `now` (s since 1970)."""
    local = time.localtime(now)
    return local.tm_hour * 60 + local.tm_min


def rate_at(limits: Limits, minute: int) -> tuple[int | None, int]:
    """Bytes/s at a minute of the day (None: no limit, 0: nothing), and for how many minutes at least.

    The first of `limits.hours` that holds the minute decides, else `limits.bandwidth`.
    """
    for hours in limits.hours:
        length = (hours.end - hours.start) % 1440 or 1440
        into = (minute - hours.start) % 1440
        if into < length:
            return hours.rate, length - into
    begins = [(hours.start - minute) % 1440 for hours in limits.hours]
    return limits.bandwidth, min(begins, default=1440)


class Bucket:
    """A token bucket of bytes that may go into debt: who takes waits until the debt is paid.

    Fed with the time (s, monotonic); it never asks for it.
    """

    def __init__(self) -> None:
        self.tokens = 0.0
        self._rate = 0.0
        self._at: float | None = None

    def take(self, count: int, rate: float, now: float) -> float:
        """Seconds to wait after `count` bytes that came at `now`."""
        if self._at is None or self._rate <= 0:
            self.tokens = BURST * rate
        else:
            # What is owed or saved is time, so a new rate scales it.
            saved = self.tokens / self._rate + (now - self._at)
            self.tokens = min(BURST, saved) * rate
        self._at, self._rate = now, rate
        self.tokens -= count
        return max(0.0, -self.tokens / rate)


class Limited:
    """At most `limits.connections` requests at once to one host, counted over all mirrors that share `hosts`,
    and at most `limits.bandwidth` (by `limits.hours`) bytes/s of bodies for this origin; as much of both as
    siblings leave (`Slots.lease`, `Slots.part`) where `limits.shared`.

    A slot is held for a listing, for facts, and from the opening of a read to its end: who holds a body open
    and asks the same origin for something else needs a second slot. In hours with a rate of 0 requests wait;
    a body that runs into them raises Unreachable with `retry_after`, so that what arrived can be kept.
    """

    def __init__(
        self,
        inner: Origin,
        host: str,
        limits: Limits,
        hosts: Hosts,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.inner = inner
        self.shaped = limits.bandwidth is not None or bool(limits.hours)
        # A copy that the store makes by itself cannot be slowed down, so a shaped source is read instead.
        self.properties = replace(inner.properties, network=True) if self.shaped else inner.properties
        self.traffic, self.url = inner.traffic, inner.url
        self.slots = hosts.of(host)
        self.slots.join(limits.connections)
        self._limits, self._clock, self._monotonic, self._sleep = limits, clock, monotonic, sleep
        self._bucket = Bucket()
        self._rate: tuple[float, int | None] = (-RATE_HOLDS, None)
        self._wishes: dict[int, int] = {}  # by loan: how many more would have been taken
        self._open = True

    def __repr__(self) -> str:
        return f"<Limited {self.slots!r} {self.inner!r}>"

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        await self.admitted()
        try:
            return await self.inner.listing(directory, known)
        finally:
            self.slots.give()

    async def facts(self, path: bytes) -> Facts:
        await self.admitted()
        try:
            return await self.inner.facts(path)
        finally:
            self.slots.give()

    def read(self, path: bytes, want: Want) -> _Reading:
        return _Reading(self, self.inner.read(path, want), path)

    def open(self, path: bytes) -> int:
        """See `Copyable`: where the adapter is on this machine (`properties.network` is False)."""
        return cast("Copyable", self.inner).open(path)

    async def lend(self, most: int) -> Loan | None:
        """See `Lending`. An origin whose bytes are counted lends nothing; where there is more than one slot,
        one is kept for others."""
        slots = self.slots
        if self.shaped:
            return None
        await self.admitted()
        held = 1 + slots.take_free(min(most, slots.capacity - 1) - 1)
        lent: Loan | None = None
        try:
            lent = await cast("Lending", self.inner).lend(held)
        finally:
            if lent is not None:
                self._wishes[id(lent)] = max(0, most - lent.connections)
                slots.moved(lent.connections, self._wishes[id(lent)])
            for _ in range(held - (lent.connections if lent else 0)):
                slots.give()
        return lent

    def back(self, lent: Loan) -> None:
        cast("Lending", self.inner).back(lent)
        self.slots.moved(-lent.connections, -self._wishes.pop(id(lent)))
        for _ in range(lent.connections):
            self.slots.give()

    def wanted(self) -> bool:
        return self.slots.starved

    async def bring(self, batch: Batch) -> AsyncGenerator[Sequence[Brought], None]:
        """See `Batching`. One slot, for as long as it takes, and the rate of the hour in which it begins."""
        await self.admitted()
        try:
            rate = self._current() if self.shaped else None
            if rate is not None:
                part = self.slots.part if self._limits.shared else 1.0
                batch = replace(batch, rate=max(1, int(rate * part)))
            async with contextlib.aclosing(cast("Batching", self.inner).bring(batch)) as reports:
                async for report in reports:
                    yield report
        finally:
            self.slots.give()

    async def close(self) -> None:
        if self._open:
            self._open = False
            self.slots.leave(self._limits.connections)
        await self.inner.close()

    async def admitted(self) -> None:
        """Wait for an hour in which something may be transferred, then for a slot."""
        while self.shaped and (silent := self._silent()):
            await self._sleep(silent)
        await self.slots.take()

    async def paid(self, path: bytes, count: int) -> None:
        """`count` bytes of a body came: wait as long as they should have taken."""
        while self._limits.shared and not self.slots.part:
            await self._sleep(PART_HOLDS)
        rate = self._current()
        if rate == 0:
            silent = self._silent()
            if silent:
                message = "no transfers in these hours"
                raise Unreachable(href(path), message, retry_after=silent)
        elif rate is not None:
            part = self.slots.part if self._limits.shared else 1.0
            pause = self._bucket.take(count, rate * part, self._monotonic())
            if pause > 0:
                await self._sleep(pause)

    def _current(self) -> int | None:
        now = self._monotonic()
        if now - self._rate[0] >= RATE_HOLDS:
            self._rate = (now, rate_at(self._limits, minute_of_day(self._clock()))[0])
        return self._rate[1]

    def _silent(self) -> float:
        """Seconds until bytes may flow again; 0 where they may now."""
        rate, minutes = rate_at(self._limits, minute_of_day(self._clock()))
        return minutes * 60.0 - self._clock() % 60 if rate == 0 else 0.0


class _Reading:
    __slots__ = ("_counted", "_origin", "_path", "_reading")

    def __init__(self, origin: Limited, reading: AbstractAsyncContextManager[Body], path: bytes) -> None:
        self._origin, self._reading, self._path = origin, reading, path
        self._counted = False  # among the bodies whose bytes are counted

    async def __aenter__(self) -> Body:
        origin = self._origin
        await origin.admitted()
        try:
            body = await self._reading.__aenter__()
        except BaseException:
            origin.slots.give()
            raise
        if not origin.shaped:
            return body
        origin.slots.moved(0, 0, 1)
        self._counted = True
        return _Shaped(origin, body, self._path)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await self._reading.__aexit__(kind, error, traceback)
        finally:
            if self._counted:
                self._origin.slots.moved(0, 0, -1)
            self._origin.slots.give()


class _Shaped:
    __slots__ = ("_body", "_origin", "_path", "facts", "start")

    def __init__(self, origin: Limited, body: Body, path: bytes) -> None:
        self.facts, self.start = body.facts, body.start
        self._origin, self._body, self._path = origin, body, path

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._body.chunks():
            yield chunk
            await self._origin.paid(self._path, len(chunk))
