"""Whether bytes are what a repository says of them, as they pass."""

from __future__ import annotations

import hashlib
import re
import zlib

from cluster.repository.base import APK_CONTROL, Named

_BEST = (
    "sha256",
    "sha512",
    "sha384",
    "blake2b",
    "sha3_256",
    "sha3_512",
    "sha224",
    "sha1",
    "md5",
    APK_CONTROL,
)
"""One is enough, the first of these that is told: SHA-256 is what everything here is hashed with anyway."""


def algorithm(named: Named) -> str | None:
    """By which of its digests a file is judged; None where it has none that we know."""
    return next((name for name in _BEST if named.digest(name) is not None), None)


class Verifier:
    """Compares one file's bytes with what is said of it; where neither size nor digest is, all are right."""

    def __init__(self, named: Named) -> None:
        self._named = named
        self._received = 0
        self.algorithm = algorithm(named)
        self._apk = _Apk() if self.algorithm == APK_CONTROL else None
        self._hash = hashlib.new(self.algorithm) if self.algorithm and self._apk is None else None

    def update(self, piece: bytes) -> None:
        self._received += len(piece)
        if self._hash is not None:
            self._hash.update(piece)
        elif self._apk is not None:
            self._apk.update(piece)

    def problem(self) -> str | None:
        """After the last piece: what is wrong, None where all is as it was said."""
        size = self._named.size
        if size is not None and self._received != size:
            return f"{self._received} bytes, where the repository says {size}"
        if self._hash is not None and self._hash.digest() != self._named.digest(self.algorithm or ""):
            return f"not the file that the repository names: its {self.algorithm} differs"
        if self._apk is not None and not self._apk.matches(self._named.digest(APK_CONTROL) or b""):
            return "not the package that the repository names: its control segment or its data differ"
        return None


MAX_SEGMENT = 8 * 2**20  # bytes of an unpacked signature or control segment; 100 000 are much

_DATAHASH = re.compile(rb"^datahash = ([0-9a-f]{64})$", re.MULTILINE).search


class _Apk:
    """The gzip members of a package: perhaps its signature, its control segment, its data.

    The index has the SHA-1 of the packed control segment, whose `.PKGINFO` has the SHA-256 of the rest.
    """

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(31)
        self._segment = b""
        self._control = hashlib.sha1()  # noqa: S324 - what Alpine tells
        self._data = hashlib.sha256()
        self._datahash: bytes | None = None
        self._whole = False  # the control segment has passed
        self._broken = False

    def update(self, piece: bytes) -> None:
        while piece and not self._broken:
            if self._whole:
                self._data.update(piece)
                return
            piece = self._segment_part(piece)

    def matches(self, control: bytes) -> bool:
        if self._broken or not self._whole or self._control.digest() != control:
            return False
        return self._datahash is None or self._data.digest() == self._datahash

    def _segment_part(self, piece: bytes) -> bytes:
        """Takes what belongs to the segment that is being read; what is left belongs to the next."""
        try:
            self._segment += self._unpacker.decompress(piece, MAX_SEGMENT)
        except zlib.error:
            self._broken = True
            return b""
        if self._unpacker.unconsumed_tail or len(self._segment) > MAX_SEGMENT:
            self._broken = True
            return b""
        rest = self._unpacker.unused_data
        self._control.update(piece[: len(piece) - len(rest)])
        if self._unpacker.eof:
            self._ended()
        return rest

    def _ended(self) -> None:
        if self._segment.startswith(b".SIGN."):
            self._control = hashlib.sha1()  # noqa: S324
            self._segment, self._unpacker = b"", zlib.decompressobj(31)
            return
        found = _DATAHASH(self._segment)
        self._datahash = bytes.fromhex(found[1].decode()) if found else None
        self._whole = True
        self._segment = b""
