"""Alpine's repositories: `APKINDEX.tar.gz`, signed within, and the packages beside it.

An index has no digest of a package, only of its control segment, which has one of its data (`verify.py`
follows both). That digest is a SHA-1: it tells damage, and is not enough for what a sibling sends. An index
says nothing of its own age.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from cluster.errors import Malformed
from cluster.model import shown
from cluster.repository import tar
from cluster.repository.base import APK_CONTROL, Group, Named, Role, Root, Signature
from cluster.repository.checksums import size_of
from cluster.repository.paths import folder, inside
from cluster.repository.text import lines
from cluster.repository.unpack import pieces

_INDEX = b"APKINDEX.tar.gz"
_SHA1 = b"Q1"  # how the value begins that apk-tools 2 write


class Alpine:
    """Each APKINDEX is a root and its own index."""

    name = "alpine"
    dated = True

    def root_part(self, path: bytes) -> bytes | None:
        return path if path.rpartition(b"/")[2] == _INDEX else None

    def busy(self, path: bytes) -> bool:
        return False

    def roots(self, paths: Iterable[bytes]) -> tuple[Group, ...]:
        found = sorted(path for path in paths if self.root_part(path) is not None)
        return tuple(Group(path, (path,), (path,), (Signature(path, inline=True),)) for path in found)

    def read_root(self, path: bytes, body: bytes) -> Root:
        return Root(
            path, folder(path), itself=Named(path, len(body), role=Role.ROOT), label=shown(folder(path))
        )

    def read_index(self, root: Root, index: Named, stream: BinaryIO) -> Iterator[Named]:
        found = False
        for member in tar.members(index.path, pieces(index.path, stream)):
            if member.name == b"APKINDEX":
                found = True
                yield from _packages(index.path, root.base, lines(index.path, member.content))
        if not found:
            raise Malformed(shown(index.path), "has no APKINDEX in it")


def _packages(path: bytes, base: bytes, text: Iterable[bytes]) -> Iterator[Named]:
    """Fields have names of one letter, small and capital ones differ; an empty line ends a package."""
    said: dict[bytes, bytes] = {}
    for line in text:
        if line:
            said[line[:2]] = line[2:]
        elif said:
            yield _package(path, base, said)
            said = {}
    if said:
        yield _package(path, base, said)


def _package(path: bytes, base: bytes, said: dict[bytes, bytes]) -> Named:
    name, version, size, control = (said.get(field) for field in (b"P:", b"V:", b"S:", b"C:"))
    if not name or not version or not size or not control:
        raise Malformed(shown(path), f"package {shown((name or b'?')[:80])}: no P, V, S or C")
    try:
        digest = base64.b64decode(control[2:], validate=True)
    except binascii.Error:
        digest = b""
    if not control.startswith(_SHA1) or len(digest) != 20:
        raise Malformed(shown(path), f"package {shown(name[:80])}: {shown(control[:60])!r} is no digest")
    file = name + b"-" + version + b".apk"
    if b"/" in file:
        raise Malformed(shown(path), f"names {shown(file[:100])!r}, which is no plain name")
    return Named(inside(path, base, file), size_of(path, size), ((APK_CONTROL, digest),))
