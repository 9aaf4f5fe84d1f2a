"""pacman's repositories: `NAME.db`, a tar archive with a `desc` for each package, written by repo-add.

The packages are beside it. A database says nothing of its own age; its newest package may leave it, so that
`%BUILDDATE%` says nothing either. `NAME.files` holds the same packages with the names of their files; clients
fetch either, so that both change together.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from cluster.errors import Malformed, TooMuch
from cluster.model import shown
from cluster.repository import tar
from cluster.repository.base import Digest, Group, Named, Role, Root, Signature
from cluster.repository.checksums import digest_of, size_of
from cluster.repository.paths import folder, inside
from cluster.repository.unpack import pieces

MAX_DESC = 4 * 2**20  # bytes; the largest seen has 40 000

_PART = re.compile(rb"(.*[^/])\.(db|files)((?:\.tar(?:\.(?:gz|xz|zst|bz2))?)?)((?:\.sig)?)").fullmatch
_FIELD = re.compile(rb"%([A-Z0-9]+)%\n((?:[^\n]+\n?)*)").findall
_DIGESTS = {b"MD5SUM": "md5", b"SHA256SUM": "sha256"}


class Arch:
    """Each database is a root and its own index."""

    name = "arch"
    dated = True

    def root_part(self, path: bytes) -> bytes | None:
        """The database's path without `.db`."""
        match = _PART(path)
        return match[1] if match else None

    def busy(self, path: bytes) -> bool:
        """repo-add's lock. An origin that is a mirror itself does not show it."""
        return path.endswith(b".lck") and _PART(path.removesuffix(b".lck")) is not None

    def roots(self, paths: Iterable[bytes]) -> tuple[Group, ...]:
        found: dict[bytes, set[bytes]] = {}
        for path in paths:
            if (name := self.root_part(path)) is not None:
                found.setdefault(name, set()).add(path)
        groups = (_group(name, files) for name, files in sorted(found.items()))
        return tuple(group for group in groups if group.read)

    def read_root(self, path: bytes, body: bytes) -> Root:
        name = self.root_part(path) or path
        return Root(path, folder(path), itself=Named(path, len(body), role=Role.ROOT), label=shown(name))

    def read_index(self, root: Root, index: Named, stream: BinaryIO) -> Iterator[Named]:
        for member in tar.members(index.path, pieces(index.path, stream)):
            if not member.name.endswith(b"/desc"):
                continue
            if member.size > MAX_DESC:
                raise TooMuch(shown(index.path), f"describes a package in {member.size} bytes")
            yield from _package(index.path, root.base, b"".join(member.content))


def _group(name: bytes, files: set[bytes]) -> Group:
    """The names of one database, of which `db` is often a link. What is fetched most is published last."""
    databases = sorted((f for f in files if _kind(f) == (b"db", False)), key=len)
    if databases:
        databases += sorted((f for f in files if _kind(f) == (b"files", False)), key=len)
    signatures = tuple(Signature(f, (f + b".sig",) if f + b".sig" in files else ()) for f in databases)
    ordered = sorted(files, key=lambda f: (_kind(f)[0] == b"db", not _kind(f)[1], -len(f), f))
    return Group(name, tuple(databases), tuple(ordered), signatures)


def _kind(path: bytes) -> tuple[bytes, bool]:
    """`db` or `files`, and whether it is the signature of one."""
    match = _PART(path)
    return (match[2], bool(match[4])) if match else (b"", False)


def _package(path: bytes, base: bytes, desc: bytes) -> Iterator[Named]:
    """A package, and its signature, which the database repeats."""
    said = {name: text.strip() for name, text in _FIELD(desc)}
    name, size = said.get(b"FILENAME"), said.get(b"CSIZE")
    digests = tuple(digest_of(path, algorithm, said[f]) for f, algorithm in _DIGESTS.items() if said.get(f))
    if not name or not size or not digests or b"/" in name:
        raise Malformed(shown(path), "describes a package without a plain FILENAME, CSIZE or a digest")
    where = inside(path, base, name)
    yield Named(where, size_of(path, size), digests)
    if said.get(b"PGPSIG"):
        try:
            signature = base64.b64decode(said[b"PGPSIG"], validate=True)
        except binascii.Error:
            raise Malformed(shown(path), f"has a signature of {shown(name[:80])} that is damaged") from None
        digest: Digest = ("sha256", hashlib.sha256(signature).digest())
        yield Named(where + b".sig", len(signature), (digest,), optional=True)
