"""The answer to MLSD: facts, a space, a name (RFC 3659 section 7). Times are UTC.

Symbolic links are not in the RFC. ProFTPD 1.3.8 says `OS.unix=symlink`, or `OS.unix=slink:` and the path that
the link leads to, made absolute; Pure-FTPd 1.0.50 says either word and no target.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cluster.errors import NotAListing
from cluster.listing.ftp.lines import number, put
from cluster.listing.rows import Names
from cluster.listing.times import day_ns
from cluster.model import MINUTE, SECOND, Entry, Kind, Listing, Stamp, shown

_LINE = re.compile(rb"((?:[!-<>-~]+=[^;]*;)*) (.+)", re.DOTALL).fullmatch
_LINK = re.compile(rb"(?i)(?:^|;)type=OS\.unix=(?:slink|symlink)[:;]").search
_MODIFY = re.compile(rb"(\d{4,})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.(\d+))?").fullmatch
_SIZE = re.compile(rb"-?\d*").fullmatch
_OCTAL = re.compile(rb"0?[0-7]{1,6}").fullmatch
_KINDS = {
    b"file": Kind.FILE,
    b"dir": Kind.DIRECTORY,
    b"os.unix=slink": Kind.SYMLINK,
    b"os.unix=symlink": Kind.SYMLINK,
    b"unknown": Kind.SPECIAL,  # Pure-FTPd, which hangs over a pipe that is asked for
}


def mlsd(lines: list[bytes], names: Names, size: int) -> Listing:
    """Raises NotAListing for a line that is no row of an MLSD answer."""
    own: Entry | None = None
    for line_number, line in enumerate(lines, 1):
        row = _LINE(line)
        facts = _facts(row[1]) if row else None
        if row is None or facts is None:
            raise NotAListing(names.path, f"line {line_number} of MLSD is none: {shown(line[:80])!r}")
        told = facts.get(b"type", b"")
        if told.lower() in (b"cdir", b"pdir") or row[2] in (b".", b".."):
            if told.lower() == b"cdir" or row[2] == b".":
                own = _entry(b"", b"dir", facts)
        elif b"; " in row[2] and _LINK(row[1]):
            names.reject(row[2], "a link of which it cannot be told where its target ends", Kind.SYMLINK)
        else:
            put(names, _entry(row[2], told, facts))
    return names.listing("mlsd", size, zone_known=True, own=own)


def _facts(text: bytes) -> dict[bytes, bytes] | None:
    """By their names in lower case; None where one is malformed that must not be."""
    facts = {}
    for fact in text[:-1].split(b";") if text else ():
        key, _, told = fact.partition(b"=")
        facts[key.lower()] = told
    if b"modify" in facts and facts[b"modify"] and not _MODIFY(facts[b"modify"]):
        return None
    return facts if _SIZE(facts.get(b"size", b"")) else None


def _entry(name: bytes, told: bytes, facts: dict[bytes, bytes]) -> Entry:
    """A row without a type, or with one that only its server knows, is marked: it proves nothing of what
    stands under that name. An absolute target is not what the link holds."""
    word, _, target = told.partition(b":")
    kind = _KINDS.get(word.lower())
    if kind is None and word.lower().startswith(b"os."):
        kind = Kind.SPECIAL
    mode, size = facts.get(b"unix.mode", b""), facts.get(b"size", b"")
    return Entry(
        name,
        kind or Kind.FILE,
        size=number(size) if size.isdigit() else None,
        mtime=modified(facts[b"modify"]) if facts.get(b"modify") else None,
        mode=int(mode, 8) & 0o7777 if _OCTAL(mode) else None,
        uid=_id(facts.get(b"unix.uid") or facts.get(b"unix.owner")),
        gid=_id(facts.get(b"unix.gid") or facts.get(b"unix.group")),
        target=target if kind is Kind.SYMLINK and target and not target.startswith(b"/") else None,
        ambiguous=kind is None,
    )


def _id(told: bytes | None) -> int | None:
    return number(told) if told is not None and told.isdigit() else None


@lru_cache(maxsize=8192)
def modified(text: bytes) -> Stamp | None:
    """A time-val (RFC 3659 section 2.3), as in the fact `modify` and in the reply to MDTM; None where it is
    none, or names no instant that a record can hold."""
    found = _MODIFY(text)
    if found is None:
        return None
    midnight = day_ns(int(found[1]), int(found[2]), int(found[3]))
    hour, minute, second = int(found[4]), int(found[5]), int(found[6])
    if midnight is None or hour > 23 or minute > 59 or second > 60:
        return None
    ns = midnight + (hour * 60 + minute) * MINUTE + second * SECOND
    fraction = (found[7] or b"")[:9]
    return Stamp(ns + int(fraction.ljust(9, b"0")), int(10 ** (9 - len(fraction))))
