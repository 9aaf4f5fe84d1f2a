"""The daemon's control socket, `STATE/control.sock`: JSON lines, mode 0600, one request a connection.

Request: `{"command": "pass", "mirror": "debian", ...}`. Answer: any number of `{"event": ...}` lines while it
goes on, then one `{"result": ...}` or `{"error": "one line", "status": 1}`. Whoever can open the socket may
command the site: it is owned by the site's user.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from cluster.caller import Message, Tell, beside, gone, line, path_of, taken
from cluster.errors import SidewaysError, StoreError, UsageError

__all__ = ["Command", "ControlServer", "Message", "Tell", "ask", "path_of"]

Command = Callable[[Message, Tell], Awaitable[Message]]

MAX_LINE = 2**20
SILENCE = 5.0  # s in which a request must arrive


class ControlServer:
    """Serves `commands` by name. Sockets are bound by their folder: a path may be longer than 107 bytes."""

    def __init__(self, state: str, commands: dict[str, Command]) -> None:
        self._path, self._commands = path_of(state), commands
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises StoreError when another daemon answers on this socket."""
        if await _answers(self._path):
            raise StoreError(f"{self._path}: another daemon of this site answers here")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with beside(self._path) as name:
            old = os.umask(0o177)
            try:
                listener.bind(name)
            finally:
                os.umask(old)
        listener.listen(16)
        listener.setblocking(False)
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=MAX_LINE)

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, TimeoutError, ValueError):
            pass  # the command line went away, or it is none of ours
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await asyncio.wait_for(reader.readline(), SILENCE))

        def tell(message: Message) -> None:
            if not writer.is_closing() and writer.transport.get_write_buffer_size() < MAX_LINE:
                writer.write(line(message))

        command = self._commands.get(str(request.get("command")), _unknown)
        try:
            answer: Message = {"result": await command(request, tell)}
        except UsageError as error:
            answer = {"error": str(error), "status": 2}
        except SidewaysError as error:
            answer = {"error": str(error), "status": 1}
        if not writer.is_closing():
            writer.write(line(answer))
            await writer.drain()


async def _unknown(request: Message, _tell: Tell) -> Message:
    raise UsageError(f"{request.get('command')}: this daemon does not know the command")


async def _answers(path: str) -> bool:
    try:
        _, writer = await _connect(path)
    except OSError:
        return False
    writer.close()
    return True


async def _connect(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    with beside(path) as name:
        return await asyncio.open_unix_connection(name, limit=MAX_LINE)


async def ask(state: str, request: Message, on_event: Tell | None = None) -> Message | None:
    """Send one request to the site's daemon; None when none runs.

    Raises UsageError or SidewaysError with the daemon's own words."""
    try:
        reader, writer = await _connect(path_of(state))
    except OSError:
        return None
    try:
        writer.write(line(request))
        async for message in _lines(reader):
            result = taken(message, on_event)
            if result is not None:
                return result
    finally:
        writer.close()
    raise gone()


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[Message]:
    with contextlib.suppress(ConnectionError):
        while text := await reader.readline():
            yield json.loads(text)
