"""A package repository that changes, as its origin has it; what it takes to judge a mirror of it."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import ClassVar, Protocol, Self

from tests.signatures.keys import Signer

PATIENCE = 180.0  # s for a switch to end: who was killed in it is to be started again
NAMES = ("alpha", "beta", "gamma", "delta")


class Client(Protocol):
    """A package manager with a root of its own, used as a context."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def run(self) -> str:
        """Get the newest indexes and every package. What it said where that failed, else ""."""


class Changing(ABC):
    """`served` is what the origin has: a link to a folder, so that a careful origin changes it in one step.
    `complete` has the root of every state that the origin completed.

    `crosses`: indexes keep their names when they change. A client that asks while a state is switched to has
    two states, whoever publishes in whatever way, and the new one when it asks again."""

    type: ClassVar[str]
    root: ClassVar[str]  # the file that changes last
    crosses = False

    def __init__(self, top: Path, signer: Signer, seed: int) -> None:
        self.top, self.signer, self.chance = top, signer, random.Random(seed)
        self.work, self.served = top / "work", top / "served"
        self.number = self.crossed = 0
        self.complete: set[bytes] = set()
        self.work.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            self._package(name)
        self._index()
        self._at_once()

    @property
    def ring(self) -> Path:
        """The keyring that its signatures are checked with."""
        return self.signer.ring

    @property
    def newest(self) -> bytes:
        return (self.work / self.root).read_bytes()

    @property
    def at(self) -> int:
        """When the state was made, s."""
        return 1_700_000_000 + 60 * self.number

    @abstractmethod
    def _package(self, name: str) -> None:
        """A new version of a package in `work`, in the place of the old one."""

    @abstractmethod
    def _index(self) -> None:
        """Indexes and root of all packages in `work`."""

    @abstractmethod
    def checked(self, url: str) -> bytes:
        """The root at `url`, after all that it names was there and right. Raises AssertionError, OSError."""

    def update(self, pause: Callable[[], None], *, careful: bool) -> None:
        """A new version of some packages; `pause` is called between two steps of a careless origin."""
        for name in self.chance.sample(NAMES, 2):
            self._package(name)
        self._index()
        if careful:
            self._at_once()
        else:
            self._file_by_file(pause)

    def _at_once(self) -> None:
        new = self.top / f"served-{self.number}"
        shutil.copytree(self.work, new)
        self.complete.add(self.newest)
        link = self.top / "next"
        link.symlink_to(new.name)
        os.replace(link, self.served)

    def _file_by_file(self, pause: Callable[[], None]) -> None:
        """In any order: indexes before packages, a root before both."""
        new, old = _files(self.work), _files(self.served)
        changed = [path for path, body in new.items() if old.get(path) != body]
        self.chance.shuffle(changed)
        for number, path in enumerate(changed, 1):
            place = self.served / path
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = self.top / "one"
            beside.write_bytes(new[path])
            if self._whole(new, set(changed[number:])):
                self.complete.add(self.newest)
            os.replace(beside, place)
            pause()
        for path in old.keys() - new.keys():
            (self.served / path).unlink()
            pause()

    def _whole(self, files: Mapping[str, bytes], lacking: AbstractSet[str]) -> bool:
        """Whether clients find all of `files` at an origin where these are lacking."""
        return not lacking

    # -- the judges; "" where they find nothing wrong

    def check(self, url: str) -> str:
        """A checker that fetches everything: it finds one whole state that the origin completed."""

        def look() -> str:
            try:
                found = self.checked(url)
            except (AssertionError, OSError) as error:
                return f"{type(error).__name__}: {error}"
            return (
                "" if found in self.complete else f"the origin never completed this state: {found[:2000]!r}"
            )

        return self.judged(url, look)

    def judged(self, url: str, look: Callable[[], str]) -> str:
        """What a look finds wrong. Where clients can meet two states they look again, and `crossed` is one
        more: what is still wrong then, and does not end, is a fault."""
        wrong = look()
        if not wrong or not self.crosses:
            return wrong
        self.crossed += 1
        end = time.monotonic() + PATIENCE
        while wrong and time.monotonic() < end:
            time.sleep(0.5)
            wrong = look()
        return wrong


class Managed(Changing):
    """One that a package manager reads."""

    @abstractmethod
    def client(self, top: Path, url: str) -> Client: ...


def _files(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            body: bytes = answer.read()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error}") from None
    return body


def right(url: str, sha256: bytes | None) -> bytes:
    """What is at `url`, which must have this digest."""
    body = fetched(url)
    assert hashlib.sha256(body).digest() == sha256, f"{url} is not what is named"
    return body
