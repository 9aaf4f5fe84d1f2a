"""Origins that publish a list of everything: what a pass asks for, and what it believes."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from cluster.model import SECOND, Deletion, Kind, Limits, OriginSpec, split
from cluster.origin.around import Asking
from cluster.origin.base import Properties
from cluster.origin.indexed import Indexed
from cluster.origin.memory import Node
from cluster.plan.listed import TAKES
from cluster.store.mirror import Reader
from tests.engine.world import AT_ONCE, Noted, World

LETTER = {Kind.FILE: "-", Kind.DIRECTORY: "d", Kind.SYMLINK: "l", Kind.SPECIAL: "c"}
BITS = "rwxrwxrwx"
LONG_AGO = 1_600_000_000 * SECOND
HTTP = Properties(exact_sizes=True, network=True, scheme="http")


def children(tree: dict[bytes, Node], directory: bytes) -> Iterable[tuple[bytes, Node]]:
    return sorted((split(p)[1], n) for p, n in tree.items() if split(p)[0] == directory)


def row(name: bytes, node: Node, zone: int = 0) -> bytes:
    rights = "".join(b if node.mode >> (8 - i) & 1 else "-" for i, b in enumerate(BITS))
    at = time.strftime("%Y-%m-%d %H:%M", time.gmtime(node.mtime // SECOND + zone))
    size = len(node.data) if node.kind is Kind.FILE else 4096
    arrow = b" -> " + node.target if node.target else b""
    return f"{LETTER[node.kind]}{rights} 1 0 0 {size} {at} ".encode() + name + arrow


def ls_lr(tree: dict[bytes, Node], zone: int = 0) -> bytes:
    """As GNU `ls -lR --time-style=long-iso` prints it."""
    folders = [b"", *sorted(p for p, n in tree.items() if n.kind is Kind.DIRECTORY)]
    blocks = []
    for folder in folders:
        rows = [row(name, node, zone) for name, node in children(tree, folder)]
        blocks.append(b"\n".join([b"./" + folder + b":" if folder else b".:", b"total 4", *rows, b""]))
    return b"\n".join(blocks)


def time_list(tree: dict[bytes, Node], later: int = 5000) -> bytes:
    """As Fedora's: the time of a file is when it came to be there."""
    rows = []
    for path, node in sorted(tree.items()):
        size = len(node.data) if node.kind is Kind.FILE else 4096
        at = node.mtime // SECOND + (later if node.kind is Kind.FILE else 0)
        rows.append(b"%d\t%s\t%d\t%s" % (at, LETTER[node.kind].replace("-", "f").encode(), size, path))
    return b"\n".join([b"[Version]\n2\n\n[Files]", *rows, b"\n[Checksums SHA1]\n\n[End]\n"])


class Lister:
    """A world whose origin writes a list when it is told to, and is read by it."""

    def __init__(
        self,
        world: World,
        *,
        name: str = "ls-lR.gz",
        index: str = "",
        make: Callable[[dict[bytes, Node]], bytes] = ls_lr,
        delete: Deletion = AT_ONCE,
        **spec: float | None,
    ) -> None:
        self.world, self.name, self.make = world, name.encode(), make
        self.opened: list[Indexed] = []
        self.chance = 0.0
        self.spec = replace(OriginSpec("memory://origin/", index=index or name), **spec)  # type: ignore[arg-type]
        world.mirror = replace(world.mirror, delete=delete)

        def chance() -> float:
            self.chance = (self.chance + 0.37) % 1.0
            return self.chance

        def opened(one: OriginSpec, mirror: object) -> Indexed:
            place = f"{world.top}/state/lists/deb"
            asking = Asking(Limits(), delete, place, world.clock.now, chance)
            made = Indexed(world.memory, self.spec, asking)
            self.opened.append(made)
            return made

        world._open = opened  # type: ignore[assignment, method-assign]

    @property
    def memory(self) -> Noted:
        return self.world.memory

    def now(self) -> int:
        return int(self.world.clock.now()) * SECOND

    def write(self, *, spoil: Callable[[bytes], bytes] | None = None, at: int | None = None) -> None:
        """The list of what is there now, itself not in it."""
        tree = {p: n for p, n in self.memory.tree().items() if p != self.name}
        body = self.make(tree)
        if spoil is not None:
            body = spoil(body)
        packed = gzip.compress(body, mtime=0) if self.name.endswith(b".gz") else body
        self.memory.put(self.name, packed, mtime=self.now() if at is None else at)
        self.later(60)

    def later(self, seconds: float = 3600.0) -> None:
        self.world.clock.moved += seconds

    @property
    def listed(self) -> list[bytes]:
        return self.memory.asked("listing")

    @property
    def bodies(self) -> list[bytes]:
        return [path for path in self.memory.asked("read") if path != self.name]


def grown(world: World, count: int = 60) -> None:
    for i in range(count):
        world.memory.put(
            b"pool/%d/file-%03d" % (i % 20, i), b"body %d " % i * (i + 1), mtime=LONG_AGO + i * SECOND
        )
    world.memory.put(b"README", b"read me", mtime=LONG_AGO)


async def test_a_first_copy_lists_a_few_directories_only(world: World) -> None:
    grown(world)
    by = Lister(world)
    by.write()
    report = await world.run()
    world.equal()
    assert (report.outcome, report.files.origin) == ("complete", 62)
    assert len(by.listed) <= 8 < 22
    assert any("ls-lR.gz: of " in note and "61 files" in note for note in report.notes)


async def test_a_pass_over_what_did_not_change_is_one_request(world: World) -> None:
    grown(world)
    by = Lister(world)
    by.write()
    await world.run()
    by.later()
    await world.run()  # what was asked for in the first pass has the tokens of the list now
    by.later()
    report = await world.run()
    assert world.memory.requests == [("facts", b"ls-lR.gz")]
    assert (report.outcome, report.files.unchanged, report.requests_origin) == ("complete", 62, 1)


async def test_of_a_new_list_only_what_changed_is_looked_at(world: World) -> None:
    grown(world)
    by = Lister(world)
    by.write()
    await world.run()
    by.later()
    world.memory.put(b"pool/3/new", b"new", mtime=by.now())
    world.memory.update(b"pool/7/file-007", b"another body")
    by.later()
    by.write()
    report = await world.run()
    world.equal()
    assert sorted(by.bodies) == [b"pool/3/new", b"pool/7/file-007"]
    assert report.files.unchanged == 60 and len(by.listed) <= 8


async def test_what_a_list_lacks_is_asked_for_before_it_is_deleted(world: World) -> None:
    grown(world)
    by = Lister(world)
    by.write()
    await world.run()
    world.memory.remove(b"pool/3/file-003")
    world.memory.remove(b"pool/5")
    by.later()
    by.write(
        spoil=lambda body: body.replace(
            row(b"file-007", world.memory.tree()[b"pool/7/file-007"]) + b"\n", b""
        )
    )
    report = await world.run()
    assert {b"", b"pool", b"pool/3", b"pool/7"} <= set(by.listed)
    assert report.files.deleted == 4
    world.equal()


async def test_walk_and_list_by_turns_bring_no_bodies(world: World) -> None:
    """Whatever the precision of either: a listing in nanoseconds, rows in minutes."""
    grown(world)
    by = Lister(world)
    by.write()
    listed, world._open = world._open, lambda spec, mirror: world.memory  # type: ignore[method-assign]
    walked = world._open
    await world.run()
    for opened in (listed, walked, listed, walked):
        by.later()
        by.write()
        world._open = opened  # type: ignore[method-assign]
        report = await world.run()
        assert by.bodies == [] and report.files.unchanged >= 61
    world.equal()


async def test_a_list_that_was_broken_off_is_not_believed(world: World) -> None:
    grown(world)
    by = Lister(world, name="ls-lR")
    by.write(spoil=lambda body: body[: len(body) // 2].rpartition(b"\n")[0] + b"\n")
    report = await world.run()
    world.equal()
    assert len(by.listed) == 22 and any("does not tell of" in note for note in report.notes)


async def test_what_a_cut_in_the_last_directory_took_away_stays(world: World) -> None:
    grown(world)
    by = Lister(world, name="ls-lR")
    by.write()
    await world.run()
    by.later()
    by.write(spoil=lambda body: body.rstrip(b"\n").rpartition(b"\n")[0] + b"\n")
    report = await world.run()
    assert report.files.deleted == 0 and b"pool/9" in by.listed
    world.equal()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda body: b"<html>no such file</html>\n", "no list of a kind that is known"),
        (lambda body: b"", "an empty list"),
        (lambda body: body.rstrip(b"\n"), "its last line has no end"),
        (lambda body: body + b"\n./pool/3:\ntotal 0\n", "tells twice of pool/3"),
        (lambda body: body + b"\n./elsewhere:\ntotal 0\n", "tells of elsewhere, which it does not name"),
        (lambda body: body + b"\n./../etc:\ntotal 0\n", "not a plain file name"),
        (lambda body: body.replace(b" 7 ", b" 8 "), "is not what the origin lists"),
    ],
)  # fmt: skip
async def test_what_is_no_list_of_this_tree_makes_the_pass_walk(
    world: World, spoil: Callable[[bytes], bytes], why: str
) -> None:
    grown(world, 20)
    by = Lister(world, name="ls-lR")
    by.write(spoil=spoil)
    report = await world.run()
    world.equal()
    assert report.outcome == "complete"
    assert any(why in note and "the tree is walked" in note for note in report.notes), report.notes
    assert set(by.listed) >= {b"", b"pool", *(b"pool/%d" % i for i in range(20))}


async def test_a_packed_list_without_its_end_is_not_believed(world: World) -> None:
    grown(world, 20)
    by = Lister(world)
    by.write()
    node = world.memory.tree()[b"ls-lR.gz"]
    world.memory.put(b"ls-lR.gz", node.data[:-9], mtime=node.mtime)
    report = await world.run()
    world.equal()
    assert any("middle of its compressed data" in note for note in report.notes)


async def test_a_list_of_another_tree_deletes_nothing(world: World) -> None:
    grown(world)
    by = Lister(world, delete=Deletion(hold_files=5, sightings=1, grace=0.0, emptied_after=0.0))
    by.write()
    await world.run()
    by.later()
    by.make = lambda tree: ls_lr({b"other": Node(Kind.DIRECTORY, mode=0o755), b"other/file": Node()})
    by.write()
    report = await world.run()
    world.equal()
    assert report.files.deleted == 0
    assert any("tells of 1 files, 62 are held" in note for note in report.notes)


async def test_a_list_older_than_the_last_one_is_not_believed(world: World) -> None:
    grown(world)
    by = Lister(world)
    by.write()
    await world.run()
    by.later()
    by.write(at=by.now() - 7200 * SECOND)
    report = await world.run()
    assert any("older than the one before" in note for note in report.notes)
    assert len(by.listed) == 22 and by.bodies == []


async def test_after_a_walk_an_older_list_only_tells_what_did_not_change(world: World) -> None:
    """What the walk saw later than the list is not undone, and is asked for as long as it differs."""
    grown(world)
    by = Lister(world)
    by.write()
    await world.run()
    by.later()
    world.memory.update(b"pool/7/file-007", b"another body", mode=0o644)
    by.world.clock.moved += 60
    await world.run(news=by.world.clock.now())
    assert by.bodies == [b"pool/7/file-007"] and len(by.listed) == 22
    by.later()
    report = await world.run()
    assert by.bodies == [] and {b"", b"pool/7"} <= set(by.listed) <= {b"", b"pool", b"pool/7"}
    by.later()
    await world.run()
    assert by.bodies == [] and set(by.listed) == {b"", b"pool/7"}
    assert any("older than the last comparison" in note for note in report.notes)
    world.equal()


@pytest.mark.parametrize(
    ("spec", "after", "walks"),
    [
        ({"index_age": 3600.0 * 36}, 3600.0 * 35, False),
        ({"index_age": 3600.0 * 36}, 3600.0 * 37, True),
        ({"index_age": None}, 3600.0 * 37, False),
        ({"index_age": None, "index_walk": 3600.0 * 40}, 3600.0 * 41, True),
        ({"index_age": None, "index_walk": None}, 3600.0 * 24 * 400, False),
    ],
)
async def test_the_tree_is_walked_when_the_list_is_too_old_or_it_is_time_for_it(
    world: World, spec: dict[str, float | None], after: float, walks: bool
) -> None:
    grown(world)
    by = Lister(world, **spec)
    by.write()
    await world.run()
    by.later(after)
    await world.run()
    assert (len(by.listed) == 22) is walks


async def test_status_says_as_of_when_a_list_compared(world: World) -> None:
    grown(world)
    by = Lister(world)
    by.write()
    written = by.now() // SECOND - 60
    by.later()
    await world.run()
    reader = await Reader.open("deb", world.site)
    try:
        at, _ = await reader.compared_at(b"pool/3")
    finally:
        await reader.close()
    assert at is not None and written - TAKES - 600 <= at <= written - TAKES


async def test_a_clock_of_another_zone_makes_rows_tell_of_changes_only(world: World) -> None:
    grown(world)
    by = Lister(world, make=lambda tree: ls_lr(tree, zone=3600))
    by.write()
    report = await world.run()
    assert any("clock of another zone" in note for note in report.notes)
    assert len(by.listed) == 22
    by.later()
    world.memory.put(b"pool/3/new", b"new", mtime=by.now())
    by.later()
    by.write()
    await world.run()
    world.equal()
    assert by.bodies == [b"pool/3/new"]


async def test_times_that_are_no_files_own_tell_of_changes_only(world: World) -> None:
    grown(world)
    by = Lister(world, name="fullfiletimelist-deb", make=time_list)
    by.write()
    await world.run()
    world.equal()
    assert len(by.listed) == 22
    by.later()
    world.memory.put(b"pool/3/new", b"new", mtime=LONG_AGO)
    by.later()
    by.write()
    report = await world.run()
    world.equal()
    assert by.bodies == [b"pool/3/new"] and len(by.listed) <= 10
    by.later()
    report = await world.run()
    assert set(by.listed) <= {b""} and report.files.unchanged == 63


async def test_what_links_lead_to_is_asked_for_where_listings_do_not_tell_links(world: World) -> None:
    grown(world, 20)
    world.memory.properties = HTTP
    by = Lister(world)
    linked = {b"pool/3/link": Node(Kind.SYMLINK, target=b"file-003", mode=0o777)}
    by.make = lambda tree: ls_lr(tree | linked)
    by.write()
    report = await world.run()
    assert report.outcome == "complete" and b"pool/3" in by.listed
    by.later()
    await world.run()
    by.later()
    await world.run()
    assert b"pool/3" in by.listed or by.listed == []


async def test_modes_are_told_by_lists_only_where_listings_tell_them(world: World) -> None:
    grown(world, 20)
    world.memory.put(b"pool/3/kept", b"kept from the world", mtime=LONG_AGO, mode=0o600)
    world.memory.properties = HTTP
    by = Lister(world)
    by.write()
    await world.run()
    mode = (world.public / "pool/3/kept").stat().st_mode & 0o777
    assert mode == 0o644
    world._open = lambda spec, mirror: world.memory  # type: ignore[method-assign]
    await world.run()
    assert by.bodies == []


def printed(tree: dict[bytes, Node]) -> bytes:
    """As `find . -mindepth 1 -printf '%T@ %y %s %P\\n'` does it: no modes, no targets."""
    return b"".join(
        b"%d.%09d %s %d %s\n"
        % (*divmod(n.mtime, SECOND), LETTER[n.kind].replace("-", "f").encode(), len(n.data), p)
        for p, n in sorted(tree.items())
    )


async def test_what_a_list_does_not_tell_stays_as_it_is(world: World) -> None:
    grown(world)
    world.memory.put(b"pool/3/run", b"a program", mtime=LONG_AGO, mode=0o755)
    world.memory.link(b"pool/3/run", b"pool/3/linked")
    await world.run()
    by = Lister(world, name="find-printf.gz", make=printed)
    by.later()
    by.write()
    report = await world.run()
    assert len(by.listed) <= 8 and (report.files.unchanged, by.bodies) == (63, [])
    found = [(world.public / "pool/3" / name).stat() for name in ("run", "linked")]
    assert [one.st_mode & 0o777 for one in found] == [0o755, 0o755] and found[0].st_ino == found[1].st_ino


async def test_names_that_a_cut_took_away_are_found_all_the_same(world: World) -> None:
    """Though they may have come later than the list, as far as one can see."""
    grown(world)
    world.memory.put(b"pool/9/last", b"the last row", mtime=int(world.clock.now()) * SECOND)
    by = Lister(world, name="ls-lR")
    by.write(spoil=lambda body: body.rstrip(b"\n").rpartition(b"\n")[0] + b"\n")
    await world.run()
    world.equal()


async def test_what_is_gone_since_the_list_was_made_is_asked_for_once(world: World) -> None:
    grown(world)
    by = Lister(world)
    await world.run()
    by.later()
    world.memory.put(b"pool/7/short-lived", b"soon gone", mtime=by.now())
    by.later()
    by.write()
    world.memory.remove(b"pool/7/short-lived")
    await world.run()
    assert by.bodies == [b"pool/7/short-lived"] and b"pool/7" in by.listed
    for _ in range(2):
        by.later()
        report = await world.run()
        assert by.bodies == [] and b"pool/7" in by.listed and report.outcome == "complete"
    world.equal()


async def test_what_a_push_brought_is_not_taken_back_by_the_list(world: World) -> None:
    grown(world)
    by = Lister(world)
    by.write()
    await world.run()
    by.later()
    node = world.memory.tree()[b"pool/7/file-007"]
    world.memory.put(b"pool/7/file-007", bytes(len(node.data)), mtime=by.now())
    by.later(60)
    await world.run(scope=b"pool/7")
    assert by.bodies == [b"pool/7/file-007"]
    for _ in range(2):
        by.later()
        await world.run()
        assert by.bodies == [] and b"pool/7" in by.listed
    world.equal()


async def test_a_pass_over_a_part_asks_the_origin(world: World) -> None:
    grown(world)
    by = Lister(world)
    by.write()
    await world.run()
    world.memory.put(b"pool/3/new", b"new", mtime=by.now())
    report = await world.run(scope=b"pool/3")
    assert by.bodies == [b"pool/3/new"] and by.listed == [b"pool/3"]
    assert report.files.failed == 0


async def test_the_list_is_found_in_the_root_where_the_descriptor_leaves_it_to_us(world: World) -> None:
    grown(world)
    world.memory.put(b"fullfilelist", b"./README\n", mtime=LONG_AGO)
    by = Lister(world, index="auto")
    by.write()
    await world.run()
    world.equal()
    assert len(by.listed) <= 9
    by.later()
    await world.run()
    by.later()
    await world.run()
    assert world.memory.requests == [("facts", b"ls-lR.gz")]


async def test_without_a_list_the_tree_is_walked(world: World) -> None:
    grown(world, 20)
    by = Lister(world, index="auto")
    report = await world.run()
    world.equal()
    assert any("nothing in the root looks like a list" in note for note in report.notes)
    by = Lister(world, index="lists/all.gz")
    report = await world.run()
    assert any("lists/all.gz: no such name; the tree is walked" in note for note in report.notes)
    assert len(by.listed) == 22


async def test_a_damaged_copy_of_the_list_is_made_anew(world: World) -> None:
    grown(world)
    by = Lister(world)
    by.write()
    await world.run()
    kept = world.top / "state/lists/deb"
    kept.write_bytes(b"SQLite format 3\0" + bytes(500))
    by.later()
    report = await world.run()
    assert (report.outcome, by.bodies) == ("complete", []) and len(by.listed) <= 8
    body = bytearray(kept.read_bytes())
    body[4096:] = b"\xff" * (len(body) - 4096)
    kept.write_bytes(bytes(body))
    by.later()
    report = await world.run()
    assert report.outcome == "complete" and report.files.deleted == 0
    world.equal()


async def test_an_interrupted_first_copy_goes_on_by_the_same_list(world: World) -> None:
    grown(world)
    by = Lister(world)
    by.write()
    await world.cut(after=20)
    await world.run()
    world.equal()
    assert len(by.listed) <= 4
