"""One file of an HTTP origin: its facts, and its bytes as they are on the wire.

A body is believed complete only by its framing (Content-Length or chunked) or by a size that is known
from elsewhere; aiohttp reports a connection that broke inside a close-delimited body as its normal end
(HAZARDS 0.3, 60).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cluster.errors import Changed, OriginError, Refused, TooLarge, Unreachable
from cluster.model import Facts, Kind, href
from cluster.origin.http_drain import Drain
from cluster.origin.http_fields import strong
from cluster.origin.http_headers import coding, content_range, facts_of, length, own_coding
from cluster.origin.http_redirect import BecameDirectory
from cluster.origin.http_session import HttpSession, Reader
from cluster.origin.http_stream import LARGE, Stream, Streams

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from cluster.origin.base import Vessel, Want

TOLD = 0.25  # s between two looks at how much a thread has received

# Names whose bytes are never HTML: a portal's page under one of them is not the file (HAZARDS 79).
_NOT_HTML = (
    *(b".deb", b".udeb", b".rpm", b".drpm", b".apk", b".iso", b".img", b".qcow2", b".jar", b".whl", b".exe"),
    *(b".gz", b".tgz", b".bz2", b".tbz2", b".xz", b".txz", b".zst", b".lz", b".lzma", b".Z", b".7z", b".zip"),
    *(b".tar", b".pdf", b".ps", b".dmg", b".msi", b".gpg", b".asc", b".sig", b".torrent", b".cab"),
)


async def facts(session: HttpSession, path: bytes) -> Facts:
    """What the origin says of `path`: HEAD, or the first byte where HEAD is not implemented (405, 501).

    The caller holds a place. Raises OriginError.
    """
    target = session.prefix + href(path)
    try:
        answer = None
        if session.has_head:
            answer = await session.ask("HEAD", target, path)
            if answer.status in (405, 501):
                answer.release()
                answer, session.has_head = None, False
        if answer is None:
            answer = await session.ask("GET", target, path, {"Range": "bytes=0-0"})
    except BecameDirectory:
        return Facts(kind=Kind.DIRECTORY)
    if answer.status == 200:
        answer.release()
        return facts_of(answer.headers)
    if answer.status == 206 and (part := content_range(answer.headers)):
        answer.release()
        return facts_of(answer.headers, part=part)
    raise session.refusal(answer, path)


class Download:
    """A file on its way: enter it to send the request, then take the `chunks` once.

    Is its own Body. Holds one of the session's places from entry to exit.
    """

    __slots__ = (
        "_answer",
        "_cut",
        "_most",
        "_path",
        "_reader",
        "_remaining",
        "_session",
        "_streams",
        "_want",
        "facts",
        "start",
    )

    facts: Facts
    start: int
    _answer: ClientResponse | Stream
    _reader: Reader
    _remaining: int | None  # bytes still to come, where it is known
    _most: int

    def __init__(self, session: HttpSession, path: bytes, want: Want, streams: Streams) -> None:
        self._session, self._path, self._want, self._streams = session, path, want, streams
        self.start = 0
        self._cut = False  # a whole file arrives of which only the beginning is wanted

    async def __aenter__(self) -> Self:
        session = self._session
        await session.places.acquire()
        try:
            await self._open()
        except BaseException:
            session.places.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reader = self._reader
        self._session.traffic.bytes += reader.arrived - reader.received
        self._answer.release()  # drops the connection where the body is not at its end
        self._session.places.release()

    # -- the answer ----------------------------------------------------------------------------

    async def _open(self) -> None:
        """Ask; where a part is not answered as it must be, ask once more from the start."""
        want = self._want
        if (want.start > 0 or want.stop is not None) and (etag := strong(want.etag)):
            last = "" if want.stop is None else str(want.stop - 1)
            extra = {"Range": f"bytes={want.start}-{last}", "If-Range": etag}
            if want.stop is not None:
                extra["If-Match"] = etag  # else all of another version is sent, for nothing
            answer = await self._asked(extra)
            if answer.status == 412:
                answer = await self._unmatched(answer, extra)
            if answer.status == 206 and self._is_part(answer, etag):
                return
            if answer.status not in (206, 416):
                self._whole(answer)
                return
            answer.release()
        self._whole(await self._asked())

    async def _unmatched(
        self, answer: ClientResponse | Stream, extra: dict[str, str]
    ) -> ClientResponse | Stream:
        """The same without the condition, where the server holds the version that it says it does not. Raises
        Changed where it has another one (RFC 9110, section 13.1.1)."""
        answer.release()
        path, etag = self._path, extra.pop("If-Match")
        if (now := (await facts(self._session, path)).etag) != etag:
            raise Changed(href(path), f"another version than {etag}: {now or 'one without a name'}")
        return await self._asked(extra)

    async def _asked(self, extra: dict[str, str] | None = None) -> ClientResponse | Stream:
        session, path, want = self._session, self._path, self._want
        end = want.stop if want.stop is not None else want.size
        if end is not None and end - want.start >= LARGE:
            answer = await self._streams.ask(href(path), path, extra)
            if answer is not None:
                return answer
        return await session.ask("GET", session.prefix + href(path), path, extra)

    def _is_part(self, answer: ClientResponse | Stream, etag: str) -> bool:
        """Take `answer` if it is the wanted part of the very version that `etag` names (HAZARDS 62, 63)."""
        part, said, want = content_range(answer.headers), length(answer.headers), self._want
        if part is None or part.first != want.start or part.total != (want.size or part.total):
            return False
        end = part.total if want.stop is None else min(want.stop, part.total)
        if part.last != end - 1 or said not in (None, end - part.first):
            return False
        if answer.headers.get("ETag", etag) != etag or coding(answer.headers) is not None:
            return False
        if end - part.first > want.limit:
            answer.release()
            raise TooLarge(href(self._path), f"{end - part.first} bytes, and at most {want.limit} are taken")
        self.start = part.first
        self._take(answer, facts_of(answer.headers, part=part), end - part.first)
        return True

    def _whole(self, answer: ClientResponse | Stream) -> None:
        """Accept a 200 that can be the wanted version. Raises OriginError; then nothing stays open."""
        path, want = self._path, self._want
        if answer.status != 200:
            raise self._session.refusal(answer, path)
        found = facts_of(answer.headers)
        if objection := self._objection(answer, found):
            self._session.traffic.bytes += answer.content.total_bytes
            answer.release()
            raise objection
        size = found.size if want.size is None else want.size
        if want.stop is not None and (size is None or want.stop < size):
            self._cut, size = True, want.stop
        self._take(answer, found, size)

    def _take(self, answer: ClientResponse | Stream, found: Facts, remaining: int | None) -> None:
        self._answer, self.facts, self._remaining = answer, found, remaining
        self._most = self._want.limit if remaining is None else remaining
        self._reader = Reader(self._session, answer, self._path)

    def _objection(self, answer: ClientResponse | Stream, found: Facts) -> OriginError | None:
        """Why the header alone shows that this is not the wanted version, or None."""
        path, want, headers, size = self._path, self._want, answer.headers, found.size
        if want.stop is not None and want.etag is not None and found.etag != want.etag:
            return Changed(href(path), "another version than the one of which a part is wanted")
        if size is not None and size > want.limit:
            return TooLarge(href(path), f"{size} bytes, and at most {want.limit} are taken")
        if want.size is not None:
            if size is not None and size != want.size:
                return Changed(href(path), f"{size} bytes arrive, {want.size} were listed")
            return None
        if (used := coding(headers)) and not own_coding(path, used):
            return Refused(href(path), f"sent packed as {used[:20]!r} although its own bytes were asked for")
        if headers.get("Content-Type", "").startswith("text/html") and path.endswith(_NOT_HTML):
            return Changed(href(path), "an HTML page arrives instead of the file")
        return None

    # -- the bytes -----------------------------------------------------------------------------

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        # An iterator of its own: an async generator costs 5 us more for each file.
        reader = self._reader
        before = reader.received
        if self._cut and before >= self._most:
            raise StopAsyncIteration
        piece = await reader.piece()
        if not piece:
            await self._ended()
            raise StopAsyncIteration
        self._session.traffic.bytes += reader.received - before
        if reader.received > self._most:
            if not self._cut:
                raise self._too_long()
            piece = piece[: self._most - before]
        return piece

    async def pour(self, vessel: Callable[[], Vessel], progress: Callable[[int], None]) -> int | None:
        """See `Pouring`. Not over TLS, and not through a general client."""
        stream, remaining = self._answer, self._remaining
        if self._cut or remaining is None or not isinstance(stream, Stream) or stream.left != remaining:
            return None
        detached = stream.detach()
        if detached is None:
            return None
        session, loop = self._session, asyncio.get_running_loop()
        drain = Drain(self._path, *detached, remaining, session.deadline.within, session.patience)
        thread = ThreadPoolExecutor(1, "drain")
        working = loop.run_in_executor(thread, drain.run, vessel())
        working.add_done_callback(lambda _: drain.close())
        thread.shutdown(wait=False)
        try:
            while not working.done():
                await asyncio.wait([working], timeout=TOLD)
                self._count(drain.received)
                progress(drain.received)
        finally:
            if not working.done():
                drain.stop()
                await asyncio.wait([working])
            self._count(drain.received)
        working.result()
        return drain.received

    def _count(self, received: int) -> None:
        self._session.traffic.bytes += received - self._reader.received
        self._reader.received = received

    async def _ended(self) -> None:
        received, remaining = self._reader.received, self._remaining
        if remaining is None:
            if not self._framed():
                await self._second_opinion(received)
        elif received < remaining:
            raise self._too_short(received, remaining)

    def _too_long(self) -> OriginError:
        if self._remaining is None:
            return TooLarge(href(self._path), f"more than {self._want.limit} bytes")
        whole = self.start + self._remaining
        return Changed(href(self._path), f"more arrives than the {whole} bytes of the listed version")

    def _too_short(self, received: int, remaining: int) -> OriginError:
        text = f"{self.start + received} bytes arrived, {self.start + remaining} were listed"
        if self._framed():
            return Changed(href(self._path), f"{text}, and the answer is complete")
        return Unreachable(href(self._path), f"{text}, and the connection ended")

    def _framed(self) -> bool:
        """Whether the answer itself says where its body ends."""
        headers = self._answer.headers
        return "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "").lower()

    async def _second_opinion(self, received: int) -> None:
        """A body of unknown size that only the end of the connection ended: HEAD must confirm it."""
        said = await facts(self._session, self._path)
        if said.size != received:
            told = "tells no size" if said.size is None else f"tells {said.size}"
            raise Unreachable(
                href(self._path),
                f"unverified-length: {received} bytes until the connection ended, HEAD {told}",
            )
