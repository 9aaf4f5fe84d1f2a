"""Which name of a directory an href means.

Names are bytes: percent escapes are decoded once, component by component, and whatever is not one plain
component of the listed directory itself is refused (HAZARDS 1-6, 23).
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urlsplit

from cluster.errors import UnsafeName
from cluster.model import checked_name, shown

_PLAIN = re.compile(rb"(?:\./)?([A-Za-z0-9_+~@!,=(-][A-Za-z0-9_.+~@!,=()-]{0,254})(/?)").fullmatch
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*):").match
_PAGE_LINKS = frozenset((b"javascript", b"mailto", b"data", b"tel", b"about"))
# Apache and Caddy carry the order of the page over to the links of its subdirectories.
_ORDERING = re.compile(rb"(?:(?:C|O|F|V|P|sort|order|layout|limit|offset)=[\w*.-]*[;&]?)*").fullmatch
_PORTS = {b"http": b"80", b"https": b"443"}


def plain_name(href: bytes) -> bytes | None:
    """The name that an href means for certain, by its characters alone; None where it takes more to tell, and
    for what ends with a slash."""
    found = _PLAIN(href)
    return found[1] if found and not found[2] else None


class Place:
    """The URL of a listed directory, against which the hrefs of its page are read.

    What follows the last slash of the URL's path is not part of it, as in RFC 3986 section 5.2.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.scheme = parts.scheme.lower().encode()
        self.host = _host(self.scheme, parts.netloc.encode("utf-8", "surrogateescape"))
        raw = parts.path.encode("utf-8", "surrogateescape").rpartition(b"/")[0]
        self.raw = [piece for piece in raw.split(b"/") if piece]
        self.decoded = [unquote_to_bytes(piece) for piece in self.raw]
        self.query = parts.query.encode("utf-8", "surrogateescape")

    def name(self, href: bytes) -> tuple[bytes, bool] | None:
        """`(name, ends with a slash)`, or None for a link that serves the page itself: the directory, one
        above it, an ordering, a fragment, a script.

        Raises UnsafeName with the reason for every other href.
        """
        plain = _PLAIN(href)
        if plain:
            return plain[1], bool(plain[2])
        href = href.strip(b" \t\r\n\f")
        if not href or href[:1] in b"#?":
            return None
        path = self._path(href)
        if path is None:
            return None
        path, hash_, _ = path.partition(b"#")
        path, mark, query = path.partition(b"?")
        folder = path.endswith(b"/")
        components = self._resolved(path)
        if components == self.decoded[: len(components)]:
            return None
        if hash_:
            raise UnsafeName("a fragment of a page")
        if mark and not (folder and _ORDERING(query)):
            raise UnsafeName("a query, not a name")
        above = len(self.decoded)
        if components[:above] != self.decoded:
            raise UnsafeName("outside the directory")
        if len(components) != above + 1:
            raise UnsafeName("not directly in the directory")
        return checked_name(components[-1]), folder

    def _path(self, href: bytes) -> bytes | None:
        """The href without scheme and host, which must be this origin's."""
        scheme = _SCHEME(href)
        if scheme:
            found = scheme[1].lower()
            if found in _PAGE_LINKS:
                return None
            if found != self.scheme or href[scheme.end() : scheme.end() + 2] != b"//":
                raise UnsafeName(f"another scheme, {shown(found)}")
            href = href[scheme.end() :]
        elif b":" in href.split(b"/", 1)[0].split(b"?", 1)[0]:
            raise UnsafeName("a colon in the first segment (RFC 3986 section 4.2)")
        if href.startswith(b"//"):
            end = min((i for i in map(href.find, (b"/", b"?", b"#"), (2, 2, 2)) if i > 0), default=len(href))
            host = href[2:end]
            if _host(self.scheme, host) != self.host:
                raise UnsafeName(f"another host, {shown(host)}")
            href = href[end:] or b"/"
        return href

    def _resolved(self, path: bytes) -> list[bytes]:
        """Decoded components of the absolute path; dot segments count only where they are not escaped."""
        components = [] if path.startswith(b"/") else list(self.decoded)
        pieces = path.strip(b"/").split(b"/") if path.strip(b"/") else []
        for piece in pieces:
            if piece == b"..":
                if components:
                    components.pop()
            elif piece != b".":
                components.append(unquote_to_bytes(piece))
        return components


def _host(scheme: bytes, netloc: bytes) -> bytes:
    """Host and port in one comparable form; credentials do not belong to it."""
    host = netloc.rpartition(b"@")[2].lower()
    name, colon, port = host.rpartition(b":")
    return name if colon and port in (b"", _PORTS.get(scheme)) else host
