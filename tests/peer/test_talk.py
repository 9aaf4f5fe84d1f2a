"""What one site learns from another, over real connections."""

import asyncio
import hashlib

import pytest

from cluster.errors import PeerLacks, PeerSilent
from cluster.model import Kind, Offer, Row
from cluster.origin.base import Want
from cluster.peer import link, wire
from cluster.plan.saving import Received
from tests.peer.cluster import running


async def read(sibling, mirror, path, offer, **want) -> bytes:
    async with sibling.read(mirror, path, offer, Want(size=offer.size, **want)) as body:
        return b"".join([chunk async for chunk in body.chunks()])


async def test_a_sibling_tells_what_it_holds_and_fetches(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        record = lancaster.files.put(b"pool/a.deb", b"bytes of a", source="oslo")
        lancaster.claims.claim("debian", b"pool", b"b.deb", Row(size=7), 0.0)
        sibling = await kent.meets("lancaster")
        offered = await sibling.offered("debian", b"pool", 2.0)
        assert offered.site == "lancaster"
        assert offered.known
        offer = offered.held[b"a.deb"]
        assert (offer.sha256, offer.row, offer.etag, offer.source) == (
            record.sha256,
            record.row,
            '"v1"',
            "oslo",
        )
        claim = offered.claims[b"b.deb"]
        assert (claim.row.size, claim.started, claim.received) == (7, False, 0)
        assert claim.idle > 0
        assert await read(sibling, "debian", b"pool/a.deb", offer) == b"bytes of a"


async def test_a_directory_it_does_not_have_is_unknown_and_no_fault(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, _):
        sibling = await kent.meets("lancaster")
        offered = await sibling.offered("debian", b"nowhere", 2.0)
        assert (offered.known, offered.held, sibling.up) == (False, {}, True)


async def test_a_directory_of_20000_entries_comes_in_pages_and_whole(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        names = [b"file-%06d" % number for number in range(20_000)]
        lancaster.files.files = {n: (lancaster.files.put(n, b"x"), b"x") for n in names}
        sibling = await kent.meets("lancaster")
        offered = await sibling.offered("debian", b"", 10.0)
        assert list(offered.held) == names
        assert lancaster.files.asked.count("page") >= 4


async def test_a_part_of_a_directory_can_be_asked_for(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        for name in (b"a", b"b", b"c", b"d", b"e"):
            lancaster.files.put(name, b"x")
            lancaster.claims.claim("debian", b"", b"new-" + name, Row(), 0.0)
        sibling = await kent.meets("lancaster")
        offered = await sibling.offered("debian", b"", 2.0, first=b"b", last=b"d")
        assert list(offered.held) == [b"b", b"c", b"d"]
        assert not offered.claims


async def test_records_in_doubt_are_not_offered(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        lancaster.files.put(b"sure", b"x")
        lancaster.files.put(b"doubtful", b"x", unknown=True)
        sibling = await kent.meets("lancaster")
        assert list((await sibling.offered("debian", b"", 2.0)).held) == [b"sure"]


async def test_names_that_are_not_text_survive_the_journey(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        names = [b"\xff\xfe", b"a b&c=d%2e?#", b"new\nline", "ä".encode(), b"+", b"..."]
        for name in names:
            lancaster.files.put(b"d\xe9/" + name, name * 3)
        sibling = await kent.meets("lancaster")
        offered = await sibling.offered("debian", b"d\xe9", 2.0)
        assert sorted(offered.held) == sorted(names)
        for name in names:
            assert await read(sibling, "debian", b"d\xe9/" + name, offered.held[name]) == name * 3


async def test_a_large_file_is_read_whole_and_resumed(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        content = bytes(range(256)) * 4096 * 9
        lancaster.files.put(b"iso", content)
        sibling = await kent.meets("lancaster")
        offer = (await sibling.offered("debian", b"", 2.0)).held[b"iso"]
        assert await read(sibling, "debian", b"iso", offer) == content
        async with sibling.read("debian", b"iso", offer, Want(size=offer.size, start=1_000_001)) as body:
            assert body.start == 1_000_001
            assert body.facts.size == len(content)
            rest = b"".join([chunk async for chunk in body.chunks()])
        assert rest == content[1_000_001:]


async def test_another_version_than_the_offered_one_is_lacking(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        lancaster.files.put(b"a", b"old")
        sibling = await kent.meets("lancaster")
        offer = (await sibling.offered("debian", b"", 2.0)).held[b"a"]
        lancaster.files.put(b"a", b"new")
        with pytest.raises(PeerLacks, match="another version"):
            await read(sibling, "debian", b"a", offer)
        assert sibling.up


async def test_an_error_of_the_reader_passes_through_unchanged(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        lancaster.files.put(b"a", b"x" * 3_000_000)
        sibling = await kent.meets("lancaster")
        offer = (await sibling.offered("debian", b"", 2.0)).held[b"a"]
        with pytest.raises(OSError, match="disk"):
            async with sibling.read("debian", b"a", offer, Want(size=offer.size)) as body:
                async for _ in body.chunks():
                    raise OSError("disk")
        assert sibling.up
        assert len(await read(sibling, "debian", b"a", offer)) == 3_000_000


async def test_a_wake_arrives_with_its_sender(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        sibling = await kent.meets("lancaster")
        await sibling.wake("debian", b"dists/sid")
        assert lancaster.woken == [("kent", "debian", b"dists/sid")]


async def test_mirrors_are_told_with_their_digest_and_their_last_passes(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.files.put(b"a", b"12345")
        sibling = await kent.meets("oslo")
        (told,) = await sibling.mirrors()
        assert told == wire.Carried(
            "debian",
            await oslo.files.digest(b""),
            "first",
            0,
            1,
            5,
            150,
            400,
            "failed",
            7,
            9,
            2,
            5,
            Received(70, 90),
            {20_000: Received(7, 9)},
        )


async def test_a_journal_is_followed_from_where_the_reader_stopped(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        records = [
            wire.Record(n, 1000 + n, "publish", b"pool/%d\xff" % n, Kind.FILE, n, bytes(32), "origin")
            for n in range(1, 31)
        ]
        oslo.files.records = records[:20]
        sibling = await kent.meets("oslo")
        page = await sibling.journal("debian", 0, "", limit=15)
        assert (page.records, page.epoch, page.last, page.more) == (tuple(records[:15]), "first", 20, True)
        page = await sibling.journal("debian", 15, page.epoch)
        assert (page.records, page.more) == (tuple(records[15:20]), False)
        assert (await sibling.journal("debian", 20, page.epoch)).records == ()
        oslo.files.records = records
        assert (await sibling.journal("debian", 20, page.epoch)).records == tuple(records[20:])


@pytest.mark.parametrize(
    ("after", "epoch", "kept", "now"),
    [(30, "first", 0, "first"), (5, "first", 10, "first"), (15, "first", 0, "second")],
    ids=["restored from an older copy", "shortened", "begun anew"],
)
async def test_a_reader_that_lost_its_place_is_told_so(cluster, after, epoch, kept, now):
    """HAZARDS 121: what a journal said last week is not mistaken for what it says now."""
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.files.records = [
            wire.Record(n, 0, "delete", b"x", Kind.FILE, 0, None, "origin") for n in range(1 + kept, 21)
        ]
        oslo.files.epoch = now
        sibling = await kent.meets("oslo")
        page = await sibling.journal("debian", after, epoch)
        assert (page.lost, page.records, page.last, page.epoch) == (True, (), 20, now)


async def test_siblings_find_each_other_as_soon_as_both_are_there(cluster, monkeypatch):
    monkeypatch.setattr(link, "PROBE", 5.0)  # of kent's own accord it would take this long
    async with running(cluster, "kent") as (kent,):
        await asyncio.sleep(0.3)
        assert not kent.sibling("oslo").up
        with pytest.raises(PeerSilent):
            await kent.sibling("oslo").offered("debian", b"", 2.0)
        async with running(cluster, "oslo") as (oslo,):
            started = asyncio.get_running_loop().time()
            await oslo.meets("kent")
            await kent.meets("oslo")
            assert asyncio.get_running_loop().time() - started < 1.0


async def test_a_file_that_is_shorter_than_its_record_is_never_taken_for_whole(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        record = lancaster.files.put(b"a", b"x" * 100_000)
        lancaster.files.files[b"a"] = record, b"x" * 50_000
        sibling = await kent.meets("lancaster")
        offer = Offer(b"a", record.kind, record.size, record.sha256)
        with pytest.raises(PeerSilent):
            await read(sibling, "debian", b"a", offer)


async def test_the_digest_of_what_was_read_is_the_offered_one(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        lancaster.files.put(b"a", b"x" * 2_000_000, private=True)
        sibling = await kent.meets("lancaster")
        offer = (await sibling.offered("debian", b"", 2.0)).held[b"a"]
        assert hashlib.sha256(await read(sibling, "debian", b"a", offer)).digest() == offer.sha256
