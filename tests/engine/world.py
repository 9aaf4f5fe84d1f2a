"""One site, one mirror, an origin in memory or on disk, and siblings that say what a story needs.

`World.run` is one pass; every invariant is checked after it, and once more when the story ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from blake3 import blake3

from cluster.delta import rolling
from cluster.engine.passes import Surroundings, run_pass
from cluster.engine.report import Report, Reporter
from cluster.errors import PeerLacks, PeerSilent
from cluster.model import (
    Claim,
    Deletion,
    Facts,
    Held,
    Kind,
    Limits,
    Listing,
    Mirror,
    Offer,
    Offered,
    Order,
    OriginSpec,
    Row,
    Site,
    Stamp,
    join,
    split,
)
from cluster.origin.base import Origin, Want
from cluster.origin.local import LocalOrigin
from cluster.origin.memory import EPOCH, MemoryOrigin
from cluster.peer import caught, client, deltawire
from cluster.peer.claims import Claims
from cluster.peer.client import Agreement, Bodies, Parts, Relayed, Wish
from cluster.peer.listings import Listings
from cluster.plan.source import same_version
from cluster.store import blocks
from cluster.store.mirror import Reader
from tests.invariants import Canary, Ledger, check_invariants, public_root, records

NOW = time.time()
AT_ONCE = Deletion(sightings=1, grace=0.0, emptied_after=0.0)


class MovedClock:
    """The real clocks, moved forward by hand."""

    def __init__(self) -> None:
        self.moved = 0.0  # s

    def now(self) -> float:
        return time.time() + self.moved

    def monotonic(self) -> float:
        return time.monotonic() + self.moved

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.05))


class Noted(MemoryOrigin):
    """A memory origin that keeps the ledger of the invariants."""

    def __init__(self, ledger: Ledger, **facts: Any) -> None:
        self._ledger = ledger
        super().__init__(**facts)

    def _set(self, path: bytes, node: Any) -> None:
        super()._set(path, node)
        if node.kind is Kind.FILE:
            self._ledger.file(path, node.data)
        elif node.kind is Kind.SYMLINK:
            self._ledger.symlink(path, node.target or b"")
        elif node.kind is Kind.DIRECTORY:
            self._ledger.folders.add(path)

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        told = await super().listing(directory)
        self._ledger.listed(directory, told.entries)
        token = hashlib.sha256(repr(told.entries).encode()).digest()
        if token == known:
            return replace(told, entries=(), token=token, same=True)
        return replace(told, token=token)

    async def close(self) -> None:
        """The same origin is opened again by the next pass, with its traffic counted from nothing."""

    def fresh(self) -> None:
        self.requests.clear()
        self.traffic.requests = self.traffic.bytes = self.traffic.listings = 0

    def asked(self, method: str) -> list[bytes]:
        return [path for what, path in self.requests if what == method]

    def update(self, path: bytes, body: bytes, **facts: Any) -> None:
        """A new version, with a time of its own."""
        self.put(path, body, mtime=self.tree()[path].mtime + 10 * 10**9, **facts)


class Told(Reporter):
    """What a pass said while it went on."""

    def __init__(self) -> None:
        self.files: list[tuple[bytes, str]] = []
        self.failures: list[tuple[bytes, str]] = []
        self.plan: list[tuple[str, bytes]] = []
        self.details: list[tuple[str, bytes, str]] = []

    def file(self, path: bytes, size: int, source: str) -> None:
        self.files.append((path, source))

    def failed(self, path: bytes, error: str) -> None:
        self.failures.append((path, error))

    def planned(self, action: str, path: bytes, detail: str = "") -> None:
        self.plan.append((action, path))
        self.details.append((action, path, detail))


class FakeSibling:
    """A sibling that holds `files`, claims `claims`, and behaves as it is told."""

    def __init__(self, name: str) -> None:
        self.name, self.up = name, True
        self.files: dict[bytes, tuple[Offer, bytes]] = {}
        self.claims: dict[bytes, Claim] = {}
        self.silent: float | None = None  # s without an answer, and then none
        self.substitute: bytes | None = None  # what is sent in the place of every body
        self.deceptions: list[str] = []
        self.caught: Callable[[str, float], None] = lambda name, at: None
        self.asked: list[bytes] = []
        self.asked_listings: list[bytes] = []
        self.listings: dict[bytes, tuple[Listing, float]] = {}  # and how many s ago it had them
        self.lag: Callable[[], None] = lambda: None  # called before each piece of a body
        self.delivered: list[bytes] = []
        self.grown: dict[tuple[bytes, int, str], tuple[Sequence[tuple[int, int]], bytes]] = {}
        self.part_claims: list[Claim] = []
        self.arriving = False
        self.proof: bytes | None = None  # the SHA-256 that it tells of what has grown
        self.on_parts: Callable[[], Awaitable[None]] | None = None
        self.asked_parts = 0
        self.world: World | None = None  # whose records it is that are compared with ours
        self.asked_agreements: list[bytes] = []
        self.delivered_parts: list[tuple[int, int]] = []
        self.speed: float | None = None
        self.newer_asked: list[bytes] = []
        self.newer_fails: dict[str, Exception] = {}  # by method
        self.newer_spoilt = False  # pieces are not the file's
        self.spoil = False  # blocks are not what their hashes say

    def hold(self, path: bytes, body: bytes, *, mtime: int = EPOCH, **facts: Any) -> None:
        stamp = Stamp(mtime)
        sha256 = hashlib.sha256(body).digest()
        made = Offer(split(path)[1], Kind.FILE, len(body), sha256, stamp, Row(len(body), None, stamp))
        self.files[path] = replace(made, **facts), body

    def hold_all(self, origin: MemoryOrigin) -> None:
        for path, node in origin.tree().items():
            if node.kind is Kind.FILE:
                self.hold(path, node.data, mtime=node.mtime)

    async def offered(
        self, mirror: str, directory: bytes, patience: float, *, first: bytes = b"", last: bytes | None = None
    ) -> Offered:
        self.asked.append(directory)
        if self.silent is not None:
            await asyncio.sleep(min(self.silent, patience))
            raise PeerSilent(self.name, "no answer")

        def within(path: bytes) -> bool:
            name = split(path)[1]
            return split(path)[0] == directory and first <= name and (last is None or name <= last)

        return Offered(
            self.name,
            {offer.name: offer for path, (offer, _) in self.files.items() if within(path)},
            {split(path)[1]: claim for path, claim in self.claims.items() if within(path)},
        )

    async def listing(
        self, mirror: str, directory: bytes, origin: str, age: float, known: bytes, patience: float
    ) -> Relayed:
        self.asked_listings.append(directory)
        if self.silent is not None:
            await asyncio.sleep(min(self.silent, patience))
            raise PeerSilent(self.name, "no answer")
        listing, old = self.listings.get(directory, (None, 0.0))
        if listing is None or old > age:
            return Relayed(None)
        if known and known == listing.token:
            listing = Listing((), token=known, same=True)
        return Relayed(listing, old)

    async def agreement(
        self, mirror: str, directory: bytes, origin: str, known: bytes, after: bytes, patience: float
    ) -> Agreement:
        self.asked_agreements.append(directory)
        if self.world is None:
            raise PeerLacks(self.name, "no such question")
        through = self.world.listings.passed.told(mirror, origin, self.world.clock.monotonic())
        reader = await Reader.open(mirror, self.world.site)
        try:
            return Agreement(through, await reader.agreement(directory, known, after))
        finally:
            await reader.close()

    async def bundle(
        self, mirror: str, wishes: Sequence[Wish], patience: float
    ) -> AsyncIterator[client.Told | Bodies]:
        self.asked += dict.fromkeys(wish.directory for wish in wishes)
        if self.silent is not None:
            await asyncio.sleep(min(self.silent, patience))
            raise PeerSilent(self.name, "no answer")
        paths = [join(wish.directory, wish.entry.name) for wish in wishes]
        held = {n: self.files[path][0] for n, path in enumerate(paths) if self._has(wishes[n], path)}
        claims = {n: self.claims[path] for n, path in enumerate(paths) if path in self.claims}
        yield client.Told(held, claims)
        for place in held:
            if wishes[place].send:
                self.delivered.append(paths[place])
                self.lag()
                body = self.files[paths[place]][1] if self.substitute is None else self.substitute
                yield Bodies([(place, memoryview(body))])

    def _has(self, wish: Wish, path: bytes) -> bool:
        offer = self.files.get(path, (None,))[0]
        if wish.sha256 is None or offer is None:
            return offer is not None and same_version(wish.entry, offer)
        return offer.sha256 == wish.sha256

    @asynccontextmanager
    async def read(self, mirror: str, path: bytes, offer: Offer, want: Want) -> AsyncIterator[_Body]:
        if path not in self.files:
            raise PeerLacks(self.name, "no such file")
        self.delivered.append(path)
        body = self.files[path][1] if self.substitute is None else self.substitute
        yield _Body(body, Facts(size=len(body)), lag=self.lag)

    def newer(self, mirror: str, path: bytes, offer: Offer) -> _Newer:
        self.newer_asked.append(path)
        return _Newer(self, self.files[path][1])

    async def parts(self, mirror: str, path: bytes, size: int, etag: str, patience: float) -> Parts:
        self.asked_parts += 1
        if self.on_parts is not None:
            await self.on_parts()
        runs, _ = self.grown.get((path, size, etag), ((), b""))
        return Parts(tuple(runs), tuple(self.part_claims), self.arriving, self.proof)

    @asynccontextmanager
    async def part(
        self, mirror: str, path: bytes, size: int, etag: str, first: int, end: int
    ) -> AsyncIterator[_Body]:
        self.delivered_parts.append((first, end))
        if (path, size, etag) not in self.grown:
            raise PeerLacks(self.name, "not this version")
        body = self.grown[path, size, etag][1][first:end]
        told = _Body(body, Facts(size=len(body)))
        told.hashes = b"".join(
            blake3(body[at : at + blocks.BLOCK]).digest() for at in range(0, len(body), blocks.BLOCK)
        )
        if self.spoil:
            told.body = bytes(len(body))
        yield told

    def deceived(self, reason: str) -> None:
        self.deceptions.append(reason)
        self.caught(self.name, time.time())
        if len(self.deceptions) >= 3:
            self.up = False


@dataclass
class _Newer:
    sibling: FakeSibling
    body: bytes
    received: int = 0
    requests: int = 0

    def _answers(self, method: str) -> None:
        self.requests += 1
        if method in self.sibling.newer_fails:
            raise self.sibling.newer_fails[method]

    async def blocks(self) -> bytes:
        self._answers("blocks")
        return blocks.block_hashes(self.body)

    async def sums(self, block: int, ranges: Sequence[tuple[int, int]]) -> bytes:
        self._answers("sums")
        found = []
        for at in (n * block for first, end in ranges for n in range(first, end)):
            data = self.body[at : at + block]
            assert len(data) == block
            found += [int(rolling.of_blocks(data, block)[0]).to_bytes(4, "big"), deltawire.strong(data)]
        self.received += 4 * len(found)
        return b"".join(found)

    async def pieces(self, ranges: Sequence[tuple[int, int]]) -> AsyncGenerator[bytes, None]:
        data = b"".join(self.body[first:end] for first, end in ranges)
        for at in range(0, len(data), 500):
            self.received += len(data[at : at + 500])
            yield bytes(500)[: len(data) - at] if self.sibling.newer_spoilt else data[at : at + 500]
            self._answers("pieces")


@dataclass
class _Body:
    body: bytes
    facts: Facts
    start: int = 0
    hashes: bytes = b""
    lag: Callable[[], None] = lambda: None

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.body), 2**16):
            self.lag()
            yield self.body[at : at + 2**16]


@dataclass
class World:
    """See the module. `origin` is what passes mirror from; change `mirror` by `replace`."""

    top: Path
    ledger: Ledger = field(default_factory=Ledger)
    clock: MovedClock = field(default_factory=MovedClock)
    claims: Claims = field(default_factory=Claims)
    listings: Listings = field(default_factory=Listings)
    siblings: list[FakeSibling] = field(default_factory=list)
    partials: int = 0
    neighbours: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("data", "state"):
            (self.top / name).mkdir()
        self.canary = Canary(self.top / "canary")
        self.memory = Noted(self.ledger)
        self.origin: Origin | None = self.memory
        self.site = Site("kent", str(self.top / "data"), str(self.top / "state"), reserve=0)
        self.mirror = Mirror(
            "deb",
            "/deb",
            (OriginSpec("memory://origin/"),),
            sites=("kent", "oslo", "york"),
            order=Order.FORWARD,
            limits=Limits(connections=4),
            delete=AT_ONCE,
        )

    def sibling(self, name: str = "oslo") -> FakeSibling:
        made = FakeSibling(name)
        made.caught = partial(caught.note, self.site.state)
        self.siblings.append(made)
        return made

    @property
    def public(self) -> Path:
        return Path(os.fsdecode(public_root(self.site, self.mirror)))

    def source(self) -> Path:
        """Mirror from a folder from now on; noted by the ledger before each pass."""
        folder = self.top / "source"
        folder.mkdir()
        self.origin = None
        return folder

    def _open(self, spec: OriginSpec, mirror: Mirror) -> Origin:
        if self.origin is not None:
            return self.origin
        return LocalOrigin(OriginSpec(f"file://{self.top}/source/"), mirror.limits)

    @property
    def around(self) -> Surroundings:
        return Surroundings(
            self.site,
            self._open,
            lambda mirror: self.siblings,
            self.claims,
            self.clock,
            caught=lambda: caught.known(self.site.state),
            listings=self.listings,
            neighbours=lambda mirror: self.neighbours,
        )

    async def run(self, *, told: Told | None = None, **asked: Any) -> Report:
        """One pass, and every invariant after it."""
        if self.origin is None:
            self.ledger.tree(self.top / "source")
        self.memory.fresh()
        try:
            return await run_pass(self.around, self.mirror, reporter=told or Told(), **asked)
        finally:
            await self.check()

    async def run_unrecorded(self) -> Report:
        """A pass after which disk and records differ on purpose: what was planted is left alone."""
        self.memory.fresh()
        return await run_pass(self.around, self.mirror, reporter=Told())

    async def cut(self, after: int, method: str = "read") -> None:
        """A pass that is cancelled when the origin gets its n-th request of this kind."""
        self.memory.fresh()
        count = 0
        task: asyncio.Task[Report]

        async def before(what: str, path: bytes) -> None:
            nonlocal count
            count += what == method
            if count == after:
                task.cancel()
                await asyncio.sleep(10)

        self.memory.before = before
        task = asyncio.ensure_future(run_pass(self.around, self.mirror))
        await asyncio.wait([task])
        self.memory.before = None
        assert task.cancelled(), f"the pass ended before {after} requests: {task}"
        await self.check()

    async def check(self) -> None:
        await check_invariants(self.site, self.mirror, self.ledger, self.canary, partials=self.partials)

    async def records(self) -> dict[bytes, Held]:
        return await records(self.site, self.mirror)

    def bodies(self) -> dict[bytes, bytes]:
        """Every public file."""
        root = os.fsencode(self.public)
        found = {}
        for folder, _, names in os.walk(root):
            for name in names:
                place = os.path.join(folder, name)
                if not os.path.islink(place):
                    with open(place, "rb") as file:
                        found[os.path.relpath(place, root)] = file.read()
        return found

    def equal(self) -> None:
        """The public files are those of the memory origin."""
        there = {p: n.data for p, n in self.memory.tree().items() if n.kind is Kind.FILE}
        assert self.bodies() == there
