"""Lists of whole trees that origins publish: `ls -lR`, Fedora's, those of `find`.

Which one it is, its first lines tell, never its name; only a list of names alone must be called what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from cluster.errors import NotAListing
from cluster.listing.bulk import fedora, find, ls
from cluster.listing.bulk.base import MAX_LINE, Form, Piece
from cluster.model import Listing, shown

__all__ = ["FULL_FILE_LIST", "LS_LR", "MAX_LINE", "Form", "Piece", "best", "form_of", "read"]

LS_LR, FULL_FILE_LIST = ls.NAME, fedora.NAMES

_MADE: dict[str, Callable[[str, int], Form]] = {
    ls.NAME: ls.LsLR,
    fedora.TIMES: fedora.TimeList,
    fedora.NAMES: fedora.NameList,
    find.LS: find.FindLs,
    find.PRINTF: find.FindPrintf,
}


_LISTS = re.compile(
    rb"(?:(ls-l?[aA]?R(?:\.txt)?)|(fullfiletimelist(?:-[\w.-]+?)?)|(find-?ls(?:\.txt)?))(\.gz|\.xz|\.zst|\.bz2)?"
).fullmatch


def best(names: Iterable[bytes]) -> bytes | None:
    """Of the names in the root of a tree, the list of everything that tells most: rows before what only tells
    of changes, packed before plain."""
    found = [(told, name) for name in names if (told := _LISTS(name))]
    ranked = sorted((told[1] is None, told[3] is None, told[4] is None, name) for told, name in found)
    return ranked[0][3] if ranked else None


def form_of(lines: Sequence[bytes], path: str, *, now: int) -> Form:
    """What reads a list that begins with these lines. `path` is what it is called at the origin; `now` is
    when it was made, ns since 1970. Raises NotAListing."""
    first = [line for line in lines if line][:4]
    if not first:
        raise NotAListing(path, "an empty list")
    return _MADE[_told(first, path)](path, now)


def _told(first: Sequence[bytes], path: str) -> str:
    if first[0].startswith(b"[Version]"):
        return fedora.TIMES
    if find.is_ls(first[0]):
        return find.LS
    if find.order_of(first[0])[0]:
        return find.PRINTF
    header = first[0].endswith(b":")
    if ls.is_row(first[0]) or (header and any(ls.is_row(line) for line in first[1:])):
        return ls.NAME
    if path.rpartition("/")[2].startswith("fullfilelist"):
        return fedora.NAMES
    raise NotAListing(path, f"no list of a kind that is known: {shown(first[0][:80])!r}")


def read(form: str, rows: Sequence[bytes], *, now: int, limit: int, path: str) -> Listing:
    """What a list of this form (`Form.name`) says of one directory. Raises NotAListing, TooLarge."""
    if form == ls.NAME:
        return ls.read(rows, now=now, limit=limit, path=path)
    if form == find.LS:
        return find.read_ls(rows, now=now, limit=limit, path=path)
    if form == find.PRINTF:
        return find.read_printf(rows, path=path)
    return fedora.read_times(rows) if form == fedora.TIMES else fedora.read_names(rows)
