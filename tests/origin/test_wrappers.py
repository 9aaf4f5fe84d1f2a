"""Retry, limits and logging around any origin. Time is simulated: no test sleeps."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Changed, IncompleteListing, OriginError, Unreachable, UsageError, Vanished
from cluster.model import Facts, HourRate, Limits, Listing, OriginSpec
from cluster.origin.base import Body, Origin, Properties, Traffic, Want
from cluster.origin.limit import Bucket, Hosts, Limited, rate_at
from cluster.origin.logged import Logged
from cluster.origin.memory import CHUNK, MemoryOrigin
from cluster.origin.open import Shared, open_origin
from cluster.origin.retry import Quiet, Retrying
from tests.origin.conformance import received

NOON = time.mktime((2026, 3, 2, 12, 0, 0, 0, 0, -1))


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Time:
    return Time()


def retrying(inner: Origin, clock: Time, *, host: str = "h", quiet: Quiet | None = None) -> Retrying:
    return Retrying(inner, host, quiet=quiet, clock=clock, chance=lambda: 0.5, sleep=clock.sleep)


def asks_for(seconds: float) -> Callable[[str], OriginError]:
    return lambda shown: Unreachable(shown, "busy", retry_after=seconds)


# -- retry


@pytest.mark.parametrize("method", ["listing", "facts", "read"])
@pytest.mark.parametrize("error", [Unreachable, IncompleteListing])
async def test_what_may_pass_is_tried_three_times(clock: Time, method: str, error: type[OriginError]) -> None:
    origin = MemoryOrigin({b"d/a": b"1"})
    path = b"d" if method == "listing" else b"d/a"
    origin.fail(method, path, error, times=2)
    wrapped = retrying(origin, clock)
    await (received(wrapped, path) if method == "read" else getattr(wrapped, method)(path))
    assert origin.requests == [(method, path)] * 3
    assert clock.slept == [0.5, 1.0]


async def test_the_last_failure_is_raised(clock: Time) -> None:
    origin = MemoryOrigin()
    origin.fail("listing", b"", Unreachable, times=99)
    with pytest.raises(Unreachable):
        await retrying(origin, clock).listing(b"")
    assert len(origin.requests) == 3


@pytest.mark.parametrize("error", [Vanished, Changed])
async def test_what_failed_for_good_is_not_tried_again(clock: Time, error: type[OriginError]) -> None:
    origin = MemoryOrigin({b"a": b"1"})
    origin.fail("read", b"a", error)
    with pytest.raises(error):
        await received(retrying(origin, clock), b"a")
    assert (len(origin.requests), clock.slept) == (1, [])


async def test_a_short_retry_after_is_waited_for(clock: Time) -> None:
    """HAZARDS 32."""
    origin = MemoryOrigin({b"a": b"1"})
    origin.fail("read", b"a", asks_for(20.0))
    assert await received(retrying(origin, clock), b"a") == b"1"
    assert clock.slept == [20.0]


@pytest.mark.parametrize(("asked", "kept"), [(120.0, 120.0), (10.0**9, 3600.0)])
async def test_a_long_retry_after_is_raised_and_kept_for_the_host(
    clock: Time, asked: float, kept: float
) -> None:
    """HAZARDS 32: honoured, capped at an hour, other hosts unaffected."""
    busy, other, quiet = MemoryOrigin({b"a": b"1"}), MemoryOrigin({b"a": b"1"}), Quiet()
    busy.fail("listing", b"", asks_for(asked))
    wrapped = retrying(busy, clock, host="busy", quiet=quiet)
    with pytest.raises(Unreachable):
        await wrapped.listing(b"")
    clock.now += 30
    with pytest.raises(Unreachable, match="busy asked to be left alone") as raised:
        await received(wrapped, b"a")
    assert raised.value.retry_after == pytest.approx(kept - 30)
    assert busy.requests == [("listing", b"")], "nothing was sent while the host wanted its peace"
    await retrying(other, clock, host="other", quiet=quiet).listing(b"")
    clock.now += kept - 30
    assert await received(wrapped, b"a") == b"1"
    assert clock.slept == []


async def test_others_wait_too_while_a_host_has_a_short_retry_after(clock: Time) -> None:
    quiet = Quiet()
    quiet.asked("h", 30.0, clock())
    await retrying(MemoryOrigin(), clock, quiet=quiet).listing(b"")
    assert clock.slept == [30.0]


async def test_a_word_that_came_to_another_mirror_meanwhile_counts_too(clock: Time) -> None:
    origin, quiet = MemoryOrigin(), Quiet()
    origin.fail("listing", b"", Unreachable)

    async def sleep(seconds: float) -> None:
        quiet.asked("h", 300.0, clock())
        await clock.sleep(seconds)

    wrapped = Retrying(origin, "h", quiet=quiet, clock=clock, chance=lambda: 0.5, sleep=sleep)
    with pytest.raises(Unreachable, match="left alone"):
        await wrapped.listing(b"")
    assert len(origin.requests) == 1


@given(st.floats(0, 1), st.integers(1, 8))
def test_pauses_are_never_longer_than_a_minute(chance: float, tries: int) -> None:
    wrapped = Retrying(MemoryOrigin(), "h", tries=tries, chance=lambda: chance)
    pauses = [wrapped._pause(Unreachable("", "x"), number) for number in range(tries)]
    assert pauses[-1] is None
    assert all(p is not None and p <= min(60.0, 2.0**n) for n, p in enumerate(pauses[:-1]))


async def test_a_body_that_breaks_is_left_to_its_reader(clock: Time) -> None:
    origin = MemoryOrigin({b"a": bytes(100)})
    origin.truncate(b"a", 10)
    with pytest.raises(Unreachable):
        await received(retrying(origin, clock), b"a")
    assert origin.requests == [("read", b"a")]


# -- connections


class Busy:
    """Counts how many requests run at once."""

    def __init__(self) -> None:
        self.running = self.most = 0

    async def __call__(self, method: str, path: bytes) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1


async def test_connections_are_counted_over_all_mirrors_of_a_host() -> None:
    hosts, busy = Hosts(), Busy()
    mirrors = [
        Limited(MemoryOrigin({b"a": b"1"}, before=busy), "one", Limits(connections=allowed), hosts)
        for allowed in (3, 2)
    ]
    await asyncio.gather(*(mirror.facts(b"a") for mirror in mirrors * 20))
    assert busy.most == 2, "the smaller number that a mirror of this host allows"
    await mirrors[1].close()
    busy.most = 0
    await asyncio.gather(*(mirrors[0].facts(b"a") for _ in range(20)))
    assert busy.most == 3


async def test_another_host_has_its_own_connections() -> None:
    hosts, busy = Hosts(), Busy()
    mirrors = [
        Limited(MemoryOrigin({b"a": b"1"}, before=busy), host, Limits(connections=1), hosts) for host in "ab"
    ]
    await asyncio.gather(*(mirror.facts(b"a") for mirror in mirrors * 5))
    assert busy.most == 2


async def test_a_slot_is_held_to_the_end_of_a_body_and_given_back_after_any_end() -> None:
    origin = MemoryOrigin({b"a": b"1"})
    limited = Limited(origin, "h", Limits(connections=1), Hosts())
    async with limited.read(b"a", Want()):
        assert limited.slots.running == 1
        waiting = [asyncio.create_task(limited.facts(b"a")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        assert origin.requests == [("read", b"a")]
    await asyncio.gather(*waiting[1:])
    with pytest.raises(Vanished):
        await received(limited, b"absent")
    with pytest.raises(ZeroDivisionError):
        async with limited.read(b"a", Want()):
            raise ZeroDivisionError
    assert limited.slots.running == 0


async def test_who_is_cancelled_just_after_its_turn_came_gives_the_slot_back() -> None:
    limited = Limited(MemoryOrigin({b"a": b"1"}), "h", Limits(connections=1), Hosts())
    await limited.slots.take()
    waiting = asyncio.create_task(limited.facts(b"a"))
    await asyncio.sleep(0)
    limited.slots.give()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await limited.facts(b"a")
    assert limited.slots.running == 0


# -- bandwidth


async def test_bytes_take_their_time(clock: Time) -> None:
    origin = MemoryOrigin({b"a": bytes(20 * CHUNK)})
    limits = Limits(bandwidth=CHUNK)
    limited = Limited(origin, "h", limits, Hosts(), clock=clock, monotonic=clock, sleep=clock.sleep)
    began = clock.now
    await asyncio.gather(received(limited, b"a"), received(limited, b"a"))
    assert clock.now - began >= 38


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 5)), min_size=1, max_size=50))
def test_a_bucket_lets_through_its_rate_and_one_burst(steps: list[tuple[int, float]]) -> None:
    bucket, rate, now = Bucket(), 1000.0, 0.0
    taken: list[tuple[float, int]] = []
    for count, idle in steps:
        now += idle
        taken.append((now, count))
        now += bucket.take(count, rate, now)
        for first, (began, _) in enumerate(taken):
            assert sum(n for _, n in taken[first:]) <= rate * (now - began + 1.0) + 1e-3


HOURS = (HourRate(9 * 60, 17 * 60, 100), HourRate(22 * 60, 6 * 60, 0))


@pytest.mark.parametrize(
    ("minute", "expected"),
    [
        (9 * 60, (100, 480)),
        (16 * 60 + 59, (100, 1)),
        (17 * 60, (7, 300)),  # until 22:00
        (23 * 60, (0, 420)),
        (0, (0, 360)),
        (6 * 60, (7, 180)),
    ],
)
def test_the_rate_follows_the_hour(minute: int, expected: tuple[int, int]) -> None:
    assert rate_at(Limits(bandwidth=7, hours=HOURS), minute) == expected


def test_without_a_bandwidth_the_other_hours_are_free() -> None:
    assert rate_at(Limits(hours=(HourRate(60, 120, 5),)), 0) == (None, 60)
    assert rate_at(Limits(hours=(HourRate(60, 60, 5),)), 0) == (5, 60), "from an hour to itself is all day"


async def test_requests_wait_for_an_hour_in_which_something_may_come(clock: Time) -> None:
    clock.now = NOON - 30 * 60 + 20  # 11:30:20
    limits = Limits(hours=(HourRate(11 * 60, 12 * 60, 0),))
    origin = MemoryOrigin({b"a": b"1"})
    limited = Limited(origin, "h", limits, Hosts(), clock=clock, monotonic=clock, sleep=clock.sleep)
    assert await received(limited, b"a") == b"1"
    assert clock.now == NOON


async def test_a_body_that_runs_into_silent_hours_stops_there(clock: Time) -> None:
    limits = Limits(bandwidth=CHUNK, hours=(HourRate(12 * 60 + 1, 13 * 60, 0),))
    origin = MemoryOrigin({b"a": bytes(1000 * CHUNK)})
    limited = Limited(origin, "h", limits, Hosts(), clock=clock, monotonic=clock, sleep=clock.sleep)
    with pytest.raises(Unreachable, match="no transfers") as raised:
        await received(limited, b"a")
    assert raised.value.retry_after == pytest.approx(59 * 60, abs=16)
    assert 60 <= clock.now - NOON < 80


# -- logging


async def test_every_request_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    origin = Logged(MemoryOrigin({b"a b\n": b"123"}))
    origin.inner.fail("facts", b"x", Unreachable)  # type: ignore[attr-defined]
    with caplog.at_level(logging.DEBUG, "sideways.origin"):
        await origin.listing(b"")
        await received(origin, b"a b\n")
        with pytest.raises(Unreachable):
            await origin.facts(b"x")
        with pytest.raises(Vanished):
            await received(origin, b"gone")
    lines = [record.getMessage().rpartition(",")[0] for record in caplog.records]
    assert lines == [
        "memory://origin/: listing: 1 entries, memory",
        "memory://origin/a%20b%0A: read: 3 bytes from 0",
        "memory://origin/x: facts: Unreachable: planted fault",
        "memory://origin/gone: read: Vanished: no such name",
    ]


# -- together


def test_a_scheme_that_nobody_reads_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"gopher: .*file, ftp, ftps, http, https"):
        open_origin(OriginSpec("gopher://h/m/"), Limits(), Shared())


async def test_a_local_source_can_be_copied_from_through_its_wrappers(tmp_path: object) -> None:
    with open(f"{tmp_path}/a", "wb") as file:
        file.write(b"body")
    spec = OriginSpec(f"file://{tmp_path}")
    plain, shaped = open_origin(spec, Limits(), Shared()), open_origin(spec, Limits(bandwidth=1), Shared())
    assert not plain.properties.network
    with open(plain.open(b"a"), "rb") as copy:  # type: ignore[attr-defined]
        assert copy.read() == b"body"
    assert shaped.properties.network, "a copy could not be slowed down"


class Instant:
    """An origin whose reads cost next to nothing: what is measured is the wrappers."""

    properties, traffic, url = Properties(), Traffic(), "instant:"
    facts_ = Facts(size=1)

    def read(self, path: bytes, want: Want) -> Instant:
        return self

    async def __aenter__(self) -> Body:
        return self  # type: ignore[return-value]

    async def __aexit__(self, *_: object) -> None: ...

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"x"

    facts, start = facts_, 0

    async def listing(self, directory: bytes) -> Listing:
        return Listing(())

    async def close(self) -> None: ...


async def test_the_wrappers_cost_less_than_30_us_a_read() -> None:
    def cost(origin: object, reads: int = 20_000) -> Callable[[], object]:
        async def run() -> float:
            began = time.process_time()
            for _ in range(reads):
                async with origin.read(b"a", Want(size=1)) as body:  # type: ignore[attr-defined]
                    async for _chunk in body.chunks():
                        pass
            return (time.process_time() - began) / reads

        return run

    bare = Instant()
    limited = Limited(Logged(bare), "h", Limits(), Hosts())  # type: ignore[arg-type]
    wrapped = await cost(Retrying(limited, "h"))()  # type: ignore[misc]
    assert wrapped - await cost(bare)() < 30e-6, f"{wrapped * 1e6:.1f} us"  # type: ignore[misc]
