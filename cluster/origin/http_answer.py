"""One answer on a connection of our own, as its bytes arrive. Pure: no I/O, no clock.

Only framing that leaves no doubt is read (RFC 9112, 6.3): a Content-Length or chunks, not both, in HTTP/1.1.
For everything else there is `Odd`, and a client that knows more.
"""

from __future__ import annotations

import re

from multidict import CIMultiDict

MAX_HEADER = 2**15  # bytes

_STATUS = re.compile(rb"HTTP/1\.1 ([1-5]\d\d)(?: ([^\r\n]*))?").fullmatch
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_UNFIT = re.compile(rb"[\r\n\0]").search  # of a line, whose end is known
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?").fullmatch
_LENGTH = re.compile(rb"\d{1,18}").fullmatch
_ONCE = frozenset(("content-length", "transfer-encoding", "content-encoding", "content-type"))


class Odd(Exception):
    """Not an answer that can be read without guessing."""


class Answer:
    """Feed it until it is complete. `begun`: its header is. `received` counts bytes of the body; `rest` is
    what came after its end, bytes that nobody asked for."""

    __slots__ = ("_bodiless", "_buffer", "_left", "_pieces", "begun", "complete", "headers", "keep", "reason",
                 "received", "status")  # fmt: skip

    def __init__(self, *, bodiless: bool = False) -> None:
        """`bodiless`: to HEAD, whose framing is that of a body which does not come (RFC 9110, 9.3.2)."""
        self._bodiless = bodiless
        self.begun = self.complete = False
        self.keep = True
        self.status, self.reason, self.received = 0, "", 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self._buffer = bytearray()
        self._pieces: list[bytes] = []
        self._left: int | None = None  # bytes of the body, None: it comes in chunks

    @property
    def silent(self) -> bool:
        """Nothing of it has come."""
        return not self.begun and not self._buffer

    @property
    def rest(self) -> bytes:
        return bytes(self._buffer) if self.complete else b""

    @property
    def body(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def feed(self, data: bytes) -> bool:
        """Whether it is complete now. Raises Odd; then it is of no more use."""
        self._buffer += data
        if not self.begun and not self._head():
            return False
        self.complete = self._chunks() if self._left is None else self._counted(self._left)
        return self.complete

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEADER or b"\n\n" in self._buffer:
                raise Odd("its header does not end")
            return False
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        status = _STATUS(lines.pop(0))
        if status is None:
            raise Odd("not HTTP/1.1")
        self.status, self.reason = int(status[1]), (status[2] or b"").decode("latin-1")
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or _NAME(name) is None or _UNFIT(value):
                raise Odd("a field that is none")
            field = name.decode("ascii")
            if field.lower() in _ONCE and field in self.headers:
                raise Odd(f"{field} twice")
            self.headers.add(field, value.strip(b" \t").decode("utf-8", "surrogateescape"))
        self._left = self._framing()
        self.begun = True
        return True

    def _framing(self) -> int | None:
        length, coding = self.headers.get("Content-Length"), self.headers.get("Transfer-Encoding")
        self.keep = "close" not in ",".join(self.headers.getall("Connection", ())).lower()
        if self.status < 200 or self.status in (204, 304):
            raise Odd("an answer without a body")
        if self._bodiless:
            return 0
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise Odd("two framings")
            return None
        if length is None or not _LENGTH(length.encode("utf-8", "surrogateescape")):
            raise Odd("no framing")
        return int(length)

    def _counted(self, left: int) -> bool:
        piece = bytes(self._buffer[:left])
        del self._buffer[:left]
        if piece:
            self._pieces.append(piece)
        self.received += len(piece)
        self._left = left - len(piece)
        return self._left == 0

    def _chunks(self) -> bool:
        """Every chunk that is here whole."""
        buffer, at = self._buffer, 0
        try:
            while (line := buffer.find(b"\r\n", at)) >= 0:
                size = _CHUNK(buffer[at:line])
                if size is None:
                    raise Odd("a chunk without its size")
                begin, end = line + 2, line + 2 + int(size[1], 16)
                if begin == end and not b"\r\n".startswith(buffer[begin : begin + 2]):
                    raise Odd("fields after its chunks")
                if len(buffer) < end + 2:
                    return False
                if buffer[end : end + 2] != b"\r\n":
                    raise Odd("a chunk of another size")
                at = end + 2
                if begin == end:
                    return True
                self._pieces.append(bytes(buffer[begin:end]))
                self.received += end - begin
            if len(buffer) - at > MAX_HEADER:
                raise Odd("a chunk without its size")
            return False
        finally:
            del buffer[:at]
