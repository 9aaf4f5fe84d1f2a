"""A cluster on loopback for these tests: real keys, real TLS, and records that live in memory."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from cluster.errors import StoreError
from cluster.model import Cluster, Held, Kind, Mirror, OriginSpec, PeerAddress, Row, Site, Stamp, join, split
from cluster.peer import keys
from cluster.peer.claims import Claims
from cluster.peer.lines import Lines
from cluster.peer.listings import Listings
from cluster.peer.server import PeerServer
from cluster.peer.siblings import Siblings
from cluster.peer.wire import Record
from cluster.plan.saving import Received
from cluster.store.agreement import Agreed
from cluster.store.blocks import block_hashes


class Facts:
    """Whatever a Reader answers with attributes."""

    def __init__(self, **facts: object) -> None:
        self.__dict__.update(facts)


NAMES = ("kent", "lancaster", "oslo")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def held(name: bytes, body: bytes = b"", **facts: object) -> Held:
    stamp = Stamp(1_700_000_000 * 10**9, 10**9)
    made = Held(
        name,
        Kind.FILE,
        size=len(body),
        sha256=hashlib.sha256(body).digest(),
        mtime=stamp,
        row=Row(size=len(body), mtime=stamp),
        etag='"v1"',
        verified="origin",
    )
    return replace(made, **facts)


@dataclass
class FakeReader:
    """A Reader over a dictionary: path -> (record, body). Bodies are real files without a name."""

    files: dict[bytes, tuple[Held, bytes]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    agreements: dict[tuple[bytes, bytes], Agreed] = field(default_factory=dict)  # by directory and `after`
    stuck: asyncio.Event | None = None  # answers wait for it
    epoch: str = "first"
    closed: bool = False
    damaged: bool = False

    def put(self, path: bytes, body: bytes, **facts: object) -> Held:
        record = held(split(path)[1], body, **facts)
        self.files[path] = record, body
        return record

    async def _wait(self) -> None:
        if self.stuck is not None:
            await self.stuck.wait()

    async def directory(self, directory: bytes) -> dict[bytes, Held] | None:
        below = {h.name: h for p, (h, _) in self.files.items() if split(p)[0] == directory}
        return below or (None if directory else {})

    async def page(self, directory: bytes, after: bytes | None, limit: int) -> list[Held]:
        self.asked.append("page")
        await self._wait()
        there = sorted((await self.directory(directory) or {}).items())
        return [h for n, h in there if after is None or n > after][:limit]

    async def held(self, path: bytes) -> Held | None:
        return self.files[path][0] if path in self.files else None

    async def totals(self, directory: bytes = b"") -> Facts:
        return Facts(files=len(self.files), bytes=sum(len(b) for _, b in self.files.values()))

    async def passes(self, limit: int = 10) -> list[Facts]:
        counted = {"bytes": {"origin": 7, "sideways": 9}}
        return [
            Facts(id=1, scope=b"", started=150, ended=200, outcome="complete", counts={}),
            Facts(id=2, scope=b"", started=300, ended=400, outcome="failed", counts=counted),
        ]

    async def errors(self, limit: int = 100) -> list[object]:
        return [object(), object()]

    async def held_plan(self) -> Facts:
        return Facts(files=5, held_because="too many")

    async def received(self, limit: int = 400) -> tuple[dict[int, Received], Received]:
        return {20_000: Received(7, 9)}, Received(70, 90)

    async def digest(self, directory: bytes) -> bytes | None:
        return hashlib.sha256(repr(sorted(self.files)).encode()).digest()

    async def agreement(self, directory: bytes, known: bytes = b"", after: bytes = b"") -> Agreed:
        return self.agreements.get((directory, after), Agreed())

    async def position(self) -> tuple[str, int, int]:
        numbers = [record.seq for record in self.records]
        return self.epoch, min(numbers, default=1), max(numbers, default=0)

    async def journal(self, after: int = 0, limit: int = 10_000) -> AsyncIterator[Record]:
        for record in [r for r in self.records if r.seq > after][:limit]:
            yield record

    async def open_file(self, path: bytes) -> tuple[int, Held] | None:
        self.asked.append("open_file")
        await self._wait()
        if path not in self.files:
            return None
        record, body = self.files[path]
        descriptor = os.memfd_create("body")
        os.write(descriptor, body)
        return descriptor, record

    async def named(self, wanted: list[tuple[bytes, list[bytes]]]) -> list[dict[bytes, Held]]:
        self.asked.append("named")
        await self._wait()
        known = {directory: await self.directory(directory) or {} for directory, _ in wanted}
        return [{n: known[d][n] for n in names if n in known[d]} for d, names in wanted]

    def bodies(self, files: list[tuple[bytes, Held]]) -> list[tuple[int, bytes]]:
        found = [self.files.get(join(directory, record.name)) for directory, record in files]
        return [(n, one[1]) for n, one in enumerate(found) if one and len(one[1]) == one[0].size]

    async def block_hashes(self, path: bytes, held: Held, descriptor: int) -> bytes:
        if self.damaged:
            raise StoreError("what is read from the disk is not what was written")
        return block_hashes(self.files[path][1])

    async def close(self) -> None:
        self.closed = True


class Station:
    """One site: its server, its view of the siblings, what it holds."""

    def __init__(self, site: Site, cluster: Cluster, talks: bool = False) -> None:
        self.site, self.cluster, self.talks = site, cluster, talks
        self.readers = {name: FakeReader() for name in cluster.mirrors}
        self.claims, self.listings = Claims(), Listings()
        self.woken: list[tuple[str, str, bytes]] = []
        self.siblings = Siblings(site, cluster, time.monotonic)
        self.lines = Lines(site, cluster, self.siblings, self.claims, time.monotonic, listings=self.listings)
        self.server = PeerServer(
            site,
            cluster,
            claims=self.claims,
            open_reader=self._open,
            wake=lambda *what: self.woken.append(what),
            clock=time.monotonic,
            seen=self.siblings.heard,
            lines=self.lines,
            listings=self.listings,
        )

    async def _open(self, mirror: str) -> FakeReader:
        return self.readers[mirror]

    @property
    def files(self) -> FakeReader:
        return self.readers["debian"]

    async def start(self) -> None:
        await self.server.start()
        self.siblings.start()
        if self.talks:
            self.lines.start()

    async def stop(self) -> None:
        await self.lines.stop()
        await self.siblings.stop()
        await self.server.stop()

    def sibling(self, name: str):
        return self.siblings.all[name]

    async def meets(self, name: str):
        """Wait until that sibling is up."""
        async with asyncio.timeout(5):
            while not self.sibling(name).up:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.sibling(name)

    async def has_line(self, name: str):
        """Wait until there is a line to that sibling and all its claims are known."""
        async with asyncio.timeout(5):
            while self.lines.to(name) is None or not self.claims.heard.knows(name):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return self.lines.to(name)


def make_cluster(folder: str, names: tuple[str, ...] = NAMES) -> Cluster:
    """Sites with keys. Everybody carries `debian`; `ctan` is for all but the last."""
    sites = {}
    for name in names:
        port = free_port()
        address = PeerAddress(
            f"https://127.0.0.1:{port}", f"127.0.0.1:{port}", (), os.path.join(folder, f"{name}.pem")
        )
        site = Site(
            name,
            data="",
            state=os.path.join(folder, name),
            peer=address,
            file=os.path.join(folder, f"{name}.toml"),
        )
        sites[name] = with_keys(site)
    origin = (OriginSpec("http://127.0.0.1:1/"),)
    mirrors = {
        "debian": Mirror("debian", "/debian", origin, sites=names),
        "ctan": Mirror("ctan", "/ctan", origin, sites=names[:-1]),
    }
    return Cluster("test", sites, mirrors)


def moved(cluster: Cluster, folder: str) -> Cluster:
    """The same cluster with the same keys in another folder and on other ports."""
    sites = {}
    for name, site in cluster.sites.items():
        shutil.copytree(site.state, os.path.join(folder, name))
        shutil.copy(site.peer.certificate_file, folder)
        port = free_port()
        peer = replace(
            site.peer,
            url=f"https://127.0.0.1:{port}",
            listen=f"127.0.0.1:{port}",
            certificate_file=os.path.join(folder, f"{name}.pem"),
        )
        state, file = os.path.join(folder, name), os.path.join(folder, f"{name}.toml")
        sites[name] = replace(site, peer=peer, state=state, file=file)
    return replace(cluster, sites=sites)


def with_keys(site: Site, **options: object) -> Site:
    keys.make(site, site.state, **options)
    with open(site.peer.certificate_file) as file:
        return replace(site, peer=replace(site.peer, certificates=(file.read(),)))


@contextlib.asynccontextmanager
async def running(cluster: Cluster, *names: str, talk: bool = False) -> AsyncIterator[list[Station]]:
    """Sites that answer each other; with `talk` they also dial lines."""
    stations = [Station(cluster.sites[name], cluster, talk) for name in names or tuple(cluster.sites)]
    try:
        for station in stations:
            await station.start()
        yield stations
    finally:
        for station in stations:
            await station.stop()
