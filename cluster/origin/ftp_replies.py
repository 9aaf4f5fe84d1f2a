"""What an FTP server says on its control connection, read from bytes. No I/O.

RFC 959 section 4.2 (replies), RFC 2389 (FEAT), RFC 2428 (EPSV), RFC 3659 (SIZE). Imports little: the courier,
a program that must be there within 30 ms, reads replies as well.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_LINE = 8192  # bytes; a path of 4095 bytes in quotes, every one of them doubled, fits
MAX_LINES = 1000  # of one reply: banners of 200 lines are seen (HAZARDS 89)
MAX_REPLY = 256 * 2**10  # bytes
LOWEST_PORT = 1024  # below are services, not data connections (CVE-2020-8284)
UNKNOWN = frozenset((500, 501, 502, 503, 504, 202))  # the command, not what it was about
MAX_SHOWN = 160  # bytes of a server's own words in a message

_CODED = re.compile(rb"([1-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL).fullmatch
_EPSV = re.compile(rb"\((.)\1\1([0-9]{1,5})\1\)").search
_PASV = re.compile(rb"(?:[0-9]{1,3},){4}([0-9]{1,3}),([0-9]{1,3})").search
_PWD = re.compile(rb'"((?:[^"]|"")*)"').search


class Nonsense(Exception):
    """What came is not a reply, or beyond its limit. The connection is of no use any more."""


class Reply(NamedTuple):
    """`lines` are without their codes; the first and the last of a long reply are what follows them."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def good(self) -> bool:
        return 200 <= self.code < 300

    @property
    def last(self) -> bytes:
        return self.lines[-1]

    def __str__(self) -> str:
        """For people: one short line."""
        words = next((line for line in reversed(self.lines) if line.strip()), b"").strip()
        return f"{self.code} {_shown(words)}".rstrip()


class Replies:
    """Bytes in, whole replies out, of bounded size."""

    __slots__ = ("_buffer", "_code", "_lines", "_size")

    def __init__(self) -> None:
        self._buffer = b""
        self._code = b""  # of the reply of several lines that is under way
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def between(self) -> bool:
        """Whether nothing has come of another reply."""
        return not (self._buffer or self._code)

    def feed(self, data: bytes) -> list[Reply]:
        """Raises Nonsense."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_LINE:
            raise Nonsense(f"a line of more than {MAX_LINE} bytes")
        found = []
        for line in lines:
            if len(line) > MAX_LINE:
                raise Nonsense(f"a line of more than {MAX_LINE} bytes")
            reply = self._line(line.rstrip(b"\r"))
            if reply is not None:
                found.append(reply)
        return found

    def _line(self, line: bytes) -> Reply | None:
        self._size += len(line)
        if len(self._lines) >= MAX_LINES or self._size > MAX_REPLY:
            raise Nonsense(f"a reply of more than {MAX_LINES} lines or {MAX_REPLY} bytes")
        coded = _CODED(line)
        if not self._code:
            if coded is None:
                raise Nonsense(f"not a reply: {_shown(line)!r}")
            if coded[2] == b"-":
                self._code, self._lines = coded[1], [coded[3] or b""]
                return None
            return self._ended(coded[1], coded[3])
        if coded is not None and coded[1] == self._code and coded[2] != b"-":
            return self._ended(coded[1], coded[3])
        self._lines.append(line)
        return None

    def _ended(self, code: bytes, words: bytes | None) -> Reply:
        reply = Reply(int(code), (*self._lines, words or b""))
        self._code, self._lines, self._size = b"", [], 0
        return reply


def passive_port(reply: Reply) -> int | None:
    """The port of a 229 or a 227, if one can be connected to for data. The address in a 227 may be anybody's,
    and is not used (HAZARDS 84)."""
    words, port = b" ".join(reply.lines), 0
    if reply.code == 229 and (extended := _EPSV(words)):
        port = int(extended[2])
    elif reply.code == 227 and (plain := _PASV(words)):
        port = int(plain[1]) * 256 + int(plain[2])
    return port if LOWEST_PORT <= port <= 65535 else None


def working_directory(reply: Reply) -> bytes | None:
    """The path of a 257, without a slash at its end; None where it is no path that begins with one."""
    found = _PWD(reply.last) if reply.code == 257 else None
    path = found[1].replace(b'""', b'"') if found else b""
    return path.rstrip(b"/") if path.startswith(b"/") else None


def features(reply: Reply) -> frozenset[bytes]:
    """The first words of a 211 to FEAT, in capitals; empty where the server does not know it."""
    if reply.code != 211:
        return frozenset()
    return frozenset(line.split()[0].upper() for line in reply.lines[1:-1] if line.strip())


def size_of(reply: Reply) -> int | None:
    """The number of a 213 to SIZE."""
    word = reply.last.strip()
    return int(word) if reply.code == 213 and word.isdigit() and len(word) <= 19 else None


def _shown(words: bytes) -> str:
    from cluster.model import shown  # 20 ms

    return shown(words[:MAX_SHOWN])
