"""Repositories are published from complete state to complete state, whatever the origin does meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from cluster.engine import repositories
from cluster.errors import UsageError
from cluster.model import Deletion, Order, Repository, Sideways, Trust
from cluster.origin.memory import EPOCH
from cluster.plan.order import owner
from cluster.store.mirror import MirrorStore, Reader
from tests.engine.suite import INDEX, INRELEASE, SECOND, Suite, client
from tests.engine.world import NOW, World
from tests.invariants import records
from tests.signatures.keys import Signer, signers


@pytest.fixture
def suite(world: World, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setattr(repositories, "PAUSES", (0.0, 0.0))
    world.mirror = replace(world.mirror, repositories=(Repository("apt"),))
    made = Suite(world)
    made.update("one", "two", "three")
    return made


async def test_a_first_copy_is_a_whole_state(world: World, suite: Suite) -> None:
    report = await world.run()
    assert (report.outcome, report.published) == ("complete", 1), report.errors
    assert report.files.origin == len(world.bodies())
    assert client(world.public) in suite.complete
    world.equal()


async def test_an_unchanged_repository_costs_a_look_at_its_root(world: World, suite: Suite) -> None:
    await world.run()
    await world.run()
    report = await world.run()
    assert (report.outcome, report.published) == ("complete", 0)
    assert not world.memory.asked("read")
    assert sorted(world.memory.asked("facts")) == [INRELEASE, b"dists/stable/Release"]


async def test_the_next_state_follows(world: World, suite: Suite) -> None:
    await world.run()
    suite.update("two", gone=("three",))
    report = await world.run()
    assert (report.outcome, report.published) == ("complete", 1), report.errors
    assert client(world.public) == world.memory.tree()[INRELEASE].data


async def test_every_step_of_a_careless_origin_leaves_a_state_that_was_complete(
    world: World, suite: Suite
) -> None:
    await world.run()
    for step in suite.steps("one", "four"):
        step()
        await world.run()
        assert client(world.public) in suite.complete
    await world.run()
    assert client(world.public) == world.memory.tree()[INRELEASE].data


async def test_a_client_that_looks_at_every_request_finds_a_whole_state(world: World, suite: Suite) -> None:
    await world.run()
    steps = suite.steps("one", "four", gone=("two",)) + suite.steps("one", "five")
    seen: set[bytes] = set()

    async def before(method: str, path: bytes) -> None:
        seen.add(client(world.public) or b"")
        if steps:
            steps.pop(0)()

    world.memory.before = before
    for _ in range(3):
        await world.run()
    assert seen <= suite.complete
    assert client(world.public) == world.memory.tree()[INRELEASE].data


async def test_a_package_that_is_not_what_the_index_names_is_never_public(world: World, suite: Suite) -> None:
    await world.run()
    before = client(world.public)
    suite.update("two")
    right = world.memory.tree()[b"pool/two_2_all.deb"].data
    world.memory.update(b"pool/two_2_all.deb", right[::-1])
    report = await world.run()
    assert report.outcome == "incomplete" and "pool/two_2_all.deb" in " ".join(report.errors)
    assert client(world.public) == before and not (world.public / "pool/two_2_all.deb").exists()
    world.memory.update(b"pool/two_2_all.deb", right + b"")
    assert (await world.run()).outcome == "complete"
    assert client(world.public) == world.memory.tree()[INRELEASE].data


async def test_an_older_state_than_the_published_one_is_held(world: World, suite: Suite) -> None:
    old = {path: node for path, node in world.memory.tree().items() if path.startswith(b"dists/stable/")}
    suite.update("two")
    await world.run()
    newest = client(world.public)
    for path, node in old.items():
        if node.data:
            world.memory.put(path, node.data, mtime=node.mtime + 10**12)
    report = await world.run()
    assert report.outcome == "incomplete" and "rollback" in report.errors[0]
    assert client(world.public) == newest


async def test_old_packages_stay_for_clients_with_the_older_index(world: World, suite: Suite) -> None:
    world.mirror = replace(world.mirror, delete=Deletion(sightings=1, grace=100.0, emptied_after=0.0))
    await world.run()
    suite.update("two", gone=("three",))
    await world.run()
    old = world.public / "pool/three_1_all.deb"
    await world.run()
    assert old.exists()
    world.clock.moved += 200
    await world.run()
    assert not old.exists() and client(world.public) is not None


async def test_while_the_origin_is_being_updated_the_old_state_stays(world: World, suite: Suite) -> None:
    await world.run()
    before = client(world.public)
    suite.update("two")
    world.memory.put(b"Archive-Update-in-Progress-master", b"")
    report = await world.run()
    assert "Archive-Update-in-Progress-master: the origin is being updated" in report.errors[0]
    assert client(world.public) == before
    assert not (world.public / "Archive-Update-in-Progress-master").exists()
    world.memory.remove(b"Archive-Update-in-Progress-master")
    assert (await world.run()).outcome == "complete"
    assert client(world.public) != before


async def test_what_only_the_index_shows_is_asked_for_by_its_name(world: World, suite: Suite) -> None:
    """A directory of which the walk was told before the file was there."""
    await world.run()
    steps = suite.steps("two")

    async def late(method: str, path: bytes) -> None:
        if method == "listing" and path == b"" and steps:
            for step in steps:
                step()
            steps.clear()

    world.memory.before = late
    report = await world.run()
    assert report.outcome == "complete", report.errors


async def test_the_indexes_of_a_state_that_the_origin_left_are_had_by_their_digest(
    world: World, suite: Suite
) -> None:
    """The origin goes on between our look at the root and our look at its index: by-hash has both."""
    await world.run()
    suite.update("two")
    newer = suite.steps("two")

    async def late(method: str, path: bytes) -> None:
        if method == "read" and path == b"dists/stable/Release" and newer:
            for step in newer:
                step()
            newer.clear()

    world.memory.before = late
    report = await world.run()
    assert client(world.public) in suite.complete and not newer
    await world.run()
    assert client(world.public) == world.memory.tree()[INRELEASE].data, report.errors


async def test_without_a_good_signature_nothing_is_published(world: World, suite: Suite) -> None:
    with signers("archive", "stranger") as (archive, stranger):
        world.mirror = replace(world.mirror, repositories=(Repository("apt", keyring=str(archive.ring)),))

        def signed(by: Signer) -> None:
            release = by.inline(world.memory.tree()[b"dists/stable/Release"].data)
            world.memory.put(INRELEASE, release, mtime=world.memory.tree()[INRELEASE].mtime + SECOND)
            suite.complete.add(release)

        signed(archive)
        assert (await world.run()).outcome == "complete"
        good = client(world.public)
        suite.update("two")
        signed(stranger)
        report = await world.run()
        assert report.outcome == "incomplete" and "key" in report.errors[0]
        assert client(world.public) == good
        signed(archive)
        assert (await world.run()).outcome == "complete"
        assert client(world.public) == world.memory.tree()[INRELEASE].data


async def test_a_file_and_its_digests_change_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "PAUSES", (0.0,))
    world.mirror = replace(world.mirror, repositories=(Repository("plain-digests"),))
    sums, image = b"images/SHA256SUMS", b"images/latest.iso"
    bodies = {n: b"image %d" % n for n in (1, 2)}

    def put(what: bytes, number: int) -> None:
        line = b"%s  latest.iso\n" % hashlib.sha256(bodies[number]).hexdigest().encode()
        body = line if what == sums else bodies[number]
        world.memory.put(what, body, mtime=EPOCH + number * 100 * SECOND)

    def fits() -> int:
        found = (world.public / image.decode()).read_bytes()
        assert hashlib.sha256(found).hexdigest() in (world.public / sums.decode()).read_text()
        return next(n for n in bodies if bodies[n] == found)

    put(sums, 1)
    put(image, 1)
    assert (await world.run()).outcome == "complete" and fits() == 1
    put(image, 2)
    assert (await world.run()).outcome == "incomplete" and fits() == 1
    put(sums, 2)
    assert (await world.run()).outcome == "complete" and fits() == 2


async def test_a_digest_of_the_origin_is_enough_for_a_siblings_bytes(world: World, suite: Suite) -> None:
    """Also with strict trust, and whatever time the sibling tells."""
    world.mirror = replace(world.mirror, sideways=Sideways(trust=Trust.STRICT))
    await world.run()
    suite.update("two")
    path = b"pool/two_2_all.deb"
    sibling = world.sibling()
    sibling.hold(path, world.memory.tree()[path].data, mtime=EPOCH + 5)
    report = await world.run()
    assert report.outcome == "complete", report.errors
    assert path in sibling.delivered and path not in world.memory.asked("read")
    held = (await records(world.site, world.mirror))[path]
    assert (held.source, held.verified) == ("oslo", "digest")


async def test_what_a_sibling_sends_instead_is_refused(world: World, suite: Suite) -> None:
    await world.run()
    suite.update("two")
    path = b"pool/two_2_all.deb"
    node = world.memory.tree()[path]
    world.sibling().hold(path, node.data[::-1], mtime=node.mtime)
    report = await world.run()
    assert report.outcome == "complete", report.errors
    assert client(world.public) == world.memory.tree()[INRELEASE].data


async def test_a_root_that_goes_takes_its_files_with_it(world: World, suite: Suite) -> None:
    await world.run()
    for path in [b"pool", b"dists"]:
        world.memory.remove(path)
    world.memory.put(b"README", b"gone")
    world.mirror = replace(world.mirror, delete=Deletion(10**6, 1.0, 1, 0.0, 0.0))
    await world.run()
    await world.run()
    assert not (world.public / "pool/one_1_all.deb").exists()


async def test_an_older_state_that_an_operator_approves_is_published_once(world: World, suite: Suite) -> None:
    def older() -> None:
        for path, node in old.items():
            world.memory.put(path, node.data, mtime=node.mtime + 10**12)

    async def held() -> bytes:
        reader = await Reader.open(world.mirror.name, world.site)
        (one,) = await reader.repositories()
        await reader.close()
        return bytes.fromhex(str(one["held"] or ""))

    old = {
        path: node
        for path, node in world.memory.tree().items()
        if path.startswith((b"dists/stable/", b"pool/")) and node.data
    }
    first = old[INRELEASE].data
    suite.update("two")
    await world.run()
    newest = client(world.public)
    older()
    assert "rollback" in (await world.run()).errors[0]
    store = await MirrorStore.open(world.mirror, world.site, int(NOW))
    with pytest.raises(UsageError, match=hashlib.sha256(first).hexdigest()):
        await store.repositories.approve(bytes(32))
    assert await held() == hashlib.sha256(first).digest()
    assert await store.repositories.approve(hashlib.sha256(first).digest()) == INRELEASE
    await store.close()
    assert (await world.run()).outcome == "complete" and client(world.public) == first
    assert await held() == b""
    suite.update("three")
    assert (await world.run()).outcome == "complete"
    assert client(world.public) not in (first, newest)
    older()
    assert "rollback" in (await world.run()).errors[0], "approved once more"


async def test_what_a_stage_left_for_later_and_waits_by_then_does_not_hold_the_pass_up(
    world: World, suite: Suite
) -> None:
    """A pass leaves an index to the sibling that ranks first for it, and is killed; the pass that goes on has
    fetched it with its state."""
    world.mirror = replace(world.mirror, order=Order.RENDEZVOUS)
    directory = INDEX.rpartition(b"/")[0]
    names = (f"site{number}" for number in range(100))
    world.sibling(next(name for name in names if owner(directory, [world.site.name, name]) == name))
    await world.run()
    root, rest = (steps := suite.steps("one", "two"))[:2], steps[2:]
    for step in rest:
        step()
    await world.cut(world.memory.asked("listing").index(directory + b"/by-hash") + 1, "listing")
    for step in root:
        step()
    report = await asyncio.wait_for(world.run(), 100)
    assert report.outcome == "complete", report.errors
    assert client(world.public) == world.memory.tree()[INRELEASE].data


async def test_names_by_digest_that_the_origin_does_not_have_yet_belong_to_the_state(
    world: World, suite: Suite
) -> None:
    await world.run()
    suite.update("two")
    late = world.memory.tree()[INDEX + b".gz"]
    name = INDEX.rpartition(b"/")[0] + b"/by-hash/SHA256/" + hashlib.sha256(late.data).hexdigest().encode()
    world.memory.remove(name)
    report = await world.run()
    assert (report.outcome, report.published) == ("complete", 1), report.errors
    assert world.bodies()[name] == late.data
    world.memory.put(name, late.data, mtime=late.mtime)
    assert (await world.run()).outcome == "complete"
    world.equal()


def _stanza(path: bytes, sha256: bytes, size: int = 5) -> bytes:
    return b"Package: x\nFilename: %s\nSize: %d\nSHA256: %s\n" % (path, size, sha256)


@pytest.mark.parametrize(
    "hostile",
    [
        [_stanza(b"pool/one_1_all.deb", b"b" * 64, len(b"one 1" * 99))],
        [_stanza(b"pool/one_1_all.deb", hashlib.sha256(b"one 1" * 99).hexdigest().encode(), 6)],
        [_stanza(b"pool/../../../x.deb", b"a" * 64)],
        [_stanza(b"/etc/x.deb", b"a" * 64)],
        [_stanza(b"pool/x.deb", b"a" * 40)],
        [_stanza(b"pool/x.deb", b"a" * 64, 2**63)],
        [_stanza(b"dists/stable/main/binary-all/Packages", b"a" * 64)],
    ],
    ids=["digests", "sizes", "outside", "absolute", "short", "huge", "itself"],
)
async def test_a_hostile_index_is_refused_as_a_whole(
    world: World, suite: Suite, monkeypatch: pytest.MonkeyPatch, hostile: list[bytes]
) -> None:
    await world.run()
    before = client(world.public)
    honest = suite._paragraphs
    monkeypatch.setattr(suite, "_paragraphs", lambda: iter([*honest(), *hostile]))
    suite.update("two")
    report = await world.run()
    assert (report.outcome, report.published) == ("incomplete", 0), report
    assert any(word in report.errors[0] for word in ("named with", "Packages", "x.deb")), report.errors
    assert client(world.public) == before
    monkeypatch.undo()
    monkeypatch.setattr(repositories, "PAUSES", (0.0, 0.0))
    suite.update("two")
    assert (await world.run()).outcome == "complete"
