"""One control connection to an FTP server, and the file that comes over it. Only the standard library."""

import socket
import time
from collections import deque

from cluster.courier.desk import Order
from cluster.origin.ftp_replies import Nonsense, Replies, Reply

GREETING, USER, PASS, BINARY, OPTION, PORT, FILE = range(7)  # what a reply is awaited to


class Broken(Exception):
    """The connection is of no use any more. `turned_away`: the server lets in no more than there are."""

    def __init__(self, *, turned_away: bool = False) -> None:
        super().__init__()
        self.turned_away = turned_away


class Line:
    """Replies come in the order of the commands; `awaited` tells what each of them is to."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.descriptor = opened.fileno()
        self.ready = False  # logged in, and set to binary
        self.proven = False  # a file has come over it
        self.awaited: deque[int] = deque([GREETING])
        self.port: int | None = None  # where the server waits for the next data connection
        self.since = time.monotonic()  # when what it waits for was asked, or when it became idle
        self.order: Order | None = None
        self.begun = False  # the file was asked for
        self.data: socket.socket | None = None
        self.pieces: list[bytes] = []
        self.received = 0
        self.ended = False  # the data connection has
        self.said: Reply | None = None  # the last word about the file
        self._replies = Replies()

    def __repr__(self) -> str:
        return f"<Line {self.descriptor} {'idle' if self.idle else list(self.awaited)}>"

    @property
    def idle(self) -> bool:
        return self.ready and self.order is None and not self.awaited

    @property
    def over(self) -> bool:
        """Whether all that belongs to the file has come."""
        return self.said is not None and (self.ended or self.said.code >= 300)

    def replies(self, data: bytes) -> list[Reply]:
        """Raises Broken."""
        try:
            return self._replies.feed(data)
        except Nonsense:
            raise Broken from None

    def say(self, *commands: tuple[int, bytes]) -> None:
        """Send them at once. They are short, and the server has read those before: what does not fit into the
        socket shows that it is gone. Raises Broken."""
        self.awaited.extend([kind for kind, _ in commands])
        sent = b"".join([command + b"\r\n" for _, command in commands])
        try:
            whole = self.socket.send(sent) == len(sent)
        except OSError:
            raise Broken from None
        if not whole:
            raise Broken

    def begin(self, data: socket.socket) -> None:
        """The file is about to be asked for, and comes over `data`."""
        self.begun, self.data, self.port = True, data, None
        self.pieces, self.received, self.ended, self.said = [], 0, False, None

    def end_data(self) -> None:
        """Nothing more is taken from the data connection."""
        self.ended = True
        if self.data is not None:
            self.data.close()
            self.data = None

    def done(self) -> Order | None:
        """What it was busy with, which is over in whatever way."""
        order, self.order, self.begun = self.order, None, False
        self.end_data()
        self.since = time.monotonic()
        return order

    def close(self) -> None:
        self.socket.close()
