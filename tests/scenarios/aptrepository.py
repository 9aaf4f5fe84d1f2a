"""A signed apt repository that changes, and apt-get as its client."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Self

from cluster.repository.apt import Apt
from cluster.repository.base import to_read
from tests.repository.made import deb, indexes
from tests.scenarios.changing import NAMES, Managed, fetched, right


class AptArchive(Managed):
    type, root = "apt", "dists/stable/InRelease"

    def _package(self, name: str) -> None:
        self.number += 1
        for old in (self.work / "pool").glob(f"{name}_*"):
            old.unlink()
        deb(self.work / "pool", name, f"1.{self.number}", os.urandom(2000))

    def _index(self) -> None:
        shutil.rmtree(self.work / "dists" / "stable" / "main", ignore_errors=True)
        at = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime(self.at))
        # As in Debian: apt asks for names by the strongest digest of Release, here they are SHA-256's.
        dists = indexes(self.work, options={"Date": at, "SHA512": "false"})
        text = (dists / "Release").read_bytes().replace(self._date(dists), f"Date: {at}".encode())
        (dists / "Release").write_bytes(text)
        (dists / "InRelease").write_bytes(self.signer.inline(text))
        (dists / "Release.gpg").write_bytes(self.signer.detached(text, "--armor"))

    def _whole(self, files: Mapping[str, bytes], lacking: AbstractSet[str]) -> bool:
        """An index is there under its name by digest as well as under its own: apt asks for the first."""
        there = {body for path, body in files.items() if path not in lacking}
        return all("/binary-all/" in path and files[path] in there for path in lacking)

    @staticmethod
    def _date(dists: Path) -> bytes:
        lines = (dists / "Release").read_bytes().splitlines()
        return next(line for line in lines if line.startswith(b"Date:"))

    def checked(self, url: str) -> bytes:
        """InRelease, the indexes under their names by digest, all packages."""
        form = Apt()
        release = fetched(f"{url}/{self.root}")
        root = form.read_root(self.root.encode(), release)
        for index in to_read(root.named):
            (copy,) = [one for one in index.copies if b"/SHA256/" in one]
            body = right(f"{url}/{copy.decode()}", index.digest("sha256"))
            for package in form.read_index(root, index, io.BytesIO(body)):
                right(f"{url}/{package.path.decode()}", package.digest("sha256"))
        return release

    def client(self, top: Path, url: str) -> AptClient:
        return AptClient(top, url, self.signer.ring)


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

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
