"""Alpine's signatures: RSA over all bytes after the first gzip member, which holds the signature.

The format is apk-tools': a tar segment whose only file is `.SIGN.RSA.NAME.rsa.pub` (SHA-1) or
`.SIGN.RSA256.NAME.rsa.pub` (SHA-256), compressed by itself, and the index after it.
"""

from __future__ import annotations

import re
import zlib

from cluster.errors import BadSignature, Unverifiable
from cluster.model import shown

MAX_SEGMENT = 2**16  # bytes of the unpacked segment; 1536 are usual

_NAME = re.compile(rb"\.SIGN\.(RSA|RSA256|RSA512)\.([^/\0]+)").fullmatch
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL).findall


def is_signed(path: bytes, body: bytes) -> bool:
    """Whether this is a file that is signed in this manner, or ought to be."""
    return path.rpartition(b"/")[2] == b"APKINDEX.tar.gz" and body.startswith(b"\x1f\x8b")


def signed(path: bytes, body: bytes, keys: bytes) -> tuple[bytes, str]:
    """`body`, whose signature was checked, and the name of its key. `keys`: public keys in PEM.

    Raises BadSignature, or Unverifiable where the keys are of no use.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    name, signature, covered = _parts(path, body)
    match = _NAME(name)
    if match is None:
        raise BadSignature(shown(path), "there is no signature in it")
    algorithms: dict[bytes, hashes.HashAlgorithm]
    algorithms = {b"RSA": hashes.SHA1(), b"RSA256": hashes.SHA256(), b"RSA512": hashes.SHA512()}  # noqa: S303 - Alpine signs so
    try:
        loaded = [load_pem_public_key(pem) for pem in _PEM(keys)]
    except ValueError:
        loaded = []
    known = [key for key in loaded if isinstance(key, RSAPublicKey)]
    if not known:
        raise Unverifiable(shown(path), "the keyring has no RSA key in PEM")
    for key in known:
        try:
            key.verify(signature, covered, padding.PKCS1v15(), algorithms[match[1]])
        except InvalidSignature:
            continue
        return body, shown(match[2])
    raise BadSignature(shown(path), f"its signature, by {shown(match[2])}, is by none of the keyring's keys")


def _parts(path: bytes, body: bytes) -> tuple[bytes, bytes, bytes]:
    """The name and content of the only file of the first segment, and the bytes after that segment."""
    unpacker = zlib.decompressobj(31)
    try:
        segment = unpacker.decompress(body, MAX_SEGMENT)
    except zlib.error:
        raise BadSignature(shown(path), "cannot be unpacked") from None
    name = segment[:100].partition(b"\0")[0]
    size = segment[124:136].strip(b" \0")
    if not unpacker.eof or len(segment) < 512 or not re.fullmatch(rb"[0-7]{1,11}", size):
        raise BadSignature(shown(path), "there is no signature in it")
    return name, segment[512 : 512 + int(size, 8)], unpacker.unused_data
