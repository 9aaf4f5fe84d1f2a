"""One file of an FTP origin: its facts, and its bytes in binary.

FTP has no framing: a body is complete when as many bytes came as the file has, the data connection ended
there, and the server has said so. Versions are named by MDTM and SIZE, as nginx makes its entity tags.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cluster.errors import Changed, Refused, TooLarge, Unreachable, Vanished
from cluster.model import SECOND, Facts, Kind, Stamp, href
from cluster.origin.ftp_control import Control, Lost
from cluster.origin.ftp_data import Transfer, passive, port_told, way_in
from cluster.origin.ftp_refusals import explicit, unwelcome
from cluster.origin.ftp_replies import UNKNOWN, Reply, size_of
from cluster.origin.ftp_session import FtpSession
from cluster.origin.ftp_times import modified
from cluster.origin.http_drain import Drain

if TYPE_CHECKING:
    from cluster.origin.base import Vessel, Want
    from cluster.origin.ftp_pool import Pool

SMALL = 64 * 2**10  # bytes: of such a file nothing is asked that the listing has told
POURED = 8 * 2**20  # bytes from which on a thread receives them
TOLD = 0.25  # s between two looks at how much it has


async def facts(session: FtpSession, control: Control, path: bytes) -> Facts:
    """What SIZE and MDTM say; of a directory, that it is one. Raises Lost, OriginError."""
    whole = session.absolute(path)
    size, time = await _told(control, whole)
    count = size_of(size)
    if count is None and size.code not in UNKNOWN:
        entered = await control.say(b"CWD " + whole)
        if entered.good:
            return Facts(mtime=modified(time), kind=Kind.DIRECTORY)
        raise unwelcome(size if explicit(size) else entered if explicit(entered) else size, path)
    return _facts(session, count, modified(time))


async def _told(control: Control, whole: bytes) -> tuple[Reply, Reply]:
    """The replies to SIZE and MDTM."""
    size, time = control.ask_all([b"SIZE " + whole, b"MDTM " + whole])
    return await control.fact(size), await control.fact(time)


def _facts(session: FtpSession, size: int | None, mtime: Stamp | None) -> Facts:
    manners = session.manners
    ranges = manners.resumes is not False and manners.has(b"REST") and size is not None
    return Facts(size, mtime, version(size, mtime), ranges=ranges)


def version(size: int | None, mtime: Stamp | None) -> str | None:
    """A strong validator as far as a second is one; `plan.compare` knows what to think of a young one."""
    if size is None or mtime is None or mtime.precision > SECOND:
        return None
    return f'"{mtime.ns // SECOND:x}-{size:x}"'


class Download:
    """A file on its way: enter it to ask, then take the `chunks` once, or `pour` it. Is its own Body."""

    __slots__ = (
        "_control",
        "_end",
        "_path",
        "_pool",
        "_session",
        "_small",
        "_transfer",
        "_want",
        "facts",
        "start",
    )

    facts: Facts
    start: int
    _control: Control
    _transfer: Transfer
    _end: int | None  # where the wanted bytes end, where it is known

    def __init__(
        self, session: FtpSession, pool: Pool, path: bytes, want: Want, *, young: bool = False
    ) -> None:
        """`young`: its time is to be asked for in any case."""
        self._session, self._pool, self._path, self._want = session, pool, path, want
        self._small = _small(want) and not young
        self.start = 0

    async def __aenter__(self) -> Self:
        _, self._control = await self._pool.run(self._path, self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transfer.close()
        self._pool.give(self._control)  # which drops it where the server still has something to say

    # -- opening

    async def _open(self, control: Control) -> None:
        session, path, want = self._session, self._path, self._want
        whole = session.absolute(path)
        self.start, small, way = 0, self._small, None
        if small:
            assert want.size is not None
            self.facts = _facts(session, want.size, None)
        else:
            size, time, way = await self._told_with_way(control, whole)
            if size_of(size) is None and size.code not in UNKNOWN and explicit(size):
                raise unwelcome(size, path)
            self.facts = _facts(session, size_of(size), modified(time))
        self._check()
        if not small and await self._resumed(control, whole):
            return
        self._end = self._last()
        await self._retrieve(control, whole, small=small, way=way)

    async def _told_with_way(self, control: Control, whole: bytes) -> tuple[Reply, Reply, Reply | None]:
        """The replies to SIZE and MDTM, and to `way_in` where the file is to come from its beginning."""
        if self._want.start:
            return *await _told(control, whole), None
        commands = [b"SIZE " + whole, b"MDTM " + whole, way_in(self._session)]
        size, time, way = control.ask_all(commands)
        return await control.fact(size), await control.fact(time), await control.final(way)

    def _check(self) -> None:
        """Raises what the facts alone show."""
        path, want, told = self._path, self._want, self.facts
        if want.size is not None and told.size not in (None, want.size):
            raise Changed(href(path), f"{told.size} bytes, {want.size} were listed")
        if want.stop is not None and want.etag is not None and told.etag != want.etag:
            raise Changed(href(path), "another version than the one of which a part is wanted")
        size = want.size if told.size is None else told.size
        end = size if want.stop is None else want.stop
        if end is not None and end - want.start * (want.etag is not None) > want.limit:
            raise TooLarge(href(path), f"{end} bytes, and at most {want.limit} are taken")

    def _last(self) -> int | None:
        size, want = self.facts.size if self._want.size is None else self._want.size, self._want
        return size if want.stop is None else want.stop if size is None else min(size, want.stop)

    async def _resumed(self, control: Control, whole: bytes) -> bool:
        """Begin at `want.start` where that is the same version and the server obeys REST (HAZARDS 88)."""
        want, told, manners = self._want, self.facts, self._session.manners
        size = told.size
        if not (want.start > 0 and want.etag is not None and want.etag == told.etag and told.ranges and size):
            return False
        if want.start >= size:
            return False
        if manners.resumes is None:
            manners.resumes = await self._proven(control, whole, size)
        if not manners.resumes:
            return False
        self.start, self._end = want.start, self._last()
        return await self._retrieve(control, whole, start=want.start)

    async def _proven(self, control: Control, whole: bytes, size: int) -> bool:
        """Whether the last byte comes alone, where it is asked for. Once for each server."""
        probe = Transfer(self._session, control, self._path)
        port = await passive(self._session, control, self._path)
        if (await control.say(b"REST %d" % (size - 1))).code != 350:
            return False
        try:
            await probe.begin(b"RETR " + whole, port)
            while await probe.piece():
                if probe.received > 1:
                    self._session.manners.resumes = False
                    raise Lost("REST is answered and not obeyed", again=True)
            await probe.end()
            return probe.received == 1
        finally:
            self._session.traffic.bytes += probe.received
            probe.close()

    async def _retrieve(
        self,
        control: Control,
        whole: bytes,
        *,
        start: int = 0,
        small: bool = False,
        way: Reply | None = None,
    ) -> bool:
        """Let it come. False where the server will not begin at `start`. `way`: what it has said already of
        the next data connection."""
        session, path = self._session, self._path
        self._transfer = Transfer(session, control, path)
        way = way or await control.say(way_in(session))
        port = await port_told(session, control, way, path)
        if start and (await control.say(b"REST %d" % start)).code != 350:
            session.manners.resumes, self.start = False, 0
            return False
        try:
            await self._transfer.begin(b"RETR " + whole, port, small=small)
        except Vanished as error:
            refusal = self._transfer.refusal
            if refusal is None or explicit(refusal) or size_of(await control.say(b"SIZE " + whole)) is None:
                raise
            raise Refused(error.path, f"{error.message} It is there, and cannot be read.") from None
        return True

    # -- the bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        transfer, traffic = self._transfer, self._session.traffic
        while piece := await transfer.piece():
            traffic.bytes += len(piece)
            over = self._over(transfer.received)
            if over:
                piece = piece[: len(piece) - over]
            if piece:
                yield piece
            if over:
                return
        await self._ended()

    def _over(self, received: int) -> int:
        """How many bytes came beyond the part that is wanted. Raises Changed, TooLarge."""
        want, end = self._want, self._end
        if end is not None and self.start + received > end:
            if want.stop is None:
                raise Changed(href(self._path), f"more arrives than the {end} bytes of the listed version")
            return self.start + received - end
        if received > want.limit:
            raise TooLarge(href(self._path), f"more than {want.limit} bytes")
        return 0

    async def pour(self, vessel: Callable[[], Vessel], progress: Callable[[int], None]) -> int | None:
        """See `Pouring`. Not over TLS, and only what is large and comes whole to its end."""
        transfer, session, end = self._transfer, self._session, self._end
        source = transfer.socket()
        if source is None or end is None or end - self.start < POURED or self._want.stop is not None:
            return None
        drain = Drain(self._path, (), source, end - self.start, session.deadline.within, session.patience)
        counted = 0

        def count() -> None:
            nonlocal counted
            session.traffic.bytes += drain.received - counted
            counted = drain.received

        thread = ThreadPoolExecutor(1, "drain")
        working = asyncio.get_running_loop().run_in_executor(thread, drain.run, vessel())
        thread.shutdown(wait=False)
        try:
            while not working.done():
                await asyncio.wait([working], timeout=TOLD)
                count()
                progress(drain.received)
        finally:
            if not working.done():
                drain.stop()
                await asyncio.wait([working])
            count()
        working.result()
        source.setblocking(False)
        transfer.took(drain.received)
        if await transfer.piece():
            raise Changed(href(self._path), f"more arrives than the {end} bytes of the listed version")
        await self._ended()
        return drain.received

    async def _ended(self) -> None:
        """Believe it only whole: as long as it must be, by the server's word, and still the same version."""
        session, control, path, end = self._session, self._control, self._path, self._end
        try:
            await self._transfer.end()
            arrived = self.start + self._transfer.received
            if self._small_and_whole(arrived):
                return
            size, time = await _told(control, session.absolute(path))
        except Lost as lost:
            raise Unreachable(href(path), f"{lost}, after {self._transfer.received} bytes") from None
        now = size_of(size)
        told = self.facts
        if now is not None and now != (told.size if end is None else end if self._want.stop is None else now):
            raise Changed(href(path), f"{now} bytes when it had been read, {end} before")
        if told.mtime is not None and modified(time) not in (None, told.mtime):
            raise Changed(href(path), "changed while it was read")
        if end is not None and arrived < end:
            raise Unreachable(
                href(path), f"{arrived} bytes arrived, {end} were listed, and the server calls it complete"
            )
        if end is None and now != arrived:
            raise Unreachable(href(path), f"unverified-length: {arrived} bytes, and the server tells no size")

    def _small_and_whole(self, arrived: int) -> bool:
        return arrived == self._end and self.facts.mtime is None and self._want.size is not None


def _small(want: Want) -> bool:
    """Whether the listing has told all that has to be known: one of many."""
    return want.size is not None and want.size <= SMALL and want.start == 0 and want.stop is None
