"""An operator's own program, run once within its limits; what it leaves in its folder is the origin.

Without a shell, in a session of its own, with an environment that is otherwise bare and a folder of its own
as the current one. util-linux sets the limits: `prlimit` of memory, files and processes, `setpriv` that it
gains no privileges, ends with this process and is another user. Time and space are watched from here, and
whoever exceeds them is killed with its whole group, and whatever of it has moved to another session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from cluster.child import drained, end_group
from cluster.errors import SourceMissing
from cluster.model import CommandSpec, shown
from cluster.origin.command_left import account, end_strays, linked_away, reachable, ticks, too_full

MERCY = 5.0  # s between SIGTERM and SIGKILL
LINGER = 1.0  # s that what it left behind may still hold its output open
OUTPUT = 16 * 2**10  # bytes of its output that are kept: the newest
LINES = 100  # of output in the log
LOOK = 2.0  # s between two looks at the space, and twenty times as long as a look takes

log = logging.getLogger("sideways.command")


async def run(spec: CommandSpec, told: dict[str, str]) -> None:
    """Run it to its end in its folder, which is made. `told` is added to its environment. Raises
    SourceMissing, with the last thing that it said, where it cannot be started, fails, or goes beyond a
    limit. Nobody of its group is left then, nor after a cancellation."""
    name = os.path.basename(spec.arguments[0])
    try:
        command = [*_limited(spec), *spec.arguments]
        _made(spec)
        was_folder = not os.path.islink(spec.folder)
    except OSError as error:
        raise SourceMissing("", f"{name}: cannot be started: {error}") from error
    kept = bytearray()
    problem = ""
    try:
        async with _started(command, spec.folder, _environment(spec, told), kept) as process:
            try:
                async with asyncio.timeout(spec.time):
                    problem = await _watched(process, spec)
            except TimeoutError:
                problem = f"not done after {spec.time:g} s"
    except (OSError, ValueError) as error:
        raise SourceMissing("", f"{name}: cannot be started: {error}") from error
    lines = [shown(line) for line in bytes(kept).splitlines() if line.strip()]
    for line in lines[-LINES:]:
        log.info("%s: %s", name, line)
    code = process.returncode
    if not problem and code:
        problem = f"ended by signal {-code}" if code < 0 else f"exit status {code}"
    if was_folder and linked_away(spec.folder):
        problem = problem or "has put a link in the place of its folder"
    if problem:
        last = f": {lines[-1][:300]}" if lines else ""
        raise SourceMissing("", f"{name}: {problem}{last}")


def _limited(spec: CommandSpec) -> list[str]:
    """What sets the limits and becomes the program. Raises OSError."""
    setpriv, prlimit = shutil.which("setpriv"), shutil.which("prlimit")
    if setpriv is None or prlimit is None:
        raise OSError("setpriv and prlimit (util-linux) are not installed")
    limits = {"core": 0, "as": spec.memory, "fsize": spec.space, "nproc": spec.processes}
    out = [prlimit, *(f"--{what}={value}" for what, value in limits.items() if value is not None), "--"]
    out += [setpriv, "--no-new-privs", "--pdeathsig", "KILL"]
    if spec.user is not None:
        user = account(spec.user)
        out += ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--init-groups"]
    return [*out, "--"]


def _made(spec: CommandSpec) -> None:
    os.makedirs(spec.folder, mode=0o755, exist_ok=True)
    if spec.user is not None:
        user = account(spec.user)
        reachable(spec.folder, user)
        os.chown(spec.folder, user.pw_uid, user.pw_gid)


def _environment(spec: CommandSpec, told: dict[str, str]) -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath)
    return {
        "PATH": path,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "HOME": spec.folder,
        "SIDEWAYS_STAGING": spec.folder,
    } | told


@asynccontextmanager
async def _started(
    command: Sequence[str], folder: str, environment: dict[str, str], kept: bytearray
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process for as long as the block; nobody of its group is left behind it."""
    ours, theirs = os.pipe()
    began = ticks()
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    reading = asyncio.create_task(drained(ours, partial(_keep, kept)), name="output of a command")
    try:
        yield process
        await asyncio.wait((reading,), timeout=LINGER)
    finally:
        with contextlib.suppress(PermissionError):
            await end_group(process, MERCY)
        await process.wait()
        end_strays(folder, began)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _watched(process: asyncio.subprocess.Process, spec: CommandSpec) -> str:
    """Wait for its end. What is wrong where it takes more space than it may, or than there is."""
    ended = asyncio.create_task(process.wait())
    pause = LOOK
    try:
        while not ended.done():
            await asyncio.wait((ended,), timeout=pause)
            if full := too_full(spec.folder):
                return full
            if spec.space is not None:
                began = time.monotonic()
                used = await asyncio.to_thread(space_used, spec.folder)
                if used > spec.space:
                    return f"{used} bytes in {spec.folder}, more than the {spec.space} that it may have"
                pause = max(LOOK, 20 * (time.monotonic() - began))
        return ""
    finally:
        ended.cancel()


def space_used(folder: str) -> int:
    """Bytes on disk of all below a folder; hard links count once. What goes meanwhile is not counted."""
    used, seen = 0, set[tuple[int, int]]()
    for here, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(here, name))
                key = found.st_dev, found.st_ino
                if stat.S_ISREG(found.st_mode) and key not in seen:
                    used += found.st_blocks * 512
                    if found.st_nlink > 1:
                        seen.add(key)
    return used


def _keep(kept: bytearray, chunk: bytes) -> None:
    """The end of what it says."""
    kept.extend(chunk)
    del kept[:-OUTPUT]
