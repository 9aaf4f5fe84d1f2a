"""RPM repositories: `repodata/repomd.xml` and the indexes that it names; installation trees (`.treeinfo`).

The format is createrepo_c's. What repomd.xml names is there, and so is what the primary index names; packages
of differences (`prestodelta`) are an offer that clients do without. A `location` is a path, not a URL: dnf
encodes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from cluster.errors import Malformed, TooMuch
from cluster.model import join, shown
from cluster.repository import treeinfo, xml
from cluster.repository.base import Digest, Group, Named, Order, Role, Root, Signature
from cluster.repository.checksums import digest_of, size_of
from cluster.repository.paths import folder, inside
from cluster.repository.unpack import pieces

MAX_REPOMD = 2**20  # bytes (HAZARDS section 5); 10 000 are usual
MAX_DATA = 1000  # files that it names; 30 are usual

_REPOMD = b"repodata/repomd.xml"
_KEY = b".key"  # openSUSE's repositories bring their key along
_ALGORITHMS = {"sha": "sha1", "sha1": "sha1", "md5": "md5", "sha224": "sha224", "sha256": "sha256"}
_ALGORITHMS |= {"sha384": "sha384", "sha512": "sha512"}
_INDEXES = frozenset({"primary", "prestodelta", "deltainfo"})
_DATA = frozenset({"data", "revision"})
_PACKAGES = frozenset({"package", "delta"})
_BASE = "{http://www.w3.org/XML/1998/namespace}base"
_NUMBER = re.compile(r"\d{1,18}(?:\.\d+)?").fullmatch


class Yum:
    """Each `repodata/` is a repository of what is beside it, each `.treeinfo` a tree of what is beside it."""

    name = "yum"
    dated = False

    def root_part(self, path: bytes) -> bytes | None:
        directory, _, name = path.rpartition(b"/")
        if name in treeinfo.NAMES:
            return path
        if name in (b"repomd.xml", b"repomd.xml.asc", b"repomd.xml.key") and (
            directory == b"repodata" or directory.endswith(b"/repodata")
        ):
            return join(directory, b"repomd.xml")
        return None

    def busy(self, path: bytes) -> bool:
        """createrepo_c's folder of what it works on; it is renamed to `repodata` in the end."""
        return b".repodata" in path.split(b"/")

    def roots(self, paths: Iterable[bytes]) -> tuple[Group, ...]:
        found: dict[bytes, set[bytes]] = {}
        for path in paths:
            if (name := self.root_part(path)) is not None:
                found.setdefault(name, set()).add(path)
        return tuple(_group(name, files) for name, files in sorted(found.items()) if name in files)

    def read_root(self, path: bytes, body: bytes) -> Root:
        if path.rpartition(b"/")[2] in treeinfo.NAMES:
            return treeinfo.read(path, body)
        if len(body) > MAX_REPOMD:
            raise TooMuch(shown(path), f"a repomd.xml of {len(body)} bytes")
        base = folder(folder(path))
        named: list[Named] = []
        revision, latest, primary = "", 0, False
        for record in xml.at_once(path, [body], _DATA, MAX_DATA):
            if xml.local(record) == "revision":
                revision = xml.text(record)
                continue
            primary = primary or record.get("type") == "primary"
            latest = max(latest, _seconds(xml.text(xml.child(record, "timestamp"))))
            if (one := _data(path, base, record)) is not None:
                named.append(one)
        if not primary:
            raise Malformed(shown(path), "names no primary index")
        return Root(path, base, tuple(named), order=_order(revision, latest), label=shown(base))

    def read_index(self, root: Root, index: Named, stream: BinaryIO) -> Iterator[Named]:
        for record in xml.records(index.path, pieces(index.path, stream), _PACKAGES):
            one = _package(index.path, root.base, record)
            if one is not None:
                yield one


def _group(name: bytes, files: set[bytes]) -> Group:
    if name.rpartition(b"/")[2] in treeinfo.NAMES:
        return Group(name, (name,), (name,))
    asc = name + b".asc"
    ordered = tuple(path for path in (name + _KEY, asc, name) if path in files)
    return Group(name, (name,), ordered, (Signature(name, (asc,) if asc in files else ()),))


def _order(revision: str, latest: int) -> Order | None:
    """createrepo_c makes the revision from the clock unless told otherwise; then the newest index tells."""
    if _NUMBER(revision):
        return Order("revision", int(float(revision)))
    return Order("timestamp", latest) if latest else None


def _seconds(text: str) -> int:
    return int(float(text)) if _NUMBER(text) else 0


def _data(path: bytes, base: bytes, record: xml.Record) -> Named | None:
    kind = record.get("type") or ""
    where = _location(path, base, record)
    if where is None:
        return None
    size = xml.text(xml.child(record, "size"))
    return Named(
        where,
        size_of(path, size.encode()) if size else None,
        (_checksum(path, record),),
        Role.INDEX if kind in _INDEXES else Role.EXTRA,
    )


def _location(path: bytes, base: bytes, record: xml.Record) -> bytes | None:
    """None for what another server has (`xml:base`), which is not mirrored with this tree."""
    location = xml.child(record, "location")
    href = location.get("href") if location is not None else None
    if location is None or not href:
        raise Malformed(shown(path), f"a {xml.local(record)} without a location")
    if location.get(_BASE) or "://" in href:
        return None
    return inside(path, base, href.encode("utf-8"), up=True)


def _checksum(path: bytes, record: xml.Record) -> Digest:
    checksum = xml.child(record, "checksum")
    algorithm = _ALGORITHMS.get(((checksum.get("type") if checksum is not None else None) or "").lower())
    if checksum is None or algorithm is None:
        raise Malformed(shown(path), f"a {xml.local(record)} without a checksum of a known kind")
    return digest_of(path, algorithm, xml.text(checksum).encode())


def _package(path: bytes, base: bytes, record: xml.Record) -> Named | None:
    """A package of `primary`, or one of differences. `delta` has text where `package` has attributes."""
    if xml.local(record) == "delta":
        name = xml.text(xml.child(record, "filename"))
        where = inside(path, base, name.encode("utf-8"), up=True)
        size = size_of(path, xml.text(xml.child(record, "size")).encode())
        return Named(where, size, (_checksum(path, record),), optional=True)
    if xml.child(record, "location") is None and xml.child(record, "checksum") is None:
        return None  # `newpackage` of prestodelta and what else is called so
    where_ = _location(path, base, record)
    sized = xml.child(record, "size")
    size_text = sized.get("package") if sized is not None else None
    if size_text is None:
        raise Malformed(shown(path), "a package without its size")
    if where_ is None:
        return None
    return Named(where_, size_of(path, size_text.encode()), (_checksum(path, record),))
