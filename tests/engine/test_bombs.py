"""An index that unpacks to a gigabyte of nothing: one line, little memory, and the old state stays."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
from dataclasses import replace
from email.utils import formatdate

import pytest
import zstandard

from cluster.engine import repositories
from cluster.model import Repository
from tests.engine.test_kinds_of_repository import KINDS
from tests.engine.world import World

ZEROS = bytes(2**24)
GZIP = gzip.compress(ZEROS, mtime=0) * 64  # 1 GiB
_PACK = zstandard.ZstdCompressor(level=1).compress
ZSTD = _PACK(b"<metadata>") + _PACK(ZEROS.replace(b"\0", b" ")) * 64
MEMORY = 80 * 2**20  # bytes: a record of the largest size, a few times

Files = dict[str, bytes]


def _named(body: bytes, path: str) -> str:
    return f" {hashlib.sha256(body).hexdigest()} {len(body)} {path}\n"


def _apt(index: bytes = gzip.compress(b""), at: int = 10**9) -> Files:
    release = f"Date: {formatdate(at, usegmt=True)}\nSHA256:\n{_named(index, 'main/binary-all/Packages.gz')}"
    return {
        "dists/stable/main/binary-all/Packages.gz": index,
        "dists/stable/Release": release.encode(),
    }


def _yum(primary: bytes) -> Files:
    repomd = (
        '<repomd><revision>8</revision><data type="primary">'
        f'<checksum type="sha256">{hashlib.sha256(primary).hexdigest()}</checksum>'
        f'<location href="repodata/primary.xml.zst"/><size>{len(primary)}</size></data></repomd>'
    )
    return {"os/repodata/primary.xml.zst": primary, "os/repodata/repomd.xml": repomd.encode()}


BOMBS: dict[str, tuple[str, Files, Files, str, str]] = {
    "Packages.gz": ("apt", _apt(), _apt(GZIP, 2 * 10**9), "dists/stable/Release", "Packages.gz"),
    "primary.xml.zst": ("yum", KINDS["yum"][0](), _yum(ZSTD), "os/repodata/repomd.xml", "primary.xml.zst"),
    "core.db": (
        "arch",
        KINDS["arch"][0](),
        {f"core/core.{end}": GZIP for end in ("db", "db.tar.gz", "files", "files.tar.gz")},
        "core/core.db",
        "core.db",
    ),
    "core.files": (
        "arch",
        KINDS["arch"][0](),
        {f"core/core.{end}": GZIP for end in ("files", "files.tar.gz")},
        "core/core.files",
        "core.files",
    ),
    "APKINDEX": (
        "alpine",
        KINDS["alpine"][0](),
        {"main/x86_64/APKINDEX.tar.gz": GZIP},
        "main/x86_64/APKINDEX.tar.gz",
        "APKINDEX.tar.gz",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_67_a_bomb_as_index_is_one_line_and_the_old_state_stays(
    world: World, monkeypatch: pytest.MonkeyPatch, bomb: str
) -> None:
    monkeypatch.setattr(repositories, "PAUSES", (0.0,))
    type_, before, files, root, index = BOMBS[bomb]
    world.mirror = replace(world.mirror, repositories=(Repository(type_),))
    for path, body in before.items():
        world.memory.put(path.encode(), body)
    report = await world.run()
    assert report.outcome == "complete", report.errors
    public = world.bodies()
    for path, body in files.items():
        if path in before:
            world.memory.update(path.encode(), body)
        else:
            world.memory.put(path.encode(), body)
    tracemalloc.start()
    try:
        report = await world.run()
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert report.outcome == "incomplete" and len(report.errors) == 1, report.errors
    assert index in report.errors[0] and "\n" not in report.errors[0]
    assert world.bodies()[root.encode()] == public[root.encode()]
    for path, body in before.items():
        world.memory.update(path.encode(), body)
    report = await world.run()
    assert report.outcome == "complete", report.errors
