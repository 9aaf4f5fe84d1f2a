"""Bytes from a nearer server of the same archive, facts from the reference."""

from __future__ import annotations

import pytest

from cluster.errors import Unreachable
from cluster.model import Limits, Mirror, OriginSpec, Role, Stamp
from cluster.origin.base import Want
from cluster.origin.copies import MISSES, PAUSE, Copy, WithCopies
from cluster.origin.memory import EPOCH, MemoryOrigin
from cluster.origin.open import Shared, open_reference
from cluster.plan.steal import LARGE

BODY = b"the very same bytes"
WANT = Want(size=len(BODY), mtime=Stamp(EPOCH))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Both:
    """A reference and one copy of it, both with the file `a`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.reference, self.copy = MemoryOrigin({b"a": BODY}), MemoryOrigin({b"a": BODY})
        self.origin = WithCopies(self.reference, [Copy("near.example", self.copy)], self.clock)

    async def read(self, want: Want = WANT, path: bytes = b"a") -> tuple[bytes, str]:
        async with self.origin.read(path, want) as body:
            return b"".join([chunk async for chunk in body.chunks()]), body.facts.copy


async def test_bytes_come_from_the_copy_and_say_so() -> None:
    both = Both()
    assert await both.read() == (BODY, "near.example")
    assert both.reference.requests == [] and both.origin.traffic.bytes == len(BODY)


async def test_a_copys_validator_is_not_taken_for_the_references() -> None:
    both = Both()
    async with both.origin.read(b"a", WANT) as body:
        assert body.facts.etag is None and not body.facts.ranges


async def test_facts_and_listings_come_from_the_reference_alone() -> None:
    both = Both()
    await both.origin.listing(b"")
    assert (await both.origin.facts(b"a")).etag is not None
    assert both.copy.requests == []


@pytest.mark.parametrize("how", ["another size", "another time", "no such file"])
async def test_another_version_at_the_copy_is_left_there(how: str) -> None:
    both = Both()
    if how == "no such file":
        both.copy.remove(b"a")
    else:
        both.copy.put(b"a", BODY + b"!" * (how == "another size"), mtime=EPOCH + 10**10)
    assert await both.read() == (BODY, "")


async def test_a_rounded_size_is_made_exact_by_the_reference_first() -> None:
    both = Both()
    assert await both.read(Want(mtime=Stamp(EPOCH))) == (BODY, "near.example")
    assert both.reference.requests == [("facts", b"a")]


async def test_a_part_or_a_named_version_is_the_references() -> None:
    both = Both()
    etag = (await both.reference.facts(b"a")).etag
    assert await both.read(Want(size=len(BODY), start=4, etag=etag)) == (BODY[4:], "")
    assert both.copy.requests == []


async def test_a_body_that_broke_off_at_a_copy_comes_from_the_reference_next() -> None:
    both = Both()
    both.copy.truncate(b"a", 5)
    with pytest.raises(Unreachable):
        await both.read()
    both.clock.now = 10 * PAUSE  # the copy itself is asked again, but not for this
    assert await both.read() == (BODY, "")


async def test_a_copy_that_fails_is_left_alone_for_a_growing_time() -> None:
    both = Both()
    both.copy.fail("read", b"a", Unreachable, times=2)
    assert await both.read() == (BODY, "")
    both.clock.now = PAUSE - 1
    assert await both.read() == (BODY, "") and len(both.copy.requests) == 1
    both.clock.now = PAUSE + 1
    assert await both.read() == (BODY, "") and len(both.copy.requests) == 2
    both.clock.now = PAUSE + 1 + 2 * PAUSE - 1
    assert await both.read() == (BODY, "")
    both.clock.now = PAUSE + 1 + 2 * PAUSE + 1
    assert await both.read() == (BODY, "near.example")


async def test_a_copy_that_is_behind_is_not_asked_for_each_file() -> None:
    both = Both()
    both.copy.put(b"a", b"old")
    for _ in range(MISSES + 5):
        assert await both.read() == (BODY, "")
    assert len(both.copy.requests) == MISSES


async def test_a_very_large_file_comes_whole_while_a_copy_may_send_it() -> None:
    both = Both()

    class Large(bytes):
        def __len__(self) -> int:
            return LARGE + 1

    both.reference.put(b"iso", Large(b"x"))
    facts = await both.origin.facts(b"iso")
    assert not facts.ranges and facts.etag is None


def test_each_origin_for_bytes_that_is_not_paused_is_a_copy() -> None:
    near = OriginSpec("http://near.example/a/", role=Role.BYTES)
    far = OriginSpec("https://far.example/a/")
    paused = OriginSpec("http://paused.example/a/", role=Role.BYTES, paused=True)
    made = open_reference(far, Mirror("a", "/a", (near, far, paused), limits=Limits()), Shared())
    assert isinstance(made, WithCopies) and made.url == "https://far.example/a/"
    assert repr(made).startswith("<WithCopies 1 of 1 copies")
    assert not isinstance(open_reference(far, Mirror("a", "/a", (far, paused)), Shared()), WithCopies)
