"""The text within a cleartext signature (RFC 9580, section 7), not verified.

For roots that nobody asked to be checked. What a signature covers is what the program that checks it says.
"""

from __future__ import annotations

import re

from cluster.errors import Malformed
from cluster.model import shown

_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE = b"\n-----BEGIN PGP SIGNATURE-----"
_END = b"-----END PGP SIGNATURE-----"
_DASH = re.compile(rb"^- ", re.MULTILINE).sub


def text_of(path: bytes, body: bytes) -> bytes:
    """`body` without a cleartext signature around it; as it is where there is none.

    Raises Malformed where the signature is cut off, or anything stands before or after it: two programs would
    not agree on what was signed.
    """
    body = body.replace(b"\r\n", b"\n")
    if not body.lstrip().startswith(_BEGIN):
        if _BEGIN in body:
            raise Malformed(shown(path), "has text before its signed message")
        return body
    _, _, rest = body.partition(b"\n\n")
    text, found, signature = rest.partition(_SIGNATURE)
    if not found or _END not in signature:
        raise Malformed(shown(path), "ends in the middle of its signature")
    if signature.partition(_END)[2].strip():
        raise Malformed(shown(path), "has text after its signature")
    if b"-----BEGIN PGP" in text:
        raise Malformed(shown(path), "holds more than one signed message")
    return _DASH(b"", text) + b"\n"
