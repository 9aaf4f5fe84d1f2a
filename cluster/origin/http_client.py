"""The general client, aiohttp: how it is set up for one origin, and what its errors mean.

Imported with the first request that needs it: where an origin answers plainly nothing does, and a command
that finds nothing to do begins 0.1 s earlier.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, cast

import aiohttp

from cluster.errors import OriginError, Refused, Unreachable
from cluster.model import href
from cluster.origin.http_guard import ForbiddenAddress
from cluster.origin.http_session import connecting, worded

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver
    from yarl import URL

    from cluster.model import Limits, OriginSpec
    from cluster.origin.http_guard import Guard, GuardedResolver

FAILURES = (aiohttp.ClientError, OSError, ValueError)  # what it raises


def opened(
    spec: OriginSpec,
    limits: Limits,
    guard: Guard,
    resolver: GuardedResolver,
    *,
    fields: dict[str, str],
    proxy: URL | None,
    connect: float,
    names: int,
    tls: ssl.SSLContext | bool,
) -> aiohttp.ClientSession:
    """The session, made inside the running loop. `connect` and `names` are s: until TCP is connected, and for
    which addresses hold."""
    connector = aiohttp.TCPConnector(
        limit=0,
        limit_per_host=limits.connections,
        ttl_dns_cache=names,
        family=guard.family,
        local_addr=(spec.bind, 0) if spec.bind else None,
        resolver=cast("AbstractResolver", resolver),
        ssl=tls,
        socket_factory=guard.open_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        headers=fields,
        cookie_jar=aiohttp.DummyCookieJar(),
        # No total: an image takes hours. No sock_read: `Deadline` does it for less than half the time.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect),
        auto_decompress=False,
        trust_env=False,
        proxy=proxy,
    )


def classified(path: bytes, error: Exception, received: int | None = None) -> OriginError:
    """What one of aiohttp's errors means for whoever asked for `path`. Never repeats a header or a URL."""
    name = href(path)
    cause = getattr(error, "os_error", None) or error
    after = "" if received is None else f" after {received} bytes"
    if isinstance(cause, ForbiddenAddress):
        return Refused(name, worded(cause))
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Refused(name, f"its certificate is not valid: {worded(error.certificate_error)}")
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        plain = getattr(cause, "reason", "") == "WRONG_VERSION_NUMBER"
        why = "what answers there speaks no TLS" if plain else worded(cause)
        return Refused(name, f"no secure connection: {why}")
    if isinstance(error, aiohttp.InvalidURL):
        return Refused(name, "the URL is not one that may be asked")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        kind = Refused if error.status in (401, 403, 407) else Unreachable
        return kind(name, f"the proxy answered {error.status}")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Unreachable(name, "no connection in time")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Unreachable(name, "the connection was closed without an answer")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Unreachable(name, f"the connection broke{after}")
    if isinstance(error, aiohttp.ClientResponseError):
        return Unreachable(name, f"the answer is not HTTP: {worded(error.message)}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unreachable(name, f"no address: {worded(cause)}")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Unreachable(name, f"no connection to the proxy: {worded(cause)}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unreachable(name, f"cannot connect to {_address(error)}: {connecting(cause)}")
    return Unreachable(name, f"{worded(cause)}{after}")


def _address(error: aiohttp.ClientConnectorError) -> str:
    host = f"[{error.host}]" if ":" in error.host else error.host
    return f"{host}:{error.port}"
