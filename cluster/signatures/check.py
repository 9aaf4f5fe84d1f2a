"""One question for all kinds of signature: is this signed by a key of that keyring, and what exactly?"""

from __future__ import annotations

import os

from cluster.errors import BadSignature, Unverifiable
from cluster.model import shown, value
from cluster.repository.base import MAX_KEYRING
from cluster.signatures import gpgv, rsa


@value
class Signed:
    """What a signature covers, byte for byte, and the fingerprint or the name of the key that made it."""

    text: bytes
    by: str


def signed(path: bytes, body: bytes, detached: bytes | None, keyring: str) -> Signed:
    """What of the file `path`, with the content `body`, is signed by a key of the file `keyring`.

    `detached` is the content of the signature's own file, None where the signature is within. Where this
    returns, only `text` may be believed: it is what the checking program found signed. Blocks for some ms, as
    it runs a program: to be called in a thread. Raises BadSignature, or Unverifiable: this machine cannot.
    """
    keys = _keys(path, keyring)
    if rsa.is_signed(path, body):
        return Signed(*rsa.signed(path, body, keys))
    if keys.lstrip().startswith(b"-----BEGIN PUBLIC KEY"):
        raise BadSignature(shown(path), "has no RSA signature, of which the keyring has the keys")
    return Signed(*gpgv.signed(path, body, detached, keys))


def _keys(path: bytes, keyring: str) -> bytes:
    try:
        with open(os.open(keyring, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            keys = stream.read(MAX_KEYRING + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unverifiable(shown(path), f"the keyring {keyring} cannot be read: {reason}") from None
    if not keys.strip() or len(keys) > MAX_KEYRING:
        raise Unverifiable(shown(path), f"the keyring {keyring} is empty, or larger than any")
    return keys
