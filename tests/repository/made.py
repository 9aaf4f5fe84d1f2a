"""Real repositories, made by the distributions' own tools."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

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


def paths_of(root: Path) -> list[bytes]:
    """Every file below `root`, as a mirror names it."""
    return sorted(
        os.fsencode(os.path.relpath(os.path.join(folder, name), root))
        for folder, _, names in os.walk(root)
        for name in names
    )


def _run(*command: str, cwd: Path | None = None) -> bytes:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True).stdout
