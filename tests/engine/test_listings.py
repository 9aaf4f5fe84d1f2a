"""Listings that a sibling had a moment ago: what they save, and what they never decide."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from cluster.engine.passes import run_pass
from cluster.model import Listing, Sideways, Trust, join
from cluster.peer.client import Relayed, State
from cluster.plan.order import owner
from cluster.store.mirror import Reader
from tests.engine.world import FakeSibling, World

WALKED = State(walking=False, newest=10.0)


@pytest.fixture
def relaying(world: World) -> World:
    world.mirror = replace(world.mirror, sideways=Sideways(listings=300.0))
    chance = random.Random(3)
    for i in range(60):
        world.memory.put(b"pool/%02d/file" % (i % 20), chance.randbytes(100 + i))
    return world


async def walked(world: World, sibling: FakeSibling, age: float = 10.0) -> None:
    """The sibling has just been through: it holds everything, and every listing."""
    sibling.hold_all(world.memory)
    sibling.state = WALKED
    todo = [b""]
    while todo:
        directory = todo.pop()
        listing = await world.memory.listing(directory)
        token = b"%032x" % (hash(listing.entries) & 2**127 - 1)
        sibling.listings[directory] = (replace(listing, token=token), age)
        todo += [join(directory, e.name) for e in listing.entries if e.kind.value == "directory"]
    world.memory.requests.clear()


async def test_a_sibling_that_was_just_there_saves_the_origin_all_but_one_listing(relaying: World) -> None:
    await walked(relaying, relaying.sibling())
    report = await relaying.run()
    relaying.equal()
    assert (report.outcome, report.files.sideways) == ("complete", 20)
    assert relaying.memory.asked("listing") == [b""]


async def test_without_a_word_in_the_descriptor_the_origin_is_asked(relaying: World) -> None:
    relaying.mirror = replace(relaying.mirror, sideways=Sideways())
    sibling = relaying.sibling()
    await walked(relaying, sibling)
    await relaying.run()
    assert len(relaying.memory.asked("listing")) == 22
    assert not sibling.asked_listings


async def test_who_trusts_nobody_takes_nobodys_listing(relaying: World) -> None:
    relaying.mirror = replace(relaying.mirror, sideways=Sideways(trust=Trust.STRICT, listings=300.0))
    await walked(relaying, relaying.sibling())
    await relaying.run()
    assert len(relaying.memory.asked("listing")) == 22


async def test_a_listing_that_is_older_than_allowed_is_not_taken(relaying: World) -> None:
    await walked(relaying, relaying.sibling(), age=301.0)
    await relaying.run()
    relaying.equal()
    assert len(relaying.memory.asked("listing")) == 22


async def test_what_a_siblings_listing_lacks_is_looked_for_at_the_origin_itself(relaying: World) -> None:
    await relaying.run()
    sibling = relaying.sibling()
    await walked(relaying, sibling)
    age = sibling.listings[b"pool/03"][1]
    sibling.listings[b"pool/03"] = (Listing((), token=b"another"), age)
    report = await relaying.run()
    assert (report.outcome, report.files.deleted) == ("complete", 0)
    assert relaying.memory.asked("listing") == [b"", b"pool/03"]
    relaying.memory.remove(b"pool/03/file")
    await walked(relaying, sibling)
    report = await relaying.run()
    assert report.files.deleted == 1
    relaying.equal()


async def test_what_is_not_as_a_sibling_listed_it_is_listed_by_the_origin(relaying: World) -> None:
    sibling = relaying.sibling()
    await walked(relaying, sibling)
    sibling.files.clear()
    relaying.memory.update(b"pool/07/file", b"newer than the sibling's listing")
    report = await relaying.run()
    relaying.equal()
    assert report.outcome == "complete"
    assert b"pool/07" in relaying.memory.asked("listing")


async def test_a_name_that_a_sibling_made_up_comes_to_nothing(relaying: World) -> None:
    sibling = relaying.sibling()
    await walked(relaying, sibling)
    listing, age = sibling.listings[b"pool/05"]
    (entry,) = listing.entries
    made_up = replace(entry, name=b"made-up")
    sibling.listings[b"pool/05"] = (replace(listing, entries=(entry, made_up)), age)
    report = await relaying.run()
    relaying.equal()
    assert report.outcome == "complete"


async def test_a_pass_is_as_old_as_the_oldest_listing_in_it(relaying: World) -> None:
    await walked(relaying, relaying.sibling(), age=200.0)
    before = relaying.clock.now()
    await relaying.run()
    reader = await Reader.open("deb", relaying.site)
    (only,) = await reader.passes(5)
    await reader.close()
    assert before - 202 <= only.started <= before - 198


async def test_what_was_listed_before_the_news_is_of_no_use(relaying: World) -> None:
    await walked(relaying, relaying.sibling(), age=10.0)
    await relaying.run(news=relaying.clock.now() - 5)
    assert len(relaying.memory.asked("listing")) == 22
    relaying.memory.requests.clear()
    await relaying.run(news=relaying.clock.now() - 15)
    assert relaying.memory.asked("listing") == [b""]


async def test_a_listing_that_is_known_by_its_token_is_not_sent_again(relaying: World) -> None:
    sibling = relaying.sibling()
    await walked(relaying, sibling)
    await relaying.run()
    again = await relaying.run()
    assert again.files.unchanged == 20
    assert relaying.memory.asked("listing") == [b""]


async def test_of_two_that_walk_at_once_each_waits_for_what_the_other_ranks_first_for(
    relaying: World,
) -> None:
    sibling = relaying.sibling()
    await walked(relaying, sibling)
    sibling.state = State(walking=True, newest=0.0)
    theirs = {path for path in sibling.listings if owner(path, ["kent", "oslo"]) == "oslo"}
    sibling.listings = {path: told for path, told in sibling.listings.items() if path in theirs}
    await relaying.run()
    asked = set(relaying.memory.asked("listing"))
    assert asked == {b""} | ({b"pool", *(b"pool/%02d" % i for i in range(20))} - theirs)


@pytest.mark.parametrize(("newest", "waited"), [(10.0, 3), (0.0, 30)], ids=["and rests", "and is busy"])
async def test_a_sibling_that_stays_behind_is_waited_for_once(
    relaying: World, newest: float, waited: int
) -> None:
    sibling = relaying.sibling()
    sibling.hold_all(relaying.memory)
    sibling.state = State(walking=True, newest=newest)
    report = await relaying.run()
    relaying.equal()
    assert waited <= report.seconds < waited + 5
    assert len(relaying.memory.asked("listing")) == 22


async def test_a_sibling_that_began_before_us_has_some_of_what_we_rank_first_for(relaying: World) -> None:
    sibling = relaying.sibling()
    await walked(relaying, sibling)
    sibling.state = State(walking=True, newest=0.0, strayed=1.0)
    await relaying.run()
    assert relaying.memory.asked("listing") == [b""]


async def test_what_a_sibling_is_asking_for_is_not_asked_for_again(relaying: World) -> None:
    sibling = relaying.sibling()
    await walked(relaying, sibling)
    sibling.state = State(walking=True, newest=0.0, strayed=1.0)
    sibling.asking = {b"pool/03", b"pool/04", b"pool/05", b"pool/06"}
    await relaying.run()
    relaying.equal()
    assert relaying.memory.asked("listing") == [b""]
    assert len(sibling.asked_listings) == 21 + 4


async def test_a_sibling_that_begins_after_us_is_left_its_share(
    relaying: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sibling = relaying.sibling()
    await walked(relaying, sibling)
    known, sibling.listings, sibling.state = sibling.listings, {}, State()
    around, answer = relaying.around, sibling.listing

    async def answers_and_begins(*question: Any) -> Relayed:
        told = await answer(*question)
        await relaying.clock.sleep(0.01)
        around.listings.asked_by(relaying.mirror.name, "oslo", relaying.clock.monotonic())
        sibling.listings, sibling.state = known, State(walking=True, newest=0.0)
        return told

    monkeypatch.setattr(sibling, "listing", answers_and_begins)
    await run_pass(around, relaying.mirror)
    relaying.equal()
    theirs = {path for path in known if path and owner(path, ["kent", "oslo"]) == "oslo"}
    assert not (theirs - {b"pool"}) & set(relaying.memory.asked("listing"))


async def test_a_mute_sibling_costs_no_listing(relaying: World) -> None:
    relaying.sibling().silent = 5.0
    report = await relaying.run()
    relaying.equal()
    assert (report.outcome, len(relaying.memory.asked("listing"))) == ("complete", 22)


async def test_what_the_origin_told_is_kept_for_siblings(relaying: World) -> None:
    around = relaying.around
    relaying.sibling()
    await run_pass(around, relaying.mirror)
    now = relaying.clock.monotonic()
    state = around.listings.state("deb", now)
    assert not state.walking and state.newest is not None and state.newest < 5
