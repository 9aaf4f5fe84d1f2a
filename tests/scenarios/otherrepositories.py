"""Repositories of the types that no package manager of Debian's reads, each with a reader of its own."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import os
import re
import subprocess
import tarfile
import zlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from tests.repository import made
from tests.repository.made import repodata, rpm
from tests.scenarios.changing import NAMES, Changing, fetched, right
from tests.signatures.keys import Signer
from tests.signatures.rsa import RsaKey

SIZE = 2000  # bytes of every file: no size tells one version from another


class PypiPages(Changing):
    """As bandersnatch writes them: a page of each project as HTML and as JSON, files in folders by digest."""

    type, root = "pypi", "simple/alpha/index.html"

    def _package(self, name: str) -> None:
        self.number += 1
        body = os.urandom(SIZE)
        place = self.work / "packages" / hashlib.sha256(body).hexdigest()[:2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}-1.{self.number}-py3-none-any.whl").write_bytes(body)

    def _index(self) -> None:
        for name in NAMES:
            page = self.work / "simple" / name
            page.mkdir(parents=True, exist_ok=True)
            wheels = sorted((self.work / "packages").rglob(f"{name}-*"))
            text = "".join(f"    {self._link(wheel)}<br/>\n" for wheel in wheels)
            (page / "index.html").write_text(
                f"<!DOCTYPE html>\n<html>\n  <head>\n    <title>Links for {name}</title>\n  </head>\n"
                "  <body>\n"
                f"    <h1>Links for {name}</h1>\n{text}  </body>\n</html>\n<!--SERIAL {self.at}-->"
            )
            said = {
                "files": [self._said(wheel) for wheel in wheels],
                "meta": {"api-version": "1.1", "_last-serial": str(self.at)},
                "name": name,
                "versions": [wheel.name.split("-")[1] for wheel in wheels],
            }
            (page / "index.v1_json").write_text(json.dumps(said))
        links = "".join(f'    <a href="{name}/">{name}</a><br/>\n' for name in NAMES)
        everything = {"meta": {"_last-serial": self.at, "api-version": "1.1"}, "projects": [*NAMES]}
        (self.work / "simple" / "index.v1_json").write_text(json.dumps(everything))
        (self.work / "simple" / "index.html").write_text(
            "<!DOCTYPE html>\n<html>\n  <head>\n    <title>Simple Index</title>\n  </head>\n"
            f"  <body>\n{links}  </body>\n</html>"
        )

    def _link(self, wheel: Path) -> str:
        said = self._said(wheel)
        return f'<a href="{said["url"]}#sha256={_sha256(wheel)}" >{html.escape(wheel.name)}</a>'

    def _said(self, wheel: Path) -> dict[str, object]:
        url = f"../../{wheel.relative_to(self.work)}"
        size = wheel.stat().st_size
        return {"filename": wheel.name, "url": url, "hashes": {"sha256": _sha256(wheel)}, "size": size}

    def _whole(self, files: Mapping[str, bytes], lacking: AbstractSet[str]) -> bool:
        """Each project stands for itself: this is about the first one."""
        return not any("alpha" in path for path in lacking)

    def checked(self, url: str) -> bytes:
        """The two pages of every project, which name the same, and what they name."""
        for name in NAMES:
            page = fetched(f"{url}/simple/{name}/index.html").decode()
            said = json.loads(fetched(f"{url}/simple/{name}/index.v1_json"))
            linked = dict(re.findall(r'href="\.\./\.\./([^"#]+)#sha256=([0-9a-f]+)"', page))
            assert linked == {one["url"][6:]: one["hashes"]["sha256"] for one in said["files"]}, name
            for path, sha256 in linked.items():
                right(f"{url}/{path}", bytes.fromhex(sha256))
        return fetched(f"{url}/{self.root}")


class PacmanDatabase(Changing):
    """As repo-add writes it: a database under two names, that of the files too, and signatures of all."""

    type, root = "arch", "core/os/x86_64/core.db"

    def _package(self, name: str) -> None:
        self.number += 1
        place = self.work / "core" / "os" / "x86_64"
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob(f"{name}-*"):
            old.unlink()
        package = place / f"{name}-1.{self.number}-any.pkg.tar.zst"
        package.write_bytes(os.urandom(SIZE))
        package.with_name(f"{package.name}.sig").write_bytes(self.signer.detached(package.read_bytes()))

    def _index(self) -> None:
        place = self.work / "core" / "os" / "x86_64"
        said: dict[str, bytes] = {}
        for package in sorted(place.glob("*.zst")):
            name, version, _ = package.name.rsplit("-", 2)
            signature = package.with_name(f"{package.name}.sig").read_bytes()
            said[f"{name}-{version}/desc"] = made.desc(name, version, package.read_bytes(), signature)
        files = {path.replace("/desc", "/files"): b"%FILES%\nusr/\n" for path in said}
        for kind, members in (("db", said), ("files", said | files)):
            body = gzip.compress(made.tar(members), mtime=self.at)
            signature = self.signer.detached(body)
            for end in (kind, f"{kind}.tar.gz"):
                (place / f"core.{end}").write_bytes(body)
                (place / f"core.{end}.sig").write_bytes(signature)

    def _whole(self, files: Mapping[str, bytes], lacking: AbstractSet[str]) -> bool:
        """A package's signature is in the database: nobody misses the file."""
        return all(path.endswith(".zst.sig") for path in lacking)

    def checked(self, url: str) -> bytes:
        """Both databases under both names, the packages, and their signatures."""
        above = f"{url}/{self.root.rpartition('/')[0]}"
        found = {end: fetched(f"{above}/core.{end}") for end in ("db", "db.tar.gz", "files", "files.tar.gz")}
        assert found["db"] == found["db.tar.gz"] and found["files"] == found["files.tar.gz"]
        described = [self._described(found[kind]) for kind in ("db", "files")]
        assert described[0] == described[1] and len(described[0]) == len(NAMES), "db and files differ"
        for desc in described[0]:
            fields = dict(re.findall(r"%(\w+)%\n(.+)\n", desc))
            package = f"{above}/{fields['FILENAME']}"
            right(package, bytes.fromhex(fields["SHA256SUM"]))
            assert _found(f"{package}.sig") in (None, base64.b64decode(fields["PGPSIG"])), package
        return found["db"]

    @staticmethod
    def _described(body: bytes) -> set[str]:
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            members = [one for one in archive if one.name.endswith("/desc")]
            return {archive.extractfile(one).read().decode() for one in members}  # type: ignore[union-attr]


class ApkIndex(Changing):
    """As apk-tools 2 and abuild-sign write it: the packages and the index are signed within."""

    type, root = "alpine", "v3.20/main/x86_64/APKINDEX.tar.gz"

    def __init__(self, top: Path, signer: Signer, seed: int) -> None:
        top.mkdir(parents=True)
        self.key, self.paragraphs = RsaKey(top, "alpine"), dict[str, bytes]()
        super().__init__(top, signer, seed)

    @property
    def ring(self) -> Path:
        return self.key.public

    def _package(self, name: str) -> None:
        self.number += 1
        place = (self.work / self.root).parent
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob(f"{name}-*"):
            old.unlink()
        version = f"1.{self.number}-r0"
        package, self.paragraphs[name] = made.apk(name, version, os.urandom(SIZE))
        (place / f"{name}-{version}.apk").write_bytes(package)

    def _index(self) -> None:
        text = b"".join(self.paragraphs.values())
        content = gzip.compress(made.tar({"DESCRIPTION": b"v3.20", "APKINDEX": text}), mtime=self.at)
        (self.work / self.root).write_bytes(self.key.signature(content) + content)

    def checked(self, url: str) -> bytes:
        """The index and its signature, and of each package the segments as apk does it."""
        root = fetched(f"{url}/{self.root}")
        signature, content = _segments(root)
        assert self.key.signature(content) == signature, "the signature is not of this index"
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            text = archive.extractfile("APKINDEX").read().decode()  # type: ignore[union-attr]
        for paragraph in text.strip().split("\n\n"):
            said = dict(line.split(":", 1) for line in paragraph.split("\n"))
            package = fetched(f"{url}/{Path(self.root).parent}/{said['P']}-{said['V']}.apk")
            _, control, data = _segments(package)
            assert hashlib.sha1(control).digest() == base64.b64decode(said["C"][2:]), said["P"]
            info = gzip.decompress(control).decode("latin-1")
            assert f"datahash = {hashlib.sha256(data).hexdigest()}" in info, said["P"]
        return root


def _segments(body: bytes) -> list[bytes]:
    """The members of a gzip file, packed as they are."""
    found = []
    while body:
        member = zlib.decompressobj(31)
        member.decompress(body)
        found.append(body[: len(body) - len(member.unused_data)])
        body = member.unused_data
    return found


class InstallationTree(Changing):
    """An installer's images, which keep their names, with a repository beside them."""

    type, root = "yum", ".treeinfo"
    crosses = True
    images: tuple[str, ...] = ("pxeboot/vmlinuz", "pxeboot/initrd.img", "install.img", "boot.iso")

    def __init__(self, top: Path, signer: Signer, seed: int) -> None:
        rpm(top / "work" / "Packages", "alpha", "1")
        super().__init__(top, signer, seed)

    def _package(self, name: str) -> None:
        self.number += 1
        image = self.work / "images" / self.images[NAMES.index(name)]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(os.urandom(SIZE))

    def _index(self) -> None:
        repomd = repodata(self.work, "--no-database", "--revision", str(self.at))
        repomd.with_name("repomd.xml.asc").write_bytes(self.signer.detached(repomd.read_bytes(), "--armor"))
        sums = {f"images/{image}": _sha256(self.work / "images" / image) for image in self.images}
        sums["repodata/repomd.xml"] = _sha256(repomd)
        (self.work / self.root).write_text(
            "[checksums]\n"
            + "".join(f"{path} = sha256:{digest}\n" for path, digest in sums.items())
            + "\n[general]\narch = x86_64\nfamily = Test\nname = Test 1\n"
            f"timestamp = {self.at}\nvariant = Server\nversion = 1\n"
            "\n[header]\ntype = productmd.treeinfo\nversion = 1.2\n"
            f"\n[images-x86_64]\nboot.iso = images/boot.iso\ninitrd = images/{self.images[1]}\n"
            f"kernel = images/{self.images[0]}\n"
            "\n[release]\nname = Test\nshort = Test\nversion = 1\n"
            "\n[stage2]\nmainimage = images/install.img\n"
            f"\n[tree]\narch = x86_64\nbuild_timestamp = {self.at}\nplatforms = x86_64\nvariants = Server\n"
        )

    def _whole(self, files: Mapping[str, bytes], lacking: AbstractSet[str]) -> bool:
        """The repository within is judged by itself."""
        return not any(path.startswith(("images/", self.root)) for path in lacking)

    def checked(self, url: str) -> bytes:
        root = fetched(f"{url}/{self.root}")
        for path, sha256 in re.findall(r"^(images/\S+) = sha256:(\w+)$", root.decode(), re.MULTILINE):
            right(f"{url}/{path}", bytes.fromhex(sha256))
        repomd = fetched(f"{url}/repodata/repomd.xml").decode()
        named = re.findall(
            r'<checksum type="sha256">(\w+)</checksum>.*?<location href="([^"]+)"', repomd, re.DOTALL
        )
        assert len(named) == 3, repomd
        for sha256, path in named:
            right(f"{url}/{path}", bytes.fromhex(sha256))
        return root


class DetachedSums(Changing):
    """SHA256SUMS of coreutils with SHA256SUMS.gpg, beside files that keep their names or have new ones."""

    type, root = "plain-digests", "releases/SHA256SUMS"
    crosses = True

    def _package(self, name: str) -> None:
        self.number += 1
        place = (self.work / self.root).parent
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob(f"{name}-*"):
            old.unlink()
        for file in (f"{name}-latest.iso", f"{name}-1.{self.number}.tar.gz"):
            (place / file).write_bytes(os.urandom(SIZE))

    def _index(self) -> None:
        sums = self._sums()
        (self.work / self.root).write_bytes(sums)
        (self.work / f"{self.root}.gpg").write_bytes(self.signer.detached(sums, "--armor"))

    def _sums(self) -> bytes:
        place = (self.work / self.root).parent
        files = sorted(path.name for path in place.glob("*-*"))
        return subprocess.run(["sha256sum", *files], cwd=place, capture_output=True, check=True).stdout

    def _whole(self, files: Mapping[str, bytes], lacking: AbstractSet[str]) -> bool:
        """What is named and not there is no fault; what is there and another version is one."""
        return not any("SUMS" in path.upper() or (self.served / path).exists() for path in lacking)

    def checked(self, url: str) -> bytes:
        root = fetched(f"{url}/{self.root}")
        self._signed(url, root)
        lines = re.findall(rb"^([0-9a-f]{64})  (\S+)$", root, re.MULTILINE)
        assert len(lines) == 2 * len(NAMES), root
        for digest, name in lines:
            place = f"{url}/{Path(self.root).parent}/{name.decode()}"
            if b"latest" in name:
                right(place, bytes.fromhex(digest.decode()))
            body = _found(place)
            assert body is None or hashlib.sha256(body).hexdigest() == digest.decode(), place
        return root

    def _signed(self, url: str, root: bytes) -> None:
        found = self._verified(fetched(f"{url}/{self.root}.gpg"), root)
        assert found, "the signature is not of these digests"

    def _verified(self, signature: bytes, signed: bytes) -> bool:
        place = self.top / "signature"
        place.write_bytes(signature)
        command = ["gpgv", "--keyring", str(self.signer.ring), str(place), *(["-"] if signed else [])]
        return subprocess.run(command, input=signed, capture_output=True, check=False).returncode == 0


class ClearsignedSums(DetachedSums):
    """As kernel.org has them: signed within, with nothing beside."""

    root = "releases/sha256sums.asc"

    def _index(self) -> None:
        (self.work / self.root).write_bytes(self.signer.inline(self._sums()))

    def _signed(self, url: str, root: bytes) -> None:
        assert self._verified(root, b""), "the signature is not good"


def _found(url: str) -> bytes | None:
    """What is at `url`, None where nothing is."""
    try:
        return fetched(url)
    except (AssertionError, OSError):
        return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
