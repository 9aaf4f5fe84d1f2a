"""Compressed indexes: whole, in several members, cut off, and made to hurt."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import Malformed, RepositoryError, TooMuch
from cluster.repository import unpack

PACKERS = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
BOMB = bytes(unpack.FREE + 2**23)
TEXT = random.Random(4).randbytes(300_000) + b"Package: p\n" * 100_000


def unpacked(data: bytes, most: int = unpack.MAX_UNPACKED) -> bytes:
    return b"".join(unpack.pieces(b"i", io.BytesIO(data), most))


@pytest.mark.parametrize("name", PACKERS)
def test_what_was_packed_comes_out(name):
    assert unpacked(PACKERS[name](TEXT)) == TEXT
    assert unpacked(PACKERS[name](b"")) == b""


def test_what_is_not_packed_comes_out_as_it_is():
    assert unpacked(TEXT) == TEXT
    assert unpacked(b"") == b""


@pytest.mark.parametrize("name", sorted(set(PACKERS) - {"lzma"}))
def test_members_one_after_the_other_are_one_text(name):
    assert unpacked(PACKERS[name](TEXT) + PACKERS[name](b"more")) == TEXT + b"more"


def test_nul_bytes_after_a_member_are_padding():
    assert unpacked(gzip.compress(b"a") + bytes(200_000) + gzip.compress(b"b") + bytes(512)) == b"ab"


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_what_is_cut_off_is_refused(name, share):
    packed = PACKERS[name](TEXT)
    with pytest.raises(Malformed):
        unpacked(packed[: int(len(packed) * share)])


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2", "zstd"])
def test_what_is_damaged_or_followed_by_something_else_is_refused(name):
    packed = bytearray(PACKERS[name](TEXT))
    with pytest.raises(Malformed):
        unpacked(bytes(packed) + b"<html>")
    packed[len(packed) // 2 : len(packed) // 2 + 8] = b"damaged!"
    with pytest.raises(Malformed):
        unpacked(bytes(packed))


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_ends_early_and_needs_no_memory(name):
    make = {
        "gzip": lambda: gzip.compress(BOMB),
        "xz": lambda: lzma.compress(BOMB, preset=0),
        "lzma": lambda: lzma.compress(BOMB, lzma.FORMAT_ALONE, preset=0),
        "bzip2": lambda: bz2.compress(BOMB, 1),
        "zstd": lambda: zstandard.ZstdCompressor(level=1).compress(BOMB),
    }
    bomb = make[name]()
    tracemalloc.start()
    try:
        with pytest.raises(TooMuch):
            for _ in unpack.pieces(b"i", io.BytesIO(bomb)):
                pass
        assert tracemalloc.get_traced_memory()[1] < 48 * 2**20
    finally:
        tracemalloc.stop()


def test_no_more_comes_out_than_was_asked_for():
    with pytest.raises(TooMuch):
        unpacked(gzip.compress(TEXT), most=len(TEXT) - 1)
    assert unpacked(gzip.compress(TEXT), most=len(TEXT)) == TEXT


def test_a_window_that_would_fill_the_memory_is_refused():
    big = zstandard.ZstdCompressionParameters(window_log=29, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=big).compressobj()
    with pytest.raises(Malformed):
        unpacked(packer.compress(b"x" * 10) + packer.flush())


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"\x1f\x8b\x08\0", b"\xfd7zXZ\0", b"\x5d\0\0", b"BZh9", b"\x28\xb5\x2f\xfd", b""]),
    st.binary(max_size=300),
)
def test_no_bytes_make_anything_but_bytes_or_an_error_of_ours(head, rest):
    try:
        unpacked(head + rest)
    except RepositoryError as error:
        assert "\n" not in str(error)
