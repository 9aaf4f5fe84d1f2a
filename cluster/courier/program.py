"""The courier's process: asks for small files over few connections, several in flight on each; writes them.

One thread, no event loop of asyncio, nothing but the standard library: a file costs the system calls and a
few microseconds beside them. It takes only the plain answer: 200, one Content-Length that is the listed
size, nothing folded, nothing chunked. Whatever else comes is the caller's affair, who asks again by itself.
"""

import contextlib
import errno
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from cluster.courier import wire
from cluster.courier.head import MAX_HEADER, Head, Odd, may_begin
from cluster.store import small

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.courier.secured import Secured

LEAST, DEPTH = 16, 64  # requests in flight on a connection that has answered one: so many, later more,
AHEAD = 2**19  # with so many bytes of files: a far origin sends as much in one round trip
GAIN = 3  # plain answers that allow for one more
APIECE = 8  # files that are worth one connection more
TRIES = 3  # connections that a file may see break before it is asked for alone
READ = 2**18  # bytes taken at once
TOGETHER = 64  # files of one report,
LATEST = 0.2  # s; or whatever there is by then, if only a sign that something arrives
BARREN = 8  # connections in a row that ended without an answer: the origin is as good as gone,
SPOILT = 16  # and so it is where more than one in so many answers ends its connection: each costs the others


class Order:
    """One file that is to be fetched."""

    __slots__ = ("errand", "looks", "number", "size", "target", "temporary", "tries")

    def __init__(self, errand: int, prefix: bytes, file: wire.File) -> None:
        self.errand = errand
        self.number, self.target, self.size, self.looks = file
        self.temporary = small.name(prefix, self.number)
        self.tries = 0


def _kept(listed: int | None) -> int | None:
    """A listed time (ns), as far as it can be kept: as in `store.appearance`."""
    return None if listed is None else max(-(2**63) + 1, min(listed, 2**63 - 1))


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


class Courier:
    """The whole of it: errands in, reports out."""

    def __init__(self, home: socket.socket, folder: int, settings: wire.Settings) -> None:
        self.home, self.folder = home, folder
        self.addresses, self.bind, self.head, self.tail, self.connect, self.silence, tls = settings
        self.tls = None if tls is None else _tls(*tls)
        self.most = 1
        self.todo: deque[Order] = deque()
        self.connections: dict[int, Connection] = {}
        self.frames = wire.Frames()
        self.poll = select.epoll()
        self.poll.register(home, select.EPOLLIN)
        self.reports: dict[int, wire.Report] = {}
        self.gathered = 0
        self.reported = time.monotonic()
        self.address = 0  # the first of the origin's to which connections can be made, as far as we know
        self.barren = 0  # connections in a row that ended without an answer
        self.spoilt = 0  # connections that an odd answer ended
        self.arrived = 0
        self.over: int | None = None  # why nothing is asked for any more
        self.heard = False  # something has arrived since the last report
        self.requests = self.discarded = 0  # not yet reported

    def run(self) -> None:
        """Until whoever sent us is gone."""
        while True:
            self.assign()
            for descriptor, events in self.poll.poll(self.pause()):
                if descriptor == self.home.fileno():
                    if not self.listen():
                        return
                elif (connection := self.connections.get(descriptor)) is not None:
                    self.serve(connection, events)
            self.expire()
            if (self.gathered or self.heard) and self.due():
                self.report()

    def due(self) -> bool:
        """Whether to tell now what was gathered: enough, old enough, or nothing more is under way."""
        if self.gathered >= TOGETHER or time.monotonic() - self.reported >= LATEST:
            return True
        return not self.todo and not any(c.asked for c in self.connections.values())

    def pause(self) -> float:
        """Seconds until something may be overdue."""
        waiting = [
            c.since + (self.connect if c.connecting else self.silence)
            for c in self.connections.values()
            if c.asked or c.connecting
        ]
        if not waiting:
            return 0.0 if self.todo or self.gathered else -1
        if self.gathered or self.heard:
            return LATEST
        return max(0.0, min(waiting) - time.monotonic()) + 0.01

    # -- with whoever sent us

    def listen(self) -> bool:
        data = wire.receive(self.home)
        for errand in self.frames.feed(data):
            number, prefix, self.most, files = cast("wire.Errand", errand)
            self.todo.extend(Order(number, prefix, file) for file in files)
            for connection in list(self.connections.values())[self.most :]:
                self.back(connection)
                self.forget(connection)  # fewer are lent now than before
        if self.over is not None:
            self.give_up(self.over)
        return bool(data)

    def _report_of(self, order: Order) -> wire.Report:
        self.gathered += 1
        return self.reports.setdefault(order.errand, (order.errand, [], [], [], 0, 0))

    def alone(self, orders: Iterable[Order], reason: int) -> None:
        for order in orders:
            self._report_of(order)[2].append((order.number, reason))

    def report(self) -> None:
        """Waits while it is not read: then nothing more is fetched either."""
        frames = []
        for errand, arrived, alone, failed, *_ in self.reports.values():
            frames.append(wire.frame((errand, arrived, alone, failed, self.requests, self.discarded)))
            self.requests = self.discarded = 0
        if not frames:
            frames.append(wire.frame((wire.SIGN, [], [], [], 0, 0)))
        self.home.sendall(b"".join(frames))
        self.reports, self.gathered, self.reported = {}, 0, time.monotonic()
        self.heard = False

    # -- with the origin

    def assign(self) -> None:
        """Give every connection its share of what is to be done; open more of them as long as that helps."""
        worth = min(self.most, -(-len(self.todo) // APIECE))
        while len(self.connections) < worth and self.barren < BARREN and self.open():
            pass
        if self.todo and not self.connections:
            self.give_up(wire.GONE)
        for connection in list(self.connections.values()):
            depth = self.depth if connection.proven else 1
            if self.todo and not connection.connecting and connection.has_room(depth):
                self.ask(connection, depth)

    def give_up(self, reason: int) -> None:
        """Nothing more is asked for, also of what comes to be done later."""
        self.over = reason
        self.alone(self.todo, reason)
        self.todo.clear()

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
            self.write(order, head, memoryview(received)[at : at + order.size])
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

    def write(self, order: Order, head: Head, body: memoryview) -> None:
        mode, uid, gid, listed = order.looks
        mtime = head.modified * 10**9 if head.modified is not None else _kept(listed)
        try:
            inode, on_disk, sha256 = small.write(
                self.folder, order.temporary, (mode, uid, gid, mtime, None), body
            )
        except OSError as error:
            self._report_of(order)[3].append((order.number, error.errno or errno.EIO))
            return
        self.arrived += 1
        self._report_of(order)[1].append((order.number, inode, on_disk, sha256, head.etag, head.modified))

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
        """What was asked for and not answered is to be done again."""
        lost = [order for order in connection.asked if order.tries >= TRIES]
        self.todo.extendleft(order for order in reversed(connection.asked) if order.tries < TRIES)
        connection.asked.clear()
        connection.ahead = 0
        self.alone(lost, wire.ODD)

    def forget(self, connection: Connection) -> None:
        if connection.head is not None:
            self.discarded += len(connection.received)  # of a body that did not become complete
        with contextlib.suppress(OSError, ValueError):
            self.poll.unregister(connection.descriptor)
        self.connections.pop(connection.descriptor, None)
        connection.close()

    def expire(self) -> None:
        """An answer that is not complete in time is somebody else's affair."""
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
    """Ends with the one who started it, whose end of the socket is closed then, however it died.

    A terminal's interrupt and a service's stop reach the whole group: what is under way is finished.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as home, contextlib.suppress(OSError):
        size = home.recv(wire.LENGTH.size, socket.MSG_WAITALL)
        if len(size) < wire.LENGTH.size:
            return
        (length,) = wire.LENGTH.unpack(size)
        settings = home.recv(length, socket.MSG_WAITALL)
        if len(settings) == length:
            Courier(home, folder, cast("wire.Settings", wire.value(settings))).run()
