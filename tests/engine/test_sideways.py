"""What siblings may do for a pass, and what they can not do to it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from cluster.engine import asking
from cluster.engine.pace import Pace
from cluster.errors import PeerSilent
from cluster.model import Claim, Order, Row, Sideways, Stamp, Trust, join, split
from cluster.origin.memory import EPOCH
from cluster.peer.client import Bodies, Told, Wish
from cluster.plan.slow import Headway
from tests.engine.world import World

STAMP = Stamp(EPOCH)


def some(world: World, count: int = 40, size: int = 300) -> None:
    chance = random.Random(5)
    for i in range(count):
        world.memory.put(b"pool/%d/file-%03d" % (i % 5, i), chance.randbytes(size + i))


@pytest.mark.parametrize("order", list(Order))
async def test_what_a_sibling_holds_costs_the_origin_its_listings_only(world: World, order: Order) -> None:
    world.mirror = replace(world.mirror, order=order)
    some(world)
    world.memory.put(b"big", random.Random(1).randbytes(2_000_000))
    world.sibling().hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.sideways, report.files.origin) == ("complete", 41, 0)
    assert not world.memory.asked("read") and report.bytes_origin == 0
    assert (await world.records())[b"big"].source == "oslo"


async def test_a_sibling_without_the_listed_version_is_not_asked_for_its_own(world: World) -> None:
    some(world)
    sibling = world.sibling()
    sibling.hold_all(world.memory)
    world.memory.update(b"pool/1/file-001", b"newer than the sibling's")
    report = await world.run()
    world.equal()
    assert (report.files.origin, report.files.sideways) == (1, 39)


@pytest.mark.parametrize("size", [300, 400_000])
async def test_a_sibling_much_slower_than_the_origin_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """After what it had time for; and to be slow is no lie."""
    monkeypatch.setattr(Pace, "patience", lambda self, size: 5.0)
    some(world, 20, size)
    sibling = world.sibling()
    sibling.hold_all(world.memory)

    def drips() -> None:
        world.clock.moved += 1.0

    sibling.lag = drips
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin + report.files.sideways) == ("complete", 20)
    assert report.files.sideways <= 10
    assert sibling.deceptions == []


def slow(world: World, name: str) -> None:
    """What this sibling has told of its pass, and another one, and what was measured here."""
    world.claims.goes(world.mirror.name, Headway(10**6, 10**8))
    for site, headway in (("york", Headway(10**6, 10**8)), (name, Headway(10**5, 10**6))):
        world.claims.heard.begin(site)
        world.claims.heard.goes(site, world.mirror.name, headway)


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("size", [300, 400_000])
async def test_a_site_that_is_too_slow_is_neither_asked_nor_waited_for(
    world: World, order: Order, size: int
) -> None:
    """It holds a little, and claims all the rest for ever."""
    world.mirror = replace(world.mirror, order=order, sideways=Sideways(patience=600.0))
    some(world, 20, size)
    sibling, other = world.sibling("oslo"), world.sibling("york")
    sibling.hold_all(world.memory)
    slow(world, "oslo")
    for path, (offer, _) in list(sibling.files.items())[2:]:
        claim = Claim(offer.name, Row(offer.size, None, STAMP))
        sibling.claims[path] = claim
        world.claims.heard.claimed("oslo", "deb", split(path)[0], [claim], world.clock.monotonic())
        del sibling.files[path]
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin, report.files.sideways) == ("complete", 20, 0)
    assert sibling.asked == [] and other.asked


@pytest.mark.parametrize("size", [300, 400_000])
async def test_118_a_sibling_that_lies_is_not_believed_and_is_named(world: World, size: int) -> None:
    some(world, 10, size)
    sibling = world.sibling()
    sibling.hold_all(world.memory)
    sibling.substitute = b"x" * size
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin, report.files.sideways) == ("complete", 10, 0)
    assert sibling.deceptions


async def test_118_where_one_sibling_lies_another_one_may_deliver(world: World) -> None:
    some(world, 10, 400_000)
    liar, honest = world.sibling("oslo"), world.sibling("york")
    for sibling in (liar, honest):
        sibling.hold_all(world.memory)
    liar.substitute = b"x" * 400_000
    report = await world.run()
    world.equal()
    assert report.files.origin == 0 and honest.delivered


async def test_120_what_only_a_sibling_has_does_not_exist(world: World) -> None:
    some(world)
    sibling = world.sibling()
    sibling.hold_all(world.memory)
    sibling.hold(b"pool/1/extra", b"nobody's")
    sibling.hold(b"pool/only-here/x", b"nobody's")
    del sibling.files[b"pool/2/file-002"]
    report = await world.run()
    world.equal()
    assert (report.files.origin, report.files.deleted) == (1, 0)


async def test_a_silent_sibling_costs_its_patience_once_in_a_while_and_no_file(world: World) -> None:
    some(world)
    world.sibling().silent = 0.3
    began = time.monotonic()
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"
    assert time.monotonic() - began < 4


async def test_what_a_sibling_is_fetching_is_put_off_and_taken_from_it(world: World) -> None:
    some(world)
    sibling = world.sibling()
    body = random.Random(2).randbytes(300_000)
    world.memory.put(b"pool/1/wanted", body)
    sibling.claims[b"pool/1/wanted"] = Claim(b"wanted", Row(len(body), None, STAMP), received=10)
    asked = 0
    real = sibling.bundle

    def bundle(mirror: str, wishes: Sequence[Wish], patience: float) -> AsyncIterator[Told | Bodies]:
        nonlocal asked
        if any(wish.entry.name == b"wanted" for wish in wishes):
            asked += 1
            if asked == 4:
                sibling.claims.clear()
                sibling.hold(b"pool/1/wanted", body)
            elif asked < 4:
                sibling.claims[b"pool/1/wanted"] = Claim(
                    b"wanted", Row(len(body), None, STAMP), received=10 * asked
                )
        return real(mirror, wishes, patience)

    sibling.bundle = bundle  # type: ignore[method-assign]
    report = await world.run()
    world.equal()
    assert (report.files.origin, report.files.sideways) == (40, 1)
    assert b"pool/1/wanted" not in world.memory.asked("read")


@pytest.mark.parametrize("idle", [0.0, 60.0])
async def test_a_claim_without_progress_is_void(world: World, idle: float) -> None:
    """`idle` is the sibling's own word; one that always says 0 is not believed for longer than patience."""
    world.mirror = replace(world.mirror, sideways=Sideways(patience=0.4))
    some(world, 5)
    sibling = world.sibling()
    for i in range(5):
        path = b"pool/%d/file-%03d" % (i % 5, i)
        size = len(world.memory.tree()[path].data)
        sibling.claims[path] = Claim(path[-8:], Row(size, None, STAMP), received=7, idle=idle)
    began = time.monotonic()
    report = await world.run()
    took = time.monotonic() - began
    world.equal()
    assert (report.outcome, report.files.origin) == ("complete", 5)
    assert took < 3 and (idle or took > 0.4)
    assert not idle or len(sibling.asked) == 5, "what it calls idle itself was waited for"


async def test_a_sibling_that_claims_everything_forever_delays_by_its_patience(world: World) -> None:
    world.mirror = replace(world.mirror, sideways=Sideways(patience=0.4), last=("pool/4/**",))
    some(world)
    sibling = world.sibling()
    for path, node in world.memory.tree().items():
        if node.data:
            sibling.claims[path] = Claim(path, Row(len(node.data), None, STAMP), received=1)
    began = time.monotonic()
    report = await world.run()
    world.equal()
    assert report.files.origin == 40
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("how", ["a byte each time", "again and again", "more than all", "any speed"])
@pytest.mark.parametrize("sized", [True, False])
async def test_a_claim_that_moves_and_never_ends_is_done_without_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str, sized: bool
) -> None:
    some(world, 10, 5_000)
    sibling, rounds = world.sibling(), 0
    real = sibling.bundle
    world.memory.properties = replace(world.memory.properties, exact_sizes=sized)

    async def bundle(mirror: str, wishes: Sequence[Wish], patience: float) -> AsyncIterator[Told | Bodies]:
        nonlocal rounds
        rounds += 1
        for wish in wishes:
            size, name = wish.entry.size, wish.entry.name
            received = {
                "a byte each time": rounds,
                "again and again": 1 + rounds % 20,
                "more than all": (size or 0) + rounds,
                "any speed": rounds * 10**6,
            }[how]
            sibling.claims[join(wish.directory, name)] = Claim(name, Row(size, None, STAMP), received)
        async for one in real(mirror, wishes, patience):
            yield one

    async def sleep(seconds: float) -> None:
        world.clock.moved += 50 * seconds
        await asyncio.sleep(0)

    monkeypatch.setattr(sibling, "bundle", bundle)
    monkeypatch.setattr(world.clock, "sleep", sleep)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin) == ("complete", 10)
    assert world.clock.moved < 3600


async def test_a_sibling_that_dies_in_the_middle_costs_no_file(world: World) -> None:
    some(world, 200)
    sibling = world.sibling()
    sibling.hold_all(world.memory)
    real = sibling.bundle

    async def bundle(mirror: str, wishes: Sequence[Wish], patience: float) -> AsyncIterator[Told | Bodies]:
        count = 0
        async for one in real(mirror, wishes, patience):
            yield one
            count += 1
            if count == 11:
                sibling.up = False
                raise PeerSilent("oslo", "gone")

    sibling.bundle = bundle  # type: ignore[method-assign]
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"
    assert report.files.origin + report.files.sideways == 200


@pytest.mark.parametrize("order", list(Order))
async def test_what_comes_from_the_origin_was_claimed_before_siblings_were_asked_for_it_last(
    world: World, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else of two sites that meet neither might see the other. What siblings hold need not be claimed."""
    monkeypatch.setattr(asking, "FILES", 8)
    monkeypatch.setattr(asking, "ROUNDS", 1)
    world.mirror = replace(world.mirror, order=order)
    some(world)
    sibling = world.sibling()
    sibling.hold_all(world.memory)
    lacking = [b"pool/%d/file-%03d" % (i % 5, i) for i in range(0, 40, 7)]
    for path in lacking:
        del sibling.files[path]
    real, asked = sibling.bundle, {}

    def bundle(mirror: str, wishes: Sequence[Wish], patience: float) -> AsyncIterator[Told | Bodies]:
        for wish in wishes:
            claims = world.claims.within(mirror, wish.directory, 0.0)
            asked[join(wish.directory, wish.entry.name)] = wish.entry.name in {one.name for one in claims}
        return real(mirror, wishes, patience)

    sibling.bundle = bundle  # type: ignore[method-assign]
    report = await world.run()
    world.equal()
    assert (report.files.origin, report.files.sideways) == (len(lacking), 40 - len(lacking))
    assert all(asked[path] for path in lacking)
    assert sum(asked.values()) < 20


async def test_what_a_line_tells_while_siblings_are_asked_is_put_off(world: World) -> None:
    """A sibling had answered before it claimed the file, and waits for others that it has asked."""
    some(world, 5)
    sibling, path = world.sibling(), b"pool/1/file-001"
    real, heard, body = sibling.bundle, world.claims.heard, world.memory.tree()[path].data
    world.mirror = replace(world.mirror, sideways=Sideways(patience=600.0))
    heard.begin("oslo")
    heard.whole("oslo")

    def released_when_put_off() -> None:
        if any(one.name == b"file-001" for one in world.claims.within("deb", b"pool/1", 0.0)):
            asyncio.get_running_loop().call_later(0.02, released_when_put_off)
        else:
            heard.released("oslo", "deb", b"pool/1", [(b"file-001", 0)])

    async def bundle(mirror: str, wishes: Sequence[Wish], patience: float) -> AsyncIterator[Told | Bodies]:
        async for one in real(mirror, wishes, patience):
            if not sibling.files and any(wish.entry.name == b"file-001" for wish in wishes):
                claim = Claim(b"file-001", Row(len(body), None, STAMP))
                heard.claimed("oslo", mirror, b"pool/1", [claim], world.clock.monotonic())
                sibling.hold(path, body)
                released_when_put_off()
            yield one

    sibling.bundle = bundle  # type: ignore[method-assign]
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin, report.files.sideways) == ("complete", 4, 1)


# -- strict


@pytest.mark.parametrize(("count", "size"), [(200, 2000), (12, 2_000_000)])
async def test_119_a_strict_mirror_publishes_none_of_a_siblings_substitutes(
    world: World, count: int, size: int
) -> None:
    """The sibling's whole store is poisoned: sizes, times and digests agree with its bytes."""
    world.mirror = replace(world.mirror, sideways=Sideways(trust=Trust.STRICT))
    some(world, count, size)
    sibling = world.sibling()
    for path, node in world.memory.tree().items():
        if node.data:
            sibling.hold(path, b"x" * len(node.data))
    report = await world.run()
    world.equal()
    assert (report.files.origin, report.files.sideways) == (count, 0)
    assert size < 2**20 or sibling.deceptions


async def test_a_strict_mirror_takes_what_two_siblings_agree_on(world: World) -> None:
    world.mirror = replace(world.mirror, sideways=Sideways(trust=Trust.STRICT))
    some(world)
    for name in ("oslo", "york"):
        world.sibling(name).hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert (report.files.origin, report.files.sideways) == (0, 40)


async def test_a_strict_mirror_takes_a_large_file_of_one_honest_sibling_for_a_few_ranges(
    world: World,
) -> None:
    world.mirror = replace(world.mirror, sideways=Sideways(trust=Trust.STRICT))
    world.memory.put(b"big", random.Random(1).randbytes(5_000_000))
    world.sibling().hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert (report.files.sideways, report.files.origin) == (1, 0)
    assert 0 < report.bytes_origin <= 3 * 64 * 1024


async def test_siblings_may_be_left_out_by_the_descriptor(world: World) -> None:
    world.mirror = replace(world.mirror, sideways=Sideways(enabled=False))
    some(world)
    sibling = world.sibling()
    sibling.hold_all(world.memory)
    report = await world.run()
    world.equal()
    assert (report.files.origin, sibling.asked) == (40, [])


async def test_hard_links_are_kept_in_the_second_in_which_they_were_made(world: World) -> None:
    world.memory.precision = 10**9
    now = int(world.clock.now() + 3600) * 10**9  # the origin's clock is an hour ahead
    world.memory.put(b"a/one", b"shared" * 1000, mtime=now)
    world.memory.link(b"a/one", b"a/two")
    report = await world.run()
    world.equal()
    assert (report.bytes_origin, report.files.origin) == (6000, 1)


async def test_hard_links_are_kept_whoever_delivers_the_body(world: World) -> None:
    world.memory.put(b"a/one", b"shared" * 1000)
    world.memory.link(b"a/one", b"b/two")
    world.memory.link(b"a/one", b"a/three")
    world.sibling().hold_all(world.memory)
    world.mirror = replace(world.mirror, order=Order.RENDEZVOUS)
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"
    assert len({(world.public / p).stat().st_ino for p in ("a/one", "b/two", "a/three")}) == 1


async def test_files_that_wait_are_asked_for_together_when_an_answer_has_been_dealt_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question for each of many small directories would cost more than their files."""
    monkeypatch.setattr(asking, "GATHER", 3600.0)
    for i in range(60):
        world.memory.put(b"%02d/file" % i, b"x" * i)
    sibling, questions = world.sibling(), 0
    sibling.hold_all(world.memory)
    real = sibling.bundle

    async def bundle(mirror: str, wishes: Sequence[Wish], patience: float) -> AsyncIterator[Told | Bodies]:
        nonlocal questions
        questions += 1
        async for one in real(mirror, wishes, patience):
            yield one
            while len(world.memory.asked("listing")) < 61:  # noqa: ASYNC110  # of another part
                await asyncio.sleep(0.01)

    sibling.bundle = bundle  # type: ignore[method-assign]
    report = await world.run()
    world.equal()
    assert (report.files.sideways, questions) == (60, 2)


async def test_what_siblings_turn_out_to_lack_is_claimed_only_as_far_as_it_is_soon_fetched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "ahead", lambda self, most: 3000)
    monkeypatch.setattr(asking, "MANY", 200)
    world.mirror = replace(world.mirror, order=Order.FORWARD)
    for i in range(40):
        world.memory.put(b"a/%03d" % i, b"x" * 100)
    sibling = world.sibling()
    sibling.hold_all(world.memory)
    for i in range(200):
        world.memory.put(b"b/%03d" % i, b"y" * 1000)
    real, together = sibling.bundle, []

    def bundle(mirror: str, wishes: Sequence[Wish], patience: float) -> AsyncIterator[Told | Bodies]:
        names = {claim.name for claim in world.claims.within(mirror, b"b", 0.0)}
        together.append(sum(wish.directory == b"b" and wish.entry.name in names for wish in wishes))
        return real(mirror, wishes, patience)

    sibling.bundle = bundle  # type: ignore[method-assign]
    report = await world.run()
    world.equal()
    assert (report.files.origin, report.files.sideways) == (200, 40)
    assert max(together) == 3
