"""A bundle that the carrier's process takes: how the sibling is judged stays here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from cluster.courier import said
from cluster.errors import PeerBroke, PeerSilent
from cluster.peer import bundlewire
from cluster.peer.client import Told, Unwritten, Wish
from cluster.peer.pace import Pace

if TYPE_CHECKING:
    from cluster.courier.carrier import Carrier, Talk
    from cluster.courier.said import Order, Report, Written
    from cluster.peer.https import HttpsSibling


class CarriedBundle:
    """Implements `cluster.peer.client.Carried`; has one of the connections that the sibling allows."""

    told: Told

    def __init__(
        self, sibling: HttpsSibling, carrier: Carrier, mirror: str, wishes: Sequence[Wish], patience: float
    ) -> None:
        self._sibling, self._link, self._carrier = sibling, sibling.link, carrier
        self._mirror, self._wishes, self._patience = mirror, wishes, patience
        self._slots = self._link.slots
        self._talk: Talk | None = None
        self._pace = Pace(self._link.window)
        self._waited, self._received = 0.0, 0

    async def __aenter__(self) -> Self:
        await self._slots.acquire()
        try:
            self._link.worth_asking()
            with self._link.judged("body"), self._link.broken():
                place = await self._link.place()
                question = bundlewire.question(self._mirror, self._wishes)
                request = self._link.request("files", question)
                self._talk = self._carrier.ask(place, request, self._patience, self._link.window)
                header = await self._next(self._talk, said.TOLD)
                self.told = bundlewire.told_read(cast("bytes", header), self._wishes)
        except BaseException:
            await self._over()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._over()

    async def _over(self) -> None:
        try:
            if self._talk is not None:
                await self._talk.over()
        finally:
            self._slots.release()

    async def files(self, prefix: bytes, orders: Sequence[Order]) -> AsyncGenerator[Sequence[Written], None]:
        """See `Carried`. A sibling whose bytes are not what it promised is blamed."""
        assert self._talk is not None
        self._talk.take(prefix, bundlewire.to_come(self.told, self._wishes), orders)
        while True:
            with self._link.judged("body"), self._link.broken():
                written = await self._next(self._talk, said.WRITTEN)
            if written is None:
                break
            yield cast("Sequence[Written]", written)

    async def _next(self, talk: Talk, expected: int) -> object:
        """What the next report of that sort says; None at a good end. Raises PeerError, Unwritten."""
        while True:
            _, sort, content, waited, received = report = await self._report(talk)
            self._sibling.traffic.bytes += received
            self._waited += waited
            self._received += received
            if self._pace.slow(waited, received) and received and sort not in said.LAST:
                raise PeerSilent(self._link.name, f"slower than {self._pace.least // 1024} KiB/s")
            if sort == expected:
                return content
            if sort in said.LAST:
                self._last(report)
                return None

    async def _report(self, talk: Talk) -> Report:
        begun = hasattr(self, "told")
        async with self._link.elsewhere(self._link.window if begun else self._patience):
            report = await talk.next()
            if report[1] == said.LATE:
                raise TimeoutError
        if report[1] not in (said.UNCONNECTED, said.CERTIFICATE, said.DROPPED):
            self._link.heard()
        return report

    def _last(self, report: Report) -> None:
        """The end of it: raises PeerError where it is none. Raises Unwritten."""
        _, sort, content, _, _ = report
        link = self._link
        match sort:
            case said.ENDED:
                bundlewire.ended(*cast("tuple[bytes, int]", content))
                link.measured(self._received, self._waited)
                link.breaker.succeeded("body")
            case said.DECEIVED:
                self._sibling.deceived("bytes that do not match their digest")
            case said.FAILED:
                raise Unwritten(*cast("tuple[int, int]", content))
            case said.REFUSED:
                raise link.refusal(*cast("tuple[int, bytes]", content))
            case said.UNCONNECTED:
                raise link.unconnected(*cast("tuple[int, str]", content))
            case said.CERTIFICATE:
                raise link.foreign(*cast("tuple[int, str]", content))
            case said.CUT:
                raise PeerSilent(link.name, str(content))
            case _:
                raise PeerBroke(link.name, str(content))
