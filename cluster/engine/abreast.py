"""A pass does not run far ahead of its siblings' copying: what only this site has is lost with it."""

from __future__ import annotations

from cluster.engine.context import Context
from cluster.model import Order, Trust
from cluster.peer.uncopied import TICK


class Abreast:
    """Counts what came from the origin, and lets whoever would fetch more of it wait."""

    def __init__(self, context: Context) -> None:
        sideways = context.mirror.sideways
        shared = sideways.enabled and sideways.trust is Trust.SIBLINGS
        self._counts = shared and context.mirror.order is Order.RENDEZVOUS and not context.dry
        self._context = context
        self.waiting = 0

    def __repr__(self) -> str:
        return f"<Abreast {self.waiting} waiting>"

    def came(self, path: bytes, size: int) -> None:
        """All of a file has come from the origin."""
        if self._counts and self._context.claims.kept:
            self._context.claims.uncopied(self._context.mirror.name).came(path, size)

    def forget(self, path: bytes) -> None:
        """It was not published."""
        if self._counts:
            self._context.claims.uncopied(self._context.mirror.name).forget(path)

    async def room(self) -> None:
        """Return when more may come from the origin: at once where no sibling works on the same mirror."""
        self.waiting += 1
        try:
            while self._too_much():
                await self._context.clock.sleep(TICK / 2)
        finally:
            self.waiting -= 1

    def _too_much(self) -> bool:
        context, mirror = self._context, self._context.mirror.name
        if not (self._counts and context.claims.heard.passing(mirror) and context.up()):
            return False
        return context.claims.uncopied(mirror).too_much(context.clock.monotonic())
