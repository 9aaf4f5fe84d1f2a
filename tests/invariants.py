"""The oracles of HAZARDS section 2, for every scenario: what must hold at every instant, whatever happened.

A scenario keeps a `Ledger` of every version that its origin ever had and a `Canary` outside of the site's
folders, and calls `check_invariants` after each pass, each crash and at its end. `check_disk` is the part
that needs no records: it holds even in the moment after a kill.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cluster.model import Entry, Held, Kind, Mirror, Site, from_href, join, shown, split
from cluster.store.mirror import Reader


class Violated(AssertionError):
    """An invariant does not hold. Its name comes first."""


def _holds(condition: object, invariant: str, why: str) -> None:
    if not condition:
        raise Violated(f"{invariant}: {why}")


@dataclass
class Ledger:
    """Everything that a test origin ever said: versions by path, and the names that it ever lacked."""

    versions: dict[bytes, set[str]] = field(default_factory=dict)  # SHA-256 of each body
    targets: dict[bytes, set[bytes]] = field(default_factory=dict)  # of symlinks
    folders: set[bytes] = field(default_factory=set)
    lacked: set[bytes] = field(default_factory=set)  # by a complete listing that was asked for
    strangers: set[bytes] = field(default_factory=set)  # what a test put into the public tree itself
    secrets: set[bytes] = field(default_factory=set)
    _seen: dict[tuple[str, str], set[bytes]] = field(default_factory=dict)
    _hashed: dict[tuple[int, int, int, int, int], str] = field(default_factory=dict)

    def file(self, path: bytes, body: bytes) -> None:
        self.versions.setdefault(path, set()).add(hashlib.sha256(body).hexdigest())

    def symlink(self, path: bytes, target: bytes) -> None:
        self.targets.setdefault(path, set()).add(target)

    def listed(self, directory: bytes, entries: Iterable[Entry]) -> None:
        """A complete listing was served: what we know below and it has not, it lacks."""
        there = {entry.name: entry.kind for entry in entries}
        known = self.versions.keys() | self.targets.keys() | self.folders
        for path in known:
            if path and split(path)[0] == directory:
                kind = there.get(split(path)[1])
                if kind is None:
                    self.lacked.add(path)
                elif kind is Kind.DIRECTORY and path in self.versions.keys() | self.targets.keys():
                    self.lacked.add(path)  # it is no file any more, and goes before the directory comes
                elif kind is not Kind.DIRECTORY and path in self.folders:
                    self.lacked |= {path, path + b"/"}  # with everything below it

    def tree(self, root: Path) -> None:
        """Note all that a folder holds now; what it held before and does not now, it lacks."""
        top = os.fsencode(root)
        found: set[bytes] = set()
        folders: set[bytes] = set()
        for folder, below, names in os.walk(top):
            here = b"" if folder == top else os.path.relpath(folder, top)
            for name in [*below, *names]:
                path, place = join(here, name), os.path.join(folder, name)
                found.add(path)
                if os.path.islink(place):
                    self.symlink(path, os.readlink(place))
                elif os.path.isdir(place):
                    self.folders.add(path)
                    folders.add(path)
                elif os.path.isfile(place):
                    self.versions.setdefault(path, set()).add(self.hash(place))
        known = self.versions.keys() | self.targets.keys() | self.folders
        self.lacked |= known - found | {path + b"/" for path in self.folders - folders}

    def hash(self, place: bytes) -> str:
        """SHA-256 of a file, read once for each of its versions on disk."""
        with open(place, "rb") as file:
            s = os.fstat(file.fileno())
            key = (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
            if key not in self._hashed:
                self._hashed[key] = hashlib.file_digest(file, "sha256").hexdigest()
            return self._hashed[key]

    def knows(self, path: bytes) -> bool:
        return path in self.versions or path in self.targets or path in self.folders

    def justified(self, path: bytes) -> bool:
        """Whether a listing once lacked the name, or one above it."""
        while path:
            if path in self.lacked or split(path)[0] + b"/" in self.lacked:
                return True
            path = split(path)[0]
        return False


class Canary:
    """A tree beside the site's folders that nobody may touch: path, inode and times of all it holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "below").mkdir(parents=True)
        (folder / "passwd").write_text("root:x:0:0\n")
        (folder / "below" / "shadow").write_text("root:*:\n")
        (folder / "link").symlink_to("passwd")
        self._before = self._look()

    def _look(self) -> list[tuple[str, int, int, int]]:
        places = [self.folder, *sorted(self.folder.rglob("*"))]
        return [(str(p), s.st_ino, s.st_ctime_ns, s.st_nlink) for p in places for s in [p.lstat()]]

    def check(self) -> None:
        _holds(self._look() == self._before, "INV1 containment", f"something below {self.folder} changed")


def public_root(site: Site, mirror: Mirror) -> bytes:
    return os.path.join(os.fsencode(site.data), os.fsencode(mirror.path.strip("/")))


def public_tree(site: Site, mirror: Mirror) -> dict[bytes, os.stat_result]:
    """lstat of every public name."""
    root = public_root(site, mirror)
    found: dict[bytes, os.stat_result] = {}
    todo = [b""] if os.path.isdir(root) else []
    while todo:
        here = todo.pop()
        for one in os.scandir(os.path.join(root, here)):
            path = join(here, one.name)
            found[path] = one.stat(follow_symlinks=False)
            if stat.S_ISDIR(found[path].st_mode):
                todo.append(path)
    return found


# -- what needs no records


def check_disk(
    site: Site, mirror: Mirror, ledger: Ledger, canary: Canary, *, logs: Iterable[Path] = ()
) -> dict[bytes, os.stat_result]:
    """INV1, 2, 3 and 7 and the modes; also in the very moment after a crash. Returns the public tree."""
    canary.check()
    tree, root = public_tree(site, mirror), public_root(site, mirror)
    for path, found in tree.items():
        if path not in ledger.strangers:
            _check_name(root, path, found, ledger)
    before = ledger._seen.get((site.name, mirror.name), set())
    for path in before - tree.keys():
        _holds(
            ledger.justified(path), "INV3 justified deletes", f"{shown(path)}: gone, and no listing lacked it"
        )
    ledger._seen[site.name, mirror.name] = set(tree) - ledger.strangers
    _check_status(site, mirror, ledger, exact=False)
    _check_secrets(site, ledger, logs)
    return tree


def _check_name(root: bytes, path: bytes, found: os.stat_result, ledger: Ledger) -> None:
    _holds(ledger.knows(path), "nothing of ours", f"{shown(path)}: the origin never had this name")
    place = os.path.join(root, path)
    if stat.S_ISREG(found.st_mode):
        _holds(
            ledger.hash(place) in ledger.versions.get(path, ()),
            "INV2 truthful bytes",
            f"{shown(path)}: {found.st_size} bytes that the origin never served under this name",
        )
        _holds(not found.st_mode & 0o7002, "HAZARDS 26", f"{shown(path)}: mode {found.st_mode:o}")
    elif stat.S_ISLNK(found.st_mode):
        _holds(
            os.readlink(place) in ledger.targets.get(path, ()),
            "INV2 truthful bytes",
            f"{shown(path)}: a link that the origin never had",
        )
    else:
        _holds(stat.S_ISDIR(found.st_mode), "INV2 truthful bytes", f"{shown(path)}: mode {found.st_mode:o}")
        _holds(
            path in ledger.folders or path in ledger.lacked,
            "INV2 truthful bytes",
            f"{shown(path)}: the origin never had such a directory",
        )


def _check_status(site: Site, mirror: Mirror, ledger: Ledger, *, exact: bool) -> None:
    """INV5: what status files claim is on disk. Without `exact` (in the moment after a crash) the disk may
    hold another whole version than the status still tells; it never lacks the name."""
    top = os.path.join(os.fsencode(site.state), b"status", os.fsencode(mirror.name))
    root = public_root(site, mirror)
    for folder, _, names in os.walk(top):
        if b".sideways.json" not in names:
            continue
        with open(os.path.join(folder, b".sideways.json"), "rb") as file:
            status = json.load(file)
        for entry in status["entries"]:
            path = join(from_href(status["href"]), from_href(entry["href"]))
            if entry.get("unknown") or path in ledger.strangers:
                continue
            place = os.path.join(root, path)
            _holds(
                os.path.lexists(place), "INV5 status", f"{shown(path)}: claimed by a status file, not on disk"
            )
            if entry["kind"] == "file" and exact:
                _holds(
                    os.path.isfile(place)
                    and not os.path.islink(place)
                    and ledger.hash(place) == entry["sha256"]
                    and os.path.getsize(place) == entry["size"],
                    "INV5 status",
                    f"{shown(path)}: a status file tells another version than the disk has",
                )


def _check_secrets(site: Site, ledger: Ledger, logs: Iterable[Path]) -> None:
    if not ledger.secrets:
        return
    told = [Path(folder, name) for folder, _, names in os.walk(site.state) for name in names]
    for place in [*told, *logs]:
        if place.suffix in (".key", ".pem") or not place.is_file():
            continue
        text = place.read_bytes()
        for secret in ledger.secrets:
            _holds(secret not in text, "INV7 no secrets", f"{place}: holds a secret")
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = process.read_bytes()
        except OSError:
            continue
        for secret in ledger.secrets:
            _holds(secret not in arguments, "INV7 no secrets", f"{process}: a secret is an argument")


# -- what needs the records


async def check_invariants(
    site: Site,
    mirror: Mirror,
    ledger: Ledger,
    canary: Canary,
    *,
    logs: Iterable[Path] = (),
    partials: int = 0,
    told: bool = True,
) -> None:
    """All of them, when nobody works on the mirror: after a pass, or after recovery.

    `partials` is how many beginnings of files may wait in the temporaries for the next attempt. Without
    `told` the status files could not be written (HAZARDS 99): they may be older than the disk.
    """
    tree = check_disk(site, mirror, ledger, canary, logs=logs)
    _check_status(site, mirror, ledger, exact=told)
    held = await records(site, mirror)
    root = public_root(site, mirror)
    for path, record in held.items():
        if not record.unknown and path not in ledger.strangers:
            _check_record(root, path, record, tree, ledger)
    unknown = tree.keys() - held.keys() - ledger.strangers
    _holds(not unknown, "INV5 honest", f"on disk and in no record: {sorted(map(shown, unknown))[:5]}")
    temporaries = Path(site.data, ".sideways", "tmp", mirror.name)
    left = sorted(p.name for p in temporaries.iterdir()) if temporaries.exists() else []
    waiting = _waiting(site, mirror)
    lost = waiting - set(left)
    _holds(not lost, "INV4 bounded", f"waits for its state, and is not there: {lost}")
    left = [name for name in left if name not in waiting]
    _holds(len(left) <= partials, "INV4 bounded", f"temporaries are left: {left[:5]}")


def _waiting(site: Site, mirror: Mirror) -> set[str]:
    """The temporaries of a state of a repository that is not complete yet."""
    records = Path(site.state, f"{mirror.name}.db")
    if not records.exists():
        return set()
    with contextlib.closing(sqlite3.connect(records)) as connection:
        return {os.fsdecode(name) for (name,) in connection.execute("SELECT temporary FROM waiting")}


def _check_record(
    root: bytes, path: bytes, record: Held, tree: dict[bytes, os.stat_result], ledger: Ledger
) -> None:
    _holds(path in tree, "INV5 honest", f"{shown(path)}: recorded, and not on disk")
    place, found = os.path.join(root, path), tree[path]
    if record.kind is Kind.FILE:
        assert record.sha256 is not None
        _holds(
            stat.S_ISREG(found.st_mode)
            and found.st_size == record.size
            and ledger.hash(place) == record.sha256.hex(),
            "INV5 honest",
            f"{shown(path)}: the record tells another version than the disk has",
        )
    elif record.kind is Kind.SYMLINK:
        _holds(
            stat.S_ISLNK(found.st_mode) and os.readlink(place) == record.target,
            "INV5 honest",
            f"{shown(path)}: the record tells another link than the disk has",
        )
    else:
        _holds(stat.S_ISDIR(found.st_mode), "INV5 honest", f"{shown(path)}: recorded as a directory")


async def records(site: Site, mirror: Mirror) -> dict[bytes, Held]:
    """Everything that the committed store holds, by path; nothing where there is no store yet."""
    if not os.path.exists(os.path.join(site.state, f"{mirror.name}.db")):
        return {}
    reader = await Reader.open(mirror.name, site)
    try:
        found: dict[bytes, Held] = {}
        todo = [b""]
        while todo:
            here = todo.pop()
            for name, record in (await reader.directory(here) or {}).items():
                found[join(here, name)] = record
                if record.kind is Kind.DIRECTORY:
                    todo.append(join(here, name))
        return found
    finally:
        await reader.close()
