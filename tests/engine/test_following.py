"""A pass that follows a sibling's: what it is spared, what it looks at all the same, and what it says."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.engine import following
from cluster.engine.following import outermost
from cluster.engine.report import Report
from cluster.errors import Unreachable
from cluster.model import Deletion, Kind, OriginSpec, Rule, Sideways, Trust
from cluster.peer.client import Agreement
from cluster.store.agreement import Agreed
from cluster.store.mirror import Reader
from tests.engine.world import FakeSibling, World


@pytest.fixture
async def beside(world: World, tmp_path: Path) -> AsyncIterator[World]:
    """A sibling's site beside `world`, with the same origin and clock. Both have it all, and have walked."""
    chance = random.Random(5)
    for i in range(60):
        world.memory.put(b"pool/%d/%d/file%d" % (i % 3, i % 27, i), chance.randbytes(50 + i))
    (tmp_path / "oslo").mkdir()
    other = World(tmp_path / "oslo")
    other.memory, other.origin, other.clock, other.ledger = (
        world.memory,
        world.memory,
        world.clock,
        world.ledger,
    )
    other.site = replace(other.site, name="oslo")
    for one in (world, other):
        one.mirror = replace(one.mirror, sideways=Sideways(listings=300.0))
        assert (await one.run()).outcome == "complete"
        assert (await goes(one)).outcome == "complete"
    world.sibling("oslo").world = other
    yield other
    await other.check()


async def goes(site: World) -> Report:
    """A pass some seconds later than what was before, since passes are known by the second."""
    site.clock.moved += 5.0
    return await site.run()


def sibling(world: World) -> FakeSibling:
    return world.siblings[0]


async def started(world: World) -> float:
    reader = await Reader.open("deb", world.site)
    (newest, *_) = await reader.passes(1)
    await reader.close()
    return newest.started


async def test_where_a_sibling_has_just_been_through_one_question_is_a_pass(
    world: World, beside: World
) -> None:
    report = await world.run()
    assert (report.outcome, report.followed) == ("complete", "oslo")
    assert (report.files.unchanged, report.requests_origin, report.requests_sideways) == (60, 0, 1)
    assert world.memory.asked("listing") == []
    assert sibling(world).asked_agreements == [b""]


async def test_a_pass_that_followed_is_as_old_as_the_one_that_it_followed(
    world: World, beside: World
) -> None:
    world.clock.moved += 200.0
    before = world.clock.now()
    report = await world.run()
    assert report.followed == "oslo"
    assert before - 215 <= await started(world) <= before - 199
    assert any("oslo had compared everything" in note for note in report.notes)


async def test_only_directories_that_differ_are_looked_at(world: World, beside: World) -> None:
    world.memory.update(b"pool/1/4/file4", b"another body")
    world.memory.put(b"pool/2/new/file", b"in a new directory")
    assert (await goes(beside)).outcome == "complete"
    report = await world.run()
    world.equal()
    assert (report.outcome, report.followed, report.files.unchanged) == ("complete", "oslo", 59)
    assert set(world.memory.asked("listing")) == {b"pool/1/4", b"pool/2", b"pool/2/new"}


async def test_what_the_sibling_has_just_fetched_is_looked_at_here_and_what_it_missed_judged(
    world: World, beside: World
) -> None:
    world.memory.remove(b"pool/0/3/file3")
    world.memory.remove(b"pool/0/3/file30")
    assert (await goes(beside)).files.deleted == 2
    report = await world.run()
    world.equal()
    assert (report.followed, report.files.deleted, report.files.unchanged) == ("oslo", 2, 58)
    assert b"pool/0/3" in world.memory.asked("listing")


async def test_what_is_below_a_directory_that_is_gone_counts_once(world: World, beside: World) -> None:
    for one in (world, beside):
        one.mirror = replace(one.mirror, delete=Deletion(sightings=2, grace=0.0, emptied_after=0.0))
    world.memory.remove(b"pool/0")
    await goes(beside)
    report = await world.run()
    assert (report.followed, report.files.waiting, report.files.unchanged) == ("oslo", 20, 40)
    await goes(beside)
    report = await world.run()
    assert (report.followed, report.files.deleted, report.files.unchanged) == ("oslo", 20, 40)
    world.equal()


async def test_that_a_sibling_lacks_something_is_no_reason_to_delete_it(world: World, beside: World) -> None:
    world.memory.remove(b"pool/0/3/file3")
    await goes(beside)
    world.memory.put(b"pool/0/3/file3", b"back again")
    report = await world.run()
    world.equal()
    assert (report.followed, report.files.deleted) == ("oslo", 0)


async def test_what_is_missing_at_the_origin_is_sighted_by_this_site_itself(
    world: World, beside: World
) -> None:
    slow = Deletion(sightings=3, grace=0.0, emptied_after=0.0)
    for one in (world, beside):
        one.mirror = replace(one.mirror, delete=slow)
    world.memory.remove(b"pool/0/3/file3")
    gone = []
    for _ in range(3):
        await goes(beside)
        report = await world.run()
        assert report.followed == "oslo"
        assert b"pool/0/3" in world.memory.asked("listing")
        gone.append(report.files.deleted)
    assert gone == [0, 0, 1]
    world.equal()


async def test_what_failed_here_is_tried_again(world: World, beside: World) -> None:
    world.memory.update(b"pool/1/4/file4", b"another body")
    await goes(beside)
    world.memory.fail("read", b"pool/1/4/file4", Unreachable, times=1)
    assert (await world.run()).outcome == "incomplete"
    report = await world.run()
    world.equal()
    assert (report.outcome, report.followed) == ("complete", "oslo")


@pytest.mark.parametrize(("later", "followed"), [(200.0, "oslo"), (301.0, "")])
async def test_a_pass_is_followed_for_as_long_as_its_listings_may_be_used(
    world: World, beside: World, later: float, followed: str
) -> None:
    world.clock.moved += later
    assert (await world.run()).followed == followed


async def test_a_pass_that_is_no_newer_than_ours_tells_nothing_new(world: World, beside: World) -> None:
    assert [(await world.run()).followed for _ in range(2)] == ["oslo", ""]
    await goes(beside)
    assert [(await world.run()).followed for _ in range(2)] == ["oslo", ""]
    await goes(world)
    assert (await world.run()).followed == ""


async def test_news_is_not_answered_by_a_pass_from_before_it(world: World, beside: World) -> None:
    world.clock.moved += 50
    assert (await world.run(news=world.clock.now() - 10)).followed == ""
    await goes(beside)
    world.clock.moved += 50
    assert (await world.run(news=world.clock.now() - 100)).followed == "oslo"


@pytest.mark.parametrize(
    "sideways",
    [Sideways(), Sideways(trust=Trust.STRICT, listings=300.0), Sideways(enabled=False, listings=300.0)],
    ids=["not allowed", "strict", "alone"],
)
async def test_only_who_takes_siblings_listings_follows(
    world: World, beside: World, sideways: Sideways
) -> None:
    world.mirror = replace(world.mirror, sideways=sideways)
    assert (await world.run()).followed == ""
    assert sibling(world).asked_agreements == []


async def test_other_rules_and_other_origins_are_not_followed(world: World, beside: World) -> None:
    beside.mirror = replace(beside.mirror, select=(Rule(False, "*.iso", "large"),))
    await goes(beside)
    assert (await world.run()).followed == ""
    beside.mirror = replace(world.mirror, origins=(OriginSpec("memory://another/"),))
    beside.memory.url, kept = "memory://another/", beside.memory.url
    await goes(beside)
    beside.memory.url = kept
    assert (await world.run()).followed == ""


async def test_a_site_looks_at_its_own_disk_every_day(world: World, beside: World) -> None:
    damaged = world.public / "pool" / "1" / "4" / "file4"
    world.clock.moved += following.OWN - 100
    await goes(beside)
    assert (await world.run()).followed == "oslo"
    world.clock.moved += 200
    await goes(beside)
    damaged.unlink()
    assert (await world.run()).followed == ""
    world.equal()


async def test_where_much_differs_this_site_walks_itself(
    world: World, beside: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST", 5)
    for i in range(20):
        world.memory.update(b"pool/%d/%d/file%d" % (i % 3, i, i), b"another body")
    await goes(beside)
    report = await world.run()
    world.equal()
    assert (report.outcome, report.followed) == ("complete", "")
    monkeypatch.setattr(following, "QUESTIONS", 2)
    world.memory.update(b"pool/0/0/file0", b"a third body")
    await goes(beside)
    assert (await world.run()).followed == ""
    world.equal()


def says(
    world: World, beside: World, monkeypatch: pytest.MonkeyPatch, told: Callable[[bytes, bytes], Agreed]
) -> None:
    """Its sibling has just been through, it says, and answers with what `told` makes of our sum."""

    async def agreement(
        mirror: str, directory: bytes, origin: str, known: bytes, after: bytes, patience: float
    ) -> Agreement:
        through = beside.listings.passed.told(mirror, origin, world.clock.monotonic())
        assert through is not None
        sibling(world).asked_agreements.append(directory)
        return Agreement(replace(through, age=0.0), told(known, after))

    monkeypatch.setattr(sibling(world), "agreement", agreement)


async def test_a_sibling_that_lies_about_its_pass_delays_what_is_new_by_a_day_and_breaks_nothing(
    world: World, beside: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor trusts siblings with listings; what is here is what the origin had, all the same."""
    says(world, beside, monkeypatch, lambda known, after: Agreed(known))
    before = world.bodies()
    world.memory.update(b"pool/0/0/file0", b"a new body")
    assert (await goes(world)).followed == "oslo"
    assert world.bodies() == before
    world.clock.moved += following.OWN
    assert (await goes(world)).followed == ""
    world.equal()


@pytest.mark.parametrize(("page", "seconds"), [(10, 0.0), (1, 4.9)], ids=["endless", "slow"])
async def test_a_sibling_that_does_not_come_to_an_end_is_left_after_a_while(
    world: World, beside: World, monkeypatch: pytest.MonkeyPatch, page: int, seconds: float
) -> None:
    monkeypatch.setattr(following, "MOST", 100)

    def told(known: bytes, after: bytes) -> Agreed:
        world.clock.moved += seconds
        first = int(after or b"0")
        names = tuple((b"%09d" % (first + n), bytes(32)) for n in range(1, page + 1))
        return Agreed(bytes(31) + b"x", None, names, more=True)

    says(world, beside, monkeypatch, told)
    world.memory.update(b"pool/0/0/file0", b"a new body")
    assert (await goes(world)).followed == ""
    world.equal()
    assert len(sibling(world).asked_agreements) < 30


async def test_a_sibling_that_walks_has_finished_nothing(world: World, beside: World) -> None:
    beside.listings.passed.begins("deb", "memory://another/", b"")
    assert (await world.run()).followed == ""


async def test_a_sibling_of_a_former_version_is_not_followed(world: World, beside: World) -> None:
    sibling(world).world = None
    report = await world.run()
    assert (report.outcome, report.followed) == ("complete", "")


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_changes_a_site_that_follows_ends_with_what_the_origin_has(
    world: World, beside: World, seed: int
) -> None:
    chance, followed = random.Random(seed), 0
    for number in range(8):
        for _ in range(chance.randrange(4)):
            tree = world.memory.tree()
            files = sorted(path for path, node in tree.items() if node.kind is Kind.FILE)
            path, what = chance.choice(files), chance.randrange(4)
            if what == 0:
                world.memory.update(path, chance.randbytes(30))
            elif what == 1:
                world.memory.remove(path)
            elif what == 2:
                world.memory.remove(path[: path.rindex(b"/")])
            else:
                world.memory.put(
                    path + b".d/deep/%d/file" % chance.randrange(3), chance.randbytes(20 + number)
                )
        assert (await goes(beside)).outcome == "complete"
        report = await world.run()
        assert report.outcome == "complete"
        followed += bool(report.followed)
        world.equal()
    assert followed == 8


def test_walks_begin_outermost_and_lead_to_everything_that_is_due() -> None:
    begin, due = outermost({b"a/b/c/d": False, b"a": False, b"x/y": True, b"a/b2": True})
    assert begin == [b"a", b"x/y"]
    assert due == {
        b"a": False,
        b"a/b": False,
        b"a/b/c": False,
        b"a/b/c/d": False,
        b"a/b2": True,
        b"x/y": True,
    }
    assert outermost({b"": False, b"q/r": False}) == ([b""], {b"": False, b"q": False, b"q/r": False})
