"""Who lends connections, when, and to where they may lead."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from cluster.errors import OriginError
from cluster.model import Limits, OriginSpec
from cluster.origin.base import Plain, Want
from cluster.origin.http import HttpOrigin
from cluster.origin.http_session import NAMES_HOLD
from cluster.origin.open import Shared, open_origin
from tests.origin.conformance import received
from tests.origin.hostile import Hostile, ok, redirect


class Leading(AbstractResolver):
    """Every name leads to these addresses."""

    def __init__(self, *hosts: str) -> None:
        self.hosts, self.asked = list(hosts), 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        if not self.hosts:
            raise OSError("no such name")
        return [
            ResolveResult(hostname=host, host=to, port=port, family=socket.AF_INET, proto=0, flags=0)
            for to in self.hosts
        ]

    async def close(self) -> None:
        pass


@pytest.fixture
async def server() -> AsyncIterator[Hostile]:
    async with Hostile({"/a": ok(b"a"), "/moved": redirect("/a"), "/pub/a": ok(b"a")}) as made:
        yield made


def named(server: Hostile, resolver: AbstractResolver, *, private: bool = True) -> HttpOrigin:
    spec = OriginSpec(f"http://mirror.example:{server.port}/", private=private)
    return HttpOrigin(spec, Limits(connections=4), resolver=resolver)


def free(origin: HttpOrigin) -> int:
    return origin._session.places._value


async def test_nothing_is_lent_before_the_origin_has_answered(server: Hostile) -> None:
    origin = HttpOrigin(OriginSpec(server.url, private=True), Limits(connections=4))
    assert await origin.lend(3) is None
    assert free(origin) == 4
    assert server.connections == 0
    await origin.close()


async def test_nothing_is_lent_by_an_origin_that_sends_everybody_elsewhere(server: Hostile) -> None:
    origin = HttpOrigin(OriginSpec(server.url, private=True), Limits(connections=4))
    assert await received(origin, b"moved") == b"a"
    assert await origin.lend(3) is None
    assert await received(origin, b"a") == b"a"
    lent = await origin.lend(3)
    assert lent is not None and lent.connections == 3
    assert free(origin) == 1
    origin.back(lent)
    assert free(origin) == 4
    await origin.close()


async def test_what_is_lent_leads_where_the_name_leads(server: Hostile) -> None:
    spec = OriginSpec(f"http://mirror.example:{server.port}/pub/", private=True, bind="127.0.0.1")
    origin = HttpOrigin(spec, Limits(timeout=7.0), resolver=Leading("127.0.0.1", "127.0.0.2"))
    assert await received(origin, b"a") == b"a"
    lent = await origin.lend(1)
    assert lent is not None
    places = tuple((int(socket.AF_INET), host, server.port) for host in ("127.0.0.1", "127.0.0.2"))
    assert (lent.addresses, lent.bind, lent.head) == (places, "127.0.0.1", b"GET /pub/")
    assert f"\r\nHost: mirror.example:{server.port}\r\n".encode() in lent.tail
    assert lent.tail.startswith(b" HTTP/1.1\r\n") and lent.tail.endswith(b"\r\n\r\n")
    assert lent.silence == 7.0
    await origin.close()


async def test_73_a_name_that_leads_inside_later_is_not_connected_to(server: Hostile) -> None:
    resolver = Leading("127.0.0.1")
    origin = named(server, resolver)
    assert await received(origin, b"a") == b"a"
    origin._session._guard._private = False  # the name answered with a public address until now
    resolver.hosts = ["10.0.0.1"]
    assert await origin.lend(3) is None
    assert free(origin) == 4
    resolver.hosts = ["10.0.0.1", "192.0.9.1"]
    lent = await origin.lend(3)
    assert lent is not None and [host for _, host, _ in lent.addresses] == ["192.0.9.1"]
    await origin.close()


async def test_a_name_that_is_gone_lends_nothing(server: Hostile) -> None:
    resolver = Leading("127.0.0.1")
    origin = named(server, resolver)
    assert await received(origin, b"a") == b"a"
    resolver.hosts = []
    assert await origin.lend(3) is None
    assert free(origin) == 4
    await origin.close()


async def test_name_servers_are_not_asked_for_every_directory(
    server: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver, now = Leading("127.0.0.1"), 1000.0
    origin = named(server, resolver)
    assert await received(origin, b"a") == b"a"
    monkeypatch.setattr("cluster.origin.http_session.time.monotonic", lambda: now)
    asked = []
    for later in (0.0, 1.0, NAMES_HOLD - 2.0, 2.0):
        now += later
        lent = await origin.lend(1)
        assert lent is not None
        origin.back(lent)
        asked.append(resolver.asked)
    assert asked == [asked[0]] * 3 + [asked[0] + 1]
    monkeypatch.undo()
    await origin.close()


async def test_who_is_cancelled_while_names_are_asked_for_holds_nothing(server: Hostile) -> None:
    resolver = Leading("127.0.0.1")
    origin = named(server, resolver)
    assert await received(origin, b"a") == b"a"

    async def slow(*_: object) -> list[ResolveResult]:
        await asyncio.sleep(10)
        return []

    resolver.resolve = slow  # type: ignore[assignment]
    lending = asyncio.create_task(origin.lend(3))
    await asyncio.sleep(0.05)
    assert free(origin) == 1
    lending.cancel()
    await asyncio.wait([lending])
    assert free(origin) == 4
    await origin.close()


async def test_a_host_that_wants_to_be_left_alone_lends_nothing(server: Hostile) -> None:
    server.answers["/busy"] = ok(b"", "Retry-After: 3000", status="503 Later")
    shared = Shared()
    origin = open_origin(OriginSpec(server.url, private=True), Limits(connections=4), shared)
    assert await received(origin, b"a") == b"a"
    lent: Plain | None = await origin.lend(3)  # type: ignore[attr-defined]
    assert lent is not None
    origin.back(lent)  # type: ignore[attr-defined]
    with pytest.raises(OriginError):
        await received(origin, b"busy", Want())
    assert await origin.lend(3) is None  # type: ignore[attr-defined]
    assert shared.hosts.of("127.0.0.1").running == 0
    await origin.close()
