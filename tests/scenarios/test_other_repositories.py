"""Repositories of every other type behind a real server: a pass after each step of an origin that changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.engine import repositories
from cluster.engine.report import Report
from cluster.model import Deletion, Limits, OriginSpec, Repository
from cluster.origin.http import HttpOrigin
from tests.engine.world import World
from tests.scenarios.changing import Changing
from tests.scenarios.otherrepositories import (
    ApkIndex,
    ClearsignedSums,
    DetachedSums,
    InstallationTree,
    PacmanDatabase,
    PypiPages,
)
from tests.servers import Server, apache, nginx
from tests.signatures.keys import Signer, signers

KINDS = [PypiPages, PacmanDatabase, ApkIndex, InstallationTree, DetachedSums, ClearsignedSums]
SPOILT = {  # a file that every state has
    PypiPages: "packages/*/alpha-*",
    PacmanDatabase: "core/os/x86_64/alpha-*.zst",
    ApkIndex: "v3.20/main/x86_64/alpha-*",
    InstallationTree: "images/pxeboot/vmlinuz",
    DetachedSums: "releases/alpha-latest.iso",
    ClearsignedSums: "releases/alpha-latest.iso",
}


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    with signers("archive") as (one,):
        yield one


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "PAUSES", (0.0,))


class Mirrored:
    """An origin behind its server, and one site that mirrors it."""

    def __init__(self, world: World, origin: Changing, url: str) -> None:
        self.world, self.origin, self.url = world, origin, url

    async def one_pass(self) -> Report:
        self.world.ledger.tree(self.origin.served.resolve())
        self.world.origin = HttpOrigin(OriginSpec(self.url), Limits())
        return await self.world.run()

    async def follows(self) -> None:
        """A pass after which the origin's newest state is public."""
        report = await self.one_pass()
        assert report.outcome == "complete", report.errors
        assert self.found() == self.origin.newest

    def found(self) -> bytes:
        """The root that is public, after everything that it names was there and right."""
        return self.origin.checked(self.world.public.as_uri())


def server_of(origin: Changing) -> AbstractContextManager[Server]:
    """nginx, told to list directories that have an index.html; Apache for what nginx never lists, a name that
    begins with a dot."""
    if isinstance(origin, InstallationTree):
        return apache(origin.served)
    return nginx(origin.served, access_log=False, extra="index .none;")


@asynccontextmanager
async def mirrored(top: Path, kind: type[Changing], signer: Signer) -> AsyncIterator[Mirrored]:
    origin, world = (
        kind(top / "origin", signer, seed=int(__import__("os").environ.get("SEED", "1"))),
        World(top),
    )
    rules = (Repository(origin.type, keyring=str(origin.ring)),)
    kept = Deletion(sightings=1, grace=3600.0, emptied_after=0.0)
    world.mirror = replace(world.mirror, repositories=rules, delete=kept)
    with server_of(origin) as server:
        yield Mirrored(world, origin, server.url)


@pytest.mark.parametrize("kind", KINDS)
async def test_41_after_every_step_of_an_origin_a_whole_state_is_public(
    tmp_path: Path, kind: type[Changing], signer: Signer
) -> None:
    async with mirrored(tmp_path, kind, signer) as mirror:
        origin, loop = mirror.origin, asyncio.get_running_loop()
        await mirror.follows()

        def pause() -> None:
            asyncio.run_coroutine_threadsafe(mirror.one_pass(), loop).result()
            assert mirror.found() in origin.complete

        for careful in (False, True):
            await asyncio.to_thread(origin.update, pause, careful=careful)
            await mirror.follows()


@pytest.mark.parametrize("kind", KINDS)
async def test_41_a_file_that_is_not_what_the_new_index_names_keeps_the_old_state(
    tmp_path: Path, kind: type[Changing], signer: Signer
) -> None:
    async with mirrored(tmp_path, kind, signer) as mirror:
        origin = mirror.origin
        await mirror.follows()
        before = mirror.found()
        origin._package("alpha")
        origin._index()
        wrong = max(origin.work.glob(SPOILT[kind]), key=lambda path: path.name)  # type: ignore[index]
        right = wrong.read_bytes()
        wrong.write_bytes(right[::-1])
        origin._at_once()
        report = await mirror.one_pass()
        assert report.outcome == "incomplete" and wrong.name in " ".join(report.errors), report.errors
        assert mirror.found() == before != origin.newest
        wrong.write_bytes(right)
        origin.number += 1
        origin._at_once()
        await mirror.follows()
