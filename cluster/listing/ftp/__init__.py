"""What FTP servers answer to MLSD and LIST, as a Listing.

MLSD is defined (RFC 3659 section 7). LIST is whatever the server's `ls` prints: one dialect must account for
every line, or the answer proves nothing. Bodies are the bytes of the data connection as they came, and names
are bytes. Whether an answer without a single line is an empty directory is for the caller to find out: a
forbidden one looks the same (HAZARDS 33).
"""

from __future__ import annotations

from cluster.errors import NotAListing, TooLarge
from cluster.listing.detect import ENTRIES
from cluster.listing.ftp.dos import dos, os2
from cluster.listing.ftp.eplf import eplf
from cluster.listing.ftp.lines import lines_of
from cluster.listing.ftp.mlsd import mlsd
from cluster.listing.ftp.os400 import os400
from cluster.listing.ftp.rights import enterprise, netware
from cluster.listing.ftp.unix import unix
from cluster.listing.ftp.vms import vms
from cluster.listing.ftp.zos import datasets, members
from cluster.listing.rows import Names
from cluster.model import Listing, shown

__all__ = ["read_list", "read_mlsd"]

_BESIDE = 64  # lines of a listing that are no rows, at most: heads, sums, the directory itself
_DIALECTS = (unix, dos, eplf, vms, netware, os400, os2, members, datasets, enterprise)


def read_mlsd(body: bytes, *, limit: int = ENTRIES, path: str = "") -> Listing:
    """The listing that the answer to MLSD is. `path` is how errors name the directory.

    Raises NotAListing, IncompleteListing where the last line has no end, or TooLarge beyond `limit` entries
    or 64 MiB.
    """
    return mlsd(lines_of(body, path, limit), Names(path, limit), len(body))


def read_list(body: bytes, *, now: int, limit: int = ENTRIES, path: str = "") -> Listing:
    """The listing that the answer to LIST is.

    `now` is the server's clock in ns UTC as far as it is known: rows without a year lie before it, or up to
    two days after it. Raises NotAListing where no dialect knows every line, IncompleteListing where the last
    line has no end or the listing's own count of its rows is not met, or TooLarge.
    """
    lines = lines_of(body, path, limit)
    if not lines:
        return Names(path, limit).listing("empty", len(body), zone_known=True)
    known = 0
    crowded = len(lines) > limit + _BESIDE
    for dialect in (vms,) if crowded else _DIALECTS:  # OpenVMS breaks rows into several lines
        found = dialect(lines, Names(path, limit), now, len(body))
        if isinstance(found, Listing):
            return found
        known = max(known, found)
    if crowded:
        raise TooLarge(path, f"{len(lines)} lines, and at most {limit} entries are read")
    raise NotAListing(path, f"line {known + 1} is of no known kind: {shown(lines[known][:80])!r}")
