"""The operator's own commands around a pass.

Each is run without a shell, in a process group of its own, with `SIDEWAYS_*` in an environment that is
otherwise bare. What a command leaves running when it ends, or when its time is over, is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster.child import drained, end_group
from cluster.model import Mirror, Site, shown

log = logging.getLogger("sideways.hooks")

TIMEOUT = 600.0  # s
MERCY = 5.0  # s between SIGTERM and SIGKILL
LINGER = 1.0  # s that what a command left behind may still hold its output open
OUTPUT = 16 * 2**10  # bytes of output that are kept; the rest is read and dropped
LINES = 100  # of output in the log

INHERITED = ("PATH", "HOME", "USER", "LANG", "TZ")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a pass ended: `complete`, `incomplete`, `held` or `failed`. `changed` counts names that were
    published or deleted."""

    outcome: str
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a command. `status` as a shell tells it: None when it did not start or ran out of time."""

    command: tuple[str, ...]
    status: int | None
    output: bytes
    problem: str = ""

    @property
    def good(self) -> bool:
        return self.status == 0


async def around(
    mirror: Mirror,
    site: Site,
    scope: bytes,
    work: Callable[[], Awaitable[Ended]],
    *,
    timeout: float = TIMEOUT,
) -> Ended:
    """`work`, with the mirror's hooks around it.

    A `before` that fails stops the pass: it counts as failed. `publish` runs when names changed, `failure`
    after a pass that failed or is incomplete, and `after` at the very end of every pass. What these return
    is logged and changes nothing.
    """
    hooks = mirror.hooks

    async def run(event: str, commands: Sequence[tuple[str, ...]], ended: Ended | None = None) -> bool:
        for command in commands:
            ran = await run_command(command, environment(mirror, site, scope, event, ended), timeout=timeout)
            tell(mirror.name, event, ran)
            if not ran.good and event == "before":
                return False
        return True

    ended = await work() if await run("before", hooks.before) else Ended("failed")
    if ended.changed:
        await run("publish", hooks.publish, ended)
    if ended.outcome in ("failed", "incomplete"):
        await run("failure", hooks.failure, ended)
    await run("after", hooks.after, ended)
    return ended


def environment(
    mirror: Mirror, site: Site, scope: bytes, event: str, ended: Ended | None = None
) -> dict[bytes, bytes]:
    """What a command is told. `SIDEWAYS_PATH` is the folder of the public tree, `SIDEWAYS_SCOPE` the bytes of
    the directory below it that the pass was about; outcome and changes are empty before a pass."""
    told = {
        "SIDEWAYS_EVENT": event,
        "SIDEWAYS_MIRROR": mirror.name,
        "SIDEWAYS_SITE": site.name,
        "SIDEWAYS_PATH": site.data.rstrip("/") + mirror.path,
        "SIDEWAYS_OUTCOME": ended.outcome if ended else "",
        "SIDEWAYS_CHANGED": str(ended.changed) if ended else "",
    }
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    both = {os.fsencode(name): os.fsencode(value) for name, value in (inherited | told).items()}
    return both | {b"SIDEWAYS_SCOPE": scope}


async def run_command(
    command: tuple[str, ...], environment: Mapping[bytes, bytes], *, timeout: float = TIMEOUT
) -> Ran:
    """Run one command to its end. Never raises for what the command does; when it is cancelled, the command
    is killed."""
    # Not a pipe of asyncio: Python 3.11 tells of the end of a process only once that is closed by all.
    ours, theirs = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        os.close(ours)
        return Ran(command, None, b"", f"cannot be started: {error}")
    finally:
        os.close(theirs)
    kept = bytearray()  # the beginning
    reading = asyncio.create_task(drained(ours, lambda chunk: kept.extend(chunk[: OUTPUT - len(kept)])))
    problem = ""
    try:
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            problem = f"not done after {timeout:g} s"
        else:
            await asyncio.wait((reading,), timeout=LINGER)
    finally:
        # Where the output has ended and the leader is gone, nobody of its group is known to be left.
        if process.returncode is None or not reading.done():
            await end_group(process, MERCY)
        reading.cancel()
    status = None if problem else process.returncode
    if status is not None and status < 0:
        problem, status = f"ended by signal {-status}", 128 - status
    return Ran(command, status, bytes(kept), problem)


def tell(mirror: str, event: str, ran: Ran) -> None:
    """A command and its output in the log, on lines without control characters."""
    name = f"{mirror}: {event} hook {shown(os.fsencode(ran.command[0]))}"
    for line in ran.output.splitlines()[:LINES]:
        log.info("%s: %s", name, shown(line))
    if ran.good:
        log.info("%s: done", name)
    else:
        log.warning("%s: %s", name, ran.problem or f"exit status {ran.status}")
