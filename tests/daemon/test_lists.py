"""Lists of everything that a site holds: written after a pass, served beside the tree, and not in it."""

from __future__ import annotations

import gzip
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cluster.listing import bulk
from cluster.model import Kind
from tests.cluster_of import ClusterOf

BOTH = '<publish lists="ls-lR fullfiletimelist"/>'
AT = 1_700_000_040


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "pool/a b").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "README").write_bytes(b"read me\n")
    (root / "pool/a b/file").write_bytes(b"x" * 3000)
    (root / "pool" / os.fsdecode(b"lat\xe9")).write_bytes(b"latin")
    (root / "pool/two\nlines").write_bytes(b"never listed")
    (root / "pool/kept").write_bytes(b"kept from the world")
    (root / "pool/kept").chmod(0o600)
    (root / "link").symlink_to("README")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (AT, AT), follow_symlinks=False)
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


def told(text: bytes) -> dict[bytes, dict[bytes, tuple[Kind, int | None, bytes | None]]]:
    """What our own reader takes out of a list."""
    assert text.endswith(b"\n")
    lines = text[:-1].split(b"\n")
    form = bulk.form_of(lines, "list", now=AT * 10**9)
    found: dict[bytes, dict[bytes, tuple[Kind, int | None, bytes | None]]] = {}
    for piece in (*form.take(lines), *form.rest()):
        listing = bulk.read(form.name, piece.rows, now=AT * 10**9, limit=100, path="x")
        here = found.setdefault(piece.directory, {})
        here |= {e.name: (e.kind, e.size, e.target) for e in listing.entries}
    return found


HELD = {
    b"": {b"README": 8, b"empty": Kind.DIRECTORY, b"link": Kind.SYMLINK, b"pool": Kind.DIRECTORY},
    b"pool": {b"a b": Kind.DIRECTORY, b"lat\xe9": 5},
    b"pool/a b": {b"file": 3000},
}


def facts(found: dict[bytes, dict[bytes, tuple[Kind, int | None, bytes | None]]]) -> object:
    return {
        directory: {name: size if kind is Kind.FILE else kind for name, (kind, size, _) in names.items()}
        for directory, names in found.items()
        if names
    }


async def test_what_is_held_is_listed_beside_the_tree(one: ClusterOf, source: Path) -> None:
    one.mirror("m", f"file://{source}/", extra=BOTH)
    await one.start()
    await one.passes("m")
    listed = told(gzip.decompress(get(one, "/m/ls-lR.gz")))
    assert facts(listed) == HELD and listed[b"empty"] == {}
    assert listed[b""][b"link"] == (Kind.SYMLINK, None, b"README")
    assert facts(told(get(one, "/m/fullfiletimelist-m"))) == HELD
    public = Path(one.site("kent").data, "m")
    assert sorted(os.listdir(public)) == ["README", "empty", "link", "pool"]
    assert (status(one, "/m/fullfilelist"), status(one, "/m/pool/ls-lR.gz")) == (404, 404)


async def test_a_list_of_times_is_one_by_the_rules_of_quick_fedora_mirror(
    one: ClusterOf, source: Path
) -> None:
    """Its clients are awk: fields by tabs, from [Files] to the next empty line."""
    one.mirror("m", f"file://{source}/", extra=BOTH)
    await one.start()
    await one.passes("m")
    lines = get(one, "/m/fullfiletimelist-m").split(b"\n")
    begin = lines.index(b"[Files]") + 1
    rows = [line.split(b"\t") for line in lines[begin : lines.index(b"", begin)]]
    assert {(kind, path) for _, kind, _, path in rows} == {
        (b"f", b"README"),
        (b"d", b"empty"),
        (b"l", b"link"),
        (b"d", b"pool"),
        (b"d", b"pool/a b"),
        (b"f", b"pool/a b/file"),
        (b"f", b"pool/lat\xe9"),
    }
    assert all(int(time) > AT for time, kind, _, _ in rows if kind == b"f")  # they came here later than that
    assert lines[-2:] == [b"[End]", b""]


async def test_lists_are_written_anew_only_when_something_changed(one: ClusterOf, source: Path) -> None:
    one.mirror("m", f"file://{source}/", extra=BOTH)
    await one.start()
    await one.passes("m")
    folder = Path(one.site("kent").state, "published/m")
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    assert set(before) == {"ls-lR.gz", "fullfiletimelist-m", ".made-of"}
    await one.passes("m")
    assert {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()} == before
    (source / "pool/new").write_bytes(b"new")
    one.ledger.tree(source)
    await one.passes("m")
    assert b"new" in told(gzip.decompress(get(one, "/m/ls-lR.gz")))[b"pool"]


async def test_a_file_of_the_origin_is_served_and_not_our_list(one: ClusterOf, source: Path) -> None:
    (source / "ls-lR.gz").write_bytes(b"the origin's own")
    one.ledger.tree(source)
    one.mirror("m", f"file://{source}/", extra=BOTH)
    await one.start()
    await one.passes("m")
    assert get(one, "/m/ls-lR.gz") == b"the origin's own"
    assert b"ls-lR.gz" in told(get(one, "/m/fullfiletimelist-m"))[b""]
    assert not Path(one.site("kent").state, "published/m/ls-lR.gz").exists()


async def test_nothing_is_listed_where_the_descriptor_does_not_ask_for_it(
    one: ClusterOf, source: Path
) -> None:
    one.mirror("m", f"file://{source}/")
    await one.start()
    await one.passes("m")
    assert status(one, "/m/ls-lR.gz") == 404
    assert not Path(one.site("kent").state, "published").exists()
