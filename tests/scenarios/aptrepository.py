"""A signed apt repository that changes, as its origin has it, and two kinds of client."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cluster.repository.apt import Apt
from cluster.repository.base import to_read
from tests.repository.made import deb, indexes
from tests.signatures.keys import Signer

NAMES = ("alpha", "beta", "gamma", "delta")


class Changing:
    """`served` is what the origin has: a link to a folder, so that a careful origin changes it in one step.
    `complete` has every InRelease whose state the origin completed."""

    def __init__(self, top: Path, signer: Signer, seed: int) -> None:
        self.top, self.signer, self.chance = top, signer, random.Random(seed)
        self.work, self.served = top / "work", top / "served"
        self.number = 0
        self.complete: set[bytes] = set()
        self.work.mkdir(parents=True)
        for name in NAMES:
            self._package(name)
        self._index()
        self._at_once()

    def _package(self, name: str) -> None:
        self.number += 1
        for old in (self.work / "pool").glob(f"{name}_*"):
            old.unlink()
        deb(self.work / "pool", name, f"1.{self.number}", os.urandom(2000))

    def _index(self) -> None:
        shutil.rmtree(self.work / "dists" / "stable" / "main", ignore_errors=True)
        at = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime(1_700_000_000 + 60 * self.number))
        dists = indexes(self.work, options={"Date": at})
        text = (dists / "Release").read_bytes().replace(self._date(dists), f"Date: {at}".encode())
        (dists / "Release").write_bytes(text)
        (dists / "InRelease").write_bytes(self.signer.inline(text))
        (dists / "Release.gpg").write_bytes(self.signer.detached(text, "--armor"))

    @staticmethod
    def _date(dists: Path) -> bytes:
        lines = (dists / "Release").read_bytes().splitlines()
        return next(line for line in lines if line.startswith(b"Date:"))

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
        self.complete.add((new / "dists/stable/InRelease").read_bytes())
        link = self.top / "next"
        link.symlink_to(new.name)
        os.replace(link, self.served)

    def _file_by_file(self, pause: Callable[[], None]) -> None:
        """In any order: indexes before packages, a root before both."""
        new, old = _files(self.work), _files(self.served)
        changed = [path for path, body in new.items() if old.get(path) != body]
        self.chance.shuffle(changed)
        for path in changed:
            place = self.served / path
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = self.top / "one"
            beside.write_bytes(new[path])
            os.replace(beside, place)
            pause()
        self.complete.add(new["dists/stable/InRelease"])
        for path in old.keys() - new.keys():
            (self.served / path).unlink()
            pause()


def _files(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def checked(url: str) -> bytes:
    """What a client that fetches everything finds: InRelease, the indexes under their names by digest, all
    packages. Returns InRelease; fails where anything is not there, or not what is named."""
    form = Apt()
    release = _get(f"{url}/dists/stable/InRelease")
    root = form.read_root(b"dists/stable/InRelease", release)
    for index in to_read(root.named):
        (copy,) = [one for one in index.copies if b"/SHA256/" in one]
        body = _right(f"{url}/{copy.decode()}", index.digest("sha256"))
        for package in form.read_index(root, index, io.BytesIO(body)):
            _right(f"{url}/{package.path.decode()}", package.digest("sha256"))
    return release


def _right(url: str, sha256: bytes | None) -> bytes:
    body = _get(url)
    assert hashlib.sha256(body).digest() == sha256, f"{url} is not what is named"
    return body


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
    return body


class AptClient:
    """apt-get with a root of its own."""

    def __init__(self, top: Path, url: str, ring: Path) -> None:
        self.top = top
        for below in ("lists/partial", "cache/archives/partial", "etc", "got", "log"):
            (top / below).mkdir(parents=True)
        (top / "status").touch()
        (top / "sources.list").write_text(f"deb [signed-by={ring}] {url} stable main\n")
        settings = {
            "Dir::State": top,
            "Dir::State::lists": top / "lists",
            "Dir::State::status": top / "status",
            "Dir::Cache": top / "cache",
            "Dir::Etc": top / "etc",
            "Dir::Etc::sourcelist": top / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Log": top / "log",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::http::Proxy": "DIRECT",
            "Acquire::Check-Date": "false",
        }
        self.options = [word for name, said in settings.items() for word in ("-o", f"{name}={said}")]

    def run(self) -> str:
        """`apt-get update && apt-get download`; what it said where it failed, else ""."""
        for command in (["update"], ["download", *NAMES]):
            done = subprocess.run(
                ["apt-get", *self.options, *command],
                cwd=self.top / "got",
                capture_output=True,
                text=True,
                check=False,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            )
            if done.returncode:
                return f"{' '.join(command)}: {done.stdout}{done.stderr}"
        for file in (self.top / "got").iterdir():
            file.unlink()
        return ""
