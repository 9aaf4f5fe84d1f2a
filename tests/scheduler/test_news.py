"""What siblings publish, under a simulated clock: gathered, held against what is here, and never for ever."""

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import PeerSilent, StoreError
from cluster.model import Kind
from cluster.peer.cursors import Place
from cluster.peer.wire import Record
from cluster.plan.due import answered
from cluster.scheduler import news
from cluster.scheduler.news import News, gathered
from tests.peer.cluster import FakeReader
from tests.scheduler.simulation import SimulatedClock, settled


def publish(path: bytes, body: bytes = b"new", seq: int = 1, kind: Kind = Kind.FILE) -> Record:
    digest = hashlib.sha256(body).digest() if kind is Kind.FILE else None
    return Record(seq, 0, "publish", path, kind, len(body), digest, "origin")


def delete(path: bytes) -> Record:
    return Record(1, 0, "delete", path, Kind.FILE, 0, None, "origin")


@dataclass
class Site:
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    reader: FakeReader = field(default_factory=FakeReader)
    busy: bool = False
    begun: bool = True
    different: list = field(default_factory=lambda: [[]])  # answers to comparing, the last one for ever
    compared: int = 0
    woken: list[bytes] = field(default_factory=list)
    places: dict = field(default_factory=dict)
    news: News | None = None

    async def _open(self, mirror: str) -> FakeReader:
        if not self.begun:
            raise StoreError("m: no records yet")
        return self.reader

    async def _compare(self, site: str, mirror: str, reader: FakeReader):
        self.compared += 1
        answer = self.different.pop(0) if len(self.different) > 1 else self.different[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def heard(self, *records: Record, site: str = "kent", seq: int = 1) -> None:
        self.news.take(site, "m", records, Place("e", seq))


@asynccontextmanager
async def running():
    site = Site()
    site.news = News(
        lambda mirror, scope, reason: site.woken.append(scope),
        lambda mirror: site.busy,
        site._open,
        site._compare,
        lambda sibling, mirror, place: site.places.update({sibling: place}),
        site.clock,
    )
    task = asyncio.create_task(site.news.run())
    await settled()
    try:
        yield site
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_many_words_about_one_directory_bring_one_pass_within_a_second():
    async with running() as site:
        for n in range(40):
            site.heard(publish(b"pool/%d" % n), seq=n)
            await site.clock.advance(0.02)
        assert site.woken == []
        await site.clock.advance(0.3)
        assert site.woken == [b"pool"]
        assert site.places == {"kent": Place("e", 39)}


async def test_news_that_never_ends_is_looked_at_all_the_same():
    async with running() as site:
        for n in range(30):
            site.heard(publish(b"pool/%d" % n))
            await site.clock.advance(0.1)
        assert 2 <= len(site.woken) <= 3


@pytest.mark.parametrize(
    ("record", "wakes"),
    [
        (publish(b"pool/held", b"bytes"), []),
        (publish(b"pool/held", b"other bytes"), [b"pool"]),
        (publish(b"pool/lacking"), [b"pool"]),
        (publish(b"top"), [b""]),
        (publish(b"pool/doubtful", b"bytes"), [b"pool"]),
        (publish(b"pool/held", kind=Kind.DIRECTORY), [b"pool"]),
        (publish(b"pool/link", kind=Kind.SYMLINK), [b"pool"]),
        (publish(b"pool/later", kind=Kind.SYMLINK), []),
        (delete(b"pool/held"), [b""]),
        (delete(b"pool/lacking"), []),
    ],
    ids=[
        *("held", "another version", "lacking", "at the top", "in doubt", "another kind"),
        *("a link of before", "a link made since", "deleted and held", "deleted and not held"),
    ],
)
async def test_only_what_is_missing_or_different_here_brings_a_pass(record, wakes):
    async with running() as site:
        site.reader.put(b"pool/held", b"bytes")
        site.reader.put(b"pool/doubtful", b"bytes", unknown=True)
        site.reader.put(b"pool/link", b"", kind=Kind.SYMLINK, copied=int(site.clock.now()) - 5)
        site.reader.put(b"pool/later", b"", kind=Kind.SYMLINK, copied=int(site.clock.now()) + 1)
        site.heard(record)
        await site.clock.advance(2)
        assert site.woken == wakes
        assert site.places


async def test_news_waits_for_a_pass_to_end_and_what_that_brought_is_no_news_any_more():
    async with running() as site:
        site.busy = True
        site.heard(publish(b"pool/a", b"a"), publish(b"pool/deep/b", b"b"))
        await site.clock.advance(600)
        assert (site.woken, site.places) == ([], {})
        site.reader.put(b"pool/a", b"a")
        site.busy = False
        site.news.ended("m", b"", 1)
        await site.clock.advance(1)
        assert site.woken == [b"pool/deep"]


async def test_several_siblings_with_the_same_news_ask_for_the_same_directory():
    async with running() as site:
        for sibling in ("kent", "oslo"):
            site.heard(publish(b"pool/a"), site=sibling)
        await site.clock.advance(1)
        assert set(site.woken) == {b"pool"}
        assert set(site.places) == {"kent", "oslo"}


async def test_a_sibling_that_invents_news_is_looked_at_less_and_less_often():
    """A hostile sibling may start comparisons with the origin, at a bounded rate."""
    async with running() as site:
        for tick in range(3600 * 2):
            site.heard(publish(b"pool/%d" % tick))
            await site.clock.advance(0.5)
            if site.woken and len(site.woken) > getattr(site, "seen", 0):
                site.seen = len(site.woken)
                site.news.ended("m", site.woken[-1], 0)
        assert 5 < len(site.woken) < 20  # in an hour
        site.heard(publish(b"pool/true"), site="oslo")
        count = len(site.woken)
        await site.clock.advance(1)
        assert len(site.woken) > count  # another sibling is believed as before


async def test_a_sibling_whose_news_was_true_again_has_its_credit_back():
    async with running() as site:
        for _ in range(4):
            site.heard(publish(b"pool/a"))
            await site.clock.advance(60)
            site.news.ended("m", b"pool", 0)
        site.heard(publish(b"pool/a"))
        await site.clock.advance(1)
        count = len(site.woken)
        await site.clock.advance(60)
        assert len(site.woken) == count + 1
        site.news.ended("m", b"pool", 3)
        for _ in range(2):
            site.heard(publish(b"pool/a"))
            await site.clock.advance(1)
            site.news.ended("m", b"pool", 0)
        assert len(site.woken) == count + 3


async def test_a_flood_of_names_becomes_directories_and_then_everything(monkeypatch):
    monkeypatch.setattr(news, "PATHS", 50)
    monkeypatch.setattr(news, "DIRECTORIES", 20)
    async with running() as site:
        site.different = [None]
        site.heard(*(publish(b"pool/%d" % n) for n in range(60)))
        (heard,) = site.news._pending.values()
        assert (heard.paths, heard.directories) == ({}, {b"pool"})
        site.heard(*(publish(b"d%d/x" % n) for n in range(60)))
        assert (heard.paths, heard.directories) == ({}, {b""})
        await site.clock.advance(1)
        assert site.woken == [b""]


@pytest.mark.parametrize(
    ("different", "wakes"),
    [
        ([], []),
        ([b"pool/x"], [b"pool/x"]),
        (None, [b"pool"]),
        (PeerSilent("kent", "no answer"), [b"pool"]),
    ],
    ids=["nothing differs", "a part differs", "cannot be told", "no answer"],
)
async def test_of_a_flood_only_what_differs_brings_a_pass(monkeypatch, different, wakes):
    monkeypatch.setattr(news, "PATHS", 50)
    async with running() as site:
        site.different = [different]
        site.busy = True  # our own pass publishes the same
        site.heard(*(publish(b"pool/%d" % n) for n in range(60)), seq=60)
        await site.clock.advance(5)
        site.busy = False
        await site.clock.advance(2)
        assert (site.woken, site.compared, site.places) == (wakes, 1, {"kent": Place("e", 60)})


@pytest.mark.parametrize(
    ("different", "wakes"),
    [([], []), ([b"pool/x"], [b""]), (None, [b""])],
    ids=["nothing", "a part", "unknown"],
)
async def test_a_flood_in_which_something_was_deleted_brings_a_pass_over_everything(
    monkeypatch, different, wakes
):
    monkeypatch.setattr(news, "PATHS", 50)
    async with running() as site:
        site.different = [different]
        site.heard(*(delete(b"pool/%d" % n) for n in range(60)))
        await site.clock.advance(2)
        assert site.woken == wakes


async def test_a_mirror_that_was_never_begun_here_waits_for_its_first_pass():
    async with running() as site:
        site.begun = False
        site.heard(publish(b"pool/a"), seq=7)
        await site.clock.advance(1)
        assert (site.woken, site.places) == ([], {"kent": Place("e", 7)})


async def test_who_lost_its_place_compares_until_it_can_be_told_and_goes_on_with_news_meanwhile():
    async with running() as site:
        site.different = [None, PeerSilent("kent", "no answer"), [b"dists", b"pool/x"]]
        site.news.lost("kent", "m", Place("e", 5))
        await site.clock.advance(1)
        assert (site.compared, site.woken, site.places) == (1, [], {})
        site.heard(publish(b"new/a"), seq=9)
        await site.clock.advance(2)
        assert (site.woken, site.places) == ([b"new"], {})  # not all of it is worked off
        await site.clock.advance(60)
        assert (site.compared, site.woken) == (3, [b"new", b"dists", b"pool/x"])
        assert site.places == {"kent": Place("e", 9)}


async def test_a_sibling_that_says_again_and_again_that_we_are_lost_is_compared_with_twice_a_minute():
    async with running() as site:
        for _ in range(600):
            site.news.lost("kent", "m", Place("e", 5))
            await site.clock.advance(0.5)
        assert 9 <= site.compared <= 11


async def test_a_comparison_that_never_succeeds_is_given_up():
    async with running() as site:
        site.different = [None]
        site.news.lost("kent", "m", Place("e", 5))
        await site.clock.advance(3600)
        assert (site.compared, site.woken) == (news.TRIES, [])
        assert site.places == {"kent": Place("e", 5)}


paths = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=5).map(b"/".join)


@given(st.sets(paths, max_size=60), st.integers(1, 9))
def test_few_directories_stand_for_many_and_leave_none_out(scopes, limit):
    few = gathered(scopes, limit)
    assert len(few) <= limit
    assert all(any(answered(one, scope) for one in few) for scope in scopes)
    assert not any(answered(one, other) for one in few for other in few if one != other)
    if len(scopes) <= limit:
        assert few <= scopes
