"""Keyrings as descriptors name them: is there a key in this file at all?

A keyring of OpenPGP is a sequence of packets (RFC 9580, section 4), a public key first; armored, it is text
(section 6.2); GnuPG's keybox begins with a header of its own. Alpine's keys are in PEM.
"""

from __future__ import annotations

import base64
import binascii
import re

_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\n]*\r?\n)*?\s*\n(.*?)(?:\r?\n=[A-Za-z0-9+/]{4})?\s*\n"
    rb"-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
).findall
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----(.*?)-----END PUBLIC KEY-----", re.DOTALL).findall

_SECRET_KEY, _PUBLIC_KEY = 5, 6


def binary(keys: bytes) -> bytes:
    """A keyring without its armor. Raises ValueError."""
    if b"-----BEGIN PGP PUBLIC KEY BLOCK-----" not in keys:
        return keys
    try:
        blocks = [base64.b64decode(b"".join(block.split()), validate=True) for block in _ARMOR(keys)]
    except binascii.Error:
        blocks = []
    if not blocks:
        raise ValueError("the armored keys are damaged")
    return b"".join(blocks)


def problem(keys: bytes, *, pem: bool = False) -> str:
    """Why a file is no keyring; "" where it is one. `pem`: one of Alpine's keys."""
    if pem:
        return "" if any(map(_is_base64, _PEM(keys))) else "has no public key in PEM"
    try:
        keys = binary(keys)
    except ValueError as error:
        return str(error)
    if keys[8:12] == b"KBXf":
        return ""
    try:
        tags = _tags(keys)
    except ValueError:
        return "is no keyring: neither OpenPGP's packets nor armored keys"
    if _SECRET_KEY in tags:
        return "has a secret key, which belongs to whoever signs"
    return "" if _PUBLIC_KEY in tags else "has no public key"


def _is_base64(text: bytes) -> bool:
    try:
        return bool(base64.b64decode(b"".join(text.split()), validate=True))
    except binascii.Error:
        return False


def _tags(packets: bytes) -> set[int]:
    """The kinds of packets. Raises ValueError where the bytes are none, or end too early."""
    tags, at = set(), 0
    while at < len(packets):
        first = packets[at]
        if not first & 0x80 or at + 1 >= len(packets):
            raise ValueError
        if first & 0x40:
            tag, (size, at) = first & 0x3F, _new_length(packets, at + 1)
        else:
            octets = 1 << (first & 3)
            if octets == 8:  # to the end, which no key has
                raise ValueError
            tag, size, at = (first >> 2) & 0xF, _number(packets, at + 1, octets), at + 1 + octets
        tags.add(tag)
        at += size
        if at > len(packets):
            raise ValueError
    return tags


def _new_length(packets: bytes, at: int) -> tuple[int, int]:
    """The length that stands at `at`, and where the packet's body begins. Raises ValueError."""
    first = packets[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + _number(packets, at + 1, 1) + 192, at + 2
    if first < 255:  # in parts, which only messages are
        raise ValueError
    return _number(packets, at + 1, 4), at + 5


def _number(packets: bytes, at: int, octets: int) -> int:
    if at + octets > len(packets):
        raise ValueError
    return int.from_bytes(packets[at : at + octets], "big")
