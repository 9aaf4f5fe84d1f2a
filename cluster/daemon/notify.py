"""systemd's notification protocol (sd_notify(3)): readiness, reloading, the watchdog."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket


def notify(message: str) -> None:
    """Tell the service manager, where there is one; never an error."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(message.encode(), address)


async def watchdog() -> None:
    """Say that the loop is alive, at half the interval that the unit asks for; return where it asks none."""
    try:
        interval = int(os.environ.get("WATCHDOG_USEC", "")) / 2e6
    except ValueError:
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
