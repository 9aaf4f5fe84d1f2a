"""The courier's program on a thread of the test, and one who sends it on errands and hears its reports.

Every file must come back exactly once; what arrived must be on disk as it was asked for, and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster.courier import wire
from cluster.courier.desk import Desk
from cluster.courier.ftp_program import FtpCourier
from cluster.courier.line import Line
from cluster.courier.program import Connection, Courier
from cluster.store.small import name

MTIME = 1_600_000_000 * 10**9
PATIENCE = 50.0  # s that a test waits for what must come


@dataclass
class Outcome:
    """What became of the files, by target. `alone` has the reason, `failed` the errno."""

    arrived: dict[str, bytes] = field(default_factory=dict)
    told: dict[str, wire.Arrived] = field(default_factory=dict)
    alone: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    discarded: int = 0

    def __len__(self) -> int:
        return len(self.arrived) + len(self.alone) + len(self.failed)


class Errands:
    """`async with Errands(port, folder)`: the program for one server, until the block ends."""

    def __init__(
        self,
        port: int,
        folder: Path,
        *,
        connections: int = 1,
        addresses: Sequence[tuple[int, str, int]] | None = None,
        bind: str | None = None,
        silence: float = 5.0,
        connect: float = 2.0,
        mode: int = 0o640,
        tls: tuple[str, str | None] | None = None,
    ) -> None:
        self.folder, self.connections, self.mode = folder, connections, mode
        places = tuple(addresses or [(int(socket.AF_INET), "127.0.0.1", port)])
        tail = b" HTTP/1.1\r\nHost: origin\r\n\r\n"
        self._settings = (places, bind, b"GET /", tail, connect, silence, tls)
        self._jobs: dict[int, list[tuple[str, int]]] = {}
        self._open: set[tuple[int, int]] = set()
        self._expected: set[str] = set()
        self._frames = wire.Frames()
        self._raised: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self._directory = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        self._home, self._theirs = socket.socketpair()
        self._home.setblocking(False)
        self.program: Any = self._made()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _made(self) -> Desk:
        return Courier(self._theirs, self._directory, self._settings)

    def _connections(self) -> Sequence[Connection | Line]:
        return list(self.program.connections.values())

    def _run(self) -> None:
        try:
            self.program.run()
        except BaseException as error:
            self._raised.append(error)
        finally:
            self._theirs.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._home.close()
        await asyncio.to_thread(self._thread.join, PATIENCE)
        alive = self._thread.is_alive()
        for connection in self._connections():
            connection.close()
        os.close(self._directory)
        if kind is None:
            assert not alive, "the program does not end with its master"
            assert not self._raised, self._raised
            assert set(os.listdir(self.folder)) == self._expected

    async def send(self, files: Sequence[tuple[str, int]], mtime: int | None = MTIME) -> None:
        """An errand for these (target, size)."""
        number = len(self._jobs) + 1
        self._jobs[number] = list(files)
        self._open |= {(number, which) for which in range(len(files))}
        wanted = [(i, t.encode(), size, (self.mode, -1, -1, mtime)) for i, (t, size) in enumerate(files)]
        errand = (number, b"e%d" % number, self.connections, wanted)
        await asyncio.get_running_loop().sock_sendall(self._home, wire.frame(errand))

    async def outcome(self) -> Outcome:
        """When everything that was sent for is settled."""
        found = Outcome()
        async with asyncio.timeout(PATIENCE):
            while self._open:
                data = await asyncio.get_running_loop().sock_recv(self._home, 2**18)
                assert data, f"the program ended by itself: {self._raised}"
                for report in self._frames.feed(data):
                    self._note(report, found)
        return found

    def _note(self, report: Any, found: Outcome) -> None:
        number, arrived, alone, failed, requests, discarded = report
        found.requests += requests
        found.discarded += discarded
        for one in arrived:
            target = self._settle(number, one[0])
            found.arrived[target] = self._body(number, one)
            found.told[target] = one
        for which, reason in alone:
            found.alone[self._settle(number, which)] = reason
        for which, code in failed:
            found.failed[self._settle(number, which)] = code
            self._expected |= {
                t for t in os.listdir(self.folder) if t == os.fsdecode(name(b"e%d" % number, which))
            }

    def _settle(self, number: int, which: int) -> str:
        assert (number, which) in self._open, f"file {which} of errand {number} is reported twice"
        self._open.remove((number, which))
        return self._jobs[number][which][0]

    def _body(self, number: int, one: wire.Arrived) -> bytes:
        """The temporary, which must be what the report says."""
        which, inode, on_disk, sha256, _, modified = one
        temporary = os.fsdecode(name(b"e%d" % number, which))
        self._expected.add(temporary)
        body = (self.folder / temporary).read_bytes()
        found = os.lstat(self.folder / temporary)
        assert (found.st_ino, found.st_mtime_ns) == (inode, on_disk)
        assert stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == self.mode
        assert hashlib.sha256(body).digest() == sha256
        assert len(body) == self._jobs[number][which][1]
        if modified is not None:
            assert on_disk == modified * 10**9
        return body


class FtpErrands(Errands):
    """The same for an FTP server."""

    def __init__(self, port: int, folder: Path, *, extended: bool = True, **settings: Any) -> None:
        super().__init__(port, folder, **settings)
        addresses, bind, *_, silence, _ = self._settings
        self._ftp = (addresses[0], bind, b"guest", b"word", True, extended, silence)

    def log_in(self, user: str, password: str) -> None:
        """As this one, from now on."""
        self._ftp = (*self._ftp[:2], user.encode(), password.encode(), *self._ftp[4:])

    def _made(self) -> Desk:
        return FtpCourier(self._theirs, self._directory, self._ftp)

    def _connections(self) -> Sequence[Connection | Line]:
        return list(self.program.lines.values())


async def fetched(errands: Errands, *files: tuple[str, int]) -> Outcome:
    """One errand, and what became of it."""
    await errands.send(files)
    return await errands.outcome()
