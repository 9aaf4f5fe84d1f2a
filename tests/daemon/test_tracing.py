"""A site's trace file: written after a pass, served beside the tree, and not in it."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cluster_of import ClusterOf

NAME = "ftp.uk.example"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "project/trace").mkdir(parents=True)
    (root / "project/trace/master").write_bytes(b"Sun Nov 22 01:00:00 UTC 2026\nArchive serial: 2026112201\n")
    (root / "README").write_bytes(b"read me\n")
    return root


@pytest.fixture
def one(tmp_path: Path, source: Path):
    (tmp_path / "cluster-of").mkdir()
    with ClusterOf(tmp_path / "cluster-of", ["kent"]) as cluster:
        cluster.ledger.tree(source)
        yield cluster


def get(one: ClusterOf, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{one.site('kent').web}{path}", timeout=60) as answer:
        return bytes(answer.read())


def status(one: ClusterOf, path: str) -> int:
    try:
        get(one, path)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


async def test_a_pass_leaves_a_trace_beside_the_tree(one: ClusterOf, source: Path) -> None:
    for index in ("binary-amd64/Packages.xz", "binary-arm64/Release", "source/Sources.gz", "i18n/Packages"):
        (source / "dists/sid/main" / index).parent.mkdir(parents=True)
        (source / "dists/sid/main" / index).write_bytes(b"x")
    one.ledger.tree(source)
    one.mirror("m", f"file://{source}/", extra=f'<trace level="full" name="{NAME}"/>')
    await one.start()
    await one.passes("m")
    text = get(one, f"/m/project/trace/{NAME}").decode()
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    assert "\nArchive serial: 2026112201\nCreator: Sideways " in text
    assert "\nArchitectures: amd64 source\n" in text
    assert f"\nTotal bytes received: {size}\n" in text and "\nTrigger: " in text
    public = Path(one.site("kent").data, "m/project/trace")
    assert os.listdir(public) == ["master"]
    listed = json.loads(get(one, "/m/project/trace/?json"))["entries"]
    assert [(entry["name"], entry["source"]) for entry in listed] == [
        ("_hierarchy", "this site"),
        ("_traces", "this site"),
        (NAME, "this site"),
        ("master", "origin"),
    ]
    assert get(one, "/m/project/trace/_traces").decode() == f"master\n{NAME}\n"
    assert f'href="{NAME}"' in get(one, "/m/project/trace/").decode()


async def test_a_file_of_the_origin_with_that_name_is_what_users_get(one: ClusterOf, source: Path) -> None:
    (source / "project/trace" / NAME).write_bytes(b"the origin's own\n")
    one.ledger.tree(source)
    one.mirror("m", f"file://{source}/", extra=f'<trace level="full" name="{NAME}"/>')
    await one.start()
    await one.passes("m")
    assert get(one, f"/m/project/trace/{NAME}") == b"the origin's own\n"
    listed = json.loads(get(one, "/m/project/trace/?json"))["entries"]
    assert {entry["name"]: entry["source"] for entry in listed}[NAME] == "origin"


async def test_the_list_of_mirrors_goes_on_from_the_upstreams(one: ClusterOf, source: Path) -> None:
    above = "ftp.example ftp.example a.example unknown\n"
    (source / "project/trace/_hierarchy").write_text(above)
    one.ledger.tree(source)
    one.mirror("m", f"file://{source}/", extra=f'<trace level="date" name="{NAME}"/>')
    await one.start()
    await one.passes("m")
    await one.passes("m")
    host = urlsplit(one.site("kent").public_url).hostname
    assert get(one, "/m/project/trace/_hierarchy").decode() == f"{above}{NAME} {NAME} {host} unknown\n"
    assert (Path(one.site("kent").data) / "m/project/trace/_hierarchy").read_text() == above


async def test_without_the_descriptors_word_there_is_no_trace(one: ClusterOf, source: Path) -> None:
    one.mirror("m", f"file://{source}/")
    await one.start()
    await one.passes("m")
    assert status(one, "/m/project/trace/localhost") == 404
    assert not Path(one.site("kent").state, "trace").exists()
