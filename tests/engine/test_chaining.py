"""One large file of an origin that sends no parts: who fetches it, who reads it from whom, what is joined.

The sizes are shrunk as in `test_gathering`: blocks of 4 KiB, ranges of 16 KiB.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from cluster.engine import chaining
from cluster.errors import PeerLacks, Refused, Unreachable
from cluster.model import Claim, Limits, Row, Sideways, Stamp, join
from cluster.origin.memory import EPOCH, validator
from cluster.plan.order import ranking
from cluster.store import growing
from tests.engine.test_gathering import BIG, BLOCK, RANGE, _shrunk, facts_are, opened, reads
from tests.engine.world import FakeSibling, World

__all__ = ["_shrunk"]

ALL = ("kent", "oslo", "york")
SHA = hashlib.sha256(BIG).digest()
NAMES = ("tag", "time")


def ranked(*sites: str) -> bytes:
    """A path for which the sites rank so."""
    paths = (b"iso/%d" % n for n in range(10_000))
    return next(path for path in paths if tuple(ranking(path, sites)) == sites)


@pytest.fixture(autouse=True)
def _patient(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.mirror = replace(world.mirror, sideways=Sideways(patience=60.0))
    monkeypatch.setattr(chaining, "ASK", 0.02)
    monkeypatch.setattr(chaining, "TICK", 0.01)
    monkeypatch.setattr(chaining, "TURN", 0.3)


def offer(world: World, path: bytes, name: str = "tag") -> tuple[bytes, int, str]:
    """Put the file at the origin, which names its version so; what siblings call it."""
    world.memory.put(path, BIG)
    facts_are(world, ranges=False)
    if name == "time":
        facts_are(world, etag=None)
        return path, len(BIG), f"modified:{EPOCH}"
    return path, len(BIG), validator(world.memory.tree()[path])


def whole(version: tuple[bytes, int, str], received: int = 1, etag: str | None = "") -> Claim:
    row = Row(len(BIG), None, Stamp(EPOCH))
    name = version[0].partition(b"/")[2]
    return Claim(name, row, received, 0.0, True, 0, None, version[2] if etag == "" else etag)


def grows(
    world: World,
    sibling: FakeSibling,
    version: tuple[bytes, int, str],
    *,
    claims: bool = True,
    stops: int | None = None,
    then: Callable[[], None] | None = None,
    body: bytes = BIG,
) -> None:
    """The file arrives at a sibling, some blocks from one question to the next, until it is whole or, at
    `stops`, `then` is called."""
    have = 0
    sibling.claims = {version[0]: whole(version)} if claims else {}
    sibling.arriving = True

    async def step() -> None:
        nonlocal have
        have = min(have + 3 * BLOCK, len(body) if stops is None else stops)
        sibling.grown[version] = [(0, have)], body
        sibling.part_claims = [whole(version, have)] if claims and have < len(body) else []
        sibling.claims = {join(b"iso", claim.name): claim for claim in sibling.part_claims}
        if have == len(body):
            sibling.proof = hashlib.sha256(body).digest()
        if have == stops and then is not None:
            then()

    sibling.on_parts = step


@pytest.mark.parametrize("name", NAMES)
async def test_beside_an_idle_sibling_it_is_asked_for_once_and_claimed_by_its_version(
    world: World, name: str
) -> None:
    version = offer(world, ranked("oslo", "kent"), name)
    world.sibling()
    claims: set[tuple[int, int | None, str | None]] = set()

    async def before(method: str, path: bytes) -> None:
        if method == "chunk":
            await asyncio.sleep(0.02)
            claims.update((c.first, c.end, c.etag) for c in world.claims.within("deb", b"iso", 0.0))

    world.memory.before = before
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin, reads(world)) == ("complete", len(BIG), 1)
    assert claims == {(0, None, version[2])}
    held = (await world.records())[version[0]]
    assert (held.source, held.verified, held.sha256) == ("origin", "origin", SHA)


@pytest.mark.parametrize("name", NAMES)
async def test_what_a_sibling_fetches_is_read_from_it_while_it_grows(world: World, name: str) -> None:
    version = offer(world, ranked("kent", "oslo"), name)
    sibling = world.sibling()
    grows(world, sibling, version)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin, report.bytes_sideways) == ("complete", 0, len(BIG))
    assert sibling.delivered_parts[0][1] < len(BIG) / 2, "it was read before all of it was there"
    assert (await world.records())[version[0]].source == "oslo"


async def test_the_one_before_us_is_read_from_and_not_the_one_that_fetches(world: World) -> None:
    version = offer(world, ranked("york", "oslo", "kent"))
    head, link = world.sibling("york"), world.sibling("oslo")
    grows(world, head, version)
    grows(world, link, version, claims=False)
    report = await world.run()
    world.equal()
    assert report.bytes_sideways == len(BIG)
    assert link.delivered_parts and not head.delivered_parts


async def test_one_before_us_that_makes_no_progress_is_skipped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaining, "TURN", 60.0)
    world.mirror = replace(world.mirror, sideways=Sideways(patience=0.4))
    version = offer(world, ranked("york", "oslo", "kent"))
    head, link = world.sibling("york"), world.sibling("oslo")
    grows(world, head, version)
    grows(world, link, version, claims=False, stops=2 * RANGE)
    report = await world.run()
    world.equal()
    assert (report.bytes_origin, report.bytes_sideways) == (0, len(BIG))
    assert head.delivered_parts
    assert all(end <= 2 * RANGE for _, end in link.delivered_parts)


@pytest.mark.parametrize("name", NAMES)
async def test_where_the_one_that_fetches_dies_the_origin_is_asked_and_agrees_with_what_is_here(
    world: World, name: str
) -> None:
    version = offer(world, ranked("kent", "oslo"), name)
    sibling = world.sibling()

    def dies() -> None:
        sibling.up = False

    grows(world, sibling, version, stops=6 * RANGE, then=dies)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin, reads(world)) == ("complete", len(BIG), 1)
    assert 0 < report.bytes_sideways <= 6 * RANGE
    held = (await world.records())[version[0]]
    assert (held.source, held.sha256) == ("origin", SHA), "the origin has sent all of it"


async def test_a_claim_that_shows_no_progress_is_taken_over(world: World) -> None:
    world.mirror = replace(world.mirror, sideways=Sideways(patience=0.4))
    version = offer(world, ranked("oslo", "kent"))
    sibling = world.sibling()
    grows(world, sibling, version, stops=3 * RANGE)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin) == ("complete", len(BIG))


@pytest.mark.parametrize("piece", [BLOCK, growing.PIECE])
async def test_bytes_of_two_versions_that_bear_one_time_are_never_joined(
    world: World, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """A sibling was told another one: what is here of it goes when the origin sends something else. It shows
    while that arrives, or with the last of it."""
    monkeypatch.setattr(growing, "PIECE", piece)
    chains: list[int] = []
    real = chaining.Chain._head

    async def head(chain: chaining.Chain) -> None:
        chains.append(chain._growing.prefix(0, len(BIG)))
        await real(chain)

    monkeypatch.setattr(chaining.Chain, "_head", head)
    version = offer(world, ranked("kent", "oslo"), "time")
    sibling = world.sibling()
    arrived = 0
    part = sibling.part

    @asynccontextmanager
    async def noted(*asked: Any) -> AsyncIterator[Any]:
        nonlocal arrived
        async with part(*asked) as body:
            yield body
        arrived = max(arrived, asked[-1])

    def dies() -> None:
        sibling.up = arrived < 6 * RANGE

    sibling.part = noted  # type: ignore[method-assign]
    other = BIG[: 5 * RANGE] + BIG[::-1][5 * RANGE :]
    grows(world, sibling, version, stops=6 * RANGE, then=dies, body=other)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin, reads(world)) == ("complete", 1, 2)
    assert not sibling.deceptions, "it believed what it was told"
    assert chains == [6 * RANGE, 0], "the second one begins with nothing"


async def test_what_was_joined_counts_by_the_digest_of_one_that_was_not(world: World) -> None:
    """The end of it comes from a site that had another beginning."""
    version = offer(world, ranked("kent", "oslo", "york"), "time")
    first, second = world.sibling("oslo"), world.sibling("york")
    other = BIG[::-1][: 5 * RANGE] + BIG[5 * RANGE :]

    def dies() -> None:
        first.up = False
        grows(world, second, version)
        second.hold(version[0], BIG)

    grows(world, first, version, stops=5 * RANGE, then=dies, body=other)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin) == ("complete", 0)
    assert report.bytes_sideways == 2 * len(BIG)
    assert second.delivered == [version[0]], "all of it, once more"


async def test_without_such_a_digest_the_origin_is_asked(world: World) -> None:
    """All of it is here by its time alone, and whoever could have told has gone."""
    version = offer(world, ranked("kent", "oslo"), "time")
    sibling = world.sibling()

    async def told() -> None:
        sibling.proof = None

    sibling.grown[version] = [(0, len(BIG))], BIG
    sibling.on_parts = told
    report = await world.run()
    world.equal()
    assert (report.bytes_sideways, report.bytes_origin) == (len(BIG), len(BIG))
    assert report.files.origin == 1


async def test_118_blocks_without_their_hashes_are_a_deception_and_come_from_elsewhere(world: World) -> None:
    version = offer(world, ranked("kent", "oslo"))
    liar = world.sibling()
    liar.grown[version] = [(0, len(BIG))], BIG
    liar.spoil = True
    report = await world.run()
    world.equal()
    assert liar.deceptions and report.bytes_origin == len(BIG)
    assert (await world.records())[version[0]].source == "origin"


async def test_a_sibling_that_goes_on_claiming_and_delivers_nothing_is_done_without(world: World) -> None:
    version = offer(world, ranked("oslo", "kent"))
    sibling = world.sibling()
    sibling.grown[version] = [(0, 3 * RANGE)], BIG

    async def told() -> None:
        sibling.part_claims = [whole(version, sibling.asked_parts)]

    sibling.on_parts = told

    refused = 0

    @asynccontextmanager
    async def part(*asked: object) -> AsyncIterator[None]:
        nonlocal refused
        refused += 1
        raise PeerLacks("oslo", "no such blocks")
        yield

    sibling.part = part  # type: ignore[method-assign, assignment]
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin) == ("complete", len(BIG))
    assert refused < chaining.FAILURES + chaining.AT_ONCE, "those on their way with the last one included"


@pytest.mark.parametrize("first", ["kent", "oslo"])
async def test_of_two_that_begin_at_once_the_one_that_ranks_higher_goes_on(world: World, first: str) -> None:
    second = "oslo" if first == "kent" else "kent"
    version = offer(world, ranked(first, second))
    sibling = world.sibling()
    asked = 0

    async def step() -> None:
        """Its claim is seen by the second look only; where it ranks lower it sees ours then, and stops."""
        nonlocal asked
        asked += 1
        if first == "oslo" and asked == 2:
            grows(world, sibling, version)
        sibling.part_claims = [whole(version, 0)] if asked == 2 else []

    sibling.on_parts = step
    report = await world.run()
    world.equal()
    assert report.bytes_origin == (0 if first == "oslo" else len(BIG))


async def test_of_two_to_whom_the_origin_names_a_version_differently_one_waits_for_the_other(
    world: World,
) -> None:
    version = offer(world, ranked("oslo", "kent"))
    sibling = world.sibling()
    left = 12

    async def fetching() -> None:
        nonlocal left
        left -= 1
        sibling.part_claims = [whole(version, 50 - left, etag='"other"')] if left > 0 else []
        sibling.claims = {version[0]: sibling.part_claims[0]} if left > 0 else {}
        if left == 0:
            sibling.hold(version[0], BIG)

    real = sibling.offered

    async def offered(*asked: object, **within: object) -> object:
        await fetching()
        return await real(*asked, **within)  # type: ignore[arg-type]

    told = sibling.bundle

    async def bundle(*asked: object) -> AsyncIterator[object]:
        await fetching()
        async for one in told(*asked):  # type: ignore[arg-type]
            yield one

    sibling.on_parts = fetching
    sibling.offered = offered  # type: ignore[method-assign, assignment]
    sibling.bundle = bundle  # type: ignore[method-assign, assignment]
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin, report.files.sideways) == ("complete", 0, 1)


async def test_a_whole_file_that_is_fetched_under_no_name_is_waited_for(world: World) -> None:
    """By a site of a former version."""
    version = offer(world, ranked("kent", "oslo"))
    sibling = world.sibling()
    sibling.claims = {version[0]: whole(version, etag=None)}
    rounds = 0
    real = sibling.offered

    async def offered(*asked: object, **within: object) -> object:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            sibling.claims = {}
            sibling.hold(version[0], BIG)
        return await real(*asked, **within)  # type: ignore[arg-type]

    sibling.offered = offered  # type: ignore[method-assign, assignment]
    report = await world.run()
    world.equal()
    assert (report.bytes_origin, report.files.sideways) == (0, 1)


async def test_a_body_that_breaks_off_is_asked_for_again_and_compared(world: World) -> None:
    version = offer(world, ranked("kent", "oslo"))
    world.sibling()
    world.memory.truncate(version[0], 5 * RANGE + 7)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin) == ("complete", len(BIG) + 5 * RANGE + 7)


async def test_what_an_interruption_leaves_is_gone_on_with_from_a_sibling(world: World) -> None:
    version = offer(world, ranked("kent", "oslo"))
    sibling = world.sibling()
    world.mirror = replace(world.mirror, limits=Limits(connections=4, retries=1))
    world.memory.truncate(version[0], 5 * RANGE + 7)
    world.partials = 1
    assert (await world.run()).outcome == "incomplete"
    world.partials = 0
    async with opened(world) as store:
        growing = await store.beginnings.grow(*version)
        assert growing.runs() == [(0, 5 * RANGE)]
        await growing.keep()
    sibling.grown[version] = [(0, len(BIG))], BIG
    report = await world.run()
    world.equal()
    assert (report.bytes_origin, report.bytes_sideways) == (0, len(BIG) - 5 * RANGE)


async def test_a_version_that_changes_before_it_is_read_is_never_mixed(world: World) -> None:
    version = offer(world, ranked("kent", "oslo"))
    world.sibling()

    async def before(method: str, path: bytes) -> None:
        if method == "read":
            world.memory.before = None
            world.memory.update(version[0], BIG[::-1])

    world.memory.before = before
    report = await world.run()
    if report.outcome != "complete":
        report = await world.run()
    assert world.bodies()[version[0]] == BIG[::-1]


@pytest.mark.parametrize("error", [Unreachable, Refused])
async def test_an_origin_that_does_not_deliver_costs_this_file_only(
    world: World, error: type[Unreachable | Refused]
) -> None:
    version = offer(world, ranked("kent", "oslo"))
    world.sibling()
    world.memory.put(b"iso/small", b"small")
    world.memory.fail("read", version[0], error, times=9)
    report = await world.run()
    assert (report.outcome, report.files.failed, report.files.origin) == ("incomplete", 1, 1)
