"""What is not a listing, or not a whole one, proves nothing (HAZARDS 27-30, 55)."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import IncompleteListing, NotAListing, OriginError, TooLarge
from cluster.listing import parse
from cluster.model import MINUTE, Entry, Stamp
from tests.listing import pages

URL = "http://127.0.0.1/odd/"


def _page(title: str, body: str) -> str:
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1>{body}</body></html>"


@pytest.mark.parametrize(
    "page",
    [
        "",
        " \n",
        "hello",
        "\0",
        _page("404 Not Found", '<p>Not found. <a href="../">Up</a></p>'),
        "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n</body>\r\n</html>\r\n",
        _page("Welcome to CampusNet", '<ul><li><a href="terms.html">Terms of use</a></li></ul>'),
        _page(
            "Index of /pub",
            '<form action="/login"><input type="password"></form><pre><a href="../">../</a></pre>',
        ),
        _page("Index of /pub", ""),
        _page("Index of /pub", "<p>This directory is not available now.</p>"),
        _page("Index of /pub", "<p>none</p><ul></ul>"),
        _page("Index of /pub", '<ul><li><a href="a">About us</a></li></ul>'),
        _page("Index of /pub", '<ul><li><a href="a">a</a></li><li>and more</li></ul>'),
        _page("Index of /pub", '<ul><li><a href="http://other/a">a</a></li></ul>'),
        _page("Index of /pub", '<table><tr><td><a href="http://other/a">a</a></td></tr></table>'),
        _page(
            "Downloads",
            "<table><tr><th>Name</th><th>Size</th></tr>"
            '<tr><td><a href="a.zip">a.zip</a></td><td>1 MB</td></tr></table>',
        ),
        _page("Our site - /", '<ul><li><a href="about.html">About</a></li></ul>'),
        "<pre>\n</pre>\n",
        '<?xml version="1.0"?><rss></rss>',
        "[]",
        "{}",
        "[1, 2]",
        '[{"id": 1}]',
        '[{"name": "a", "type": "pipe", "mtime": "Sat, 21 Nov 2026 12:52:20 GMT"}]',
        '[{"name": 5, "type": "file", "mtime": "Sat, 21 Nov 2026 12:52:20 GMT"}]',
    ],
)
def test_a_page_that_is_not_a_listing_is_refused(page: str) -> None:
    with pytest.raises(NotAListing):
        parse(page.encode(), URL)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/octet-stream", "image/png", "application/gzip"]
)
def test_a_file_at_a_directory_s_place_is_not_a_listing(content_type: str) -> None:
    body, _ = pages.page("nginx-1.22.1-html-odd.html")
    with pytest.raises(NotAListing):
        parse(body, URL, content_type)


@pytest.mark.parametrize("name", pages.pages("odd") + pages.pages("empty"))
def test_a_page_cut_anywhere_loses_no_name_unnoticed(name: str) -> None:
    body, content_type = pages.page(name)
    whole = parse(body, URL, content_type)
    middle = random.Random(name).sample(range(len(body)), 40) if len(body) > 60 else range(len(body))
    for cut in {*middle, *range(max(0, len(body) - 60), len(body))}:
        try:
            part = parse(body[:cut], URL, content_type)
        except (IncompleteListing, NotAListing):
            continue
        assert part.entries == whole.entries, cut


@pytest.mark.parametrize("name", pages.pages("odd"))
def test_a_page_cut_in_its_rows_is_incomplete(name: str) -> None:
    body, content_type = pages.page(name)
    with pytest.raises(IncompleteListing) as caught:
        parse(body[: body.index(b"plain.txt") + 5], URL, content_type, path="odd/")
    assert str(caught.value).startswith("odd/: ")


def test_a_document_that_ended_in_the_notes_above_does_not_vouch_for_the_rows() -> None:
    page = (
        b"<html><title>Index of /p</title><html><body>Notes</body></html><pre>"
        b'<a href="../">../</a>\n<a href="a">a</a>  21-Nov-2026 12:52  5\n'
        b'<a href="b">b</a>  21-Nov-2026 12:52  5\n'
    )
    for rest in (b"", b"</pre>"):
        with pytest.raises(IncompleteListing):
            parse(page + rest, URL)
    assert len(parse(page + b"</pre></html>", URL).entries) == 2


OPENINGS = (
    "<!-- <script> <style> <svg> <html <pre> <ul><li> <div> <table><tr><td> <font> <h1>x < & 1/ <a/href=x> "
    "<ul><a/href=x>x</a> <pre><a/href=x>x</a> <table><tr><td><a/href=x>x</a>"
)


@pytest.mark.parametrize("piece", [*OPENINGS.encode().split(), b"<a ", b"<input ", b" ", b"\n"])
def test_a_page_of_openings_alone_costs_no_more_than_its_length(piece: bytes) -> None:
    page = b"<html><title>Index of /p</title><h1>Index of /p</h1>" + piece * 20_000
    start = time.process_time()
    with pytest.raises(OriginError):
        parse(page, URL)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("hidden", [b"<!-- ", b"<script>", b"<style>"])
def test_rows_that_a_reader_would_not_see_are_not_read(hidden: bytes) -> None:
    page = (
        b'<html><title>Index of /p</title>%b<pre><a href="../">../</a>\n<a href="a">a</a>\n</pre></html>'
        % hidden
    )
    with pytest.raises(OriginError):
        parse(page, URL)


def test_links_that_the_parser_loses_make_the_page_incomplete() -> None:
    rows = b"".join(b'<font><a href="f%d">f%d</a>  21-Nov-2026 12:52  5\n' % (i, i) for i in range(4000))
    page = b'<html><title>Index of /p</title><pre><a href="../">../</a>\n' + rows + b"</pre></html>"
    with pytest.raises(IncompleteListing):
        parse(page, URL)


def test_a_zero_byte_is_not_text() -> None:
    body, _ = pages.page("nginx-1.22.1-html-odd.html")
    with pytest.raises(NotAListing):
        parse(body.replace(b"plain.txt</a>", b"plain\0txt</a>"), URL)


@pytest.mark.parametrize("style", ["apache", "apache table"])
def test_a_listing_in_a_comment_or_without_the_document_s_end_is_not_complete(style: str) -> None:
    body = pages.STYLES[style][0]([Entry(b"a", size=5, mtime=Stamp(0, MINUTE))])
    assert len(parse(body, URL).entries) == 1
    with pytest.raises(IncompleteListing):
        parse(body.removesuffix(b"</body></html>\n"), URL)
    with pytest.raises(OriginError):
        parse(body.replace(b"</h1>\n", b"</h1>\n<!--\n"), URL)


def test_a_page_without_a_frame_is_complete_when_every_box_is_closed() -> None:
    page = (
        b"<title>Index of /p</title><div><table><tr><th>Name</th><th>Size</th></tr>"
        b'<tr><td><a href="a">a</a></td><td>5</td></tr></table>'
    )
    second = b"<table><tr><th>Name</th><th>Size</th></tr>"
    second += b'<tr><td><a href="b">b</a></td><td>5</td></tr></table></div>'
    assert len(parse(page + second, URL).entries) == 2
    with pytest.raises(IncompleteListing):
        parse(page, URL)


# -- object stores ---------------------------------------------------------------------------

BUCKET = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>b</Name><Prefix>p/</Prefix><IsTruncated>{}</IsTruncated>"
    "<Contents><Key>p/</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><Size>0</Size></Contents>"
    "<Contents><Key>p/a &amp; b</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
    "<Size>5368709120</Size></Contents>"
    "<Contents><Key>p/deep/er/x</Key><Size>1</Size></Contents><Contents><Key>p/../x</Key><Size>1</Size></Contents>"
    "<CommonPrefixes><Prefix>p/sub/</Prefix></CommonPrefixes></ListBucketResult>"
)


def test_a_whole_bucket_listing_is_read() -> None:
    listing = parse(BUCKET.format("false").encode(), "http://h/b", "application/xml")
    assert [(e.name, e.kind.value, e.size) for e in listing.entries] == [
        (b"a & b", "file", 5368709120),
        (b"deep", "directory", None),
        (b"sub", "directory", None),
    ]
    assert [r.name for r in listing.rejected] == [b".."]
    assert listing.zone_known


@pytest.mark.parametrize("page", [BUCKET.format("true"), BUCKET.format(""), BUCKET.format("false")[:-20]])
def test_a_bucket_listing_with_more_to_come_is_incomplete(page: str) -> None:
    with pytest.raises(IncompleteListing):
        parse(page.encode(), "http://h/b", "application/xml")


def test_a_bucket_listing_with_entities_of_its_own_is_refused() -> None:
    bomb = BUCKET.format("false").replace("?>\n", '?>\n<!DOCTYPE x [<!ENTITY a "aaaa">]>', 1)
    with pytest.raises(NotAListing):
        parse(bomb.encode(), "http://h/b", "application/xml")


# -- anything at all -------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        b"<html>",
        b"</html>",
        b"<title>Index of /</title>",
        b"<pre>",
        b"</pre>",
        b"<table>",
        b"</table>",
        b"<tr>",
        b"<td>",
        b'<a href="x">x</a>',
        b'<a href="../">../</a>',
        b"<ul><li>",
        b"</ul>",
        b"<!--",
        b"-->",
        b"\xff",
        b"&#x;",
        b"<a href=",
        b" 21-Nov-2026 12:52 5\n",
        b'<?xml version="1.0"?>',
        b"<list>",
        b"<ListBucketResult>",
        b"[",
        b"{",
        b'"name"',
        b"\n",
    ]
)


@given(st.lists(FRAGMENTS, max_size=25), st.sampled_from(["", "text/html", "application/json", "text/xml"]))
def test_nothing_but_a_listing_s_own_errors_ever_comes_out(parts: list[bytes], content_type: str) -> None:
    try:
        listing = parse(b"".join(parts), URL, content_type)
    except (NotAListing, IncompleteListing, TooLarge):
        return
    names = [e.name for e in listing.entries]
    assert names == sorted(set(names))
