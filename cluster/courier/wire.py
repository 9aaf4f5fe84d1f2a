"""What we and the courier's process say to each other: frames on a socket pair.

A frame is its length (4 bytes, the machine's own order) and a value of plain Python objects as `marshal`
writes them: both ends are one interpreter on one machine, and nothing else is as fast. Nothing that came
from an origin is ever unmarshalled.

    settings     addresses, bind, head, tail, connect, silence, tls (`origin.base.Plain`)
    FTP settings family, host and port; bind, user, password, whether names are UTF-8, whether EPSV is known,
                 silence (`origin.base.PlainFtp`)
    errand       (its number, prefix of its temporaries, connections that may be open, its files)
    a file       (number, target, size, (mode, uid, gid, mtime to set where the origin tells none))
    report       (errand, arrived, alone, failed, requests, discarded)
    arrived      (number, inode, mtime on disk, SHA-256, strong ETag or None, Last-Modified in s or None)
    alone        (number, REASON): has to be asked for by itself
    failed       (number, errno): could not be written
    requests     sent since the report before, for whatever errand
    discarded    bytes of bodies that were received since then and are of no use

A report about the errand SIGN, which there is not, says only that something has arrived.
"""

import marshal
import socket
import struct

LENGTH = struct.Struct("=I")

ODD = 0  # an answer that is not the plain one
BUSY = 1  # the origin does not want to be asked now: nothing is asked for any more
GONE = 2  # no connection can be made, or too few answers are plain: as above

SIGN = 0

Tls = tuple[str, str | None]
Settings = tuple[tuple[tuple[int, str, int], ...], str | None, bytes, bytes, float, float, Tls | None]
FtpSettings = tuple[tuple[int, str, int], str | None, bytes, bytes, bool, bool, float]
File = tuple[int, bytes, int, tuple[int, int, int, int | None]]
Errand = tuple[int, bytes, int, list[File]]
Arrived = tuple[int, int, int, bytes, str | None, int | None]
Report = tuple[int, list[Arrived], list[tuple[int, int]], list[tuple[int, int]], int, int]


def frame(content: object) -> bytes:
    packed = marshal.dumps(content)  # type: ignore[arg-type]  # plain values, as above
    return LENGTH.pack(len(packed)) + packed


def value(packed: bytes) -> object:
    return marshal.loads(packed)  # noqa: S302  # only ever what our own other end has written


class Frames:
    """Takes bytes as they come, gives whole values."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> list[object]:
        left = self._left + data
        values, at = [], 0
        while len(left) - at >= LENGTH.size:
            end = at + LENGTH.size + LENGTH.unpack_from(left, at)[0]
            if len(left) < end:
                break
            values.append(value(left[at + LENGTH.size : end]))
            at = end
        self._left = left[at:]
        return values


def receive(connection: socket.socket) -> bytes:
    """What has come; `b""` at the end."""
    return connection.recv(2**18)
