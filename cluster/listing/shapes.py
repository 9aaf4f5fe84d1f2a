"""Pages in exactly the shape in which a server writes them, read without building a tree.

A page that deviates by one byte outside names, times and sizes is left to `html`: these patterns either
account for every byte of the page or say nothing. Evidence: nginx 1.22.1, Apache 2.4.71, lighttpd 1.4.69,
Go's net/http.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import TYPE_CHECKING

from cluster.listing.names import plain_name
from cluster.listing.rows import Rows
from cluster.listing.sizes import NO_SIZE, Size, size_of
from cluster.listing.times import autoindex_stamp, time_of
from cluster.model import Entry, Kind, Listing, Stamp

if TYPE_CHECKING:
    pass

PLAIN = 18  # digits that are a number of bytes, without a look at units and limits

_NGINX_HEAD = re.compile(
    rb"<html>\r?\n<head><title>Index of ([^<]*)</title></head>\r?\n<body(?: bgcolor=\"white\")?>\r?\n"
    rb"<h1>Index of \1</h1><hr><pre><a href=\"\.\./\">\.\./</a>\r?\n"
).match
_NGINX_ROW = re.compile(
    rb"<a href=\"([^\"<>]*)\">[^<]*</a> +(\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d) +(-|\d+[KMG]?)\r?\n"
)
_NGINX_TAIL = re.compile(rb"</pre><hr></body>\r?\n</html>\s*").fullmatch

_WHEN = rb"(\d{4}-\d\d-\d\d \d\d:\d\d|\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d)"

# Nothing before the listing that could hide it, and nothing that looks like one.
_PLAIN_NOTES = re.compile(
    rb"\s*<!DOCTYPE[^<>]*>\s*<html[^<>]*>(?:[^<]|<(?!!--|script|style|table|pre|svg|/html|textarea|template))*",
    re.IGNORECASE,
).fullmatch
_DOCUMENT_END = re.compile(
    rb"(?:[^<]|<(?!!--|script|style|table|pre|svg|/html|\?|a[\s>]))*</html>\s*", re.IGNORECASE
).fullmatch

_TABLE_HEAD = re.compile(
    rb"\n  <table>\n   <tr><th[^<>]*>(?:&nbsp;|<img [^<>]*>)</th><th><a href=\"\?C=N;O=[AD]\">Name</a></th>"
    rb"<th><a href=\"\?C=M;O=[AD]\">Last modified</a></th><th><a href=\"\?C=S;O=[AD]\">Size</a></th>"
    rb"(?:<th><a href=\"\?C=D;O=[AD]\">Description</a></th>)?</tr>\n"
    rb"   <tr><th colspan=\"\d\"><hr></th></tr>\n"
    rb"(?:<tr><td valign=\"top\">(?:&nbsp;|<img [^<>]*>)</td><td><a href=\"[^\"<>]*\">Parent Directory</a> *"
    rb"</td><td>&nbsp;</td><td align=\"right\">  - </td>(?:<td>&nbsp;</td>)?</tr>\n)?"
).search
_TABLE_ROW = re.compile(
    rb"<tr><td valign=\"top\">(?:&nbsp;|<img [^<>]*>)</td><td><a href=\"([^\"<>]*)\">[^<]*</a> *</td>"
    rb"<td align=\"right\">" + _WHEN + rb"  </td><td align=\"right\"> *(-|[\d.]+[KMGTPE]?) *</td>"
    rb"(?:<td>[^<]*</td>)?</tr>\n"
)
_TABLE_TAIL = re.compile(rb"   <tr><th colspan=\"\d\"><hr></th></tr>\n</table>\n").match

_PRE_HEAD = re.compile(
    rb"\n<pre>(?:<img [^<>]*>| +)? *<a href=\"\?C=N;O=[AD]\">Name</a> +"
    rb"<a href=\"\?C=M;O=[AD]\">Last modified</a> +"
    rb"<a href=\"\?C=S;O=[AD]\">Size</a>  (?:<a href=\"\?C=D;O=[AD]\">Description</a>)?<hr>"
    rb"(?:(?:<img [^<>]*>)? *<a href=\"[^\"<>]*\">Parent Directory</a> +-   \n)?"
).search
_PRE_ROW = re.compile(
    rb"(?:<img [^<>]*>)? *<a href=\"([^\"<>]*)\">[^<]*</a> +"
    + _WHEN
    + rb" +(-|[\d.]+[KMGTPE]?) *(?: [^<\n]*)?\n"
)
_PRE_TAIL = re.compile(rb"<hr></pre>\n").match

_LIGHTTPD_HEAD = re.compile(
    rb"<table summary=\"Directory Listing\" cellpadding=\"0\" cellspacing=\"0\">\n"
    rb"<thead><tr><th class=\"n\">Name</th><th class=\"m\">Last Modified</th><th class=\"s\">Size</th>"
    rb"<th class=\"t\">Type</th></tr></thead>\n<tbody>\n"
    rb"(?:<tr class=\"d\"><td class=\"n\"><a href=\"\.\./\">\.\.</a>/</td>[^\n]*</tr>\n)?"
)
_LIGHTTPD_ROW = re.compile(
    rb"<tr(?: class=\"d\")?><td class=\"n\"><a href=\"([^\"<>]*)\">[^<]*</a>/?</td>"
    rb"<td class=\"m\">([^<]*)</td>"
    rb"<td class=\"s\">([\d.]+[KMGTPE]|- &nbsp;)</td><td class=\"t\">[^<]*</td></tr>\n"
)
_LIGHTTPD_TAIL = re.compile(
    rb"</tbody>\n</table>\n</div>\n(?:<pre class=\"readme\">[^<]*</pre>\n)?<div class=\"foot\">[^<]*</div>\s*"
    rb"(?:<script[^<>]*>(?:[^<]|<(?!/script))*</script>\s*)?</body>\n</html>\s*"
).fullmatch

_GO_HEAD = re.compile(
    rb"(?:<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n)?<pre>\n"
).match
_GO_ROW = re.compile(rb"<a href=\"([^\"<>]*)\">[^<]*</a>\n")
_GO_TAIL = re.compile(rb"</pre>\n").fullmatch

_SIMPLE_ENTITY = re.compile(rb"&(?:[a-z]+|#\d+|#x[0-9A-Fa-f]+);")


def shaped(body: bytes, rows: Rows) -> Listing | None:
    """The listing, if every byte of the page is accounted for. Raises TooLarge."""
    nginx = _NGINX_HEAD(body)
    if nginx:
        return _read(body, rows, "nginx", nginx.end(), (_NGINX_ROW, _NGINX_TAIL), autoindex_stamp)
    if b"?C=N;O=" in body[:65536]:
        return _apache(body, rows)
    lighttpd = _LIGHTTPD_HEAD.search(body, 0, 65536)
    if lighttpd:
        pattern = (_LIGHTTPD_ROW, _LIGHTTPD_TAIL)
        return _read(body, rows, "lighttpd", lighttpd.end(), pattern, _lighttpd_stamp)
    go = _GO_HEAD(body)
    if go:
        found = _read(body, rows, "go", go.end(), (_GO_ROW, _GO_TAIL), _no_stamp)
        # Without the doctype line an empty page is three tags, which is no proof of anything.
        return found if found and (found.entries or body.startswith(b"<!doctype")) else None
    return None


def _apache(body: bytes, rows: Rows) -> Listing | None:
    """Its ordering links are proof enough; before and after may stand an operator's own notes."""
    for form, head, row, tail in (
        ("apache table", _TABLE_HEAD, _TABLE_ROW, _TABLE_TAIL),
        ("apache", _PRE_HEAD, _PRE_ROW, _PRE_TAIL),
    ):
        found = head(body, 0, 65536)
        if found and _PLAIN_NOTES(body, 0, found.start() + 1):
            return _read(body, rows, form, found.end(), (row, _apache_end(tail)), autoindex_stamp)
    return None


def _apache_end(tail: Callable[[bytes, int], re.Match[bytes] | None]) -> Callable[[bytes, int], object]:
    def ends(body: bytes, end: int) -> bool:
        closed = tail(body, end)
        return bool(closed and _DOCUMENT_END(body, closed.end()))

    return ends


def _read(
    body: bytes,
    rows: Rows,
    form: str,
    start: int,
    pattern: tuple[re.Pattern[bytes], Callable[[bytes, int], object]],
    stamp: Callable[[bytes], Stamp | None],
) -> Listing | None:
    row, tail = pattern
    end, plain = start, row.groups == 1
    found = []
    for match in row.finditer(body, start):
        if match.start() != end:
            return None
        end = match.end()
        found.append(match.groups())
        if len(found) > 2 * rows.limit:
            break  # `rows` says the rest
    if not tail(body, end) and len(found) <= 2 * rows.limit:
        return None
    sizes: dict[bytes, Size] = {b"-": NO_SIZE}
    for groups in found:
        href = groups[0]
        if b"&" in href:
            href = _SIMPLE_ENTITY.sub(lambda m: unescape(m[0].decode()).encode(), href)
        if plain:
            rows.link(href)
            continue
        digits = groups[2]
        if digits.isdigit() and len(digits) <= PLAIN:
            if (name := plain_name(href)) is not None:
                rows.put(Entry(name, Kind.FILE, int(digits), None, stamp(groups[1])))
            else:
                rows.link(href, Size(int(digits)), stamp(groups[1]))
            continue
        size = sizes.get(digits)
        if size is None:
            size = sizes[groups[2]] = size_of(groups[2].decode().replace("&nbsp;", "")) or NO_SIZE
        rows.link(href, size, stamp(groups[1]))
    return rows.listing(form, len(body), zone_known=False)


def _lighttpd_stamp(text: bytes) -> Stamp | None:
    time = time_of(text.decode("latin-1"))
    return time.stamp if time else None


def _no_stamp(_: bytes) -> None:
    return None
