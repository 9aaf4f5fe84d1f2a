"""The parts of an HTML page that may be a listing: tables, preformatted text, lists.

A block is what one of them shows: its rows, and what speaks for it being a listing. Whether it is one is
decided in `html`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.errors import UnsafeName
from cluster.listing.sizes import NO_SIZE, Size, size_of
from cluster.listing.times import Time, time_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lxml.etree import _Element

    from cluster.listing.names import Place

_SORTING = re.compile(r"\?(?:C=[NMSDTA];?&?O=[AD]?|[NMSD]=[AD]|(?:sort|C|sortby|order)=\w+.*)").fullmatch
_UP = re.compile(
    r"(?:\[?(?:to )?parent directory\]?/?|\.\./?|up|go up|\W*back|\W*parent( folder)?/?)", re.IGNORECASE
).fullmatch
_COLUMNS = {
    "name": re.compile(r"(?:file ?|entry ?)?names?\b|files?$", re.IGNORECASE),
    "date": re.compile(
        r"(?:last )?modif|(?:last )?(?:date|change|update)|mtime|time\b|uploaded", re.IGNORECASE
    ),
    "size": re.compile(r"(?:file ?)?size\b", re.IGNORECASE),
    "type": re.compile(r"type\b|kind\b|description|mime", re.IGNORECASE),
}
_SAME_KIND = {"table": ("table",), "pre": ("pre",), "ul": ("ul", "ol"), "ol": ("ul", "ol")}
_UNITS = re.compile(r"\(\s*(?:k|m|g)i?b?\s*\)", re.IGNORECASE)
_SPACE = re.compile(r"[\s\xa0]+")
_CUT = re.compile(r"(?:\.\.>|\.\.\.|…|\.\.)$")
_SIZE_WORD = re.compile(r"(<dir>|-(?!\S)|\d[\d.,]*(?:\s?(?:[KMGTPE]i?B?|B|bytes))?)(?=\s|$)", re.IGNORECASE)


@dataclass(slots=True)
class Row:
    """One link with the facts beside it. `name` is None for links of the page itself."""

    href: bytes
    text: str
    name: bytes | None = None
    refused: bool = False
    directory: bool = False
    size: Size = NO_SIZE
    time: Time | None = None
    told: bool = False  # a size or a time stood beside it


@dataclass(slots=True)
class Block:
    kind: str
    rows: list[Row] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    sorting: bool = False  # its head orders the page
    parent: bool = False  # it leads to the directory above
    stray: bool = False  # a list with something in it that is no link to a name
    signed: str = ""  # a server known by its markup

    @property
    def headed(self) -> bool:
        return "name" in self.columns and len(self.columns) > 1

    def matched(self) -> float:
        """The share of rows whose text is the name that their href means."""
        hits = sum(1 for row in self.rows if row.refused or _same(row.text, row.name or b""))
        return hits / len(self.rows) if self.rows else 0.0

    def told(self) -> float:
        return sum(row.told for row in self.rows) / len(self.rows) if self.rows else 0.0


class Reader:
    """Reads blocks against the place of the page. `encode` gives back the bytes of an attribute."""

    def __init__(self, place: Place, encode: Callable[[str], bytes], month_first: bool | None) -> None:
        self.place, self.encode, self.month_first = place, encode, month_first

    def blocks(self, root: _Element) -> Iterator[Block]:
        """Of boxes inside boxes of their kind, the innermost: the others are layout."""
        for element in root.iter("table", "pre", "ul", "ol", "div"):
            kind = str(element.tag)
            if kind == "div":
                if len(element) and all(e.tag == "div" and len(e) == 1 and e[0].tag == "a" for e in element):
                    yield self._list(element, "divs")  # Artifactory's simple browser
            elif next(element.iterdescendants(*_SAME_KIND[kind]), None) is not None:
                continue
            elif kind == "table":
                yield self._table(element)
            elif kind == "pre":
                yield self._pre(element)
            elif next(element.iterancestors("table", "pre"), None) is None:
                yield self._list(element, "list")

    # -- tables ------------------------------------------------------------------------------

    def _table(self, table: _Element) -> Block:
        block = Block("table")
        if table.get("aria-describedby") == "summary":
            block.signed = "caddy"
        elif table.get("summary") == "Directory Listing":
            block.signed = "lighttpd"
        heads: list[str] = []
        rough = False
        for tr in table.iter("tr"):
            cells = [cell for cell in tr if cell.tag in ("td", "th")]
            if not block.rows and not block.parent and _is_head(cells):
                texts = [_text(cell) for cell in cells]
                roles = [_role(text) for text in texts]
                if len({role for role in roles if role}) > 1:
                    heads, block.columns = roles, {role for role in roles if role}
                    rough = any(_UNITS.search(text) for text in texts)
                block.sorting = block.sorting or _sorts(tr)
                continue
            row = self._table_row(cells, heads, rough, block)
            if row:
                block.rows.append(row)
        return block

    def _table_row(self, cells: list[_Element], heads: list[str], rough: bool, block: Block) -> Row | None:
        links = [(i, a) for i, cell in enumerate(cells) for a in cell.iter("a") if a.get("href") is not None]
        if not links:
            return None
        at, anchor = next(((i, a) for i, a in links if _text(a)), links[0]) if len(links) > 1 else links[0]
        row = self._row(anchor, block)
        if row is None:
            return None
        row.directory = row.directory or any(
            (img.get("alt") or "").upper() == "[DIR]" for cell in cells[: at + 1] for img in cell.iter("img")
        )
        fitting = heads if len(heads) == len(cells) else []
        sized = False
        for i, cell in enumerate(cells):
            role = fitting[i] if fitting else ""
            text = _text(cell) if i != at and role != "name" else ""
            if not text:
                continue
            if row.time is None and role in ("", "date"):
                row.time = self._cell_time(cell, text)
                if row.time:
                    continue
            if not sized and (role == "size" or (not role and "size" not in fitting)):
                size = _cell_size(cell, text)
                if size:
                    row.size, sized = _rough(size) if rough else size, True
                    continue
            if role in ("", "type") and text.lower() in ("directory", "folder", "application/directory"):
                row.directory = True
        row.told = row.time is not None or sized
        return row

    def _cell_time(self, cell: _Element, text: str) -> Time | None:
        machine = cell.find("time") if len(cell) else None
        stamp = machine.get("datetime") if machine is not None else None
        return time_of((stamp or "").strip() or text, self.month_first)

    # -- preformatted ------------------------------------------------------------------------

    def _pre(self, pre: _Element) -> Block:
        """One row per line, by its first link: a description may hold links of its own."""
        block = Block("pre")
        if pre.text:
            _heading(pre.text, block)
        fresh, before, directory = True, _last_line(pre.text), False
        last: Row | None = None
        for element in pre.iter():
            if element is pre:
                continue
            if element.tag in ("br", "hr"):
                fresh, last = True, None
            elif element.tag == "img":
                directory = (element.get("alt") or "").upper() == "[DIR]"
            elif element.tag == "a" and element.get("href") is not None:
                block.sorting = block.sorting or (
                    not block.rows and bool(_SORTING(element.get("href") or ""))
                )
                _heading(_text(element), block) if not block.rows else None
                if fresh:
                    last = self._row(element, block)
                    if last:
                        last.directory = last.directory or directory
                        block.rows.append(last)
                        self._beside(last, before)
                    fresh, directory = False, False
            tail = element.tail or ""
            if not block.rows:
                _heading(tail, block)
            if last is not None and not last.told and element.tag == "a":
                self._beside(last, tail.split("\n", 1)[0])
            if "\n" in tail:
                fresh, last = True, None
            before = _last_line(tail)
        if block.headed and "size" not in block.columns:
            for row in block.rows:
                row.size = NO_SIZE
        return block

    def _beside(self, row: Row, text: str) -> None:
        """A time, then a size, in what stands before the link (IIS) or after it (everybody else)."""
        text = text.replace("\xa0", " ").strip()
        if not text:
            return
        row.time = time_of(text, self.month_first) or row.time
        rest = text[row.time.end :].strip() if row.time else text
        word = _SIZE_WORD.match(rest)
        if word:
            row.size = size_of(word[1]) or NO_SIZE
            row.directory = row.directory or word[1].lower() == "<dir>"
        row.told = row.time is not None or word is not None

    # -- lists -------------------------------------------------------------------------------

    def _list(self, element: _Element, kind: str) -> Block:
        block = Block(kind)
        for anchor in element.iter("a"):
            row = self._row(anchor, block)
            if row:
                block.rows.append(row)
            elif not block.parent:
                block.stray = True
        block.stray = block.stray or any(
            next(item.iter("a"), None) is None and _text(item) for item in element.iter("li")
        )
        return block

    def _row(self, anchor: _Element, block: Block) -> Row | None:
        href, text = anchor.get("href") or "", _text(anchor)
        raw = self.encode(href)
        row = Row(raw, text)
        try:
            named = self.place.name(raw)
        except UnsafeName:
            if _UP(text):
                block.parent = True  # a proxy shows the directory under another path
                return None
            row.refused = True
            return row
        if named is None:
            block.parent = block.parent or bool(_UP(text)) or href.rstrip("/") in ("..", "./..")
            return None
        if _UP(text) and not _same(text, named[0]):
            block.parent = True
            return None
        row.name, row.directory = named
        row.directory = row.directory or (text.endswith("/") and _same(text, row.name))
        return row


def _text(element: _Element) -> str:
    text = "".join(element.itertext()) if len(element) else element.text  # type: ignore[arg-type]
    return " ".join((text or "").split())


def _last_line(text: str | None) -> str:
    return (text or "").rpartition("\n")[2]


def _is_head(cells: list[_Element]) -> bool:
    if not cells:
        return False
    if all(cell.tag == "th" for cell in cells):
        return True
    return sum(1 for cell in cells if _role(_text(cell))) > 1 and not any(
        a.get("href") is not None and not _SORTING(a.get("href") or "")
        for cell in cells
        for a in cell.iter("a")
    )


def _role(text: str) -> str:
    return next((role for role, pattern in _COLUMNS.items() if pattern.match(text)), "")


def _heading(text: str, block: Block) -> None:
    """Column names of preformatted text are words with room between them."""
    for word in re.split(r"\s{2,}", text.strip()):
        role = _role(word) if len(word) < 30 else ""
        if role:
            block.columns.add(role)


def _sorts(tr: _Element) -> bool:
    return any(_SORTING(a.get("href") or "") for a in tr.iter("a"))


def _rough(size: Size) -> Size:
    """A whole number under a head that says kilobytes."""
    return size if size.exact is None else Size(None, str(size.exact))


def _cell_size(cell: _Element, text: str) -> Size | None:
    """Caddy's cells carry the exact size for its sorting script, -1 for a directory."""
    for key in ("data-order", "data-size", "data-sort"):
        exact = cell.get(key) or ""
        if exact.isdecimal() and exact.isascii():
            return size_of(exact)
    return size_of(text)


def _same(text: str, name: bytes) -> bool:
    """Whether a link's text shows `name`: in full, marked as a directory or link, or cut short."""
    shown = _SPACE.sub(" ", text).strip()
    for encoding in ("utf-8", "latin-1"):
        whole = _SPACE.sub(" ", name.decode(encoding, "replace")).strip()
        if shown == whole or shown.rstrip("/@*") == whole.rstrip("/@*"):
            return True
        cut = _CUT.search(shown)
        if cut and len(shown) > 4 and whole.startswith(shown[: cut.start()].rstrip()):
            return True
    return _printable(shown) == _printable(name.decode("utf-8", "replace"))


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isascii() and c.isalnum())
