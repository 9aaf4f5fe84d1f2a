"""Paths as repositories write them, made paths of the mirror."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from cluster.errors import Malformed, UnsafeName
from cluster.model import checked_path, join, shown

COMPRESSIONS = (b".gz", b".xz", b".zst", b".bz2", b".lzma")
SIGNATURES = (b".gpg", b".asc", b".sig", b".sign")  # how tools name a detached signature


def inside(where: bytes, base: bytes, said: bytes, *, up: bool = False) -> bytes:
    """The path that `said`, found in the file `where`, names below `base`.

    Empty components and `.` are dropped, as web servers do. `..` is refused unless `up` says that the format
    uses it; it never leads out of the mirror (HAZARDS 1-5). Raises Malformed.
    """
    parts = base.split(b"/") if base else []
    for part in said.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not up or not parts:
                raise Malformed(
                    shown(where), f"names {shown(said[:200])!r}, which leads out of the repository"
                )
            parts.pop()
        else:
            parts.append(part)
    if said.rpartition(b"/")[2] in (b"", b".", b".."):
        raise Malformed(shown(where), f"names {shown(said[:200])!r}, which is no file")
    try:
        return checked_path(b"/".join(parts))
    except UnsafeName as error:
        raise Malformed(shown(where), f"names a path that no file can have: {error}") from None


def from_url(where: bytes, base: bytes, href: str) -> bytes | None:
    """The path that a relative reference names; None where that is the page itself or on another server.

    RFC 3986, 4.2. `href` may have a query or a fragment, and percent-encoded bytes, decoded once. Raises
    Malformed.
    """
    href = href.partition("#")[0].partition("?")[0].strip()
    head = href.partition("/")[0]
    if not href or ":" in head or href.startswith("//"):
        return None
    return inside(where, base, unquote_to_bytes(href), up=True)


def uncompressed(path: bytes) -> bytes:
    """`path` without the suffix of a compression."""
    for suffix in COMPRESSIONS:
        if path.endswith(suffix) and not path.endswith(b"/" + suffix):
            return path[: -len(suffix)]
    return path


def folder(path: bytes) -> bytes:
    """The directory that holds `path`."""
    return path.rpartition(b"/")[0]


def signatures(path: bytes) -> tuple[bytes, ...]:
    """The names under which a detached signature of `path` may stand."""
    return tuple(path + suffix for suffix in SIGNATURES)


def beside(path: bytes, name: bytes) -> bytes:
    """`name` in the directory of `path`."""
    return join(folder(path), name)
