"""Pages captured from real servers, live ones, and ones written in the hand of servers that are not here."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.errors import NotAListing
from cluster.listing import parse
from cluster.listing.times import time_of
from cluster.model import MINUTE, SECOND, Entry, Kind, Listing, Stamp
from tests.listing import pages
from tests.servers import Server

Start = Callable[..., Server]

# Names that a server does not show, or shows otherwise, and by how much its page is exact.
HIDES_DOTS = "nginx"
SURROGATES = {
    b"lat\xe9": b"lat\xed\xb3\xa9"
}  # Python escapes its own substitute for the byte, and takes it back


@pytest.mark.parametrize("name", pages.pages("odd"))
def test_a_page_of_a_real_server_gives_its_directory_back(name: str) -> None:
    body, content_type = pages.page(name)
    listing = parse(body, "http://127.0.0.1/odd/", content_type)
    truth = pages.truth()
    if name.startswith(HIDES_DOTS):
        truth = {n: facts for n, facts in truth.items() if not n.startswith(b".")}
    if name.startswith("python"):
        truth = {SURROGATES.get(n, n): facts for n, facts in truth.items()}
    assert {e.name for e in listing.entries} == truth.keys()
    assert [e.name for e in listing.entries] == sorted(truth)
    assert listing.rejected == ()
    assert listing.size == len(body)
    for entry in listing.entries:
        kind, size, time = truth[entry.name]
        assert entry.kind is kind
        assert entry.size in (None, size)
        assert entry.size is None or kind is Kind.FILE
        if entry.mtime:
            assert entry.mtime.agrees(Stamp(time * SECOND, SECOND)), entry


@pytest.mark.parametrize(
    ("name", "exact", "timed", "zone_known"),
    [
        ("nginx-1.22.1-html-odd.html", 52, MINUTE, False),
        ("nginx-1.22.1-html-rounded-odd.html", 50, MINUTE, False),
        ("nginx-1.22.1-json-odd.json", 52, SECOND, True),
        ("nginx-1.22.1-xml-odd.xml", 52, SECOND, True),
        ("apache-2.4.71-table-odd.html", 51, MINUTE, False),
        ("apache-2.4.71-desc-odd.html", 51, MINUTE, False),
        ("apache-2.4.71-fancy-odd.html", 51, MINUTE, False),
        ("apache-2.4.71-nosize-odd.html", 0, MINUTE, False),
        ("apache-2.4.71-plain-odd.html", 0, None, True),
        ("lighttpd-1.4.69-odd.html", 0, SECOND, False),
        ("caddy-2.6.2-odd.html", 53, SECOND, True),
        ("caddy-2.6.2-odd.json", 53, SECOND, True),
        ("python-3.11-odd.html", 0, None, True),
    ],
)
def test_a_page_is_as_exact_as_it_is_and_no_more(
    name: str, exact: int, timed: int | None, zone_known: bool
) -> None:
    body, content_type = pages.page(name)
    listing = parse(body, "http://127.0.0.1/odd/", content_type)
    assert sum(e.size is not None for e in listing.entries) == exact
    assert {e.mtime.precision for e in listing.entries if e.mtime} <= ({timed} if timed else set())
    assert any(e.mtime for e in listing.entries) is (timed is not None)
    assert listing.zone_known is zone_known


@pytest.mark.parametrize("name", pages.pages("empty"))
def test_an_empty_directory_of_a_real_server_is_recognised(name: str) -> None:
    body, content_type = pages.page(name)
    assert parse(body, "http://127.0.0.1/emptied/", content_type).entries == ()


# -- live ------------------------------------------------------------------------------------

NAMES = [
    b"plain.txt",
    b"with space",
    b"100%.txt",
    b"a#b",
    b"a?b",
    b"a&b",
    b"it's",
    b'"q"',
    b"<x>",
    b"new\nline",
]
NAMES += [
    b"lat\xe9",
    b"utf\xc3\xa9",
    b"a:b",
    b".hidden",
    b"back\\slash",
    b"n" * 255,
    b"%41",
    b"&amp;",
    b"[PARENTDIR]",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = os.fsencode(tmp_path)
    os.makedirs(os.path.join(root, b"d", b"sub dir"))
    os.makedirs(os.path.join(root, b"d", b"none"))
    for index, name in enumerate(NAMES):
        path = os.path.join(root, b"d", name)
        with open(path, "wb") as file:
            file.write(b"x" * (index * 400))
        os.utime(path, (1_600_000_000 + index * 86_461,) * 2)
    os.chmod(root, 0o755)
    return tmp_path


def _fetched(server: Server, path: str) -> Listing:
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:
        return parse(answer.read(), server.url + path, answer.headers["Content-Type"])


def _is_the_tree(listing: Listing, tree: Path, *, dots: bool = True) -> None:
    folder = os.path.join(os.fsencode(tree), b"d")
    expected = {n for n in os.listdir(folder) if dots or not n.startswith(b".")}
    assert {e.name for e in listing.entries} == expected
    for entry in listing.entries:
        stat = os.stat(os.path.join(folder, entry.name))
        assert (entry.kind is Kind.DIRECTORY) == os.path.isdir(os.path.join(folder, entry.name))
        assert entry.size is None or entry.size == stat.st_size
        assert entry.mtime is None or entry.mtime.agrees(Stamp(int(stat.st_mtime) * SECOND, SECOND))


@pytest.mark.parametrize("form", ["html", "json", "xml"])
def test_nginx_today_is_read(start_nginx: Start, tree: Path, form: str) -> None:
    server = start_nginx(tree, autoindex_format=form)
    _is_the_tree(_fetched(server, "d/"), tree, dots=False)
    assert _fetched(server, "d/none/").entries == ()


@pytest.mark.parametrize(
    "options",
    [
        "None",
        "FancyIndexing",
        "FancyIndexing HTMLTable XHTML FoldersFirst",
        "FancyIndexing SuppressRules SuppressIcon",
    ],
)
def test_apache_today_is_read(start_apache: Start, tree: Path, options: str) -> None:
    server = start_apache(tree, options)
    listing = _fetched(server, "d/")
    _is_the_tree(listing, tree, dots=any(e.name == b".hidden" for e in listing.entries))
    assert _fetched(server, "d/none/").entries == ()


def test_lighttpd_today_is_read(start_lighttpd: Start, tree: Path) -> None:
    server = start_lighttpd(tree)
    _is_the_tree(_fetched(server, "d/"), tree, dots=False)
    assert _fetched(server, "d/none/").entries == ()


# -- servers that are not at hand ------------------------------------------------------------

IIS = (
    "<html><head><title>www.example.com - /pub/</title></head><body><H1>www.example.com - /pub/</H1>"
    '<hr>\r\n\r\n<pre><A HREF="/">[To Parent Directory]</A><br><br>{}</pre><hr></body></html>'
)
TABLE = "<html><head><title>{0}</title></head><body><h1>{0}</h1><table>{1}</table></body></html>"
UP = '<tr><td><a href="../">Parent Directory</a></td><td></td><td></td></tr>'


def _stamp(text: str) -> Stamp:
    time = time_of(text)
    assert time is not None
    assert time.stamp is not None
    return time.stamp


@pytest.mark.parametrize(
    ("page", "entries"),
    [
        pytest.param(
            IIS.format(
                ' 9/28/2017  3:17 PM        &lt;dir&gt; <A HREF="/pub/sub/">sub</A><br>'
                ' 5/11/2018 10:15 AM       123456 <A HREF="/pub/y%20z.zip">y z.zip</A><br>'
            ),
            [
                Entry(b"sub", Kind.DIRECTORY, mtime=_stamp("2017-09-28 15:17")),
                Entry(b"y z.zip", size=123456, mtime=_stamp("2018-05-11 10:15")),
            ],
            id="iis",
        ),
        pytest.param(
            IIS.format(
                '28/09/2017  15:17        &lt;dir&gt; <A HREF="/pub/sub">sub</A><br>'
                '05/11/2018  10:15       123456 <A HREF="/pub/y.zip">y.zip</A><br>'
            ),
            [
                Entry(b"sub", Kind.DIRECTORY, mtime=_stamp("2017-09-28 15:17")),
                Entry(b"y.zip", size=123456, mtime=_stamp("2018-11-05 10:15")),
            ],
            id="iis in a locale that puts the day first",
        ),
        pytest.param(
            IIS.format('05/11/2018  10:15       7 <A HREF="/pub/y.zip">y.zip</A><br>'),
            [Entry(b"y.zip", size=7)],
            id="iis with a date that may mean two days",
        ),
        pytest.param(IIS.format(""), [], id="iis, empty"),
        pytest.param(
            TABLE.format(
                "Directory: /pub/",
                '<tr><th><a href="?C=N&O=D">Name</a></th><th><a href="?C=M&O=A">Last Modified</a></th>'
                '<th><a href="?C=S&O=A">Size</a></th></tr>'
                + UP
                + '<tr><td><a href="/pub/a.txt">a.txt&nbsp;</a></td>'
                "<td>Jan 3, 2024, 1:00:05 PM&nbsp;</td><td>1,234 bytes&nbsp;</td></tr>",
            ),
            [Entry(b"a.txt", size=1234, mtime=_stamp("2024-01-03 13:00:05"))],
            id="jetty",
        ),
        pytest.param(
            TABLE.format(
                "Directory Listing For [/pub/]",
                "<tr><td><strong>Filename</strong></td><td>Size</td><td>Last Modified</td></tr>"
                '<tr><td>&nbsp;<a href="/pub/a%20b"><tt>a b</tt></a></td><td>1.2 kb</td>'
                "<td>Thu, 04 Jan 2024 10:20:30 GMT</td></tr>",
            ),
            [Entry(b"a b", rounded="1.2 kb", mtime=_stamp("2024-01-04 10:20:30"))],
            id="tomcat",
        ),
        pytest.param(
            TABLE.format(
                "Index of /pub/",
                '<thead><tr><th><a href="?C=N&amp;O=A">File Name</a></th>'
                '<th><a href="?C=S&amp;O=A">File Size</a></th>'
                '<th><a href="?C=M&amp;O=A">Date</a></th></tr></thead>'
                + UP
                + '<tr><td><a href="x/" title="x">x/</a></td><td>-</td><td>2023-Jul-10 13:07</td></tr>'
                '<tr><td><a href="f" title="f">f</a></td><td>1.2 MiB</td><td>2023-Jul-10 13:07</td></tr>',
            ),
            [
                Entry(b"f", rounded="1.2 MiB", mtime=_stamp("2023-07-10 13:07")),
                Entry(b"x", Kind.DIRECTORY, mtime=_stamp("2023-07-10 13:07")),
            ],
            id="nginx fancyindex",
        ),
        pytest.param(
            TABLE.format(
                "index - powered by h5ai v0.30.0",
                "<tr><th></th><th><span>Name</span></th><th><span>Last modified</span></th>"
                "<th><span>Size</span></th></tr>"
                '<tr><td></td><td><a href="..">Parent Directory</a></td><td></td><td></td></tr>'
                '<tr><td></td><td><a href="/pub/dir%20a/">dir a</a></td>'
                "<td>2020-01-02 10:00</td><td></td></tr>"
                '<tr><td></td><td><a href="/pub/x.iso">x.iso</a></td>'
                "<td>2020-01-02 10:00</td><td>690 KB</td></tr>",
            ),
            [
                Entry(b"dir a", Kind.DIRECTORY, mtime=_stamp("2020-01-02 10:00")),
                Entry(b"x.iso", rounded="690 KB", mtime=_stamp("2020-01-02 10:00")),
            ],
            id="h5ai",
        ),
        pytest.param(
            TABLE.format(
                "Index of /pub/",
                "<tr><th>Name</th><th>Downloads</th><th>Size (KB)</th></tr>"
                + UP
                + '<tr><td><a href="a">a</a></td><td>5</td><td>17</td></tr>',
            ),
            [Entry(b"a", rounded="17")],
            id="a head that says kilobytes, and a column of numbers that are no sizes",
        ),
        pytest.param(
            '<pre>\n<a href="a.txt">a.txt</a>\n<a href="s/">s/</a>\n</pre>\n',
            [Entry(b"a.txt"), Entry(b"s", Kind.DIRECTORY)],
            id="go",
        ),
    ],
)
def test_other_servers_are_read(page: str, entries: list[Entry]) -> None:
    assert list(parse(page.encode(), "http://www.example.com/pub/", "text/html").entries) == entries


def test_notes_around_a_listing_are_not_part_of_it() -> None:
    """HAZARDS 23: a base, a refresh, other hosts, links in a header, a footer, a description."""
    page = (
        b'<html><head><title>Index of /pub</title><base href="http://evil/"></head><body>'
        b'<h1>Index of /pub</h1><pre>Start with <a href="README">README</a></pre>'
        b'<p>Read <a href="docs/">docs</a>.<ul><li><a href="x">x</a><li><a href="y">y</a></ul>'
        b'<table><tr><td><a href="news.html">news.html</a></td></tr></table>'
        b'<pre><a href="?C=N;O=D">Name</a>  <a href="?C=M;O=A">Last modified</a>  <a href="?C=S;O=A">Size</a>'
        b'<hr><a href="/">Parent Directory</a>   -\n'
        b'<a href="a">a</a>  2026-11-21 12:52  5  see <a href="other">12K</a> 2001-01-01 10:00\n'
        b'<a href="http://evil/b">b</a>  2026-11-21 12:52  5\n<hr></pre>'
        b'<div><a href="foot.html">foot.html</a></div></body></html>'
    )
    listing = parse(page, "http://h/pub/", "text/html")
    assert [e.name for e in listing.entries] == [b"a"]
    assert listing.entries[0].size == 5
    assert [r.name for r in listing.rejected] == [b"http://evil/b"]


@pytest.mark.parametrize(
    ("url", "page", "names"),
    [
        pytest.param(
            "http://h/p/",
            '<ul><li><a href="docs">docs</a></ul><pre><a href="a">a</a>  21-Nov-2026 12:52  5\n</pre>',
            [(b"a", 5)],
            id="a list in the notes above rows without a head",
        ),
        pytest.param(
            "http://h/p/",
            "<pre>Name      Last modified      Description<hr>"
            '<a href="a">a</a>  2026-11-21 12:52  3 files\n</pre>',
            [(b"a", None)],
            id="a description that begins with a number",
        ),
        pytest.param(
            "http://h/",
            '<pre><a href="/elsewhere/">Parent Directory</a>\n'
            '<a href="a">a</a>  21-Nov-2026 12:52  5\n</pre>',
            [(b"a", 5)],
            id="a way up that a proxy has moved",
        ),
    ],
)
def test_a_row_is_what_stands_in_its_column(
    url: str, page: str, names: list[tuple[bytes, int | None]]
) -> None:
    page = f"<html><title>Index of /p</title><body>{page}</body></html>"
    assert [(e.name, e.size) for e in parse(page.encode(), url).entries] == names


def test_a_link_s_own_time_is_not_the_file_s() -> None:
    body, content_type = pages.page("caddy-2.6.2-odd.json")
    told = {e.name: e.mtime for e in parse(body, "http://127.0.0.1/odd/", content_type).entries}
    assert told[b"linkfile"] is None
    assert told[b"plain.txt"] is not None


LISTER = (
    "<title>a/b</title><div><a href='.'>Home</a> / <a href='?dir=a'>a</a> / <a href='?dir=a/b'>b</a>"
    "<ul><li><a href='?dir=a'><i>..</i></a>"
    "<a href='?dir=a/b/sub'><i>sub</i><i>-</i><i>2023-08-07 21:11:02</i></a>"
    "<a href='a/b/f%20g'><i>f g</i><i>4.11KB</i><i>2023-08-07 21:11:02</i></a>"
    "<a href='a/x/y'><i>y</i></a></li></ul>"
    "<a href='https://www.directorylister.com'>Directory Lister</a></div>"
)


def test_directory_lister_is_read_for_the_directory_that_was_asked_for() -> None:
    stamp = _stamp("2023-08-07 21:11:02")
    for url in ("http://h/", "http://h/?dir=a/b"):
        listing = parse(LISTER.encode(), url)
        assert list(listing.entries) == [
            Entry(b"f g", rounded="4.11KB", mtime=stamp),
            Entry(b"sub", Kind.DIRECTORY, mtime=stamp),
        ]
        assert [r.name for r in listing.rejected] == [b"a/x/y"]
    with pytest.raises(NotAListing):
        parse(LISTER.encode(), "http://h/?dir=a/c")


@pytest.mark.parametrize("quote", [b'"', b"'"])
def test_a_page_that_is_not_utf_8_keeps_its_bytes(quote: bytes) -> None:
    page = (
        b"<html><title>Index of /p</title><pre><a href=../>../</a>\n"
        b"<a href=Qlat\xe9Q>lat\xe9</a>  21-Nov-2026 12:52  5\n"
        b"<a href=Qutf\xc3\xa9Q>utf\xc3\xa9</a>  21-Nov-2026 12:52  5\n</pre></html>"
    ).replace(b"Q", quote)
    assert [e.name for e in parse(page, "http://h/p/").entries] == [b"lat\xe9", b"utf\xc3\xa9"]
