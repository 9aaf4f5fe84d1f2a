"""The status files that others read: what they say, when they are rewritten, what they do not tell."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import StoreError
from cluster.model import Held, Kind, Skipped, Stamp
from cluster.store.mirror import Compared
from cluster.store.records import Totals
from cluster.store.rows import pack, told_of
from cluster.store.status import directory_status, encoded, origin_link, seconds
from cluster.store.tree import Change
from tests.store.test_deletion import missed
from tests.store.world import NOW, TIME, folder, full_pass, link, put

ORIGIN = "http://origin.example/"


def read(world, path: str) -> dict:
    return json.loads((world.status / path).read_bytes())


async def test_a_directory_says_everything_that_is_known_about_it(world):
    async with world.store() as store:
        await put(store, {b"a/one": b"1", b"a/b/\xff\n": b"22"}, source="kent2", verified="sibling kent2")
        assert await store.publish([Change(b"a", link(b"l", b"one"))], {}, NOW) == [None]
        skipped = (Skipped(b"huge\xff", Kind.FILE, "too large", 10**12, TIME),)
        found = Compared(b"a", skipped, ((b"two", "404"),), frozenset([b"one"]), 3)
        await full_pass(store, NOW, found)
        await store.write_status()
    status = read(world, "deb/a/.sideways.json")
    assert (status["mirror"], status["path"], status["href"]) == ("deb", "a", "a")
    assert status["compared"] == {"at": NOW, "origin": ORIGIN}
    assert status["totals"] == {
        "files": 2,
        "bytes": 3,
        "directories": 1,
        "symlinks": 1,
        "newest": TIME.ns // 10**9,
    }
    one = next(e for e in status["entries"] if e["name"] == "one")
    assert one["href"] == "one" and one["kind"] == "file" and one["size"] == 1
    assert one["source"] == "kent2" and one["verified"] == "sibling kent2" and one["copied"] == NOW
    assert len(one["sha256"]) == 64 and one["mtime"] == TIME.ns // 10**9
    assert [e["kind"] for e in status["entries"]] == ["directory", "symlink", "file"]
    (left_out,) = status["skipped"]
    assert left_out["reason"] == "too large" and left_out["origin"] == ORIGIN + "a/huge%FF"
    assert status["failures"] == [{"name": "two", "href": "two", "error": "404", "at": NOW, "since": NOW}]
    assert status["missing"] == [{"name": "one", "href": "one", "since": NOW}]
    (odd,) = read(world, "deb/a/b/.sideways.json")["entries"]
    assert odd["href"] == "%FF%0A" and odd["name"] == r"\xff\n"


async def test_only_what_changed_is_rewritten(world):
    async with world.store() as store:
        await put(store, {b"a/one": b"1", b"b/one": b"1"})
        await store.write_status()
        before = {d: os.stat(world.status / "deb" / d / ".sideways.json").st_ino for d in ("", "a", "b")}
        await put(store, {b"a/two": b"2"})
        await store.write_status()
        after = {d: os.stat(world.status / "deb" / d / ".sideways.json").st_ino for d in ("", "a", "b")}
        assert [before[d] == after[d] for d in ("", "a", "b")] == [False, False, True]
        assert read(world, "deb/.sideways.json")["totals"]["files"] == 3


async def test_a_large_directory_is_not_rewritten_with_every_batch(world, monkeypatch):
    monkeypatch.setattr("cluster.store.publicity.LARGE", 3)
    async with world.store() as store:
        await put(store, {b"a/%d" % i: b"" for i in range(60)})
        await store.write_status(limit_seconds=60)
        await put(store, {b"a/new": b""})
        await store.write_status(limit_seconds=60)
        assert len(read(world, "deb/a/.sideways.json")["entries"]) == 60
        await store.write_status()
        assert len(read(world, "deb/a/.sideways.json")["entries"]) == 61


async def test_what_changes_while_it_is_written_is_written_again(world):
    async with world.store() as store:
        await put(store, {b"one": b"1"})
        write_some = store._telling._publicity.write_some
        loop = asyncio.get_running_loop()

        def slowly(*arguments, **options):
            store._telling._publicity.write_some = write_some
            written = write_some(*arguments, **options)
            asyncio.run_coroutine_threadsafe(put(store, {b"two": b"2"}), loop).result()
            return written

        store._telling._publicity.write_some = slowly
        await store.write_status()
        await store.write_status()
        assert [e["name"] for e in read(world, "deb/.sideways.json")["entries"]] == ["one", "two"]


async def test_what_is_out_of_date_survives_the_program(world):
    async with world.store() as store:
        await put(store, {b"a/one": b"1"})
    async with world.store() as store:
        await store.write_status()
    assert read(world, "deb/a/.sideways.json")["entries"][0]["name"] == "one"


async def test_what_the_origin_hides_from_the_world_is_not_told(world):
    async with world.store() as store:
        await put(store, {b"secret/deep/one": b"1"})
        await store.write_status()
        assert (world.status / "deb/secret/deep/.sideways.json").exists()
        hidden = folder(b"secret", mode=0o700)
        change = Change(b"", hidden, previous=await store.held(b"secret"), attributes=True)
        assert await store.publish([change], {}, NOW) == [None]
        await put(store, {b"secret/deep/two": b"2"})
        await store.write_status()
        assert not (world.status / "deb/secret/.sideways.json").exists()
        assert not (world.status / "deb/secret/deep/.sideways.json").exists()
        assert read(world, "deb/.sideways.json")["entries"][0]["private"]


async def test_a_deleted_directory_takes_its_status_with_it(world):
    async with world.store() as store:
        await put(store, {b"a/b/one": b"1", b"z": b""})
        await store.write_status()
        await store.delete(await missed(store, NOW, {b"": {b"a"}}), NOW)
        assert not (world.status / "deb/a").exists()
        assert [e["name"] for e in read(world, "deb/.sideways.json")["entries"]] == ["z"]


async def test_when_status_cannot_be_written_nothing_moves_to_the_trash(world):
    """HAZARDS 99: status must never claim what the disk does not hold."""
    async with world.store() as store:
        await put(store, {b"a/one": b"1", b"z": b""})
        await store.write_status()
        plan = await missed(store, NOW, {b"a": {b"one"}})
        write = store._telling._publicity.files.write

        def full(_: object) -> None:
            raise StoreError("status: No space left on device")

        store._telling._publicity.files.write = full  # type: ignore[method-assign]
        with pytest.raises(StoreError, match="No space"):
            await store.delete(plan, NOW)
        assert b"a/one" in world.bodies()
        store._telling._publicity.files.write = write  # type: ignore[method-assign]
        await put(store, {b"y": b""})
        assert b"a/one" not in world.bodies()


def compared(world, path: str) -> int | None:
    """As a static front end finds it from the files alone."""
    mirror = read(world, "deb.json")
    above = [path] + [path[:i] for i, c in enumerate(path) if c == "/"] + [""]
    deviating = [d for d in mirror["deviations"] if d["href"] in above]
    covered = [c["at"] for c in mirror["covered"] if c["href"] in above]
    base = max(deviating, key=lambda d: len(d["href"]))["at"] if deviating else max(covered, default=None)
    own = read(world, f"deb/{path}/.sideways.json")["compared"]["at"]
    return max([t for t in (base, own) if t is not None], default=None)


async def test_every_compare_time_can_be_found_from_the_files_alone(world):
    async with world.store() as store:
        await put(store, {b"a/b/x": b"1", b"c/x": b"1"})
        await full_pass(store, NOW + 100)
        await store.write_status()
        failed = Compared(b"a", failures=((b"", "503"),), complete=False)
        await full_pass(store, NOW + 200, failed, outcome="incomplete")
        await full_pass(store, NOW + 300, scope=b"c")
        await store.write_status()
        async with world.reader() as reader:
            for path in ("", "a", "a/b", "c"):
                at, _ = await reader.compared_at(path.encode())
                assert compared(world, path) == at, path
    assert [p["outcome"] for p in read(world, "deb.json")["passes"]] == ["complete", "incomplete", "complete"]


async def test_the_mirror_says_what_is_held(world):
    async with world.store() as store:
        await put(store, {b"a/%d" % i: b"x" for i in range(5)})
        await store.write_status()
        assert read(world, "deb.json")["held"] is None
        plan = await missed(store, NOW, {b"a": {b"0", b"1", b"2", b"3"}})
        await store.write_status()
    held = read(world, "deb.json")["held"]
    assert (held["hash"], held["names"], held["files"], held["because"]) == (
        plan.hash,
        4,
        4,
        plan.held_because,
    )
    assert [one["href"] for one in held["sample"]] == ["a/0", "a/1", "a/2", "a/3"]


@pytest.mark.parametrize(
    ("stamp", "number"),
    [(None, None), (Stamp(5 * 10**9), 5), (Stamp(1_500_000_000), 1.5), (Stamp(-(10**9)), -1)],
)
def test_times_are_seconds(stamp, number):
    assert seconds(stamp) == number


@given(
    st.builds(
        Held,
        st.binary(min_size=1, max_size=20),
        st.sampled_from(Kind),
        st.integers(0, 2**63 - 1),
        st.none() | st.binary(min_size=32, max_size=32),
        st.none() | st.builds(Stamp, st.integers(-(2**63) + 1, 2**63 - 1)),
        target=st.none() | st.binary(max_size=20),
        unknown=st.booleans(),
        source=st.text(max_size=8),
        verified=st.text(max_size=8),
        copied=st.integers(0, 2**33),
        private=st.booleans(),
    )
)
def test_a_status_file_says_of_a_name_what_its_page_says(held: Held):
    (written,) = encoded([told_of(pack(held))])
    page = directory_status(
        "deb", b"", generated=1, compared=(None, ""), entries=[held], totals=Totals(0, 0, 0, 0, None)
    )
    assert [json.loads(written)] == page["entries"]


def test_only_origins_that_people_can_follow_are_linked():
    assert origin_link("https://o/x/", b"a b/\xff") == "https://o/x/a%20b/%FF"
    assert origin_link("rsync://o/x/", b"a") is None


def test_an_empty_directory_has_a_status():
    told = directory_status(
        "deb", b"", generated=1, compared=(None, ""), entries=(), totals=Totals(0, 0, 0, 0, None)
    )
    assert told["entries"] == [] and told["compared"] == {"at": None, "origin": ""}
