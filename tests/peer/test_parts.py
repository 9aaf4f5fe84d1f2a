"""Parts of large files that are still arriving: what is told of them, what may be read, and who lies.

Blocks are shrunk to 4 KiB, ranges to 16 KiB.
"""

import asyncio
import hashlib
import os
import random

import msgpack
import pytest
from blake3 import blake3

from cluster.errors import PeerBroke, PeerError, PeerLacks
from cluster.model import Claim, Row
from cluster.peer import partwire
from cluster.peer.client import Parts
from cluster.peer.codec import WireError
from cluster.plan import steal
from cluster.store import blocks
from tests.peer.cluster import running
from tests.peer.hostile import always, hostile, whole
from tests.peer.test_lines import unreachable

BLOCK, RANGE = 4 * 2**10, 16 * 2**10
BODY = random.Random(4).randbytes(10 * RANGE + 99)
SIZE, TAG, PATH = len(BODY), '"v1"', b"iso/big"
DIGEST = hashlib.sha256(BODY).digest()


@pytest.fixture(autouse=True)
def _shrunk(monkeypatch):
    for module in (steal, blocks):
        monkeypatch.setattr(module, "BLOCK", BLOCK)
    monkeypatch.setattr(steal, "RANGE", RANGE)


class Arrived:
    """A growing file of which some ranges are here; nothing else of it is on the disk."""

    path, size, etag, sha256 = PATH, SIZE, TAG, None

    def __init__(self, *here: tuple[int, int]) -> None:
        self._here = list(here)
        self._descriptor = os.memfd_create("growing")
        for first, end in here:
            os.pwrite(self._descriptor, BODY[first:end], first)
        self.closed = False

    def runs(self) -> list[tuple[int, int]]:
        return self._here

    def hashes(self, first: int, end: int) -> bytes | None:
        inside = any(a <= first and end <= b for a, b in self._here)
        return hashes(first, end) if inside else None

    def opened(self) -> int:
        return os.dup(self._descriptor)

    def close(self) -> None:
        self.closed = True
        os.close(self._descriptor)


def hashes(first: int, end: int) -> bytes:
    return b"".join(blake3(BODY[at : min(at + BLOCK, end)]).digest() for at in range(first, end, BLOCK))


async def read(sibling, first, end, mirror="debian", **version):
    named = {"path": PATH, "size": SIZE, "etag": TAG} | version
    async with sibling.part(mirror, named["path"], named["size"], named["etag"], first, end) as part:
        return part.hashes, b"".join([chunk async for chunk in part.chunks()])


async def told(sibling, mirror="debian", **version):
    named = {"path": PATH, "size": SIZE, "etag": TAG} | version
    return await sibling.parts(mirror, named["path"], named["size"], named["etag"], 2.0)


@pytest.mark.parametrize("dials", [False, True], ids=["asked directly", "asked through its line"])
async def test_what_arrives_at_a_sibling_is_told_and_read_with_its_hashes(cluster, dials):
    cluster = unreachable(cluster, "oslo") if dials else cluster
    async with running(cluster, "kent", "oslo", talk=dials) as (kent, oslo):
        oslo.claims.arriving.begin("debian", Arrived((0, RANGE), (3 * RANGE, 5 * RANGE), (10 * RANGE, SIZE)))
        oslo.claims.claim("debian", b"iso", b"big", Row(SIZE), 0.0, first=RANGE, end=2 * RANGE, etag=TAG)
        oslo.claims.claim("debian", b"iso", b"other", Row(SIZE), 0.0)
        sibling = await kent.meets("oslo")
        parts = await told(sibling)
        assert parts.runs == ((0, RANGE), (3 * RANGE, 5 * RANGE), (10 * RANGE, SIZE))
        assert [(c.name, c.first, c.end, c.etag) for c in parts.claims] == [(b"big", RANGE, 2 * RANGE, TAG)]
        before = sibling.traffic.bytes
        for first, end in ((0, RANGE), (3 * RANGE + BLOCK, 4 * RANGE), (10 * RANGE, SIZE)):
            assert await read(sibling, first, end) == (hashes(first, end), BODY[first:end])
        assert sibling.traffic.bytes - before == RANGE + RANGE - BLOCK + 99


async def test_what_a_sibling_has_read_is_known_to_be_copied(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.claims.arriving.begin("debian", Arrived((0, SIZE)))
        sibling, spread = await kent.meets("oslo"), oslo.claims.arriving.spread("debian")
        for first in (0, RANGE, 10 * RANGE):
            spread.came(PATH, first, min(first + RANGE, SIZE), 0.0)
        await read(sibling, 0, RANGE)
        await read(sibling, RANGE, 2 * RANGE - BLOCK)
        assert spread.alone(0.0) == 2
        await read(sibling, 2 * RANGE - BLOCK, 2 * RANGE)
        await read(sibling, 10 * RANGE, SIZE)
        assert spread.alone(0.0) == 0


async def test_a_file_that_is_here_whole_is_told_and_read_by_parts_too(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.files.put(PATH, BODY)
        sibling = await kent.meets("oslo")
        assert await told(sibling) == Parts(((0, SIZE),), sha256=DIGEST)
        for first, end in ((0, RANGE), (9 * RANGE, 10 * RANGE), (10 * RANGE, SIZE)):
            assert await read(sibling, first, end) == (hashes(first, end), BODY[first:end])


async def test_of_a_file_that_the_disk_has_changed_no_part_is_sent(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.files.put(PATH, BODY)
        oslo.files.damaged = True
        sibling = await kent.meets("oslo")
        with pytest.raises(PeerError):
            await read(sibling, 0, RANGE)
        oslo.files.damaged = False
        assert await read(sibling, 0, RANGE) == (hashes(0, RANGE), BODY[:RANGE])


@pytest.mark.parametrize("whole_file", [False, True])
@pytest.mark.parametrize(
    "version", [{"size": SIZE + 1}, {"etag": '"v2"'}, {"etag": ""}, {"path": b"iso/other"}], ids=str
)
async def test_another_version_is_neither_told_nor_read(cluster, version, whole_file):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        if whole_file:
            oslo.files.put(PATH, BODY)
        else:
            oslo.claims.arriving.begin("debian", Arrived((0, SIZE)))
        sibling = await kent.meets("oslo")
        assert await told(sibling, **version) == Parts()
        with pytest.raises(PeerLacks):
            await read(sibling, 0, RANGE, **version)
        assert sibling.up


async def test_what_has_not_arrived_is_not_read(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.claims.arriving.begin("debian", Arrived((0, RANGE + BLOCK)))
        sibling = await kent.meets("oslo")
        for first, end in ((RANGE, 2 * RANGE), (5 * RANGE, 6 * RANGE)):
            with pytest.raises(PeerLacks):
                await read(sibling, first, end)
        assert await read(sibling, RANGE, RANGE + BLOCK) == (
            hashes(RANGE, RANGE + BLOCK),
            BODY[RANGE : RANGE + BLOCK],
        )


async def test_a_file_in_doubt_is_not_told(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.files.put(PATH, BODY, unknown=True)
        assert await told(await kent.meets("oslo")) == Parts()


async def test_117_parts_of_mirrors_that_are_not_shared_are_not_told(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.claims.arriving.begin("ctan", Arrived((0, SIZE)))
        sibling = await kent.meets("oslo")
        with pytest.raises(PeerLacks):
            await told(sibling, "ctan")
        with pytest.raises(PeerLacks):
            await read(sibling, 0, RANGE, "ctan")


@pytest.mark.parametrize(
    ("first", "end"),
    [(1, RANGE), (0, 5), (0, 2 * RANGE), (RANGE, RANGE), (RANGE, 0), (SIZE, SIZE), (10 * RANGE, SIZE + 1)],
)
async def test_127_what_are_no_blocks_of_a_file_is_refused(cluster, first, end):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.claims.arriving.begin("debian", Arrived((0, SIZE)))
        with pytest.raises(PeerBroke, match="400 not blocks of this file"):
            await read(await kent.meets("oslo"), first, end)


async def test_123_a_path_that_is_none_does_not_exist(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        oslo.claims.arriving.begin("debian", Arrived((0, SIZE)))
        with pytest.raises(PeerLacks):
            await told(await kent.meets("oslo"), path=b"iso/../iso/big")


async def test_who_reads_goes_on_when_the_file_is_published_and_the_pass_ends(cluster):
    async with running(cluster, "kent", "oslo") as (kent, oslo):
        growing = Arrived((0, SIZE))
        oslo.claims.arriving.begin("debian", growing)
        sibling = await kent.meets("oslo")
        async with sibling.part("debian", PATH, SIZE, TAG, 0, RANGE) as part:
            oslo.claims.clear("debian")
            assert growing.closed
            assert b"".join([chunk async for chunk in part.chunks()]) == BODY[:RANGE]
        assert await told(sibling) == Parts()


# -- a sibling that breaks the rules


def message(**fields: object) -> bytes:
    return msgpack.packb({"v": [1, 1], "runs": [], "claims": []} | fields)


@pytest.mark.parametrize(
    "body",
    [
        message(runs=[[0, 10], [10, 20]]),
        message(runs=[[20, 30], [0, 10]]),
        message(runs=[[10, 10]]),
        message(runs=[[0, SIZE + 1]]),
        message(runs=[[-1, 5]]),
        message(runs=[[0]]),
        message(runs=None),
        message(claims=[[b"../x"]]),
        message(arriving=1),
        message(sha256=b"short"),
        msgpack.packb({"v": [2, 0], "runs": [], "claims": []}),
        message(runs=[[2 * n, 2 * n + 1] for n in range(9_000)]),
        b"",
    ],
)
async def test_an_answer_that_breaks_the_rules_is_refused(cluster, body):
    with pytest.raises(WireError):
        partwire.told_read(body, SIZE)
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(body))):
        with pytest.raises(PeerBroke):
            await told(await kent.meets("oslo"))


def test_what_is_told_is_read_again():
    runs = [(2 * n, 2 * n + 1) for n in range(5_000)]
    claims = [Claim(b"x", Row(5), first=n, end=n + 1, etag=TAG) for n in range(16)]
    parts = partwire.told_read(partwire.told(Parts(tuple(runs), tuple(claims), True, DIGEST)), SIZE)
    assert parts == Parts(tuple(runs), tuple(claims), True, DIGEST)


HEAD = hashes(0, RANGE)


@pytest.mark.parametrize(
    "body",
    [
        HEAD + BODY[: RANGE - 1],
        HEAD + BODY[: RANGE + 1],
        BODY[:RANGE],
        HEAD[:40],
        b"",
    ],
    ids=["short", "long", "no hashes", "half the hashes", "nothing"],
)
async def test_a_part_of_another_length_is_refused(cluster, body):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(body))):
        with pytest.raises(PeerBroke, match="announces"):
            await read(await kent.meets("oslo"), 0, RANGE)


@pytest.mark.parametrize("sent", [0, 40, len(HEAD), len(HEAD) + 100])
async def test_a_part_that_ends_early_is_no_part(cluster, sent):
    async def answer(target, writer):
        due = len(HEAD) + RANGE
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {due}\r\n\r\n".encode() + (HEAD + BODY)[:sent])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", answer):
        with pytest.raises(PeerError):
            await read(await kent.meets("oslo"), 0, RANGE)
