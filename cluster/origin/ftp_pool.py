"""The control connections to one FTP server: few, kept between operations, never more than it lets in."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cluster.errors import Unreachable
from cluster.model import href
from cluster.origin.ftp_control import Control, Lost
from cluster.origin.ftp_session import FtpSession

T = TypeVar("T")

IDLE = 45.0  # s after which a connection that nobody used is not trusted any more: some drop it after 60
RETURNED = 3.0  # s after which what was given back is closed: the courier leaves what it has no use for


class Pool:
    """At most `allowed` connections at once; fewer, once the server has said 421 to one more than it lets in.

    Who takes one gives it back or drops it. First come, first served. What is lent is opened by somebody
    else, who may keep it open for RETURNED s when it is given back.
    """

    def __init__(self, session: FtpSession, allowed: int) -> None:
        self.allowed = allowed
        self.open = 0  # or being opened
        self._lent = 0
        self._returned: asyncio.TimerHandle | None = None
        self._session = session
        self._idle: list[Control] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._usable = True

    def __repr__(self) -> str:
        return f"<Pool {self.open} of {self.most}, {len(self._idle)} idle, {len(self._waiting)} waiting>"

    @property
    def most(self) -> int:
        """Connections that may be open here now."""
        return max(1, self.allowed - self._lent)

    def lend(self, most: int) -> int:
        """Up to so many are somebody else's from now on; one stays here in any case. How many."""
        self._forget_returned()
        self._lent = max(0, min(most, self.allowed - 1))
        while self._idle and self.open > self.most:
            self.drop(self._idle.pop(0))
        return self._lent

    def back(self) -> None:
        """Nothing is lent any more."""
        self._forget_returned()
        self._returned = asyncio.get_running_loop().call_later(RETURNED, self._all_here)

    def _forget_returned(self) -> None:
        if self._returned is not None:
            self._returned.cancel()
            self._returned = None

    def _all_here(self) -> None:
        self._lent = 0
        for _ in range(self.most - self.open):
            self._admit()

    async def run(self, path: bytes, work: Callable[[Control], Awaitable[T]]) -> tuple[T, Control]:
        """What `work` makes of a connection, which the caller then holds. A connection that was kept, and is
        gone before it has answered, is not the server's failure: another one is taken. Raises OriginError."""
        while True:
            control = await self._take(path)
            kept, before = control.uses > 0, control.answers
            try:
                return await work(control), control
            except Lost as lost:
                self.drop(control)
                if not (lost.again or (kept and control.answers == before)):
                    raise Unreachable(href(path), str(lost)) from None
            except BaseException:
                self.give(control)
                raise

    def give(self, control: Control) -> None:
        """Hand it back; it is kept if it can be asked something else."""
        if not control.quiet or not self._usable or self.open > self.most:
            self.drop(control)
            return
        control.since = time.monotonic()
        control.uses += 1
        self._idle.append(control)
        self._admit()

    def drop(self, control: Control) -> None:
        """It is of no use any more."""
        control.close()
        self.open -= 1
        self._admit()

    def close(self) -> None:
        self._usable = False
        self._forget_returned()
        while self._idle:
            self.drop(self._idle.pop())

    async def _take(self, path: bytes) -> Control:
        while True:
            control = self._kept()
            if control is not None:
                return control
            if self.open < self.most:
                opened = await self._opened(path)
                if opened is not None:
                    return opened
            else:
                await self._turn()

    def _kept(self) -> Control | None:
        """The one that was used last, if it can be used again."""
        while self._idle:
            control = self._idle.pop()
            if control.quiet and time.monotonic() - control.since < IDLE:
                return control
            self.open -= 1
            control.close()
        return None

    async def _opened(self, path: bytes) -> Control | None:
        """None where the server lets in no more than those that are open: then one of them is waited for."""
        self.open += 1
        try:
            return await self._session.open(path)
        except Lost as lost:
            self.open -= 1
            if lost.dismissed and self.open:
                self.allowed = self.open + self._lent
                return None
            self._admit()
            raise Unreachable(href(path), str(lost)) from None
        except BaseException:
            self.open -= 1
            self._admit()
            raise

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._admit()  # somebody else's turn, then
            raise

    def _admit(self) -> None:
        """Let one that waits look again."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
