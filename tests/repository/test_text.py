"""Lines and paragraphs, in pieces of any length."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Malformed, TooMuch
from cluster.repository import text

NAMES = st.text("abcXYZ-09", min_size=1, max_size=8).map(lambda name: "F" + name)
VALUES = st.text("ab :.-/é", max_size=20).map(str.strip)
FIELDS = st.dictionaries(
    NAMES.map(str.lower), st.lists(VALUES, min_size=1, max_size=3), min_size=1, max_size=5
)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


def written(paragraphs: list[dict[str, list[str]]], end: str) -> bytes:
    """As a control file has them; an empty line of a value is a dot."""
    blocks = [
        "".join(
            f"{name}: {f'{end} '.join(line or '.' for line in lines)}{end}" for name, lines in one.items()
        )
        for one in paragraphs
    ]
    return end.join(blocks).encode()


@given(
    st.lists(FIELDS, max_size=5), st.sampled_from(["\n", "\r\n"]), st.lists(st.integers(0, 10**6), max_size=8)
)
def test_paragraphs_come_out_as_they_were_written_wherever_they_are_cut(paragraphs, end, places):
    body = written(paragraphs, end)
    found = list(text.paragraphs(b"p", cut(body, places)))
    assert [list(one) for one in found] == [[name.encode() for name in one] for one in paragraphs]
    for one, said in zip(found, paragraphs, strict=True):
        for name, lines in said.items():
            assert [line.strip() or b"" for line in one[name.encode()].split(b"\n")] == [
                (line or ".").encode() for line in lines
            ]


def test_only_an_empty_line_ends_a_paragraph():
    (one,) = text.paragraphs(b"p", [b"A: 1\n \n 2\nB: 3\n"])
    assert one == {b"a": b"1\n \n 2", b"b": b"3"}
    assert len(list(text.paragraphs(b"p", [b"\n\n\nA: 1\n\n\n\nB: 3\n\n\n"]))) == 2


def test_the_same_field_twice_is_refused_unless_it_says_the_same():
    assert list(text.paragraphs(b"p", [b"A: 1\na: 1\n"])) == [{b"a": b"1"}]
    with pytest.raises(Malformed, match="twice"):
        list(text.paragraphs(b"p", [b"A: 1\nB: 1\na: 2\n"]))


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_lines_come_out_wherever_they_are_cut(body, places):
    body = body.replace(b"\r", b"")
    assert list(text.lines(b"p", cut(body, places))) == body.removesuffix(b"\n").split(b"\n") * bool(body)


def test_a_line_beyond_its_limit_is_refused():
    for pieces in ([b"x" * 11], [b"x" * 6, b"x" * 6], [b"x" * 11 + b"\n"]):
        with pytest.raises(TooMuch):
            list(text.lines(b"p", pieces, 10))
