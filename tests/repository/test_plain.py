"""Files of digests, as every tool writes them."""

from __future__ import annotations

import hashlib
import io
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Malformed, RepositoryError
from cluster.repository.base import Named, Role
from cluster.repository.plain import Plain
from tests.repository import made

PLAIN = Plain()
MD5, SHA1, SHA256, SHA512 = b"0" * 32, b"1" * 40, b"a" * 64, b"5" * 128


def read(text: bytes, path: bytes = b"cd/SHA256SUMS") -> list[Named]:
    root = PLAIN.read_root(path, text)
    assert root.itself is not None
    return list(PLAIN.read_index(root, root.itself, io.BytesIO(text)))


SUMS = """
    SHA256SUMS SHA512SUMS MD5SUMS SHA1SUMS B2SUMS sha256sum.txt md5sum.txt SHA256 MD5 CHECKSUM
    Fedora-Server-40-x86_64-CHECKSUM CHECKSUM.SHA256-FreeBSD-14.0 CHECKSUMS.txt
    a.iso.sha256 a.iso.SHA512 a.tar.gz.md5 a.sha256sum a.iso.sha256.txt a.b2sum"""
OTHERS = "b2 b2-1.0.iso md5.c checksums.py SHA256SUMS.gz checksums-1.0.tgz md5sum.exe.deb sums.txt README"


@pytest.mark.parametrize("name", SUMS.split())
def test_files_of_digests_are_known_by_their_names(name):
    assert PLAIN.root_part(b"x/" + name.encode()) == b"x/" + name.encode()


@pytest.mark.parametrize("name", OTHERS.split())
def test_other_files_are_not(name):
    assert PLAIN.root_part(b"x/" + name.encode()) is None


def test_detached_signatures_belong_to_what_they_sign():
    (one, two) = PLAIN.roots(
        [b"a/SHA256SUMS", b"a/SHA256SUMS.sign", b"a/MD5SUMS", b"b/SHA1SUMS.gpg", b"c/other"]
    )
    assert (one.name, one.signatures[0].inline) == (b"a/MD5SUMS", True)
    assert (two.name, two.files) == (b"a/SHA256SUMS", (b"a/SHA256SUMS.sign", b"a/SHA256SUMS"))
    assert two.signatures[0].detached == (b"a/SHA256SUMS.sign",)


def test_digests_with_a_signature_around_them_are_a_root_by_themselves():
    (one,) = PLAIN.roots([b"a/sha256sums.asc"])
    assert (one.read, one.files) == ((b"a/sha256sums.asc",), (b"a/sha256sums.asc",))
    assert one.signatures[0].inline
    text = (
        b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n"
        + SHA256
        + b"  a\n-----BEGIN PGP SIGNATURE-----\n"
    )
    assert [n.path for n in read(text, one.read[0])] == [b"a/a"]


@pytest.mark.parametrize(
    "path, line, said, algorithm",
    [
        ("SHA256SUMS", SHA256 + b"  a.iso", "a.iso", "sha256"),
        ("SHA256SUMS", SHA256 + b" *a.iso", "a.iso", "sha256"),
        ("SHA256SUMS", SHA256 + b"  ./sub/a.iso\r", "sub/a.iso", "sha256"),
        ("SHA256SUMS", SHA256 + b"  two words.iso", "two words.iso", "sha256"),
        ("SHA256SUMS", SHA256 + b"\ta.iso", "a.iso", "sha256"),
        ("SHA256SUMS", b"\\" + SHA256 + b"  a\\nb\\\\c", "a\nb\\c", "sha256"),
        ("x/SHA256SUMS", SHA256 + b"  ../iso/a.iso", "iso/a.iso", "sha256"),
        ("MD5SUMS", MD5 + b"  a.iso", "a.iso", "md5"),
        ("B2SUMS", SHA512 + b"  a.iso", "a.iso", "blake2b"),
        ("SHA512SUMS", SHA512 + b"  a.iso", "a.iso", "sha512"),
        ("checksums.txt", SHA1 + b"  a.iso", "a.iso", "sha1"),
        ("SHA256SUMS", SHA512 + b"  a.iso", "a.iso", "sha512"),
        ("CHECKSUM", b"SHA256 (a.iso) = " + SHA256, "a.iso", "sha256"),
        ("CHECKSUM", b"SHA512 (a (1).iso) = " + SHA512, "a (1).iso", "sha512"),
        ("CHECKSUM", b"SHA256(a.iso)= " + SHA256, "a.iso", "sha256"),
        ("CHECKSUM", b"SHA2-256(a.iso)= " + SHA256, "a.iso", "sha256"),
        ("CHECKSUM", b"BLAKE2b (a.iso) = " + SHA512, "a.iso", "blake2b"),
        ("a.iso.sha256", SHA256, "a.iso", "sha256"),
        ("a.iso.sha256", SHA256.upper() + b"  other.iso", "other.iso", "sha256"),
        ("a.iso.b2sum", SHA512, "a.iso", "blake2b"),
    ],
)
def test_every_way_to_write_a_line(path, line, said, algorithm):
    (one,) = read(b"# comment\n\n" + line + b"\n", path.encode())
    assert one.path.decode() == said
    assert [name for name, _ in one.digests] == [algorithm]
    assert one.optional
    assert made.strong(one) == (algorithm not in ("md5", "sha1"))


@pytest.mark.parametrize(
    "line", [b"  ../../a", b"  /home/build/../../..", b"  a/", b"  a\0b", b"  " + b"x" * 300]
)
def test_what_leads_out_of_the_mirror_names_nothing(line):
    assert [n.path for n in read(SHA256 + line + b"\n" + SHA256 + b"  good\n")] == [b"cd/good"]


def test_a_file_of_digests_among_the_named_belongs_to_the_indexes():
    one, two = read(SHA256 + b"  SHA1SUMS\n" + SHA256 + b"  a.iso\n" + SHA256 + b"  SHA256SUMS\n")
    assert (one.role, two.role) == (Role.EXTRA, Role.FILE)


@pytest.mark.parametrize(
    "body", [b"<html>Please log in</html>", b"404 not found\n", b"abc  def\n", b"SHA256 (a) = abc\n"]
)
def test_a_page_that_is_no_file_of_digests_is_refused(body):
    with pytest.raises(Malformed, match="no digest"):
        read(body)


def test_an_empty_one_names_nothing():
    assert read(b"") == []


@pytest.mark.parametrize("tool", ["md5sum", "sha1sum", "sha256sum", "sha512sum", "b2sum"])
@pytest.mark.parametrize("options", [[], ["--tag"], ["--binary"]])
def test_what_coreutils_write_is_understood(tool, options, tmp_path):
    names = ["plain", "with space", "with\nnewline", "back\\slash", "b\udcff\udcfe"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    text = subprocess.run([tool, *options, *names], cwd=tmp_path, capture_output=True, check=True).stdout
    algorithm = {"b2": "blake2b"}.get(tool[:-3], tool[:-3])
    expected = {n.encode("utf-8", "surrogateescape") for n in names}
    found = read(text, tool[:-3].upper().encode() + b"SUMS")
    assert {n.path for n in found} == expected
    for one in found:
        assert one.digests == ((algorithm, hashlib.new(algorithm, one.path).digest()),)


@given(st.binary(max_size=400))
def test_no_bytes_make_anything_but_names_or_an_error_of_ours(body):
    try:
        for one in read(body):
            assert b".." not in one.path.split(b"/")
    except RepositoryError as error:
        assert "\n" not in str(error)
