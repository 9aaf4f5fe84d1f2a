"""PyPI's simple pages, as HTML and as JSON."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Malformed, RepositoryError
from cluster.repository.base import Named, Order
from cluster.repository.pypi import Pypi
from tests.repository import made

PYPI = Pypi()
SHA256, MD5 = "a" * 64, "0" * 32
HTML = b"web/simple/foo/index.html"
JSON = b"web/simple/foo/index.v1_json"
PAGE = """<!DOCTYPE html>
<html><head><meta name="pypi:repository-version" content="1.1"><title>Links for foo</title></head>
<body><h1>Links for foo</h1><a href="#top">top</a>
{}<br/>
</body></html>
<!--SERIAL 12345-->"""


def read(text: str, path: bytes = HTML) -> list[Named]:
    root = PYPI.read_root(path, text.encode())
    assert root.itself is not None
    return list(PYPI.read_index(root, root.itself, io.BytesIO(text.encode())))


def link(href: str, more: str = "") -> list[Named]:
    return read(PAGE.format(f'<a href="{href}" {more}>foo</a>'))


def page(**changed: object) -> str:
    one = {
        "filename": "foo-1.tar.gz",
        "url": "../../packages/f/foo-1.tar.gz",
        "hashes": {"sha256": SHA256},
        "size": 7,
        **changed,
    }
    return json.dumps({"meta": {"api-version": "1.1", "_last-serial": 12345}, "name": "foo", "files": [one]})


def test_each_projects_page_is_a_root():
    tree = [
        b"web/simple/foo/index.html",
        b"web/simple/foo/index.v1_json",
        b"web/simple/index.html",
        b"web/simple/b/bar/index.html",
    ]
    everything, bar, foo = PYPI.roots(
        [*tree, b"web/packages/f/foo-1.tar.gz", b"web/docs/index.html", b"index.html"]
    )
    assert (everything.name, bar.name, foo.name) == (b"web/simple", b"web/simple/b/bar", b"web/simple/foo")
    assert foo.read == (b"web/simple/foo/index.v1_json", b"web/simple/foo/index.html")


@pytest.mark.parametrize(
    "href, path",
    [
        ("../../packages/ab/foo-1.tar.gz", b"web/packages/ab/foo-1.tar.gz"),
        ("foo-1.tar.gz", b"web/simple/foo/foo-1.tar.gz"),
        ("../../packages/foo%2B1.whl?x=1", b"web/packages/foo+1.whl"),
    ],
)
def test_a_page_names_its_files_with_their_digests(href, path):
    (one,) = link(href + "#sha256=" + SHA256)
    assert (one.path, one.digests) == (path, (("sha256", bytes.fromhex(SHA256)),))
    assert made.strong(one)
    assert not one.optional


def test_the_metadata_of_a_wheel_is_named_beside_it():
    for attribute in ("data-core-metadata", "data-dist-info-metadata"):
        _, one = link("foo.whl#sha256=" + SHA256, f'{attribute}="sha256={SHA256}"')
        assert (one.path, one.optional, made.strong(one)) == (b"web/simple/foo/foo.whl.metadata", True, True)
    _, one = read(page(**{"core-metadata": {"sha256": SHA256}}), JSON)
    assert (one.path, one.optional, made.strong(one)) == (b"web/packages/f/foo-1.tar.gz.metadata", True, True)
    assert len(read(page(**{"core-metadata": False}), JSON)) == 1


def test_json_tells_sizes_too():
    (one,) = read(page(hashes={"sha256": SHA256, "md5": MD5, "crc": "12"}), JSON)
    assert (one.path, one.size, [name for name, _ in one.digests]) == (
        b"web/packages/f/foo-1.tar.gz",
        7,
        ["md5", "sha256"],
    )


def test_a_serial_says_where_a_state_stands():
    quoted = page().replace("12345", '"12345"')  # as bandersnatch writes it
    for path, text in ((HTML, PAGE.format("")), (JSON, page()), (JSON, quoted)):
        assert PYPI.read_root(path, text.encode()).order == Order("serial", 12345)
    assert PYPI.read_root(HTML, b"<a href=x>").order is None


def test_the_page_of_all_projects_names_no_files():
    assert (
        PYPI.read_root(b"web/simple/index.html", PAGE.format('<a href="foo/">foo</a>').encode()).itself
        is None
    )


@pytest.mark.parametrize(
    "href",
    ["https://files.example.org/packages/foo-1.tar.gz", "//files.example.org/foo", "mailto:x@example.org"],
)
def test_what_another_server_has_is_not_named(href):
    assert link(href + "#sha256=" + SHA256) == []
    assert read(page(url=href), JSON) == []


@pytest.mark.parametrize(
    "href", ["../../../../etc/passwd", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/x", "a%00b", "x/", "foo#sha256=12"]
)
def test_links_that_lead_outside_or_nowhere_are_refused(href):
    with pytest.raises(Malformed):
        link(href)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"files": 1}',
        '{"files": [1]}',
        "[" * 100_000,
        page(hashes=[]),
        page(hashes={"sha256": 5}),
        page(size=-1),
        page(size="7"),
        page(size=10**30),
        page(url="../../../../x"),
        page(url="\ud800"),
        page()[:-1],
        '{"files": ' + "9" * 10_000 + "}",
    ],
)
def test_json_that_is_no_page_is_refused(text):
    with pytest.raises(RepositoryError) as caught:
        read(text, JSON)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=200))
def test_no_text_makes_anything_but_names_or_an_error_of_ours(text):
    text = text.encode("utf-8", "ignore").decode()
    for page_, path in (
        (text, HTML),
        (PAGE.format(text), HTML),
        (PAGE.format(f'<a href="{text}">'), HTML),
        (text, JSON),
    ):
        try:
            read(page_, path)
        except RepositoryError as error:
            assert "\n" not in str(error)


def test_a_page_whose_links_count_from_elsewhere_is_refused():
    with pytest.raises(Malformed, match="<base>"):
        read(
            PAGE.replace("<title>", '<base href="https://elsewhere.example/"><title>').format(
                '<a href="x">x</a>'
            )
        )
