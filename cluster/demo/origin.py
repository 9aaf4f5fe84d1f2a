"""The demo's origin: copies of trees that every Debian machine has, served by nginx on loopback, on one port
for each team, so that its log tells what each of them cost."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sysconfig
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cluster.demo.processes import end_with_parent, free_port
from cluster.errors import StoreError

DOC_FILES = 3000  # of /usr/share/doc at most: a demo is watched, not waited for
CHANGED = 0.15  # the share of files that the second round changes
ADDED = 40
# Debian keeps a static library in config-*: one file of a third of all bytes is no mirror, but a download.
LEFT_OUT = ("site-packages", "dist-packages", "__pycache__", "test", "tests", "config-*")
BY_HTTP = ("python", "doc")  # the trees that nginx serves

_NGINX = """daemon off; master_process off; pid {run}/nginx.pid; error_log {run}/error.log warn;
events {{ worker_connections 512; }}
http {{
  types {{ }} default_type application/octet-stream;
  log_format plain '$server_port $status $body_bytes_sent $request_uri';
  access_log {run}/access.log plain;
  client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/fastcgi;
  uwsgi_temp_path {run}/uwsgi; scgi_temp_path {run}/scgi;
  index .no-index;
  sendfile on; keepalive_timeout 60; keepalive_requests 100000;
  server {{ {listen} root {root}; charset utf-8; autoindex on; autoindex_exact_size on; }}
}}
"""


@dataclass(slots=True)
class Counted:
    """What an origin's own access log says that it sent."""

    files: int = 0  # bytes of bodies of files
    listings: int = 0
    requests: int = 0


class Origin:
    """Trees `python` and `doc` by HTTP, `zoneinfo` as a folder."""

    def __init__(self, folder: str, teams: Sequence[str]) -> None:
        self.root = os.path.join(folder, "origin")
        self._run = os.path.join(folder, "nginx")
        self.ports = {team: free_port() for team in teams}
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()

    def tree(self, mirror: str) -> str:
        """The folder of one mirror's origin."""
        return os.path.join(self.root, mirror)

    def url(self, port: int, mirror: str) -> str:
        """Where the mirror's descriptor finds it, by way of a relay's `port` where it is served by HTTP."""
        if mirror in BY_HTTP:
            return f"http://127.0.0.1:{port}/{mirror}/"
        return f"file://{self.tree(mirror)}/"

    def copy(self) -> None:
        """Copy the trees of this machine; what is not there is made up, so that a bare machine has a demo."""
        os.makedirs(self.root)
        os.makedirs(self._run)
        library = sysconfig.get_path("stdlib")
        left_out = shutil.ignore_patterns(*LEFT_OUT)
        shutil.copytree(
            library, self.tree("python"), symlinks=False, ignore=left_out, copy_function=self._copy_one
        )
        _copy_some("/usr/share/doc", self.tree("doc"), DOC_FILES, self._copy_one)
        if os.path.exists("/usr/share/zoneinfo/zone.tab"):
            subprocess.run(["cp", "-a", "/usr/share/zoneinfo", self.tree("zoneinfo")], check=True)
        else:
            _made_zones(self.tree("zoneinfo"))

    def _copy_one(self, source: str, target: str) -> None:
        if self._stopped.is_set():
            raise StoreError("the demo is being stopped")
        shutil.copy2(source, target)

    def start(self) -> None:
        """Start nginx. Raises StoreError where it is not installed or does not answer."""
        nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if nginx is None:
            raise StoreError("nginx: not installed; `make setup` installs what the demo needs")
        config = os.path.join(self._run, "nginx.conf")
        with open(config, "w", encoding="utf-8") as out:
            listen = " ".join(f"listen 127.0.0.1:{port};" for port in self.ports.values())
            out.write(_NGINX.format(run=self._run, listen=listen, root=self.root))
        self._process = subprocess.Popen(
            [nginx, "-c", config, "-p", self._run],
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent,  # noqa: PLW1509  # it only makes system calls
        )
        until = time.monotonic() + 10
        while True:
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    f"http://127.0.0.1:{next(iter(self.ports.values()))}/", timeout=1
                ).close()
            except OSError:
                if time.monotonic() > until:
                    raise StoreError(f"nginx: does not answer; see {self._run}/error.log") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End nginx, and a `copy` that another thread is at."""
        self._stopped.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(5)

    def counted(self, team: str) -> Counted:
        """What the access log says that was sent to one team so far."""
        counted, own = Counted(), str(self.ports[team])
        with open(os.path.join(self._run, "access.log"), encoding="utf-8", errors="replace") as log:
            for line in log:
                port, _, sent, target = line.rstrip("\n").split(" ", 3)
                if port != own:
                    continue
                counted.requests += 1
                if target.endswith("/"):
                    counted.listings += int(sent)
                else:
                    counted.files += int(sent)
        return counted

    def unique(self, mirror: str) -> int:
        """Bytes of the mirror's files, each once: hard links are one file."""
        seen: dict[tuple[int, int], int] = {}
        for path in self._files(mirror):
            status = os.lstat(path)
            seen[status.st_dev, status.st_ino] = status.st_size
        return sum(seen.values())

    def count(self, mirror: str) -> int:
        return sum(1 for _ in self._files(mirror))

    def change(self, seed: int = 1) -> int:
        """Publish a day's changes: some files new, some with other contents. Returns how many."""
        chance = random.Random(seed)
        changed = 0
        for mirror in (*BY_HTTP, "zoneinfo"):
            files = sorted(self._files(mirror))
            for path in chance.sample(files, int(len(files) * CHANGED)):
                if os.lstat(path).st_nlink == 1:
                    _write(path, chance.randbytes(max(1000, os.path.getsize(path))))
                    changed += 1
            folder = os.path.join(self.tree(mirror), "new-today")
            os.makedirs(folder, exist_ok=True)
            for number in range(ADDED):
                _write(
                    os.path.join(folder, f"added-{number:03}"), chance.randbytes(chance.randrange(200_000))
                )
                changed += 1
        return changed

    def _files(self, mirror: str) -> Iterator[str]:
        for folder, _, names in os.walk(self.tree(mirror)):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path) and not _left_out(path):
                    yield path


def _left_out(path: str) -> bool:
    return re.search(r"/(__pycache__|site-packages)/", path) is not None


def _write(path: str, content: bytes) -> None:
    """A new version appears by rename, as a careful origin does it."""
    with open(path + ".new", "wb") as out:
        out.write(content)
    os.chmod(path + ".new", 0o644)
    os.replace(path + ".new", path)


def _copy_some(source: str, target: str, limit: int, copy: Callable[[str, str], None]) -> None:
    """The first files of a tree, in the order of their names; links become what they lead to."""
    os.makedirs(target)
    copied = 0
    for folder, below, names in os.walk(source):
        below.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not os.path.isfile(path):
                continue
            place = os.path.join(target, os.path.relpath(path, source))
            os.makedirs(os.path.dirname(place), exist_ok=True)
            copy(path, place)
            os.chmod(place, 0o644)
            copied += 1
            if copied >= limit:
                return
    if not copied:
        _write(os.path.join(target, "README"), b"This machine has no documentation.\n")


def _made_zones(target: str) -> None:
    os.makedirs(os.path.join(target, "Europe"))
    _write(os.path.join(target, "zone.tab"), b"# made up: this machine has no time zones\n")
    _write(os.path.join(target, "Europe", "London"), b"TZif" + bytes(1000))
    os.link(os.path.join(target, "Europe", "London"), os.path.join(target, "GB"))
    os.symlink("Europe/London", os.path.join(target, "localtime"))
