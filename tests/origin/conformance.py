"""What every origin promises, whatever it reads from: one suite, run by `test_conformance`.

The tree, which each kind of origin is given in its own way:

    a.txt               12 bytes, "hello, world"
    empty               0 bytes
    large               1 MiB and 7 bytes
    na me%#+?é.bin      a name that URLs must escape
    latin-\\xe9          a name that is not UTF-8
    pool/b.txt          6 bytes
    pool/deep/          an empty directory
"""

from __future__ import annotations

import hashlib

import pytest

from cluster.errors import Changed, OriginError, TooLarge, Vanished
from cluster.model import Kind
from cluster.origin.base import Origin, Want

LARGE = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(2**15)) + b"the end"
FILES = {
    b"a.txt": b"hello, world",
    b"empty": b"",
    b"large": LARGE,
    "na me%#+?é.bin".encode(): b"escaped",
    b"latin-\xe9": b"bytes",
    b"pool/b.txt": b"bottom",
}
DIRECTORIES = (b"pool", b"pool/deep")
MTIME = 1_700_000_000  # s, of every file


async def received(origin: Origin, path: bytes, want: Want | None = None) -> bytes:
    async with origin.read(path, want or Want()) as body:
        return b"".join([chunk async for chunk in body.chunks()])


class Conformance:
    """Subclassed once; `origin` is a fixture that yields the tree above behind some origin."""

    async def test_a_listing_has_every_name_once_in_the_order_of_bytes(self, origin: Origin) -> None:
        names = [entry.name for entry in (await origin.listing(b"")).entries]
        assert names == sorted({path.split(b"/")[0] for path in (*FILES, *DIRECTORIES)})

    async def test_a_listing_tells_files_from_directories(self, origin: Origin) -> None:
        kinds = {entry.name: entry.kind for entry in (await origin.listing(b"")).entries}
        assert kinds.pop(b"pool") is Kind.DIRECTORY
        assert set(kinds.values()) == {Kind.FILE}

    async def test_a_directory_below_is_listed_by_its_path(self, origin: Origin) -> None:
        entries = (await origin.listing(b"pool")).entries
        assert [(e.name, e.kind) for e in entries] == [(b"b.txt", Kind.FILE), (b"deep", Kind.DIRECTORY)]

    async def test_an_empty_directory_is_a_complete_listing(self, origin: Origin) -> None:
        assert (await origin.listing(b"pool/deep")).entries == ()

    async def test_sizes_are_exact_or_not_told(self, origin: Origin) -> None:
        for entry in (await origin.listing(b"")).entries:
            if entry.kind is Kind.FILE:
                assert entry.size in (None, len(FILES[entry.name]))
                assert entry.size is not None or not origin.properties.exact_sizes

    async def test_times_agree_with_the_files(self, origin: Origin) -> None:
        for entry in (await origin.listing(b"")).entries:
            if entry.kind is Kind.FILE:
                assert entry.mtime is not None
                assert entry.mtime.ns <= MTIME * 10**9 < entry.mtime.ns + max(entry.mtime.precision, 2)

    @pytest.mark.parametrize("path", sorted(FILES))
    async def test_a_file_is_read_byte_for_byte(self, origin: Origin, path: bytes) -> None:
        assert await received(origin, path, Want(size=len(FILES[path]))) == FILES[path]

    async def test_facts_tell_the_size(self, origin: Origin) -> None:
        assert (await origin.facts(b"a.txt")).size == 12

    async def test_facts_come_with_a_body(self, origin: Origin) -> None:
        async with origin.read(b"large", Want(size=len(LARGE))) as body:
            assert (body.facts.size, body.start) == (len(LARGE), 0)

    @pytest.mark.parametrize("method", ["listing", "facts", "read"])
    async def test_an_absent_name_has_vanished(self, origin: Origin, method: str) -> None:
        with pytest.raises(Vanished, match=r"nothing%20here"):
            if method == "read":
                await received(origin, b"nothing here")
            else:
                await getattr(origin, method)(b"nothing here")

    async def test_another_size_than_the_listed_one_is_a_change(self, origin: Origin) -> None:
        with pytest.raises(Changed):
            await received(origin, b"a.txt", Want(size=11))

    async def test_a_body_over_the_limit_is_not_taken(self, origin: Origin) -> None:
        with pytest.raises(TooLarge):
            await received(origin, b"large", Want(limit=1000))

    async def test_a_read_is_resumed_where_the_validator_still_holds(self, origin: Origin) -> None:
        facts = await origin.facts(b"large")
        assert facts.ranges
        async with origin.read(b"large", Want(len(LARGE), start=1_000_000, etag=facts.etag)) as body:
            rest = b"".join([chunk async for chunk in body.chunks()])
            assert (body.start, rest) == (1_000_000, LARGE[1_000_000:])

    async def test_another_validator_starts_from_the_beginning(self, origin: Origin) -> None:
        async with origin.read(b"large", Want(len(LARGE), start=1_000_000, etag='"other"')) as body:
            assert body.start == 0
            assert b"".join([chunk async for chunk in body.chunks()]) == LARGE

    async def test_a_part_ends_where_it_is_told_to(self, origin: Origin) -> None:
        facts = await origin.facts(b"large")
        want = Want(len(LARGE), start=70_000, stop=70_100, etag=facts.etag)
        assert await received(origin, b"large", want) == LARGE[70_000:70_100]

    async def test_a_body_can_be_left_before_its_end(self, origin: Origin) -> None:
        async with origin.read(b"large", Want(size=len(LARGE))) as body:
            async for _ in body.chunks():
                break
        assert await received(origin, b"a.txt") == FILES[b"a.txt"]

    async def test_a_directory_is_not_read_as_a_file(self, origin: Origin) -> None:
        with pytest.raises(OriginError):
            await received(origin, b"pool", Want(size=6))

    async def test_a_file_is_not_listed_as_a_directory(self, origin: Origin) -> None:
        with pytest.raises(OriginError):
            await origin.listing(b"a.txt")

    async def test_traffic_is_counted(self, origin: Origin) -> None:
        await origin.listing(b"pool")
        await received(origin, b"a.txt")
        assert origin.traffic.bytes == 12
        assert origin.traffic.requests >= 2

    async def test_the_address_for_people_holds_no_credentials(self, origin: Origin) -> None:
        assert origin.url
        assert "@" not in origin.url
