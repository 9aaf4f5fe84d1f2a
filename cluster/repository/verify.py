"""Digests of bytes as they pass, by each algorithm that a repository may name one by."""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import Protocol

from cluster.repository.base import APK_CONTROL

MAX_SEGMENT = 8 * 2**20  # bytes of an unpacked signature or control segment; 100 000 are much

_DATAHASH = re.compile(rb"^datahash = ([0-9a-f]{64})$", re.MULTILINE).search


class Hasher(Protocol):
    """As the objects of hashlib are used."""

    def update(self, piece: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


def hasher(algorithm: str) -> Hasher:
    """For the whole of a file. Raises ValueError for an algorithm that is not known here."""
    return _Apk() if algorithm == APK_CONTROL else hashlib.new(algorithm, usedforsecurity=False)


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

    def digest(self) -> bytes:
        """The control segment's, where it is whole and the data is what it says; else what nothing has."""
        if self._broken or not self._whole or self._datahash not in (None, self._data.digest()):
            return b""
        return self._control.digest()

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
