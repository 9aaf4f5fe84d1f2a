"""Connections of our own to an origin, by the rules of its session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from cluster.origin.http_session import HttpSession, Way

SPOILT, SHARE = 3, 16  # odd answers until nothing is asked this way any more: so many, and one in so many
QUICK = 3.0  # s for a connection to an origin that was never asked: the ordinary client waits again

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


class Dialer:
    """Makes them, as long as that is of use: what cannot be had so, or is answered oddly, the ordinary client
    has to ask for."""

    def __init__(self, session: HttpSession) -> None:
        self.usable = True
        self.way: Way | None = None
        self._session = session
        self._address = 0  # the first to which a connection can be made, as far as we know
        self._answered = self._odd = 0

    def __repr__(self) -> str:
        return f"<Dialer {self._answered} answers, {self._odd} odd>"

    def answered(self) -> None:
        self._answered += 1

    def odd(self) -> None:
        """An answer that could not be taken: it costs one more request."""
        self._odd += 1
        self.usable = self.usable and self._odd <= SPOILT + self._answered // SHARE

    async def open(self, protocol: Callable[[], _P]) -> _P | None:
        """None where there is none to be had: the ordinary client finds out why."""
        session = self._session
        way = await session.way() if self.usable else None
        if way is None:
            return None
        self.way = way  # and stays: somebody else's connection may just have been made
        patience = session.patience.connect if session.answered else min(QUICK, session.patience.connect)
        for address in way.addresses[self._address :]:
            try:
                async with asyncio.timeout(patience):
                    return await self._connected(way, address, protocol)
            except (OSError, TimeoutError, ValueError):
                self._address += 1
        self.usable = False
        return None

    async def _connected(self, way: Way, address: tuple[int, str, int], protocol: Callable[[], _P]) -> _P:
        loop = asyncio.get_running_loop()
        made = self._session.socket_to(address)
        try:
            await loop.sock_connect(made, address[1:])
            _, connected = await loop.create_connection(
                protocol, sock=made, ssl=way.tls, server_hostname=way.host if way.tls else None
            )
        except BaseException:
            with contextlib.suppress(OSError):
                made.close()
            raise
        return connected
