"""Listings that a sibling had a moment ago: what they save, and what they never decide."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cluster.engine import listings, patience
from cluster.errors import Unreachable
from cluster.model import Listing, Sideways, Trust, join
from cluster.peer import listingwire
from cluster.peer.client import Relayed
from cluster.peer.walkwire import MAX_ROWS, Known, Listed, Walk, Word
from cluster.plan.order import owner
from cluster.store.mirror import Reader
from tests.engine.world import FakeSibling, World

ORIGIN = "memory://origin/"
RESTING = Walk("deb", 1)
WALKING = Walk("deb", 1, ORIGIN, shares=True)


class Lined:
    """A sibling at the other end of a line, which has `listings` (by path, and how many s old they are) and
    says of them what our walk wants to know."""

    def __init__(self, world: World, name: str = "oslo", walk: Walk = RESTING) -> None:
        self.world, self.sibling, self.walk = world, world.sibling(name), walk
        self.listings: dict[bytes, tuple[Listing, float]] = {}
        self.rows = True  # are told, not only tokens
        self.whole = True  # it tells all that it has
        self.mute = False
        self.heard: list[Walk] = []
        self.on_walk: Callable[[], None] = lambda: None
        self.says(walk)

    @property
    def now(self) -> float:
        return self.world.clock.monotonic()

    def says(self, walk: Walk) -> None:
        self.walk = walk
        self.world.listings.elsewhere.walk(self.sibling.name, walk, self.now)

    def tells(self, *words: Word) -> None:
        self.world.listings.elsewhere.listed(
            self.sibling.name, Listed("deb", self.heard[-1].origin, words), self.now
        )

    def word(self, path: bytes) -> Word:
        listing, age = self.listings[path]
        rows = listingwire.packed(listing) or b""
        short = self.rows and len(rows) <= MAX_ROWS
        return Word(path, int(age * 1000), listing.token, rows if short else b"")

    def hears(self, walk: Walk) -> None:
        self.heard.append(walk)
        if walk.origin and not self.mute:
            self.tells(*(self.word(path) for path, told in self.listings.items() if self._wanted(told[1])))
            known = Known("deb", walk.number, self.whole)
            self.world.listings.elsewhere.known(self.sibling.name, known)
        self.on_walk()

    def _wanted(self, age: float) -> bool:
        return self.whole and age <= self.heard[-1].age / 1000


class Lines:
    """What this site says goes to all of them."""

    def __init__(self, world: World) -> None:
        self.world, self.others = world, list[Lined]()
        self.told: list[bytes] = []
        world.listings.listen(self._soon)

    def _soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        changes = self.world.listings.changes()
        self.told += changes.listed.get("deb", {})
        for other in self.others if changes.walks else ():
            other.hears(self.world.listings.own("deb", self.world.clock.monotonic()))


@pytest.fixture
def relaying(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(patience, "SILENT", 0.4)
    world.mirror = replace(world.mirror, sideways=Sideways(listings=300.0))
    chance = random.Random(3)
    for i in range(60):
        world.memory.put(b"pool/%02d/file" % (i % 20), chance.randbytes(100 + i))
    return world


@pytest.fixture
def endless(relaying: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sibling is given up for its silence."""
    monkeypatch.setattr(patience, "SILENT", 1e6)
    monkeypatch.setattr(patience, "LONGEST", 1e6)


@pytest.fixture
def lines(relaying: World) -> Lines:
    return Lines(relaying)


@pytest.fixture
def oslo(lines: Lines) -> Lined:
    lines.others.append(Lined(lines.world))
    return lines.others[0]


async def walked(world: World, oslo: Lined, age: float = 10.0) -> None:
    """The sibling has just been through: it holds everything, and every listing."""
    sibling: FakeSibling = oslo.sibling
    sibling.hold_all(world.memory)
    todo = [b""]
    while todo:
        directory = todo.pop()
        oslo.listings[directory] = sibling.listings[directory] = await world.memory.listing(directory), age
        todo += [
            join(directory, e.name)
            for e in oslo.listings[directory][0].entries
            if e.kind.value == "directory"
        ]
    world.memory.requests.clear()


def ranked_first(oslo: Lined) -> set[bytes]:
    return {path for path in oslo.listings if owner(path, ["kent", "oslo"]) == "oslo"}


async def test_a_sibling_that_was_just_there_saves_the_origin_every_listing(
    relaying: World, oslo: Lined
) -> None:
    await walked(relaying, oslo)
    report = await relaying.run()
    relaying.equal()
    assert (report.outcome, report.files.sideways) == ("complete", 20)
    assert relaying.memory.asked("listing") == []
    assert not oslo.sibling.asked_listings


@pytest.mark.parametrize(
    "sideways", [Sideways(), Sideways(trust=Trust.STRICT, listings=300.0)], ids=["no word", "strict"]
)
async def test_where_the_descriptor_does_not_allow_it_the_origin_is_asked(
    relaying: World, oslo: Lined, sideways: Sideways
) -> None:
    relaying.mirror = replace(relaying.mirror, sideways=sideways)
    await walked(relaying, oslo)
    await relaying.run()
    assert len(relaying.memory.asked("listing")) == 22
    assert not oslo.heard


async def test_a_listing_that_is_older_than_allowed_is_not_taken(relaying: World, oslo: Lined) -> None:
    await walked(relaying, oslo, age=301.0)
    oslo.on_walk = lambda: oslo.tells(*map(oslo.word, oslo.listings))  # whatever was wanted
    await relaying.run()
    relaying.equal()
    assert len(relaying.memory.asked("listing")) == 22


async def test_a_listing_from_before_our_own_comparison_is_not_taken(relaying: World, oslo: Lined) -> None:
    await walked(relaying, oslo, age=0.0)
    await relaying.run()
    before = {path: (listing, 60.0) for path, (listing, _) in oslo.listings.items()}
    relaying.memory.update(b"pool/03/file", b"newer than what the sibling was told")
    await walked(relaying, oslo, age=0.0)
    await relaying.run()
    oslo.listings = before
    oslo.on_walk = lambda: oslo.tells(*map(oslo.word, oslo.listings))
    await relaying.run()
    relaying.equal()
    assert len(relaying.memory.asked("listing")) == 22


async def test_what_a_siblings_listing_lacks_is_looked_for_at_the_origin_itself(
    relaying: World, oslo: Lined
) -> None:
    await relaying.run()
    await walked(relaying, oslo, age=0.0)
    oslo.listings[b"pool/03"] = (Listing((), token=b"another"), 0.0)
    report = await relaying.run()
    assert (report.outcome, report.files.deleted) == ("complete", 0)
    assert relaying.memory.asked("listing") == [b"pool/03"]
    relaying.memory.remove(b"pool/03/file")
    await walked(relaying, oslo, age=0.0)
    report = await relaying.run()
    assert report.files.deleted == 1
    relaying.equal()


async def test_what_is_not_as_a_sibling_listed_it_is_listed_by_the_origin(
    relaying: World, oslo: Lined
) -> None:
    await walked(relaying, oslo)
    oslo.sibling.files.clear()
    relaying.memory.update(b"pool/07/file", b"newer than the sibling's listing")
    report = await relaying.run()
    relaying.equal()
    assert report.outcome == "complete"
    assert b"pool/07" in relaying.memory.asked("listing")


async def test_a_name_that_a_sibling_made_up_comes_to_nothing(relaying: World, oslo: Lined) -> None:
    await walked(relaying, oslo)
    listing, age = oslo.listings[b"pool/05"]
    (entry,) = listing.entries
    made_up = replace(entry, name=b"made-up")
    oslo.listings[b"pool/05"] = (replace(listing, entries=(entry, made_up)), age)
    report = await relaying.run()
    relaying.equal()
    assert report.outcome == "complete"


@pytest.mark.parametrize("told", ["nothing", "empty", "a file", "a directory"])
async def test_a_directory_that_a_sibling_made_up_goes_again(relaying: World, oslo: Lined, told: str) -> None:
    """Whatever it says is in it, the origin is asked in the end, and then what else there is above it."""
    await walked(relaying, oslo)
    listing, age = oslo.listings[b"pool"]
    folder = replace(listing.entries[0], name=b"made-up")
    oslo.listings[b"pool"] = (replace(listing, entries=(folder, *listing.entries), token=b"lie"), age)
    (file,) = oslo.listings[b"pool/05"][0].entries
    below = {"empty": (), "a file": (file,), "a directory": (folder,)}
    if told in below:
        oslo.listings[b"pool/made-up"] = (Listing(below[told], token=b"more"), age)
    report = await relaying.run()
    assert (report.outcome, report.files.failed) == ("complete", 0), report.errors
    relaying.equal()


async def test_rows_that_are_none_are_asked_for(relaying: World, oslo: Lined) -> None:
    await walked(relaying, oslo)
    oslo.on_walk = lambda: oslo.tells(Word(b"pool/05", 10, b"token", b"\x00junk"))
    del oslo.listings[b"pool/05"], oslo.sibling.listings[b"pool/05"]
    await relaying.run()
    relaying.equal()
    assert relaying.memory.asked("listing") == [b"pool/05"]


async def test_a_pass_is_as_old_as_the_oldest_listing_in_it(relaying: World, oslo: Lined) -> None:
    await walked(relaying, oslo, age=200.0)
    before = relaying.clock.now()
    report = await relaying.run()
    reader = await Reader.open("deb", relaying.site)
    (only,) = await reader.passes(5)
    await reader.close()
    assert before - 202 <= only.started <= before - 198 + report.seconds


async def test_what_was_listed_before_the_news_is_of_no_use(relaying: World, oslo: Lined) -> None:
    await walked(relaying, oslo, age=10.0)
    oslo.on_walk = lambda: oslo.tells(*map(oslo.word, oslo.listings))
    await relaying.run(news=relaying.clock.now() - 5)
    assert len(relaying.memory.asked("listing")) == 22


async def test_what_was_listed_after_the_news_is(relaying: World, oslo: Lined) -> None:
    await walked(relaying, oslo, age=10.0)
    await relaying.run(news=relaying.clock.now() - 15)
    assert relaying.memory.asked("listing") == []


async def test_a_listing_that_is_known_by_its_token_is_not_sent_again(relaying: World, oslo: Lined) -> None:
    await relaying.run()
    await walked(relaying, oslo, age=0.0)
    oslo.rows = False
    again = await relaying.run()
    assert again.files.unchanged == 20
    assert relaying.memory.asked("listing") == []
    assert not oslo.sibling.asked_listings


@pytest.mark.parametrize("whole", [True, False], ids=["told without rows", "not told for its length"])
async def test_what_is_not_told_whole_is_asked_for(relaying: World, oslo: Lined, whole: bool) -> None:
    await walked(relaying, oslo)
    oslo.rows, oslo.whole = False, whole
    await relaying.run()
    relaying.equal()
    assert relaying.memory.asked("listing") == []
    assert sorted(oslo.sibling.asked_listings) == sorted(oslo.listings)


async def test_of_two_that_walk_at_once_each_waits_for_what_the_other_ranks_first_for(
    relaying: World, oslo: Lined
) -> None:
    await walked(relaying, oslo, age=0.0)
    theirs, known = ranked_first(oslo), oslo.listings
    oslo.listings = {}

    async def lists() -> None:
        for path in known:
            await asyncio.sleep(0.001)
            if path in theirs:
                oslo.listings[path] = known[path]
                oslo.tells(oslo.word(path))

    oslo.says(WALKING)
    oslo.on_walk = lambda: tasks.append(asyncio.ensure_future(lists())) if len(oslo.heard) == 1 else None
    tasks: list[asyncio.Future[None]] = []
    await relaying.run()
    await asyncio.gather(*tasks)
    assert set(relaying.memory.asked("listing")) == known.keys() - theirs


async def test_a_sibling_that_says_nothing_more_is_waited_for_once(relaying: World, oslo: Lined) -> None:
    oslo.says(WALKING)
    report = await relaying.run()
    relaying.equal()
    assert report.seconds >= 0.4
    assert len(relaying.memory.asked("listing")) == 22


async def test_a_sibling_that_goes_on_and_lists_nothing_is_left_its_share_for_longer(
    relaying: World, oslo: Lined
) -> None:
    async def signs() -> None:
        while True:
            await asyncio.sleep(0.05)
            oslo.tells()

    oslo.says(WALKING)
    tasks: list[asyncio.Future[None]] = []
    oslo.on_walk = lambda: tasks.append(asyncio.ensure_future(signs())) if not tasks else None
    report = await relaying.run()
    tasks[0].cancel()
    relaying.equal()
    assert report.seconds >= 1.2
    assert len(relaying.memory.asked("listing")) == 22


async def test_a_sibling_that_says_without_end_that_it_asks_is_not_believed_for_ever(
    relaying: World, oslo: Lined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "ASKING", 0.5)
    every = [b"", b"pool", *(b"pool/%02d" % number for number in range(20))]

    async def repeats() -> None:
        while True:
            oslo.tells(*(Word(path, None, b"", b"") for path in every))
            await asyncio.sleep(0.05)

    oslo.says(WALKING)
    tasks: list[asyncio.Future[None]] = []
    oslo.on_walk = lambda: tasks.append(asyncio.ensure_future(repeats())) if not tasks else None
    report = await relaying.run()
    tasks[0].cancel()
    relaying.equal()
    assert report.outcome == "complete"
    assert len(relaying.memory.asked("listing")) == 22


async def test_a_sibling_that_answers_slowly_is_not_asked_for_every_listing(
    relaying: World, oslo: Lined, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        relaying.memory.put(b"many/%03d/file" % number, b"x%d" % number)
    await walked(relaying, oslo)
    oslo.rows, real = False, oslo.sibling.listing

    async def listing(*question: Any) -> Relayed:
        relaying.clock.moved += patience.ANSWER - 0.1
        return replace(await real(*question), listing=None)

    monkeypatch.setattr(oslo.sibling, "listing", listing)
    report = await relaying.run()
    relaying.equal()
    assert report.outcome == "complete"
    assert len(oslo.sibling.asked_listings) < 40


async def test_a_sibling_that_never_answers_costs_a_moment(relaying: World, oslo: Lined) -> None:
    oslo.mute = True
    report = await relaying.run()
    relaying.equal()
    assert report.seconds >= 0.4
    assert (report.outcome, len(relaying.memory.asked("listing"))) == ("complete", 22)


@pytest.mark.parametrize("ends", ["line", "pass"])
@pytest.mark.usefixtures("endless")
async def test_nobody_waits_for_a_sibling_that_has_left(relaying: World, oslo: Lined, ends: str) -> None:
    oslo.says(WALKING)
    elsewhere = relaying.listings.elsewhere

    def leaves() -> None:
        if ends == "line":
            elsewhere.gone("oslo")
        else:
            oslo.says(Walk("deb", 2))

    oslo.on_walk = lambda: (asyncio.get_running_loop().call_later(0.05, leaves), None)[1]
    await relaying.run()
    relaying.equal()
    assert len(relaying.memory.asked("listing")) == 22


@pytest.mark.usefixtures("endless")
async def test_nobody_waits_for_a_sibling_that_goes_on_with_part_of_a_pass(
    relaying: World, oslo: Lined
) -> None:
    oslo.says(replace(WALKING, shares=False))
    await relaying.run()
    assert len(relaying.memory.asked("listing")) == 22


@pytest.mark.usefixtures("endless")
async def test_what_a_sibling_could_not_list_either_is_asked_for(relaying: World, oslo: Lined) -> None:
    await walked(relaying, oslo, age=0.0)
    failed = ranked_first(oslo)
    oslo.listings = {path: told for path, told in oslo.listings.items() if path not in failed}
    oslo.says(WALKING)
    oslo.on_walk = lambda: oslo.tells(*(Word(path, 0) for path in failed))
    await relaying.run()
    relaying.equal()
    assert set(relaying.memory.asked("listing")) == failed


async def test_what_a_sibling_is_asking_for_is_not_asked_for_again(relaying: World, oslo: Lined) -> None:
    await walked(relaying, oslo, age=0.0)
    oslo.says(WALKING)
    late = {path: oslo.listings.pop(path) for path in [*oslo.listings][5:9]}

    def answered() -> None:
        oslo.listings |= late
        oslo.tells(*map(oslo.word, late))

    def asks() -> None:
        oslo.tells(*map(Word, late))
        asyncio.get_running_loop().call_later(0.1, answered)

    oslo.on_walk = lambda: asks() if len(oslo.heard) == 1 else None
    await relaying.run()
    relaying.equal()
    assert relaying.memory.asked("listing") == []


@pytest.mark.usefixtures("endless")
async def test_an_origin_that_never_answers_a_sibling_is_asked_in_the_end(
    relaying: World, oslo: Lined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "ASKING", 0.3)
    await walked(relaying, oslo, age=0.0)
    oslo.says(WALKING)
    del oslo.listings[b"pool/05"]
    oslo.on_walk = lambda: oslo.tells(Word(b"pool/05"))
    report = await relaying.run()
    relaying.equal()
    assert report.seconds >= 0.3
    assert relaying.memory.asked("listing") == [b"pool/05"]


async def test_a_sibling_that_begins_after_us_is_left_its_share(relaying: World, oslo: Lined) -> None:
    await walked(relaying, oslo, age=0.0)
    known, oslo.listings = oslo.listings, {}
    theirs = ranked_first(oslo)

    async def before(what: str, path: bytes) -> None:
        if (what, path) == ("listing", b"pool"):
            oslo.says(WALKING)
            oslo.listings = {path: known[path] for path in known if owner(path, ["kent", "oslo"]) == "oslo"}
            oslo.tells(*map(oslo.word, oslo.listings))

    relaying.memory.before = before
    await relaying.run()
    relaying.equal()
    assert not (theirs - {b"", b"pool"}) & set(relaying.memory.asked("listing"))


async def test_a_pass_over_part_of_it_asks_for_where_it_begins_at_once(relaying: World, oslo: Lined) -> None:
    await relaying.run()
    await walked(relaying, oslo, age=0.0)
    oslo.mute = True
    await relaying.run(scope=b"pool/03")
    assert relaying.memory.asked("listing") == [b"pool/03"]
    assert oslo.heard[-2].scope == b"pool/03"


async def test_what_the_origin_told_is_told_to_siblings_that_walk(
    relaying: World, lines: Lines, oslo: Lined
) -> None:
    await relaying.run()
    assert not lines.told
    oslo.says(replace(WALKING, shares=False))
    await relaying.run()
    assert sorted(lines.told) == sorted(relaying.memory.asked("listing"))
    assert [bool(walk.origin) for walk in oslo.heard] == [True, False] * 2


async def test_that_the_origin_told_nothing_is_told_as_well(
    relaying: World, lines: Lines, oslo: Lined
) -> None:
    oslo.says(replace(WALKING, shares=False))

    async def before(what: str, path: bytes) -> None:
        if (what, path) == ("listing", b"pool/03"):
            raise Unreachable("pool/03", "cut off")

    relaying.memory.before = before
    report = await relaying.run()
    assert report.outcome == "incomplete"
    assert b"pool/03" in lines.told


@pytest.mark.usefixtures("endless")
async def test_an_interrupted_pass_goes_on_with_what_siblings_were_to_list(
    relaying: World, oslo: Lined
) -> None:
    oslo.says(WALKING)
    oslo.listings = {b"": (await relaying.memory.listing(b""), 0.0)}
    task: Any = asyncio.ensure_future(relaying.run())
    theirs = {b"pool/%02d" % i for i in range(20)}
    ours = {path for path in theirs | {b"pool"} if owner(path, ["kent", "oslo"]) == "kent"}
    oslo.listings[b"pool"] = (await relaying.memory.listing(b"pool"), 0.0)
    while not ours - {b"pool"} <= set(relaying.memory.asked("listing")):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    relaying.listings.elsewhere.gone("oslo")
    report = await relaying.run()
    relaying.equal()
    assert report.outcome == "complete"
