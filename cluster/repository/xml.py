"""XML and HTML from outside, read record by record in bounded memory (HAZARDS 135).

XML is UTF-8, has no document type and hence no entities of its own; nothing is loaded from anywhere. HTML has
no such means. What a record takes is limited, and it is dropped when the next is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import cast

from lxml import etree

from cluster.errors import Malformed, TooMuch
from cluster.model import shown

MAX_RECORD = 8 * 2**20  # bytes of XML between two records; a kernel with all its symbols has 2 MiB
MAX_PROLOG = 2**16  # bytes before the first element

_PROLOG = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s+|<\?(?:[^?]|\?(?!>))*\?>|<!--(?:[^-]|-(?!->))*-->)*").match
_ENCODING = re.compile(rb"<\?xml[^?]*\bencoding\s*=\s*[\"']([^\"']*)[\"']").search
_ENCODINGS = (b"utf-8", b"utf8", b"us-ascii", b"ascii")
_BLANK = re.compile(r"\s+").sub

_FEED = 2**16

Record = etree._Element


def records(path: bytes, pieces: Iterable[bytes], names: frozenset[str]) -> Iterator[Record]:
    """The elements whose local names are among `names`, each complete; the namespace is not looked at.

    Raises Malformed for what is not well-formed XML to its end, TooMuch for a record without end.
    """
    parser = etree.XMLPullParser(
        ("end",),
        tag=[f"{{*}}{name}" for name in sorted(names)],
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    yield from _fed(path, parser, _checked(path, pieces))


def anchors(path: bytes, pieces: Iterable[bytes]) -> Iterator[Record]:
    """The `a` and `base` elements of an HTML page. Raises Malformed or TooMuch."""
    parser = etree.HTMLPullParser(
        ("end",), tag=("a", "base"), no_network=True, huge_tree=False, remove_comments=True, encoding="utf-8"
    )
    yield from _fed(path, parser, pieces)


def local(record: Record) -> str:
    """An element's name without its namespace."""
    return etree.QName(record).localname


def child(record: Record, name: str) -> Record | None:
    """The first child of that local name."""
    return record.find(f"{{*}}{name}")


def text(record: Record | None) -> str:
    """An element's text without white space around it; empty for no element."""
    return ((record.text or "") if record is not None else "").strip()


def _checked(path: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, when what stands before the first element is harmless."""
    source = iter(pieces)
    head = b""
    while len(head) < MAX_PROLOG:
        piece = next(source, b"")
        head += piece
        if not piece:
            break
    match = _PROLOG(head)
    rest = head[match.end() :] if match else head
    if rest[:9].upper() == b"<!DOCTYPE":
        raise Malformed(shown(path), "has a document type, which no repository's XML needs")
    if not re.match(rb"<[A-Za-z_]", rest):
        raise Malformed(shown(path), "is no XML in UTF-8")
    encoding = _ENCODING(head[: match.end()] if match else head)
    if encoding and encoding[1].lower() not in _ENCODINGS:
        raise Malformed(shown(path), f"is in {shown(encoding[1][:40])!r}, not in UTF-8")
    yield from chain([head], source)


def _fed(
    path: bytes, parser: etree.XMLPullParser | etree.HTMLPullParser, pieces: Iterable[bytes]
) -> Iterator[Record]:
    since = 0
    try:
        for piece in pieces:
            for start in range(0, len(piece), _FEED):
                parser.feed(piece[start : start + _FEED])
                since += min(_FEED, len(piece) - start)
                for record in _finished(parser):
                    since = 0
                    yield record
                if since > MAX_RECORD:
                    raise TooMuch(shown(path), f"has a record of more than {MAX_RECORD} bytes")
        parser.close()
        yield from _finished(parser)
    except etree.LxmlError as error:
        raise Malformed(shown(path), f"cannot be read: {_BLANK(' ', str(error))[:200]}") from None


def _finished(parser: etree.XMLPullParser | etree.HTMLPullParser) -> Iterator[Record]:
    """Complete records; each, and all that stands before it, is dropped when the next one is asked for."""
    for _, found in parser.read_events():
        record = cast("Record", found)
        yield record
        record.clear()
        parent = record.getparent()
        while parent is not None and (before := record.getprevious()) is not None:
            parent.remove(before)


def at_once(path: bytes, pieces: Iterable[bytes], names: frozenset[str], most: int) -> list[Record]:
    """All elements of these names, of a small file. Raises Malformed; TooMuch for more than `most`."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(b"".join(_checked(path, pieces)), parser)
    except etree.LxmlError as error:
        raise Malformed(shown(path), f"cannot be read: {_BLANK(' ', str(error))[:200]}") from None
    found = list(islice((e for e in root.iter() if isinstance(e.tag, str) and local(e) in names), most + 1))
    if len(found) > most:
        raise TooMuch(shown(path), f"names more than {most} files")
    return found
