"""Bundles: many small files in one body, as frames. Pure.

A frame is a length (4 bytes, big endian), a header of that length, and the file's bytes. The header is an
entry as in a page, and its size is the number of bytes that follow. The last frame's header is a map: `done`
says how many of the names asked for were considered, so that the reader asks again for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.model import Held, Kind, Offer
from cluster.peer import wire
from cluster.peer.codec import WireError, pack, unpack

MAX_HEADER = 16_384  # an entry with a long name, validator and source
MAX_FILE = 8 * 2**20  # larger files are read by themselves
MAX_BODIES = 64 * 2**20  # in one bundle
MAX_REQUEST = 30_000  # bytes of names in one request line


def frame(held: Held) -> bytes:
    """What goes before a file's bytes."""
    header = wire.entry(held)
    return len(header).to_bytes(4, "big") + header


def last(done: int) -> bytes:
    header = pack({"v": [wire.MAJOR, wire.MINOR], "done": done})
    return len(header).to_bytes(4, "big") + header


class Frames:
    """Feed it the body as it arrives; it gives whole files. Raises WireError for anything out of order.

    Memory: one file, and what one call of `feed` brought.
    """

    def __init__(self) -> None:
        self.done: int | None = None  # set by the last frame
        self._buffer = bytearray()
        self._at = 0
        self._offer: Offer | None = None
        self._bodies = 0

    def feed(self, data: bytes) -> Iterator[tuple[Offer, bytes]]:
        """The files that are complete now. To be exhausted before the next call."""
        buffer = self._buffer
        buffer += data
        while True:
            if self._offer is None and not self._header():
                break
            offer = self._offer
            assert offer is not None
            if len(buffer) - self._at < offer.size:
                break
            body = bytes(memoryview(buffer)[self._at : self._at + offer.size])
            self._at += offer.size
            self._offer = None
            yield offer, body
        del buffer[: self._at]
        self._at = 0

    def _header(self) -> bool:
        """Take the next header if it is all there."""
        buffer, at = self._buffer, self._at
        if self.done is not None:
            if len(buffer) > at:
                raise WireError("bundle: goes on after its last frame")
            return False
        if len(buffer) < at + 4:
            return False
        size = int.from_bytes(buffer[at : at + 4], "big")
        if size > MAX_HEADER:
            raise WireError(f"bundle: a header of {size} bytes")
        if len(buffer) < at + 4 + size:
            return False
        fields = unpack(bytes(buffer[at + 4 : at + 4 + size]), MAX_HEADER)
        self._at = at + 4 + size
        if type(fields) is dict:
            done = fields.get("done")
            if type(done) is not int or done < 0:
                raise WireError("bundle: its last frame does not say how far it came")
            self.done = done
            return self._header()
        offer = wire.offer_read(fields)
        if offer is None or offer.kind is not Kind.FILE or offer.sha256 is None:
            raise WireError("bundle: an entry that is no file with a digest")
        self._bodies += offer.size
        if offer.size > MAX_FILE or self._bodies > MAX_BODIES:
            raise WireError(f"bundle: more than {MAX_FILE} bytes in a file, or {MAX_BODIES} in all")
        self._offer = offer
        return True
