"""Journals on lines: told from where a sibling stopped, and believed only from where we are."""

import asyncio
import contextlib
import json

import pytest

from cluster.errors import PeerLacks
from cluster.model import Kind
from cluster.peer import journals, linewire, wire
from cluster.peer.cursors import Cursors, Place
from cluster.peer.differences import differing
from cluster.peer.journals import Journals
from cluster.peer.lines import Lines
from tests.peer.cluster import Station, running
from tests.peer.hostile import dialled, farewell, greeted
from tests.peer.test_door import as_site
from tests.peer.test_lines import until


def record(seq: int) -> wire.Record:
    return wire.Record(seq, 1000, "publish", b"pool/%d" % seq, Kind.FILE, seq, bytes(32), "origin")


class Reads:
    """A reader that is opened anew for each look, over the records of a station."""

    def __init__(self, station: Station) -> None:
        self.files = station.files

    def __getattr__(self, name: str):
        return getattr(self.files, name)

    async def close(self) -> None:
        pass


class Followed:
    """A station with journals: what it took and where it lost its place."""

    def __init__(self, station: Station, file: str) -> None:
        self.station, self.taken, self.lost = station, [], []
        self.cursors = Cursors.load(file)

        async def opened(mirror: str) -> Reads:
            return Reads(station)

        self.journals = Journals(
            self.cursors,
            opened,
            lambda site: ["debian"],
            lambda site, mirror, records, place: self.taken.append((site, [r.seq for r in records], place)),
            lambda site, mirror, place: self.lost.append((site, mirror, place)),
        )
        station.lines._ear = self.journals
        assert isinstance(station.lines, Lines)

    @property
    def numbers(self) -> list[int]:
        return [seq for _, numbers, _ in self.taken for seq in numbers]


@contextlib.asynccontextmanager
async def two(cluster, tmp_path, *, records: int = 0, place: Place | None = None):
    """kent publishes, oslo follows."""
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        kent.files.records = [record(n) for n in range(1, records + 1)]
        tells, follows = Followed(kent, str(tmp_path / "a.json")), Followed(oslo, str(tmp_path / "b.json"))
        if place is not None:
            follows.cursors.put("kent", "debian", place)
        kent.lines.start()
        oslo.lines.start()
        await oslo.has_line("kent")
        yield tells, follows


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(journals, "GATHERED", 0.02)


async def test_a_site_that_follows_for_the_first_time_is_told_where_the_journal_ends(cluster, tmp_path):
    async with two(cluster, tmp_path, records=20) as (_, oslo):
        await until(lambda: oslo.lost)
        assert oslo.lost == [("kent", "debian", Place("first", 20))]
        assert oslo.taken == []


async def test_records_arrive_within_a_fraction_of_a_second_each_once(cluster, tmp_path):
    async with two(cluster, tmp_path, records=3, place=Place("first", 3)) as (kent, oslo):
        for n in range(4, 40):
            kent.station.files.records.append(record(n))
            kent.journals.changed("debian")
            if n % 10 == 0:
                assert await until(lambda n=n: oslo.numbers[-1:] == [n]) < 0.5
        await until(lambda: oslo.numbers[-1:] == [39])
        assert oslo.numbers == list(range(4, 40))
        assert oslo.taken[-1][2] == Place("first", 39)
        assert oslo.lost == []


async def test_a_long_absence_is_made_good_in_pieces(cluster, tmp_path):
    async with two(cluster, tmp_path, records=5000, place=Place("first", 1000)) as (_, oslo):
        await until(lambda: oslo.numbers[-1:] == [5000])
        assert oslo.numbers == list(range(1001, 5001))


@pytest.mark.parametrize(
    "place", [Place("another", 3), Place("first", 99)], ids=["begun anew", "restored from an older copy"]
)
async def test_who_is_at_a_place_that_does_not_exist_is_told_so(cluster, tmp_path, place):
    async with two(cluster, tmp_path, records=20, place=place) as (kent, oslo):
        await until(lambda: oslo.lost == [("kent", "debian", Place("first", 20))])
        kent.station.files.records.append(record(21))
        kent.journals.changed("debian")
        await until(lambda: oslo.numbers == [21])


async def test_a_journal_that_begins_anew_while_it_is_followed_is_noticed(cluster, tmp_path):
    async with two(cluster, tmp_path, records=5, place=Place("first", 5)) as (kent, oslo):
        kent.station.files.epoch, kent.station.files.records = "second", [record(1)]
        kent.journals.changed("debian")
        await until(lambda: oslo.lost == [("kent", "debian", Place("second", 1))])


async def test_what_was_told_before_and_other_epochs_are_passed_over(cluster, tmp_path):
    """HAZARDS 121: a replay of last week's journal, validly authenticated."""
    async with running(cluster, "kent") as (station,):
        kent = Followed(station, str(tmp_path / "a.json"))
        kent.cursors.put("oslo", "debian", Place("e", 10))
        async with dialled(cluster, "oslo", "kent") as evil:
            await greeted(evil, "oslo")

            async def say(mirror: str, epoch: str, *numbers: int) -> None:
                packed, _ = linewire.news(mirror, epoch, 99, [record(n) for n in numbers])
                await evil.send_bytes(packed)

            await say("debian", "e", 5, 6, 10)
            await say("debian", "old", 11, 50)
            await say("ctan", "e", 11)  # not shared with oslo
            await say("debian", "e", 10, 11, 12)
            await say("debian", "e", 11, 12)
            await say("debian", "e", 13)
            await until(lambda: len(kent.taken) == 2)
            await asyncio.sleep(0.1)
            assert kent.numbers == [11, 12, 13]
            await evil.send_bytes(linewire.follow(linewire.Follow("ctan", "e", 0)))
            await evil.send_bytes(linewire.follow(linewire.Follow("nowhere", "e", 0)))
            (follower,) = kent.journals._followers.values()
            await asyncio.sleep(0.1)
            assert follower.places == {}
            packed, _ = linewire.news("debian", "e", 99, [record(15), record(14)])
            await evil.send_bytes(packed)
            assert "not ascending" in (await farewell(evil))[1]


async def test_places_are_kept_over_a_restart(tmp_path):
    file = tmp_path / "followed.json"
    cursors = Cursors.load(str(file))
    assert not cursors.unsaved
    cursors.put("kent", "debian", Place("e", 7))
    cursors.put("oslo", "debian", Place("f", 2**62))
    assert cursors.unsaved
    cursors.save()
    assert Cursors.load(str(file)).places == cursors.places
    cursors.put("kent", "debian", Place("e", 7))
    assert not cursors.unsaved


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"kent": 3}', '{"kent": {"m": ["e"]}}', '{"kent": {"m": ["e", "x"]}}']
)
def test_places_that_cannot_be_read_are_places_that_are_lost(tmp_path, caplog, text):
    file = tmp_path / "followed.json"
    file.write_text(text)
    assert Cursors.load(str(file)).places == {}
    assert caplog.text.count("\n") == 1


async def test_places_are_written_while_the_site_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "SAVE", 0.05)
    cursors = Cursors.load(str(tmp_path / "followed.json"))
    kept = Journals(cursors, None, lambda site: [], None, None)
    running_ = asyncio.create_task(kept.run())
    cursors.put("kent", "debian", Place("e", 7))
    await until(lambda: (tmp_path / "followed.json").exists())
    await asyncio.sleep(0.1)
    cursors.put("kent", "debian", Place("e", 8))
    running_.cancel()
    await asyncio.gather(running_, return_exceptions=True)
    assert json.loads((tmp_path / "followed.json").read_text()) == {"kent": {"debian": ["e", 8]}}


# -- comparing


class Tree:
    """A reader over a dictionary of files, with real digests."""

    def __init__(self, **files: bytes) -> None:
        from tests.peer.cluster import held

        self.directories = {b""}
        self.entries: dict[bytes, dict[bytes, object]] = {b"": {}}
        self.asked = 0
        for path, body in files.items():
            *above, name = path.split("_")
            at = b""
            for part in above:
                child = (at + b"/" if at else b"") + part.encode()
                self.entries[at][part.encode()] = held(
                    part.encode(), kind=Kind.DIRECTORY, size=0, sha256=None
                )
                self.entries.setdefault(child, {})
                at = child
            self.entries[at][name.encode()] = held(name.encode(), body)

    async def directory(self, path: bytes):
        return self.entries.get(path)

    async def digest(self, path: bytes) -> bytes | None:
        from cluster.store.digest import directory_digest

        self.asked += 1
        if path not in self.entries:
            return None
        below = {}
        for name, one in self.entries[path].items():
            if one.kind is Kind.DIRECTORY:
                below[name] = await self.digest((path + b"/" if path else b"") + name)
        return directory_digest(self.entries[path].values(), below)

    async def close(self) -> None:
        pass


BASE = {"a_x": b"1", "a_deep_y": b"2", "b_z": b"3", "top": b"4"}


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        ({}, []),
        ({"a_x": b"new"}, [b"a"]),
        ({"a_deep_y": b"new"}, [b"a/deep"]),
        ({"a_deep_y": b"new", "b_z": b"new"}, [b"a/deep", b"b"]),
        ({"top": b"new"}, [b""]),
        ({"top": b"new", "a_x": b"new"}, [b""]),
        ({"c_new": b"new"}, [b""]),
        ({"b_more_new": b"new"}, [b"b"]),
    ],
    ids=[
        "equal",
        "a file",
        "deep",
        "two places",
        "at the top",
        "at the top and below",
        "a new directory",
        "a new one below",
    ],
)
async def test_where_two_sites_differ_is_found_by_their_digests(cluster, theirs, found):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.readers["debian"] = Tree(**BASE | theirs)
        sibling = await kent.meets("oslo")
        assert sorted(await differing(sibling, "debian", Tree(**BASE))) == found


async def test_what_cannot_be_told_yet_is_said_to_be_so(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        sibling = await kent.meets("oslo")
        busy = oslo.readers["debian"] = Tree(**BASE)

        async def unknown(path: bytes) -> None:
            return None

        busy.digest = unknown
        assert await differing(sibling, "debian", Tree(**BASE)) is None
        ours = Tree(**BASE)
        ours.digest = unknown
        assert await differing(sibling, "debian", ours) is None


async def test_a_sibling_that_differs_everywhere_is_asked_a_bounded_number_of_questions(cluster, monkeypatch):
    monkeypatch.setattr("cluster.peer.differences.QUESTIONS", 5)
    many = {f"d{n}_sub_x": b"1" for n in range(20)}
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.readers["debian"] = Tree(**dict.fromkeys(many, b"2"))
        sibling = await kent.meets("oslo")
        before = sibling.traffic.requests
        found = await differing(sibling, "debian", Tree(**many))
        assert sibling.traffic.requests - before == 5
        assert {path.split(b"/")[0] for path in found} == {b"d%d" % n for n in range(20)}


async def test_digests_of_mirrors_that_are_not_shared_are_not_told(cluster):
    """HAZARDS 117."""
    async with running(cluster, "kent", "oslo") as (kent, oslo), as_site(cluster, "oslo", "kent") as get:
        answers = [await get(f"/v1/digests?mirror={mirror}&directory=") for mirror in ("ctan", "nowhere")]
        assert {(status, body) for status, body, _ in answers} == {(403, b"not shared between these sites\n")}
        with pytest.raises(PeerLacks):
            await (await oslo.meets("kent")).digests("ctan", b"")
        told = await (await oslo.meets("kent")).digests("debian", b"nowhere")
        assert told.own is None
        assert kent.readers["ctan"].asked == []
