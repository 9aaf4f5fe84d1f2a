"""The tools that operators use today, and how each is called for a copy of one tree."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.measure import Command

OBSCURED = "3yy-3L9IR0B7XccrdQp9g8WpoOa6qeEgmA"  # `rclone obscure anonymous`: it takes no other form

LINKS = ("/dists/stable", "/dists/stable/**", "latest-*")  # of the archive among our trees


def _lftp(url: str, copy: Path) -> Command:
    script = (
        "set net:max-retries 3; set net:timeout 30; set xfer:log no; set net:connection-limit 0; "
        f"open {url}; mirror -P8 --delete --no-perms . {copy}"
    )
    return ["lftp", "-c", script]


def _rclone(url: str, copy: Path) -> Command:
    settings = ["--config", "/dev/null", "--transfers", "8", "--checkers", "16", "--retries", "1", "-q"]
    return ["rclone", "sync", *settings, "--create-empty-src-dirs", "--http-url", url, ":http:", str(copy)]


def _wget2(url: str, copy: Path) -> Command:
    settings = ["--mirror", "--no-parent", "-nH", "--robots=off", "-q", "--max-threads=8"]
    return ["wget2", *settings, "-R", "index.html*", "-P", str(copy), url]


def _rsync(url: str, copy: Path) -> Command:
    return ["rsync", "-a", "--delete", "--no-motd", url, f"{copy}/"]


def _rclone_ftp(url: str, copy: Path) -> Command:
    """Links are beyond it: it takes them for files of no size. It is spared those of our trees."""
    parts = urlsplit(url)
    where = ["--ftp-host", str(parts.hostname), "--ftp-port", str(parts.port), "--ftp-user", "anonymous"]
    settings = ["--config", "/dev/null", "--transfers", "8", "--checkers", "16", "--retries", "1", "-q"]
    spared = [word for name in LINKS for word in ("--exclude", name)]
    return ["rclone", "sync", *settings, "--create-empty-src-dirs", *spared, *where, "--ftp-pass", OBSCURED,
            ":ftp:", str(copy)]  # fmt: skip


# Those that read the same nginx as we do, and rsync, which reads a daemon of its own.
BY_HTTP: dict[str, Callable[[str, Path], Command]] = {"lftp": _lftp, "rclone": _rclone, "wget2": _wget2}
BY_RSYNC: dict[str, Callable[[str, Path], Command]] = {"rsync": _rsync}
BY_FTP: dict[str, Callable[[str, Path], Command]] = {"lftp": _lftp, "rclone": _rclone_ftp}
ALL = BY_HTTP | BY_RSYNC


def found() -> list[str]:
    """The peers that this machine has."""
    return [name for name in ALL if shutil.which(name)]


def version(name: str) -> str:
    """The first number in what `NAME --version` prints."""
    said = subprocess.run([name, "-v" if name == "nginx" else "--version"], capture_output=True, check=False)
    number = re.search(rb"\d+\.\d[\w.]*", said.stdout + said.stderr)
    return number[0].decode() if number else "of unknown version"
