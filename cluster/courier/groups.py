"""The bodies of a bundle as they arrive: groups of small files, each behind a header that tells their places.

Only the standard library, for the carrier's process reads them as well; `docs/design/peer-protocol.md`, 5.
"""

from collections.abc import Iterator, Mapping

MAX_FILE = 2**20  # bytes: larger files are read by themselves
MAX_BODIES = 64 * 2**20  # bytes in one answer
MAX_GROUP = 4 * 2**20  # bytes of bodies behind one header
MAX_PLACES = 256  # bodies behind one header
MAX_HEADER = 2048  # bytes of the header of a group

_WIDTHS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_SIGNED = 0xD0


class Disorder(ValueError):
    """Bytes that are not what was asked for."""


class Framed:
    """Headers behind their lengths, with what follows them, out of bytes that come in pieces."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.at = 0  # what is before is dealt with

    def feed(self, data: bytes | memoryview) -> None:
        """No view of the buffer may be left."""
        if self.at:
            del self.buffer[: self.at]
            self.at = 0
        self.buffer += data

    @property
    def left(self) -> int:
        return len(self.buffer) - self.at

    def header(self, limit: int) -> bytes | None:
        """The next one if it is all there. Raises Disorder where it says that it is larger than `limit`."""
        if self.left < 4:
            return None
        size = int.from_bytes(self.buffer[self.at : self.at + 4], "big")
        if size > limit:
            raise Disorder(f"bundle: a header of {size} bytes")
        if self.left < 4 + size:
            return None
        begin, self.at = self.at + 4, self.at + 4 + size
        return bytes(self.buffer[begin : self.at])


class Groups:
    """What follows the first frame. `sizes`: of each file that may be sent, by place; nothing else may.

    `last` is the header of the last frame once it is there, `sent` how many bodies came. Raises Disorder for
    anything out of order, and for what was not asked for (HAZARDS 120).
    """

    def __init__(self, framed: Framed, sizes: Mapping[int, int]) -> None:
        self._framed, self._sizes = framed, sizes
        self._waiting: list[int] = []  # of the group that is arriving, the last one first
        self._next = 0  # the least place that may still be sent
        self._bytes = 0
        self.sent = 0
        self.last: bytes | None = None

    def files(self) -> Iterator[tuple[int, memoryview]]:
        """Those that are complete: place and bytes, which are gone with the next `feed`."""
        framed = self._framed
        while True:
            if not self._waiting:
                if self.last is not None:
                    if framed.left:
                        raise Disorder("bundle: goes on after its last frame")
                    return
                header = framed.header(MAX_HEADER)
                if header is None:
                    return
                self._begin(header)
                continue
            place = self._waiting[-1]
            size = self._sizes[place]
            if framed.left < size:
                return
            begin, framed.at = framed.at, framed.at + size
            self._waiting.pop()
            self.sent += 1
            with memoryview(framed.buffer) as whole, whole[begin : framed.at] as body:
                yield place, body

    def _begin(self, header: bytes) -> None:
        """Places ascend, from group to group as well."""
        places = _places(header)
        if places is None:
            self.last = header
            return
        size = 0
        for place in places:
            if place < self._next:
                raise Disorder("bundle: places are not ascending")
            if place not in self._sizes:
                raise Disorder("bundle: sends a file that was not asked for")
            if self._sizes[place] > MAX_FILE:
                raise Disorder(f"bundle: more than {MAX_FILE} bytes in a file")
            self._next = place + 1
            size += self._sizes[place]
        self._bytes += size
        if len(places) > MAX_PLACES or size > MAX_GROUP or self._bytes > MAX_BODIES:
            raise Disorder(f"bundle: more than {MAX_GROUP} bytes in a group, or {MAX_BODIES} in all")
        self._waiting = places[::-1]


def _places(header: bytes) -> list[int] | None:
    """The integers of a msgpack array of one or more; None for a map, which is not looked into."""
    first = header[0] if header else 0xC0
    if 0x80 <= first < 0x90 or first in (0xDE, 0xDF):
        return None
    if 0x90 <= first < 0xA0:
        count, at = first & 0x0F, 1
    elif first in (0xDC, 0xDD):
        at = 3 if first == 0xDC else 5
        count = int.from_bytes(header[1:at], "big")
    else:
        raise Disorder("bundle: a header that is neither map nor array")
    found: list[int] = []
    while at < len(header):
        kind = header[at]
        at += 1
        if kind < 0x80:
            found.append(kind)
            continue
        width = _WIDTHS.get(kind)
        if width is None or at + width > len(header):
            raise Disorder("bundle: a place that is no integer")
        found.append(int.from_bytes(header[at : at + width], "big", signed=kind >= _SIGNED))
        at += width
    if len(found) != count or not count:
        raise Disorder("bundle: places that are not as many as they say")
    return found
