"""Who may wake a mirror from outside: whoever knows the secret in the file that its descriptor names."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

MIN_SECRET = 16  # bytes; a shorter one could be guessed, and wakes nobody


def authorised(secret: bytes, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the request carries `Authorization: Bearer SECRET`, or an `X-Hub-Signature-256` that is the
    HMAC-SHA256 of its body under the secret (as the large forges send it). Compares in constant time."""
    if len(secret) < MIN_SECRET:
        return False
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(_bytes(token.strip()), secret):
        return True
    told = headers.get("X-Hub-Signature-256", "")
    expected = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(_bytes(told), expected.encode())


def _bytes(header: str) -> bytes:
    return header.encode("utf-8", "surrogateescape")
