"""The header of one answer, as the courier takes it: plain, or not at all. Only the standard library."""

from cluster.courier import wire
from cluster.origin.http_fields import fixed_date, kept, strong

MAX_HEADER = 2**13  # bytes of a header: the client that asks alone takes no longer line either
SKIPPED = 2**16  # bytes of an error's page that are read over, so that the connection can be kept
_BUSY = (b"408", b"425", b"429")
_MISSING = (b"403", b"404", b"410")


class Odd(Exception):
    """Not the plain answer. The connection is of no more use, unless `skip` tells how long the body is."""

    def __init__(self, reason: int = wire.ODD, skip: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.skip = reason, skip


class Head:
    """The header of a plain answer. Raises Odd."""

    __slots__ = ("etag", "keep", "length", "modified")

    def __init__(self, text: bytes) -> None:
        status, *lines = text.split(b"\r\n")
        if not status.startswith(b"HTTP/1.1 ") or text.count(b"\n") != len(lines):
            raise Odd
        self.etag: str | None = None
        self.modified: int | None = None  # s since 1970
        self.keep = True
        length: bytes | None = None
        modified: bytes | None = None
        for line in lines:
            name, colon, value = line.partition(b":")
            name = name.lower()
            if name == b"content-length":
                if length is not None:
                    raise Odd
                length = value.strip()
            elif name == b"etag":
                self.etag = strong(value.strip().decode("utf-8", "surrogateescape"))
            elif name == b"last-modified":
                modified = value.strip()
            elif name == b"connection":
                self.keep = b"close" not in value.lower()
            elif name == b"transfer-encoding" or not colon or name[-1:].isspace() or name[:1].isspace():
                raise Odd
        if length is None or not length.isdigit() or len(length) > 18:
            raise Odd
        self.length = int(length)
        code = status[9:13].rstrip()
        if code in _BUSY or code.startswith(b"5"):
            raise Odd(wire.BUSY)
        if code in _MISSING and self.keep and self.length <= SKIPPED:
            raise Odd(skip=self.length)
        if code != b"200":
            raise Odd
        self.modified = None if modified is None else _seconds(modified)


def _seconds(modified: bytes) -> int:
    try:
        found = kept(fixed_date(modified.decode("ascii")))
    except (ValueError, KeyError):
        found = None
    if found is None:
        raise Odd
    return found


def may_begin(text: bytes) -> bool:
    """Whether a header without its end can still become one. What ends its lines otherwise, or is no HTTP,
    would be waited for until the silence is too long."""
    return len(text) <= MAX_HEADER and b"\n\n" not in text and text[:9] == b"HTTP/1.1 "[: len(text)]
