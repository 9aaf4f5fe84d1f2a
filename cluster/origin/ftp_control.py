"""One control connection to an FTP server: commands out, replies in their order."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import TYPE_CHECKING, cast

from cluster.model import shown
from cluster.origin.ftp_replies import UNKNOWN, Nonsense, Replies, Reply

if TYPE_CHECKING:
    from cluster.origin.base import Traffic
    from cluster.origin.http_deadline import Deadline

MAX_PRELIMINARY = 100  # replies of 1xx to one command


class Lost(Exception):
    """The connection is over, or of no use any more. Says why. `dismissed`: by the server's own word,
    a 421. `again`: by us, to ask in another way over a new one."""

    def __init__(self, words: str, *, dismissed: bool = False, again: bool = False) -> None:
        super().__init__(words)
        self.dismissed, self.again = dismissed, again


class Asked:
    """A command that was sent. `final` is its last reply, `opened` the first: of a transfer often a 1xx."""

    __slots__ = ("final", "opened", "preliminary", "word")

    def __init__(self, word: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.word = word
        self.final: asyncio.Future[Reply] = loop.create_future()
        self.opened: asyncio.Future[Reply] | None = None
        self.preliminary = 0


class Control(asyncio.Protocol):
    """Several commands may be under way; the server answers one after the other.

    `peer` is where the server really is, which is where data connections go.
    """

    def __init__(self, deadline: Deadline, traffic: Traffic) -> None:
        self.peer: tuple[str | int, ...] = ()
        self.lost: Lost | None = None
        self.answers = self.uses = 0
        self.since = 0.0  # when it was last given back; s, monotonic
        self._deadline, self._traffic = deadline, traffic
        self._loop = asyncio.get_running_loop()
        self._replies = Replies()
        self.greeted = Asked(b"the connection", self._loop)  # what the server says first, unasked
        self._waiting: deque[Asked] = deque([self.greeted])
        self._transport: asyncio.Transport

    def __repr__(self) -> str:
        return f"<Control {self.lost or 'open'}, {self.answers} answers, {len(self._waiting)} waited for>"

    @property
    def quiet(self) -> bool:
        """Whether the server has answered everything, so that it can be asked something else."""
        return not (self.lost or self._waiting) and self._replies.between

    # -- asking

    def ask(self, command: bytes) -> Asked:
        """Send a command. `command` holds no line end (`sendable`). Raises Lost."""
        return self.ask_all([command])[0]

    def ask_all(self, commands: list[bytes]) -> list[Asked]:
        """Send several at once. Raises Lost."""
        if self.lost:
            raise self.lost
        sent = [Asked(command.partition(b" ")[0], self._loop) for command in commands]
        self._waiting.extend(sent)
        self._traffic.requests += len(sent)
        self._transport.write(b"\r\n".join([*commands, b""]))
        return sent

    async def say(self, command: bytes) -> Reply:
        """Send a command and wait for its last reply. Raises Lost."""
        return await self.final(self.ask(command))

    async def final(self, asked: Asked) -> Reply:
        """Raises Lost."""
        return await self.within(asked, asked.final)

    async def fact(self, asked: Asked) -> Reply:
        """The reply to SIZE or MDTM: 213, or a refusal. Raises Lost, also where it is the reply to something
        else: a server that answers once too often would tell one file's facts of another."""
        reply = await self.final(asked)
        if reply.code != 213 and reply.code < 400 and reply.code not in UNKNOWN:
            out_of_step = Lost(f"not an answer to {shown(asked.word)}: {reply}")
            self.give_up(out_of_step)
            raise out_of_step
        return reply

    async def opened(self, asked: Asked) -> Reply:
        """The first reply to the command that was asked last: 1xx, or already the final one. Raises Lost."""
        if asked.final.done():
            return await self.final(asked)
        asked.opened = self._loop.create_future()
        if asked.preliminary:  # it was said while nobody waited
            asked.opened.set_result(Reply(150, (b"",)))
        return await self.within(asked, asked.opened)

    async def within(self, asked: Asked, awaited: asyncio.Future[Reply]) -> Reply:
        if awaited.done():
            return awaited.result()
        waiting = self._deadline.begin()
        try:
            return await awaited
        except asyncio.CancelledError:
            if self._deadline.expired(waiting):
                late = Lost(f"no answer to {shown(asked.word)} in {self._deadline.within:g} s")
                self.give_up(late)
                raise late from None
            raise
        finally:
            self._deadline.end(waiting)

    async def secure(self, context: ssl.SSLContext, host: str, patience: float) -> None:
        """TLS from here on. Raises Lost, OSError, TimeoutError."""
        if not self.quiet:
            raise Lost("more than the answer to AUTH came in the clear")  # it would be taken for secured
        async with asyncio.timeout(patience):
            secured = await self._loop.start_tls(self._transport, self, context, server_hostname=host)
        if secured is None:
            raise self.lost or Lost("the connection ended in the TLS handshake")
        self._transport = secured

    def tls(self) -> ssl.SSLObject | None:
        found: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return found

    # -- ending

    def close(self) -> None:
        """Say good-bye where the server listens, and go."""
        if not self.lost:
            if self.quiet:
                self._transport.write(b"QUIT\r\n")
                self._end(Lost("closed"))
                self._transport.close()
            else:
                self.give_up(Lost("closed"))

    def give_up(self, why: Lost) -> None:
        """At once. Whoever waits is told."""
        self._end(why)
        self._transport.abort()

    def _end(self, why: Lost) -> None:
        self.lost = self.lost or why
        while self._waiting:
            asked = self._waiting.popleft()
            for awaited in (asked.opened, asked.final):
                if awaited is not None and not awaited.done():
                    awaited.set_exception(why)
                    awaited.exception()  # nobody may wait for it any more

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.peer = tuple(transport.get_extra_info("peername") or ())

    def data_received(self, data: bytes) -> None:
        if self.lost:
            return
        try:
            for reply in self._replies.feed(data):
                self._take(reply)
        except Nonsense as problem:
            self.give_up(Lost(str(problem)))

    def _take(self, reply: Reply) -> None:
        if reply.code == 421 or not self._waiting:
            self.give_up(Lost(str(reply), dismissed=reply.code == 421))
            return
        asked = self._waiting[0]
        if reply.code < 200:
            asked.preliminary += 1
            if asked.preliminary > MAX_PRELIMINARY:
                raise Nonsense(f"more than {MAX_PRELIMINARY} preliminary replies")
            if asked.opened is not None and not asked.opened.done():
                asked.opened.set_result(reply)
            return
        self._waiting.popleft()
        self.answers += 1
        for awaited in (asked.opened, asked.final):
            if awaited is not None and not awaited.done():
                awaited.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        words = "was closed" if error is None else f"broke: {error}"
        self._end(Lost(f"the control connection {words}"))


def sendable(argument: bytes) -> bool:
    """Whether a path can be put into a command: a line end would begin another one (HAZARDS 85)."""
    return not (b"\r" in argument or b"\n" in argument or b"\0" in argument)
