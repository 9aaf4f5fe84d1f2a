"""A tree that its origin keeps unreadable for the world until a release, as Fedora does with 0750."""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_of import ClusterOf
from tests.scenarios.trees import write
from tests.servers import nginx, rsyncd

SENT = "transfer logging = yes\nlog format = body %o %f"
FILES = ("next/images/boot.iso", "next/packages/a.rpm", "next/packages/b.rpm", "next/note")
CLOSED = ("next", "next/images", "next/packages")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user reaches."""
    made = Path(tempfile.mkdtemp(prefix="sideways-staged-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def origin(folder: Path) -> Path:
    """What is released, what is staged, and in that one file that is closed by itself."""
    made = folder / "origin"
    write(made / "42/note", b"released", at=1_700_000_000)
    for number, name in enumerate(FILES):
        write(made / name, os.urandom(400_000 if name.endswith("iso") else 3_000), at=1_700_000_000 + number)
    modes(made, 0o750, 0o640)
    return made


def modes(origin: Path, directories: int, file: int) -> None:
    for name in CLOSED:
        (origin / name).chmod(directories)
    (origin / "next/note").chmod(file)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


async def test_a_staged_tree_is_shared_and_not_served_and_its_release_copies_nothing(
    folder: Path, origin: Path
) -> None:
    with (
        rsyncd(origin, extra=SENT) as server,
        ClusterOf(folder, ["kent", "oslo"]) as cluster,
        nginx(folder / "kent/data", user="nobody nogroup") as front,
    ):
        log = server.folder / "rsyncd.log"

        def bodies() -> int:
            return log.read_text().count(" body send ")

        cluster.mirror("m", server.url, order="forward")
        cluster.ledger.tree(origin)
        await cluster.start()
        first = await cluster.one_pass("kent", "m")
        assert (first["outcome"], first["files"]["origin"]) == ("complete", 5), first["errors"]
        assert bodies() == 5
        second = await cluster.one_pass("oslo", "m")
        assert (second["outcome"], second["files"]["sideways"]) == ("complete", 5), second["errors"]
        assert bodies() == 5, "what is staged is shared sideways like everything else"
        webs = {name: f"http://{cluster.site(name).web}/m/" for name in ("kent", "oslo")}
        public = {name: cluster.public(name, "m") for name in webs}
        for name, web in webs.items():
            assert status(web + "42/note") == 200
            assert all(status(web + hidden) in (403, 404) for hidden in (*FILES, *(f"{d}/" for d in CLOSED)))
            assert "next" not in page(web) and "42" in page(web)
            assert not (Path(cluster.site(name).state) / "status/m/next").exists()
            assert [(public[name] / d).stat().st_mode & 0o777 for d in CLOSED] == [0o750] * 3
            assert (public[name] / "next/note").stat().st_mode & 0o777 == 0o640
        if os.geteuid() == 0:  # else nginx is the user that the files belong to
            assert status(f"{front.url}m/42/note") == 200
            assert {status(f"{front.url}m/{hidden}") for hidden in FILES} == {403}
        inodes = {(name, f): (public[name] / f).stat().st_ino for name in webs for f in FILES}

        modes(origin, 0o755, 0o644)  # the release
        results = await cluster.passes("m")
        for name, result in results.items():
            assert result["outcome"] == "complete", result["errors"]
            assert result["bytes"]["origin"] == result["bytes"]["sideways"] == 0, f"{name}: {result['bytes']}"
            assert result["files"]["deleted"] == 0
        assert bodies() == 5, "a release is a change of modes"
        for web in webs.values():
            assert {status(web + f) for f in (*FILES, "next/packages/")} == {200}
            assert "next" in page(web)
        assert [(public["kent"] / d).stat().st_mode & 0o777 for d in CLOSED] == [0o755] * 3
        assert {status(f"{front.url}m/{f}") for f in FILES} == {200}
        assert {(name, f): (public[name] / f).stat().st_ino for name in webs for f in FILES} == inodes
        await cluster.check("m")

        modes(origin, 0o750, 0o640)  # and taken back
        await cluster.passes("m")
        assert bodies() == 5
        for web in webs.values():
            assert all(status(web + hidden) in (403, 404) for hidden in FILES)
        await cluster.check("m")
