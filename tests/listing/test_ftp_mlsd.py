"""MLSD: facts, a space, a name (RFC 3659 section 7)."""

from __future__ import annotations

import pytest

from cluster.errors import IncompleteListing, NotAListing, TooLarge
from cluster.listing.ftp import read_mlsd
from cluster.model import SECOND, Entry, Kind, Listing, Stamp

T = 1_417_802_402  # 2014-12-05 18:00:02


def read(*lines: bytes) -> Listing:
    return read_mlsd(b"".join(line + b"\r\n" for line in lines))


def only(line: bytes) -> Entry:
    (entry,) = read(line).entries
    return entry


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (
            (
                b"modify=20141205180002;perm=adfrw;size=431;type=file;unique=801U1;UNIX.group=33;UNIX.mode=0664;"
                b"UNIX.owner=1000; HEADER.html"
            ),
            Entry(b"HEADER.html", size=431, mtime=Stamp(T * SECOND, SECOND), mode=0o664, uid=1000, gid=33),
        ),
        (
            b"type=dir;sizd=4096;modify=20141205180002;UNIX.mode=0755;UNIX.uid=0;UNIX.gid=0;unique=fd01g2; d",
            Entry(b"d", Kind.DIRECTORY, mtime=Stamp(T * SECOND, SECOND), mode=0o755, uid=0, gid=0),
        ),
        (b"Type=Dir;Size=4096; d", Entry(b"d", Kind.DIRECTORY)),
        (b"TYPE=FILE;UNIX.owner=root; f", Entry(b"f")),
        (b"type=file;size=; f", Entry(b"f")),
        (b"type=file;size=-1; f", Entry(b"f")),
        (b"type=file;size=9223372036854775808; f", Entry(b"f")),
        (
            b"type=file;modify=20141205180002.999; f",
            Entry(b"f", mtime=Stamp(T * SECOND + 999 * 10**6, 10**6)),
        ),
        (
            b"type=file;modify=20141205180002.1234567891; f",
            Entry(b"f", mtime=Stamp(T * SECOND + 123456789, 1)),
        ),
        (b"type=file;modify=20141305180002; f", Entry(b"f")),
        (b"type=file;modify=191141205180002; f", Entry(b"f")),
        (b"type=OS.unix=slink:../a;size=4; l", Entry(b"l", Kind.SYMLINK, target=b"../a")),
        (b"type=OS.unix=slink:a b;size=4; l", Entry(b"l", Kind.SYMLINK, target=b"a b")),
        (b"type=OS.UNIX=symlink;size=4; l", Entry(b"l", Kind.SYMLINK)),
        (b"type=OS.unix=slink:;size=4; l", Entry(b"l", Kind.SYMLINK)),
        (b"type=OS.unix=slink:/pub/a;size=4; l", Entry(b"l", Kind.SYMLINK)),
        (b"type=unknown;size=0; pipe", Entry(b"pipe", Kind.SPECIAL)),
        (b"type=OS.unix=chr-13/29; null", Entry(b"null", Kind.SPECIAL)),
        (b"type=OS.unix=pipe; p", Entry(b"p", Kind.SPECIAL)),
        (b"type=file;   two before, one behind ", Entry(b"  two before, one behind ")),
        (b"type=file; a; b=c; d", Entry(b"a; b=c; d")),
        (b"type=file; lat\xe9\x01\n", Entry(b"lat\xe9\x01\n")),
    ],
)
def test_a_row_is_read_whole(line: bytes, entry: Entry) -> None:
    assert only(line) == entry


def test_times_are_utc_and_the_format_is_told() -> None:
    listing = read(b"type=file;modify=20141205180002; f")
    assert listing.zone_known and (listing.format, listing.size) == ("mlsd", 36)


def test_the_directory_itself_and_the_one_above_are_told_apart() -> None:
    listing = read(
        b"type=cdir;modify=20141205180002;UNIX.mode=0750; /pub",
        b"type=pdir; /",
        b"type=dir; .",
        b"type=dir; ..",
        b"type=dir; d",
    )
    assert [e.name for e in listing.entries] == [b"d"] and not listing.rejected
    assert listing.own and listing.own.kind is Kind.DIRECTORY
    assert (read(b"type=cdir;UNIX.mode=0750; .").own or Entry(b"")).mode == 0o750


def test_a_row_that_does_not_tell_its_type_is_marked() -> None:
    for line in (b" f", b"size=5; f", b"type=; f", b"type=plan9; f"):
        assert (only(line).name, only(line).ambiguous) == (b"f", True)


def test_a_link_whose_target_may_end_in_two_places_is_not_guessed() -> None:
    listing = read(b"type=OS.unix=slink:a; b;modify=20141205180002; l", b"type=file; x; y")
    assert [e.name for e in listing.entries] == [b"x; y"]
    assert [r.kind for r in listing.rejected] == [Kind.SYMLINK]


def test_a_name_that_is_no_plain_component_is_refused_and_told() -> None:
    listing = read(b"type=file; a/b", b"type=file; f")
    assert [e.name for e in listing.entries] == [b"f"]
    assert [r.name for r in listing.rejected] == [b"a/b"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"type=file;f",
        b"type=file f",
        b"type=file; ",
        b"type=dir;size; f",
        b"type=dir;=x; f",
        b"type=file;modify=2014; f",
        b"type=file;modify=20141205180002Z; f",
        b"type=file;modify=2014120518000x; f",
        b"type=file;size=1k; f",
        b"-rw-r--r-- 1 u g 5 Nov 22  2020 x",
        b"550 No such directory",
    ],
)
def test_one_line_that_is_no_row_refuses_the_whole_answer(line: bytes) -> None:
    with pytest.raises(NotAListing):
        read(b"type=file; a", line, b"type=file; b")


def test_an_answer_without_a_line_holds_nothing() -> None:
    assert read_mlsd(b"") == Listing((), format="mlsd")


def test_an_answer_that_is_cut_is_not_believed() -> None:
    with pytest.raises(IncompleteListing):
        read_mlsd(b"type=file; a\r\ntype=file; b.ta")
    with pytest.raises(NotAListing):
        read_mlsd(b"type=file; a\0b\r\n")


def test_limits_hold() -> None:
    body = b"".join(b"type=file; %d\r\n" % i for i in range(11))
    assert len(read_mlsd(body, limit=11).entries) == 11
    with pytest.raises(TooLarge):
        read_mlsd(body, limit=10)
