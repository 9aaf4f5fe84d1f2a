"""An upstream wakes us by ssh, as Debian's mirrors wake each other: `push --from-ssh` as a forced command."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Desk, Said
from tests.servers import answers, free_port, program

WORDS = "SSH_ORIGINAL_COMMAND"
PUSH = ("push", "--site", "kent", "--from-ssh")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch):
    """What the upstream says."""
    return lambda words: monkeypatch.setenv(WORDS, words)


def until(holds: Callable[[], bool]) -> None:
    """Wait for what takes several processes one after another."""
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def log(desk: Desk) -> str:
    return (desk.root / "log").read_text() if (desk.root / "log").exists() else ""


def wrong(answer: Said) -> str:
    return answer.err.decode()


def test_the_words_of_an_upstream_start_a_pass_over_the_archive_that_it_names(desk: Desk, said) -> None:
    (desk.source / "file").write_bytes(b"body")
    desk.mirror("m", schedule='every="never"')
    desk.run()
    said("sync:all sync:archive:m")
    assert b"a pass over everything is due" in desk(*PUSH).out
    until(lambda: (desk.root / "data/m/file").exists())
    assert "push: sync:all" in log(desk)


def test_a_key_that_is_for_one_mirror_wakes_no_other(desk: Desk, said) -> None:
    said("sync:all sync:archive:other")
    assert "other: this key is for m" in wrong(desk(*PUSH, "m", status=2))


def test_no_archive_is_guessed(desk: Desk, said) -> None:
    said("sync:all")
    assert "no archive is named" in wrong(desk(*PUSH, status=2))


@pytest.mark.parametrize("words", ["sh", "sync:all; touch x", "-V", "sync:all \x1b[2J"])
def test_whoever_has_the_key_can_say_nothing_else(desk: Desk, said, words: str) -> None:
    said(words)
    assert "is not one of sync:all" in wrong(desk(*PUSH, "m", status=2))


def test_a_push_by_hand_needs_a_mirror(desk: Desk) -> None:
    assert "MIRROR is missing" in wrong(desk("push", "--site", "kent", status=2))


class Door:
    """An sshd for this user alone, on loopback, whose one key is for `push --from-ssh`."""

    def __init__(self, root: Path, command: str) -> None:
        self.root, self.port = root, free_port()
        root.mkdir()
        for key in ("host", "user"):
            subprocess.run(
                [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(root / key)], check=True
            )
        public = (root / "user.pub").read_text()
        (root / "keys").write_text(f"command={quoted(command)},restrict {public}")
        host = " ".join((root / "host.pub").read_text().split()[:2])
        (root / "known").write_text(f"[127.0.0.1]:{self.port} {host}\n")
        (root / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {root}/keys\nStrictModes no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        )
        self.process = subprocess.Popen(
            [program("sshd"), "-D", "-e", "-f", str(root / "config")],
            stdout=subprocess.DEVNULL,
            stderr=(root / "log").open("wb"),
        )


def quoted(command: str) -> str:
    return '"' + command.replace('"', '\\"') + '"'


@pytest.fixture
def leaf(tmp_path: Path) -> Iterator[Desk]:
    """Another site, somewhere else, which mirrors what the first one publishes."""
    made = Desk(tmp_path / "leaf")
    yield made
    for process in made.daemons:
        process.kill()
        process.communicate()


@pytest.fixture
def door(leaf: Desk, tmp_path: Path) -> Iterator[Door]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation wants it
    command = shlex.join([sys.executable, "-m", "cluster", "-C", str(leaf.root), *PUSH, "m"])
    made = Door(tmp_path / "door", command)
    try:
        until(lambda: made.process.poll() is not None or answers(made.port))
        assert made.process.poll() is None, (made.root / "log").read_text()
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def test_what_one_site_publishes_wakes_another_through_sshd(desk: Desk, leaf: Desk, door: Door) -> None:
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    told = f'ssh="{user}@127.0.0.1:{door.port}" key="{door.root}/user" hosts="{door.root}/known"'
    desk.mirror("m", inside=f'<downstream name="leaf" {told}/>', schedule='every="never"')
    leaf.mirror("m", origin=f"file://{desk.root}/data/m/", schedule='every="never"')
    (desk.source / "new").write_bytes(b"published")
    leaf.run()
    desk.run()
    desk("pass", "--site", "kent", "m")
    until(lambda: "leaf was told" in log(desk) or "WARNING" in log(desk))
    assert "leaf was told sync:all sync:archive:m" in log(desk), log(desk) + (door.root / "log").read_text()
    until(lambda: (leaf.root / "data/m/new").exists())
    assert b"downstream leaf: sync:all sync:archive:m at 20" in desk("status", "--site", "kent").out
