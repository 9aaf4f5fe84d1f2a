"""pacman's databases, built as repo-add documents them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Malformed, RepositoryError, TooMuch
from cluster.repository.arch import Arch
from cluster.repository.base import Named
from tests.repository import made

ARCH = Arch()
PATH = b"core/os/x86_64/core.db"


def read(body: bytes, path: bytes = PATH) -> list[Named]:
    root = ARCH.read_root(path, body)
    assert root.itself is not None
    return list(ARCH.read_index(root, root.itself, io.BytesIO(body)))


def database(*packages: tuple[str, bytes], packer=gzip.compress) -> bytes:
    files = {}
    for name, content in packages:
        files[f"{name}-1.0/desc"] = made.desc(name, "1.0", content, b"signature of " + name.encode())
        files[f"{name}-1.0/files"] = b"%FILES%\nusr/\n"
    return packer(made.tar(files))


@pytest.mark.parametrize(
    "packer",
    [gzip.compress, lzma.compress, bz2.compress, zstandard.ZstdCompressor().compress, lambda data: data],
)
def test_a_database_names_packages_and_their_signatures(packer):
    body = database(("bash", b"b" * 1000), ("name-" + "x" * 120, b"x"), packer=packer)
    bash, signature, *_ = named = read(body)
    assert len(named) == 4
    assert (bash.path, bash.size) == (b"core/os/x86_64/bash-1.0-any.pkg.tar.zst", 1000)
    assert bash.digest("sha256") == hashlib.sha256(b"b" * 1000).digest()
    assert made.strong(bash)
    assert not bash.optional
    assert (signature.path, signature.optional) == (bash.path + b".sig", True)
    assert signature.digest("sha256") == hashlib.sha256(b"signature of bash").digest()


def test_the_names_of_one_database_are_published_together_and_the_one_that_is_fetched_last():
    files = [
        b"a/core." + end
        for end in (b"db", b"db.sig", b"db.tar.gz", b"db.tar.gz.sig", b"files", b"files.tar.gz")
    ]
    (group,) = ARCH.roots(
        [*files, b"a/core.db.tar.gz.old", b"a/x.pkg.tar.zst", b"a/x.pkg.tar.zst.sig", b"b/only.files"]
    )
    assert group.name == b"a/core"
    assert group.read == (b"a/core.db", b"a/core.db.tar.gz", b"a/core.files", b"a/core.files.tar.gz")
    assert group.files == (
        b"a/core.files.tar.gz",
        b"a/core.files",
        b"a/core.db.tar.gz.sig",
        b"a/core.db.sig",
        b"a/core.db.tar.gz",
        b"a/core.db",
    )
    assert [s.detached for s in group.signatures] == [(b"a/core.db.sig",), (b"a/core.db.tar.gz.sig",), (), ()]


def test_a_database_that_is_being_written_is_recognised():
    assert ARCH.busy(b"a/core.db.tar.gz.lck")
    assert not ARCH.busy(b"a/core.db.tar.gz")


@pytest.mark.parametrize(
    "old, new",
    [
        (b"%FILENAME%\nbash", b"%FILENAME%\n../bash"),
        (b"%FILENAME%\nbash", b"%FILENAME%\nother/bash"),
        (b"%FILENAME%", b"%OTHER%"),
        (b"%CSIZE%\n3", b"%CSIZE%\nx"),
        (b"%SHA256SUM%\n", b"%SHA256SUM%\n00"),
        (b"%PGPSIG%\n", b"%PGPSIG%\n!"),
    ],
)
def test_a_package_that_does_not_say_what_it_must_is_refused(old, new):
    desc = made.desc("bash", "1.0", b"abc", b"s")
    assert len(read(made.tar({"bash/desc": desc}))) == 2
    with pytest.raises(Malformed):
        read(made.tar({"bash/desc": desc.replace(old, new)}))


def test_what_is_no_database_is_refused():
    for body in (b"<html>" + b" " * 600, b"SQLite format 3\0" + bytes(600), made.tar({"a/desc": b"x"})[:700]):
        with pytest.raises(Malformed):
            read(body)


def test_a_description_that_is_no_description_is_not_read():
    with pytest.raises(TooMuch):
        read(gzip.compress(made.tar({"bash/desc": bytes(5 * 2**20)})))


@given(st.binary(max_size=600), st.integers(0, 3000))
def test_no_bytes_make_anything_but_names_or_an_error_of_ours(junk, at):
    body = made.tar({"bash-1.0/desc": made.desc("bash", "1.0", b"abc", b"s")})
    for one in (junk, body[:at] + junk + body[at + len(junk) :]):
        try:
            read(one)
        except RepositoryError as error:
            assert "\n" not in str(error)
