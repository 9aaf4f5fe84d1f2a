"""HTML listings of every server that `shapes` does not know to the byte.

A page is a listing when it says so in more than one way: a title, a head of columns, ordering links, a way
up, texts that are the names their links mean. It is complete when what holds the rows is closed and the
document is closed after it. Everything else is refused, so that an error page, a portal or half a page is
never an empty directory (HAZARDS 27-30, 55).
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from lxml import etree

from cluster.errors import IncompleteListing, NotAListing
from cluster.listing.blocks import Block, Reader
from cluster.listing.lister import is_directory_lister, lister_listing
from cluster.listing.times import month_first

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.listing.rows import Rows
    from cluster.model import Listing

_HIDING = re.compile(rb"<(!--|script\b|style\b|svg\b)", re.IGNORECASE)
_SHOWING = {
    b"!--": re.compile(rb"-->"),
    b"script": re.compile(rb"</script\s*>", re.IGNORECASE),
    b"style": re.compile(rb"</style\s*>", re.IGNORECASE),
    b"svg": re.compile(rb"</svg\s*>", re.IGNORECASE),
}
_FRAME = re.compile(rb"</?(?:html|body)\b[^<>]*>", re.IGNORECASE)
_ANCHOR = re.compile(rb"<a[\s/]", re.IGNORECASE)
_LOGIN = re.compile(rb"<input\b[^>]{0,500}\btype\s*=\s*[\"']?password", re.IGNORECASE).search
_HTML = re.compile(rb"<html[\s>]", re.IGNORECASE).search
_HTML_END = re.compile(rb"</html\s*>", re.IGNORECASE)
_BOXES = (b"div", b"table", b"ul", b"ol", b"pre", b"main", b"section")
_TITLE = re.compile(
    r"\s*(?:index of|directory (?:listing|index|of|contents)|directory:|listing (?:of|for)|file listing"
    r"|contents of|collection:|files in|index for|folder listing)|.*:: repository browser$",
    re.IGNORECASE,
).match
_PATH_TITLE = re.compile(r"(?:.*[\s:-])?/(?:\S.*/)?\s*", re.DOTALL).fullmatch
_EMPTY_LIST = re.compile(
    rb"<h1>(Index of|Directory listing for) ([^<]*)</h1>\s*(?:<hr>\s*)?<ul>\s*</ul>\s*(?:<hr>\s*)?"
    rb"(?:<address>[^<]*</address>\s*)?</body>\s*</html>\s*",
    re.IGNORECASE,
)


def html_listing(body: bytes, rows: Rows) -> Listing:
    """Raises NotAListing, IncompleteListing or TooLarge."""
    page = _visible(body, rows.path)
    if _LOGIN(page):
        raise NotAListing(rows.path, "the page asks for a password")
    root, encode = _tree(page, rows.path)
    if is_directory_lister(root):
        listing = lister_listing(root, encode, rows, len(body))
        _closed(page, "list", rows.path)
        return listing
    titles = [" ".join("".join(e.itertext()).split()) for e in islice(root.iter("title", "h1", "h2"), 20)]  # type: ignore[arg-type]
    titled = any(_TITLE(text) or _PATH_TITLE(text) for text in titles)
    reader = Reader(rows.place, encode, month_first(page))
    blocks = _chosen([b for b in reader.blocks(root) if _accepted(b, titled)])
    if not blocks:
        if _EMPTY_LIST.search(page) and any(map(_TITLE, titles)):
            return rows.listing("list", len(body), zone_known=False)
        if any(map(_TITLE, titles)) and not _HTML_END.search(page):
            raise IncompleteListing(rows.path, "the page ends before its listing does")
        raise NotAListing(rows.path, _shown_title(titles))
    for block in blocks:
        _closed(page, block.kind, rows.path)
    return _listing(blocks, rows, len(body))


def _visible(body: bytes, path: str) -> bytes:
    """The page without comments, scripts, styles and drawings, in one run over it.

    A regular expression that looked for each pair anew would take minutes over a page of openings alone.
    """
    kept, at = [], 0
    while hidden := _HIDING.search(body, at):
        kept.append(body[at : hidden.start()])
        end = _SHOWING[hidden[1].lower()].search(body, hidden.end())
        if end is None:
            raise IncompleteListing(path, f"the page ends inside <{hidden[1].decode().lower()}>")
        at = end.end()
    return b"".join(kept) + body[at:] if kept else body


def _tree(page: bytes, path: str) -> tuple[etree._Element, Callable[[str], bytes]]:
    """The tree, and how an attribute's text becomes the bytes that the page had.

    Names are bytes, so a page that is not UTF-8 throughout is read byte by character.
    """
    try:
        page.decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "iso-8859-1"
    parser = etree.HTMLParser(
        encoding=encoding, huge_tree=True, no_network=True, remove_comments=True, remove_pis=True
    )
    # Notes above a listing may be documents of their own: libxml2 stops at the first </html>.
    root: etree._Element | None = etree.fromstring(_FRAME.sub(b"", page), parser)
    if root is None:
        raise NotAListing(path, "an empty page")
    if sum(1 for _ in root.iter("a")) < len(_ANCHOR.findall(page)):
        raise IncompleteListing(path, "the page has links that cannot be told apart from its text")

    def encode(text: str) -> bytes:
        try:
            return text.encode(encoding)
        except UnicodeEncodeError:  # a character reference beyond Latin-1
            return text.encode()

    return root, encode


def _accepted(block: Block, titled: bool) -> bool:
    if block.rows and not any(row.name is not None for row in block.rows):
        return False  # every link leads elsewhere: a menu, whatever its title
    matched = block.matched()
    if block.kind in ("list", "divs"):
        return titled and not block.stray and (matched == 1.0 or (not block.rows and block.parent))
    ordered = block.sorting or (block.headed and block.parent) or bool(block.signed)
    if not block.rows:
        return ordered or (titled and (block.headed or block.parent))
    if ordered:
        return matched >= 0.5 or block.told() >= 0.5
    if titled:
        return matched >= 0.8 and (block.headed or block.parent or block.told() >= 0.5 or block.kind == "pre")
    return block.parent and matched >= 0.8 and block.told() >= 0.5


def _chosen(blocks: list[Block]) -> list[Block]:
    """Lists count only where nothing better is there: notes around a listing are written with them."""
    better = [b for b in blocks if b.kind not in ("list", "divs")]
    sure = [b for b in better if b.sorting or b.parent or b.headed or b.signed]
    if sure:
        kind = sure[0].kind
        return [b for b in better if b.kind == kind and (b in sure or b.told() >= 0.5)]
    return better or blocks


def _closed(page: bytes, kind: str, path: str) -> None:
    """Whether what holds the rows ends, and the document after it. Raises IncompleteListing."""
    box = {"table": b"table", "pre": b"pre", "list": b"[uo]l", "divs": b"div"}[kind]
    last = max((m.end() for m in re.finditer(b"<%b[\\s>]" % box, page, re.IGNORECASE)), default=0)
    end = re.compile(b"</%b\\s*>" % box, re.IGNORECASE).search(page, last)
    if end is None:
        raise IncompleteListing(path, f"the page ends before its {kind} does")
    if _HTML(page):
        final = max((m.end() for m in _HTML_END.finditer(page, end.end())), default=0)
        if not final or _ANCHOR.search(page, final):
            raise IncompleteListing(path, "the page ends before </html>")
        return
    for name in _BOXES:
        opened = len(re.findall(b"<%b[\\s>]" % name, page, re.IGNORECASE))
        if opened > len(re.findall(b"</%b\\s*>" % name, page, re.IGNORECASE)):
            raise IncompleteListing(path, f"the page ends inside <{name.decode()}>")


def _listing(blocks: list[Block], rows: Rows, size: int) -> Listing:
    zoned = True
    for block in blocks:
        for row in block.rows:
            if row.time and row.time.stamp:
                zoned = zoned and row.time.zoned
            rows.link(row.href, row.size, row.time.stamp if row.time else None, directory=row.directory)
    form = blocks[0].signed or blocks[0].kind
    return rows.listing(form, size, zone_known=zoned)


def _shown_title(titles: list[str]) -> str:
    title = next((text for text in titles if text), "")
    return f"a page titled {title[:80]!r}, not a listing" if title else "a page without a listing in it"
