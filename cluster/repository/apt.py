"""Debian's repositories: InRelease or Release, Packages, Sources and what else a Release names.

The format: wiki.debian.org/DebianRepository/Format. What Release names may be absent (it lists every
compression, and architectures that a mirror leaves out); what Packages and Sources name must be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from typing import BinaryIO

from cluster.errors import Contradicted, Malformed, TooMuch
from cluster.model import join, shown
from cluster.repository import plain
from cluster.repository.base import Digest, Group, Named, Order, Role, Root, Signature, merged
from cluster.repository.checksums import digest_of, size_of
from cluster.repository.cleartext import text_of
from cluster.repository.paths import beside, folder, inside, uncompressed
from cluster.repository.text import Paragraph, paragraphs
from cluster.repository.unpack import pieces

MAX_RELEASE = 16 * 2**20  # bytes; the largest seen is 0.4 MB

_PARTS = (
    b"Release",
    b"Release.gpg",
    b"InRelease",
)
_SECTIONS = {b"md5sum": "md5", b"sha1": "sha1", b"sha256": "sha256", b"sha512": "sha512"}
_BY_HASH = {"md5": b"MD5Sum", "sha1": b"SHA1", "sha256": b"SHA256", "sha512": b"SHA512"}
_SOURCES = {b"files": "md5", **{b"checksums-" + s: n for s, n in ((b"sha1", "sha1"), (b"sha256", "sha256"))}}
_SOURCES[b"checksums-sha512"] = "sha512"
_PATCHES = {b"sha1-download": "sha1", b"sha256-download": "sha256"}
_SUITE = re.compile(rb"(?:^|/)dists/.").search
_SUMS = (b"SHA256SUMS", b"MD5SUMS", b"SHA512SUMS", b"SHA1SUMS")  # of an installer's images
_LINE = re.compile(rb"[^\n]+").findall


class Apt:
    """A tree with `dists/`, or a flat one: a Release beside its Packages."""

    name = "apt"
    dated = False

    def root_part(self, path: bytes) -> bytes | None:
        """The suite's directory. A Release beside one Packages, as older archives have it, is no root."""
        directory, _, name = path.rpartition(b"/")
        if name not in _PARTS:
            return None
        last = directory.rpartition(b"/")[2]
        if _SUITE(directory) and (last.startswith(b"binary-") or last == b"source"):
            return None
        return directory

    def busy(self, path: bytes) -> bool:
        """The name that Debian's own scripts put into a tree while it changes."""
        return path.rpartition(b"/")[2].startswith(b"Archive-Update-in-Progress-")

    def roots(self, paths: Iterable[bytes]) -> tuple[Group, ...]:
        found: dict[bytes, set[bytes]] = {}
        flat: set[bytes] = set()
        for path in paths:
            directory = self.root_part(path)
            if directory is not None:
                found.setdefault(directory, set()).add(path)
            elif uncompressed(path).rpartition(b"/")[2] == b"Packages":
                flat.add(folder(path))
        groups = (
            _group(name, files) for name, files in sorted(found.items()) if _SUITE(name) or name in flat
        )
        return tuple(group for group in groups if group.read)

    def read_root(self, path: bytes, body: bytes) -> Root:
        if len(body) > MAX_RELEASE:
            raise TooMuch(shown(path), f"a Release of {len(body)} bytes")
        said = next(paragraphs(path, [text_of(path, body)]), None)
        if said is None or not any(section in said for section in _SECTIONS):
            raise Malformed(shown(path), "names no files: no MD5Sum, SHA1, SHA256 or SHA512 is in it")
        directory = folder(path)
        date = _date(path, said, b"date")
        return Root(
            path,
            _base(directory),
            _named(path, directory, said),
            order=Order("Date", date) if date is not None else None,
            valid_until=_date(path, said, b"valid-until"),
            label=_label(said),
        )

    def read_index(self, root: Root, index: Named, stream: BinaryIO) -> Iterator[Named]:
        path = index.path
        name = uncompressed(path).rpartition(b"/")[2]
        if name in _SUMS:
            yield from plain.read(path, stream)
        elif name == b"Packages":
            for said in paragraphs(path, pieces(path, stream)):
                yield _package(path, root.base, said)
        elif name == b"Sources":
            for said in paragraphs(path, pieces(path, stream)):
                yield from _source(path, root.base, said)
        else:
            for said in paragraphs(path, pieces(path, stream)):
                yield from _patches(path, said)


def _group(name: bytes, files: set[bytes]) -> Group:
    ordered = tuple(path for part in _PARTS if (path := join(name, part)) in files)
    release, inline = join(name, b"Release"), join(name, b"InRelease")
    signatures = []
    if inline in files:
        signatures.append(Signature(inline, inline=True))
    if release in files:
        signatures.append(Signature(release, (join(name, b"Release.gpg"),)))
    return Group(name, tuple(p for p in (inline, release) if p in files), ordered, tuple(signatures))


def _base(directory: bytes) -> bytes:
    """What is above `dists/`; of a flat repository its own directory."""
    found = _SUITE(directory + b"/.")
    return directory[: found.start()] if found else directory


def _date(path: bytes, said: Paragraph, field: bytes) -> int | None:
    text = said.get(field)
    if text is None:
        return None
    try:
        return int(parsedate_to_datetime(text.decode("ascii")).timestamp())
    except (TypeError, ValueError, OverflowError, IndexError):
        raise Malformed(
            shown(path), f"{shown(field).title()} says {shown(text[:60])!r}, which is no date"
        ) from None


def _label(said: Paragraph) -> str:
    words = [
        said.get(b"origin") or said.get(b"label") or b"",
        said.get(b"suite") or said.get(b"codename") or b"",
    ]
    return shown(b" ".join(word for word in words if word)[:200])


def _named(path: bytes, directory: bytes, said: Paragraph) -> tuple[Named, ...]:
    by_hash = said.get(b"acquire-by-hash", b"").lower() == b"yes"
    found: dict[bytes, tuple[int, dict[str, bytes]]] = {}
    for section, algorithm in _SECTIONS.items():
        for digest, size, name in _table(path, said.get(section, b""), algorithm):
            where = inside(path, directory, name)
            known_size, digests = found.setdefault(where, (size, {}))
            if known_size != size or digests.setdefault(algorithm, digest) != digest:
                raise Contradicted(shown(path), f"names {shown(where)} twice, and differently")
    return tuple(
        _listed(where, directory, size, tuple(digests.items()), by_hash)
        for where, (size, digests) in found.items()
    )


def _table(path: bytes, text: bytes, algorithm: str) -> Iterator[tuple[bytes, int, bytes]]:
    """Lines of digest, size and name, as Release, Sources and Index have them."""
    for line in _LINE(text):
        words = line.split()
        if len(words) != 3:
            if words:
                raise Malformed(
                    shown(path), f"has the line {shown(line[:100])!r} among its {algorithm} digests"
                )
            continue
        yield digest_of(path, algorithm, words[0])[1], size_of(path, words[1]), words[2]


def _listed(path: bytes, suite: bytes, size: int, digests: tuple[Digest, ...], by_hash: bool) -> Named:
    plain_path = uncompressed(path)
    name = plain_path.rpartition(b"/")[2]
    diffs = name == b"Index" and folder(path).endswith(b".diff")
    index = name in (b"Packages", b"Sources") or diffs or name in _SUMS
    copies: tuple[bytes, ...] = ()
    if by_hash:
        copies = tuple(
            beside(path, b"by-hash/" + _BY_HASH[algorithm] + b"/" + digest.hex().encode())
            for algorithm, digest in digests
        )
    role = Role.INDEX if index and size else Role.EXTRA
    return Named(path, size, digests, role, optional=True, form=plain_path, copies=copies)


def _package(path: bytes, base: bytes, said: Paragraph) -> Named:
    name = said.get(b"filename")
    if not name:
        raise Malformed(shown(path), f"package {shown(said.get(b'package', b'?')[:80])}: no Filename")
    digests = tuple(
        digest_of(path, algorithm, said[field]) for field, algorithm in _SECTIONS.items() if field in said
    )
    size = said.get(b"size")
    if size is None or not digests:
        raise Malformed(
            shown(path), f"package {shown(said.get(b'package', b'?')[:80])}: no Size, or no digest"
        )
    return Named(inside(path, base, name), size_of(path, size), digests)


def _source(path: bytes, base: bytes, said: Paragraph) -> Iterator[Named]:
    """A source package's files; each is named once for every algorithm."""
    directory = said.get(b"directory", b"")
    found: dict[bytes, Named] = {}
    for field, algorithm in _SOURCES.items():
        for digest, size, name in _table(path, said.get(field, b""), algorithm):
            if b"/" in name:
                raise Malformed(shown(path), f"names {shown(name[:100])!r}, which is no plain name")
            where = inside(path, base, directory + b"/" + name)
            one = Named(where, size, ((algorithm, digest),))
            found[where] = merged(found[where], one) if where in found else one
    if not found:
        raise Malformed(shown(path), f"source {shown(said.get(b'package', b'?')[:80])}: no files")
    yield from found.values()


def _patches(path: bytes, said: Paragraph) -> Iterator[Named]:
    """`Packages.diff/Index`: the patches as they are downloaded, beside it. A client does without them."""
    found: dict[bytes, Named] = {}
    for field, algorithm in _PATCHES.items():
        for digest, size, name in _table(path, said.get(field, b""), algorithm):
            where = inside(path, folder(path), name)
            one = Named(where, size, ((algorithm, digest),), Role.EXTRA, optional=True)
            found[where] = merged(found[where], one) if where in found else one
    yield from found.values()
