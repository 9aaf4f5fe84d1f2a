"""One field of a message at a time: the value if it is what the protocol says, else WireError. Pure."""

from __future__ import annotations

from cluster.errors import UnsafeName
from cluster.model import Stamp, checked_name, checked_path
from cluster.peer.codec import WireError

MAX_INT = 2**63 - 1


def array(value: object, least: int, what: str) -> list[object]:
    if type(value) is not list or len(value) < least:
        raise WireError(f"{what}: not an array of {least} or more")
    return value


def integer(value: object, what: str, low: int = 0, high: int = MAX_INT) -> int:
    if type(value) is not int or not low <= value <= high:
        raise WireError(f"{what}: not an integer from {low} to {high}")
    return value


def integer_or_none(value: object, what: str) -> int | None:
    return None if value is None else integer(value, what)


def boolean(value: object, what: str) -> bool:
    if type(value) is not bool:
        raise WireError(f"{what}: neither true nor false")
    return value


def text(value: object, what: str) -> str:
    if type(value) is not str or not value.isprintable():
        raise WireError(f"{what}: not printable text")
    return value


def text_or_none(value: object, what: str) -> str | None:
    return None if value is None else text(value, what)


def binary(value: object, what: str) -> bytes:
    if type(value) is not bytes:
        raise WireError(f"{what}: not binary")
    return value


def digest(value: object) -> bytes | None:
    if value is None:
        return None
    digest = binary(value, "digest")
    if len(digest) != 32:
        raise WireError(f"digest: {len(digest)} bytes instead of 32")
    return digest


def stamp(ns: object, precision: object) -> Stamp | None:
    if ns is None:
        return None
    return Stamp(integer(ns, "time", -MAX_INT), integer(precision, "precision", 1))


def name(value: object) -> bytes:
    try:
        return checked_name(binary(value, "name"))
    except UnsafeName as error:
        raise WireError(f"name: {error}") from None


def path(value: object) -> bytes:
    try:
        return checked_path(binary(value, "path"))
    except UnsafeName as error:
        raise WireError(f"path: {error}") from None
