"""A site with one mirror in a temporary folder, and the few words that the store's stories need."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.model import Entry, Held, Kind, Mirror, OriginSpec, Row, Site, Stamp, split
from cluster.store.mirror import Compared, MirrorStore, Reader
from cluster.store.tree import Change

NOW = 1_700_000_000
TIME = Stamp(1_600_000_000 * 10**9, 10**9)


def file(name: bytes, body: bytes, **facts: object) -> Held:
    row = Row(len(body), None, TIME)
    made = Held(name, Kind.FILE, len(body), hashlib.sha256(body).digest(), TIME, row, 0o644, copied=NOW)
    return replace(made, **facts)  # type: ignore[arg-type]


def folder(name: bytes, **facts: object) -> Held:
    return replace(Held(name, Kind.DIRECTORY, mtime=TIME, mode=0o755), **facts)  # type: ignore[arg-type]


def link(name: bytes, target: bytes) -> Held:
    return Held(name, Kind.SYMLINK, mtime=TIME, target=target)


def listed(name: bytes, body: bytes) -> Entry:
    return Entry(name, Kind.FILE, len(body), None, TIME)


@dataclass
class World:
    top: Path
    mirror: Mirror = field(
        default_factory=lambda: Mirror(
            "deb", "/deb", (OriginSpec("http://origin.example/"),), sites=("kent",)
        )
    )

    @property
    def site(self) -> Site:
        return Site("kent", str(self.top / "data"), str(self.top / "state"), reserve=0)

    @property
    def public(self) -> Path:
        return self.top / "data" / "deb"

    @property
    def status(self) -> Path:
        return self.top / "state" / "status"

    def bodies(self) -> dict[bytes, bytes]:
        """Every public file with its content."""
        root = os.fsencode(self.public)
        found = {}
        for where, _, names in os.walk(root):
            for name in names:
                path = os.path.join(where, name)
                if not os.path.islink(path):
                    with open(path, "rb") as opened:
                        found[os.path.relpath(path, root)] = opened.read()
        return found

    @asynccontextmanager
    async def store(self, now: int = NOW) -> AsyncIterator[MirrorStore]:
        store = await MirrorStore.open(self.mirror, self.site, now)
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Reader]:
        reader = await Reader.open("deb", self.site)
        try:
            yield reader
        finally:
            await reader.close()


async def changes(store: MirrorStore, files: dict[bytes, bytes], **facts: object) -> list[Change]:
    """Staged, with the records that are there already as `previous`."""
    held = [(path, file(split(path)[1], body, **facts), body) for path, body in files.items()]
    staged = await store.stage_small([(h, body) for _, h, body in held])
    return [
        Change(split(path)[0], one.held, previous=await store.held(path), staged=one)
        for (path, _, _), one in zip(held, staged, strict=True)
    ]


async def put(store: MirrorStore, files: dict[bytes, bytes], now: int = NOW, **facts: object) -> None:
    """Publish files, with the directories above them. Every one succeeds."""
    above = {split(path)[0] for path in files}
    for directory in sorted({d for path in above for d in _prefixes(path)}):
        if await store.held(directory) is None:
            parent, name = split(directory)
            assert await store.publish([Change(parent, folder(name))], {}, now) == [None]
    outcomes = await store.publish(await changes(store, files, **facts), {}, now)
    assert outcomes == [None] * len(files), [str(one) for one in outcomes]


def _prefixes(path: bytes) -> Iterable[bytes]:
    parts = path.split(b"/") if path else []
    return [b"/".join(parts[: i + 1]) for i in range(len(parts))]


async def full_pass(
    store: MirrorStore,
    now: int,
    *results: Compared,
    outcome: str = "complete",
    scope: bytes = b"",
    fingerprint: str = "f",
) -> object:
    """A pass that found this. Returns its record, ended `outcome`."""
    record = await store.pass_begin(now, fingerprint, "http://origin.example/", scope=scope)
    await store.compared(results, record, now)
    await store.pass_end(record, outcome, {}, now + 10)
    return record
