"""Our end of the courier: its process, and what is said to it (`wire`)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cluster.courier import wire

if TYPE_CHECKING:
    from cluster.origin.base import Plain

PATIENCE = 5.0  # s that the process has to end
_PACKAGES = str(Path(__file__).parents[2])
_RUN = (
    "import sys; sys.path.append(sys.argv[3]); "
    "from cluster.courier.program import main; main(*map(int, sys.argv[1:3]))"
)


class Courier:
    """A process that fetches from one origin into one folder of temporaries."""

    def __init__(self, program: subprocess.Popen[bytes], home: socket.socket) -> None:
        self._program, self._home = program, home
        self._sending = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Courier {self._program.pid}>"

    @classmethod
    async def start(cls, plain: Plain, folder: int) -> Courier:
        """One for what the origin lent; `folder` is an open directory. Raises OSError."""
        loop = asyncio.get_running_loop()
        launching = loop.run_in_executor(None, _launched, folder)
        try:
            started = cls(*await asyncio.shield(launching))
        except asyncio.CancelledError:
            launching.add_done_callback(_unwanted)
            await asyncio.wait([launching])  # some ms: it cannot be called back
            raise
        settings = (
            plain.addresses,
            plain.bind,
            plain.head,
            plain.tail,
            plain.connect,
            plain.silence,
            plain.tls,
        )
        try:
            await loop.sock_sendall(started._home, wire.frame(settings))
        except BaseException:
            await started.close()
            raise
        return started

    async def send(self, errand: wire.Errand) -> None:
        """Raises OSError where the process is gone."""
        async with self._sending:
            await asyncio.get_running_loop().sock_sendall(self._home, wire.frame(errand))

    async def reports(self) -> AsyncIterator[wire.Report]:
        """Until the process is gone."""
        loop, frames = asyncio.get_running_loop(), wire.Frames()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(self._home, 2**18):
                for report in frames.feed(data):
                    yield cast("wire.Report", report)

    async def close(self) -> None:
        """It ends when our end of the socket is shut, or is killed; afterwards it writes nothing more."""
        with contextlib.suppress(OSError):
            self._home.shutdown(socket.SHUT_RDWR)  # whoever is still sending hears of it as well
        await asyncio.to_thread(self._gone)
        self._home.close()

    def _gone(self) -> None:
        try:
            self._program.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._program.kill()
            self._program.wait()


def _launched(folder: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        with theirs:
            home = theirs.fileno()
            # Without site-packages and environment (-I -S) it is there in 30 ms.
            command = [sys.executable, "-I", "-S", "-c", _RUN, str(home), str(folder), _PACKAGES]
            # In a group of its own a terminal's interrupt does not reach it before it can ignore that.
            program = subprocess.Popen(
                command, pass_fds=[home, folder], stdin=subprocess.DEVNULL, process_group=0
            )
    except BaseException:
        ours.close()
        raise
    return program, ours


def _unwanted(launching: asyncio.Future[tuple[subprocess.Popen[bytes], socket.socket]]) -> None:
    if launching.cancelled() or launching.exception() is not None:
        return
    program, ours = launching.result()
    program.kill()
    program.wait()
    ours.close()
