"""A mirror's committed records in memory, its files in a folder, and a view that the test writes to."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from cluster.errors import StoreError
from cluster.model import (
    SECOND,
    Cluster,
    Failure,
    Held,
    Kind,
    Mirror,
    OriginSpec,
    Site,
    Skipped,
    Stamp,
    join,
    split,
)
from cluster.plan.saving import Received, added
from cluster.plan.shares import Standing
from cluster.store.mirror import PassRecord, Plan, Reader, Totals
from cluster.web.server import WebServer
from cluster.web.view import Progress, SiblingSummary

NOW = 1_780_000_000.0  # 2026-05-28 20:26:40 UTC
MTIME = 1_770_000_000
ORIGIN = "https://ftp.example.org/debian/"


class FakeReader(Reader):
    """What a Reader promises, from dictionaries."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directories: dict[bytes, dict[bytes, Held]] = {b"": {}}
        self.skipped: dict[bytes, list[Skipped]] = {}
        self.failures: dict[bytes, list[Failure]] = {}
        self.missing: dict[bytes, dict[bytes, int]] = {}
        self.compared: dict[bytes, int | None] = {}
        self.recorded: list[PassRecord] = []
        self.plan: Plan | None = None
        self.days: dict[int, Received] = {}
        self.largest_page = 0
        self.closed = False

    def add(self, path: bytes, body: bytes = b"", **facts: object) -> Held:
        directory, name = split(path)
        held = Held(name, Kind.FILE, len(body), hashlib.sha256(body).digest(), Stamp(MTIME * SECOND, SECOND),
                    copied=MTIME + 60)  # fmt: skip
        held = replace(held, **facts)  # type: ignore[arg-type]
        if directory not in self.directories:
            self.add(directory, kind=Kind.DIRECTORY, sha256=None)
        self.directories[directory][name] = held
        if held.kind is Kind.DIRECTORY:
            self.directories.setdefault(path, {})
        if held.kind is Kind.FILE and self.root.exists():
            file = os.path.join(os.fsencode(self.root), path)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "wb") as sink:
                sink.write(body)
        return held

    def link(self, path: bytes, target: bytes) -> None:
        self.add(path, kind=Kind.SYMLINK, target=target, sha256=None, size=0)

    async def close(self) -> None:
        self.closed = True

    async def directory(self, directory: bytes) -> dict[bytes, Held] | None:
        raise AssertionError("a page must never need a whole directory at once")

    async def page(self, directory: bytes, after: bytes | None, limit: int) -> list[Held]:
        names = sorted(n for n in self.directories[directory] if after is None or n > after)[:limit]
        self.largest_page = max(self.largest_page, len(names))
        return [self.directories[directory][name] for name in names]

    async def held(self, path: bytes) -> Held | None:
        directory, name = split(path)
        return self.directories.get(directory, {}).get(name)

    async def notes(self, directory: bytes) -> tuple[list[Skipped], list[Failure], dict[bytes, int]]:
        return (
            self.skipped.get(directory, []),
            self.failures.get(directory, []),
            self.missing.get(directory, {}),
        )

    async def compared_at(self, directory: bytes) -> tuple[int | None, str]:
        return self.compared.get(directory, int(NOW) - 3600), ORIGIN

    async def totals(self, directory: bytes = b"") -> Totals:
        below = [h for d, names in self.directories.items() if d == directory or not directory or
                 d.startswith(directory + b"/") for h in names.values()]  # fmt: skip
        files = [h for h in below if h.kind is Kind.FILE]
        newest = max((h.mtime.ns for h in files if h.mtime), default=None)
        kinds = [h.kind for h in below]
        return Totals(len(files), sum(h.size for h in files), kinds.count(Kind.DIRECTORY),
                      kinds.count(Kind.SYMLINK), newest)  # fmt: skip

    async def passes(self, limit: int = 10) -> list[PassRecord]:
        return self.recorded[-limit:]

    async def errors(self, limit: int = 100) -> list[tuple[bytes, Failure]]:
        return [(d, f) for d, failures in self.failures.items() for f in failures][:limit]

    async def received(self, limit: int = 400) -> tuple[dict[int, Received], Received]:
        return dict(sorted(self.days.items())[-limit:]), added(self.days.values())

    async def repositories(self) -> list[dict[str, object]]:
        return []

    async def held_plan(self) -> Plan | None:
        return self.plan

    async def open_file(self, path: bytes) -> tuple[int, Held] | None:
        held = await self.held(path)
        if held is None or held.kind is not Kind.FILE or held.private or held.unknown:
            return None
        return os.open(join(os.fsencode(self.root), path), os.O_RDONLY), held


@dataclass
class FakeView:
    """A SiteView whose answers are attributes."""

    passes: dict[str, Progress] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    resting: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    others: dict[str, SiblingSummary] = field(default_factory=dict)
    woken: list[str] = field(default_factory=list)
    shared: list[Standing] = field(default_factory=list)

    def running(self) -> dict[str, Progress]:
        return self.passes

    def next_run(self, mirror: str) -> float | None:
        return self.due.get(mirror)

    def paused(self, mirror: str) -> str:
        return self.resting.get(mirror, "")

    def config_errors(self) -> list[str]:
        return self.wrong

    def siblings(self) -> dict[str, SiblingSummary]:
        return self.others

    def budgets(self) -> list[Standing]:
        return self.shared

    def wake(self, mirror: str) -> None:
        self.woken.append(mirror)


def mirror(name: str = "debian", path: str | None = None, **facts: object) -> Mirror:
    made = Mirror(name, path or f"/{name}", (OriginSpec(ORIGIN),), title=f"{name} title",
                  sites=("kent", "lancaster"))  # fmt: skip
    return replace(made, **facts)  # type: ignore[arg-type]


def cluster(*mirrors: Mirror, web: str = "127.0.0.1:0") -> Cluster:
    sites = {
        name: Site(name, data="/nowhere", state="/nowhere", web=web, title=f"University of {name.title()}",
                   public_url=f"https://mirror.{name}.example")
        for name in ("kent", "lancaster", "leeds")
    }  # fmt: skip
    return Cluster("example", sites, {m.name: m for m in mirrors}, title="Example cluster")


@dataclass
class Running:
    """A server on a loopback port, and a client that sends paths exactly as they are written."""

    server: WebServer
    session: aiohttp.ClientSession
    readers: dict[str, FakeReader]
    view: FakeView

    @property
    def url(self) -> str:
        host, port = self.server.address
        return f"http://{host}:{port}"

    async def get(
        self, path: str, method: str = "GET", **options: object
    ) -> tuple[int, aiohttp.ClientResponse, bytes]:
        from yarl import URL

        options.setdefault("allow_redirects", False)
        async with self.session.request(method, URL(self.url + path, encoded=True), **options) as response:  # type: ignore[arg-type]
            return response.status, response, await response.read()

    async def text(self, path: str) -> str:
        status, _, body = await self.get(path)
        assert status == 200, (path, status, body)
        return body.decode()

    async def json(self, path: str) -> dict:  # type: ignore[type-arg]
        import json

        status, response, body = await self.get(path, headers={"Accept": "application/json"})
        assert response.headers["Content-Type"] == "application/json", (status, body)
        return json.loads(body)

    async def raw(self, request: bytes) -> bytes:
        """Everything that comes back on a connection of its own."""
        reader, writer = await asyncio.open_connection(*self.server.address)
        try:
            writer.write(request)
            await writer.drain()
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    readers: dict[str, FakeReader],
    *mirrors: Mirror,
    opener: Callable[[str], Awaitable[Reader]] | None = None,
) -> AsyncIterator[Running]:
    made = cluster(*mirrors)
    view = FakeView()

    async def open_reader(name: str) -> Reader:
        if name not in readers:
            raise StoreError(f"{name}: nothing is mirrored yet")
        return readers[name]

    server = WebServer(
        made.sites["kent"], made, open_reader=opener or open_reader, view=view, clock=lambda: NOW
    )
    await server.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield Running(server, session, readers, view)
    finally:
        await server.stop()
