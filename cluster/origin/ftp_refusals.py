"""What an unwelcome reply of an FTP server means.

One code stands for many things (550: missing, forbidden, not a file), so the words are looked at, those of
vsftpd 3.0.3, ProFTPD 1.3.8, Pure-FTPd 1.0.50, and of the C library that most servers quote. Where the words
say neither, the name counts as gone: what it is in is then listed again, and nothing is believed to be gone
that is still listed there.
"""

from __future__ import annotations

import re

from cluster.errors import Changed, OriginError, Refused, Unreachable, Vanished
from cluster.model import href
from cluster.origin.ftp_replies import UNKNOWN, Reply

_FORBIDDEN = re.compile(
    rb"permission|denied|access|not allowed|forbidden|prohibited|restricted", re.IGNORECASE
).search
_ANOTHER_KIND = re.compile(
    rb"not a (regular|plain) file|regular files|not a directory|is a directory", re.IGNORECASE
).search
_GONE = re.compile(
    rb"no such|not found|does not exist|doesn't exist|cannot find|can't find", re.IGNORECASE
).search
_FAILED = re.compile(rb"fail|denied|can(?:no|')t|unable|could not|error|truncated", re.IGNORECASE).search

_PATHS = re.compile(rb'"[^"]*"|\S*/\S*')  # FileZilla Server quotes in its 226 what it has listed


def unwelcome(reply: Reply, path: bytes) -> OriginError:
    """The error that a reply means to whoever asked about `path`."""
    name, said, words = href(path), str(reply), reply.last
    if reply.code >= 500:
        if reply.code in UNKNOWN or reply.code in (530, 532, 533, 534, 535, 536, 537):
            return Refused(name, said)
        if _GONE(words):
            return Vanished(name, said)
        if _ANOTHER_KIND(words):
            return Changed(name, said)
        if _FORBIDDEN(words):
            return Refused(name, said)
        return Vanished(name, said) if reply.code == 550 else Refused(name, said)
    if reply.code >= 400:
        if _GONE(words):
            return Vanished(name, said)  # ProFTPD: 450 for a listing of what is not there
        return Refused(name, said) if _FORBIDDEN(words) else Unreachable(name, said)
    if reply.code >= 300:
        return Refused(name, said)
    return Changed(name, f"{said}: not an answer to what was asked")


def admits_failure(reply: Reply) -> bool:
    """Whether a good reply says in words that it did not work. Of a directory that may be entered and not
    read (HAZARDS 33): vsftpd, `226 Transfer done (but failed to open directory).`, and Pure-FTPd, `Sorry, we
    were unable to read`; beyond its limit that has `Output truncated`."""
    return any(_FAILED(_PATHS.sub(b"", line)) for line in reply.lines)


def is_forbidden(words: str) -> bool:
    return _FORBIDDEN(words.encode()) is not None


def explicit(reply: Reply) -> bool:
    """Whether its words say what is wrong with the name."""
    words = reply.last
    return bool(_GONE(words) or _ANOTHER_KIND(words) or _FORBIDDEN(words))
