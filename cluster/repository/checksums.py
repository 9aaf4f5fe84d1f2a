"""Hexadecimal digests and sizes as repositories write them."""

from __future__ import annotations

from cluster.errors import Malformed, TooMuch
from cluster.model import shown
from cluster.repository.base import MAX_SIZE, Digest

LENGTHS = {"md5": 16, "sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64, "blake2b": 64}


def size_of(path: bytes, text: bytes) -> int:
    """A size in decimal digits. Raises Malformed, or TooMuch for what no file can have."""
    text = text.strip()
    if not text.isdigit():
        raise Malformed(shown(path), f"says {shown(text[:40])!r} where a size belongs")
    if len(text) > 20 or int(text) > MAX_SIZE:
        raise TooMuch(shown(path), f"says that a file has {shown(text[:40])} bytes")
    return int(text)


def digest_of(path: bytes, algorithm: str, text: bytes) -> Digest:
    """A digest in hexadecimal, of the length that the algorithm gives. Raises Malformed."""
    value = unhex(text.strip())
    if value is None or len(value) != LENGTHS.get(algorithm, len(value)):
        raise Malformed(shown(path), f"says {shown(text[:80])!r} where a {algorithm} digest belongs")
    return algorithm, value


def unhex(text: bytes) -> bytes | None:
    """The bytes, None for what is not hexadecimal."""
    if not text.isalnum():  # fromhex would take white space
        return None
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return None
