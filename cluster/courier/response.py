"""A sibling's answer, as its bytes arrive: status, and the pieces of its body. Only the standard library.

Framing is that of HTTP/1.1 (RFC 9112, 6.3 and 7.1): chunks, a Content-Length, or all until the connection
ends, but never two of these. Coded bodies are none of the peer protocol.
"""

import re

from cluster.courier.head import MAX_HEADER, may_begin

_STATUS = re.compile(rb"HTTP/1\.1 ([2-5]\d\d)(?: ([^\r\n]*))?").fullmatch
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?").fullmatch
_LENGTH = re.compile(rb"\d{1,18}").fullmatch
MAX_LINE = 256  # bytes of a chunk's size, with what else stands there


class Unframed(ValueError):
    """Not an answer that can be read without guessing."""


class Response:
    """Feed it until it is `complete`. `begun`: its header is there; `silent`: nothing of it is.

    `rest` is what came after its end, bytes that nobody asked for.
    """

    def __init__(self) -> None:
        self.begun = self.complete = False
        self.silent = True
        self.status, self.reason = 0, b""
        self.keep = True
        self.rest = b""
        self._line = b""  # the beginning of a header or line that is not all there
        self._left: int | None = 0  # bytes of the body or chunk that are to come; None: until the end
        self._chunked = False
        self._between = False  # the end of a chunk's line is to come
        self._trailing = False  # so is the end of all of them

    def feed(self, data: bytes) -> list[memoryview]:
        """The pieces of the body in `data`. Raises Unframed; then it is of no more use."""
        self.silent = False
        data, self._line = self._line + data if self._line else data, b""
        view, at, pieces = memoryview(data), 0, []
        while not self.complete:
            if self.begun and self._left is None:
                if at < len(data):
                    pieces.append(view[at:])
                return pieces
            if self._left:
                piece = view[at : at + self._left]
                if not piece:
                    return pieces
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._bodied()
                continue
            end = self._line_end(data, at)
            if end < 0:
                self._line = data[at:]
                return pieces
            at = self._lined(data, at, end)
        self.rest = data[at:]
        return pieces

    def ended(self) -> bool:
        """The connection has: whether that is the end of the answer as well."""
        self.complete = self.complete or (self.begun and self._left is None)
        return self.complete

    def _bodied(self) -> None:
        """Something of the body has come."""
        if self._left == 0:
            self._between = self._chunked
            self.complete = not self._chunked

    def _line_end(self, data: bytes, at: int) -> int:
        """Where the header or line at `at` ends; -1 where that is still to come."""
        end = data.find(b"\r\n" if self.begun else b"\r\n\r\n", at)
        if not self.begun:
            if end > MAX_HEADER or (end < 0 and not may_begin(data[at:])):
                raise Unframed("its header does not end, or is no HTTP/1.1")
        elif (end if end >= 0 else len(data)) - at > MAX_LINE:
            raise Unframed("a line that does not end between its chunks")
        return end

    def _lined(self, data: bytes, at: int, end: int) -> int:
        """Take the header or line that ends at `end`; where the next thing begins."""
        if not self.begun:
            self._head(data[at:end])
            return end + 4
        if self._between:
            if end != at:
                raise Unframed("a chunk of another size")
            self._between = False
        elif self._trailing:
            if end != at:
                raise Unframed("fields after its chunks")
            self.complete = True
        else:
            size = _CHUNK(data[at:end])
            if size is None:
                raise Unframed("a chunk without its size")
            self._left = int(size[1], 16)
            self._trailing = not self._left
        return end + 2

    def _head(self, text: bytes) -> None:
        first, *lines = text.split(b"\r\n")
        status = _STATUS(first)
        if status is None or text.count(b"\n") != len(lines):
            raise Unframed("not HTTP/1.1")
        self.status, self.reason = int(status[1]), status[2] or b""
        fields: dict[bytes, bytes] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            name, value = name.lower(), value.strip(b" \t").lower()
            if not colon or not name or name != name.strip():
                raise Unframed("a field that is none")
            if name in fields and name in (b"content-length", b"transfer-encoding"):
                raise Unframed("two framings")
            fields[name] = value
        if fields.get(b"content-encoding", b"identity") != b"identity":
            raise Unframed("a coding that was not asked for")
        self.keep = b"close" not in fields.get(b"connection", b"")
        self._framing(fields.get(b"content-length"), fields.get(b"transfer-encoding"))
        self.begun = True

    def _framing(self, length: bytes | None, coding: bytes | None) -> None:
        if coding is not None:
            if coding != b"chunked" or length is not None:
                raise Unframed("two framings")
            self._chunked = True
        elif length is not None:
            if not _LENGTH(length):
                raise Unframed("a length that is none")
            self._left = int(length)
            self.complete = not self._left
        elif self.status == 204:
            self.complete = True
        else:
            self._left, self.keep = None, False
