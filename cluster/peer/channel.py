"""Connections inside a line: bytes both ways, for HTTP with a site that can only dial out.

Whoever cannot be reached is asked through the line that it dialled. A channel is to HTTP what a TCP
connection is: the same client and the same server talk over it, with the same limits. What may be sent is
granted by whoever reads, so that a slow reader fills nobody's memory; claims and journals go before bytes.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from cluster.peer.codec import WireError

MARK = 0xC1  # the one byte that begins no msgpack value
HEAD = struct.Struct(">BBI")  # MARK, sort, channel
OPEN, DATA, GRANT, SHUT = range(4)

WINDOW = 2**20  # bytes that may be on their way in one channel and direction
PIECE = 2**15  # bytes in one frame at most: what a claim may have to wait for
HIGH, LOW = 2**18, 2**16  # bytes waiting to be sent, from which and down to which the writer is paused
CHANNELS = 8  # that one side may open at once

Answer = Callable[[], asyncio.Protocol]


class Channels:
    """All channels of one line. `own` is the parity of the numbers that we give; `more` is called when there
    is something to send. `answer` makes the server's end of a channel that the sibling opens; None: nothing
    is answered. `about` is what a server may ask of the connection that carries the line.
    """

    def __init__(
        self, own: int, more: Callable[[], None], answer: Answer | None, about: Callable[[str], Any]
    ) -> None:
        self._next, self._more, self._answer, self.about = own, more, answer, about
        self._open: dict[int, Channel] = {}
        self._control: deque[bytes] = deque()
        self._ready: deque[Channel] = deque()
        self._over = False

    def open(self, protocol: asyncio.Protocol) -> None:
        """A new channel for a client. Raises ConnectionError where the line has ended or holds no more."""
        if self._over:
            raise ConnectionError("the line has ended")
        own = [number for number in self._open if number % 2 == self._next % 2]
        if len(own) >= CHANNELS:
            raise ConnectionError(f"{CHANNELS} channels are open")
        number, self._next = self._next, (self._next + 2) % 2**32
        self._say(OPEN, number)
        self._begin(number, protocol)

    def received(self, frame: bytes) -> bool:
        """Take one frame; whether it was nothing but bytes that had been granted. Raises WireError."""
        if len(frame) < HEAD.size:
            raise WireError(f"channel: a frame of {len(frame)} bytes")
        _, sort, number = HEAD.unpack_from(frame)
        channel = self._open.get(number)
        if sort == OPEN:
            if channel is not None or number % 2 == self._next % 2:
                raise WireError(f"channel: {number} is not to be opened")
            theirs = sum(number % 2 == one % 2 for one in self._open)
            if self._answer is None or theirs >= CHANNELS:
                self._say(SHUT, number)
            else:
                self._begin(number, self._answer())
        elif sort > SHUT:
            raise WireError(f"channel: sort {sort}")
        elif channel is None:  # it was shut from here while this was on its way
            return False
        elif sort == DATA:
            channel.received(frame[HEAD.size :])
            return len(frame) > HEAD.size
        elif sort == GRANT:
            if len(frame) != HEAD.size + 4:
                raise WireError("channel: a grant without a number")
            channel.granted(int.from_bytes(frame[HEAD.size :], "big"))
        else:
            channel.shut()
        return False

    def frame(self) -> bytes | None:
        """The next frame to be sent, each channel in its turn."""
        if self._control:
            return self._control.popleft()
        while self._ready:
            channel = self._ready.popleft()
            piece = channel.piece()
            if piece is not None:
                if channel.sendable:
                    self._ready.append(channel)
                return HEAD.pack(MARK, DATA, channel.number) + piece
        return None

    def end(self) -> None:
        """The line has ended, and every channel with it."""
        self._over = True
        for channel in list(self._open.values()):
            channel.abort()

    # -- for channels

    def ready(self, channel: Channel) -> None:
        if channel not in self._ready:
            self._ready.append(channel)
        self._more()

    def grant(self, number: int, count: int) -> None:
        self._control.append(HEAD.pack(MARK, GRANT, number) + count.to_bytes(4, "big"))
        self._more()

    def gone(self, number: int, *, tell: bool) -> None:
        if self._open.pop(number, None) is not None and tell:
            self._say(SHUT, number)

    def _say(self, sort: int, number: int) -> None:
        self._control.append(HEAD.pack(MARK, sort, number))
        self._more()

    def _begin(self, number: int, protocol: asyncio.Protocol) -> None:
        channel = self._open[number] = Channel(number, self, protocol)
        protocol.connection_made(channel)

    def __repr__(self) -> str:
        return f"<Channels {len(self._open)} open>"


class Channel(asyncio.Transport):
    """One of them, as a transport for `protocol`."""

    def __init__(self, number: int, channels: Channels, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.number, self._channels, self._protocol = number, channels, protocol
        self._out = bytearray()
        self._may = WINDOW  # bytes that we may send
        self._held = False  # the writer is paused
        self._closing = self._lost = self._ended = False
        self._in = bytearray()  # what came while reading was paused
        self._paused = False
        self._left = WINDOW  # bytes that the other side may send
        self._used = 0  # bytes that were read and not granted again yet

    # -- sending

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        self._out += data
        if len(self._out) > HIGH and not self._held:
            self._held = True
            self._protocol.pause_writing()
        if self.sendable:
            self._channels.ready(self)

    @property
    def sendable(self) -> bool:
        return bool(self._out) and self._may > 0

    def piece(self) -> bytes | None:
        """What may be sent now; None for nothing."""
        count = min(PIECE, self._may, len(self._out))
        if not count:
            return None
        piece = bytes(memoryview(self._out)[:count])
        del self._out[:count]
        self._may -= count
        if self._held and len(self._out) <= LOW:
            self._held = False
            self._protocol.resume_writing()
        if self._closing and not self._out:
            asyncio.get_running_loop().call_soon(self._lose, True)  # behind this very piece
        return piece

    def granted(self, count: int) -> None:
        """The other side has read so much. Raises WireError for more than was sent."""
        self._may += count
        if self._may > WINDOW:
            raise WireError("channel: grants more than it read")
        if self.sendable:
            self._channels.ready(self)

    def get_write_buffer_size(self) -> int:
        return len(self._out)

    def can_write_eof(self) -> bool:
        return False

    # -- receiving

    def received(self, data: bytes) -> None:
        """Raises WireError for bytes that were not granted."""
        self._left -= len(data)
        if self._left < 0:
            raise WireError("channel: sends more than was granted")
        if self._paused or self._in:
            self._in += data
        elif not self._lost:
            self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        self._used += len(data)
        self._protocol.data_received(data)
        self._regrant()

    def _regrant(self) -> None:
        if self._used >= WINDOW // 4 and not self._lost:
            self._channels.grant(self.number, self._used)
            self._left += self._used
            self._used = 0

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self._in and not self._lost:
            data = bytes(self._in)
            self._in.clear()
            self._deliver(data)
        if self._ended and not self._in:
            self._lose(tell=False)
        self._regrant()

    def is_reading(self) -> bool:
        return not self._paused

    # -- the end

    def shut(self) -> None:
        """The other side has ended it: what came before is still read."""
        self._ended = True
        if not self._in:
            self._lose(tell=False)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._out:
                self._lose(tell=True)

    def abort(self) -> None:
        self._out.clear()
        self._lose(tell=True)

    def is_closing(self) -> bool:
        return self._closing

    def _lose(self, tell: bool) -> None:
        self._closing = True
        if not self._lost:
            self._lost = True
            self._channels.gone(self.number, tell=tell)
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    # -- what protocols ask

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  # asyncio's own
        return default if name in ("socket", "sockname") else self._channels.about(name) or default

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def __repr__(self) -> str:
        return f"<Channel {self.number} {len(self._out)} bytes waiting>"


class ChannelConnector(aiohttp.BaseConnector):
    """Makes the connections of a session inside a line."""

    def __init__(self, channels: Channels, *, limit: int, keepalive_timeout: float) -> None:
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout)
        self._channels = channels

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: object, timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        protocol = self._factory()
        try:
            self._channels.open(protocol)
        except ConnectionError as error:
            raise aiohttp.ClientConnectionError(str(error)) from None
        return protocol
