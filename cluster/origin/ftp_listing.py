"""One directory of an FTP origin, as MLSD or LIST tell it.

Nothing in a LIST says where it ends, and a directory that may not be read looks like an empty one (HAZARDS
33, 34). So: the data connection ends cleanly, the server says 226 without speaking of a failure, counts are
met where it tells any, the last line is whole (whoever takes the lines apart sees that), and an empty listing
is believed only with other evidence.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from cluster.errors import (
    IncompleteListing,
    NotAListing,
    OriginError,
    Refused,
    TooLarge,
    Unreachable,
    Vanished,
)
from cluster.listing.ftp import read_list, read_mlsd
from cluster.model import Listing, href
from cluster.origin.ftp_control import Control
from cluster.origin.ftp_data import Transfer, passive, port_told, way_in
from cluster.origin.ftp_refusals import admits_failure, is_forbidden, unwelcome
from cluster.origin.ftp_replies import UNKNOWN, Reply
from cluster.origin.ftp_session import FtpSession

MAX_LISTING = 64 * 2**20  # bytes: 250 000 rows of 250 (HAZARDS section 5)

# The directory itself and the one above it: they change without anything in the directory changing.
_OWN_UNIX = re.compile(rb"(?m)^d[^\n]*(?:[0-9]{2}:[0-9]{2}|[0-9]{4}) {1,2}\.{1,2}\r?(?:\n|\Z)")
_OWN_FACTS = re.compile(rb"(?mi)^[^ \n]*type=[cp]dir;[^\n]*(?:\n|\Z)")
_MATCHES = re.compile(rb"\b([0-9]+) match(?:es)? total").search  # Pure-FTPd: how many it has listed


class Lines(NamedTuple):
    """The listing of one directory as it was sent. `own`: the directory itself was in it; `counted`: as many
    lines came as the server says that it has sent."""

    body: bytes
    command: bytes
    own: bool
    counted: bool

    @property
    def token(self) -> bytes:
        """The same for the same rows."""
        own = _OWN_FACTS if self.command == b"MLSD" else _OWN_UNIX
        return hashlib.blake2b(own.sub(b"", self.body), digest_size=16).digest()


async def lines(session: FtpSession, control: Control, directory: bytes) -> Lines:
    """All of it, complete as far as FTP can tell. Raises Lost, OriginError."""
    manners, path = session.manners, session.absolute(directory)
    entering, asking = control.ask_all([b"CWD " + path, way_in(session)])
    entered, way = await control.final(entering), await control.final(asking)
    if not entered.good:
        raise unwelcome(entered, directory)
    port: int | None = await port_told(session, control, way, directory)
    if manners.facts and b"MLSD" not in manners.refused and manners.offers & {b"MLST", b"MLSD"}:
        found = await _sent(session, control, directory, b"MLSD", port)
        if found is not None:
            return await _believed(session, control, directory, found)
        manners.refused.add(b"MLSD")
        port = None
    return await _listed(session, control, directory, port)


async def targets(session: FtpSession, control: Control, directory: bytes) -> Lines | None:
    """The same directory by LIST, where the connection is still in it: MLSD tells a link and not where it
    leads (Pure-FTPd, ProFTPD)."""
    try:
        return await _listed(session, control, directory)
    except (NotAListing, Refused):
        return None


async def _listed(session: FtpSession, control: Control, directory: bytes, port: int | None = None) -> Lines:
    """`port`: one that nobody has used yet."""
    manners = session.manners
    if manners.hidden is not False:
        try:
            found = await _sent(session, control, directory, b"LIST -a", port)
        except (Refused, Unreachable, Vanished):
            if manners.hidden:
                raise
            found = None  # the option may have been taken for a name
        port = None
        if found is not None and found.own:
            manners.hidden = True
            return found
        if manners.hidden:  # ProFTPD, of one that may be entered and not read
            raise Refused(href(directory), "not even the directory itself is listed in it")
    found = await _sent(session, control, directory, b"LIST", port)
    if found is None:
        raise NotAListing(href(directory), "the server knows neither LIST nor MLSD")
    if found.body.strip():
        manners.hidden = False
    return await _believed(session, control, directory, found)


async def _sent(
    session: FtpSession, control: Control, directory: bytes, command: bytes, port: int | None = None
) -> Lines | None:
    """What a command lists; None where the server does not know it."""
    transfer = Transfer(session, control, directory)
    if port is None:
        port = await passive(session, control, directory)
    try:
        await transfer.begin(command, port)
    except OriginError as error:
        if transfer.refusal is not None and transfer.refusal.code in UNKNOWN:
            return None
        if isinstance(error, Vanished):  # we are in it
            raise Refused(error.path, f"{error.message} It is there, and cannot be listed.") from None
        raise
    try:
        body = await _gathered(session, transfer, directory)
        said = await transfer.end()
    except Unreachable as error:
        raise IncompleteListing(error.path, error.message) from None
    finally:
        transfer.close()
        session.traffic.listings += transfer.received
    counted = _complete(body, said, directory)
    own = _OWN_FACTS if command == b"MLSD" else _OWN_UNIX
    return Lines(body, command, own.search(body) is not None, counted)


async def _gathered(session: FtpSession, transfer: Transfer, directory: bytes) -> bytes:
    pieces: list[bytes] = []
    while piece := await transfer.piece():
        if transfer.received > MAX_LISTING:
            raise TooLarge(href(directory), f"a listing of more than {MAX_LISTING} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _complete(body: bytes, said: Reply, directory: bytes) -> bool:
    """Whether the server says how many lines there are. Raises OriginError where some of them are missing."""
    if admits_failure(said):
        raise Refused(href(directory), f"not listed: {said}")
    came = body.count(b"\n")
    counts = [int(told[1]) for told in map(_MATCHES, said.lines) if told is not None]
    if counts and max(counts) > came:
        raise IncompleteListing(href(directory), f"{came} lines came, {max(counts)} were sent")
    return bool(counts)


async def _believed(session: FtpSession, control: Control, directory: bytes, found: Lines) -> Lines:
    """`found`, if it has rows, or if NLST has no names either."""
    if found.own or found.body.strip():
        return found
    try:
        names = await _sent(session, control, directory, b"NLST")
    except (Refused, Unreachable) as error:
        if is_forbidden(error.message):
            raise
        return found  # servers have many words for "no files found"
    if names is not None and names.body.strip():
        raise IncompleteListing(href(directory), f"{found.command.decode()} lists nothing, NLST does")
    return found


def parsed(found: Lines, *, now: int, limit: int, name: str) -> Listing:
    """`now`: ns since 1970. `name` is how errors call the directory. Raises OriginError."""
    if found.command == b"MLSD":
        return read_mlsd(found.body, limit=limit, path=name)
    return read_list(found.body, now=now, limit=limit, path=name)
