"""Several sites in one process, each a `World` with an origin of its own that has the same tree: what one
publishes the others can have from it, and what it claims they hear at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.engine.passes import run_pass
from cluster.engine.report import Report
from cluster.model import Offer, Offered, Order, Sideways, join
from cluster.origin.base import Body, Want
from cluster.peer import client
from cluster.peer.client import Bodies, Wish
from tests.engine.world import FakeSibling, Told, World

MIRROR = "deb"
PATIENT = 600.0  # s: no claim lapses because this machine is slow


class Neighbour(FakeSibling):
    """One of the others: it holds what that has published, and claims what that claims."""

    def __init__(self, name: str, other: World) -> None:
        super().__init__(name)
        self._other = other
        self.sends = asyncio.Event()  # bodies of small files
        self.sends.set()

    def _look(self, directories: set[bytes]) -> None:
        now = self._other.clock.monotonic()
        self.claims = {
            join(directory, claim.name): claim
            for directory in directories
            for claim in self._other.claims.within(MIRROR, directory, now)
        }

    async def offered(
        self, mirror: str, directory: bytes, patience: float, *, first: bytes = b"", last: bytes | None = None
    ) -> Offered:
        self._look({directory})
        return await super().offered(mirror, directory, patience, first=first, last=last)

    async def bundle(
        self, mirror: str, wishes: Sequence[Wish], patience: float
    ) -> AsyncIterator[client.Told | Bodies]:
        self._look({wish.directory for wish in wishes})
        async for part in super().bundle(mirror, wishes, patience):
            if isinstance(part, Bodies) and part.files:
                await self.sends.wait()
            yield part
            for place, _ in part.files if isinstance(part, Bodies) else ():
                self._copied(mirror, join(wishes[place].directory, wishes[place].entry.name))

    @asynccontextmanager
    async def read(self, mirror: str, path: bytes, offer: Offer, want: Want) -> AsyncIterator[Body]:
        async with super().read(mirror, path, offer, want) as body:
            yield body
        self._copied(mirror, path)

    def _copied(self, mirror: str, path: bytes) -> None:
        self._other.claims.uncopied(mirror).copied(path, self._other.clock.monotonic())


class Publications(Told):
    """What a site published; the others' neighbours hold it from then on."""

    def __init__(self, world: World, seen: Sequence[Neighbour]) -> None:
        super().__init__()
        self._world, self._seen = world, seen

    def file(self, path: bytes, size: int, source: str) -> None:
        super().file(path, size, source)
        node = self._world.memory.tree()[path]
        for neighbour in self._seen:
            neighbour.hold(path, node.data, mtime=node.mtime)


@dataclass
class Several:
    """`worlds`, `told` and `seen` by site; `seen[a][b]` is b as a sees it."""

    top: Path
    names: Sequence[str]
    worlds: dict[str, World] = field(default_factory=dict)
    told: dict[str, Publications] = field(default_factory=dict)
    seen: dict[str, dict[str, Neighbour]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            (self.top / name).mkdir()
            world = self.worlds[name] = World(self.top / name)
            world.site = replace(world.site, name=name)
            world.mirror = replace(
                world.mirror,
                sites=tuple(self.names),
                order=Order.RENDEZVOUS,
                sideways=replace(Sideways(), patience=PATIENT),
            )
        for name, world in self.worlds.items():
            self.seen[name] = {n: Neighbour(n, w) for n, w in self.worlds.items() if n != name}
            world.siblings = list(self.seen[name].values())
            self._tell(name, world)
        for name, world in self.worlds.items():
            self.told[name] = Publications(world, [self.seen[n][name] for n in self.names if n != name])

    def _tell(self, name: str, world: World) -> None:
        """A line from this site to each of the others."""
        others = [other.claims.heard for n, other in self.worlds.items() if n != name]

        def changed() -> None:
            asyncio.get_running_loop().call_soon(tell)

        def tell() -> None:
            now = world.clock.monotonic()
            changes = world.claims.changes(now)
            for heard in others if self._up(name) else ():
                for mirror in changes.cleared:
                    heard.cleared(name, mirror)
                for mirror, directory, part in changes.released:
                    heard.released(name, mirror, directory, [part])
                for mirror, directory, claim in changes.claimed:
                    heard.claimed(name, mirror, directory, [claim], now)

        for n, other in self.worlds.items():
            if n != name:
                other.claims.heard.begin(name)
                other.claims.heard.whole(name)
        world.claims.listen(changed)

    def _up(self, name: str) -> bool:
        return all(seen[name].up for n, seen in self.seen.items() if n != name)

    def put(self, path: bytes, body: bytes) -> None:
        for world in self.worlds.values():
            world.memory.put(path, body)

    async def one_pass(self, name: str) -> Report:
        world = self.worlds[name]
        return await run_pass(world.around, world.mirror, reporter=self.told[name])

    def die(self, name: str, its_pass: asyncio.Task[Report]) -> None:
        """Nobody hears anything of it from now on."""
        for n, world in self.worlds.items():
            if n != name:
                self.seen[n][name].up = False
                world.claims.heard.gone(name)
        its_pass.cancel()

    def read(self) -> list[bytes]:
        """What the origins were asked for, by all."""
        return [path for world in self.worlds.values() for path in world.memory.asked("read")]
