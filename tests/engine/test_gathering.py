"""One large file by parts: who fetches which of them, from whom, and what an interruption leaves.

The sizes are shrunk: blocks of 4 KiB, ranges of 16 KiB, large is what has more than 32 KiB.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.engine import beside, gathering
from cluster.errors import Refused, Unreachable
from cluster.model import Claim, Facts, Limits, Row, Sideways, Stamp, Trust
from cluster.origin.base import Body, Want
from cluster.origin.memory import EPOCH, validator
from cluster.peer import arriving
from cluster.plan import steal
from cluster.plan.order import owner
from cluster.plan.slow import Headway
from cluster.plan.steal import Piece, pieces, successors
from cluster.store import blocks
from cluster.store.mirror import MirrorStore
from tests.engine.world import FakeSibling, World

BLOCK, RANGE, LARGE = 4 * 2**10, 16 * 2**10, 32 * 2**10
BIG = random.Random(7).randbytes(20 * RANGE + 1234)
PATH = b"iso/big"


@pytest.fixture(autouse=True)
def _shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (steal, blocks):
        monkeypatch.setattr(module, "BLOCK", BLOCK)
    monkeypatch.setattr(steal, "RANGE", RANGE)
    monkeypatch.setattr(steal, "LARGE", LARGE)
    monkeypatch.setattr(gathering, "TICK", 0.01)
    monkeypatch.setattr(beside, "ASK", 0.03)


@pytest.fixture
async def big(world: World) -> World:
    world.memory.put(PATH, BIG)
    return world


def version(world: World) -> tuple[bytes, int, str]:
    return PATH, len(BIG), validator(world.memory.tree()[PATH])


def facts_are(world: World, **facts: object) -> None:
    real = world.memory._facts
    world.memory._facts = lambda node: replace(real(node), **facts)  # type: ignore[method-assign, arg-type]


def reads(world: World) -> int:
    return len(world.memory.asked("read"))


async def test_beside_an_idle_sibling_each_byte_comes_from_the_origin_once_in_ranges(big: World) -> None:
    big.sibling()
    report = await big.run()
    big.equal()
    assert (report.outcome, report.files.origin, report.bytes_origin) == ("complete", 1, len(BIG))
    assert reads(big) == 21
    held = (await big.records())[PATH]
    assert (held.source, held.verified) == ("origin", "origin")
    report = await big.run()
    assert (report.files.unchanged, reads(big)) == (1, 0)


async def test_a_site_without_siblings_streams_it_as_a_whole(big: World) -> None:
    await big.run()
    big.equal()
    assert reads(big) == 1


@pytest.mark.parametrize(
    "how",
    ["strict", "switched off", "small", "no ranges", "no validator", "young", "a validator without end"],
)
async def test_what_cannot_or_must_not_be_shared_by_parts_is_streamed(big: World, how: str) -> None:
    big.sibling()
    match how:
        case "strict":
            big.mirror = replace(big.mirror, sideways=Sideways(trust=Trust.STRICT))
        case "switched off":
            big.mirror = replace(big.mirror, sideways=Sideways(enabled=False))
        case "small":
            big.memory.put(PATH, BIG[:LARGE], mtime=EPOCH + 10**9)
        case "no ranges":
            facts_are(big, ranges=False)
        case "young":
            big.memory.put(PATH, BIG, mtime=int((big.clock.now() + 3600) * 10**9))
        case "no validator":
            facts_are(big, etag=None)
        case _:
            facts_are(big, etag=f'"{"x" * 5000}"')
    report = await big.run()
    big.equal()
    assert (report.outcome, reads(big)) == ("complete", 1)


async def test_what_was_young_when_it_was_listed_is_shared_when_it_is_not_any_more(big: World) -> None:
    sibling = big.sibling()
    big.memory.put(PATH, BIG, mtime=int((big.clock.now() + 3600) * 10**9))
    sibling.grown[version(big)] = [(0, 3 * RANGE)], BIG

    async def before(method: str, path: bytes) -> None:
        if (method, path) == ("listing", b"iso"):
            big.clock.moved += 7200

    big.memory.before = before
    report = await big.run()
    big.equal()
    assert report.bytes_sideways == 3 * RANGE


async def test_what_a_sibling_has_of_it_is_not_asked_of_the_origin(big: World) -> None:
    sibling = big.sibling()
    sibling.grown[version(big)] = [(0, 3 * RANGE), (5 * RANGE, 9 * RANGE)], BIG
    report = await big.run()
    big.equal()
    assert report.bytes_sideways == 7 * RANGE
    assert report.bytes_origin == len(BIG) - 7 * RANGE
    held = (await big.records())[PATH]
    assert (held.source, held.verified) == ("oslo", "parts from origin, oslo")


async def test_what_a_site_that_is_too_slow_has_and_fetches_comes_from_elsewhere(big: World) -> None:
    """Also what had begun to come from there when that turned out."""
    big.mirror = replace(big.mirror, sideways=Sideways(patience=600.0))
    slow, other = big.sibling("oslo"), big.sibling("york")
    other.grown[version(big)] = [(0, 5 * RANGE)], BIG
    slow.grown[version(big)] = [(5 * RANGE, 8 * RANGE)], BIG
    big.claims.heard.begin("oslo")
    claim = Claim(b"big", Row(len(BIG), None, Stamp(EPOCH)), 0, 0.0, True, 9 * RANGE, 20 * RANGE)
    big.claims.heard.claimed("oslo", "deb", b"iso", [claim], big.clock.monotonic())
    real = slow.part

    @asynccontextmanager
    async def part(*asked: object) -> AsyncIterator[object]:
        big.claims.goes("deb", Headway(10**6, 10**8))
        big.claims.heard.goes("oslo", "deb", Headway(10**5, 10**6))
        await asyncio.Event().wait()
        async with real(*asked) as found:  # type: ignore[arg-type]
            yield found

    slow.part = part  # type: ignore[assignment, method-assign]
    report = await big.run()
    big.equal()
    assert (report.outcome, report.bytes_sideways) == ("complete", 5 * RANGE)
    assert report.bytes_origin == len(BIG) - 5 * RANGE


async def test_two_siblings_deliver_side_by_side(big: World) -> None:
    for name in ("oslo", "york"):
        big.sibling(name).grown[version(big)] = [(0, len(BIG))], BIG
    report = await big.run()
    big.equal()
    assert report.bytes_origin == 0
    assert all(sibling.delivered_parts for sibling in big.siblings)


async def test_a_part_of_another_version_is_not_taken(big: World) -> None:
    sibling = big.sibling()
    sibling.grown[PATH, len(BIG), '"another"'] = [(0, len(BIG))], BIG[::-1]
    report = await big.run()
    big.equal()
    assert (report.bytes_sideways, report.bytes_origin) == (0, len(BIG))


async def test_118_blocks_without_their_hashes_are_a_deception_and_come_from_elsewhere(big: World) -> None:
    liar = big.sibling()
    liar.grown[version(big)] = [(0, len(BIG))], BIG
    liar.spoil = True
    report = await big.run()
    big.equal()
    assert report.outcome == "complete" and liar.deceptions
    assert report.bytes_origin == len(BIG)
    assert (await big.records())[PATH].source == "origin"


async def test_a_sibling_that_does_not_deliver_what_it_announced_costs_no_byte(big: World) -> None:
    sibling = big.sibling()
    sibling.grown[version(big)] = [(0, len(BIG))], BIG[: 3 * RANGE]
    report = await asyncio.wait_for(big.run(), 20)
    big.equal()
    assert report.outcome == "complete"


def row(size: int = len(BIG)) -> Row:
    return Row(size, None, Stamp(EPOCH))


def theirs(world: World, *names: str) -> list[Piece]:
    """The pieces that a sibling ranks first for."""
    sites = ["kent", *(sibling.name for sibling in world.siblings)]
    every = pieces(PATH, len(BIG), ranges=True)
    return [piece for piece in every if owner(piece.key, sites) in names]


def claim(world: World, piece: Piece, received: int = 1) -> Claim:
    etag = version(world)[2]
    return Claim(b"big", row(), received, 0.0, True, piece.start, piece.stop, etag)


def busy(world: World, sibling: FakeSibling, every: int = 2) -> list[Piece]:
    """`sibling` works through its pieces, one in so many questions, and claims the one it is at."""
    left = theirs(world, sibling.name)
    all_of_them = list(left)
    runs: list[tuple[int, int]] = []
    sibling.grown[version(world)] = runs, BIG

    async def step() -> None:
        if sibling.asked_parts % every == 0 and left:
            piece = left.pop(0)
            runs.append((piece.start, piece.stop))
            runs.sort()
        sibling.part_claims = [claim(world, piece, sibling.asked_parts) for piece in left]

    sibling.on_parts = step
    return all_of_them


async def test_sites_that_fetch_it_at_once_fetch_each_their_own_and_exchange(big: World) -> None:
    pieces_of_oslo = busy(big, big.sibling())
    assert 5 < len(pieces_of_oslo) < 16
    report = await big.run()
    big.equal()
    assert report.bytes_sideways == sum(piece.size for piece in pieces_of_oslo)
    assert report.bytes_origin == len(BIG) - report.bytes_sideways


async def test_a_claim_that_shows_no_progress_is_taken_over(big: World) -> None:
    big.mirror = replace(big.mirror, sideways=Sideways(patience=0.4))
    sibling = big.sibling()
    sibling.part_claims = [claim(big, piece) for piece in theirs(big, "oslo")]
    began = time.monotonic()
    report = await big.run()
    big.equal()
    assert report.bytes_origin == len(BIG)
    assert 0.4 < time.monotonic() - began < 5


async def test_what_somebody_else_ranks_first_for_is_stolen_from_its_end(big: World) -> None:
    big.sibling()
    order: list[int] = []
    real = big.memory.read

    def read(path: bytes, want: object) -> object:
        order.append(want.start)  # type: ignore[attr-defined]
        return real(path, want)  # type: ignore[arg-type]

    big.memory.read = read  # type: ignore[method-assign, assignment]
    await big.run()
    big.equal()
    stolen = [piece.start for piece in theirs(big, "oslo")]
    ours = [start for start in order if start not in stolen]
    assert order[: len(ours) - 1] == ours[: len(ours) - 1], "own pieces come first"
    assert [start for start in order if start in stolen] == list(reversed(stolen))


@pytest.mark.parametrize("whose", ["kent", "oslo"])
async def test_of_two_that_fetch_the_same_piece_its_owner_goes_on(big: World, whose: str) -> None:
    """The sibling's claim becomes known when ours is under way."""
    sibling = big.sibling()
    ours = [piece for piece in pieces(PATH, len(BIG), ranges=True) if piece not in theirs(big, "oslo")]
    same = theirs(big, "oslo")[-1] if whose == "oslo" else ours[0]
    runs: list[tuple[int, int]] = []
    sibling.grown[version(big)] = runs, BIG
    fetching: list[asyncio.Task[None]] = []

    async def fetch() -> None:
        sibling.part_claims = [claim(big, same, received=5)]
        await asyncio.sleep(0.3)
        sibling.part_claims = []
        runs.append((same.start, same.stop))

    real = big.memory.read

    @asynccontextmanager
    async def read(path: bytes, want: Want) -> AsyncIterator[Body]:
        if want.start == same.start and not fetching:
            fetching.append(asyncio.create_task(fetch()))
            await asyncio.sleep(0.2)
        async with real(path, want) as body:
            yield body

    big.memory.read = read  # type: ignore[method-assign, assignment]
    report = await big.run()
    big.equal()
    await fetching[0]
    assert report.bytes_sideways == (same.size if whose == "oslo" else 0)
    assert report.bytes_origin == len(BIG) - report.bytes_sideways


async def test_what_is_on_its_way_to_a_sibling_is_read_as_far_as_it_is_there(big: World) -> None:
    """It dies before any of its pieces is complete, and what it had of them is not fetched again."""
    sibling = big.sibling()
    pieces_of_oslo = theirs(big, "oslo")
    begun = [(piece.start, min(piece.start + 3 * BLOCK, piece.stop)) for piece in pieces_of_oslo]
    sibling.grown[version(big)] = begun, BIG
    sibling.part_claims = [claim(big, piece, 3 * BLOCK) for piece in pieces_of_oslo]

    async def step() -> None:
        if len(sibling.delivered_parts) >= len(pieces_of_oslo):
            sibling.up = False

    sibling.on_parts = step
    report = await big.run()
    big.equal()
    there = sum(stop - start for start, stop in begun)
    assert (report.bytes_sideways, report.bytes_origin) == (there, len(BIG) - there)
    assert not sibling.deceptions


async def test_a_sibling_that_falls_silent_is_done_without(big: World) -> None:
    sibling = big.sibling()
    busy(big, sibling)
    step = sibling.on_parts

    async def dies() -> None:
        assert step is not None
        await step()
        if sibling.asked_parts > 6:
            sibling.up = False
            sibling.grown.clear()

    sibling.on_parts = dies
    report = await big.run()
    big.equal()
    assert report.outcome == "complete"
    assert report.bytes_sideways + report.bytes_origin == len(BIG)


async def test_a_body_that_breaks_off_goes_on_after_its_last_whole_block(big: World) -> None:
    big.sibling()
    first = next(piece for piece in pieces(PATH, len(BIG), ranges=True) if piece not in theirs(big, "oslo"))
    big.memory.truncate(PATH, first.start + 3 * BLOCK + 5)
    report = await big.run()
    big.equal()
    assert (report.outcome, report.bytes_origin) == ("complete", len(BIG) + 5)


def refuse_after(world: World, *, reads: int) -> None:
    """The origin answers so many requests for bodies, and refuses all that follow."""
    count = 0

    async def before(method: str, path: bytes) -> None:
        nonlocal count
        count += method == "read"
        if count > reads and method == "read":
            raise Refused("iso/big", "no more")

    world.memory.before = before


async def test_what_an_origin_that_failed_has_sent_is_kept_for_the_next_pass(big: World) -> None:
    big.sibling()
    refuse_after(big, reads=8)
    big.partials = 1
    report = await big.run()
    assert (report.outcome, report.files.failed) == ("incomplete", 1)
    big.memory.before = None
    have = await kept(big)
    big.partials = 0
    report = await big.run()
    big.equal()
    assert have >= 6 * RANGE and report.bytes_origin == len(BIG) - have


async def test_the_parts_of_a_file_that_the_origin_has_moved_go_with_the_next_complete_pass(
    big: World,
) -> None:
    big.sibling()
    refuse_after(big, reads=8)
    big.partials = 1
    assert (await big.run()).outcome == "incomplete"
    assert await kept(big)
    big.memory.before = None
    big.memory.remove(PATH)
    big.partials = 0
    assert (await big.run()).outcome == "complete"
    big.equal()


async def test_the_rest_of_a_piece_may_come_from_a_sibling(big: World) -> None:
    sibling = big.sibling()
    first = next(piece for piece in pieces(PATH, len(BIG), ranges=True) if piece not in theirs(big, "oslo"))
    big.mirror = replace(big.mirror, limits=Limits(connections=1, retries=1))
    big.memory.truncate(PATH, first.start + 3 * BLOCK + 5)
    big.partials = 1
    assert (await big.run()).outcome == "incomplete"
    assert await kept(big) == 3 * BLOCK
    sibling.grown[version(big)] = [(0, len(BIG))], BIG
    big.partials = 0
    report = await big.run()
    big.equal()
    assert (report.bytes_origin, report.bytes_sideways) == (0, len(BIG) - 3 * BLOCK)


async def test_a_range_whose_claim_has_ended_is_asked_about_before_it_is_fetched(big: World) -> None:
    """The answer takes a while: until it is here, nobody knows that the range is at the sibling."""
    sibling, heard = big.sibling(), big.claims.heard
    ours = [piece for piece in pieces(PATH, len(BIG), ranges=True) if piece not in theirs(big, "oslo")]
    left = ours[len(ours) // 2 :]  # stolen from us
    size = sum(piece.size for piece in left)
    runs: list[tuple[int, int]] = []
    sibling.grown[version(big)] = runs, BIG
    heard.begin("oslo")

    def say() -> None:
        told = [claim(big, piece, 10 - len(runs) % 10) for piece in left]
        heard.claimed("oslo", "deb", b"iso", told, time.monotonic())

    async def fetch() -> None:
        while left:
            await asyncio.sleep(0.05)
            piece = left.pop()
            runs.append((piece.start, piece.stop))
            runs.sort()
            heard.released("oslo", "deb", b"iso", [(b"big", piece.start)])
            say()

    async def slowly() -> None:
        told = list(runs)
        await asyncio.sleep(0.1)
        sibling.grown[version(big)] = told, BIG

    say()
    heard.whole("oslo")
    sibling.on_parts = slowly
    fetching = asyncio.create_task(fetch())
    report = await big.run()
    big.equal()
    await fetching
    assert report.bytes_sideways == size


async def kept(world: World) -> int:
    """Bytes that the records say are here."""
    async with opened(world) as store:
        growing = await store.beginnings.grow(PATH, len(BIG), version(world)[2])
        size = sum(end - first for first, end in growing.runs())
        await growing.keep()
    return size


@asynccontextmanager
async def opened(world: World) -> AsyncIterator[MirrorStore]:
    store = await MirrorStore.open(world.mirror, world.site, int(world.clock.now()))
    try:
        yield store
    finally:
        await store.close()


async def test_what_a_lone_site_had_begun_to_stream_is_gone_on_with_by_parts(big: World) -> None:
    big.memory.truncate(PATH, 7 * RANGE + 5)
    big.mirror = replace(big.mirror, limits=Limits(connections=4, retries=1))
    big.partials = 1
    assert (await big.run()).outcome == "incomplete"
    big.sibling()
    big.partials = 0
    report = await big.run()
    big.equal()
    assert report.bytes_origin == len(BIG) - 7 * RANGE


@pytest.mark.parametrize("alone", [False, True])
async def test_a_pass_that_was_cut_off_goes_on_from_the_parts_that_are_here(big: World, alone: bool) -> None:
    big.sibling()
    big.partials = 1
    await big.cut(9)
    have = await kept(big)
    assert have >= 5 * RANGE
    if alone:
        big.siblings.clear()
    report = await big.run()
    big.partials = 0
    big.equal()
    await big.check()
    assert report.bytes_origin == len(BIG) - have


async def test_a_part_that_was_damaged_on_disk_is_fetched_again(big: World) -> None:
    big.sibling()
    big.partials = 1
    await big.cut(9)
    have = await kept(big)
    (temporary,) = Path(big.site.data, ".sideways/tmp/deb").iterdir()
    content = bytearray(temporary.read_bytes())
    place = next(at for at in range(0, len(content), BLOCK) if any(content[at : at + BLOCK]))
    content[place] ^= 1
    temporary.write_bytes(content)
    report = await big.run()
    big.equal()
    assert report.bytes_origin == len(BIG) - have + RANGE, "one piece, from the damaged block on"


async def test_parts_of_a_version_that_is_gone_are_forgotten(big: World) -> None:
    big.sibling()
    big.partials = 1
    await big.cut(9)
    big.memory.update(PATH, BIG[::-1])
    big.partials = 0
    report = await big.run()
    assert (report.outcome, report.bytes_origin) == ("complete", len(BIG))
    assert big.bodies()[PATH] == BIG[::-1]


async def test_a_version_that_changes_while_its_parts_come_is_never_mixed(big: World) -> None:
    """The directory is listed once more, and the new version fetched; none of the old one is in it."""
    big.sibling()
    count = 0

    async def before(method: str, path: bytes) -> None:
        nonlocal count
        count += method == "read"
        if count == 8 and method == "read":
            count += 1
            big.memory.update(PATH, BIG[::-1])

    big.memory.before = before
    report = await big.run()
    big.memory.before = None
    if report.outcome != "complete":
        report = await big.run()
    assert report.outcome == "complete"
    assert big.bodies()[PATH] == BIG[::-1]


async def test_a_longer_version_that_takes_its_place_is_fetched_by_parts_as_well(big: World) -> None:
    """Whoever asked for all of what was listed would be sent all of something else."""
    big.sibling()
    longer, count, real = BIG[::-1] + b"more", 0, big.memory.read
    wants: list[Want] = []

    def read(path: bytes, want: Want) -> AbstractAsyncContextManager[Body]:
        wants.append(want)
        return real(path, want)

    async def before(method: str, path: bytes) -> None:
        nonlocal count
        count += method == "read"
        if count == 8 and method == "read":
            count += 1
            big.memory.update(PATH, longer)

    big.memory.read = read  # type: ignore[method-assign, assignment]
    big.memory.before = before
    report = await big.run()
    assert (report.outcome, big.bodies()[PATH]) == ("complete", longer)
    assert all(want.stop is not None for want in wants)


async def test_an_origin_that_names_versions_and_sends_no_parts_of_them_is_streamed(big: World) -> None:
    """A farm of servers whose validators differ: nothing that is asked for by parts is answered so."""
    big.sibling()
    real = big.memory._facts
    number = 0

    def facts(node: object) -> Facts:
        nonlocal number
        number += 1
        return replace(real(node), etag=f'"server {number}"')  # type: ignore[arg-type]

    big.memory._facts = facts  # type: ignore[method-assign, assignment]
    report = await big.run()
    big.equal()
    assert (report.outcome, report.files.origin) == ("complete", 1)


async def test_an_origin_that_does_not_answer_costs_this_file_only(big: World) -> None:
    big.sibling()
    big.memory.put(b"iso/small", b"small")
    big.memory.fail("facts", PATH, Unreachable, times=9)
    report = await big.run()
    assert (report.outcome, report.files.failed, report.files.origin) == ("incomplete", 1, 1)


async def test_many_large_files_at_once(world: World) -> None:
    chance = random.Random(3)
    for i in range(12):
        world.memory.put(b"iso/%d" % i, chance.randbytes(LARGE + 100 * i + 1))
    world.sibling()
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin) == ("complete", 12)


@pytest.mark.parametrize("files", [1, 2])
async def test_few_pieces_are_on_their_way_from_the_origin_at_once(world: World, files: int) -> None:
    for number in range(files):
        world.memory.put(b"iso/%d" % number, BIG)
    world.sibling()
    most = 0

    async def before(method: str, path: bytes) -> None:
        nonlocal most
        if method == "chunk":
            claims = world.claims.within("deb", b"iso", 0.0)
            if len({claim.name for claim in claims}) == files:
                most = max(most, len(claims))
            await asyncio.sleep(0.01)

    world.memory.before = before
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"
    assert 2 <= most <= 1 + files, "the first of two may have begun two before the other was there"


async def test_no_more_is_fetched_than_siblings_copy(big: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is here and nowhere else would be lost with this site."""
    for limit in ("IDLE", "COPYING"):
        monkeypatch.setattr(arriving, limit, 1e9)
    spread, begun, most = big.claims.arriving.spread("deb"), list[int](), 0
    big.sibling()

    async def before(method: str, path: bytes) -> None:
        if method == "read":
            begun.append(len(begun))

    async def copy() -> None:
        """A sibling that reads one range after the other."""
        nonlocal most
        spread.copied(PATH, 0, 0, time.monotonic())
        copied = 0
        while True:
            await asyncio.sleep(0.03)
            most = max(most, len(begun) - copied)
            if waiting := spread._alone.get(PATH):
                first = min(waiting)
                spread.copied(PATH, first, waiting[first], time.monotonic())
                copied += 1

    big.memory.before = before
    copying = asyncio.create_task(copy())
    report = await big.run()
    copying.cancel()
    big.equal()
    assert (report.outcome, len(begun)) == ("complete", 21)
    assert most <= gathering.UNCOPIED


@pytest.mark.parametrize("first", ["kent", "oslo"])
async def test_of_two_to_whom_the_origin_names_a_version_differently_one_waits_for_the_other(
    world: World, first: str
) -> None:
    """Servers behind one name, each with validators of its own: the sites cannot exchange parts."""
    path = next(b"iso/%d" % i for i in range(99) if owner(b"iso/%d" % i, ["kent", "oslo"]) == first)
    world.memory.put(path, BIG)
    sibling = world.sibling()
    left = 12

    async def fetching() -> None:
        nonlocal left
        left -= 1
        sibling.part_claims = (
            [Claim(path[4:], row(), 50 - left, first=0, end=RANGE, etag='"other"')] if left > 0 else []
        )
        sibling.claims = {path: sibling.part_claims[0]} if left > 0 else {}
        if left == 0:
            sibling.hold(path, BIG)

    sibling.on_parts = fetching
    real = sibling.offered

    async def offered(*asked: object, **within: object) -> object:
        await fetching()
        return await real(*asked, **within)  # type: ignore[arg-type]

    sibling.offered = offered  # type: ignore[method-assign, assignment]
    told = sibling.bundle

    async def bundle(*asked: object) -> AsyncIterator[object]:
        await fetching()
        async for one in told(*asked):  # type: ignore[arg-type]
            yield one

    sibling.bundle = bundle  # type: ignore[method-assign, assignment]
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"
    if first == "kent":
        assert report.bytes_origin == len(BIG)
    else:
        assert report.bytes_origin <= 2 * RANGE and report.files.sideways == 1
        assert len(world.memory.asked("facts")) == 1


@pytest.mark.parametrize("older", [len(BIG) - 1, len(BIG) + RANGE])
async def test_who_still_fetches_the_version_before_makes_nobody_fetch_all_of_the_new_one(
    world: World, older: int
) -> None:
    """The file changed at the origin while a sibling that ranks before us was at its parts."""
    path = next(b"iso/%d" % i for i in range(99) if owner(b"iso/%d" % i, ["kent", "oslo"]) == "oslo")
    world.memory.put(path, BIG)
    sibling = world.sibling()
    came = 0

    async def fetching() -> None:
        nonlocal came
        came += 1
        stale = Claim(path[4:], row(older), came, first=0, end=RANGE, etag='"before"')
        sibling.part_claims, sibling.claims = [stale], {path: stale}

    wants: list[Want] = []
    real = world.memory.read

    def read(path: bytes, want: Want) -> AbstractAsyncContextManager[Body]:
        wants.append(want)
        return real(path, want)

    sibling.on_parts = fetching
    world.memory.read = read  # type: ignore[method-assign, assignment]
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin) == ("complete", len(BIG))
    assert all(want.stop is not None for want in wants)


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("passing", [True, False])
async def test_a_file_of_medium_size_comes_in_blocks_while_a_sibling_works_on_the_mirror(
    world: World, monkeypatch: pytest.MonkeyPatch, passing: bool, parts: bool
) -> None:
    """And else as a whole, also where the origin sends no parts: never in a chain."""
    monkeypatch.setattr(steal, "LARGE", RANGE)
    medium = BIG[: 2 * RANGE]
    world.memory.put(PATH, medium)
    if not parts:
        facts_are(world, ranges=False)
    sibling = world.sibling()
    if passing:
        world.claims.heard.begin(sibling.name)
        world.claims.heard.claimed(sibling.name, "deb", b"far", [Claim(b"away", row(5), 1)], 0.0)
    wants: list[Want] = []
    real = world.memory.read

    def read(path: bytes, want: Want) -> AbstractAsyncContextManager[Body]:
        wants.append(want)
        return real(path, want)

    world.memory.read = read  # type: ignore[method-assign, assignment]
    report = await world.run()
    world.equal()
    assert (report.outcome, report.bytes_origin) == ("complete", len(medium))
    sizes = [(want.stop or len(medium)) - want.start for want in wants]
    assert sizes == ([BLOCK] * 8 if passing and parts else [len(medium)])


async def test_what_has_not_begun_may_wait_in_line_for_longer_than_patience(big: World) -> None:
    big.mirror = replace(big.mirror, sideways=Sideways(patience=0.3))
    sibling, began = big.sibling(), time.monotonic()
    waiting = theirs(big, "oslo")
    runs: list[tuple[int, int]] = []
    sibling.grown[version(big)] = runs, BIG

    async def step() -> None:
        sibling.part_claims = [claim(big, piece, received=0) for piece in waiting]
        if time.monotonic() - began > 1.2:
            runs.extend((piece.start, piece.stop) for piece in waiting)
            waiting.clear()

    sibling.on_parts = step
    report = await big.run()
    big.equal()
    assert report.bytes_sideways == sum(piece.size for piece in theirs(big, "oslo"))


async def test_132_a_sibling_that_goes_on_claiming_and_hardly_receives_is_not_waited_for(
    big: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "WINDOW", 0.3)
    sibling = big.sibling()

    async def step() -> None:
        sibling.part_claims = [claim(big, piece, sibling.asked_parts) for piece in theirs(big, "oslo")]

    sibling.on_parts = step
    report = await asyncio.wait_for(big.run(), 20)
    big.equal()
    assert (report.bytes_sideways, report.bytes_origin) == (0, len(BIG))


@pytest.mark.parametrize("heir", [True, False])
async def test_what_a_slow_sibling_would_be_long_busy_with_is_fetched_by_one_of_the_others(
    big: World, monkeypatch: pytest.MonkeyPatch, heir: bool
) -> None:
    """It goes on all the time, and is far from lost. Where we are not the heir, that one has it at last."""
    monkeypatch.setattr(beside, "WINDOW", 3600.0)
    monkeypatch.setattr(beside, "LOOK", 0.2)
    monkeypatch.setattr(steal, "HURRY", 0.5)
    big.mirror = replace(big.mirror, sideways=Sideways(patience=600.0))
    slow, other = big.sibling("oslo"), big.sibling("york")
    every = theirs(big, "oslo")
    ranked = {p: successors(p, "oslo", ["kent", "oslo", "york"])[0] for p in every}
    piece = next(p for p in every if ranked[p] == ("kent" if heir else "york"))

    async def step() -> None:
        slow.part_claims = [claim(big, piece, slow.asked_parts)]

    async def has() -> None:
        if other.asked_parts > 60:
            other.grown[version(big)] = [(piece.start, piece.stop)], BIG

    slow.on_parts = step
    if not heir:
        other.on_parts = has
    report = await big.run()
    big.equal()
    assert report.bytes_sideways == (0 if heir else piece.size)
    assert report.bytes_origin == len(BIG) - report.bytes_sideways


async def test_a_claim_is_renewed_while_the_origin_sends_other_things(big: World) -> None:
    big.mirror = replace(big.mirror, sideways=Sideways(patience=0.9))
    big.sibling()
    idle: list[float] = []
    stuck = 0

    async def before(method: str, path: bytes) -> None:
        nonlocal stuck
        if method != "read":
            return
        stuck += 1
        if stuck == 2:
            for _ in range(70):
                await asyncio.sleep(0.02)
                claims = big.claims.within("deb", b"iso", time.monotonic())
                idle.append(max((one.idle for one in claims if one.received == 0), default=0.0))
        else:
            await asyncio.sleep(0.1)

    big.memory.before = before
    await big.run()
    big.equal()
    assert 0 < max(idle) < 0.9, idle
