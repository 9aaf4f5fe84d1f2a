"""Pages of real servers kept beside this file, and directories written the way those servers write them.

`odd.json` holds the truth about the directory that every `*-odd` page shows: kind, size and time by
percent-encoded name. The `*-empty` pages show a directory without names.
"""

from __future__ import annotations

import html
import json
import os
from datetime import UTC, datetime
from urllib.parse import quote_from_bytes, unquote_to_bytes

from cluster.model import MINUTE, SECOND, Entry, Kind, Stamp

FOLDER = os.path.join(os.path.dirname(__file__), "pages")
TYPES = {".html": "text/html", ".json": "application/json", ".xml": "text/xml"}


def pages(what: str) -> list[str]:
    """File names of the kept pages of that kind: `odd` or `empty`."""
    return sorted(n for n in os.listdir(FOLDER) if os.path.splitext(n)[0].endswith(f"-{what}"))


def page(name: str) -> tuple[bytes, str]:
    """`(body, content type)`."""
    with open(os.path.join(FOLDER, name), "rb") as file:
        return file.read(), TYPES[os.path.splitext(name)[1]]


def truth() -> dict[bytes, tuple[Kind, int, int]]:
    with open(os.path.join(FOLDER, "odd.json"), encoding="ascii") as file:
        return {unquote_to_bytes(n): (Kind(k), size, time) for n, (k, size, time) in json.load(file).items()}


# -- the same directory in every server's hand -----------------------------------------------


def _text(name: bytes) -> bytes:
    return html.escape(name.decode("latin-1")).encode("latin-1")


def _moment(ns: int, form: str) -> bytes:
    return datetime.fromtimestamp(ns // SECOND, UTC).strftime(form).encode()


def nginx(entries: list[Entry]) -> bytes:
    rows = [
        b'<a href="%b">%b</a>          %b %19b\r\n'
        % (_href(e, nginx), _text(e.name), _moment(e.mtime.ns, "%d-%b-%Y %H:%M"), _size(e))
        for e in entries
        if e.mtime
    ]
    head = (
        b"<html>\r\n<head><title>Index of /p/</title></head>\r\n<body>\r\n<h1>Index of /p/</h1><hr><pre>"
        b'<a href="../">../</a>\r\n'
    )
    return head + b"".join(rows) + b"</pre><hr></body>\r\n</html>\r\n"


_APACHE = (
    b'<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n<html>\n <head>\n  <title>'
    b"Index of /p</title>\n </head>\n <body>\n<h1>Index of /p</h1>\n"
)


def apache(entries: list[Entry]) -> bytes:
    rows = [
        b'<img src="/icons/%b.gif" alt="[%b]"> <a href="%b">%b</a>   %b  %b   \n'
        % (
            b"folder" if e.kind is Kind.DIRECTORY else b"unknown",
            b"DIR" if e.kind is Kind.DIRECTORY else b"   ",
            _href(e, apache),
            _text(e.name[:21] + b".." if len(e.name) > 23 else e.name),
            _moment(e.mtime.ns, "%Y-%m-%d %H:%M"),
            _size(e),
        )
        for e in entries
        if e.mtime
    ]
    head = (
        b'<pre><img src="/icons/blank.gif" alt="Icon "> <a href="?C=N;O=D">Name</a>                    '
        b'<a href="?C=M;O=A">Last modified</a>      <a href="?C=S;O=A">Size</a>  '
        b'<a href="?C=D;O=A">Description</a>'
        b'<hr><img src="/icons/back.gif" alt="[PARENTDIR]"> <a href="/">Parent Directory</a>         -   \n'
    )
    return _APACHE + head + b"".join(rows) + b"<hr></pre>\n</body></html>\n"


def apache_table(entries: list[Entry]) -> bytes:
    rows = [
        b'<tr><td valign="top"><img src="/icons/%b.gif" alt="[%b]"></td><td><a href="%b">%b</a></td>'
        b'<td align="right">%b  </td><td align="right">%b </td><td>&nbsp;</td></tr>\n'
        % (
            b"folder" if e.kind is Kind.DIRECTORY else b"unknown",
            b"DIR" if e.kind is Kind.DIRECTORY else b"   ",
            _href(e, apache),
            _text(e.name),
            _moment(e.mtime.ns, "%Y-%m-%d %H:%M"),
            _size(e),
        )
        for e in entries
        if e.mtime
    ]
    head = (
        b'  <table>\n   <tr><th valign="top"><img src="/icons/blank.gif" alt="[ICO]"></th>'
        b'<th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th>'
        b'<th><a href="?C=S;O=A">Size</a></th><th><a href="?C=D;O=A">Description</a></th></tr>\n'
        b'   <tr><th colspan="5"><hr></th></tr>\n'
    )
    tail = b'   <tr><th colspan="5"><hr></th></tr>\n</table>\n</body></html>\n'
    return _APACHE + head + b"".join(rows) + tail


def python(entries: list[Entry]) -> bytes:
    rows = [
        b'<li><a href="%b">%b</a></li>\n'
        % (_href(e, python), _text(e.name + (b"/" if e.kind is Kind.DIRECTORY else b"")))
        for e in entries
    ]
    title = b"Directory listing for /p/"
    head = b'<!DOCTYPE HTML>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>%b</title>\n' % title
    head += b"</head>\n<body>\n<h1>%b</h1>\n<hr>\n<ul>\n" % title
    return head + b"".join(rows) + b"</ul>\n<hr>\n</body>\n</html>\n"


def nginx_xml(entries: list[Entry]) -> bytes:
    rows = [
        b'<%b mtime="%b"%b>%b</%b>\r\n'
        % (
            e.kind.encode(),
            _moment(e.mtime.ns, "%Y-%m-%dT%H:%M:%SZ"),
            b"" if e.size is None else b' size="%d"' % e.size,
            e.name.replace(b"&", b"&amp;")
            .replace(b"<", b"&lt;")
            .replace(b">", b"&gt;")
            .replace(b'"', b"&quot;"),
            e.kind.encode(),
        )
        for e in entries
        if e.mtime
    ]
    return b'<?xml version="1.0"?>\r\n<list>\r\n' + b"".join(rows) + b"</list>\r\n"


def nginx_json(entries: list[Entry]) -> bytes:
    rows = [
        {"name": e.name.decode("utf-8", "surrogateescape"), "type": e.kind.value}
        | {"mtime": _moment(e.mtime.ns, "%a, %d %b %Y %H:%M:%S GMT").decode()}
        | ({} if e.size is None else {"size": e.size})
        for e in entries
        if e.mtime
    ]
    if not rows:
        return b"[\r\n]"
    body = b",\r\n".join(json.dumps(r, ensure_ascii=False).encode("utf-8", "surrogateescape") for r in rows)
    return b"[\r\n" + body + b"\r\n]"


STYLES = {
    "nginx": (nginx, MINUTE),
    "apache": (apache, MINUTE),
    "apache table": (apache_table, MINUTE),
    "python": (python, None),
    "nginx xml": (nginx_xml, SECOND),
    "nginx json": (nginx_json, SECOND),
}


def shown(entry: Entry, style: str) -> Entry:
    """What a listing in that style can tell of `entry`."""
    precision = STYLES[style][1]
    if precision is None or entry.mtime is None:
        return Entry(entry.name, entry.kind)
    stamp = Stamp(entry.mtime.ns // precision * precision, precision)
    return Entry(entry.name, entry.kind, entry.size, None, stamp)


def _href(entry: Entry, style: object) -> bytes:
    """nginx and Python escape everything odd; Apache puts `./` before a colon and escapes for HTML."""
    safe = "/:!$&'()*+,;=@" if style is apache else ""
    text = quote_from_bytes(entry.name, safe=safe) + ("/" if entry.kind is Kind.DIRECTORY else "")
    if style is apache:
        text = html.escape("./" + text if ":" in text.split("/")[0] else text, quote=False)
    return text.encode()


def _size(entry: Entry) -> bytes:
    return b"-" if entry.size is None else b"%d" % entry.size
