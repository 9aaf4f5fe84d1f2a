"""A repository of each type is published whole, and what its root names is what is there."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.engine import repositories
from cluster.model import Repository
from cluster.origin.memory import EPOCH
from tests.engine.world import World
from tests.repository import made
from tests.signatures import keys


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _yum() -> dict[str, bytes]:
    package = b"package" * 50
    primary = (
        f'<metadata packages="1"><package type="rpm"><checksum type="sha256">{_sha256(package)}</checksum>'
        f'<size package="{len(package)}"/><location href="Packages/p.rpm"/></package></metadata>'
    )
    packed = gzip.compress(primary.encode())
    repomd = (
        '<repomd><revision>7</revision><data type="primary">'
        f'<checksum type="sha256">{_sha256(packed)}</checksum>'
        f'<location href="repodata/primary.xml.gz"/><size>{len(packed)}</size></data></repomd>'
    )
    kernel = b"kernel"
    tree = f"[header]\n[images-x86]\nkernel=images/k\n[checksums]\nimages/k = sha256:{_sha256(kernel)}\n"
    return {
        "os/Packages/p.rpm": package,
        "os/repodata/primary.xml.gz": packed,
        "os/repodata/repomd.xml": repomd.encode(),
        "os/.treeinfo": tree.encode(),
        "os/images/k": kernel,
    }


def _plain() -> dict[str, bytes]:
    image = b"image" * 100
    sums = f"{_sha256(image)}  a.iso\n{_sha256(b'')}  made-on-demand.iso\n"
    return {"cd/a.iso": image, "cd/SHA256SUMS": sums.encode()}


def _arch() -> dict[str, bytes]:
    package, signature = b"package" * 50, b"signature"
    database = gzip.compress(made.tar({"bash-1/desc": made.desc("bash", "1", package, signature)}))
    names = {f"core/core.{end}": database for end in ("db", "db.tar.gz", "files", "files.tar.gz")}
    return {"core/bash-1-any.pkg.tar.zst": package, "core/bash-1-any.pkg.tar.zst.sig": signature, **names}


def _alpine() -> dict[str, bytes]:
    package, said = made.apk("busybox", "1-r0", b"content" * 50)
    return {"main/x86_64/busybox-1-r0.apk": package, "main/x86_64/APKINDEX.tar.gz": made.apkindex(said)}


def _pypi() -> dict[str, bytes]:
    wheel = b"wheel" * 50
    link = f"../../packages/foo.whl#sha256={_sha256(wheel)}"
    page = f'<!DOCTYPE html><html><body><a href="{link}">foo</a></body></html><!--SERIAL 5-->'
    one = {
        "filename": "foo.whl",
        "url": "../../packages/foo.whl",
        "hashes": {"sha256": _sha256(wheel)},
        "size": len(wheel),
    }
    said = {"meta": {"_last-serial": 5}, "files": [one]}
    return {
        "packages/foo.whl": wheel,
        "simple/foo/index.html": page.encode(),
        "simple/foo/index.v1_json": json.dumps(said).encode(),
        "simple/index.html": b"<a href='foo/'>foo</a><!--SERIAL 5-->",
    }


KINDS = {
    "yum": (_yum, 2, "os/Packages/p.rpm", "os/repodata/repomd.xml"),
    "plain-digests": (_plain, 1, "cd/a.iso", "cd/SHA256SUMS"),
    "arch": (_arch, 1, "core/bash-1-any.pkg.tar.zst", "core/core.db"),
    "alpine": (_alpine, 1, "main/x86_64/busybox-1-r0.apk", "main/x86_64/APKINDEX.tar.gz"),
    "pypi": (_pypi, 2, "packages/foo.whl", "simple/foo/index.html"),
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "PAUSES", (0.0,))


def _made(world: World, type_: str, keyring: str | None = None) -> dict[str, bytes]:
    world.mirror = replace(world.mirror, repositories=(Repository(type_, b"", keyring),))
    files = KINDS[type_][0]()
    for path, content in files.items():
        world.memory.put(path.encode(), content)
    return files


@pytest.mark.parametrize("type_", KINDS)
async def test_a_whole_one_is_published(world: World, type_: str) -> None:
    _made(world, type_)
    report = await world.run()
    assert (report.outcome, report.published) == ("complete", KINDS[type_][1]), report.errors
    world.equal()
    again = await world.run()
    assert (again.outcome, again.published) == ("complete", 0), again.errors


@pytest.mark.parametrize("type_", KINDS)
async def test_one_with_a_file_that_is_not_what_is_named_is_not(world: World, type_: str) -> None:
    _, _, file, root = KINDS[type_]
    files = _made(world, type_)
    world.memory.put(file.encode(), files[file][:-9] + b"spoilt   ")
    report = await world.run()
    assert report.outcome == "incomplete"
    assert file in " ".join(map(str, report.errors))
    assert not (world.public / root).exists()


async def test_a_keyring_judges_what_is_signed_and_leaves_out_what_nobody_signs(
    world: World, tmp_path: Path
) -> None:
    with keys.signers("kent", "other") as (kent, other):
        ring = tmp_path / "ring.gpg"
        ring.write_bytes(kent.ring.read_bytes())
        files = _made(world, "yum", str(ring))
        repomd = files["os/repodata/repomd.xml"]
        for signer, published, words in (
            (None, 1, "signature"),
            (other, 0, "signed by a key"),
            (kent, 1, ""),
        ):
            if signer is not None:
                world.memory.put(b"os/repodata/repomd.xml.asc", signer.detached(repomd, "--armor"))
            report = await world.run()
            assert report.published == published, report.errors
            assert words in " ".join(map(str, report.errors))
            assert (world.public / "os/repodata/repomd.xml").exists() == (signer is kent)
            assert (world.public / "os/.treeinfo").exists()


@pytest.mark.parametrize("type_", ["arch", "alpine"])
async def test_a_root_without_a_word_of_its_age_is_as_old_as_its_file(world: World, type_: str) -> None:
    files = _made(world, type_)
    root = KINDS[type_][3].encode()
    parts = [path.encode() for path in files if path.startswith(KINDS[type_][3].rpartition(".")[0])]

    def changed(seconds: int) -> None:
        for path in {root, *parts}:
            body = gzip.compress(gzip.decompress(files[path.decode()]), mtime=abs(seconds))
            world.memory.put(path, body, mtime=EPOCH + seconds * 10**9)

    changed(100)
    assert (await world.run()).outcome == "complete"
    before = (world.public / root.decode()).read_bytes()
    changed(-100)
    report = await world.run()
    assert report.outcome == "incomplete" and "rollback: mtime" in report.errors[0], report.errors
    assert (world.public / root.decode()).read_bytes() == before
    changed(200)
    assert (await world.run()).outcome == "complete"
    assert (world.public / root.decode()).read_bytes() != before
