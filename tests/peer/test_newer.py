"""What a sibling tells of a newer version to a site that holds an older one, and who may ask for what."""

import asyncio
import itertools
import os
import random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.delta import rolling
from cluster.errors import PeerBroke, PeerError, PeerLacks
from cluster.model import Kind, Offer
from cluster.peer import deltawire, differing
from cluster.peer.codec import WireError
from cluster.store import blocks
from cluster.store.blocks import block_hashes
from tests.peer.cluster import running
from tests.peer.hostile import always, hostile, whole

BODY = random.Random(3).randbytes(700_000) + bytes(3 * 2**20) + b"the end"
PATH = b"iso/a \xff.iso"


def offer(record) -> Offer:
    return Offer(record.name, Kind.FILE, record.size, record.sha256)


async def _all(pieces) -> bytes:
    return b"".join([piece async for piece in pieces])


async def test_sums_and_pieces_are_those_of_the_file(cluster) -> None:
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        newer = (await oslo.meets("kent")).newer("debian", PATH, offer(kent.files.put(PATH, BODY)))
        sums = await newer.sums(4096, [(0, 2), (100, 101)])
        parts = [BODY[0:4096], BODY[4096:8192], BODY[409_600 : 409_600 + 4096]]
        weak = [int(rolling.of_blocks(part, 4096)[0]).to_bytes(4, "big") for part in parts]
        assert sums == b"".join(w + deltawire.strong(p) for w, p in zip(weak, parts, strict=True))
        assert await newer.blocks() == b""
        wanted = [(3, 500_000), (700_001, 2_000_000), (len(BODY) - 3, len(BODY))]
        assert await _all(newer.pieces(wanted)) == b"".join(BODY[a:b] for a, b in wanted)
        assert newer.received < 560_000, "zeros cost next to nothing"


async def test_many_ranges_are_asked_for_in_several_requests(cluster, monkeypatch) -> None:
    monkeypatch.setattr(deltawire, "MAX_TEXT", 200)
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        sibling = await oslo.meets("kent")
        newer = sibling.newer("debian", PATH, offer(kent.files.put(PATH, BODY)))
        wanted = [(at, at + 100) for at in range(0, 300_000, 1_000)]
        before = sibling.traffic.requests
        assert await _all(newer.pieces(wanted)) == b"".join(BODY[a:b] for a, b in wanted)
        assert sibling.traffic.requests > before + 3
        numbers = [(at, at + 1) for at in range(0, 600, 2)]
        assert await newer.sums(512, numbers) == b"".join(
            [await newer.sums(512, [one]) for one in numbers[:3]]
        ) + await newer.sums(512, numbers[3:])


async def test_no_more_is_summed_at_once_than_the_protocol_says(cluster, monkeypatch) -> None:
    monkeypatch.setattr(deltawire, "MAX_SUMMED", 2**20)
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        sibling = await oslo.meets("kent")
        newer = sibling.newer("debian", PATH, offer(kent.files.put(PATH, BODY)))
        before = sibling.traffic.requests
        assert len(await newer.sums(65_536, [(0, 50)])) == 50 * 8
        assert sibling.traffic.requests == before + 4
        monkeypatch.setattr(deltawire, "requests", lambda ranges, most: [(ranges, "ADI")])
        with pytest.raises(PeerBroke, match="400"):
            await newer.sums(65_536, [(0, 50)])


async def test_block_hashes_are_told_as_they_are_kept(cluster, monkeypatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 2**18)
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        newer = (await oslo.meets("kent")).newer("debian", PATH, offer(kent.files.put(PATH, BODY)))
        assert await newer.blocks() == block_hashes(BODY)


async def test_another_version_and_another_mirror_are_lacking(cluster) -> None:
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        sibling = await oslo.meets("kent")
        old = offer(kent.files.put(PATH, BODY))
        kent.files.put(PATH, BODY + b"!")
        with pytest.raises(PeerLacks, match="412"):
            await sibling.newer("debian", PATH, old).sums(512, [(0, 1)])
        with pytest.raises(PeerLacks, match="403"):
            await sibling.newer("ctan", PATH, old).sums(512, [(0, 1)])
        with pytest.raises(PeerLacks, match="404"):
            await _all(sibling.newer("debian", b"other", old).pieces([(0, 1)]))
        assert sibling.up


@pytest.mark.parametrize(
    "text", ["", "AA", "AAA", "!!", "gICAgICAgICAAQ", "AIA", "AAH__________38", "AAEAAQ"]
)
async def test_127_ranges_that_are_none_are_refused(cluster, monkeypatch, text: str) -> None:
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        newer = (await oslo.meets("kent")).newer("debian", PATH, offer(kent.files.put(PATH, BODY)))
        monkeypatch.setattr(deltawire, "requests", lambda ranges, most: [(ranges, text)])
        with pytest.raises(PeerBroke, match="400"):
            await newer.sums(512, [(0, 1)])


async def test_a_server_that_is_busy_says_so_and_is_no_worse_for_it(cluster, monkeypatch) -> None:
    monkeypatch.setattr(differing, "MOST", 0)
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        sibling = await oslo.meets("kent")
        newer = sibling.newer("debian", PATH, offer(kent.files.put(PATH, BODY)))
        for _ in range(4):
            with pytest.raises(PeerLacks, match="just now"):
                await newer.sums(512, [(0, 1)])
        assert sibling.up


async def test_descriptors_are_closed_also_of_a_reader_that_goes_away(cluster) -> None:
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        newer = (await oslo.meets("kent")).newer("debian", PATH, offer(kent.files.put(PATH, BODY)))
        before = len(_bodies())
        await newer.sums(512, [(0, 1)])
        pieces = newer.pieces([(0, 2**20), (2**20 + 1, len(BODY))])
        assert await anext(pieces)
        await pieces.aclose()
        async with asyncio.timeout(30):
            while len(_bodies()) > before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def _bodies() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return [target for target in found if "memfd:body" in target]


# -- what a hostile sibling answers


def framed(packed: bytes) -> bytes:
    return len(packed).to_bytes(4, "big") + packed


BOMB = zstandard.ZstdCompressor(level=3).compress(bytes(64 * 2**20))
UNTOLD = zstandard.ZstdCompressor(level=3, write_content_size=False).compress(bytes(64 * 2**20))


@pytest.mark.parametrize(
    "body",
    [
        framed(BOMB),
        framed(UNTOLD),
        framed(bytes.fromhex("28b52ffde0") + (2**50).to_bytes(8, "little") + b"\x01\x00\x00"),
        framed(zstandard.ZstdCompressor().compress(bytes(99))),
        framed(zstandard.ZstdCompressor().compress(bytes(100)) + b"x"),
        framed(b""),
        framed(b"no frame at all"),
        b"\xff\xff\xff\xff" + bytes(100),
        deltawire.frame(bytes(100)) * 2,
        deltawire.frame(bytes(100))[:-1],
        b"",
    ],
)
async def test_125_pieces_of_a_hostile_sibling_are_refused(cluster, body: bytes) -> None:
    async with hostile(cluster, "lancaster", always(whole(body))), running(cluster, "oslo") as (oslo,):
        newer = (await oslo.meets("lancaster")).newer(
            "debian", PATH, Offer(b"a", Kind.FILE, 2**20, bytes(32))
        )
        with pytest.raises(PeerError):
            await _all(newer.pieces([(0, 100)]))


@pytest.mark.parametrize("body", [b"", bytes(15), bytes(17), bytes(10**6)])
async def test_125_sums_of_another_length_are_refused(cluster, body: bytes) -> None:
    async with hostile(cluster, "lancaster", always(whole(body))), running(cluster, "oslo") as (oslo,):
        newer = (await oslo.meets("lancaster")).newer(
            "debian", PATH, Offer(b"a", Kind.FILE, 2**20, bytes(32))
        )
        with pytest.raises(PeerBroke):
            await newer.sums(512, [(0, 2)])


# -- the bytes of it

ranges = st.lists(st.integers(1, 10**7), min_size=2, max_size=400).map(
    lambda gaps: [(sum(gaps[:i]), sum(gaps[: i + 1])) for i in range(0, len(gaps) - 1, 2)]
)


@settings(max_examples=60, deadline=None)
@given(ranges, st.integers(10**6, 10**8))
def test_ranges_come_back_as_they_were_asked_for(wanted, most: int) -> None:
    again: list[tuple[int, int]] = []
    for asked, text in deltawire.requests(wanted, most):
        assert deltawire.ranges(text, wanted[-1][1]) == list(asked)
        assert sum(end - first for first, end in asked) <= most
        for first, end in asked:
            if again and again[-1][1] == first:
                first = again.pop()[0]
            again.append((first, end))
    assert again == wanted


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="AQIz_-9g", max_size=60))
def test_any_text_is_ranges_or_refused(text: str) -> None:
    try:
        found = deltawire.ranges(text, 1000)
    except WireError:
        return
    assert all(0 <= a < b <= 1000 for a, b in found)
    assert all(x[1] < y[0] for x, y in itertools.pairwise(found))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3_000))
def test_a_frame_is_what_it_was_made_of_or_refused(data: bytes) -> None:
    packed = deltawire.frame(data)[4:]
    if data:
        assert deltawire.frame_read(packed, len(data)) == data
    with pytest.raises(WireError):
        deltawire.frame_read(packed, len(data) + 1)
    with pytest.raises(WireError):
        deltawire.frame_read(data, len(data) + 1)


def test_a_unit_is_never_larger_than_it_may_be() -> None:
    noise = random.Random(1).randbytes(deltawire.UNIT)
    assert len(deltawire.frame(noise)) <= deltawire.MAX_FRAME + 4
