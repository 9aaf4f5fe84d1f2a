"""OpenPGP signatures, judged by gpgv: the program that Debian's apt trusts for it.

gpgv gets everything in memory files and writes nowhere. As with apt, one good signature is enough, since
archives are signed with their old and their new key at once, but none may be wrong; SHA-1 and MD5 are not
accepted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cluster.errors import BadSignature, Malformed, Unverifiable
from cluster.model import shown
from cluster.repository.cleartext import text_of
from cluster.repository.keyring import binary

PATIENCE = 60.0  # s; gpgv needs 0.01

_VERDICTS = frozenset({"NEWSIG", "GOODSIG", "BADSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "ERRSIG"})
_REASONS = {
    "BADSIG": "its signature is wrong: the content is not what was signed",
    "EXPSIG": "its signature has expired",
    "EXPKEYSIG": "it is signed by a key that has expired",
    "REVKEYSIG": "it is signed by a key that was revoked",
    "NO_PUBKEY": "it is signed by a key that the keyring does not have",
    "ERRSIG": "its signature cannot be judged: an unknown key, or an algorithm that is not accepted",
    "NODATA": "there is no signature in it",
}


def signed(path: bytes, body: bytes, detached: bytes | None, keys: bytes) -> tuple[bytes, str]:
    """The text that is signed, and the fingerprint of the key. `keys`: a keyring of GnuPG's, or armored keys.

    Raises BadSignature; Unverifiable without gpgv or with a keyring that it cannot read.
    """
    if detached is None and _within(path, body) is None:
        raise BadSignature(shown(path), "there is no signature in it")
    with ExitStack() as stack:
        ring = stack.enter_context(_memory(_binary(path, keys)))
        status = stack.enter_context(_memory(b""))
        content = stack.enter_context(_memory(body))
        signature = content if detached is None else stack.enter_context(_memory(detached))
        command = ["gpgv", "--quiet", "--status-fd", str(status), "--keyring", _name(ring)]
        command += ["--weak-digest", "SHA1"]
        command += (
            ["--output", "-", _name(content)] if detached is None else [_name(signature), _name(content)]
        )
        text = _run(path, command, (ring, status, content, signature))
        os.lseek(status, 0, os.SEEK_SET)
        by = _judged(path, os.read(status, 2**20).decode("utf-8", "replace"))
    return (text if detached is None else body), by


def _within(path: bytes, body: bytes) -> bytes | None:
    """The text within the only signed message of `body`; None where there is none. Raises BadSignature."""
    try:
        text = text_of(path, body)
    except Malformed as error:
        raise BadSignature(error.path, error.message) from None
    return None if text == body.replace(b"\r\n", b"\n") else text


def _binary(path: bytes, keys: bytes) -> bytes:
    """Keys without their armor, which gpgv cannot read."""
    try:
        return binary(keys)
    except ValueError as error:
        raise Unverifiable(shown(path), f"the keyring: {error}") from None


@contextmanager
def _memory(content: bytes) -> Iterator[int]:
    file = os.memfd_create("signature")
    try:
        with open(file, "wb", closefd=False) as stream:
            stream.write(content)
        os.lseek(file, 0, os.SEEK_SET)
        yield file
    finally:
        os.close(file)


def _name(file: int) -> str:
    return f"/proc/self/fd/{file}"


def _run(path: bytes, command: list[str], files: tuple[int, ...]) -> bytes:
    """What gpgv prints: of a signature within, the text."""
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath), "GNUPGHOME": "/nonexistent"}
    try:
        done = subprocess.run(
            command,
            pass_fds=files,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise Unverifiable(shown(path), "gpgv is not installed, which checks signatures") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unverifiable(shown(path), f"gpgv cannot be run: {error}") from None
    return done.stdout


def _judged(path: bytes, status: str) -> str:
    """The fingerprint of a good signature's key. GnuPG's doc/DETAILS describes the lines."""
    said = [line.split()[1:] for line in status.splitlines() if line.startswith("[GNUPG:] ")]
    words = {line[0] for line in said if line}
    verdict, by = "", ""
    for line in said:
        if (
            line[:1] == ["VALIDSIG"] and verdict == "GOODSIG" and len(line) > 1
        ):  # of the signature just judged
            by = by or line[1]
        elif line and line[0] in _VERDICTS:
            verdict = line[0]
    if by and "BADSIG" not in words:
        return by
    for word, reason in _REASONS.items():
        if word in words:
            raise BadSignature(shown(path), reason + _key(said, word))
    raise BadSignature(shown(path), "gpgv finds no good signature in it")


def _key(said: list[list[str]], word: str) -> str:
    found = next((line[1] for line in said if line[:1] == [word] and len(line) > 1), "")
    return f" ({found})" if len(found) in (16, 40) else ""
