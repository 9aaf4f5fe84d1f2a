"""A small apt repository at an origin in memory, and a client that reads what is public of it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

from cluster.origin.memory import EPOCH
from cluster.repository.apt import Apt
from tests.engine.world import World

SECOND = 10**9
INRELEASE = b"dists/stable/InRelease"
INDEX = b"dists/stable/main/binary-all/Packages"


class Suite:
    """`state` makes what the origin holds when an update is over; `steps` are the files of one update, in the
    order in which a careless origin writes them: the root before what it names."""

    def __init__(self, world: World, *, by_hash: bool = True) -> None:
        self.world, self.by_hash = world, by_hash
        self.number = 0
        self.packages: dict[bytes, bytes] = {}
        self.complete: set[bytes] = set()  # every InRelease that the origin completed

    def steps(self, *changed: str, gone: tuple[str, ...] = ()) -> list[Callable[[], None]]:
        """One update: these packages get new contents and those go."""
        self.number += 1
        number, memory = self.number, self.world.memory
        at = EPOCH + number * 100 * SECOND
        before = set(self.packages)
        for name in gone:
            self.packages = {
                p: b for p, b in self.packages.items() if not p.startswith(b"pool/%s_" % name.encode())
            }
        for name in changed:
            self.packages = {
                p: b for p, b in self.packages.items() if not p.startswith(b"pool/%s_" % name.encode())
            }
            self.packages[b"pool/%s_%d_all.deb" % (name.encode(), number)] = (
                b"%s %d" % (name.encode(), number) * 99
            )
        text = b"\n".join(self._paragraphs())
        indexes = {INDEX: text, INDEX + b".gz": gzip.compress(text, mtime=0)}
        release = self._release(indexes, at)
        files = [(INRELEASE, release), (b"dists/stable/Release", release), *indexes.items()]
        if self.by_hash:
            place = b"dists/stable/main/binary-all/by-hash/SHA256/"
            files += [(place + hashlib.sha256(b).hexdigest().encode(), b) for b in indexes.values()]
        files += [(p, b) for p, b in self.packages.items() if p not in before]
        steps: list[Callable[[], None]] = [lambda p=p, b=b: memory.put(p, b, mtime=at) for p, b in files]  # type: ignore[misc]
        steps[-1] = _then(steps[-1], lambda: self.complete.add(release))
        lost = before - set(self.packages)
        steps += [lambda p=p: memory.remove(p) for p in sorted(lost)]  # type: ignore[misc]
        return steps

    def update(self, *changed: str, gone: tuple[str, ...] = ()) -> None:
        """A whole one, at once."""
        for step in self.steps(*changed, gone=gone):
            step()

    def _paragraphs(self) -> Iterator[bytes]:
        for path, body in sorted(self.packages.items()):
            name = path.split(b"/")[-1].split(b"_")[0]
            yield b"Package: %s\nFilename: %s\nSize: %d\nSHA256: %s\n" % (
                name,
                path,
                len(body),
                hashlib.sha256(body).hexdigest().encode(),
            )

    def _release(self, indexes: dict[bytes, bytes], at: int) -> bytes:
        lines = [
            b"Origin: Test",
            b"Suite: stable",
            b"Date: %s" % formatdate(at // SECOND, usegmt=True).encode(),
        ]
        lines += [b"Acquire-By-Hash: yes"] if self.by_hash else []
        lines += [b"SHA256:"]
        for path, body in {**indexes, INDEX + b".xz": b"never there"}.items():
            name = path.removeprefix(b"dists/stable/")
            lines.append(b" %s %d %s" % (hashlib.sha256(body).hexdigest().encode(), len(body), name))
        return b"\n".join(lines) + b"\n"


def _then(one: Callable[[], None], other: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        one()
        other()

    return both


def client(public: Path) -> bytes | None:
    """What a client finds now: its InRelease, after everything that it names was there and right; None where
    there is no suite yet."""
    try:
        release = (public / INRELEASE.decode()).read_bytes()
    except FileNotFoundError:
        return None
    form = Apt()
    root = form.read_root(INRELEASE, release)
    read = 0
    for index in root.named:
        places = [place for place in (index.path, *index.copies) if (public / place.decode()).exists()]
        for place in places:
            _right(public / place.decode(), index.digest("sha256"))
        if not places or index.path not in (INDEX, INDEX + b".gz"):
            continue
        with (public / places[0].decode()).open("rb") as stream:
            for package in form.read_index(root, index, stream):
                _right(public / package.path.decode(), package.digest("sha256"))
        read += 1
    assert read, "no index is there"
    return release


def _right(path: Path, sha256: bytes | None) -> None:
    found = hashlib.sha256(path.read_bytes()).digest()
    assert found == sha256, f"{path.name} is not what is named"
