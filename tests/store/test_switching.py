"""A repository goes from state to state: what waits, the switch, deaths in its middle, and deletions."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import pytest

from cluster.model import Deletion, split
from cluster.repository.base import Group, Order, Role, Signature
from cluster.store import states
from cluster.store.mirror import Compared, MirrorStore
from cluster.store.states import Name, Stand, State
from cluster.store.tree import Staged
from tests.store.crash import Died, Fuse, arm, bury
from tests.store.world import NOW, World, file, put

ROOT, INDEX, POOL = b"dists/x/InRelease", b"dists/x/Packages", b"pool/one"
GROUP = Group(b"dists/x", (ROOT,), (ROOT,), (Signature(ROOT, inline=True),))
OLD = {ROOT: b"root 1", INDEX: b"index 1", POOL: b"one"}
NEW = {ROOT: b"root 2", INDEX: b"index 2"}
AT_ONCE = Deletion(hold_files=1000, sightings=1, grace=100, emptied_after=0)


def names(bodies: dict[bytes, bytes]) -> list[Name]:
    roles = {ROOT: Role.ROOT, INDEX: Role.INDEX}
    made = []
    for path, body in bodies.items():
        sha256, role = hashlib.sha256(body).digest(), roles.get(path, Role.FILE)
        made.append(Name(path, role, int(role), len(body), "sha256", sha256, sha256))
    return made


async def proposed(store: MirrorStore, number: int, bodies: dict[bytes, bytes]) -> State:
    await store.repositories.note(states.know, [(GROUP, "apt")])
    new = State(0, b"dists/x", Stand.CANDIDATE, b"", "", Order("Date", number), None, NOW, False)
    return await store.repositories.propose(new, names(bodies))


async def waits(store: MirrorStore, bodies: dict[bytes, bytes]) -> None:
    kept: list[tuple[bytes, Staged]] = []
    for path, body in bodies.items():
        directory, name = split(path)
        (staged,) = await store.stage_small([(file(name, body), body)])
        kept.append((directory, staged))
    await store.repositories.keep(kept)


async def published(store: MirrorStore) -> None:
    """The first state, by files that are here already."""
    await put(store, OLD)
    state = await proposed(store, 1, OLD)
    assert await lacking(store, state) == []
    assert await store.repositories.switch(state, NOW) == []


async def lacking(store: MirrorStore, state: State) -> list[bytes]:
    found = await store.repositories.ask(states.missing, state.id, tuple(Role))
    return [name.path for name in found]


async def stands(store: MirrorStore) -> list[Stand]:
    return [one.stand for one in await store.repositories.ask(states.states, b"dists/x")]


async def test_what_waits_is_in_place_and_not_public(world):
    async with world.store() as store:
        await published(store)
        state = await proposed(store, 2, NEW | {POOL: b"one"})
        assert await lacking(store, state) == [ROOT, INDEX]
        await waits(store, NEW)
        assert await lacking(store, state) == []
        assert world.bodies() == OLD
    async with world.store() as store:  # also over an end of the program
        assert await lacking(store, state) == []
        assert await store.repositories.switch(state, NOW + 1) == []
        assert world.bodies() == OLD | NEW
        assert await stands(store) == [Stand.RETIRED, Stand.PUBLISHED]
    assert os.listdir(world.top / "data/.sideways/tmp/deb") == []


async def test_a_later_candidate_takes_the_place_of_an_earlier_one(world):
    async with world.store() as store:
        await published(store)
        await proposed(store, 2, NEW)
        await waits(store, NEW)
        later = await proposed(store, 3, {ROOT: b"root 3", INDEX: b"index 2"})
        assert await lacking(store, later) == [ROOT]
        assert len(os.listdir(world.top / "data/.sideways/tmp/deb")) == 1


async def test_a_name_that_cannot_be_published_keeps_the_root_back(world):
    async with world.store() as store:
        await published(store)
        more = NEW | {b"dists/x/Packages.gz": b"packed"}
        state = await proposed(store, 2, more)
        await waits(store, more)
        (world.public / "dists/x/Packages.gz").mkdir()
        ((path, _), *_) = await store.repositories.switch(state, NOW)
        assert path == b"dists/x/Packages.gz"
        assert world.bodies()[ROOT] == b"root 1"
        assert (await stands(store))[-1] is Stand.CANDIDATE
        (world.public / "dists/x/Packages.gz").rmdir()
        assert b"dists/x/Packages.gz" in await lacking(store, state)


async def test_a_digest_of_another_kind_is_proven_by_reading(world):
    async with world.store() as store:
        await put(store, OLD)
        by_md5 = Name(POOL, Role.FILE, 0, 3, "md5", hashlib.md5(b"one").digest())
        state = await proposed(store, 1, {})
        await store.repositories.note(states.add, state.id, [by_md5])
        assert await lacking(store, state) == [POOL]
        assert not await store.repositories.prove(replace(by_md5, digest=bytes(16)))
        assert await store.repositories.prove(by_md5)
        assert await lacking(store, state) == []


async def _switch(store: MirrorStore) -> None:
    state = await proposed(store, 2, NEW | {POOL: b"one"})
    await waits(store, NEW)
    assert not await lacking(store, state)
    assert await store.repositories.switch(state, NOW + 50) == []


async def test_dying_at_any_effect_of_a_switch_leaves_one_state_or_the_other(tmp_path):
    deaths = 0
    seen = set()
    for length in range(100):
        top = tmp_path / str(length)
        (top / "data").mkdir(parents=True)
        world = World(top)
        async with world.store() as store:
            await published(store)
        store = await MirrorStore.open(world.mirror, world.site, NOW)
        fuse = Fuse(length)
        arm(store, fuse)
        try:
            await _switch(store)
        except BaseException as error:
            assert fuse.dead, error
            assert isinstance(error, Died) or fuse.dead
        await bury(store)
        async with world.store(NOW + 100) as store:
            now = world.bodies()
            assert now in (OLD, OLD | NEW), now
            newest = (await stands(store))[-1]
            assert (now == OLD | NEW) == (newest is Stand.PUBLISHED and len(await stands(store)) > 1)
            seen.add(now[ROOT])
            await _switch(store)
            assert world.bodies() == OLD | NEW
        if not fuse.dead:
            break
        deaths += 1
    assert deaths == length and deaths > 8, fuse.log
    assert seen == {b"root 1", b"root 2"}


async def _missed(store: MirrorStore, now: int, *paths: bytes) -> tuple[int, int]:
    record = await store.pass_begin(now, "f", "http://origin.example/")
    for directory in {split(path)[0] for path in paths}:
        gone = frozenset(split(path)[1] for path in paths if split(path)[0] == directory)
        await store.compared([Compared(directory, missing=gone, entries_listed=1)], record, now)
    plan = await store.plan(record, AT_ONCE, now)
    await store.pass_end(record, "complete", {}, now)
    return plan.files, plan.waiting


async def test_what_a_state_names_is_not_deleted(world):
    async with world.store() as store:
        await published(store)
        assert await _missed(store, NOW, POOL) == (0, 1)
        assert await _missed(store, NOW + 1000, POOL) == (0, 1)
        assert await _missed(store, NOW + 1001, b"pool") == (0, 1)


async def test_what_the_state_before_named_is_deleted_after_the_grace(world):
    async with world.store() as store:
        await published(store)
        await _missed(store, NOW, POOL)
        state = await proposed(store, 2, NEW)
        await waits(store, NEW)
        await store.repositories.switch(state, NOW + 500)
        assert await _missed(store, NOW + 599, POOL) == (0, 1)
        assert await _missed(store, NOW + 600, POOL) == (1, 0)


async def test_a_root_that_goes_protects_nothing(world):
    async with world.store() as store:
        await published(store)
        assert await _missed(store, NOW, POOL, ROOT, INDEX) == (0, 3)
        assert await _missed(store, NOW + 100, POOL, ROOT, INDEX) == (3, 0)


@pytest.mark.parametrize(("spared", "expected"), [([b""], (0, 1)), ([b"po"], (1, 0)), ([b"pool"], (0, 1))])
async def test_what_is_spared_waits(world, spared, expected):
    async with world.store() as store:
        await put(store, {POOL: b"one"})
        record = await store.pass_begin(NOW, "f", "http://origin.example/")
        missed = Compared(b"pool", missing=frozenset([b"one"]), entries_listed=1)
        await store.compared([missed], record, NOW)
        plan = await store.plan(record, replace(AT_ONCE, grace=0), NOW, spared)
        assert (plan.files, plan.waiting) == expected
