"""The courier's process for FTP: small files over several control connections, each with one transfer.

It takes only the plain case: a data connection that ends after as many bytes as are listed, and the server's
word that it has sent all. Whatever else comes is the caller's affair, who asks again by itself (`desk`).
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable
from typing import cast

from cluster.courier import wire
from cluster.courier.desk import APIECE, BARREN, READ, SPOILT, Desk, Order, serve
from cluster.courier.line import BINARY, FILE, GREETING, OPTION, PASS, PORT, USER, Broken, Line
from cluster.origin.ftp_replies import UNKNOWN, Reply, passive_port

LINGER = 2.0  # s that a connection is kept without anything to do: the pass may have use for its place
AHEAD = b"vsftpd"  # who reads a command when the transfer before it is over, and not earlier


class FtpCourier(Desk):
    """Each file costs EPSV and RETR; vsftpd is asked for the next port together with a file."""

    def __init__(self, home: socket.socket, folder: int, settings: wire.FtpSettings) -> None:
        super().__init__(home, folder)
        self.address, self.bind, self.user, self.password, self.utf8, self.extended, self.silence = settings
        self.lines: dict[int, Line] = {}  # by control connection,
        self.transfers: dict[int, Line] = {}  # and by data connection
        self.come: list[tuple[Order, bytes]] = []  # files that are not written yet
        self.allowed: int | None = None  # lines that the server has let in, where it has turned one away
        self.ahead = False

    # -- what Desk asks

    def assign(self) -> None:
        """The next files are on their way before those that have come are written."""
        worth = min(self.most, -(-len(self.todo) // APIECE) + len(self.transfers))
        if self.allowed is not None:
            worth = min(worth, self.allowed)
        while self.todo and len(self.lines) < worth and self.barren < BARREN and self.open():
            pass
        if self.todo and not self.lines:
            self.give_up(wire.GONE)
        for line in list(self.lines.values()) if self.todo else ():
            if line.idle and self.todo:
                self.attempt(line, self.ask)
        come, self.come = self.come, []
        for order, body in come:
            self.write(order, body)

    def happened(self, descriptor: int, events: int) -> None:
        if (line := self.transfers.get(descriptor)) is not None:
            self.attempt(line, self.take)
        elif (line := self.lines.get(descriptor)) is not None:
            self.attempt(line, self.hear)

    def busy(self) -> bool:
        return bool(self.come) or any(line.order is not None for line in self.lines.values())

    def overdue(self) -> float | None:
        due = [line.since + (LINGER if line.idle else self.silence) for line in self.lines.values()]
        return min(due) - time.monotonic() if due else None

    def expire(self) -> None:
        now = time.monotonic()
        for line in list(self.lines.values()):
            if now - line.since < (LINGER if line.idle else self.silence):
                continue
            if line.idle:
                self.leave(line)
                continue
            self.hand_back(line)
            self.broke(line)

    def shrink(self) -> None:
        for line in list(self.lines.values())[self.most :]:
            if line.idle:
                self.leave(line)
            else:
                if (order := line.order) is not None:
                    self.again([order])
                self.forget(line)

    # -- control connections

    def open(self) -> bool:
        """One more, if there can be one."""
        family, host, port = self.address
        try:
            opened = self.socket_to(family, (host, port))
        except OSError:
            return False
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines[opened.fileno()] = Line(opened)
        return True

    def socket_to(self, family: int, where: tuple[str, int]) -> socket.socket:
        """A socket that is being connected. Raises OSError."""
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            if self.bind is not None:
                opened.bind((self.bind, 0))
            with contextlib.suppress(BlockingIOError):
                opened.connect(where)
            self.poll.register(opened, select.EPOLLIN)
        except OSError:
            opened.close()
            raise
        return opened

    def attempt(self, line: Line, step: Callable[[Line], None]) -> None:
        try:
            step(line)
        except Broken as broken:
            if broken.turned_away:
                self.allowed = sum(other.ready for other in self.lines.values())
            self.broke(line)

    def hear(self, line: Line) -> None:
        """Raises Broken."""
        try:
            data = line.socket.recv(READ // 8)
        except BlockingIOError:
            return
        except OSError:
            raise Broken from None
        if not data:
            raise Broken
        for reply in line.replies(data):
            self.heard = True
            if reply.code == 421 or not line.awaited:
                raise Broken(turned_away=reply.code == 421 and not line.ready)
            if reply.code >= 200:
                self.answered(line, line.awaited.popleft(), reply)

    def answered(self, line: Line, kind: int, reply: Reply) -> None:
        """Raises Broken."""
        if kind == FILE:
            line.said = reply
            self.look(line)
        elif kind == PORT:
            self.told_port(line, reply)
        else:
            line.since = time.monotonic()
            self.welcomed(line, kind, reply)

    def welcomed(self, line: Line, kind: int, reply: Reply) -> None:
        """A step of the way in. Raises Broken."""
        if kind == GREETING and reply.code == 220:
            self.ahead = self.ahead or any(AHEAD in words.lower() for words in reply.lines)
            self.say(line, (USER, b"USER " + self.user))
        elif kind == USER and reply.code == 331:
            self.say(line, (PASS, b"PASS " + self.password))
        elif kind in (USER, PASS) and reply.code in (230, 232, 202):
            self.say(line, (BINARY, b"TYPE I"), *([(OPTION, b"OPTS UTF8 ON")] if self.utf8 else []))
        elif kind == BINARY and reply.good:
            line.ready = True
        elif kind != OPTION:
            raise Broken(turned_away=kind in (USER, PASS) and reply.code == 530)

    def say(self, line: Line, *commands: tuple[int, bytes]) -> None:
        """Raises Broken."""
        self.requests += len(commands)
        line.say(*commands)

    # -- files

    def ask(self, line: Line) -> None:
        """One more. Raises Broken."""
        order = line.order = self.todo.popleft()
        if b"\n" in order.target or b"\r" in order.target or b"\0" in order.target:
            self.hand_back(line)
            return
        line.since = time.monotonic()
        if line.port is None:
            self.want_port(line)
        else:
            self.fetch(line, line.port)

    def want_port(self, line: Line) -> None:
        self.say(line, (PORT, b"EPSV" if self.extended else b"PASV"))

    def told_port(self, line: Line, reply: Reply) -> None:
        """Raises Broken."""
        line.port = passive_port(reply)
        if line.port is not None:
            if line.order is not None and not line.begun:
                self.fetch(line, line.port)
        elif line.order is None or line.begun:
            self.ahead = False  # it was asked too early
        elif self.extended and reply.code in UNKNOWN and self.address[0] == socket.AF_INET:
            self.extended = False
            self.want_port(line)
        else:
            self.hand_back(line)
            self.spoil()

    def fetch(self, line: Line, port: int) -> None:
        """Raises Broken."""
        order = line.order
        assert order is not None, "a port is wanted for a file"
        family, host, _ = self.address
        try:
            data = self.socket_to(family, (host, port))
        except OSError:
            raise Broken from None
        self.transfers[data.fileno()] = line
        line.begin(data)
        commands = [(FILE, b"RETR " + order.target)]
        if self.ahead and self.todo:
            commands.append((PORT, b"EPSV" if self.extended else b"PASV"))
        self.say(line, *commands)

    def take(self, line: Line) -> None:
        """What has come of a file. Raises Broken."""
        order, data = line.order, line.data
        assert order is not None and data is not None, "a transfer is under way"
        while True:
            wanted = order.size + 1 - line.received  # its end is seen as soon as its last byte
            try:
                piece = data.recv(min(READ, wanted))
            except BlockingIOError:
                return
            except OSError:
                raise Broken from None
            if not piece:
                self.transfers.pop(data.fileno())
                line.end_data()
                self.look(line)
                return
            self.heard = True
            line.pieces.append(piece)
            line.received += len(piece)
            if line.received > order.size:
                self.hand_back(line)
                raise Broken
            if line.received < order.size:
                return

    def look(self, line: Line) -> None:
        """Whether the file at hand is over, and good."""
        said = line.said
        if said is None or not line.over:
            return
        if line.data is not None:
            self.transfers.pop(line.data.fileno())
        order = line.order
        assert order is not None, "a transfer was under way"
        if said.good and line.received == order.size:
            self.come.append((order, b"".join(line.pieces)))
            line.done()
            line.proven, self.barren = True, 0
        else:
            spoilt = said.good or line.received > 0
            self.hand_back(line)
            if spoilt:
                self.spoil()

    # -- what goes wrong

    def hand_back(self, line: Line) -> None:
        """The file at hand has to be asked for by itself."""
        if line.data is not None:
            self.transfers.pop(line.data.fileno(), None)
        self.discarded += line.received if line.begun else 0
        if (order := line.done()) is not None:
            self.alone([order], wire.ODD)

    def spoil(self) -> None:
        self.spoilt += 1
        if self.spoilt > BARREN + self.arrived // SPOILT:
            for line in list(self.lines.values()):
                if (order := line.order) is not None:
                    self.again([order])
                self.forget(line)
            self.give_up(wire.GONE)

    def broke(self, line: Line) -> None:
        """The connection is over. Servers close them after so many files: that is nobody's fault."""
        if not line.proven:
            self.barren += 1
        if (order := line.order) is not None:
            order.tries += line.begun
            self.again([order])
        self.forget(line)

    def leave(self, line: Line) -> None:
        with contextlib.suppress(Broken):
            line.say((OPTION, b"QUIT"))
        self.forget(line)

    def forget(self, line: Line) -> None:
        if line.data is not None:
            self.transfers.pop(line.data.fileno(), None)
        self.discarded += line.received if line.begun else 0
        line.done()
        self.lines.pop(line.descriptor, None)
        line.close()


def main(descriptor: int, folder: int) -> None:
    """See `desk.serve`."""
    serve(descriptor, lambda home, settings: FtpCourier(home, folder, cast("wire.FtpSettings", settings)))
