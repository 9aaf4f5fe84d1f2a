"""The link of one team, as the demo holds it: a relay process and what it tells."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from cluster.demo.processes import end_with_parent
from cluster.errors import StoreError


class ShapedLink:
    """A way to the origin's `port` with `rate` bytes/s and `delay` s one way, shared by all who use it."""

    def __init__(self, port: int, rate: float, delay: float) -> None:
        self._arguments = [str(rate), str(delay), str(port)]
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self.port = 0
        self.carried = 0  # bytes towards the sites: bodies and heads

    async def start(self) -> None:
        """Raises StoreError when the process does not say where it listens."""
        self._process = subprocess.Popen(  # noqa: ASYNC220  # it forks and is done
            [sys.executable, "-m", "cluster.demo.relay", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            preexec_fn=end_with_parent,  # noqa: PLW1509  # it only makes system calls
        )
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        if not line.endswith(b"\n"):
            raise StoreError("the demo's link: its process ended at once")
        self.port = int(line)
        os.set_blocking(self._process.stdout.fileno(), False)
        asyncio.get_running_loop().add_reader(self._process.stdout.fileno(), self._heard)

    def stop(self) -> None:
        """End the process, and every connection with it."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        self._process = None
        asyncio.get_running_loop().remove_reader(process.stdout.fileno())
        process.stdin.close()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _heard(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            told = os.read(self._process.stdout.fileno(), 65_536)
        except BlockingIOError:
            return
        if not told:
            asyncio.get_running_loop().remove_reader(self._process.stdout.fileno())
        *lines, self._unread = (self._unread + told).split(b"\n")
        if lines:
            self.carried = int(lines[-1])
