"""apt's repositories: those that Debian's tools make, and those that nobody should."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from pathlib import Path

import pytest

from cluster.errors import Contradicted, Malformed, RepositoryError, TooMuch
from cluster.repository.apt import Apt
from cluster.repository.base import Named, Order, Role, Root, to_read
from tests.repository import made

APT = Apt()
MD5, SHA256 = b"0" * 32, b"a" * 64


def release(*lines: bytes, head: bytes = b"Date: Sat, 22 Nov 2025 10:00:00 UTC\n") -> bytes:
    return head + b"SHA256:\n" + b"".join(b" " + line + b"\n" for line in lines)


def read(text: bytes, path: bytes = b"dists/s/main/binary-all/Packages", base: bytes = b"") -> list[Named]:
    root = Root(b"dists/s/Release", base)
    return list(APT.read_index(root, Named(path, role=Role.INDEX), io.BytesIO(text)))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("apt") / "archive"
    for number in range(3):
        made.deb(root / "pool" / "p", f"package{number}", f"1.{number}")
    made.indexes(
        root,
        options={"Date": "Sat, 22 Nov 2025 10:00:00 UTC"},
    )
    return root


def test_all_that_a_real_repository_names_is_there_and_is_what_it_says(archive):
    (group,) = APT.roots(made.paths_of(archive))
    assert group.name == b"dists/stable"
    assert group.read == group.files == (b"dists/stable/Release",)
    root = APT.read_root(group.read[0], (archive / "dists/stable/Release").read_bytes())
    assert (root.base, root.label, root.order) == (b"", "Test stable", Order("Date", 1763805600))
    packages = [n for n in root.named if n.role is Role.INDEX]
    assert {n.form for n in packages} == {b"dists/stable/main/binary-all/Packages"}
    assert len(packages) == 5
    assert all(n.optional for n in root.named)
    for index in packages:
        named = list(APT.read_index(root, index, io.BytesIO((archive / index.path.decode()).read_bytes())))
        assert [n.path for n in named] == [b"pool/p/package%d_1.%d_all.deb" % (n, n) for n in range(3)]
        assert not any(n.optional for n in named)
        for one in [*named, *root.named]:
            content = (archive / one.path.decode()).read_bytes()
            assert one.size == len(content)
            assert one.digest("sha256") == hashlib.sha256(content).digest()
            assert made.strong(one)


def test_by_hash_names_are_copies_of_what_release_lists(archive):
    root = APT.read_root(b"dists/stable/Release", (archive / "dists/stable/Release").read_bytes())
    for one in root.named:
        (copy,) = [c for c in one.copies if b"/SHA256/" in c]
        assert (archive / copy.decode()).read_bytes() == (archive / one.path.decode()).read_bytes()


def test_of_an_indexs_forms_the_cheapest_that_is_there_is_read():
    body = release(*(SHA256 + b" 9 main/binary-all/Packages" + end for end in (b"", b".gz", b".xz")))
    there = [n for n in APT.read_root(b"dists/s/Release", body).named if not n.path.endswith(b"Packages")]
    assert [n.path for n in to_read(there)] == [b"dists/s/main/binary-all/Packages.gz"]


@pytest.mark.parametrize(
    "paths, groups",
    [
        (
            "dists/a/InRelease dists/a/Release dists/a/Release.gpg",
            {"dists/a": "Release Release.gpg InRelease"},
        ),
        ("x/dists/a/updates/Release", {"x/dists/a/updates": "Release"}),
        (
            "dists/a/InRelease dists/a/main/binary-all/Release dists/a/main/source/Release",
            {"dists/a": "InRelease"},
        ),
        ("InRelease Packages.gz", {"": "InRelease"}),
        ("flat/Release flat/Packages", {"flat": "Release"}),
        ("flat/Release flat/other", {}),  # a file of that name is not enough
        ("dists/a/Release.gpg", {}),
    ],
)
def test_where_roots_are(paths, groups):
    found = APT.roots(path.encode() for path in paths.split())
    assert {
        g.name.decode(): " ".join(p.decode().rpartition("/")[2] for p in g.files) for g in found
    } == groups


def test_inrelease_is_read_before_release_and_carries_its_signature():
    (group,) = APT.roots([b"dists/a/" + name for name in (b"InRelease", b"Release", b"Release.gpg")])
    assert [p.rpartition(b"/")[2] for p in group.read] == [b"InRelease", b"Release"]
    inline, detached = group.signatures
    assert inline.inline
    assert (detached.signed, detached.detached) == (b"dists/a/Release", (b"dists/a/Release.gpg",))


@pytest.mark.parametrize(
    "directory, base", [(b"dists/a", b""), (b"x/y/dists/a/updates", b"x/y"), (b"flat", b"flat"), (b"", b"")]
)
def test_files_are_named_from_above_dists_or_beside_a_flat_release(directory, base):
    path = directory + b"/Release" if directory else b"Release"
    assert APT.read_root(path, release(MD5 * 2 + b" 1 Packages")).base == base


def test_the_text_within_a_signature_is_read():
    text = release(SHA256 + b" 1 main/x", SHA256 + b" 1 main/y")
    signed = (
        b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + text + b"- -----dash\n"
        b"-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"
    )
    assert len(APT.read_root(b"dists/s/InRelease", signed).named) == 2
    for broken in (b"Origin: x\n" + signed, signed + b"SHA256:\n", signed[:-60], signed + signed):
        with pytest.raises(Malformed):
            APT.read_root(b"dists/s/InRelease", broken)


@pytest.mark.parametrize(
    "line, error",
    [
        (SHA256 + b" 1 ../../../etc/passwd", Malformed),
        (SHA256 + b" 1 main/../../x", Malformed),
        (SHA256 + b" 1 " + b"x" * 256, Malformed),
        (SHA256 + b" 1 a\0b", Malformed),
        (SHA256 + b" -1 main/x", Malformed),
        (SHA256 + b" 99999999999999999999999 main/x", TooMuch),
        (SHA256 + b" 1" + b"0" * 5000 + b" main/x", TooMuch),
        (SHA256[1:] + b" 1 main/x", Malformed),
        (b"z" * 64 + b" 1 main/x", Malformed),
        (SHA256 + b" 1 main/x y", Malformed),
        (SHA256 + b" 1 main/", Malformed),
    ],
)
def test_a_release_that_names_what_cannot_be_is_refused(line, error):
    with pytest.raises(error):
        APT.read_root(b"dists/s/Release", release(line))


def test_one_name_with_two_digests_or_sizes_is_refused():
    for other in (b"b" * 64 + b" 1 main/x", SHA256 + b" 2 main/x"):
        with pytest.raises(Contradicted):
            APT.read_root(b"dists/s/Release", release(SHA256 + b" 1 main/x", other))


@pytest.mark.parametrize(
    "body", [b"", b"\n\n", b"<html>\n<body>Please log in</body>", b"Origin: x\n", b"\xff" * 99]
)
def test_what_is_no_release_is_refused(body):
    with pytest.raises(Malformed):
        APT.read_root(b"dists/s/Release", body)


@pytest.mark.parametrize(
    "said", [b"never", b"Sat, 99 Nov 2025 10:00:00 UTC", b"Sat, 22 Nov 99999 10:00:00 UTC"]
)
def test_a_date_that_is_none_is_refused(said):
    with pytest.raises(Malformed, match="no date"):
        APT.read_root(b"dists/s/Release", release(SHA256 + b" 1 x", head=b"Date: " + said + b"\n"))


def test_an_older_state_is_known_by_its_date():
    older = APT.read_root(
        b"dists/s/Release", release(SHA256 + b" 1 x", head=b"Date: Fri, 21 Nov 2025 10:00:00 UTC\n")
    )
    newer = APT.read_root(b"dists/s/Release", release(SHA256 + b" 1 x"))
    assert older.order.before(newer.order)
    assert not newer.order.before(older.order)
    assert not newer.order.before(newer.order)
    undated = APT.read_root(b"dists/s/Release", release(SHA256 + b" 1 x", head=b""))
    assert undated.order is None


def test_a_state_says_until_when_it_is_valid():
    head = b"Date: Fri, 21 Nov 2025 10:00:00 UTC\nValid-Until: Fri, 28 Nov 2025 10:00:00 UTC\n"
    root = APT.read_root(b"dists/s/Release", release(SHA256 + b" 1 x", head=head))
    assert root.valid_until == root.order.key + 7 * 86400


def test_weak_digests_are_read_and_not_trusted():
    (one,) = read(
        b"Package: p\nFilename: pool/p.deb\nSize: 3\nMD5sum: " + MD5 + b"\nSHA1: " + b"1" * 40 + b"\n"
    )
    assert [algorithm for algorithm, _ in one.digests] == ["md5", "sha1"]
    assert not made.strong(one)


@pytest.mark.parametrize("name", [b"./p.deb", b"p.deb", b".//p.deb", b"/p.deb"])
def test_names_of_flat_repositories_are_beside_their_packages(name):
    (one,) = read(b"Filename: " + name + b"\nSize: 3\nSHA256: " + SHA256 + b"\n", b"flat/Packages", b"flat")
    assert one.path == b"flat/p.deb"


@pytest.mark.parametrize(
    "text",
    [
        b"Package: p\nSize: 3\nSHA256: " + SHA256,
        b"Filename: p\nSHA256: " + SHA256,
        b"Filename: p\nSize: 3\n",
        b"Filename: ../p\nSize: 3\nSHA256: " + SHA256,
        b"Filename: p\nFilename: q\nSize: 3\nSHA256: " + SHA256,
        b"Filename: p\nSize: 3\nSHA256: " + SHA256[:-2],
        b"<!DOCTYPE html>\n<html>",
    ],
)
def test_packages_that_do_not_say_what_they_must_are_refused(text):
    with pytest.raises(Malformed):
        read(text)


def test_a_source_package_names_its_files_once_with_all_digests():
    text = (
        b"Package: s\nDirectory: pool/s\nFiles:\n " + MD5 + b" 3 s.dsc\n " + MD5 + b" 4 s.tar.xz\n"
        b"Checksums-Sha256:\n " + SHA256 + b" 3 s.dsc\n " + SHA256 + b" 4 s.tar.xz\n"
    )
    dsc, tar = read(text, b"dists/s/main/source/Sources", b"deb")
    assert (dsc.path, dsc.size, [a for a, _ in dsc.digests]) == (b"deb/pool/s/s.dsc", 3, ["md5", "sha256"])
    assert tar.path == b"deb/pool/s/s.tar.xz"
    with pytest.raises(Contradicted):
        read(text.replace(SHA256 + b" 3", SHA256 + b" 5"), b"dists/s/main/source/Sources")
    with pytest.raises(Malformed):
        read(text.replace(b" s.dsc", b" ../s.dsc"), b"dists/s/main/source/Sources")


def test_an_index_of_patches_names_them_as_they_are_downloaded():
    text = (
        b"SHA256-Current: " + SHA256 + b" 9\nSHA256-Patches:\n " + SHA256 + b" 5 T-1\n"
        b"SHA256-Download:\n " + SHA256 + b" 3 T-1.gz\n"
    )
    (one,) = read(text, b"dists/s/main/binary-all/Packages.diff/Index")
    assert (one.path, one.size, one.optional) == (b"dists/s/main/binary-all/Packages.diff/T-1.gz", 3, True)


def test_an_installers_digests_are_an_index_too():
    body = release(SHA256 + b" 9 main/installer-amd64/current/images/SHA256SUMS")
    (index,) = APT.read_root(b"dists/s/Release", body).named
    assert index.role is Role.INDEX
    (one,) = read(SHA256 + b"  ./netboot/mini.iso\n", index.path)
    assert (one.path, one.optional) == (b"dists/s/main/installer-amd64/current/images/netboot/mini.iso", True)


def test_a_tree_that_changes_right_now_is_recognised():
    assert APT.busy(b"Archive-Update-in-Progress-ftp.example.org")
    assert not APT.busy(b"project/trace/ftp.example.org")


def test_a_large_packages_needs_no_more_memory_than_a_small_one():
    paragraph = (
        b"Package: p\nDescription: "
        + b"x" * 2000
        + b"\nFilename: pool/p%d.deb\nSize: 3\nSHA256: "
        + SHA256
        + b"\n\n"
    )

    class Endless(io.RawIOBase):
        """Eight megabytes that are nowhere."""

        left = 4_000

        def read(self, size: int = -1) -> bytes:
            if not self.left:
                return b""
            self.left -= 20
            return b"".join(paragraph % (self.left + n) for n in range(20))

    stream = Endless()
    tracemalloc.start()
    try:
        count = sum(1 for _ in APT.read_index(Root(b"dists/s/Release", b""), Named(b"Packages"), stream))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 4_000
    assert peak < 2 * 2**20


def test_a_paragraph_without_end_is_not_waited_for():
    class Zeros(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return b"Package: " + b"x" * 60_000

    with pytest.raises(RepositoryError):
        for _ in APT.read_index(Root(b"dists/s/Release", b""), Named(b"Packages"), Zeros()):
            pass
