"""One run of the rsync program: started, read, ended.

A child is a list of arguments, never a line for a shell, and leads a process group of its own, which is
killed as a whole when it is left early, cancelled, or silent for too long (HAZARDS 95). What it says on
standard error is kept up to a limit. It ends with this process, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cluster.child import drained, end_group
from cluster.errors import Unreachable

CHUNK = 256 * 2**10  # of standard output that are read at once
PIPE = 2**20  # bytes that may wait in the pipe of standard output: what Linux lets everybody ask for
SAID = 16 * 2**10  # bytes of standard error that are kept; the rest is read and dropped
MERCY = 2.0  # s between SIGTERM and SIGKILL
LINGER = 1.0  # s that somebody of its group may hold standard error open after its end
F_SETPIPE_SZ = 1031  # Linux; in `fcntl` from Python 3.10 on, and not in its stubs everywhere

INHERITED = ("PATH",)
_SETPRIV = shutil.which("setpriv")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit code, or minus the signal that ended it; and what it said to that."""

    code: int
    said: str


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a child: times in UTC, messages and numbers untranslated, and `more`."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, "TZ": "UTC", "LC_ALL": "C", **(more or {})}


@asynccontextmanager
async def started(
    command: Sequence[str | bytes],
    *,
    shown: str,
    given: bytes = b"",
    more: Mapping[str, str] | None = None,
    silence: float | None = None,
    stirring: Callable[[], object] | None = None,
) -> AsyncIterator[Child]:
    """Run `command` for as long as the block: who leaves it before the child has ended kills the child.

    `given` is its standard input, `more` is added to its environment (a secret belongs there, never among the
    arguments). After `silence` seconds without output, reading raises Unreachable, unless what `stirring`
    returns has changed in the second half of them. Errors speak of `shown`. Raises Unreachable where it
    cannot be started.
    """
    child = Child(shown, silence, stirring)
    try:
        await child.start(command, given, environment(more))
        yield child
    finally:
        await child.end()


class Child:
    """A running program. Made by `started`; read `output` to its end, then ask how it `ended`."""

    def __init__(self, shown: str, silence: float | None, stirring: Callable[[], object] | None) -> None:
        self._shown, self._silence, self._stirring = shown, silence, stirring
        self._process: asyncio.subprocess.Process | None = None
        self._output = -1
        self._said = bytearray()
        self._listening: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        pid = self._process.pid if self._process else None
        return f"<Child {pid} {self._shown}>"

    async def start(self, command: Sequence[str | bytes], given: bytes, environ: dict[str, str]) -> None:
        """See `started`."""
        # What it is given lies in memory: nobody has to write while it is read.
        source = os.memfd_create("given", os.MFD_CLOEXEC)
        ours, output = os.pipe()
        said, errors = os.pipe()
        self._output = ours
        try:
            _widen(ours)
            with os.fdopen(os.dup(source), "wb") as file:
                file.write(given)
            os.lseek(source, 0, os.SEEK_SET)
            tied = (_SETPRIV, "--pdeathsig", "TERM", "--") if _SETPRIV else ()
            self._process = await asyncio.create_subprocess_exec(
                *tied,
                *command,
                stdin=source,
                stdout=output,
                stderr=errors,
                env=environ,
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            os.close(said)
            raise Unreachable(self._shown, f"{_name(command)} cannot be started: {error}") from error
        except BaseException:
            os.close(said)
            raise
        finally:
            for descriptor in (source, output, errors):
                os.close(descriptor)
        self._listening = asyncio.create_task(drained(said, self._hear), name="rsync errors")

    async def output(self) -> AsyncIterator[bytes]:
        """What it writes to standard output, in pieces of any length. Raises Unreachable by silence."""
        os.set_blocking(self._output, False)
        while True:
            try:
                chunk = os.read(self._output, CHUNK)
            except BlockingIOError:
                await self._stirred()
                continue
            if not chunk:
                return
            yield chunk

    async def whole_lines(self) -> AsyncIterator[bytes]:
        """The same, in pieces that are complete lines with their ends; a last one that has none is left
        out."""
        rest = b""
        async for chunk in self.output():
            text = rest + chunk
            end = text.rfind(b"\n") + 1
            rest = text[end:]
            if end:
                yield text[:end]

    async def lines(self, pause: float = 0.0) -> AsyncIterator[list[bytes]]:
        """The same, line by line without their ends. With a
        `pause` (s) between two looks, a child that says little at a time is heard rarely."""
        rest = b""
        async for chunk in self.output():
            *complete, rest = (rest + chunk).split(b"\n")
            if complete:
                yield complete
            if pause:
                await asyncio.sleep(pause)

    async def ended(self) -> Ended:
        """Wait for its end, which comes soon after the end of its output. Raises Unreachable by silence."""
        assert self._process is not None and self._listening is not None
        try:
            async with asyncio.timeout(self._silence):
                code = await self._process.wait()
        except TimeoutError:
            raise self._silent() from None
        await asyncio.wait((self._listening,), timeout=LINGER)
        return Ended(code, self._said.decode("utf-8", "backslashreplace"))

    async def end(self) -> None:
        """Kill what still runs, and forget everything."""
        try:
            if self._process is not None and self._process.returncode is None:
                await end_group(self._process, MERCY)
                await self._process.wait()
            elif self._process is not None and self._listening is not None and not self._listening.done():
                with contextlib.suppress(ProcessLookupError):  # somebody of its group outlived it
                    os.killpg(self._process.pid, signal.SIGKILL)
        finally:
            if self._listening is not None:
                self._listening.cancel()
                await asyncio.gather(self._listening, return_exceptions=True)
            os.close(self._output)

    async def _stirred(self) -> None:
        """Until there is something to read. What stirs costs a look at everything that came, so that it is
        looked at only after half of the silence."""
        silence, before, looked = self._silence, None, False
        if silence is not None and self._stirring is not None:
            silence /= 2
        while True:
            try:
                async with asyncio.timeout(silence):
                    await _readable(self._output)
            except TimeoutError:
                now = self._stirring() if self._stirring else None
                if self._stirring is None or (looked and now == before):
                    raise self._silent() from None
                before, looked = now, True
            else:
                return

    def _silent(self) -> Unreachable:
        return Unreachable(self._shown, f"rsync said nothing for {self._silence:g} s")

    def _hear(self, chunk: bytes) -> None:
        """The beginning of what it says on standard error."""
        self._said.extend(chunk[: SAID - len(self._said)])


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _widen(pipe: int) -> None:
    """A wider pipe wakes both ends less often. Where the system grants none, it stays as it is."""
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, F_SETPIPE_SZ, PIPE)


def _name(command: Sequence[str | bytes]) -> str:
    return os.path.basename(os.fsdecode(command[0])) if command else "nothing"
