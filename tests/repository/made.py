"""Real repositories, made by the distributions' own tools."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from cluster.repository.base import STRONG, Named

_DEB = """\
Package: {name}
Version: {version}
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: {name}
"""


def deb(folder: Path, name: str, version: str, content: bytes = b"content") -> Path:
    """A binary package with one file in it."""
    build = folder.parent / f"build-{name}-{version}"
    (build / "DEBIAN").mkdir(parents=True)
    (build / "DEBIAN" / "control").write_text(_DEB.format(name=name, version=version))
    (build / "usr").mkdir()
    (build / "usr" / name).write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_{version}_all.deb"
    _run("dpkg-deb", "--root-owner-group", "--build", "-Zgzip", str(build), str(path))
    subprocess.run(["rm", "-r", str(build)], check=True)
    return path


def indexes(root: Path, suite: str = "stable", options: Mapping[str, str] | None = None) -> Path:
    """`dists/SUITE` for all packages in `pool/`, with by-hash names. `options` are fields of Release."""
    dists = root / "dists" / suite
    packages = dists / "main" / "binary-all"
    packages.mkdir(parents=True, exist_ok=True)
    text = _run("apt-ftparchive", "packages", "pool", cwd=root)
    (packages / "Packages").write_bytes(text)
    for program, suffix in (("gzip", ".gz"), ("xz", ".xz"), ("bzip2", ".bz2"), ("zstd", ".zst")):
        (packages / f"Packages{suffix}").write_bytes(
            subprocess.run([program, "-c"], input=text, capture_output=True, check=True).stdout
        )
    return release(root, suite, options)


def release(root: Path, suite: str = "stable", options: Mapping[str, str] | None = None) -> Path:
    """Release for what is in `dists/SUITE`, and the by-hash names of all that it lists."""
    dists = root / "dists" / suite
    for old in ("Release", "InRelease", "Release.gpg"):
        (dists / old).unlink(missing_ok=True)
    fields = {
        "Origin": "Test",
        "Suite": suite,
        "Codename": suite,
        "Components": "main",
        "Architectures": "all",
    }
    fields |= {"Acquire-By-Hash": "yes", **(options or {})}
    arguments = [
        word for name, said in fields.items() for word in ("-o", f"APT::FTPArchive::Release::{name}={said}")
    ]
    text = _run("apt-ftparchive", *arguments, "release", str(dists))
    (dists / "Release").write_bytes(text)
    in_hashes = False
    for line in text.decode().splitlines():
        in_hashes = line.startswith("SHA256:") or (in_hashes and line.startswith(" "))
        if in_hashes and line.startswith(" "):
            digest, _, name = line.split()
            if not name.startswith("Release") and "/by-hash/" not in name:
                place = dists / os.path.dirname(name) / "by-hash" / "SHA256"
                place.mkdir(parents=True, exist_ok=True)
                if not (place / digest).exists():
                    os.link(dists / name, place / digest)
    return dists


_SPEC = """\
Name: {name}
Version: {version}
Release: 1
Summary: {name}
License: MIT
BuildArch: noarch
%description
{name}
%files
"""


def rpm(folder: Path, name: str, version: str) -> Path:
    """A binary package with nothing in it."""
    top = folder.parent / f"rpm-{name}-{version}"
    top.mkdir(parents=True)
    (top / "spec").write_text(_SPEC.format(name=name, version=version))
    _run("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {top}", str(top / "spec"))
    (built,) = (top / "RPMS" / "noarch").iterdir()
    folder.mkdir(parents=True, exist_ok=True)
    path = built.rename(folder / built.name)
    subprocess.run(["rm", "-r", str(top)], check=True)
    return path


def repodata(root: Path, *options: str) -> Path:
    """`repodata` for all packages below `root`, by createrepo_c; its repomd.xml."""
    _run("createrepo_c", "--quiet", *options, str(root))
    return root / "repodata" / "repomd.xml"


def strong(named: Named) -> bool:
    """Whether one of its digests is such that a sibling's bytes may be taken on it."""
    return any(algorithm in STRONG for algorithm, _ in named.digests)


def paths_of(root: Path) -> list[bytes]:
    """Every file below `root`, as a mirror names it."""
    return sorted(
        os.fsencode(os.path.relpath(os.path.join(folder, name), root))
        for folder, _, names in os.walk(root)
        for name in names
    )


def _run(*command: str, cwd: Path | None = None) -> bytes:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True).stdout


def tar(files: Mapping[str, bytes], *, end: bool = True, format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive, or a segment of one that apk-tools would write: without its end."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        whole = archive.offset
    return file.getvalue() if end else file.getvalue()[:whole]


def desc(name: str, version: str, content: bytes, signature: bytes = b"") -> bytes:
    """A package's entry in pacman's database, as repo-add writes it."""
    fields = {
        "FILENAME": f"{name}-{version}-any.pkg.tar.zst",
        "NAME": name,
        "VERSION": version,
        "DESC": "several\nlines",
        "CSIZE": str(len(content)),
        "MD5SUM": hashlib.md5(content).hexdigest(),
        "SHA256SUM": hashlib.sha256(content).hexdigest(),
        "PGPSIG": base64.b64encode(signature).decode(),
    }
    return "".join(f"%{field}%\n{said}\n\n" for field, said in fields.items() if said).encode()


def apk(name: str, version: str, content: bytes, *, signed: bool = True) -> tuple[bytes, bytes]:
    """A package of apk-tools 2, and its paragraph of an APKINDEX."""
    data = gzip.compress(tar({"usr/bin/x": content}))
    info = f"pkgname = {name}\npkgver = {version}\ndatahash = {hashlib.sha256(data).hexdigest()}\n"
    control = gzip.compress(tar({".PKGINFO": info.encode()}, end=False))
    signature = gzipped_segment(".SIGN.RSA.key.rsa.pub", b"s" * 256)
    package = (signature if signed else b"") + control + data
    said = base64.b64encode(hashlib.sha1(control).digest()).decode()
    return (
        package,
        f"C:Q1{said}\nP:{name}\nV:{version}\nA:x86_64\nS:{len(package)}\np:so:x=1\nt:1\n\n".encode(),
    )


def gzipped_segment(name: str, content: bytes) -> bytes:
    """A signature as abuild-sign puts it before an index or a package."""
    return gzip.compress(tar({name: content}, end=False, format=tarfile.USTAR_FORMAT), mtime=0)


def apkindex(paragraphs: bytes) -> bytes:
    """APKINDEX.tar.gz, with something before it where its signature belongs."""
    signature = gzipped_segment(".SIGN.RSA.key.rsa.pub", b"s" * 256)
    return signature + gzip.compress(tar({"DESCRIPTION": b"v3.20", "APKINDEX": paragraphs}))
