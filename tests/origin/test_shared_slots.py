"""Slots and bandwidth of a host that several sites share: what siblings leave is what there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.model import Limits
from cluster.origin.base import Plain, Properties, Traffic, Want
from cluster.origin.limit import Hosts, Limited, Slots
from cluster.origin.memory import CHUNK, MemoryOrigin
from tests.origin.conformance import received
from tests.origin.test_wrappers import Busy, Time

ONE = Plain((), None, b"", b"", 1, 1.0, 1.0)


class Lender:
    """An origin that lends whatever it is asked for."""

    properties, traffic, url = Properties(lends=True), Traffic(), "lender:"

    async def lend(self, most: int) -> Plain | None:
        return Plain((), None, b"", b"", most, 1.0, 1.0)

    def back(self, lent: Plain) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture
async def lender() -> AsyncIterator[Limited]:
    limited = Limited(Lender(), "h", Limits(connections=8, shared=True), Hosts())  # type: ignore[arg-type]
    yield limited
    await limited.close()


async def test_no_more_run_than_siblings_leave_and_what_runs_beyond_ends_by_itself() -> None:
    busy = Busy()
    limited = Limited(MemoryOrigin({b"a": b"1"}, before=busy), "h", Limits(connections=6), Hosts())
    await asyncio.gather(*(limited.facts(b"a") for _ in range(20)))
    assert busy.most == 6
    limited.slots.lease(2, None)
    busy.most = 0
    working = asyncio.gather(*(limited.facts(b"a") for _ in range(40)))
    await asyncio.sleep(0)
    limited.slots.lease(0, None)
    await asyncio.sleep(0.01)
    assert (busy.most, busy.running) == (2, 0)
    limited.slots.lease(3, None)
    await working
    assert busy.most == 3


async def test_a_lease_never_allows_more_than_the_mirror() -> None:
    slots = Slots()
    slots.join(3)
    slots.lease(50, None)
    assert slots.capacity == 3
    slots.lease(None, None)
    assert slots.capacity == 3


async def test_what_runs_and_what_waits_is_told_each_time_it_changes() -> None:
    slots, told = Slots(), []
    slots.join(4)
    slots.lease(1, lambda: told.append((slots.running, slots.demand)))
    await slots.take()
    waiting = [asyncio.create_task(slots.take()) for _ in range(5)]
    await asyncio.sleep(0)
    assert told[-1] == (1, 4), "no more could run at once, siblings or not"
    for one in waiting[1:]:
        one.cancel()
    await asyncio.gather(*waiting[1:], return_exceptions=True)
    assert told[-1] == (1, 2)
    slots.give()
    await waiting[0]
    assert told[-1] == (1, 1)
    slots.give()
    assert told[-1] == (0, 0)


async def test_what_becomes_free_goes_to_a_sibling_before_it_is_given_away_here() -> None:
    slots = Slots()
    slots.join(4)
    slots.lease(1, lambda: slots.lease(0, None) if not slots.running else None)
    await slots.take()
    waiting = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    slots.give()
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_what_is_lent_comes_back_when_there_is_less_and_when_there_is_more(lender: Limited) -> None:
    slots = lender.slots
    slots.lease(3, None)
    lent = await lender.lend(4)
    assert lent is not None
    assert (lent.connections, slots.demand, lender.wanted()) == (2, 4, False)
    slots.lease(1, None)
    assert lender.wanted()
    slots.lease(8, None)
    assert lender.wanted()
    lender.back(lent)
    assert (slots.running, slots.demand, lender.wanted()) == (0, 0, False)
    lent = await lender.lend(4)
    assert lent is not None
    assert (lent.connections, lender.wanted()) == (4, False)
    lender.back(lent)


async def test_a_host_that_is_not_shared_is_lent_as_ever(lender: Limited) -> None:
    lent = await lender.lend(4)
    assert lent is not None
    await asyncio.gather(*(lender.slots.take() for _ in range(4)))
    assert not lender.wanted()
    waiting = asyncio.create_task(lender.slots.take())
    await asyncio.sleep(0)
    assert not lender.wanted(), "others have slots that they will give back"
    waiting.cancel()
    lender.back(lent)


@pytest.mark.parametrize(("shared", "took"), [(True, 36.0), (False, 8.0)])
async def test_a_shared_bandwidth_is_used_as_far_as_siblings_leave_it(shared: bool, took: float) -> None:
    clock = Time()
    origin = MemoryOrigin({b"a": bytes(10 * CHUNK)})
    limits = Limits(bandwidth=CHUNK, shared=shared)
    limited = Limited(origin, "h", limits, Hosts(), clock=clock, monotonic=clock, sleep=clock.sleep)
    limited.slots.part = 0.25
    began = clock.now
    await received(limited, b"a")
    assert clock.now - began >= took
    assert clock.now - began <= took + 4


async def test_a_body_waits_while_siblings_leave_nothing_of_a_bandwidth() -> None:
    clock = Time()
    origin = MemoryOrigin({b"a": bytes(CHUNK)})
    limits = Limits(bandwidth=CHUNK, shared=True)
    limited = Limited(origin, "h", limits, Hosts(), clock=clock, monotonic=clock, sleep=clock.sleep)
    limited.slots.part = 0.0
    reading = asyncio.create_task(received(limited, b"a"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (reading.done(), limited.slots.bodies) == (False, 1)
    limited.slots.part = 1.0
    assert len(await reading) == CHUNK
    assert limited.slots.bodies == 0


async def test_a_reader_that_ends_early_is_no_body_any_more() -> None:
    limited = Limited(MemoryOrigin({b"a": b"1"}), "h", Limits(bandwidth=CHUNK, shared=True), Hosts())
    with pytest.raises(ZeroDivisionError):
        async with limited.read(b"a", Want()):
            assert limited.slots.bodies == 1
            raise ZeroDivisionError
    assert (limited.slots.bodies, limited.slots.running) == (0, 0)
