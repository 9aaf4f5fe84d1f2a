"""Telling downstream mirrors what was published: by ssh or webhook, in stages, beside the passes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from cluster.model import Downstream, Mirror, Site, shown
from cluster.plan.pushing import TRIES, Call, first_stage, pause_before, second_stage
from cluster.scheduler.hooks import environment, run_command

PATIENCE = 600.0  # s that a downstream has to take a call; of a first stage its delay says it
CONNECT = 30  # s
MIN_SECRET = 16  # bytes; what signs a webhook must not be guessed
REASON = 200  # characters of what an ssh said that are kept

log = logging.getLogger("sideways.downstream")

Sleep = Callable[[float], Awaitable[None]]
Deliver = Callable[[Mirror, Call], Awaitable[str]]  # why it did not arrive; empty: it did


@dataclass(slots=True)
class Standing:
    """How one downstream was told last. `at` in s since 1970."""

    name: str
    words: tuple[str, ...] = ()
    at: float = 0.0
    tries: int = 0
    problem: str = ""
    waiting: bool = False


@dataclass(slots=True)
class _Telling:
    task: asyncio.Task[None]
    again: bool = False  # something was published since it began


@dataclass
class Downstreams:
    """The downstreams of one site's mirrors. `tell` returns at once. What is published while they are being
    told makes one more round."""

    site: Site
    clock: Callable[[], float] = time.time
    sleep: Sleep = asyncio.sleep
    deliver: Deliver | None = None
    _telling: dict[str, _Telling] = field(default_factory=dict)
    _standing: dict[str, dict[str, Standing]] = field(default_factory=dict)

    def tell(self, mirror: Mirror) -> None:
        """Something of this mirror was published."""
        if not mirror.downstreams:
            return
        telling = self._telling.get(mirror.name)
        if telling is not None:
            telling.again = True
            return
        task = asyncio.create_task(self._run(mirror), name=f"downstreams of {mirror.name}")
        self._telling[mirror.name] = _Telling(task)

    def standings(self, mirror: str) -> list[Standing]:
        """How each downstream was told last, since this daemon runs."""
        return list(self._standing.get(mirror, {}).values())

    async def stop(self) -> None:
        """Calls that are under way are cut off."""
        tasks = [telling.task for telling in self._telling.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, mirror: Mirror) -> None:
        try:
            while True:
                self._telling[mirror.name].again = False
                await self._round(mirror)
                if not self._telling[mirror.name].again:
                    return
        finally:
            del self._telling[mirror.name]

    async def _round(self, mirror: Mirror) -> None:
        first = first_stage(mirror.downstreams, mirror.name, PATIENCE)
        group = {call.to.name for call in second_stage(mirror.downstreams, mirror.name, PATIENCE, ())}
        every = {call.to.name: asyncio.create_task(self._call(mirror, call)) for call in first}
        staged = [task for name, task in every.items() if name in group]
        try:
            if staged:
                await asyncio.wait(staged, timeout=max(c.patience for c in first if c.to.name in group))
            late = {n for n in group if not every[n].done()}
            for name in late:
                every[name].cancel()
            answered = {n for n in group - late if every[n].result()}
            second = second_stage(mirror.downstreams, mirror.name, PATIENCE, answered)
            await asyncio.gather(*(self._call(mirror, call) for call in second))
            await asyncio.gather(*every.values(), return_exceptions=True)
        finally:
            for task in every.values():
                task.cancel()
            await asyncio.gather(*every.values(), return_exceptions=True)

    async def _call(self, mirror: Mirror, call: Call) -> bool:
        """Whether it arrived, tried a few times."""
        standing = Standing(call.to.name, call.words, waiting=True)
        self._standing.setdefault(mirror.name, {})[call.to.name] = standing
        deliver = self.deliver or self._deliver
        try:
            for tries in range(1, TRIES + 1):
                standing.problem = await deliver(mirror, call)
                standing.tries, standing.at = tries, self.clock()
                if not standing.problem:
                    log.info("%s: %s was told %s", mirror.name, call.to.name, " ".join(call.words))
                    return True
                log.warning("%s: %s: %s: %s", mirror.name, call.to.name, call.words[0], standing.problem)
                if tries < TRIES:
                    await self.sleep(pause_before(tries))
        except asyncio.CancelledError:
            standing.problem = standing.problem or f"no answer in {call.patience:g} s"
            raise
        finally:
            standing.waiting = False
        return False

    async def _deliver(self, mirror: Mirror, call: Call) -> str:
        if call.to.ssh is not None:
            return await self._by_ssh(mirror, call)
        return await _by_webhook(mirror, self.site, call)

    async def _by_ssh(self, mirror: Mirror, call: Call) -> str:
        told = environment(mirror, self.site, b"", "downstream")
        ran = await run_command(ssh_command(call.to, call.words), told, timeout=call.patience)
        if ran.good:
            return ""
        said = [line for line in ran.output.splitlines() if line.strip()]
        last = shown(said[-1])[:REASON] if said else ""
        return ran.problem or f"exit status {ran.status}" + (f": {last}" if last else "")


def ssh_command(to: Downstream, words: Sequence[str]) -> tuple[str, ...]:
    """How ssh is called. It never asks anybody anything, and offers no key but this one."""
    account, _, port = (to.ssh or "").partition(":")
    options = ["-oBatchMode=yes", f"-oConnectTimeout={CONNECT}", "-oServerAliveInterval=60"]
    options += ["-oIdentitiesOnly=yes", f"-i{to.key}"] if to.key else []
    options += [f"-oUserKnownHostsFile={to.hosts}"] if to.hosts else []
    options += [f"-p{port}"] if port else []
    return ("ssh", *options, "--", account, " ".join(words))


async def _by_webhook(mirror: Mirror, site: Site, call: Call) -> str:
    """POST to the downstream, signed as the large forges sign: the HMAC-SHA256 of the body. A redirect is not
    followed."""
    import aiohttp

    to = call.to
    secret = await asyncio.to_thread(_secret, to.secret or "")
    if len(secret) < MIN_SECRET:
        return f"{to.secret} holds no secret of at least {MIN_SECRET} bytes"
    told = {"mirror": mirror.name, "site": site.name, "words": list(call.words)}
    body = json.dumps(told).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Sideways",
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest(),
    }
    limit = aiohttp.ClientTimeout(total=min(call.patience, PATIENCE), sock_connect=CONNECT)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.post(to.webhook or "", data=body, headers=headers, allow_redirects=False) as answer,
        ):
            return "" if 200 <= answer.status < 300 else f"answered {answer.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return str(error) or "no answer"


def _secret(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4096).strip()
    except OSError:
        return b""
