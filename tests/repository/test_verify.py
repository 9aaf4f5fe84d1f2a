"""Digests by name, plain paths, and what two indexes say of one file."""

from __future__ import annotations

import hashlib

import pytest

from cluster.errors import Contradicted, Malformed
from cluster.repository.base import Named, Role, merged
from cluster.repository.paths import inside
from cluster.repository.verify import hasher
from tests.repository import made


@pytest.mark.parametrize("name", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b"])
def test_each_algorithm_is_the_one_of_that_name(name):
    ours = hasher(name)
    ours.update(b"con")
    ours.update(b"tent")
    assert ours.digest() == hashlib.new(name, b"content").digest()


def test_an_algorithm_that_nobody_knows_is_told():
    with pytest.raises(ValueError, match="tiger"):
        hasher("tiger")


def test_only_digests_that_nobody_can_imitate_are_trusted():
    weak = (("md5", b"1"), ("sha1", b"2"), ("sha224", b"3"))
    assert not made.strong(Named(b"p", 1, weak))
    assert made.strong(Named(b"p", 1, (*weak, ("sha256", b"4"))))


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
