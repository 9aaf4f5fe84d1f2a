"""Bytes against what a repository says of them, and what two indexes say of one file."""

from __future__ import annotations

import hashlib

import pytest

from cluster.errors import Contradicted, Malformed
from cluster.repository.base import Named, Role, merged
from cluster.repository.paths import inside
from cluster.repository.verify import Verifier, algorithm

CONTENT = b"content" * 1000


def named(*algorithms: str, size: int | None = len(CONTENT), content: bytes = CONTENT) -> Named:
    return Named(b"p", size, tuple((name, hashlib.new(name, content).digest()) for name in algorithms))


def problem(one: Named, content: bytes = CONTENT) -> str | None:
    verifier = Verifier(one)
    verifier.update(content[:100])
    verifier.update(content[100:])
    return verifier.problem()


@pytest.mark.parametrize("name", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b"])
def test_each_algorithm_tells_another_content(name):
    assert problem(named(name)) is None
    assert problem(named(name, content=b"x")) == f"not the file that the repository names: its {name} differs"


def test_a_size_alone_tells_another_length():
    assert problem(named()) is None
    assert problem(named(size=None)) is None
    assert problem(named(size=1)) == f"{len(CONTENT)} bytes, where the repository says 1"


def test_the_strongest_digest_decides():
    assert algorithm(named("md5", "sha1", "sha512", "sha256")) == "sha256"
    assert algorithm(named("md5", "sha512")) == "sha512"
    assert algorithm(Named(b"p", 1, (("tiger", b"x"),))) is None
    assert named("md5", "sha256").trusted
    assert not named("md5", "sha1").trusted


def test_what_two_indexes_say_of_one_file_is_joined():
    one = Named(b"p", None, (("md5", b"1"),), optional=True, copies=(b"a",))
    other = Named(b"p", 3, (("md5", b"1"), ("sha1", b"2")), Role.INDEX, form=b"f", copies=(b"a", b"b"))
    assert merged(one, other) == Named(
        b"p", 3, (("md5", b"1"), ("sha1", b"2")), Role.INDEX, False, b"f", (b"a", b"b")
    )


@pytest.mark.parametrize("other", [Named(b"p", 4), Named(b"p", 3, (("md5", b"2"),))])
def test_two_indexes_that_contradict_each_other_are_told(other):
    with pytest.raises(Contradicted, match=r"^p: named with"):
        merged(Named(b"p", 3, (("md5", b"1"),)), other)


@pytest.mark.parametrize(
    "said, up, path", [(b"a/./b//c", False, b"d/a/b/c"), (b"../x", True, b"x"), (b"/a", False, b"d/a")]
)
def test_paths_are_made_plain(said, up, path):
    assert inside(b"w", b"d", said, up=up) == path


@pytest.mark.parametrize(
    "said, up",
    [(b"../x", False), (b"../../x", True), (b"", False), (b".", False), (b"a/", False), (b"a\0", True)],
)
def test_paths_that_lead_outside_or_nowhere_are_refused(said, up):
    with pytest.raises(Malformed):
        inside(b"w", b"d", said, up=up)
