"""Which name an href means (HAZARDS 1-6, 8, 23)."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UnsafeName
from cluster.listing.names import Place
from cluster.model import checked_name, href

PLACE = Place("http://origin.example/pub/a%20b/")

NAMES = st.binary(min_size=1, max_size=60).filter(
    lambda n: n not in (b".", b"..") and not set(n) & set(b"/\0")
)


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (b"x", b"x"),
        (b"./x", b"x"),
        (b"x/", b"x"),
        (b"/pub/a%20b/x", b"x"),
        (b"/pub/a b/x", b"x"),
        (b"http://origin.example/pub/a%20b/x", b"x"),
        (b"HTTP://ORIGIN.example:80/pub/a%20b/x", b"x"),
        (b"//origin.example/pub/a%20b/x", b"x"),
        (b"../a%20b/x", b"x"),
        (b"%252e%252e%252f", b"%2e%2e%2f"),  # 3: decoded once
        (b"..\\..\\x", b"..\\..\\x"),  # 4: never a separator
        (b"a\\b", b"a\\b"),
        (b"esc%1B%5B31m", b"esc\x1b[31m"),  # 6
        (b"new%0Aline", b"new\nline"),
        (b"lat%E9", b"lat\xe9"),  # 8
        (b"utf%C3%A9", b"utf\xc3\xa9"),
        (b"100%25", b"100%"),
        (b"100%", b"100%"),  # a server that does not escape
        (b"a+b", b"a+b"),
        (b"./a:b", b"a:b"),
        (b"a%3Ab", b"a:b"),
        (b".hidden", b".hidden"),
        (b"...", b"..."),
        (b" x\n", b"x"),
        (b"sub/?C=M;O=D", b"sub"),
        (b"%20lead", b" lead"),
        (b"x" * 255, b"x" * 255),
    ],
)
def test_an_href_in_the_directory_means_a_name(found: bytes, name: bytes) -> None:
    named = PLACE.name(found)
    assert named is not None
    assert named[0] == name


@pytest.mark.parametrize(
    "found",
    [
        b"",
        b"#frag",
        b"?C=M;O=D",
        b".",
        b"./",
        b"..",
        b"../",
        b"../../",
        b"/",
        b"/pub/",
        b"/pub/a%20b/",
        b"/pub/a%20b/?C=N",
        b"javascript:alert(1)",
        b"mailto:a@b",
        b"http://origin.example/",
        b"http://origin.example",
        b"./?x=1",
    ],
)
def test_links_of_the_page_itself_are_passed_over(found: bytes) -> None:
    assert PLACE.name(found) is None


@pytest.mark.parametrize(
    "found",
    [
        b"../evil",
        b"/etc/x",
        b"//host/x",
        b"http://other/x",
        b"http://origin.example:81/pub/a%20b/x",
        b"https://origin.example/pub/a%20b/x",
        b"ftp://origin.example/pub/a%20b/x",
        b"http:x",
        b"..%2f..%2fetc/passwd",  # 2
        b"..%2f..%2fetc%2fpasswd",
        b"%2e%2e/x",
        b"%2e%2e",
        b"%2e",
        b"a%2fb",
        b"a/b",
        b"a//b",
        b"a%00b",  # 5
        b"x?download=true",
        b"x#y",
        b"a:b",
        b"With colon :",
        b"x" * 256,
        b"/pub/a%2520b/x",
        b"/pub/a%20bc/x",
    ],
)
def test_any_other_href_is_refused(found: bytes) -> None:
    with pytest.raises(UnsafeName):
        PLACE.name(found)


@given(NAMES)
def test_every_name_survives_its_own_escaping(name: bytes) -> None:
    for escaped in (href(name), quote_from_bytes(name, safe="")):
        text = "./" + escaped
        assert PLACE.name(text.encode()) == (name, False)
        assert PLACE.name(text.encode() + b"/") == (name, True)


@given(st.binary(max_size=40))
def test_whatever_an_href_is_a_name_is_one_component(found: bytes) -> None:
    try:
        named = PLACE.name(found)
    except UnsafeName:
        return
    assert named is None or checked_name(named[0]) == named[0]


def test_the_directory_s_own_escapes_are_decoded_once_too() -> None:
    place = Place("http://h/a%2520b/")
    assert place.name(b"/a%2520b/x") == (b"x", False)
    with pytest.raises(UnsafeName):
        place.name(b"/a%20b/x")
