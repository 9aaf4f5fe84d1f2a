"""A signed yum repository that changes, and dnf as its client."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from lxml import etree

from tests.repository.made import repodata, rpm
from tests.scenarios.changing import NAMES, Managed, fetched, right


class YumRepository(Managed):
    """As createrepo_c makes it today: the names of the indexes begin with their digests."""

    type, root = "yum", "repodata/repomd.xml"
    options: tuple[str, ...] = ("--unique-md-filenames", "--no-database")

    def _package(self, name: str) -> None:
        self.number += 1
        for old in (self.work / "Packages").glob(f"{name}-*"):
            old.unlink()
        rpm(self.work / "Packages", name, f"1.{self.number}")

    def _index(self) -> None:
        shutil.rmtree(self.work / "repodata", ignore_errors=True)
        repomd = repodata(self.work, *self.options, "--revision", str(self.at))
        repomd.with_name("repomd.xml.asc").write_bytes(self.signer.detached(repomd.read_bytes(), "--armor"))

    def checked(self, url: str) -> bytes:
        """repomd.xml, each index that it names, each package that the primary one names."""
        root = fetched(f"{url}/{self.root}")
        for kind, path, sha256 in _named(root, "data"):
            body = right(f"{url}/{path}", sha256)
            if kind == "primary":
                packages = [*_named(gzip.decompress(body), "package")]
                assert len(packages) == len(NAMES), path
                for _, package, digest in packages:
                    right(f"{url}/{package}", digest)
        return root

    def client(self, top: Path, url: str) -> DnfClient:
        return DnfClient(top, url, self.signer.armored if self.crosses else None)


class SimpleYumRepository(YumRepository):
    """As older tools make it: `primary.xml.gz` stays the name of what changes. Clients check the signature,
    which is a file of its own too."""

    options = ("--simple-md-filenames", "--database")
    crosses = True


def _named(document: bytes, records: str) -> Iterator[tuple[str, str, bytes]]:
    """What the records of an XML document name: type, path, SHA-256."""
    for record in etree.fromstring(document).iterfind(f"{{*}}{records}"):
        location, digest = record.find("{*}location"), record.find("{*}checksum")
        assert location is not None and digest is not None and digest.get("type") == "sha256"
        yield record.get("type", ""), location.get("href", ""), bytes.fromhex(digest.text or "")


_CONFIGURATION = """\
[main]
installroot={top}/root
reposdir={top}/repos
varsdir={top}/vars
pluginconfpath={top}/plugins
module_platform_id=platform:none
retries=1
timeout=120
skip_if_unavailable=0
gpgcheck=0

[m]
name=m
baseurl={url}/
repo_gpgcheck={checks}
gpgkey={key}
"""


class DnfClient:
    """dnf with a root and a configuration of its own; with a key, it checks the signature of repomd.xml."""

    def __init__(self, top: Path, url: str, key: Path | None) -> None:
        self.top, self.configuration = top, top / "dnf.conf"
        for below in ("root", "repos", "vars", "plugins", "got", "home"):
            (top / below).mkdir(parents=True)
        checks, uri = (1, key.as_uri()) if key is not None else (0, "")
        self.configuration.write_text(_CONFIGURATION.format(top=top, url=url, checks=checks, key=uri))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for home in self.top.rglob("pubring"):  # gpg's, with an agent that is of no use
            kill = ["gpgconf", "--homedir", str(home), "--kill", "all"]
            subprocess.run(kill, capture_output=True, check=False)

    def run(self) -> str:
        """`dnf makecache --refresh && dnf download`, of packages that must be those of the mirror; what it
        said where it failed, else ""."""
        got = self.top / "got"
        for command in (["makecache", "--refresh"], ["download", "--downloaddir", str(got), *NAMES]):
            done = subprocess.run(
                ["dnf", "-c", str(self.configuration), "--releasever=1", "-y", *command],
                cwd=got,
                capture_output=True,
                text=True,
                check=False,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.top / "home")},
            )
            if done.returncode:
                return f"{' '.join(command)}: {done.stdout}{done.stderr}"
        files = list(got.iterdir())
        for file in files:
            file.unlink()
        return "" if len(files) == len(NAMES) else f"{len(files)} packages came: {files}"
