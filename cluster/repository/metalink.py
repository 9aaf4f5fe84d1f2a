"""Metalinks: a file's size and digests, and where else it is. Version 3, and version 4 (RFC 5854).

Only what is said of files beside the metalink counts here; the URLs do not. Hashes of pieces are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from cluster.errors import Malformed
from cluster.model import shown
from cluster.repository import xml
from cluster.repository.base import Digest, Named
from cluster.repository.checksums import LENGTHS, digest_of, size_of
from cluster.repository.paths import folder, inside
from cluster.repository.unpack import pieces

SUFFIXES = (b".metalink", b".meta4")

_FILE = frozenset({"file"})


def read(path: bytes, stream: BinaryIO) -> Iterator[Named]:
    """What a metalink names. Raises RepositoryError."""
    some = False
    for record in xml.records(path, pieces(path, stream), _FILE):
        some = True
        name = record.get("name") or ""
        size = xml.text(xml.child(record, "size"))
        where = inside(path, folder(path), name.encode("utf-8"))
        yield Named(
            where, size_of(path, size.encode()) if size else None, _digests(path, record), optional=True
        )
    if not some:
        raise Malformed(shown(path), "names no file")


def _digests(path: bytes, record: xml.Record) -> tuple[Digest, ...]:
    """Version 4 has them in the file's element, version 3 in one of its own (`verification`)."""
    within = xml.child(record, "verification")
    found = {}
    for one in (within if within is not None else record).findall("{*}hash"):
        algorithm = (one.get("type") or "").lower().replace("-", "")
        if algorithm in LENGTHS:
            found[algorithm] = digest_of(path, algorithm, xml.text(one).encode())[1]
    return tuple(sorted(found.items()))
