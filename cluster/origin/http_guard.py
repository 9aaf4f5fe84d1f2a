"""Which addresses an HTTP origin may lead us to (HAZARDS 73).

A public origin must not be able to point this site at its own network: by a redirect to an address, by
one to a name, or by its own name resolving there. Three checks, because each alone has been passed by:
the address literals of every URL before it is asked, every answer of the resolver, and every socket
right before it connects. The last one sees the very address that the kernel is given.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType
    from aiohttp.abc import AbstractResolver, ResolveResult
    from yarl import URL

    from cluster.model import OriginSpec

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052; the local-use prefix of RFC 8215 is not global anyway
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, 2.5.5.1: deprecated, and still routed by some
MAX_ADDRESSES = 8  # of one name: each family's first is tried, then the next; bounds the time to fail

FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


class ForbiddenAddress(OSError):
    """A connection that must not be made. An OSError, because that is what resolvers and sockets raise."""


def literal(host: str | None) -> IPv4Address | IPv6Address | None:
    """`host` if it is an address, without a zone; None if it is a name."""
    try:
        return ip_address((host or "").partition("%")[0])
    except ValueError:
        return None


def public(address: IPv4Address | IPv6Address) -> bool:
    """Whether `address` is one host of the public Internet, also inside every IPv6 form that carries IPv4.

    Source: IANA's special-purpose registries, through `ipaddress`; multicast and reserved are not hosts.
    """
    if isinstance(address, IPv6Address):
        low = IPv4Address(int(address) & 0xFFFF_FFFF)
        if address.ipv4_mapped is not None or address in _NAT64:
            return public(low)
        if address.sixtofour is not None:
            return public(address.sixtofour)
        if address in _COMPATIBLE or address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


class Guard:
    """What one origin may connect to.

    `private="yes"` permits everything; an origin whose URL names an address permits that address and
    port, and public ones. A proxy is the operator's own choice: then only URLs are judged, because the
    proxy resolves names and connects.
    """

    def __init__(self, spec: OriginSpec, url: URL) -> None:
        self._private = spec.private
        self._proxied = spec.proxy is not None
        self._named = (literal(url.host), url.port)
        self.family = FAMILIES[spec.family]
        bound = literal(spec.bind)
        if bound is not None and self.family == socket.AF_UNSPEC:
            self.family = socket.AF_INET if bound.version == 4 else socket.AF_INET6

    def _permits(self, address: IPv4Address | IPv6Address, port: int | None) -> bool:
        return self._private or (address, port) == self._named or public(address)

    def objection(self, url: URL) -> str | None:
        """Why `url` must not be asked, or None. Judges addresses; names are judged when resolved."""
        address = literal(url.host)
        if address is None:
            return None
        wanted = {socket.AF_INET: 4, socket.AF_INET6: 6}.get(self.family)
        if wanted is not None and address.version != wanted and not self._proxied:
            return f"{address} is not an IPv{wanted} address"
        if not self._permits(address, url.port):
            return f"{address} is not a public address, and the origin is not marked private"
        return None

    def permitted(self, host: str, found: list[ResolveResult]) -> list[ResolveResult]:
        """The resolved addresses that may be connected to. Raises ForbiddenAddress if none may."""
        if self._proxied:
            return found
        kept = [r for r in found if (a := literal(r["host"])) is not None and self._permits(a, r["port"])]
        if found and not kept:
            raise ForbiddenAddress(
                f"{host} leads to {found[0]['host']}, which is not a public address, "
                "and the origin is not marked private"
            )
        return kept[:MAX_ADDRESSES]

    def open_socket(self, info: AddrInfoType) -> socket.socket:
        """A socket for exactly `info`, about to be connected. Raises ForbiddenAddress."""
        family, kind, protocol, _, where = info
        if not self._proxied:
            address = literal(str(where[0]))
            if address is None or not self._permits(address, int(where[1])):
                raise ForbiddenAddress(f"{where[0]} is not a public address")
        return socket.socket(family, kind, protocol)


class SystemResolver:
    """The system's own, on a thread. It has the shape of aiohttp's resolvers, and needs no import of it."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError. An address that is good on one link only (`%eth0`) keeps that."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        results: list[ResolveResult] = []
        for its_family, _, protocol, _, where in found:
            address = str(where[0])
            if its_family == socket.AF_INET6 and len(where) > 3 and where[3]:
                address = f"{address.partition('%')[0]}%{socket.if_indextoname(int(where[3]))}"
            results.append(
                {
                    "hostname": host,
                    "host": address,
                    "port": int(where[1]),
                    "family": its_family,
                    "proto": protocol,
                    "flags": numeric,
                }
            )
        return results

    async def close(self) -> None:
        """There is nothing to be closed."""


class GuardedResolver:
    """`inner` with its answers judged by `guard`, and with a bound on the time it takes (HAZARDS 82)."""

    def __init__(self, inner: AbstractResolver | SystemResolver, guard: Guard, patience: float) -> None:
        self._inner, self._guard, self._patience = inner, guard, patience

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            async with asyncio.timeout(self._patience):
                found = await self._inner.resolve(host, port, family)
        except TimeoutError:
            raise OSError(f"no answer from the name servers in {self._patience:g} s") from None
        kept = self._guard.permitted(host, found)
        if not kept:
            raise OSError(f"{host} has no address of this family")
        return kept

    async def close(self) -> None:
        await self._inner.close()
