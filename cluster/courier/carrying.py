"""The carrier's process: asks siblings for bundles, checks what they send, writes it.

One thread, no event loop of asyncio, the standard library alone, as the courier that goes to origins
(`program`). What a sibling says of its files is passed on as it came; the bodies behind it are taken only in
the order, sizes and digests that follow from it, and never before it is known which of them are wanted.
"""

import contextlib
import errno
import hashlib
import os
import select
import signal
import socket
import ssl
import time
from typing import TYPE_CHECKING, cast

from cluster.courier import said, wire
from cluster.courier.groups import Disorder, Framed, Groups
from cluster.courier.response import Response, Unframed
from cluster.courier.secured import Secured, pinned
from cluster.store import small

if TYPE_CHECKING:
    from cluster.courier.said import Order, Place, Report, Written

READ = 2**18  # bytes taken at once
TOLD = 2**20  # bytes of what is told before the bodies
CONNECT = 3.0  # s, with the TLS handshake; a part of it for each address but the last:
EACH = 1.0
KEEP = 8.0  # s an idle connection is kept: less than the server's 10
TOGETHER = 128  # files of one report,
LATEST = 0.1  # s; or whatever there is by then, if only a sign that something arrives
TEXT = 200  # bytes of a refusal


class Connection:
    """One connection to a sibling, for one talk after the other."""

    def __init__(self, opened: socket.socket, place: int) -> None:
        self.socket: socket.socket | Secured = opened
        self.descriptor = opened.fileno()  # stays the same, whatever is made of the socket
        self.place = place
        self.talk: Talk | None = None
        self.events = 0  # that are polled for
        self.since = time.monotonic()  # when it became idle


class Talk:
    """One question, from the connection that is made for it to its last report."""

    def __init__(self, number: int, place: int, request: bytes, patience: float, window: float) -> None:
        self.number, self.place, self.request = number, place, request
        self.patience, self.window = patience, window
        self.connection: Connection | None = None
        self.address = 0  # of the place, that is being tried
        self.connected = self.reused = False
        self.connecting = 0.0  # s that it has waited for a connection
        self.sending = b""
        self.response = Response()
        self.framed = Framed()
        self.told = False
        self.groups: Groups | None = None
        self.orders: dict[int, Order] = {}
        self.prefix = b""
        self.text = b""  # of a refusal
        self.quiet = 0.0  # s that it has waited without a byte
        self.waited, self.received = 0.0, 0  # not yet reported
        self.written: list[Written] = []
        self.reported = 0.0
        self.signed = True  # whatever came has been reported

    @property
    def paused(self) -> bool:
        """Nothing is read before it is known what is wanted."""
        return self.told and self.groups is None

    def again(self) -> None:
        """From the beginning, on another connection."""
        self.connection, self.connected, self.reused = None, False, False
        self.response, self.sending = Response(), b""


class Over(Exception):
    """A talk is over: `sort` is one of `said.LAST`."""

    def __init__(self, sort: int, content: object = None) -> None:
        super().__init__(sort, content)
        self.sort, self.content = sort, content


class Carrier:
    """The whole of it: talks in, reports out."""

    def __init__(self, home: socket.socket, folder: int) -> None:
        self.home, self.folder = home, folder
        self.places: dict[int, Place] = {}
        self.contexts: dict[int, ssl.SSLContext] = {}
        self.talks: dict[int, Talk] = {}
        self.connections: dict[int, Connection] = {}
        self.frames = wire.Frames()
        self.poll = select.epoll()
        self.poll.register(home, select.EPOLLIN)
        self.unsent: list[bytes] = []

    def run(self) -> None:
        """Until whoever sent us is gone."""
        while True:
            began = time.monotonic()
            ready = self.poll.poll(self.pause(began))
            self.waited(time.monotonic() - began)
            for descriptor, events in ready:
                if descriptor == self.home.fileno():
                    if not self.listen():
                        return
                elif (connection := self.connections.get(descriptor)) is not None:
                    self.serve(connection, events)
            self.expire()
            self.report()

    # -- time

    def pause(self, now: float) -> float:
        """Seconds until something may be overdue."""
        least = 3600.0
        for talk in self.talks.values():
            if not talk.paused:
                least = min(least, self.patience(talk))
            if talk.written or not talk.signed:
                least = min(least, talk.reported + LATEST - now)
        for connection in self.connections.values():
            if connection.talk is None:
                least = min(least, connection.since + KEEP - now)
        return max(0.0, least) + 0.001

    def patience(self, talk: Talk) -> float:
        """Seconds that it may go on waiting."""
        if talk.response.begun:
            return talk.window - talk.quiet
        left = talk.patience - talk.quiet
        return left if talk.connected else min(left, self.to_connect(talk) - talk.connecting)

    def to_connect(self, talk: Talk) -> float:
        return CONNECT if talk.address + 1 >= len(self.places[talk.place][0]) else EACH

    def waited(self, seconds: float) -> None:
        """Only time that is spent on waiting counts: not what our own disk takes."""
        for talk in self.talks.values():
            if not talk.paused:
                talk.quiet += seconds
                talk.waited += seconds
                talk.connecting += seconds

    def expire(self) -> None:
        for talk in list(self.talks.values()):
            if talk.paused or self.patience(talk) > 0:
                continue
            begun, late = talk.response.begun, talk.quiet >= talk.patience
            if not begun and not late:
                self.broke(talk, OSError(errno.ETIMEDOUT, f"no connection within {CONNECT:g} s"))
            else:
                self.over(talk, said.LATE)
        now = time.monotonic()
        for connection in list(self.connections.values()):
            if connection.talk is None and now - connection.since >= KEEP:
                self.forget(connection)

    # -- with whoever sent us

    def listen(self) -> bool:
        data = wire.receive(self.home)
        for message in self.frames.feed(data):
            sort, number, *rest = cast("tuple[int, int, *tuple[object, ...]]", message)
            if sort == said.PLACE:
                self.places[number] = cast("Place", rest[0])
            elif sort == said.ASK:
                talk = self.talks[number] = Talk(
                    number, *cast("tuple[int, bytes, float, float]", tuple(rest))
                )
                self.go(talk)
            elif (asked := self.talks.get(number)) is not None:
                if sort == said.DROP:
                    self.over(asked, said.DROPPED)
                else:
                    self.take(asked, *cast("tuple[bytes, dict[int, int], list[Order]]", tuple(rest)))
        return bool(data)

    def report(self) -> None:
        """Waits while it is not read: then nothing more is read from siblings either."""
        now = time.monotonic()
        for talk in self.talks.values():
            late = now - talk.reported >= LATEST
            if len(talk.written) >= TOGETHER or (talk.written and late):
                self.tell(talk)
            elif not talk.signed and late:
                self.say(talk, said.SIGN, None)
        if self.unsent:
            frames, self.unsent = b"".join(self.unsent), []
            self.home.sendall(frames)

    def tell(self, talk: Talk) -> None:
        written, talk.written = talk.written, []
        if written:
            self.say(talk, said.WRITTEN, written)

    def say(self, talk: Talk, sort: int, content: object) -> None:
        report: Report = talk.number, sort, content, talk.waited, talk.received
        self.unsent.append(wire.frame(report))
        talk.waited, talk.received = 0.0, 0
        talk.reported, talk.signed = time.monotonic(), True

    # -- connections

    def go(self, talk: Talk) -> None:
        """Ask on a connection that is there already, or on a new one."""
        for connection in self.connections.values():
            if connection.talk is None and connection.place == talk.place:
                connection.talk, talk.connection = talk, connection
                talk.connected = talk.reused = True
                self.ask(talk)
                return
        self.connect(talk)

    def connect(self, talk: Talk) -> None:
        talk.connecting = 0.0
        family, address = self.places[talk.place][0][talk.address]
        try:
            opened = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self.broke(talk, error)
            return
        connection = Connection(opened, talk.place)
        connection.talk, talk.connection = talk, connection
        self.connections[connection.descriptor] = connection
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                opened.connect(address)
        except OSError as error:
            self.broke(talk, error)
            return
        self.want(connection, select.EPOLLOUT)

    def want(self, connection: Connection, events: int) -> None:
        """What to poll for; nothing at all where nothing is to be read."""
        before, connection.events = connection.events, events
        if before == events:
            return
        if not before:
            self.poll.register(connection.descriptor, events)
        elif events:
            self.poll.modify(connection.descriptor, events)
        else:
            self.poll.unregister(connection.descriptor)

    def forget(self, connection: Connection) -> None:
        self.want(connection, 0)
        del self.connections[connection.descriptor]
        connection.socket.close()

    def serve(self, connection: Connection, events: int) -> None:
        talk = connection.talk
        if talk is None:
            self.forget(connection)  # it is closed there, or sends what nobody asked for
            return
        try:
            if not talk.connected:
                self.shake_hands(talk, connection)
            else:
                if events & select.EPOLLOUT:
                    self.send(talk, connection)
                if events & ~select.EPOLLOUT:
                    self.read(talk, connection)
        except OSError as error:
            self.broke(talk, error)
        except Over as over:
            self.over(talk, over.sort, over.content)
        except (Unframed, Disorder) as error:
            self.over(talk, said.BROKE, str(error))

    def shake_hands(self, talk: Talk, connection: Connection) -> None:
        """A step on the way to being connected."""
        opened = connection.socket
        if isinstance(opened, socket.socket):
            if code := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            opened = connection.socket = Secured(opened, self.context(talk.place), None)
        wanted = opened.handshake()
        if wanted:
            self.want(connection, wanted)
            return
        talk.connected = True
        self.ask(talk)

    def context(self, place: int) -> ssl.SSLContext:
        if place not in self.contexts:
            _, key, certificate, trusted = self.places[place]
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            made.check_hostname = False
            self.contexts[place] = pinned(made, (key, certificate), trusted)
        return self.contexts[place]

    def broke(self, talk: Talk, error: OSError) -> None:
        """Its connection is over. That one which was kept was closed meanwhile is nobody's fault."""
        connected, unused = talk.connected, talk.reused and talk.response.silent
        verified = not isinstance(error, ssl.SSLCertVerificationError)
        last = talk.address + 1 >= len(self.places[talk.place][0])
        if unused or (not connected and verified and not last):
            if talk.connection is not None:
                self.forget(talk.connection)
            talk.address += not unused
            talk.again()
            self.connect(talk)
        elif isinstance(error, ssl.SSLCertVerificationError):
            self.over(talk, said.CERTIFICATE, (error.verify_code, error.verify_message))
        elif connected:
            self.over(talk, said.CUT, f"a body was cut off: {error}")
        else:
            self.over(talk, said.UNCONNECTED, (error.errno or 0, error.strerror or str(error)))

    # -- one talk

    def ask(self, talk: Talk) -> None:
        assert talk.connection is not None
        talk.sending = talk.request
        try:
            self.send(talk, talk.connection)
        except OSError as error:
            self.broke(talk, error)

    def send(self, talk: Talk, connection: Connection) -> None:
        while talk.sending:
            try:
                sent = connection.socket.send(talk.sending)
            except BlockingIOError:
                break
            talk.sending = talk.sending[sent:]
        self.want(connection, select.EPOLLIN | (select.EPOLLOUT if talk.sending else 0))

    def read(self, talk: Talk, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ)
        except BlockingIOError:
            return
        if data:
            talk.signed = False
            for piece in talk.response.feed(data):
                self.received(talk, piece)
            if talk.response.begun:
                talk.quiet = 0.0
        elif not talk.response.ended():
            raise OSError(errno.ECONNRESET, "it ends before its end")
        self.advance(talk)

    def received(self, talk: Talk, piece: memoryview) -> None:
        if talk.response.status != 200:
            talk.text = (talk.text + piece[:TEXT])[:TEXT]
            return
        talk.received += len(piece)
        talk.framed.feed(piece)

    def advance(self, talk: Talk) -> None:
        """Whatever is there of its answer. Raises Over at the end of it."""
        response = talk.response
        if response.begun and response.status != 200:
            if response.complete or len(talk.text) == TEXT:
                raise Over(said.REFUSED, (response.status, talk.text or response.reason))
            return
        if not talk.told:
            header = talk.framed.header(TOLD)
            if header is None:
                if response.complete:
                    raise Over(said.BROKE, "a bundle without its end")
                return
            talk.told = True
            self.say(talk, said.TOLD, header)
        if talk.groups is None:
            if talk.connection is not None:
                self.want(talk.connection, 0)
            return
        self.bodies(talk, talk.groups)
        if response.complete:
            if talk.groups.last is None:
                raise Over(said.BROKE, "a bundle without its end")
            raise Over(said.ENDED, (talk.groups.last, talk.groups.sent))

    def take(self, talk: Talk, prefix: bytes, sizes: dict[int, int], orders: "list[Order]") -> None:
        talk.prefix, talk.orders = prefix, {order[0]: order for order in orders}
        talk.groups = Groups(talk.framed, sizes)
        talk.quiet = 0.0
        try:
            self.advance(talk)
        except Over as over:
            self.over(talk, over.sort, over.content)
        except Disorder as error:
            self.over(talk, said.BROKE, str(error))
        else:
            if talk.connection is not None:
                self.want(talk.connection, select.EPOLLIN)

    def bodies(self, talk: Talk, groups: Groups) -> None:
        """Check and write what is complete. Nothing that is not what was promised is ever written."""
        for place, body in groups.files():
            order = talk.orders.pop(place, None)
            if order is None:
                continue
            number, sha256, *looks = order
            if hashlib.sha256(body).digest() != sha256:
                raise Over(said.DECEIVED)
            mode, uid, gid, mtime = cast("tuple[int, int, int, int | None]", tuple(looks))
            dressed = mode, uid, gid, mtime, sha256
            try:
                inode, on_disk, _ = small.write(self.folder, small.name(talk.prefix, number), dressed, body)
            except OSError as error:
                raise Over(said.FAILED, (number, error.errno or errno.EIO)) from None
            talk.written.append((number, inode, on_disk))

    def over(self, talk: Talk, sort: int, content: object = None) -> None:
        """Its last report. The connection is kept where its answer came to a good end."""
        self.tell(talk)
        self.say(talk, sort, content)
        del self.talks[talk.number]
        connection, response = talk.connection, talk.response
        if connection is None:
            return
        connection.talk, connection.since = None, time.monotonic()
        clean = response.complete and response.keep and not response.rest and not talk.sending
        if clean and sort in (said.ENDED, said.REFUSED):
            self.want(connection, select.EPOLLIN)
        else:
            self.forget(connection)


def main(descriptor: int, folder: int) -> None:
    """Ends with the one who started it, whose end of the socket is closed then, however it died.

    A terminal's interrupt and a service's stop reach the whole group: what is under way is finished.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as home, contextlib.suppress(OSError):
        Carrier(home, folder).run()
