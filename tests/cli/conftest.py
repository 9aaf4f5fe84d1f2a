"""An operator with one folder, one site and one mirror; every command is the real one, in its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import free_port

DEFAULT = '<delete sightings="1" grace="0s" emptied-after="0s"/>'


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit status. No command ever shows a traceback."""

    status: int
    out: bytes
    err: bytes

    def json(self) -> dict:
        return json.loads(self.out.decode("ascii"))


class Desk:
    """The folder with `config/` and `sites/`, an origin in a folder beside them, and the command."""

    def __init__(self, root: Path) -> None:
        self.root, self.source = root, root / "source"
        for name in ("config/mirrors", "sites", "source", "data", "state"):
            (root / name).mkdir(parents=True)
        (root / "config/cluster.toml").write_text('name = "test"\n')
        self.site()
        self.mirror("m")
        self.daemons: list[subprocess.Popen[bytes]] = []

    def site(self, more: str = "", name: str = "kent") -> None:
        (self.root / f"sites/{name}.toml").write_text(
            f'name = "{name}"\ntitle = "T"\ncontact = "m@kent.example"\n'
            f'data = "../data"\nstate = "../state"\n'
            f'web = "127.0.0.1:{free_port()}"\npublic_url = "http://kent.example"\nreserve = 0\n{more}\n'
        )

    def mirror(
        self,
        name: str,
        inside: str = DEFAULT,
        *,
        origin: str = "",
        path: str = "",
        schedule: str = 'paused="yes"',
    ) -> None:
        (self.root / f"config/mirrors/{name}.xml").write_text(
            f'<mirror name="{name}">\n<path>/{path or name}</path>\n'
            f'<origin url="{origin or f"file://{self.source}/"}"/>\n'
            f"<schedule {schedule}/>\n{inside}\n</mirror>\n"
        )

    def __call__(self, *words: str | bytes, status: int | None = 0, cwd: Path | None = None) -> Said:
        done = subprocess.run(
            self._command(*words), cwd=cwd or self.root, capture_output=True, timeout=60, check=False
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert b"Traceback" not in said.out + said.err, said
        assert b"\x1b" not in said.out + said.err, said
        assert b"a mistake of this program" not in said.err, said
        assert status in (None, said.status), said
        return said

    def start(self, *words: str | bytes) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command(*words), cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.daemons.append(process)
        return process

    def run(self) -> subprocess.Popen[bytes]:
        """The daemon, once it answers."""
        process = self.start("run", "--site", "kent", "--log", "log")
        until(lambda: (self.root / "state/control.sock").exists())
        return process

    @staticmethod
    def _command(*words: str | bytes) -> list[bytes]:
        return [os.fsencode(word) for word in (sys.executable, "-m", "cluster", *words)]


def until(holds) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "desk")
    yield made
    for process in made.daemons:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
