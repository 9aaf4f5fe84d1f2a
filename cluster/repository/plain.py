"""Files of digests beside what they speak of: SHA256SUMS, MD5SUMS, CHECKSUM, `name.iso.sha256`, metalinks.

Read as coreutils and BSD write them, and as `openssl dgst` does. Such files often speak of more than a mirror
has (Debian's image lists name what is made on demand), so that nothing of it must be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from cluster.errors import Malformed
from cluster.model import shown
from cluster.repository import metalink
from cluster.repository.base import Digest, Group, Named, Role, Root, Signature, by_length
from cluster.repository.checksums import LENGTHS, unhex
from cluster.repository.paths import SIGNATURES, folder, inside, signatures
from cluster.repository.text import lines
from cluster.repository.unpack import pieces

_ALGORITHM = rb"md5|sha1|sha224|sha256|sha384|sha512|b2(?=sum)|blake2b"
_WHOLE = re.compile(  # SHA256SUMS, sha256sum.txt, sha256sums.asc (signed within), SHA256, Fedora-1-CHECKSUM
    rb"(?:(" + _ALGORITHM + rb")(?:sums?(?:[._-].*)?|(?:\.txt)?)|(?:.*-)?checksums?(?:[._-].*)?)",
    re.IGNORECASE,
).fullmatch
_ONE = re.compile(rb"(.+)\.(" + _ALGORITHM + rb")(?:sums?)?(?:\.txt)?", re.IGNORECASE).fullmatch
_NOT_SUMS = re.compile(
    rb".*\.(?:html?|js|py|sh|c|h|deb|rpm|zip|tgz|(?:tar|gz|xz|bz2|zst)(?:\.\w+)?)", re.IGNORECASE
).fullmatch
_GNU = re.compile(rb"(\\?)([0-9a-fA-F]{32,128}) [ *](.+)").fullmatch
_LOOSE = re.compile(rb"()([0-9a-fA-F]{32,128})[ \t]+\*?(.+)").fullmatch
_BSD = re.compile(rb"(\\?)([A-Za-z0-9-]+) ?\((.+)\) ?= ?([0-9a-fA-F]{32,128})").fullmatch
_BARE = re.compile(rb"[0-9a-fA-F]{32,128}").fullmatch
_NAMES = {"b2": "blake2b", "blake2b512": "blake2b", "sha2256": "sha256", "sha2512": "sha512"}
_ESCAPE = re.compile(rb"\\([\\nr])").sub
_ESCAPED = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


class Plain:
    """Each file of digests is a root of its own, and its own index."""

    name = "plain-digests"
    dated = False

    def root_part(self, path: bytes) -> bytes | None:
        name = path.rpartition(b"/")[2]
        for suffix in SIGNATURES:
            if name.endswith(suffix) and is_sums(name.removesuffix(suffix)):
                return path.removesuffix(suffix)
        return path if is_sums(name) else None

    def busy(self, path: bytes) -> bool:
        return False

    def roots(self, paths: Iterable[bytes]) -> tuple[Group, ...]:
        found: dict[bytes, set[bytes]] = {}
        for path in paths:
            if (name := self.root_part(path)) is not None:
                found.setdefault(name, set()).add(path)
        groups = (_group(name, files) for name, files in sorted(found.items()))
        return tuple(group for group in groups if group.read)

    def read_root(self, path: bytes, body: bytes) -> Root:
        itself = Named(path, len(body), role=Role.ROOT)
        return Root(path, folder(path), itself=itself, label=shown(path.rpartition(b"/")[2]))

    def read_index(self, root: Root, index: Named, stream: BinaryIO) -> Iterator[Named]:
        if index.path.endswith(metalink.SUFFIXES):
            return metalink.read(index.path, stream)
        return read(index.path, stream)


def is_sums(name: bytes) -> bool:
    """Whether a file of this name holds digests of others."""
    if _ONE(name) or name.endswith(metalink.SUFFIXES):
        return True
    return bool(_WHOLE(name)) and not _NOT_SUMS(name)


def _group(name: bytes, files: set[bytes]) -> Group:
    """`sums.asc` without `sums` is one that is signed within, as kernel.org has them."""
    root = name if name in files else name + b".asc"
    detached = tuple(path for path in signatures(name) if path in files and path != root)
    signature = Signature(root, detached, inline=not detached)
    return Group(name, (root,) if root in files else (), (*detached, root), (signature,))


def read(path: bytes, stream: BinaryIO) -> Iterator[Named]:
    """What a file of digests names. Lines of other kinds (comments, a signature around it) say nothing.

    Raises Malformed where there are lines and none of them has a digest. A name that leads out of the
    mirror, as of a file that lay elsewhere when the digests were made, names nothing here.
    """
    name = path.rpartition(b"/")[2]
    own = _own_algorithm(name)
    whole = _ONE(name)
    some = other = False
    for line in lines(path, pieces(path, stream)):
        found = _entry(line, own, whole[1] if whole else b"")
        if found is None:
            other = other or bool(line.strip())
            continue
        some = True
        digest, said = found
        try:
            where = inside(path, folder(path), said, up=True)
        except Malformed:
            continue
        if where != path:
            yield Named(
                where,
                None,
                (digest,),
                Role.EXTRA if is_sums(said.rpartition(b"/")[2]) else Role.FILE,
                optional=True,
            )
    if other and not some:
        raise Malformed(shown(path), "has no digest in it")


def _own_algorithm(name: bytes) -> str | None:
    match = _WHOLE(name)
    said = match[1] if match else None
    if said is None and (one := _ONE(name)):
        said = one[2]
    return _plain_name(said) if said else None


def _plain_name(said: bytes) -> str:
    text = said.decode("ascii").lower().replace("-", "")
    return _NAMES.get(text, text)


def _entry(line: bytes, own: str | None, target: bytes) -> tuple[Digest, bytes] | None:
    """The digest and the name that a line has. `target` is what a line without a name speaks of."""
    if match := _BSD(line):
        digest, name, escaped, algorithm = unhex(match[4]), match[3], match[1], _plain_name(match[2])
        if digest is None or LENGTHS.get(algorithm) != len(digest):
            return None
        return (algorithm, digest), _unescaped(name) if escaped else name
    match = _GNU(line) or _LOOSE(line)
    if match:
        digest, name = unhex(match[2]), _unescaped(match[3]) if match[1] else match[3]
    elif target and _BARE(line.strip()):
        digest, name = unhex(line.strip()), target
    else:
        return None
    algorithm_ = (
        own if digest is not None and own and LENGTHS[own] == len(digest) else by_length(digest or b"")
    )
    return ((algorithm_, digest), name) if algorithm_ and digest is not None else None


def _unescaped(name: bytes) -> bytes:
    """As coreutils write a name with a backslash, newline or carriage return in it."""
    return _ESCAPE(lambda match: _ESCAPED[match[1]], name)
