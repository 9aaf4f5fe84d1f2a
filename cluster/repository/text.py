"""Text of any length by lines and by paragraphs (deb822), with limits instead of trust."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from cluster.errors import Malformed, TooMuch
from cluster.model import shown

MAX_LINE = 2**16  # bytes of one line where a line is a record
MAX_PARAGRAPH = 16 * 2**20  # bytes; the largest seen is 0.6 MB, a source package with its binaries

_FIELD = re.compile(rb"^([!-9;-~]+):[ \t]*(.*(?:\n[ \t].*)*)", re.MULTILINE).findall

Paragraph = dict[bytes, bytes]
"""Fields by their names in small letters. A value keeps its lines; white space around it is cut."""


def lines(path: bytes, pieces: Iterable[bytes], most: int = MAX_LINE) -> Iterator[bytes]:
    """Lines without their ends. Raises TooMuch for one that is longer than `most`."""
    rest = b""
    for piece in pieces:
        whole = (rest + piece).split(b"\n")
        rest = whole.pop()
        for line in whole:
            if len(line) > most:
                raise TooMuch(shown(path), f"has a line of {len(line)} bytes")
            yield line[:-1] if line.endswith(b"\r") else line
        if len(rest) > most:
            raise TooMuch(shown(path), f"has a line of more than {most} bytes")
    if rest:
        yield rest.removesuffix(b"\r")


def paragraphs(path: bytes, pieces: Iterable[bytes]) -> Iterator[Paragraph]:
    """The paragraphs of a control file (deb822). As apt has it, only an empty line ends one.

    Raises Malformed for one that holds no field, or says one twice and differently; TooMuch for one that is
    longer than any real one.
    """
    rest, length = [b""], 0
    for piece in pieces:
        rest.append(piece.replace(b"\r", b""))
        length += len(rest[-1])
        if b"\n\n" in rest[-1] or (rest[-1].startswith(b"\n") and rest[-2].endswith(b"\n")):
            *whole, last = b"".join(rest).split(b"\n\n")
            for block in whole:
                if block.strip():
                    yield _paragraph(path, block)
            rest, length = [last], len(last)
        elif not rest[-1]:
            rest.pop()
        if length > MAX_PARAGRAPH:
            raise TooMuch(shown(path), f"has a paragraph of more than {MAX_PARAGRAPH} bytes")
    if (block := b"".join(rest)).strip():
        yield _paragraph(path, block)


def _paragraph(path: bytes, block: bytes) -> Paragraph:
    said = _FIELD(block)
    if not said:
        raise Malformed(shown(path), f"has a paragraph without a field: {shown(block[:60])!r}")
    found = {name.lower(): text.strip() for name, text in said}
    if len(found) != len(said):
        for name, text in said:
            if found[name.lower()] != text.strip():
                raise Malformed(shown(path), f"says {shown(name)} twice in one paragraph, and differently")
    return found
