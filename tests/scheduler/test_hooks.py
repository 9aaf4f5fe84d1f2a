"""The operator's commands around a pass: real processes."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.model import Hooks, Site
from cluster.scheduler import hooks
from cluster.scheduler.hooks import OUTPUT, Ended, Ran, around, run_command
from tests.scheduler.simulation import mirror, site

ENVIRONMENT = {b"PATH": os.fsencode(os.environ["PATH"])}


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  processes raise no events here
            await asyncio.sleep(0.02)


async def until_dead(pid: int) -> None:
    await until(lambda: not alive(pid))


async def number_in(file: Path) -> int:
    await until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


# -- one command


async def test_a_command_has_no_shell_and_a_bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    ran = await run_command(("printf", "%s", "$HOME; `id` * é"), ENVIRONMENT)
    assert (ran.status, ran.output) == (0, "$HOME; `id` * é".encode())
    assert b"SECRET" not in (await run_command(("env",), ENVIRONMENT)).output


@pytest.mark.parametrize(
    ("command", "status", "problem"),
    [
        (shell("exit 3"), 3, ""),
        (shell("kill -9 $$"), 137, "ended by signal 9"),
        (
            ("/no/such/program",),
            None,
            "cannot be started: [Errno 2] No such file or directory: '/no/such/program'",
        ),
        (("/etc/passwd",), None, "cannot be started: [Errno 13] Permission denied: '/etc/passwd'"),
        (("a\0b",), None, "cannot be started: embedded null byte"),
    ],
)
async def test_how_a_command_ended_is_told(
    command: tuple[str, ...], status: int | None, problem: str
) -> None:
    ran = await run_command(command, ENVIRONMENT)
    assert (ran.status, ran.problem, ran.good) == (status, problem, False)


async def test_output_without_end_is_read_and_only_its_beginning_kept() -> None:
    ran = await run_command(shell("head -c 5000000 /dev/zero; exit 1"), ENVIRONMENT)
    assert (ran.status, ran.output) == (1, bytes(OUTPUT))


async def test_a_command_out_of_time_is_killed_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "MERCY", 0.2)
    script = f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/shell; wait; wait"
    began = time.monotonic()
    ran = await run_command(shell(script), ENVIRONMENT, timeout=0.5)
    assert (ran.status, ran.problem) == (None, "not done after 0.5 s")
    assert time.monotonic() - began < 5
    for name in ("child", "shell"):
        await until_dead(await number_in(tmp_path / name))


async def test_what_a_command_leaves_running_is_killed(tmp_path: Path) -> None:
    ran = await run_command(shell(f"sleep 60 & echo $! > {tmp_path}/child; echo done"), ENVIRONMENT)
    assert (ran.status, ran.output) == (0, b"done\n")
    await until_dead(await number_in(tmp_path / "child"))


async def test_a_cancelled_pass_ends_its_command(tmp_path: Path) -> None:
    task = asyncio.create_task(run_command(shell(f"echo $$ > {tmp_path}/pid; exec sleep 60"), ENVIRONMENT))
    pid = await number_in(tmp_path / "pid")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await until_dead(pid)


# -- around a pass

KENT = Site("kent", data="/srv/mirror", state="/nowhere")


def recording(tmp_path: Path, **scripts: str) -> Hooks:
    """Hooks that note their event; what is given for an event is run after that."""
    events = ("before", "after", "publish", "failure")
    lines = {e: shell(f"echo {e} >> {tmp_path}/log; {scripts.get(e, 'true')}") for e in events}
    return Hooks(**{event: (line,) for event, line in lines.items()})


async def story(tmp_path: Path, ended: Ended, **scripts: str) -> tuple[Ended, list[str]]:
    async def work() -> Ended:
        with open(tmp_path / "log", "a") as log:
            log.write("pass\n")
        return ended

    result = await around(replace(mirror("m"), hooks=recording(tmp_path, **scripts)), KENT, b"", work)
    return result, (tmp_path / "log").read_text().split()


@pytest.mark.parametrize(
    ("ended", "events"),
    [
        (Ended("complete"), ["before", "pass", "after"]),
        (Ended("complete", 3), ["before", "pass", "publish", "after"]),
        (Ended("held", 1), ["before", "pass", "publish", "after"]),
        (Ended("incomplete", 1), ["before", "pass", "publish", "failure", "after"]),
        (Ended("failed"), ["before", "pass", "failure", "after"]),
    ],
)
async def test_each_event_has_its_hooks(tmp_path: Path, ended: Ended, events: list[str]) -> None:
    assert await story(tmp_path, ended) == (ended, events)


async def test_a_before_hook_that_fails_stops_the_pass(tmp_path: Path) -> None:
    result = await story(tmp_path, Ended("complete", 1), before="exit 1")
    assert result == (Ended("failed"), ["before", "failure", "after"])


async def test_other_hooks_that_fail_change_nothing(tmp_path: Path) -> None:
    result = await story(tmp_path, Ended("complete", 1), publish="exit 1", after="exit 1")
    assert result == (Ended("complete", 1), ["before", "pass", "publish", "after"])


async def test_a_hook_that_fails_does_not_keep_the_next_from_running(tmp_path: Path) -> None:
    told = replace(mirror("m"), hooks=Hooks(after=(shell("exit 1"), shell(f"echo ran > {tmp_path}/log"))))

    async def work() -> Ended:
        return Ended("complete")

    await around(told, KENT, b"", work)
    assert (tmp_path / "log").read_text() == "ran\n"


async def test_a_hook_is_told_what_it_is_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDEWAYS_SECRET", "not for hooks")
    command = ("sh", "-c", f"env | grep -a ^SIDEWAYS_ | LC_ALL=C sort > {tmp_path}/env")
    told = replace(mirror("m"), hooks=Hooks(after=(command,)))

    async def work() -> Ended:
        return Ended("incomplete", 7)

    await around(told, KENT, b"pool/\xff", work)
    assert (tmp_path / "env").read_bytes().splitlines() == [
        b"SIDEWAYS_CHANGED=7",
        b"SIDEWAYS_EVENT=after",
        b"SIDEWAYS_MIRROR=m",
        b"SIDEWAYS_OUTCOME=incomplete",
        b"SIDEWAYS_PATH=/srv/mirror/m",
        b"SIDEWAYS_SCOPE=pool/\xff",
        b"SIDEWAYS_SITE=kent",
    ]


def test_output_goes_to_the_log_without_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sideways.hooks"):
        hooks.tell("m", "after", Ran(("notify",), 3, b"one\n\x1b[31mred\xff\n"))
    assert [record.getMessage() for record in caplog.records] == [
        "m: after hook notify: one",
        r"m: after hook notify: \x1b[31mred\xff",
        "m: after hook notify: exit status 3",
    ]


async def test_the_scheduler_runs_the_hooks_of_its_passes(tmp_path: Path) -> None:
    async with site(tmp_path, replace(mirror("m", 6.0), hooks=recording(tmp_path, before="exit 1"))) as kent:
        await until(lambda: (tmp_path / "log").exists() and "after" in (tmp_path / "log").read_text())
        assert kent.passes.log == []
    assert (tmp_path / "log").read_text().split() == ["before", "failure", "after"]
