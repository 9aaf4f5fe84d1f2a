"""One line: the long-lived connection on which two sites tell each other what changes at either.

What is said is queued and sent in order; what is heard is handed on message by message. A sibling is not
trusted: messages and their rate are bounded, and whatever breaks a rule ends the line with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import aiohttp
from aiohttp import web

from cluster.errors import PeerBroke, PeerError, PeerSilent
from cluster.peer import linewire
from cluster.peer.channel import MARK, Answer, Channels
from cluster.peer.codec import WireError

GREETING = 5.0  # s for the first message
ROUND = 1.0  # s between two looks at whether the line is alive
SIGN = 5  # rounds without a word of ours after which a sign is given
SILENT = 15  # rounds without a word of theirs after which the line is dead
STALL = 30.0  # s for one write: who reads more slowly is left, as everywhere
CLOSE = 1.0  # s for the farewell
ROOM = 2**16  # bytes waiting to be sent, below which there is room for what can wait
MAX_QUEUED = 2**20  # bytes waiting to be sent, beyond which nothing more is taken

RATE = 500.0  # messages/s that are read in the long run; 4 KiB count as one message
BURST = 2_000.0
WEIGHT = 4_096

LEFT, KEPT, BROKEN = 1001, 4000, 4001  # codes of the farewell: going away, another line is kept, a fault

MARKED = bytes([MARK])

Socket = aiohttp.ClientWebSocketResponse[Literal[False]] | web.WebSocketResponse
Hear = Callable[[linewire.Message], None]


class Frame(Protocol):
    """What `Socket.receive` returns."""

    @property
    def type(self) -> aiohttp.WSMsgType: ...
    @property
    def data(self) -> Any: ...  # noqa: ANN401  # by its type
    @property
    def extra(self) -> str | None: ...


log = logging.getLogger(__name__)


class Line:
    """`dialler` is the site that opened it. `clock` is monotonic seconds. `answer` serves the channels that
    the sibling opens in it (`cluster.peer.channel`)."""

    def __init__(
        self,
        site: str,
        dialler: str,
        socket: Socket,
        clock: Callable[[], float],
        answer: Answer | None = None,
    ) -> None:
        self.site, self.dialler = site, dialler
        self.behind = False  # a claim could not be said: all of them must be told anew
        self._socket, self._clock = socket, clock
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._more, self._less = asyncio.Event(), asyncio.Event()
        self.channels = Channels(int(dialler == site), self._more.set, answer, socket.get_extra_info)
        self._farewell: tuple[int, str] | None = None
        self._ending = asyncio.Event()
        self._quiet = self._mute = 0  # rounds since they, and since we, said something
        self._credit, self._credited = BURST, clock()

    # -- saying

    def say(self, message: bytes, *, always: bool = False) -> bool:
        """Queue it; False where so much waits already that it is not taken. `always` is for what is bounded
        by itself."""
        if self._queued > MAX_QUEUED and not always:
            return False
        self._queue.append(message)
        self._queued += len(message)
        self._more.set()
        return True

    @property
    def roomy(self) -> bool:
        return self._queued < ROOM

    async def room(self) -> None:
        """Wait until little is queued: for what is long and can wait."""
        while not self.roomy:
            self._less.clear()
            await self._less.wait()

    def end(self, code: int, reason: str) -> None:
        """`talk` returns soon."""
        if self._farewell is None:
            self._farewell = code, reason
            self._ending.set()

    def doubt(self) -> None:
        """It may be dead: unless something is heard within two rounds, it is."""
        self.say(linewire.sign(linewire.Sign(wanted=True)))
        self._quiet = max(self._quiet, SILENT - 2)

    # -- life

    async def greet(self, own: linewire.Greeting) -> None:
        """The first message of both. Raises PeerBroke where the other one is not who it should be."""
        try:
            async with asyncio.timeout(GREETING):
                await self._socket.send_bytes(linewire.greeting(own))
                greeting = self._read(await self._socket.receive())
        except TimeoutError:
            raise PeerSilent(self.site, f"no greeting within {GREETING:g} s") from None
        except (OSError, aiohttp.ClientError) as error:
            raise PeerSilent(self.site, f"the line broke: {error}") from None
        if not isinstance(greeting, linewire.Greeting):
            raise PeerBroke(self.site, "begins a line without a greeting")
        if (greeting.site, greeting.cluster) != (self.site, own.cluster):
            raise PeerBroke(self.site, f"says it is {greeting.site} of {greeting.cluster}")

    async def talk(self, hear: Hear) -> None:
        """Until either side ends it. Raises PeerBroke, PeerSilent for everything but a farewell.

        What `hear` raises as WireError is a fault of the sibling.
        """
        tasks = [
            asyncio.create_task(work, name=f"line {self.site}")
            for work in (self._send(), self._receive(hear), self._watch(), self._ending.wait())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except PeerBroke as error:
            self._farewell = BROKEN, error.message
            raise
        finally:
            self.channels.end()  # before anything is awaited: who reads from one must not wait for ever
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Say farewell, with the reason where there is one."""
        code, reason = self._farewell or (LEFT, "")
        # A reason has at most 123 bytes (RFC 6455 section 5.5).
        with contextlib.suppress(OSError, RuntimeError, TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(CLOSE):
                await self._socket.close(code=code, message=reason.encode()[:123])

    # -- inside

    async def _send(self) -> None:
        while True:
            while (message := self._next()) is not None:
                self._mute = 0
                try:
                    async with asyncio.timeout(STALL):
                        await self._socket.send_bytes(message)
                except TimeoutError:
                    raise PeerSilent(self.site, f"reads nothing on its line for {STALL:g} s") from None
                except (OSError, RuntimeError, aiohttp.ClientError) as error:
                    raise PeerSilent(self.site, f"the line broke: {error}") from None
                if self.roomy:
                    self._less.set()
            self._more.clear()
            await self._more.wait()

    def _next(self) -> bytes | None:
        """Messages before bytes."""
        if not self._queue:
            return self.channels.frame()
        message = self._queue.popleft()
        self._queued -= len(message)
        return message

    async def _receive(self, hear: Hear) -> None:
        while True:
            try:
                received = await self._socket.receive()
            except (OSError, RuntimeError, aiohttp.ClientError) as error:
                raise PeerSilent(self.site, f"the line broke: {error}") from None
            self._quiet = 0
            if received.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING):
                self._said_farewell(received)
                return
            if received.type is aiohttp.WSMsgType.BINARY and received.data[:1] == MARKED:
                if self._carried(received.data):
                    continue  # what was granted needs no other pace
            elif (message := self._read(received)) is not None:
                try:
                    hear(message)
                except WireError as error:
                    raise PeerBroke(self.site, str(error)) from None
            await self._pace(len(received.data))

    def _carried(self, frame: bytes) -> bool:
        try:
            return self.channels.received(frame)
        except WireError as error:
            raise PeerBroke(self.site, str(error)) from None

    def _read(self, received: Frame) -> linewire.Message | None:
        """What a frame says. Raises PeerBroke, and PeerSilent for the end of the connection."""
        if received.type is aiohttp.WSMsgType.BINARY:
            try:
                return linewire.read(received.data)
            except WireError as error:
                raise PeerBroke(self.site, str(error)) from None
        if received.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING):
            self._said_farewell(received)
        if received.type is aiohttp.WSMsgType.ERROR and isinstance(received.data, aiohttp.WebSocketError):
            raise PeerBroke(self.site, f"its line: {received.data}")
        if received.type is aiohttp.WSMsgType.TEXT:
            raise PeerBroke(self.site, "sends text on its line")
        raise PeerSilent(self.site, "the line broke")

    def _said_farewell(self, received: Frame) -> None:
        reason = received.extra if isinstance(received.extra, str) else ""
        shown = "".join(c for c in reason if c.isprintable())
        if received.data == BROKEN:
            log.warning("%s: ended the line, for it finds us at fault: %s", self.site, shown)
        if received.data in (BROKEN, KEPT):
            raise PeerSilent(self.site, f"ended the line: {shown}")

    async def _pace(self, size: int) -> None:
        """Read no faster than this can be worked off: what a sibling floods us with waits on its own side."""
        now = self._clock()
        self._credit = min(BURST, self._credit + RATE * (now - self._credited))
        self._credited = now
        self._credit -= max(1.0, size / WEIGHT)
        if self._credit < 0:
            await asyncio.sleep(-self._credit / RATE)

    async def _watch(self) -> None:
        """Rounds are counted, not seconds: a machine that slept has not been left by its siblings."""
        while True:
            await asyncio.sleep(ROUND)
            self._quiet += 1
            self._mute += 1
            if self._mute >= SIGN:
                self.say(linewire.sign(linewire.Sign()))
            if self._quiet >= SILENT:
                raise PeerSilent(self.site, f"nothing was heard on its line for {SILENT * ROUND:g} s")

    def __repr__(self) -> str:
        return f"<Line {self.site} by {self.dialler}, {self._queued} bytes waiting>"


async def ended(talking: Awaitable[None]) -> PeerError | None:
    """How a line ended: None for a farewell."""
    try:
        await talking
    except PeerError as error:
        return error
    return None
