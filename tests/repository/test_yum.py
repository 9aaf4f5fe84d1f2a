"""RPM repositories: those that createrepo_c makes, installation trees, and those that nobody should make."""

from __future__ import annotations

import gzip
import hashlib
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Malformed, RepositoryError, TooMuch
from cluster.repository.base import Named, Order, Role, Root
from cluster.repository.yum import Yum
from tests.repository import made

YUM = Yum()
SHA256 = "a" * 64
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


def repomd(*data: str, revision: str = "7") -> bytes:
    text = f'<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>{revision}</revision>{"".join(data)}</repomd>'
    return (XML + text).encode()


def data(
    kind: str = "primary",
    href: str = "repodata/p.xml",
    sum_: str = f'<checksum type="sha256">{SHA256}</checksum>',
) -> str:
    return f'<data type="{kind}">{sum_}<location href="{href}"/><timestamp>5</timestamp><size>9</size></data>'


def package(href: str = "p.rpm", size: str = "3", digest: str = SHA256, kind: str = "sha256") -> str:
    return (
        f'<package type="rpm"><name>p</name><checksum type="{kind}" pkgid="YES">{digest}</checksum>'
        f'<size package="{size}"/><location href="{href}"/></package>'
    )


def primary(*packages: str) -> bytes:
    return (
        XML + f'<metadata xmlns="http://linux.duke.edu/metadata/common">{"".join(packages)}</metadata>'
    ).encode()


def read(text: bytes, base: bytes = b"os") -> list[Named]:
    return list(
        YUM.read_index(Root(b"os/repodata/repomd.xml", base), Named(b"os/repodata/p.xml"), io.BytesIO(text))
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("yum") / "os"
    for number in range(2):
        made.rpm(root / "Packages", f"package{number}", f"1.{number}^git+a~rc")
    (root / "Packages" / "two words%2B.rpm").write_bytes(next((root / "Packages").iterdir()).read_bytes())
    return root


@pytest.mark.parametrize("packer", ["gz", "xz", "bz2"])
def test_all_that_a_real_repository_names_is_there_and_is_what_it_says(repository, packer):
    made.repodata(repository, f"--general-compress-type={packer}", "--revision=1795313228", "--no-database")
    (group,) = YUM.roots(b"os/" + path for path in made.paths_of(repository))
    assert group.read == group.files == (b"os/repodata/repomd.xml",)
    above = repository.parent
    root = YUM.read_root(group.name, (above / group.name.decode()).read_bytes())
    assert (root.base, root.order) == (b"os", Order("revision", 1795313228))
    (index,) = [n for n in root.named if n.role is Role.INDEX]
    packages = list(YUM.read_index(root, index, (above / index.path.decode()).open("rb")))
    assert {n.path for n in packages} == {
        b"os/" + p for p in made.paths_of(repository) if p.endswith(b".rpm")
    }
    for one in [*packages, *root.named]:
        content = (above / one.path.decode()).read_bytes()
        assert (one.size, one.digest("sha256")) == (len(content), hashlib.sha256(content).digest())
        assert made.strong(one)
        assert not one.optional


def test_databases_belong_to_the_indexes_and_are_not_read(repository):
    body = made.repodata(repository, "--database").read_bytes()
    root = YUM.read_root(b"repodata/repomd.xml", body)
    assert len([n for n in root.named if n.path.endswith(b".sqlite.bz2") and n.role is Role.EXTRA]) == 3


def test_roots_have_their_signature_and_key_with_them():
    tree = [
        b"os/repodata/" + name
        for name in (b"repomd.xml", b"repomd.xml.asc", b"repomd.xml.key", b"primary.xml.gz")
    ]
    (group,) = YUM.roots([*tree, b"other/repomd.xml", b"gone/repodata/repomd.xml.asc"])
    assert group.files == (
        b"os/repodata/repomd.xml.key",
        b"os/repodata/repomd.xml.asc",
        b"os/repodata/repomd.xml",
    )
    assert group.signatures[0].detached == (b"os/repodata/repomd.xml.asc",)


@pytest.mark.parametrize(
    "revision, order",
    [
        ("1795313228", Order("revision", 1795313228)),
        ("1795313228.7", Order("revision", 1795313228)),
        ("9.2", Order("revision", 9)),
        ("", Order("timestamp", 5)),
        ("9.2-GA", Order("timestamp", 5)),
        ("9" * 40, Order("timestamp", 5)),
    ],
)
def test_a_state_stands_where_its_revision_says_or_its_newest_index(revision, order):
    assert YUM.read_root(b"repodata/repomd.xml", repomd(data(), revision=revision)).order == order


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"Please log in", repomd(), repomd(data("filelists")), repomd(data())[:-3],
        repomd(data(href="../../../etc/passwd")), repomd(data(href="repodata/")),
        repomd(data(href="a" * 256)),
        repomd(data(sum_="")), repomd(data(sum_='<checksum type="crc">00</checksum>')),
        repomd(data(sum_='<checksum type="sha256">00</checksum>')), repomd('<data type="primary"/>'),
        b'<!DOCTYPE repomd [<!ENTITY e "x">]>' + repomd(data())[len(XML):],
        XML.encode() + b'<!-- c --><!DOCTYPE repomd SYSTEM "file:///etc/passwd">' + repomd(data())[len(XML):],
        XML.encode() + b"<!--" + b" " * 2**17 + b"--><!DOCTYPE x>" + repomd(data())[len(XML):],
        repomd(data()).decode().encode("utf-16"),
        repomd(data()).replace(b"UTF-8", b"UTF-7"),
        repomd(data()).replace(b"<revision>", b"<revision>\0"),
        repomd(data()).replace(b"<revision>", b"<revision>&e;"),
        repomd("<x>" * 5000 + "</x>" * 5000, data()),
    ],
)  # fmt: skip
def test_what_is_no_repomd_is_refused_in_one_line(body):
    with pytest.raises(RepositoryError) as caught:
        YUM.read_root(b"repodata/repomd.xml", body)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_document_type_is_told_by_its_name():
    with pytest.raises(Malformed, match="document type"):
        YUM.read_root(b"repodata/repomd.xml", b"<!DOCTYPE x>" + repomd(data())[len(XML) :])


def test_a_repomd_beyond_its_limits_is_refused():
    with pytest.raises(TooMuch):
        YUM.read_root(b"repodata/repomd.xml", repomd(data(), "<x/>" * 2**18))
    with pytest.raises(TooMuch):
        YUM.read_root(b"repodata/repomd.xml", repomd(*[data()] * 1001))


def test_what_another_server_has_is_not_named():
    other = data("other").replace("<location ", '<location xml:base="http://other.example/" ')
    assert len(YUM.read_root(b"repodata/repomd.xml", repomd(data(), other)).named) == 1
    elsewhere = package(href="http://other.example/p.rpm")
    assert [n.path for n in read(primary(elsewhere, package()))] == [b"os/p.rpm"]


@pytest.mark.parametrize(
    "broken",
    [
        package(href="../../x"),
        package(size="-1"),
        package(size="x"),
        package(digest="00"),
        package(kind="crc32"),
        package().replace("<size", "<nosize"),
        package(href=""),
        "<package>",
        "&undefined;",
    ],
)
def test_packages_that_do_not_say_what_they_must_are_refused(broken):
    with pytest.raises(Malformed):
        read(primary(package(), broken))


def test_old_repositories_are_verified_by_what_they_have():
    (one,) = read(primary(package(kind="sha", digest="1" * 40)))
    assert one.digests[0][0] == "sha1"
    assert not made.strong(one)


def test_packages_of_differences_may_be_absent():
    text = (
        XML + '<prestodelta><newpackage name="p"><delta oldversion="1"><filename>drpms/p.drpm</filename>'
        f'<sequence>s</sequence><size>4</size><checksum type="sha256">{SHA256}</checksum></delta>'
        "</newpackage></prestodelta>"
    )
    (one,) = read(text.encode())
    assert (one.path, one.size, one.optional) == (b"os/drpms/p.drpm", 4, True)


def test_a_large_primary_needs_no_more_memory_than_a_small_one():
    body = gzip.compress(primary(*(package(f"pool/p{n}.rpm") + "<stray/>" for n in range(8_000))), 1)
    tracemalloc.start()
    try:
        count = sum(1 for _ in YUM.read_index(Root(b"r", b""), Named(b"p"), io.BytesIO(body)))
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert count == 8_000


def test_a_record_without_end_is_not_waited_for():
    class Endless(io.RawIOBase):
        head = b"<metadata>"

        def read(self, size: int = -1) -> bytes:
            head, self.head = self.head, b""
            return head + b"<x></x>" * 9000

    with pytest.raises(TooMuch):
        list(YUM.read_index(Root(b"r", b""), Named(b"p"), Endless()))


@given(st.binary(max_size=300))
def test_no_bytes_make_anything_but_names_or_an_error_of_ours(rest):
    for body in (rest, primary(package())[:80] + rest, repomd(data())[:150] + rest, b"[general]\n" + rest):
        for attempt in (
            lambda body=body: read(body),
            lambda body=body: YUM.read_root(b"repodata/repomd.xml", body),
            lambda body=body: YUM.read_root(b".treeinfo", body),
        ):
            try:
                attempt()
            except RepositoryError as error:
                assert "\n" not in str(error)


TREE = f"""[header]
version = 1.2
[general]
name = Fedora 40
timestamp = 5
[tree]
build_timestamp = 1713000000
[stage2]
mainimage = images/install.img
[images-x86_64]
kernel = images/pxeboot/vmlinuz
initrd = images/pxeboot/initrd.img
boot.iso = images/boot.iso
[checksums]
images/boot.iso = sha256:{SHA256}
images/install.img = sha256:{SHA256}
images/pxeboot/vmlinuz = sha256:{SHA256}
repodata/repomd.xml = sha256:{SHA256}
"""


def test_an_installation_tree_names_what_every_installation_needs():
    (group,) = YUM.roots([b"os/.treeinfo"])
    assert group.signatures == ()  # nobody signs them
    root = YUM.read_root(group.read[0], TREE.encode())
    assert (root.base, root.order, root.label) == (b"os", Order("timestamp", 1713000000), "Fedora 40")
    assert {n.path: (n.optional, bool(n.digests)) for n in root.named} == {
        b"os/images/boot.iso": (True, True),
        b"os/images/install.img": (False, True),
        b"os/images/pxeboot/vmlinuz": (False, True),
        b"os/images/pxeboot/initrd.img": (False, False),
    }


@pytest.mark.parametrize(
    "old, new",
    [
        ("[header]", "<html>"),
        (SHA256, "abc"),
        ("sha256:", "crc:"),
        ("images/boot.iso =", "../../etc/passwd ="),
        ("mainimage = images", "mainimage = ../.."),
    ],
)
def test_a_tree_that_says_nonsense_is_refused(old, new):
    with pytest.raises(Malformed):
        YUM.read_root(b"os/.treeinfo", TREE.replace(old, new).encode())
