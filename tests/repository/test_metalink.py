"""Metalinks of both versions, among the files of digests."""

from __future__ import annotations

import io

import pytest

from cluster.errors import Malformed, RepositoryError
from cluster.repository.base import Named
from cluster.repository.plain import Plain

PLAIN = Plain()
SHA256, MD5 = "a" * 64, "0" * 32
FOUR = f"""<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
  <file name="a.iso"><size>9</size><hash type="sha-256">{SHA256}</hash><hash type="md5">{MD5}</hash>
    <pieces length="4" type="sha-256"><hash>{SHA256}</hash></pieces><url>http://mirror.example/a.iso</url></file>
  <file name="sub/b.iso"><hash type="tiger">00</hash></file>
</metalink>"""
THREE = f"""<metalink version="3.0" xmlns="http://www.metalinker.org/"><files>
  <file name="a.iso"><size>9</size><verification><hash type="sha256">{SHA256}</hash>
    <pieces length="4" type="sha1"><hash piece="0">{SHA256}</hash></pieces></verification></file>
</files></metalink>"""


def read(text: str) -> list[Named]:
    path = b"cd/a.iso.meta4"
    assert PLAIN.root_part(path) == path
    root = PLAIN.read_root(path, text.encode())
    assert root.itself is not None
    return list(PLAIN.read_index(root, root.itself, io.BytesIO(text.encode())))


def test_version_4_names_files_with_size_and_digests():
    one, other = read(FOUR)
    assert (one.path, one.size, [name for name, _ in one.digests], one.optional) == (
        b"cd/a.iso",
        9,
        ["md5", "sha256"],
        True,
    )
    assert (other.path, other.size, other.digests) == (b"cd/sub/b.iso", None, ())


def test_version_3_has_its_digests_one_element_deeper():
    (one,) = read(THREE)
    assert (one.path, one.size, one.digests) == (b"cd/a.iso", 9, (("sha256", bytes.fromhex(SHA256)),))


@pytest.mark.parametrize(
    "old, new",
    [
        ("a.iso", "../../etc/passwd"),
        ("<size>9", "<size>-9"),
        (SHA256, "12"),
        ("</metalink>", ""),
        ("<file ", "<other "),
        ("a.iso", ""),
        ("<metalink", "<!DOCTYPE metalink><metalink"),
    ],
)
def test_a_metalink_that_says_nonsense_is_refused(old, new):
    with pytest.raises(RepositoryError) as caught:
        read(
            THREE.replace(old, new, 1)
            if old != "<file "
            else THREE.replace("file ", "other ").replace("</file>", "</other>")
        )
    assert "\n" not in str(caught.value)


def test_a_page_instead_of_a_metalink_is_refused():
    with pytest.raises(Malformed):
        read("<html><body>Please log in</body></html>")
