"""What the siblings say of themselves, for the cluster page and for `status`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from cluster.errors import PeerError
from cluster.peer.https import HttpsSibling
from cluster.peer.siblings import Siblings
from cluster.store.summary import MirrorSummary
from cluster.web.view import SiblingSummary

ASK_SIBLINGS = 10.0  # s between two questions to each


class Neighbours:
    """One per daemon. `siblings` gives those that there are, None while there is no peer port. `run` until it
    is cancelled."""

    def __init__(self, siblings: Callable[[], Siblings | None]) -> None:
        self._siblings = siblings
        self.told: Mapping[str, SiblingSummary] = {}

    async def run(self) -> None:
        """Keep asking, one after the other round."""
        while True:
            siblings = self._siblings()
            if siblings is not None:
                everybody = list(siblings.all.values())
                told = await asyncio.gather(*(self._summary(sibling) for sibling in everybody))
                self.told = {s.name: t for s, t in zip(everybody, told, strict=True)}
            await asyncio.sleep(ASK_SIBLINGS if self.told else 1.0)

    async def _summary(self, sibling: HttpsSibling) -> SiblingSummary:
        before = self.told.get(sibling.name)
        told, mirrors = (before.told, before.mirrors) if before else (None, {})
        if not sibling.up:
            return SiblingSummary(False, told, mirrors, sibling.trouble)
        try:
            carried = await sibling.mirrors()
        except PeerError as error:
            return SiblingSummary(False, told, mirrors, error.message)
        summaries = {
            one.mirror: MirrorSummary(
                fresh=one.complete,
                files=one.files,
                bytes=one.bytes,
                outcome=one.outcome,
                ended=one.ended,
                origin_bytes=one.origin_bytes,
                sideways_bytes=one.sideways_bytes,
                errors=one.errors,
                held=one.held,
                received=one.received,
                days=one.days,
            )
            for one in carried
        }
        return SiblingSummary(True, time.time(), summaries)

    def __repr__(self) -> str:
        return f"<Neighbours {sum(one.up for one in self.told.values())} of {len(self.told)} up>"
