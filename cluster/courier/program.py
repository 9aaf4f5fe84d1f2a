"""The courier's process: asks for small files over few connections, several in flight on each; writes them.

It takes only the plain answer: 200, one Content-Length that is the listed size, nothing folded, nothing
chunked. Whatever else comes is the caller's affair, who asks again by itself (`desk`).
"""

import contextlib
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from cluster.courier import wire
from cluster.courier.desk import APIECE, BARREN, READ, SPOILT, Desk, Order, serve
from cluster.courier.head import MAX_HEADER, Head, Odd, may_begin

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.courier.secured import Secured

LEAST, DEPTH = 16, 64  # requests in flight on a connection that has answered one: so many, later more,
AHEAD = 2**19  # with so many bytes of files: a far origin sends as much in one round trip
GAIN = 3  # plain answers that allow for one more


class Connection:
    """One connection to the origin, and the files that were asked for on it, in order."""

    def __init__(self, opened: socket.socket, address: int) -> None:
        self.socket: socket.socket | Secured = opened
        self.descriptor = opened.fileno()  # stays the same, whatever is made of the socket
        self.address = address  # which of the origin's
        self.connecting = True
        self.proven = False  # it has answered once
        self.asked: deque[Order] = deque()
        self.ahead = 0  # bytes of the files in `asked`
        self.sending = b""
        self.received = b""
        self.head: Head | None = None  # of the answer that is arriving
        self.skip: int | None = None  # bytes of its body that nobody wants
        self.since = time.monotonic()  # when the first of `asked` became the first

    def answered(self) -> Order:
        """The first one that was asked for is no longer."""
        order = self.asked.popleft()
        self.ahead -= order.size
        return order

    def has_room(self, depth: int) -> bool:
        """Whether it is time to ask for more: many at a time."""
        return len(self.asked) <= depth // 2 and self.ahead <= AHEAD // 2

    def close(self) -> None:
        self.socket.close()


class Courier(Desk):
    """The whole of it: errands in, reports out."""

    def __init__(self, home: socket.socket, folder: int, settings: wire.Settings) -> None:
        super().__init__(home, folder)
        self.addresses, self.bind, self.head, self.tail, self.connect, self.silence, tls = settings
        self.tls = None if tls is None else _tls(*tls)
        self.connections: dict[int, Connection] = {}
        self.address = 0  # the first of the origin's to which connections can be made, as far as we know

    def happened(self, descriptor: int, events: int) -> None:
        connection = self.connections.get(descriptor)
        if connection is not None:
            self.serve(connection, events)

    def busy(self) -> bool:
        return any(c.asked for c in self.connections.values())

    def overdue(self) -> float | None:
        waiting = [
            c.since + (self.connect if c.connecting else self.silence)
            for c in self.connections.values()
            if c.asked or c.connecting
        ]
        return min(waiting) - time.monotonic() if waiting else None

    def shrink(self) -> None:
        for connection in list(self.connections.values())[self.most :]:
            self.back(connection)
            self.forget(connection)

    # -- with the origin

    def assign(self) -> None:
        worth = min(self.most, -(-len(self.todo) // APIECE))
        while len(self.connections) < worth and self.barren < BARREN and self.open():
            pass
        if self.todo and not self.connections:
            self.give_up(wire.GONE)
        for connection in list(self.connections.values()):
            depth = self.depth if connection.proven else 1
            if self.todo and not connection.connecting and connection.has_room(depth):
                self.ask(connection, depth)

    @property
    def depth(self) -> int:
        """The more the better where the origin is far away; and all in vain behind an odd answer, or where it
        wants to be left alone."""
        return LEAST if self.spoilt else max(LEAST, min(DEPTH, self.arrived // GAIN))

    def ask(self, connection: Connection, depth: int) -> None:
        if not connection.asked:
            connection.since = time.monotonic()
        requests = []
        while self.todo and len(connection.asked) < depth and connection.ahead < AHEAD:
            order = self.todo.popleft()
            connection.asked.append(order)
            connection.ahead += order.size
            requests.append(b"%s%s%s" % (self.head, order.target, self.tail))
        self.requests += len(requests)
        connection.sending += b"".join(requests)
        self.send(connection)

    def send(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.sending)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.broke(connection)
            return
        waited = sent < len(connection.sending)
        connection.sending = connection.sending[sent:]
        if waited:
            self.poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def open(self) -> bool:
        """One connection more, as far as there are addresses that answer."""
        if self.address >= len(self.addresses):
            return False
        family, host, port = self.addresses[self.address]
        try:
            opened = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            self.address += 1
            return True
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.bind is not None:
                opened.bind((self.bind, 0))
            with contextlib.suppress(BlockingIOError):
                opened.connect((host, port))
        except OSError:
            opened.close()
            self.address += 1
            return True
        self.connections[opened.fileno()] = Connection(opened, self.address)
        self.poll.register(opened, select.EPOLLIN | select.EPOLLOUT)
        return True

    def serve(self, connection: Connection, events: int) -> None:
        if connection.connecting:
            try:
                wanted = self.connected(connection)
            except OSError:
                self.broke(connection)
                return
            connection.connecting = wanted != 0
            self.poll.modify(connection.socket, wanted or select.EPOLLIN)
            return
        if events & select.EPOLLOUT:
            self.poll.modify(connection.socket, select.EPOLLIN)
            self.send(connection)
        if connection.socket.fileno() != -1 and events & ~select.EPOLLOUT:
            self.read(connection)

    def connected(self, connection: Connection) -> int:
        """A step on the way to being connected; what to wait for until the next one, 0 where it is the last.
        Raises OSError, also for a certificate that is not as it must be."""
        opened = connection.socket
        if isinstance(opened, socket.socket):
            if code := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, "cannot connect")
            if self.tls is None:
                return 0
            opened = connection.socket = self.tls(opened)
        return opened.handshake()

    def read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.broke(connection)
            return
        self.heard = True
        connection.received = connection.received + data if connection.received else data
        try:
            at = self.take(connection)
        except Odd as odd:
            self.odd(connection, odd.reason)
            return
        connection.received = connection.received[at:]
        if connection.head is not None and not connection.head.keep and not connection.asked:
            self.forget(connection)
        elif connection.received and not connection.asked:
            self.forget(connection)  # bytes that nobody asked for

    def take(self, connection: Connection) -> int:
        """Every answer that is complete; where the first one begins that is not. Raises Odd."""
        received, at = connection.received, 0
        while connection.asked:
            order = connection.asked[0]
            if connection.skip is not None:
                begun = min(connection.skip, len(received) - at)
                at, connection.skip = at + begun, connection.skip - begun
                if connection.skip:
                    return at
                self.next(connection)
                self.alone([order], wire.ODD)
                continue
            head = connection.head
            if head is None:
                end = received.find(b"\r\n\r\n", at)
                if end < 0:
                    if not may_begin(received[at:]):
                        raise Odd
                    return at
                if end - at > MAX_HEADER:
                    raise Odd
                try:
                    head = connection.head = Head(received[at:end])
                except Odd as odd:
                    if odd.skip is None:
                        raise
                    connection.skip, at = odd.skip, end + 4
                    continue
                if head.length != order.size:
                    raise Odd
                at = end + 4
            if len(received) - at < order.size:
                return at
            self.write(order, memoryview(received)[at : at + order.size], head.etag, head.modified)
            at += order.size
            self.next(connection)
            if not head.keep:
                connection.head = head
                self.back(connection)
                return at
        return at

    def next(self, connection: Connection) -> None:
        connection.answered()
        connection.head, connection.skip = None, None
        connection.proven, self.address, self.barren = True, connection.address, 0
        connection.since = time.monotonic()

    # -- what goes wrong

    def odd(self, connection: Connection, reason: int) -> None:
        """The answer at hand is none for us; what was asked for after it is asked for again."""
        self.alone([connection.answered()], reason)
        self.broke(connection, tried=False)
        self.spoilt += 1
        if reason == wire.BUSY:
            self.end(reason)
        elif self.spoilt > BARREN + self.arrived // SPOILT:
            self.end(wire.GONE)

    def end(self, reason: int) -> None:
        """What is still answered is for nobody."""
        for connection in list(self.connections.values()):
            self.back(connection)
            self.forget(connection)
        self.give_up(reason)

    def broke(self, connection: Connection, *, tried: bool = True) -> None:
        """The connection is over. Servers close them after so many answers: that is nobody's fault."""
        if connection.connecting:
            self.address = max(self.address, connection.address + 1)
        elif not connection.proven:
            self.barren += 1
        if tried and connection.asked and (connection.received or not connection.proven):
            connection.asked[0].tries += 1
        self.back(connection)
        self.forget(connection)

    def back(self, connection: Connection) -> None:
        """What was asked for on it is to be done again."""
        self.again(connection.asked)
        connection.asked.clear()
        connection.ahead = 0

    def forget(self, connection: Connection) -> None:
        if connection.head is not None:
            self.discarded += len(connection.received)  # of a body that did not become complete
        with contextlib.suppress(OSError, ValueError):
            self.poll.unregister(connection.descriptor)
        self.connections.pop(connection.descriptor, None)
        connection.close()

    def expire(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections.values()):
            within = self.connect if connection.connecting else self.silence
            if (connection.asked or connection.connecting) and now - connection.since >= within:
                if connection.asked:
                    self.alone([connection.answered()], wire.ODD)
                self.broke(connection, tried=False)


def _tls(host: str, authorities: str | None) -> "Callable[[socket.socket], Secured]":
    """How a connected socket is made a secure one. None can be where the authorities cannot be read."""
    from cluster.courier import secured

    try:
        context = secured.context(authorities)
    except OSError as error:
        refusal = error

        def refused(connected: socket.socket) -> "Secured":
            raise refusal

        return refused
    return lambda connected: secured.Secured(connected, context, host)


def main(descriptor: int, folder: int) -> None:
    """See `desk.serve`."""
    serve(descriptor, lambda home, settings: Courier(home, folder, cast("wire.Settings", settings)))
