"""What rsync prints of names: every name as it is, every row or none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import IncompleteListing, TooLarge
from cluster.listing.rsync import Name, entry_of, listing, placed, plain, token, unescaped
from cluster.model import SECOND, Kind, Stamp

ATTRIBUTES = b">f+++++++++ rw-r--r-- 12 2023/11/14-22:13:20 0 0"
OWN = b".//./cd+++++++++ rwxr-xr-x 4096 2023/11/14-22:13:20 0 0"


def as_printed(name: bytes) -> bytes:
    """As rsync's own `filtered_fwrite` prints in the locale C."""
    name = re.sub(rb"\\(?=#[0-9]{3})", rb"\\#134", name)
    return re.sub(rb"[\x00-\x08\x0a-\x1f\x80-\xff]", lambda match: b"\\#%03o" % match[0][0], name)


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        (b"plain", b"plain"),
        (rb"nl\#012x", b"nl\nx"),
        (rb"lat\#351", b"lat\xe9"),
        (rb"a\#134#012b", rb"a\#012b"),
        (rb"back\slash", rb"back\slash"),
        (rb"\#33", rb"\#33"),
        (b" lead", b" lead"),
        (b"a -> b", b"a -> b"),
    ],
)
def test_names_are_the_bytes_that_they_are(printed: bytes, name: bytes) -> None:
    assert unescaped(printed) == name
    found = placed(b"=pool/" + printed + b"//" + ATTRIBUTES)
    assert found == Name(b"pool", b"pool/" + name, printed + b"//" + ATTRIBUTES, False, None)
    assert entry_of(b"pool", found.row)[0].name == name


@given(st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")))
def test_any_name_comes_back(name: bytes) -> None:
    found = placed(b"=" + as_printed(name) + b"//" + ATTRIBUTES)
    assert found is not None
    if name != b".":
        assert (found.path, found.directory) == (name, b"")
        assert entry_of(b"", found.row)[0].name == name


@pytest.mark.parametrize(
    ("line", "path", "directory"),
    [
        (b"=.///cd+++++++++ rwxr-xr-x 1 2023/11/14-22:13:20 0 0", b"", b""),
        (b"=sub///cd+++++++++ rwxr-xr-x 1 2023/11/14-22:13:20 0 0", b"sub", b""),
        (b"=sub/deep///cd+++++++++ rwxr-xr-x 1 2023/11/14-22:13:20 0 0", b"sub/deep", b"sub"),
    ],
)
def test_directories_are_told_from_what_is_in_them(line: bytes, path: bytes, directory: bytes) -> None:
    found = placed(line)
    assert found is not None
    assert (found.path, found.directory, found.is_directory) == (path, directory, True)
    assert entry_of(b"", found.row)[0].kind is Kind.DIRECTORY


COMPONENT = st.sampled_from([b"a", b"b c", b"=", b"\\#012", b"x -> y", b"a => b", b"\\#351", b" "])
TAILS = st.sampled_from([ATTRIBUTES, b"/cd+++++++++ rwxr-xr-x 1 2023/11/14-22:13:20 0 0",
                         b"hf+++++++++ rw-r--r-- 1 2023/11/14-22:13:20 0 0 => a/b", b""])  # fmt: skip


@given(st.lists(st.tuples(st.lists(COMPONENT, min_size=1, max_size=3), TAILS), max_size=12))
def test_plain_files_that_are_taken_together_are_those_that_are_taken_one_by_one(
    rows: list[tuple[list[bytes], bytes]],
) -> None:
    lines = [b"=" + b"/".join(parts) + b"//" + tail for parts, tail in rows]
    text, at = b"".join([line + b"\n" for line in lines]), 0
    together: list[tuple[bytes, bytes]] = []
    while at < len(text):
        if (some := plain(text, at)) is not None:
            together += [(some.directory, row) for row in some.rows.split(b"\n")]
            at = some.end
        else:
            end = text.index(b"\n", at)
            found = placed(text[at:end])
            if found is not None:
                together.append((found.directory, found.row))
            at = end + 1
    each = [placed(line) for line in lines]
    assert together == [(one.directory, one.row) for one in each if one is not None]


@pytest.mark.parametrize("line", [b"", b"created directory /x", b"sent 1 bytes  received 2 bytes", b"=x"])
def test_what_is_no_name_is_none(line: bytes) -> None:
    assert placed(line) is None


@pytest.mark.parametrize(
    ("tail", "target"),
    [
        (b" -> a.txt", b"a.txt"),
        (b" -> x -> y", b"x -> y"),
        (rb" -> nl\#012", b"nl\n"),
        (b" -> ..//a//b", b"..//a//b"),
    ],
)
def test_a_link_points_where_it_points(tail: bytes, target: bytes) -> None:
    found = placed(b"=l -> m//cL+++++++++ rwxrwxrwx 6 2023/11/14-22:13:20 0 0" + tail)
    assert found is not None
    entry, _ = entry_of(b"", found.row)
    assert (entry.name, entry.kind, entry.target, entry.size) == (b"l -> m", Kind.SYMLINK, target, None)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (b"rw-r--r--", 0o644),
        (b"rwxr-x--T", 0o1750),
        (b"rwxrwxrwt", 0o1777),
        (b"rwsr-Sr-x", 0o6745),
        (b"---------", 0),
    ],
)
def test_modes_are_bits(text: bytes, mode: int) -> None:
    row = b"a//>f+++++++++ %s 1 2023/11/14-22:13:20 0 0" % text
    assert entry_of(b"", row)[0].mode == mode


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"2023/11/14-22:13:20", 1_700_000_000),
        (b"1969/12/31-00:00:00", -86_400),
        (b"2128/06/11-08:53:20", 5_000_000_000),
        (b"2023/13/41-22:13:20", None),
        (b"-", None),
    ],
)
def test_times_are_whole_seconds_or_not_told(text: bytes, seconds: int | None) -> None:
    entry, _ = entry_of(b"", b"a//>f+++++++++ rw-r--r-- 1 %s 0 0" % text)
    assert entry.mtime == (None if seconds is None else Stamp(seconds * SECOND, SECOND))


def test_owners_are_numbers_or_not_told() -> None:
    entry, _ = entry_of(b"", b"a//>f+++++++++ rw-r--r-- 1 2023/11/14-22:13:20 1234 DEFAULT")
    assert (entry.uid, entry.gid) == (1234, None)


def test_a_row_that_cannot_be_read_makes_no_listing() -> None:
    with pytest.raises(IncompleteListing, match="pool: "):
        listing(b"pool", OWN, [b"a//>f+++++++++ rw-r--r-- twelve 2023/11/14-22:13:20 0 0"], limit=10)


def test_more_names_than_the_limit_are_too_many() -> None:
    rows = [b"%d//" % n + ATTRIBUTES for n in range(3)]
    assert len(listing(b"", OWN, rows, limit=3).entries) == 3
    with pytest.raises(TooLarge):
        listing(b"", OWN, rows, limit=2)


def test_a_name_that_leads_elsewhere_is_rejected_and_the_others_stay() -> None:
    found = listing(b"", OWN, [b"..//" + ATTRIBUTES, b"a//" + ATTRIBUTES], limit=10)
    assert [entry.name for entry in found.entries] == [b"a"]
    assert [rejected.name for rejected in found.rejected] == [b".."]


def test_names_of_one_file_carry_the_path_of_its_first_name() -> None:
    first = b"h//" + ATTRIBUTES
    further = placed(b"=pool/g//hf+++++++++ rw-r--r-- 12 2023/11/14-22:13:20 0 0 => pool/h")
    assert further is not None
    assert further.leader == b"pool/h"
    found = listing(
        b"pool",
        OWN,
        [further.row, first, b"x//" + ATTRIBUTES],
        limit=9,
        further=lambda path: 2 if path == b"pool/h" else 0,
    )
    assert [(e.name, e.link, e.links) for e in found.entries] == [
        (b"g", "pool/h", 3),
        (b"h", "pool/h", 3),
        (b"x", None, 1),
    ]


def test_a_token_tells_rows_apart_and_first_names() -> None:
    rows = b"\na//" + ATTRIBUTES
    tokens = {
        token(OWN, rows, {}),
        token(OWN, b"", {}),
        token(OWN, rows, {b"a": 1}),
        token(OWN[1:], rows, {}),
    }
    assert len(tokens) == 4
    assert token(OWN, rows, {}) in tokens
