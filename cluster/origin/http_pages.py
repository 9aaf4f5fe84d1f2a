"""Listings over connections of our own: what most of them cost, without what a general client costs.

Takes the plain answer of an origin that has already answered an ordinary request. What is not plain (a
redirect, framing that leaves doubts, no connection) is for `http_listing.page`, which asks again and judges
it (`docs/decisions/0015-listings.md`). Addresses, TLS, credentials, sizes and patience are the session's.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from cluster.errors import IncompleteListing, TooLarge, Unreachable
from cluster.model import href
from cluster.origin.http_answer import Answer, Odd
from cluster.origin.http_headers import coding
from cluster.origin.http_listing import MAX_LISTING, MAX_PACKED, Page, unpacked
from cluster.origin.http_session import refused

if TYPE_CHECKING:
    from cluster.origin.http_dial import Dialer
    from cluster.origin.http_session import HttpSession

MISSING, NO_HEAD = (404, 410), (405, 501)
IDLE = 10.0  # s after which a connection is not used again: servers close them without a word


class Pages:
    """The connections of one session for its listings. Who asks holds one of the session's places."""

    def __init__(self, session: HttpSession, dialer: Dialer) -> None:
        self._session, self._dialer = session, dialer
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._watch: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Pages {len(self._busy)} busy, {len(self._idle)} idle>"

    async def page(self, directory: bytes) -> Page | None:
        """The page that lists a directory; None where it has to be asked for in the ordinary way. Raises
        OriginError."""
        dialer = self._dialer
        if not dialer.usable:
            return None
        connection = self._idle_one() or await dialer.open(_Connection)
        if connection is None:
            return None
        name = href(directory)
        target = name + "/" if name else ""
        self._session.traffic.requests += 1
        try:
            answer = await self._asked(connection, target.encode("ascii"))
        except Odd:
            dialer.odd()
            return None
        except _Broken as broken:
            answer = connection.answer
            if answer.silent and not broken.late:
                return None  # closed before it heard us, most likely
            kind = IncompleteListing if answer.begun else Unreachable
            raise kind(name, str(broken)) from None
        except _TooLong as long:
            raise TooLarge(name, str(long)) from None
        finally:
            self._session.traffic.listings += connection.answer.received
        dialer.answered()
        self._session.answered = self._session.answered or answer.status == 200
        return self._judged(answer, directory, self._session.prefix + target)

    async def head(self, path: bytes) -> Answer | None:
        """The answer to HEAD for one file, 200 or that it is missing; None where it has to be asked in the
        ordinary way. Raises OriginError."""
        if not self._dialer.usable:
            return None
        connection = self._idle_one() or await self._dialer.open(_Connection)
        if connection is None:
            return None
        self._session.traffic.requests += 1
        try:
            answer = await self._asked(connection, href(path).encode("ascii"), head=True)
        except Odd:
            self._dialer.odd()
            return None
        except _Broken:
            return None
        self._session.has_head = answer.status not in NO_HEAD
        if answer.status in MISSING:
            raise refused(answer.status, answer.reason, answer.headers, path)
        return answer if answer.status == 200 else None

    def _judged(self, answer: Answer, directory: bytes, url: str) -> Page:
        if answer.status != 200:
            raise refused(answer.status, answer.reason, answer.headers, directory)
        body, used = answer.body, coding(answer.headers)
        wire = len(body)
        if used is not None:
            body = unpacked(body, used, directory)
        return Page(body, url, answer.headers.get("Content-Type", ""), wire)

    def close(self) -> None:
        self._dialer.usable = False
        for connection in (*self._idle, *self._busy):
            connection.close()
        if self._watch is not None:
            self._watch.cancel()

    # -- one request

    async def _asked(self, connection: _Connection, target: bytes, *, head: bool = False) -> Answer:
        """Raises Odd, _Broken, _TooLong."""
        way = self._dialer.way
        assert way is not None, "there is a connection"
        self._busy.add(connection)
        if self._watch is None:
            self._look_again()
        kept = False
        try:
            request = b"%s%s%s" % (way.head, target, way.tail)
            if head:
                request = b"HEAD" + request.removeprefix(b"GET")
            answer = await connection.ask(request, bodiless=head)
            if 300 <= answer.status < 400 or answer.status < 200 or 200 < answer.status < 300:
                raise Odd(f"{answer.status}")
            kept = answer.keep and not answer.rest
            return answer
        finally:
            self._busy.discard(connection)
            if kept and self._dialer.usable:
                connection.since = time.monotonic()
                self._idle.append(connection)
            else:
                connection.close()

    def _idle_one(self) -> _Connection | None:
        """The one that was used last, if it can be used again."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost and time.monotonic() - connection.since < IDLE:
                return connection
            connection.close()
        return None

    # -- patience

    def _look_again(self) -> None:
        session = self._session
        every = min(session.deadline.within, session.patience.low_window) / 4
        self._watch = asyncio.get_running_loop().call_later(every, self._look)

    def _look(self) -> None:
        """End what is silent for too long, or too slow to go on (HAZARDS 69)."""
        self._watch = None
        now, silence, patience = time.monotonic(), self._session.deadline.within, self._session.patience
        for connection in list(self._busy):
            answer = connection.answer
            if now - connection.since >= silence:
                connection.give_up(
                    f"silent for {silence:g} s after {answer.received} bytes"
                    if answer.begun
                    else f"no answer in {silence:g} s"
                )
            elif answer.begun and now - connection.marked >= patience.low_window:
                rate = (connection.arrived - connection.mark) / (now - connection.marked)
                if rate < patience.low_rate:
                    connection.give_up(
                        f"{rate:.0f} bytes/s for {now - connection.marked:.0f} s, "
                        f"after {answer.received} bytes"
                    )
                connection.mark, connection.marked = connection.arrived, now
        if self._busy:
            self._look_again()


class _Broken(Exception):
    """The connection ended before the answer did; `late`: we ended it."""

    def __init__(self, words: str, *, late: bool = False) -> None:
        super().__init__(words)
        self.late = late


class _TooLong(Exception):
    pass


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.lost = False
        self.since = self.marked = time.monotonic()  # when anything last happened; when `mark` was set
        self.arrived = self.mark = 0  # bytes of this answer
        self._transport: asyncio.Transport
        self._waiting: asyncio.Future[Answer] | None = None

    def ask(self, request: bytes, *, bodiless: bool) -> asyncio.Future[Answer]:
        """Raises Odd, _Broken, _TooLong when awaited."""
        self.answer = Answer(bodiless=bodiless)
        self.since = self.marked = time.monotonic()
        self.arrived = self.mark = 0
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting

    def give_up(self, words: str) -> None:
        self._end(_Broken(words, late=True))
        self.close()

    def close(self) -> None:
        if not self.lost:
            self.lost = True
            self._transport.abort()

    def _end(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        waiting = self._waiting
        if waiting is None:
            self.close()  # nobody asked for anything
            return
        answer = self.answer
        try:
            complete = answer.feed(data)
        except Odd as odd:
            self._end(odd)
            return
        self.arrived += len(data)
        if answer.begun:
            self.since = time.monotonic()
        if self.arrived > MAX_PACKED and (most := _most(answer)) < self.arrived:
            self._end(_TooLong(f"a listing of more than {most} bytes"))
        elif complete:
            self._waiting = None
            if not waiting.done():
                waiting.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        after = f" after {self.answer.received} bytes" if self.answer.begun else " without an answer"
        self._end(_Broken(f"the connection was closed{after}" if error is None else f"{error}{after}"))


def _most(answer: Answer) -> int:
    return MAX_LISTING if coding(answer.headers) is None else MAX_PACKED
