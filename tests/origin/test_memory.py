"""The origin for tests does what tests tell it, and notes what it was asked."""

from __future__ import annotations

import pytest

from cluster.errors import Changed, Unreachable, Vanished
from cluster.model import MINUTE, Kind, Rejected, Stamp
from cluster.origin.base import Properties, Want
from cluster.origin.memory import CHUNK, MemoryOrigin
from tests.origin.conformance import received


async def test_a_planted_fault_is_raised_as_often_as_planted() -> None:
    origin = MemoryOrigin({b"pool/a": b"1"})
    origin.fail("listing", b"pool", Unreachable, times=2)
    for _ in range(2):
        with pytest.raises(Unreachable, match="planted"):
            await origin.listing(b"pool")
    assert len((await origin.listing(b"pool")).entries) == 1
    assert origin.requests == [("listing", b"pool")] * 3


async def test_a_fault_may_carry_facts() -> None:
    origin = MemoryOrigin({b"a": b"1"})
    origin.fail("read", b"a", lambda shown: Unreachable(shown, "busy", retry_after=7.0))
    with pytest.raises(Unreachable) as raised:
        await received(origin, b"a")
    assert raised.value.retry_after == 7.0


async def test_a_truncated_body_breaks_and_can_be_resumed() -> None:
    data = bytes(3 * CHUNK)
    origin = MemoryOrigin({b"a": data})
    origin.truncate(b"a", CHUNK + 10)
    got = b""
    with pytest.raises(Unreachable, match="broke after"):
        async with origin.read(b"a", Want()) as body:
            async for chunk in body.chunks():
                got += chunk
    assert len(got) == CHUNK + 10
    want = Want(len(data), start=len(got), etag=(await origin.facts(b"a")).etag)
    assert got + await received(origin, b"a", want) == data


async def test_a_change_during_a_read_is_noticed() -> None:
    origin = MemoryOrigin({b"a": bytes(2 * CHUNK)})
    origin.change_during_read(b"a", lambda: origin.put(b"a", b"new"))
    with pytest.raises(Changed):
        await received(origin, b"a")
    assert await received(origin, b"a") == b"new"


async def test_removing_a_directory_removes_what_is_below() -> None:
    origin = MemoryOrigin({b"pool/a/b": b"1", b"c": b"2"})
    origin.remove(b"pool")
    assert set(origin.tree()) == {b"c"}
    with pytest.raises(Vanished):
        await origin.listing(b"pool/a")


async def test_links_and_odd_kinds_are_listed() -> None:
    origin = MemoryOrigin({b"a": b"1"})
    origin.link(b"a", b"b")
    origin.symlink(b"s", b"a")
    origin.special(b"z")
    origin.reject(b"", [Rejected(b"..", "not a plain file name")])
    listing = await origin.listing(b"")
    a, b, s, z = listing.entries
    assert (a.link, a.links) == (b.link, 2)
    assert (s.target, s.kind, z.kind) == (b"a", Kind.SYMLINK, Kind.SPECIAL)
    assert listing.rejected[0].name == b".."


async def test_it_can_be_as_vague_as_a_web_page() -> None:
    origin = MemoryOrigin({b"a": bytes(1500)}, properties=Properties(), precision=MINUTE)
    (entry,) = (await origin.listing(b"")).entries
    assert (entry.size, entry.rounded, entry.mode) == (None, "1.5K", None)
    assert entry.mtime == Stamp(1_699_999_980 * 10**9, MINUTE)


async def test_a_simulation_may_delay_every_step() -> None:
    steps: list[tuple[str, bytes]] = []

    async def before(method: str, path: bytes) -> None:
        steps.append((method, path))

    origin = MemoryOrigin({b"a": bytes(CHUNK + 1)}, before=before)
    await received(origin, b"a")
    assert steps == [("read", b"a"), ("chunk", b"a"), ("chunk", b"a")]
