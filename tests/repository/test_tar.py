"""Tar archives in every form that Python and GNU tar write, and hostile ones."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Malformed, RepositoryError, TooMuch
from cluster.repository import tar
from tests.repository import made

FILES = {"a": b"", "dir/b": b"x" * 512, "c" * 99: b"y" * 5000, "long/" * 30 + "d": b"z", "\xe9": b"utf-8"}


def read(body: bytes, step: int = 10_000) -> dict[str, bytes]:
    pieces = [body[n : n + step] for n in range(0, len(body), step)]
    return {m.name.decode(): b"".join(m.content) for m in tar.members(b"t", pieces)}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("step", [1000, 10**6])
def test_every_format_is_read_in_pieces_of_any_length(format, step):
    assert read(made.tar(FILES, format=format), step) == FILES


def test_names_longer_than_any_format_had_room_for_are_read():
    files = {"n" * 300: b"x", "o": b"y"}
    assert read(made.tar(files, format=tarfile.GNU_FORMAT)) == files
    assert read(made.tar(files, format=tarfile.PAX_FORMAT)) == files


def test_members_that_nobody_reads_are_passed_over():
    assert [m.name for m in tar.members(b"t", [made.tar(FILES)])] == [name.encode() for name in FILES]


def test_segments_without_an_end_are_one_archive():
    body = made.tar({"a": b"1"}, end=False, format=tarfile.USTAR_FORMAT) + made.tar({"b": b"2"})
    assert read(body) == {"a": b"1", "b": b"2"}


def test_directories_and_links_are_no_files():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            entry = tarfile.TarInfo("name")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    assert read(file.getvalue()) == {}


@pytest.mark.parametrize(
    "size", [b"77777777777\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-1".ljust(12), b"9".ljust(12)]
)
def test_sizes_that_nothing_has_are_refused(size):
    body = bytearray(made.tar({"a": b"x"}, format=tarfile.USTAR_FORMAT))
    body[124:136] = size
    body[148:156] = b" " * 8
    body[148:156] = b"%06o\0 " % sum(body[:512])
    with pytest.raises(Malformed):
        read(bytes(body))


def test_a_long_name_without_end_is_not_taken_into_memory():
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = b"L", 2**32
    with pytest.raises(TooMuch):
        read(entry.tobuf(tarfile.GNU_FORMAT) + b"x" * 1000)


@pytest.mark.parametrize("cut", [100, 512, 600, 1100, 1500])
def test_what_is_cut_off_or_damaged_is_refused(cut):
    body = made.tar({"a": b"x" * 1024}, format=tarfile.USTAR_FORMAT)
    with pytest.raises(Malformed):
        read(body[:cut])
    with pytest.raises(Malformed):
        read(b"y" + body[1:])


@given(st.binary(max_size=1200))
def test_no_bytes_make_anything_but_members_or_an_error_of_ours(body):
    try:
        read(body)
    except (RepositoryError, UnicodeDecodeError) as error:
        assert "\n" not in str(error)
