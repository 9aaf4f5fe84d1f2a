"""How much of what came from the origin is at this site alone, and when that is too much."""

import asyncio

import pytest

from cluster.peer.uncopied import IDLE, LEAST, LONGEST, MOST, TICK, Uncopied
from tests.peer.cluster import running
from tests.peer.test_bundles import bundle, wish

FILE = 2**20


def alone(files: int) -> Uncopied:
    made = Uncopied()
    for number in range(files):
        made.came(b"%d" % number, FILE)
    return made


def test_a_little_is_never_too_much() -> None:
    uncopied = alone(LEAST // FILE)
    assert not uncopied.too_much(0.0)
    uncopied.came(b"another", 1)
    assert uncopied.too_much(0.0)


def test_what_a_sibling_has_read_is_not_here_alone() -> None:
    uncopied = alone(6)
    uncopied.copied(b"0", 0.0)
    uncopied.copied(b"0", 0.0)
    uncopied.copied(b"what came long ago", 0.0)
    assert uncopied.size == 5 * FILE
    uncopied.forget(b"1")
    assert uncopied.size == 4 * FILE


def test_who_reads_much_in_a_second_may_be_further_behind() -> None:
    uncopied = alone(40)
    for number in range(10):
        uncopied.copied(b"%d" % number, 0.5)
    assert uncopied.size > 10 * FILE and uncopied.too_much(0.6)
    for number in range(10, 30):
        uncopied.copied(b"%d" % number, 0.7)
    assert uncopied.size == 10 * FILE and not uncopied.too_much(0.8)
    assert uncopied.too_much(0.8 + 3.0), "that was long ago"


def test_siblings_that_read_nothing_are_not_waited_for() -> None:
    uncopied = alone(6)
    assert uncopied.too_much(100.0)
    assert uncopied.too_much(100.0 + IDLE - 0.1)
    assert not uncopied.too_much(100.0 + IDLE)
    uncopied.reads(200.0)
    assert uncopied.too_much(200.1)


def test_one_pass_waits_so_long_in_all_and_no_longer() -> None:
    uncopied, now = alone(6), 0.0
    while now < 2 * LONGEST:
        uncopied.reads(now)  # a little, now and then, for ever
        if not uncopied.too_much(now):
            break
        now += TICK / 2
    assert LONGEST <= now < LONGEST + 1.0


def test_what_is_remembered_is_bounded() -> None:
    uncopied = Uncopied()
    for number in range(2 * MOST):
        uncopied.came(b"%d" % number, 1)
    assert uncopied.size == MOST


@pytest.mark.parametrize("large", [False, True])
async def test_what_a_sibling_was_sent_is_known_to_be_copied(cluster, large: bool) -> None:
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        sibling, body = await kent.meets("oslo"), b"x" * (3 * 2**20 if large else 10)
        for path in (b"pool/a", b"pool/b"):
            oslo.files.put(path, body)
        uncopied = oslo.claims.uncopied("debian")
        uncopied.came(b"pool/a", 50)
        uncopied.came(b"pool/b", 7)
        wished = wish(oslo, b"pool/a", send=not large)
        told, bodies = await bundle(sibling, [wished, wish(oslo, b"pool/b", send=False)])
        assert set(bodies) == (set() if large else {0})
        if large:
            from cluster.origin.base import Want

            async with sibling.read(
                "debian", b"pool/a", told.held[0], Want(len(body), limit=len(body))
            ) as got:
                assert b"".join([chunk async for chunk in got.chunks()]) == body
        async with asyncio.timeout(60):
            while uncopied.size != 7:  # noqa: ASYNC110  # its last byte is here before that is known there
                await asyncio.sleep(0.01)
