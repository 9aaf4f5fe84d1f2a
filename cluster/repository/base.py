"""The one interface to what a repository says about itself, and the values that it speaks in.

A repository has *roots*: small files that change last (InRelease, repomd.xml, SHA256SUMS). A root names
*indexes* with their digests, and indexes name the files. A state of the repository is complete when all
that its root and its indexes name is in place. Everything here is pure: paths and bytes in, facts out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol

from cluster.errors import Contradicted
from cluster.model import shown, value

MAX_ROOT = 64 * 2**20  # bytes of a root; 30 MB are seen (the first page of PyPI), InRelease has 0.2
MAX_KEYRING = 64 * 2**20  # bytes; Debian's of all its developers has 30 MB, that of its archive 0.06
MAX_SIZE = 2**50  # bytes that a file may be said to have; no file system holds more in one

STRONG = frozenset({"sha256", "sha384", "sha512", "blake2b", "sha3_256", "sha3_512"})
"""Algorithms for which nobody can make a second file with the same digest. MD5 and SHA-1 are verified too,
but they only tell damage: bytes that a sibling sends need one of these."""

APK_CONTROL = "apk-control"
"""Not a digest of the file: the SHA-1 of the second gzip member of an apk, which holds the data's SHA-256."""

_LENGTHS = {16: "md5", 20: "sha1", 28: "sha224", 32: "sha256", 48: "sha384", 64: "sha512"}

Digest = tuple[str, bytes]
"""An algorithm as hashlib names it (or APK_CONTROL), and the value."""


class Role(enum.IntEnum):
    """What a named file is. The numbers are the order of publication: smaller first (HAZARDS 41, 42)."""

    FILE = 0
    EXTRA = 1  # belongs to the indexes, changes with them, names nothing that must exist
    INDEX = 2  # names more files: `Format.read_index` reads it
    SIGNATURE = 3  # detached, of a root
    ROOT = 4


@value
class Named:
    """One file that a repository names: what its bytes must be.

    `optional`: may be absent at the origin without a fault; if it is there it must match. The `form` is equal
    for an index's compressed forms, of which one is enough to be read, and empty for what has no other form.
    `copies` are further paths under which clients ask for exactly these bytes (apt's by-hash); an origin
    has some of them, or none. A path may lead through a symbolic link of the tree.
    """

    path: bytes
    size: int | None = None
    digests: tuple[Digest, ...] = ()
    role: Role = Role.FILE
    optional: bool = False
    form: bytes = b""
    copies: tuple[bytes, ...] = ()

    def digest(self, algorithm: str) -> bytes | None:
        return next((value for name, value in self.digests if name == algorithm), None)


@value
class Order:
    """Where a state stands among the states of its root. Kinds cannot be compared with each other."""

    kind: str  # "Date", "revision", "serial", ...
    key: int

    def before(self, other: Order) -> bool:
        """Whether this state is certainly older than `other` (HAZARDS 46)."""
        return self.kind == other.kind and self.key < other.key


@value
class Root:
    """A root as it was read. `base` is what the paths in indexes are relative to, `named` all indexes and
    whatever else the root names. `itself` is set where the root is an index too (SHA256SUMS, a pacman
    database): `Format.read_index` is asked with it and the root's own bytes, and `named` is empty.

    `valid_until` is in seconds since 1970, as the root says it, None where it does not.
    """

    path: bytes
    base: bytes
    named: tuple[Named, ...] = ()
    itself: Named | None = None
    order: Order | None = None
    valid_until: int | None = None
    label: str = ""  # for people: "Debian stable", as the root calls itself


@value
class Signature:
    """How one signed file is checked. `inline`: the signature is within (InRelease, an APKINDEX)."""

    signed: bytes
    detached: tuple[bytes, ...] = ()  # any one of these
    inline: bool = False


@value
class Group:
    """Files that together are one root. `read` is what of them to read, the best first; they say the same.

    `files` is all that was found of the group, in the order in which they are to be published one right
    after the other. `signatures` is empty for what nobody signs (.treeinfo, PyPI): no keyring judges it.
    """

    name: bytes
    read: tuple[bytes, ...]
    files: tuple[bytes, ...]
    signatures: tuple[Signature, ...] = ()


class Format(Protocol):
    """One type of repository. Every method raises RepositoryError (Malformed, TooMuch, Contradicted), and
    nothing else, for whatever it is given. None keeps more in memory than one record of an index."""

    @property
    def name(self) -> str:
        """The type as descriptors call it: `apt`."""

    @property
    def dated(self) -> bool:
        """Whether a root that says nothing of its age is as old as its file: mirrors of this type keep
        times."""

    def root_part(self, path: bytes) -> bytes | None:
        """The name of the group that a file of this path belongs to, None for what is no part of a root."""

    def busy(self, path: bytes) -> bool:
        """Whether a file of this path says that the origin is in the middle of an update (HAZARDS 43)."""

    def roots(self, paths: Iterable[bytes]) -> tuple[Group, ...]:
        """The roots among a tree's paths, sorted by name."""

    def read_root(self, path: bytes, body: bytes) -> Root:
        """What a root says. Where it carries its own signature, `body` may be with or without it."""

    def read_index(self, root: Root, index: Named, stream: BinaryIO) -> Iterator[Named]:
        """What an index names, as it is read. `stream` has the file's bytes as the origin has them; the
        caller has verified them against `index`."""


def by_length(digest: bytes) -> str | None:
    """The algorithm whose values have this length, where nothing else tells."""
    return _LENGTHS.get(len(digest))


def merged(one: Named, other: Named) -> Named:
    """The same path named twice, with all that both say. Raises Contradicted if they cannot both be."""
    if one.size is not None and other.size is not None and one.size != other.size:
        raise Contradicted(shown(one.path), f"named with {one.size} bytes and with {other.size} bytes")
    digests = dict(one.digests)
    for algorithm, digest in other.digests:
        if digests.setdefault(algorithm, digest) != digest:
            raise Contradicted(shown(one.path), f"named with two {algorithm} digests")
    return Named(
        one.path,
        one.size if one.size is not None else other.size,
        tuple(digests.items()),
        max(one.role, other.role),
        one.optional and other.optional,
        one.form or other.form,
        one.copies + tuple(copy for copy in other.copies if copy not in one.copies),
    )


_CHEAPEST = (b"", b".zst", b".gz", b".xz", b".bz2", b".lzma")  # to unpack: first is best


def to_read(named: Iterable[Named]) -> list[Named]:
    """Of the indexes that are there, those to read: of each form's compressions the cheapest to unpack."""
    best: dict[bytes, Named] = {}
    for index in named:
        if index.role is Role.INDEX:
            form = index.form or index.path
            known = best.get(form)
            if known is None or _cost(index) < _cost(known):
                best[form] = index
    return [best[form] for form in sorted(best)]


def _cost(index: Named) -> int:
    suffix = index.path[len(index.form) :] if index.form else b""
    return _CHEAPEST.index(suffix) if suffix in _CHEAPEST else len(_CHEAPEST)
