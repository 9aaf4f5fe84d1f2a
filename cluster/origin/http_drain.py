"""The rest of a large body, received by a thread of its own.

On the event loop every few hundred kilobytes cost a turn of it, a future and two hand-overs to threads: a
fifth of what a large copy cost. A thread that waits in recv(2) fills, hashes and hands over megabytes.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster.errors import Unreachable
from cluster.model import href
from cluster.origin.http_session import told, too_slow

if TYPE_CHECKING:
    from cluster.origin.base import Vessel
    from cluster.origin.http_session import Patience


class Drain:
    """What `http_stream.Stream.detach` gave: bytes that are here, and the connection on which the rest comes.

    `run` belongs to the thread. `received` may be looked at by anybody; `stop` and `close` are called from
    the event loop, `close` when the thread is done.
    """

    def __init__(
        self,
        path: bytes,
        here: Sequence[memoryview],
        connection: socket.socket,
        length: int,
        silence: float,
        patience: Patience,
    ) -> None:
        self.received = 0
        self._path, self._here, self._connection, self._length = path, here, connection, length
        self._silence, self._patience = silence, patience

    def run(self, vessel: Vessel) -> None:
        """Put all of it into `vessel`. Raises Unreachable, and what `vessel` raises."""
        for piece in self._here:
            self._put(piece, vessel)
        self._here = ()
        try:
            self._receive(vessel)
        except BlockingIOError:
            silent = f"silent for {self._silence:g} s after {self.received} bytes"
            raise Unreachable(href(self._path), silent) from None
        except OSError as error:
            raise told(self._path, error, self.received) from None

    def stop(self) -> None:
        """Let `run` end soon."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()

    def _put(self, piece: memoryview, vessel: Vessel) -> None:
        while piece:
            room = vessel.room()
            some = piece[: len(room)]
            room[: len(some)] = some
            vessel.took(len(some))
            self.received += len(some)
            piece = piece[len(some) :]

    def _receive(self, vessel: Vessel) -> None:
        connection, clock = self._connection, time.monotonic
        connection.setblocking(True)
        seconds, rest = divmod(self._silence, 1.0)
        wait = struct.pack("ll", int(seconds), int(rest * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
        waited, mark = 0.0, self.received
        while self.received < self._length:
            room = vessel.room()[: self._length - self.received]
            before = clock()
            count = connection.recv_into(room)
            waited += clock() - before
            if not count:
                raise ConnectionError("the connection broke")
            vessel.took(count)
            self.received += count
            if waited >= self._patience.low_window:
                too_slow(self._path, self.received - mark, waited, self.received, self._patience)
                waited, mark = 0.0, self.received
