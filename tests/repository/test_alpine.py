"""Alpine's indexes, built as apk-tools 2 document them."""

from __future__ import annotations

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Malformed, RepositoryError
from cluster.repository.alpine import Alpine
from cluster.repository.base import Named
from cluster.repository.verify import hasher
from tests.repository import made

ALPINE = Alpine()
PATH = b"v3.20/main/x86_64/APKINDEX.tar.gz"


def read(body: bytes) -> list[Named]:
    root = ALPINE.read_root(PATH, body)
    assert root.itself is not None
    return list(ALPINE.read_index(root, root.itself, io.BytesIO(body)))


def judged(named: Named, content: bytes, step: int = 100) -> bool:
    """Whether these bytes are the package that is named."""
    ((algorithm, digest),) = named.digests
    told = hasher(algorithm)
    for start in range(0, len(content), step):
        told.update(content[start : start + step])
    return told.digest() == digest


def test_an_index_is_a_root_signed_within():
    (group,) = ALPINE.roots([PATH, b"v3.20/main/x86_64/a-1.apk", b"other/index.tar.gz"])
    assert group.read == group.files == (PATH,)
    assert group.signatures[0].inline


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("step", [1, 37, 10**6])
def test_a_package_is_judged_by_its_control_segment_and_that_by_its_data(signed, step):
    package, said = made.apk("busybox", "1.36.1-r0", b"content" * 300, signed=signed)
    (one,) = read(made.apkindex(said))
    assert (one.path, one.size) == (b"v3.20/main/x86_64/busybox-1.36.1-r0.apk", len(package))
    assert not made.strong(one)  # a SHA-1 tells damage, no more
    assert judged(one, package, step)
    for at in (len(package) // 2, len(package) - 12):
        assert not judged(one, package[:at] + bytes([package[at] ^ 1]) + package[at + 1 :], step)
    assert not judged(one, package[:-1], step)
    assert not judged(one, package + b"x", step)


def test_another_package_of_the_same_size_is_not_taken_for_it():
    package, _ = made.apk("a", "1", b"x")
    _, said = made.apk("a", "1", b"y")
    (one,) = read(made.apkindex(said))
    for other in (package, bytes(one.size or 0), gzip.compress(bytes(2**25))[: one.size]):
        assert not judged(one, other)


@pytest.mark.parametrize(
    "old, new",
    [
        (b"P:a", b"P:../../a"),
        (b"P:a", b"P:other/a"),
        (b"P:a", b"p:a"),
        (b"S:", b"S:-"),
        (b"C:Q1", b"C:Q9"),
        (b"C:Q1", b"C:Q1!"),
        (b"V:", b"v:"),
    ],
)
def test_a_package_that_does_not_say_what_it_must_is_refused(old, new):
    _, said = made.apk("a", "1", b"x")
    with pytest.raises(Malformed):
        read(made.apkindex(said.replace(old, new)))


def test_what_is_no_index_is_refused():
    for body in (b"<html>" * 100, gzip.compress(b"<html>" * 100), gzip.compress(made.tar({"other": b""}))):
        with pytest.raises(Malformed):
            read(body)


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_names_or_an_error_of_ours(text):
    try:
        read(gzip.compress(made.tar({"APKINDEX": text})))
    except RepositoryError as error:
        assert "\n" not in str(error)
