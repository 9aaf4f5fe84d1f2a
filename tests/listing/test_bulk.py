"""Lists of whole trees, as the programs that make them print them, and as they arrive broken."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import IncompleteListing, NotAListing
from cluster.listing import bulk
from cluster.listing.bulk.write import LsLR, TimeList
from cluster.model import DAY, MINUTE, SECOND, Held, Kind, Listing, Stamp

NOW = 1_764_000_000 * SECOND  # 2025-11-24 16:00 UTC
AT = 1_700_000_040  # 2023-11-14 22:14:00 UTC


def told(text: bytes, path: str = "ls-lR", now: int = NOW, step: int = 3) -> dict[bytes, Listing]:
    """Every directory of a list, in pieces of `step` lines."""
    *lines, rest = text.split(b"\n")
    assert not rest
    form = bulk.form_of(lines, path, now=now)
    rows: dict[bytes, list[bytes]] = {}
    below: set[bytes] = {b""}

    def take(pieces: Iterator[bulk.Piece]) -> None:
        for piece in pieces:
            rows.setdefault(piece.directory, []).extend(piece.rows)
            below.update(piece.below)

    for at in range(0, len(lines), step):
        take(form.take(lines[at : at + step]))
    take(form.rest())
    assert set(rows) <= below
    return {
        directory: bulk.read(form.name, rows.get(directory, []), now=now, limit=1000, path="x")
        for directory in sorted(rows)
    }


def names(found: dict[bytes, Listing]) -> dict[bytes, list[bytes]]:
    return {directory: [entry.name for entry in listing.entries] for directory, listing in found.items()}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in ("pool/a b/deep", "empty"):
        (root / folder).mkdir(parents=True)
    (root / "pool/file").write_bytes(b"x" * 5_000)
    (root / "pool/a b/one: two").write_bytes(b"two")
    (root / "pool/a b/deep/last").write_bytes(b"")
    (root / os.fsdecode(b"lat\xe9")).write_bytes(b"latin")
    (root / "link").symlink_to("pool/file")
    for path in sorted(root.rglob("*")):
        os.utime(path, (AT, AT), follow_symlinks=False)
    return root


EXPECTED = {
    b"": [b"empty", b"lat\xe9", b"link", b"pool"],
    b"pool": [b"a b", b"file"],
    b"pool/a b": [b"deep", b"one: two"],
    b"pool/a b/deep": [b"last"],
}


def printed(tree: Path, *command: str) -> bytes:
    return subprocess.run(
        command,
        cwd=tree,
        check=True,
        capture_output=True,
        env={"TZ": "UTC", "LC_ALL": "C", "PATH": os.environ["PATH"]},
    ).stdout


@pytest.mark.parametrize(
    "command",
    [
        ("ls", "-lR"),
        ("ls", "-laR"),
        ("ls", "-lR", "."),
        ("ls", "-lnR", "--time-style=long-iso"),
        ("ls", "-lR", "--time-style=full-iso"),
        ("sh", "-c", 'ls -lR "$PWD"'),
        ("sh", "-c", "cd .. && ls -lR root"),
        ("sh", "-c", "ls -lR . | tail -n +2"),  # BSD ls and vsftpd name no root
        ("sh", "-c", "ls -lR . | tail -n +2 | sed 's,^[.]/,,'"),  # ProFTPD
    ],
)
def test_ls_in_all_its_ways(tree: Path, command: tuple[str, ...]) -> None:
    found = told(printed(tree, *command))
    assert names(found) == EXPECTED | {b"empty": []}
    file = found[b"pool"].entries[1]
    assert (file.name, file.kind, file.size, file.mode) == (b"file", Kind.FILE, 5000, 0o644)
    assert file.mtime is not None and file.mtime.agrees(Stamp(AT * SECOND))
    link = next(entry for entry in found[b""].entries if entry.name == b"link")
    assert (link.kind, link.target) == (Kind.SYMLINK, b"pool/file")


def test_days_and_minutes_are_told_as_the_list_does(tree: Path) -> None:
    found = told(printed(tree, "ls", "-lR"))
    assert found[b"pool"].entries[1].mtime == Stamp(AT * SECOND // DAY * DAY, DAY)
    found = told(printed(tree, "ls", "-lR", "--time-style=long-iso"))
    assert found[b"pool"].entries[1].mtime == Stamp(AT * SECOND, MINUTE)


def test_rows_without_a_year_are_of_the_year_before_the_list_was_made() -> None:
    text = b".:\ntotal 4\n-rw-r--r-- 1 a b 3 Dec 31 23:59 file\n"
    found = told(text, now=NOW + 45 * DAY)[b""].entries[0]
    assert found.mtime is not None and found.mtime.ns // DAY == 20_453  # 2025-12-31


@pytest.mark.parametrize(
    "command",
    [
        ("find", ".", "-ls"),
        ("sh", "-c", 'find "$PWD" -ls'),
        ("find", ".", "-printf", "%T@ %y %s %P\n"),
        ("find", ".", "-printf", "%y\t%s\t%T@\t%p\n"),
        ("find", ".", "-mindepth", "1", "-printf", "%s %y %T@ %P\n"),
    ],
)
def test_find_in_all_its_ways(tree: Path, command: tuple[str, ...]) -> None:
    found = told(printed(tree, *command))
    assert names(found) == EXPECTED
    file = found[b"pool"].entries[1]
    assert (file.kind, file.size) == (Kind.FILE, 5000)
    assert file.mtime is not None and file.mtime.agrees(Stamp(AT * SECOND))
    assert found[b"pool"].entries[0].kind is Kind.DIRECTORY


def test_what_find_escapes_is_read_as_it_was() -> None:
    text = b" 1 4 drwxr-xr-x 2 a b 4096 Nov 14 2023 .\n"
    text += rb" 2 4 -rw-r--r-- 1 a b 3 Nov 14  2023 ./lat\351\ a\\b\"c" + b"\n"
    text += rb" 3 4 lrwxrwxrwx 1 a b 3 Nov 14  2023 ./to -> lat\351\ a" + b"\n"
    first, second = told(text)[b""].entries
    assert first.name == b'lat\xe9 a\\b"c'
    assert (second.name, second.target) == (b"to", b"lat\xe9 a")


def test_a_name_with_a_line_break_makes_its_directory_unreadable_and_no_other(tree: Path) -> None:
    (tree / "pool/a b/two\nlines").write_bytes(b"")
    for command in (("find", ".", "-ls"), ("ls", "-lR")):
        text = printed(tree, *command)
        lines = text.split(b"\n")[:-1]
        form = bulk.form_of(lines, "x", now=NOW)
        pieces = [*form.take(lines), *form.rest()]
        assert b"pool/a b/deep" in {piece.directory for piece in pieces}
        with pytest.raises(NotAListing):
            rows = [row for piece in pieces if piece.directory == b"pool/a b" for row in piece.rows]
            bulk.read(form.name, rows, now=NOW, limit=100, path="x")


FEDORA = b"""[Version]
2

[Files]
1767700953\tf\t282\tlinux/extras/README
1366880149\td\t4096\tlinux/extras
1366880149\td-\t4096\tlinux
1767700953\tl\t7\tlinux/link

[Checksums SHA1]
0123456789abcdef0123456789abcdef01234567\tlinux/extras/README

[End]
"""


def test_fedoras_list_tells_names_kinds_and_sizes() -> None:
    found = told(FEDORA, "fullfiletimelist-fedora")
    assert names(found) == {b"": [b"linux"], b"linux": [b"extras", b"link"], b"linux/extras": [b"README"]}
    (file,) = found[b"linux/extras"].entries
    assert (file.size, file.mtime, file.kind) == (282, None, Kind.FILE)
    assert [entry.kind for entry in found[b"linux"].entries] == [Kind.DIRECTORY, Kind.SYMLINK]


def test_fedoras_list_without_its_end_is_incomplete() -> None:
    with pytest.raises(IncompleteListing):
        told(FEDORA.replace(b"[End]\n", b""), "fullfiletimelist-fedora")


def test_a_list_of_names_alone_must_be_called_so() -> None:
    text = b".\n./pool\n./pool/file\n"
    found = told(text, "pub/fullfilelist")
    assert names(found) == {b"": [b"pool"], b"pool": [b"file"]}
    assert all(entry.ambiguous for listing in found.values() for entry in listing.entries)
    with pytest.raises(NotAListing):
        told(text, "names.txt")


@pytest.mark.parametrize(
    "text",
    [
        b"<html>\n<body>\n",
        b"0123456789abcdef0123456789abcdef  file\n",
        b"./a/file\n",
        b"\n\n",
        b".:\ntotal 0\n\n/etc:\ntotal 0\n",
        b"./a:\ntotal 0\n\n./../b:\ntotal 0\n",
        b"[Version]\n2\n[Files]\nnow\tf\t1\tx\n[End]\n",
        b"[Version]\n2\n[Files]\n1\tf\t1\t../x\n[End]\n",
        b"[Version]\n2\n[Files]\n1\tf\t1\t/etc/x\n[End]\n",
        b"1700000000.5 f 3 ../x\n",
    ],
)
def test_what_is_no_list_of_a_tree_is_refused(text: bytes) -> None:
    with pytest.raises(NotAListing):
        told(text, "list")


@pytest.mark.parametrize(
    ("names", "best"),
    [
        ([b"README", b"pool"], None),
        ([b"ls-lR", b"ls-lR.gz", b"fullfiletimelist-fedora"], b"ls-lR.gz"),
        ([b"ls-lR.patch.gz", b"ls-lR"], b"ls-lR"),
        ([b"fullfilelist", b"fullfiletimelist-fedora", b"find-ls.gz"], b"find-ls.gz"),
        ([b"fullfilelist", b"fullfiletimelist-epel"], b"fullfiletimelist-epel"),
        ([b"SHA256SUMS", b"fullfilelist", b"my-ls-lR"], None),
    ],
)
def test_the_list_that_tells_most_is_taken(names: list[bytes], best: bytes | None) -> None:
    assert bulk.best(names) == best


NAME = st.binary(min_size=1, max_size=8).filter(
    lambda n: n not in (b".", b"..") and not set(n) & set(b"/\0\n\r")
)
PATHS = st.lists(st.lists(NAME, min_size=1, max_size=3).map(b"/".join), max_size=12)


@given(PATHS, st.integers(1, 5))
def test_pieces_of_any_size_make_the_same_of_fedoras_list(paths: list[bytes], step: int) -> None:
    folders = {b"/".join(p.split(b"/")[:n]) for p in paths for n in range(1, p.count(b"/") + 1)}
    files = [path for path in dict.fromkeys(paths) if path not in folders]
    rows = [b"1\td\t0\t" + folder for folder in sorted(folders)] + [b"5\tf\t7\t" + path for path in files]
    text = b"\n".join([b"[Version]", b"2", b"", b"[Files]", *rows, b"", b"[End]", b""])
    found = told(text, "x", step=step)
    want: dict[bytes, set[bytes]] = {}
    for path in {*folders, *files}:
        above, _, name = path.rpartition(b"/")
        want.setdefault(above, set()).add(name)
    assert {d: set(n) for d, n in names(found).items()} == want


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=20))
def test_whatever_arrives_is_a_list_or_refused(lines: list[bytes]) -> None:
    for head in (
        [],
        [b".:", b"total 4"],
        [b"[Version]", b"[Files]"],
        [b" 1 4 drwxr-xr-x 2 a b 1 Nov 14 2023 ."],
    ):
        try:
            form = bulk.form_of([*head, *lines], "fullfilelist", now=NOW)
            pieces = [*form.take([*head, *lines]), *form.rest()]
            for piece in pieces:
                bulk.read(form.name, piece.rows, now=NOW, limit=100, path="x")
        except (NotAListing, IncompleteListing):
            continue


def test_what_we_list_is_what_ls_prints(tree: Path) -> None:
    """But for owners, the number of links, the size of a directory and the sum of blocks."""
    form, text = LsLR(), b""
    for folder, _, _ in sorted(os.walk(os.fsencode(tree))):
        path = os.path.relpath(folder, os.fsencode(tree)).removeprefix(b".")
        text += form.directory(path, [held(folder, name) for name in sorted(os.listdir(folder))])
    ours, theirs = told(text), told(printed(tree, "ls", "-lR", "--time-style=long-iso"))
    assert {d: [replace(e, uid=None, gid=None) for e in found.entries] for d, found in ours.items()} == {
        d: [replace(e, uid=None, gid=None) for e in found.entries] for d, found in theirs.items()
    }


def held(folder: bytes, name: bytes) -> Held:
    told = os.lstat(os.path.join(folder, name))
    kinds = {0o4: Kind.DIRECTORY, 0o10: Kind.FILE, 0o12: Kind.SYMLINK}
    kind = kinds[told.st_mode >> 12]
    target = os.readlink(os.path.join(folder, name)) if kind is Kind.SYMLINK else None
    mode = None if kind is Kind.SYMLINK else told.st_mode & 0o777
    return Held(name, kind, told.st_size, mtime=Stamp(told.st_mtime_ns), mode=mode, target=target)


HELD = st.builds(
    Held,
    NAME.filter(lambda name: not name.startswith(b" ")),
    st.just(Kind.FILE),
    st.integers(0, 2**50),
    mtime=st.none() | st.builds(Stamp, st.integers(-(2**62), 2**62)),
    mode=st.none() | st.integers(0, 0o777),
)


@given(st.lists(HELD, max_size=5, unique_by=lambda one: one.name))
def test_what_we_list_is_read_as_it_is_held(names: list[Held]) -> None:
    names.sort(key=lambda one: one.name)
    found = told(LsLR().directory(b"", names))[b""]
    assert [(e.name, e.size, e.mode) for e in found.entries] == [
        (one.name, one.size, 0o777 if one.mode is None else one.mode) for one in names
    ]
    form = TimeList()
    again = told(form.head + form.directory(b"", names) + form.tail)
    assert [(e.name, e.size) for listing in again.values() for e in listing.entries] == [
        (one.name, one.size) for one in names
    ]
