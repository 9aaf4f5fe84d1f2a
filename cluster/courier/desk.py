"""What couriers have in common: errands in, files written, reports out. Only the standard library.

One thread, no event loop of asyncio: a file costs the system calls and a few microseconds beside them. Only
the plain case is dealt with; whatever else comes is the caller's affair, who asks again by itself.
"""

import contextlib
import errno
import select
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

from cluster.courier import wire
from cluster.store import small

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


class Desk(ABC):
    """A courier without its way to the origin."""

    def __init__(self, home: socket.socket, folder: int) -> None:
        self.home, self.folder = home, folder
        self.most = 1  # connections that may be open
        self.todo: deque[Order] = deque()
        self.frames = wire.Frames()
        self.poll = select.epoll()
        self.poll.register(home, select.EPOLLIN)
        self.reports: dict[int, wire.Report] = {}
        self.gathered = 0
        self.reported = time.monotonic()
        self.barren = 0  # connections in a row that ended without an answer
        self.spoilt = 0  # connections that an odd answer ended
        self.arrived = 0
        self.over: int | None = None  # why nothing is asked for any more
        self.heard = False  # something has arrived since the last report
        self.requests = self.discarded = 0  # not yet reported

    def run(self) -> None:
        """Until whoever sent us is gone."""
        home = self.home.fileno()
        while True:
            self.assign()
            for descriptor, events in self.poll.poll(self.pause()):
                if descriptor == home:
                    if not self.listen():
                        return
                else:
                    self.happened(descriptor, events)
            self.expire()
            if (self.gathered or self.heard) and self.due():
                self.report()

    # -- the way to the origin

    @abstractmethod
    def assign(self) -> None:
        """Give every connection its share of what is to be done; open more of them as long as that helps."""

    @abstractmethod
    def happened(self, descriptor: int, events: int) -> None:
        """Something that poll was asked to watch."""

    @abstractmethod
    def busy(self) -> bool:
        """Whether anything is asked for and has not come."""

    @abstractmethod
    def overdue(self) -> float | None:
        """Seconds until something may be; None where nothing is waited for."""

    @abstractmethod
    def expire(self) -> None:
        """An answer that is not complete in time is somebody else's affair."""

    @abstractmethod
    def shrink(self) -> None:
        """No more connections than `most`, which may be fewer than before."""

    # -- with whoever sent us

    def due(self) -> bool:
        """Whether to tell now what was gathered: enough, old enough, or nothing more is under way."""
        if self.gathered >= TOGETHER or time.monotonic() - self.reported >= LATEST:
            return True
        return not self.todo and not self.busy()

    def pause(self) -> float:
        """Seconds until there is something to do, whatever happens."""
        if self.gathered and not self.todo and not self.busy():
            return 0.0
        left = self.overdue()
        if left is None:
            return 0.0 if self.todo or self.gathered else -1
        if self.gathered or self.heard:
            return LATEST
        return max(0.0, left) + 0.01

    def listen(self) -> bool:
        data = wire.receive(self.home)
        for errand in self.frames.feed(data):
            number, prefix, self.most, files = cast("wire.Errand", errand)
            self.todo.extend(Order(number, prefix, file) for file in files)
            self.shrink()
        if self.over is not None:
            self.give_up(self.over)
        return bool(data)

    def _report_of(self, order: Order) -> wire.Report:
        self.gathered += 1
        return self.reports.setdefault(order.errand, (order.errand, [], [], [], 0, 0))

    def alone(self, orders: Iterable[Order], reason: int) -> None:
        for order in orders:
            self._report_of(order)[2].append((order.number, reason))

    def again(self, orders: Iterable[Order]) -> None:
        """What was asked for and not answered is to be done again; what has seen too much break, alone."""
        orders = list(orders)
        self.todo.extendleft(order for order in reversed(orders) if order.tries < TRIES)
        self.alone((order for order in orders if order.tries >= TRIES), wire.ODD)

    def give_up(self, reason: int) -> None:
        """Nothing more is asked for, also of what comes to be done later."""
        self.over = reason
        self.alone(self.todo, reason)
        self.todo.clear()

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

    # -- files

    def write(
        self, order: Order, body: bytes | memoryview, etag: str | None = None, modified: int | None = None
    ) -> None:
        """`modified`: s since 1970, where the origin has said more than was listed."""
        mode, uid, gid, listed = order.looks
        mtime = modified * 10**9 if modified is not None else _kept(listed)
        try:
            inode, on_disk, sha256 = small.write(
                self.folder, order.temporary, (mode, uid, gid, mtime, None), body
            )
        except OSError as error:
            self._report_of(order)[3].append((order.number, error.errno or errno.EIO))
            return
        self.arrived += 1
        self._report_of(order)[1].append((order.number, inode, on_disk, sha256, etag, modified))


def serve(descriptor: int, begin: Callable[[socket.socket, object], Desk]) -> None:
    """Run what `begin` makes of our end of the socket and the settings. Ends with the one who started it,
    whose end of the socket is closed then, however it died.

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
            begin(home, wire.value(settings)).run()
