"""A descriptor is closed once: twice would hit a file of another thread that got the number meanwhile."""

import asyncio
import gc
import os
import socket
import ssl
import struct
import threading

import pytest

from cluster import eventloop
from cluster.scheduler.hooks import run_command

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


async def connection_reset_after(turns: int) -> list[int]:
    """Which of the files that were opened after a failed TLS connection are closed under our hands."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.socket()
        ours.setblocking(False)
        await loop.sock_connect(ours, listener.getsockname())
        theirs, _ = listener.accept()
    connecting = asyncio.ensure_future(
        loop.create_connection(
            asyncio.Protocol, sock=ours, ssl=ssl.create_default_context(), server_hostname="x"
        )
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    theirs.close()
    with pytest.raises(OSError):
        await connecting
    files = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(4)]
    del ours, connecting
    gc.collect()
    await asyncio.sleep(0)
    return closed(files)


def closed(files: list[int]) -> list[int]:
    """Closes them; those that somebody else had closed before."""
    gone = []
    for file in files:
        try:
            os.close(file)
        except OSError:
            gone.append(file)
    return gone


@pytest.mark.parametrize("turns", range(4))
def test_a_connection_that_is_reset_at_once_closes_nobodys_file(turns):
    assert eventloop.run(connection_reset_after(turns)) == []


def test_reading_what_a_command_says_closes_nobodys_file():
    gone: list[int] = []
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            gone.extend(closed([os.open("/etc/passwd", os.O_RDONLY) for _ in range(64)]))

    async def story() -> None:
        for _ in range(100):
            await run_command(("echo", "hi"), {b"PATH": os.fsencode(os.environ["PATH"])})

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        eventloop.run(story())
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert gone == []


@pytest.mark.parametrize(
    ("error", "told"),
    [(ConnectionResetError(), False), (OSError("disk"), True), (ValueError("mistake"), True)],
)
def test_a_connection_that_broke_when_nobody_waited_any_more_is_no_mistake(caplog, error, told):
    async def left_alone() -> None:
        asyncio.get_running_loop().create_future().set_exception(error)
        gc.collect()

    eventloop.run(left_alone())
    assert ("never retrieved" in caplog.text) is told


def test_a_task_that_broke_is_always_told(caplog):
    async def breaks() -> None:
        raise ConnectionResetError

    async def left_alone() -> None:
        task = asyncio.ensure_future(breaks())
        await asyncio.wait([task])
        del task
        gc.collect()

    eventloop.run(left_alone())
    assert "never retrieved" in caplog.text


@pytest.mark.parametrize(
    ("error", "closed", "told"),
    [(RuntimeError("the handler is closed"), True, False), (RuntimeError("mistake"), False, True),
     (RuntimeError("unable to perform operation on <T closed=True>; the handler is closed"), False, False),
     (ValueError("mistake"), True, True)],
)  # fmt: skip
def test_what_is_left_to_say_on_a_closed_connection_is_no_mistake(caplog, error, closed, told):
    async def answered() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
            if closed:
                transport.close()
            about = {"message": "Fatal error on SSL protocol", "exception": error, "transport": transport}
            loop.call_exception_handler(about)
            transport.close()

    eventloop.run(answered())
    assert ("Fatal error" in caplog.text) is told
