"""What the end of an rsync child means for what was asked.

Exit codes are those of rsync(1), section EXIT VALUES; a code that is not 0 proves nothing about what is
absent (HAZARDS 35, 93). What a server says is shown on one line, shortened.
"""

from __future__ import annotations

import os
import re
from enum import Enum

from cluster.errors import (
    Changed,
    IncompleteListing,
    OriginError,
    Refused,
    Unreachable,
    Vanished,
)
from cluster.listing.rsync import unescaped
from cluster.model import href
from cluster.origin.rsync_child import Ended

PARTIAL = (23, 24)  # some names could not be read; some went away meanwhile
FULL = 30.0  # s after which a server without a free connection is asked again
MAX_SAID = 300  # characters of what it said that are shown

_NAMED = re.compile(r'"((?:[^"]|"(?! \(in |:|$| failed))*)"(?: \(in [^)]*\))?(?:: | failed: |$)(.*)')
_NUMBER = re.compile(r"\((\d+)\)\s*$")
_SECURING = re.compile(r"verify depth is \d+$")  # openssl says it at the beginning of every connection
_CONNECT = re.compile(r"^connect:errno=(\d{1,4})$", re.MULTILINE)  # openssl's, after lines of its own
_LAST = re.compile(r"rsync error: .* \(code \d+\) at .*")

_REFUSED = ("auth failed", "access denied", "Unknown module", "Permission denied", "Host key verification",
            "certificate verify failed", "configured to refuse")  # fmt: skip
_BUSY = ("max connections", "try again later", "too many connections")
_UNUSABLE = (1, 3, 4, 6, 126, 127)  # options not understood here or there, or no rsync at the other end


class Wish(Enum):
    """What was asked for: what is missing of it means different things."""

    LISTING = "listing"
    FILE = "file"


def failure(ended: Ended, path: bytes, wish: Wish) -> OriginError | None:
    """The error that this end is for `path`; None where all went well."""
    if ended.code == 0:
        return None
    shown, said = href(path), _said(ended)
    if ended.code in PARTIAL:
        return _partial(ended, path, wish)
    if ended.code < 0:
        return Unreachable(shown, f"rsync was ended by signal {-ended.code}")
    if any(word in ended.said for word in _BUSY):
        return Unreachable(shown, said, retry_after=FULL)
    if any(word in ended.said for word in _REFUSED) or ended.code in _UNUSABLE:
        return Refused(shown, said)
    return Unreachable(shown, said)


def named(ended: Ended) -> list[str]:
    """The paths that its complaints name, as they are written there."""
    return [match[1] for line in ended.said.splitlines() if (match := _NAMED.search(line))]


def _partial(ended: Ended, path: bytes, wish: Wish) -> OriginError:
    """Some of it could not be read. That a name is gone is believed only where nothing else is said."""
    shown, said = href(path), _said(ended)
    complaints = _complaints(ended)
    numbers = {match[1] if (match := _NUMBER.search(line)) else "" for line in complaints}
    alone = (
        bool(complaints)
        and all("link_stat" in line or "change_dir" in line for line in complaints)
        and all(
            unescaped(text.encode("utf-8", "surrogateescape")).rstrip(b"/").endswith(path)
            for text in named(ended)
        )
    )
    if alone and numbers == {"2"}:
        return Vanished(shown, "no such name") if path else Refused(shown, said)
    if alone and numbers <= {"20", "40"}:
        return Changed(shown, "not what was listed")
    if wish is Wish.FILE and any("has vanished" in line for line in complaints):
        return Vanished(shown, said)
    if numbers == {"13"} and len(complaints) == 1:
        return Refused(shown, said)
    if wish is Wish.FILE:
        return Unreachable(shown, said)
    return IncompleteListing(shown, said)


def _complaints(ended: Ended) -> list[str]:
    """What it said, without the line that sums up, what a closed connection adds, and openssl's first."""
    return [
        line
        for line in ended.said.splitlines()
        if line.strip()
        and not _LAST.match(line)
        and not _SECURING.match(line)
        and "read error: Connection reset" not in line
    ]


def _said(ended: Ended) -> str:
    """Its first complaint, which is the cause of the others."""
    if connected := _CONNECT.search(ended.said):
        return f"cannot connect: {os.strerror(int(connected[1]))} (rsync exit {ended.code})"
    lines = _complaints(ended) or ended.said.splitlines() or [""]
    first = next((line for line in lines if "@ERROR" in line), lines[0]).strip()
    first = first.removeprefix("Password: ")  # rsync asks for it where it was given none
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in first)
    return f"{text[:MAX_SAID]} (rsync exit {ended.code})".strip()
