"""PyPI's simple pages (PEP 503, PEP 691): one for each project, as HTML or JSON.

A page names the project's files with their digests, and its serial says where it stands. Files that another
server has are not named: bandersnatch, with its defaults, writes links that stay in the tree.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from cluster.errors import Malformed, TooMuch
from cluster.model import shown
from cluster.repository import xml
from cluster.repository.base import Digest, Group, Named, Order, Role, Root
from cluster.repository.checksums import LENGTHS, digest_of
from cluster.repository.paths import folder, from_url
from cluster.repository.unpack import pieces

MAX_PAGE = 16 * 2**20  # bytes of a project's page; 8 MB are seen

_PAGE = re.compile(rb"((?:.*/)?simple(?:/[^/]+){0,2})/index\.(?:v1_)?(html|json)").fullmatch
_SERIAL = re.compile(rb"<!--SERIAL (\d{1,15})-->|\"_last-serial\": ?\"?(\d{1,15})\b").search
_ALL = re.compile(rb"(?:.*/)?simple").fullmatch
_METADATA = ("core-metadata", "dist-info-metadata", "data-dist-info-metadata")


class Pypi:
    """Each project's page is a root and its own index. The page of all projects names no files."""

    name = "pypi"
    dated = False

    def root_part(self, path: bytes) -> bytes | None:
        match = _PAGE(path)
        return match[1] if match else None

    def busy(self, path: bytes) -> bool:
        return False

    def roots(self, paths: Iterable[bytes]) -> tuple[Group, ...]:
        found: dict[bytes, set[bytes]] = {}
        for path in paths:
            if (name := self.root_part(path)) is not None:
                found.setdefault(name, set()).add(path)
        return tuple(_group(name, files) for name, files in sorted(found.items()))

    def read_root(self, path: bytes, body: bytes) -> Root:
        match = _SERIAL(body)
        order = Order("serial", int(match[1] or match[2])) if match else None
        everything = _ALL(folder(path)) is not None
        itself = None if everything else Named(path, len(body), role=Role.ROOT)
        return Root(
            path, folder(path), itself=itself, order=order, label=shown(folder(path).rpartition(b"/")[2])
        )

    def read_index(self, root: Root, index: Named, stream: BinaryIO) -> Iterator[Named]:
        if index.path.endswith(b"json"):
            yield from _json(index.path, root.base, stream)
            return
        bounded = pieces(index.path, stream, MAX_PAGE)
        for anchor in xml.anchors(index.path, bounded):
            if xml.local(anchor) == "base" and anchor.get("href"):
                raise Malformed(shown(index.path), "has links that count from a <base>, not from the page")
            yield from _anchor(index.path, root.base, anchor)


def _group(name: bytes, files: set[bytes]) -> Group:
    """JSON is read first: it has sizes. What old clients ask for is published first."""
    pages = tuple(sorted(files, key=lambda path: (not path.endswith(b"json"), path)))
    return Group(name, pages, pages[::-1])


def _anchor(path: bytes, base: bytes, anchor: xml.Record) -> Iterator[Named]:
    href = anchor.get("href")
    where = from_url(path, base, href) if href else None
    if not href or where is None:
        return
    algorithm, _, text = href.partition("#")[2].partition("=")
    yield Named(where, None, _digests(path, {algorithm: text}))
    for attribute in ("data-core-metadata", "data-dist-info-metadata"):
        said = anchor.get(attribute) or ""
        if said and said != "false":
            algorithm, _, text = said.partition("=")
            yield Named(where + b".metadata", None, _digests(path, {algorithm: text}), optional=True)
            return


def _json(path: bytes, base: bytes, stream: BinaryIO) -> Iterator[Named]:
    text = io.BytesIO()
    for piece in pieces(path, stream, MAX_PAGE):
        text.write(piece)
    try:
        said = json.loads(text.getvalue())
        files = said["files"]
        for one in files:
            yield from _file(path, base, one)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Malformed(
            shown(path), f"no page of a project: {type(error).__name__} {str(error)[:100]!r}"
        ) from None


def _file(path: bytes, base: bytes, one: dict[str, object]) -> Iterator[Named]:
    where = from_url(path, base, str(one["url"]))
    if where is None:
        return
    size = one.get("size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**50):
        raise TooMuch(shown(path), f"says that a file has {str(size)[:40]} bytes")
    yield Named(where, size, _digests(path, one["hashes"]))
    for key in _METADATA:
        if isinstance(said := one.get(key), dict):
            yield Named(where + b".metadata", None, _digests(path, said), optional=True)
            return


def _digests(path: bytes, said: object) -> tuple[Digest, ...]:
    """Those of algorithms that we know, none of which may be damaged."""
    if not isinstance(said, dict):
        raise Malformed(shown(path), f"says {str(said)[:60]!r} where digests belong")
    return tuple(
        digest_of(path, name, str(text).encode()) for name, text in sorted(said.items()) if name in LENGTHS
    )
