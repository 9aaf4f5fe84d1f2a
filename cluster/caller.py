"""Asking a site's daemon on its control socket, without an event loop: what a command that only asks costs.

The form of requests and answers is `cluster.control`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

from cluster.errors import StoreError, UsageError

Message = dict[str, Any]
Tell = Callable[[Message], None]

PIECE = 2**16  # bytes


def path_of(state: str) -> str:
    """The control socket of the site whose records are in the folder `state`."""
    return os.path.join(state, "control.sock")


@contextlib.contextmanager
def beside(path: str) -> Iterator[str]:
    """A name for a socket that fits into `sun_path` (108 bytes), however deep its folder is."""
    if len(os.fsencode(path)) < 100:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def ask(state: str, request: Message, on_event: Tell | None = None) -> Message | None:
    """Send one request to the site's daemon, and wait for its answer; None when none runs.

    Raises UsageError or StoreError with the daemon's own words."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            with beside(path_of(state)) as name:
                connection.connect(name)
        except OSError:
            return None
        with contextlib.suppress(ConnectionError):
            connection.sendall(line(request))
            for message in _messages(connection):
                result = taken(message, on_event)
                if result is not None:
                    return result
    raise gone()


def line(request: Message) -> bytes:
    """As it travels."""
    return json.dumps(request).encode() + b"\n"


def taken(message: Message, on_event: Tell | None) -> Message | None:
    """The result, if this is it; an event is told. Raises UsageError or StoreError for an error."""
    if "event" in message:
        if on_event is not None:
            on_event(message)
        return None
    if "error" in message:
        raise (UsageError if message.get("status") == 2 else StoreError)(str(message["error"]))
    return dict(message["result"])


def gone() -> StoreError:
    """What is said of a daemon that ended the connection without an answer."""
    return StoreError("the site's daemon went away before the command was done")


def _messages(connection: socket.socket) -> Iterator[Message]:
    rest = b""
    while piece := connection.recv(PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(json.loads, lines)
