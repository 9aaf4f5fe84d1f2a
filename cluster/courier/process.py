"""A program of this package in a process beside ours, with a socket between the two."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from cluster.courier import wire

PATIENCE = 5.0  # s that it has to end
_PACKAGES = str(Path(__file__).parents[2])
_RUN = (
    "import sys; sys.path.append(sys.argv[3]); "
    "program = __import__(sys.argv[4], fromlist=['main']); program.main(*map(int, sys.argv[1:3]))"
)


class Process:
    """`main` of a module of this folder, called with its end of the socket and a folder of temporaries."""

    def __init__(self, program: subprocess.Popen[bytes], home: socket.socket) -> None:
        self._program, self._home = program, home
        self.pid = program.pid

    @classmethod
    async def start(cls, module: str, folder: int) -> Self:
        """`folder` is an open directory. Raises OSError."""
        launching = asyncio.get_running_loop().run_in_executor(None, _launched, module, folder)
        try:
            return cls(*await asyncio.shield(launching))
        except asyncio.CancelledError:
            launching.add_done_callback(_unwanted)
            await asyncio.wait([launching])  # some ms: it cannot be called back
            raise

    async def send(self, frames: bytes) -> None:
        """Raises OSError where the process is gone. Cancelled, it may have sent a part: then end it."""
        await asyncio.get_running_loop().sock_sendall(self._home, frames)

    async def messages(self) -> AsyncIterator[object]:
        """Until the process is gone."""
        loop, frames = asyncio.get_running_loop(), wire.Frames()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(self._home, 2**18):
                for message in frames.feed(data):
                    yield message

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


def _launched(module: str, folder: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        with theirs:
            home = theirs.fileno()
            # Without site-packages and environment (-I -S) it is there in 30 ms.
            arguments = [str(home), str(folder), _PACKAGES, f"cluster.courier.{module}"]
            command = [sys.executable, "-I", "-S", "-c", _RUN, *arguments]
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
