"""An operator's own program as an origin: its limits, and what its failure proves."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import SourceMissing
from cluster.model import CommandSpec, Limits, OriginSpec
from cluster.origin import command_run
from cluster.origin.command import CommandOrigin
from cluster.origin.command_left import too_full
from cluster.origin.open import Shared, open_origin
from tests.store.trees import mounted


@pytest.fixture
def spec(tmp_path: Path) -> CommandSpec:
    return CommandSpec((), time=120.0, folder=str(tmp_path / "state" / "commands" / "m" / "1"))


def origin(spec: CommandSpec, program: str, *arguments: str) -> CommandOrigin:
    command = replace(spec, arguments=(sys.executable, "-c", program, *arguments))
    return CommandOrigin(OriginSpec("command:fetch", command=command), Limits())


MAKES = """
import os, sys
os.makedirs("pool", exist_ok=True)
open("pool/a b$(x)", "w").write(sys.argv[1])
open("runs", "a").write("x")
"""


async def names(made: CommandOrigin, directory: bytes = b"") -> list[bytes]:
    return [entry.name for entry in (await made.listing(directory)).entries]


async def test_what_a_program_leaves_in_its_folder_is_the_origin_and_it_runs_once(spec: CommandSpec) -> None:
    made = origin(spec, MAKES, "; touch bad")
    try:
        assert await asyncio.gather(names(made), names(made, b"pool")) == [[b"pool", b"runs"], [b"a b$(x)"]]
        assert (await made.facts(b"runs")).size == 1
    finally:
        await made.close()
    again = origin(spec, MAKES, "x")  # what was there is still there
    try:
        assert await names(again) == [b"pool", b"runs"] and (await again.facts(b"runs")).size == 2
    finally:
        await again.close()


@pytest.mark.parametrize(
    ("program", "limit", "said"),
    [
        ("print('no such host'); raise SystemExit(3)", {}, "exit status 3: no such host"),
        ("import os; os.kill(os.getpid(), 9)", {}, "ended by signal 9"),
        ("import time; time.sleep(1000)", {"time": 1.0}, "not done after 1 s"),
        ("bytearray(2**30)", {"memory": 2**29}, "exit status 1: MemoryError"),
        ("open('x', 'wb').write(bytes(2**20))", {"space": 2**16}, "exit status 1"),
        ("pass", {}, "is empty"),
        ("open('x', 'w')", {"user": "no-such-user"}, "there is no user no-such-user on this machine"),
        ("import os; os.kill(os.getpid(), 19)", {"time": 1.0}, "not done after 1 s"),
        (
            "import os; f = os.environ['HOME']; os.rmdir(f); os.symlink('/etc', f)",
            {},
            "has put a link in the place of its folder",
        ),
    ],
)
async def test_a_program_that_fails_or_goes_beyond_a_limit_proves_nothing(
    spec: CommandSpec, program: str, limit: dict[str, object], said: str
) -> None:
    made = origin(replace(spec, **limit), program)
    try:
        for _ in range(2):  # it is not run once more in this pass
            with pytest.raises(SourceMissing) as raised:
                await made.listing(b"")
            assert said in str(raised.value) and str(raised.value).isprintable()
    finally:
        await made.close()


async def test_many_files_that_together_take_too_much_space_end_it(spec: CommandSpec) -> None:
    program = """
import time
for i in range(100):
    open(f"{i}", "wb").write(bytes(50_000))
time.sleep(1000)
"""
    made = origin(replace(spec, space=10**6), program)
    try:
        with pytest.raises(SourceMissing, match="more than the 1000000 that it may have"):
            await made.listing(b"")
    finally:
        await made.close()


async def test_it_has_a_bare_environment_and_leaves_nobody_behind(
    spec: CommandSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    program = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
open("child", "w").write(str(child.pid))
open("environment", "w").write(" ".join(sorted(os.environ)))
open("cwd", "w").write(os.getcwd())
"""
    made = origin(spec, program)
    try:
        await made.listing(b"")
    finally:
        await made.close()
    folder = Path(spec.folder)
    told = set((folder / "environment").read_text().split()) - {"LC_CTYPE"}
    assert told == {"HOME", "LANG", "PATH", "SIDEWAYS_ORIGIN", "SIDEWAYS_STAGING", "TZ"}
    assert (folder / "cwd").read_text() == spec.folder
    await gone(int((folder / "child").read_text()))


async def test_a_pass_that_is_cut_off_ends_the_program(spec: CommandSpec) -> None:
    program = """
import os, time
open("pid", "w").write(str(os.getpid()))
os.rename("pid", "started")
time.sleep(1000)
"""
    made = origin(spec, program)
    listing = asyncio.create_task(made.listing(b""))
    started = Path(spec.folder) / "started"
    for _ in range(3000):
        if started.exists():
            break
        await asyncio.sleep(0.02)
    listing.cancel()
    await asyncio.wait([listing])
    await made.close()
    await gone(int(started.read_text()))


async def gone(process: int) -> None:
    """Wait until a process has ended; a zombie has."""
    for _ in range(3000):
        try:
            with open(f"/proc/{process}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"process {process} goes on")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
async def test_it_may_be_another_user(spec: CommandSpec) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        os.chmod(top, 0o755)  # pytest's own folders are closed to others
        command = replace(
            spec, arguments=("/bin/sh", "-c", "id -u > who"), user="nobody", folder=f"{top}/commands/m"
        )
        made = CommandOrigin(OriginSpec("command:sh", command=command), Limits())
        try:
            await made.listing(b"")
        finally:
            await made.close()
        assert Path(command.folder, "who").read_text() == f"{pwd.getpwnam('nobody').pw_uid}\n"


async def test_an_origin_of_this_method_is_opened_by_its_name(spec: CommandSpec) -> None:
    command = replace(spec, arguments=(sys.executable, "-c", MAKES, "x"))
    opened = open_origin(OriginSpec("command:fetch", command=command), Limits(), Shared())
    try:
        assert [e.name for e in (await opened.listing(b"")).entries] == [b"pool", b"runs"]
        assert opened.url == "command:fetch" and not opened.properties.network
    finally:
        await opened.close()


@pytest.mark.parametrize("program", ["/no/such/program", "/etc/passwd", "/tmp"])
async def test_what_is_no_program_is_one_line(spec: CommandSpec, program: str) -> None:
    made = CommandOrigin(OriginSpec("command:x", command=replace(spec, arguments=(program,))), Limits())
    try:
        with pytest.raises(SourceMissing, match=f"failed to execute {program}"):
            await made.listing(b"")
    finally:
        await made.close()


async def test_a_daemon_that_it_leaves_is_ended(spec: CommandSpec) -> None:
    """In a session of its own, as `git gc --auto` is; one that began before it is somebody else's."""
    other = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import time; time.sleep(1000)",
        env={"SIDEWAYS_STAGING": f"{spec.folder}x"},
    )
    program = """
import os, subprocess, sys
stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
open("stray", "w").write(str(stray.pid))
"""
    made = origin(spec, program)
    try:
        await made.listing(b"")
        await gone(int((Path(spec.folder) / "stray").read_text()))
        assert other.returncode is None
    finally:
        other.kill()
        await other.wait()
        await made.close()


async def test_much_output_is_read_and_not_kept(spec: CommandSpec) -> None:
    program = """
import os
for _ in range(4096):
    os.write(1, bytes(65536) + b"\\n")
raise SystemExit("at the end")
"""
    made = origin(spec, program)
    try:
        with pytest.raises(SourceMissing, match="exit status 1: at the end"):
            await made.listing(b"")
    finally:
        await made.close()


async def test_a_disk_that_it_fills_ends_it(spec: CommandSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_run, "LOOK", 0.1)
    monkeypatch.setattr(command_run, "too_full", lambda folder: f"5 bytes are free where {folder} is")
    made = origin(spec, "import time; time.sleep(1000)")
    try:
        with pytest.raises(SourceMissing, match="5 bytes are free"):
            await made.listing(b"")
    finally:
        await made.close()


def test_a_disk_is_full_before_nothing_is_left() -> None:
    with mounted("size=4m") as disk:
        assert too_full(str(disk)) == ""
        (disk / "x").write_bytes(bytes(4 * 2**20 - 2**14))
        assert "bytes are free where" in too_full(str(disk))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
async def test_a_user_who_cannot_reach_the_folder_is_told_what_is_in_the_way(spec: CommandSpec) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        command = replace(spec, arguments=("/bin/true",), user="65534", folder=f"{top}/commands/m")
        made = CommandOrigin(OriginSpec("command:true", command=command), Limits())
        try:
            with pytest.raises(SourceMissing, match=f"cannot reach {top}/commands/m: {top} is closed to it"):
                await made.listing(b"")
        finally:
            await made.close()
