"""Downstream mirrors are told in stages, beside the passes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from cluster.model import Downstream, Mirror, OriginSpec, Pushed, Site
from cluster.plan.pushing import TRIES, Call
from cluster.scheduler.downstream import Downstreams, Standing, ssh_command
from cluster.web.wake import authorised

SITE = Site("kent", "/srv/data", "/srv/state")
A = Downstream("a", Pushed.STAGED, "push@a.example")
B = Downstream("b", Pushed.STAGED, "push@b.example")
PLAIN = Downstream("plain", Pushed.ALL, "push@plain.example")


def mirror(*downstreams: Downstream) -> Mirror:
    return Mirror("deb", "/deb", (OriginSpec("https://o.example/"),), downstreams=downstreams)


async def over(downstreams: Downstreams) -> None:
    """Everybody has been told."""
    async with asyncio.timeout(60):
        await asyncio.gather(*(telling.task for telling in downstreams._telling.values()))


class Leaves:
    """Downstreams that do as they are told by the story."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.fails: dict[str, int] = {}
        self.busy: dict[str, asyncio.Event] = {}
        self.slept: list[float] = []
        self.downstreams = Downstreams(SITE, clock=lambda: 1000.0, sleep=self._sleep, deliver=self._deliver)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def _deliver(self, _mirror: Mirror, call: Call) -> str:
        self.heard.append((call.to.name, call.words[0]))
        if call.to.name in self.busy:
            await self.busy[call.to.name].wait()
        left = self.fails.get(call.to.name, 0)
        self.fails[call.to.name] = left - 1
        return "refused" if left > 0 else ""

    async def over(self) -> None:
        await over(self.downstreams)

    async def until(self, count: int) -> None:
        while len(self.heard) < count:  # noqa: ASYNC110  # what is waited for is next in line
            await asyncio.sleep(0)

    def standing(self, name: str) -> Standing:
        return next(one for one in self.downstreams.standings("deb") if one.name == name)


@pytest.fixture
async def leaves() -> AsyncIterator[Leaves]:
    made = Leaves()
    async with asyncio.timeout(60):
        yield made
        await made.downstreams.stop()


async def test_the_second_stage_waits_until_all_of_the_group_have_answered(leaves: Leaves) -> None:
    leaves.busy["b"] = asyncio.Event()
    leaves.downstreams.tell(mirror(A, B, PLAIN))
    await leaves.until(3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert sorted(leaves.heard) == [("a", "sync:stage1"), ("b", "sync:stage1"), ("plain", "sync:all")]
    assert leaves.standing("b").waiting
    leaves.busy["b"].set()
    await leaves.over()
    assert sorted(leaves.heard[3:]) == [("a", "sync:stage2"), ("b", "sync:stage2")]


async def test_who_does_not_answer_in_time_holds_up_nobody_for_longer(leaves: Leaves) -> None:
    late = Downstream("b", Pushed.STAGED, "push@b.example", delay=0.01)
    quick = Downstream("a", Pushed.STAGED, "push@a.example", delay=0.01)
    leaves.busy["b"] = asyncio.Event()
    leaves.downstreams.tell(mirror(quick, late))
    await leaves.until(4)
    assert ("a", "sync:stage2") in leaves.heard and ("b", "sync:all") in leaves.heard
    leaves.busy["b"].set()
    await leaves.over()


async def test_a_failure_is_tried_again_a_few_times_and_then_told(leaves: Leaves) -> None:
    leaves.fails["plain"] = 99
    leaves.downstreams.tell(mirror(PLAIN))
    await leaves.over()
    assert len(leaves.heard) == TRIES and leaves.slept == [30.0, 60.0]
    found = leaves.standing("plain")
    assert (found.problem, found.tries, found.waiting, found.at) == ("refused", TRIES, False, 1000.0)


async def test_a_downstream_that_comes_back_has_no_problem(leaves: Leaves) -> None:
    leaves.fails["plain"] = 1
    leaves.downstreams.tell(mirror(PLAIN))
    await leaves.over()
    assert (leaves.standing("plain").problem, leaves.standing("plain").tries) == ("", 2)


async def test_what_is_published_meanwhile_makes_one_more_round(leaves: Leaves) -> None:
    leaves.busy["plain"] = asyncio.Event()
    leaves.downstreams.tell(mirror(PLAIN))
    await leaves.until(1)
    for _ in range(3):
        leaves.downstreams.tell(mirror(PLAIN))
    leaves.busy["plain"].set()
    await leaves.over()
    assert len(leaves.heard) == 2


async def test_a_mirror_without_downstreams_tells_nobody(leaves: Leaves) -> None:
    leaves.downstreams.tell(mirror())
    assert not leaves.downstreams._telling and leaves.downstreams.standings("deb") == []


async def test_stopping_cuts_calls_off(leaves: Leaves) -> None:
    leaves.busy["plain"] = asyncio.Event()
    leaves.downstreams.tell(mirror(PLAIN))
    await leaves.until(1)
    await leaves.downstreams.stop()
    assert not leaves.downstreams._telling


def test_ssh_asks_nobody_and_offers_no_other_key() -> None:
    to = Downstream("x", Pushed.ALL, "push@h.example:2222", key="/etc/k", hosts="/etc/known")
    command = ssh_command(to, ("sync:all", "sync:archive:deb"))
    assert command[0] == "ssh" and command[-3:] == ("--", "push@h.example", "sync:all sync:archive:deb")
    assert {"-oBatchMode=yes", "-oIdentitiesOnly=yes", "-i/etc/k", "-p2222"} < set(command)
    assert "-oUserKnownHostsFile=/etc/known" in command


async def test_the_words_reach_ssh_and_its_last_line_says_what_was_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\nfor last; do :; done\necho "$last" >> {tmp_path}/heard\necho no way\nexit 3\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    downstreams = Downstreams(SITE, sleep=sleep)
    downstreams.tell(mirror(PLAIN))
    await over(downstreams)
    assert (tmp_path / "heard").read_text() == "sync:all sync:archive:deb\n" * TRIES
    assert downstreams.standings("deb")[0].problem == "exit status 3: no way"


@pytest.mark.parametrize("status", [202, 401])
async def test_a_webhook_is_signed_so_that_a_site_of_ours_takes_it(tmp_path: Path, status: int) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"0123456789abcdef0123\n")
    heard: list[bool] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        digest = hmac.new(b"0123456789abcdef0123", body, hashlib.sha256).hexdigest()
        assert request.headers["X-Hub-Signature-256"] == f"sha256={digest}"
        heard.append(authorised(secret.read_bytes().strip(), request.headers, body))
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/-/wake/deb", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/-/wake/deb"
        leaf = Downstream("hook", Pushed.ALL, webhook=url, secret=str(secret))

        async def sleep(_seconds: float) -> None: ...

        downstreams = Downstreams(SITE, sleep=sleep)
        downstreams.tell(mirror(leaf))
        await over(downstreams)
    finally:
        await runner.cleanup()
    assert all(heard) and len(heard) == (1 if status == 202 else TRIES)
    assert downstreams.standings("deb")[0].problem == ("" if status == 202 else "answered 401")


async def test_a_webhook_without_a_secret_is_not_sent(tmp_path: Path) -> None:
    short = tmp_path / "secret"
    short.write_bytes(b"short")
    leaf = Downstream("hook", Pushed.ALL, webhook="http://127.0.0.1:9/", secret=str(short))

    async def sleep(_seconds: float) -> None: ...

    downstreams = Downstreams(SITE, sleep=sleep)
    downstreams.tell(mirror(leaf))
    await over(downstreams)
    assert "holds no secret of at least 16 bytes" in downstreams.standings("deb")[0].problem
