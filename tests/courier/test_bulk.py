"""Passes whose small files come by the courier: over real servers and hostile ones, and broken off."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from cluster.courier import courier, process, wire
from cluster.engine import bulk
from cluster.engine.batch import Batcher
from cluster.engine.transfer import Transfer
from cluster.errors import DiskFull, StoreError
from cluster.eventloop import Loop
from cluster.model import Limits, Mirror, OriginSpec, Sideways, Site, href
from cluster.origin.base import Origin, Plain, Properties, Traffic
from cluster.origin.http_session import HttpSession
from cluster.origin.limit import Hosts, Limited
from cluster.origin.open import Shared, open_origin
from cluster.peer.claims import Claims
from cluster.store.effects import Effects
from cluster.store.mirror import MirrorStore
from tests.courier.errands import PATIENCE
from tests.engine.world import World
from tests.origin.hostile import Answer, Hostile, Request, chunked, ok, reset
from tests.origin.test_http_guard import certificate
from tests.servers import apache, free_port, nginx
from tests.store.trees import mounted

AT = 1_700_000_000
THEN = formatdate(AT, usegmt=True)


@dataclass
class Net(World):
    """A world whose origin is asked over HTTP, as a site does it."""

    shared: Shared = field(default_factory=Shared)
    opened: list[Origin] = field(default_factory=list)

    def at(self, url: str, **facts: Any) -> None:
        self.mirror = replace(self.mirror, origins=(OriginSpec(url, private=True, **facts),))

    def _open(self, spec: OriginSpec, mirror: Mirror) -> Origin:
        made = open_origin(spec, mirror.limits, self.shared)
        self.opened.append(made)
        return made

    @property
    def slots(self) -> int:
        """Requests to the origin that are still counted as running."""
        return sum(slots.running + slots.lent for slots in self.shared.hosts.slots.values())

    def temporaries(self) -> list[str]:
        folder = self.top / "data/.sideways/tmp/deb"
        return os.listdir(folder) if folder.is_dir() else []

    def clean(self) -> None:
        """Nothing is left: no temporary, no child, no connection that is counted."""
        assert self.temporaries() == []
        assert self.slots == 0
        assert children() == []


def children() -> list[int]:
    """Processes that were started by this one, dead ones included."""
    me, found = os.getpid(), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                stat = file.read()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == me:
            with open(f"/proc/{name}/cmdline") as file:
                if "courier" in file.read() or " Z " in stat:
                    found.append(int(name))
    return found


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    made = Net(tmp_path)
    yield made
    await made.check()


@dataclass
class Tree:
    """An origin of one directory on `Hostile`: its listing as nginx gives it, and its files."""

    server: Hostile
    net: Net
    files: dict[str, bytes] = field(default_factory=dict)

    def put(self, name: str, body: bytes, answer: Answer | None = None) -> None:
        self.files[name] = body
        path = href(name.encode())
        self.net.ledger.file(name.encode(), body)
        self.server.answers[f"/{path}"] = self.plain(body) if answer is None else answer
        self.list()

    @staticmethod
    def plain(body: bytes, *headers: str) -> bytes:
        return ok(body, f"Last-Modified: {THEN}", *headers)

    def list(self) -> None:
        rows = [
            {"name": name, "type": "file", "mtime": THEN, "size": len(body)}
            for name, body in self.files.items()
        ]
        self.server.answers["/"] = ok(json.dumps(rows).encode(), "Content-Type: application/json")

    def many(self, count: int) -> None:
        for i in range(count):
            body = b"%d " % i * (i % 50 + 1)
            self.files[f"f{i}"] = body
            self.net.ledger.file(b"f%d" % i, body)
            self.server.answers[f"/f{i}"] = self.plain(body)
        self.list()

    def asked(self) -> dict[str, int]:
        """How often each file was asked for."""
        found: dict[str, int] = {}
        for request in self.server.requests:
            if request.target != "/":
                found[request.target] = found.get(request.target, 0) + 1
        return found

    def equal(self) -> None:
        assert self.net.bodies() == {name.encode(): body for name, body in self.files.items()}


@pytest.fixture
async def tree(net: Net) -> AsyncIterator[Tree]:
    async with Hostile() as server:
        made = Tree(server, net)
        made.list()
        net.at(server.url)
        yield made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[courier.Courier]:
    """Every courier of the test."""
    found: list[courier.Courier] = []
    real = courier.Courier.start.__func__  # type: ignore[attr-defined]

    async def start(cls: type[courier.Courier], *args: Any) -> courier.Courier:
        found.append(await real(cls, *args))
        return found[-1]

    monkeypatch.setattr(courier.Courier, "start", classmethod(start))
    return found


def write(folder: Path, count: int, seed: int = 0) -> dict[bytes, bytes]:
    """Small files in some directories."""
    made = {}
    for i in range(count):
        path = folder / f"d{i % 3}" / f"f{i}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d %d" % (i, seed) * (i % 60 + 1))
        os.utime(path, (AT + i, AT + i))
        made[f"d{i % 3}/f{i}".encode()] = path.read_bytes()
    return made


# -- the plain case


@pytest.mark.parametrize("make", [nginx, apache])
async def test_a_tree_arrives_as_it_does_without_the_courier(
    net: Net, make: Any, started: list[courier.Courier], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files, and the same records."""
    source = net.top / "source"
    files = write(source, 300)
    net.ledger.tree(source)
    with make(source) as server:
        net.at(server.url)
        report = await net.run()
        assert report.outcome == "complete", report
        assert len(started) == 1
        assert net.bodies() == files
        net.clean()
        with_courier = await net.records()
        (net.top / "other").mkdir()
        other = Net(net.top / "other")
        other.ledger.tree(source)
        other.at(server.url)
        monkeypatch.setattr(bulk, "WORTH", 10**9)
        assert (await other.run()).bytes_origin == report.bytes_origin
        assert len(started) == 1
        without = await other.records()
    for path in files:
        one, two = (replace(held[path], inode=0, copied=0) for held in (with_courier, without))
        assert one == two
        found, expected = ((w.public / os.fsdecode(path)).stat() for w in (net, other))
        assert (found.st_mode, found.st_mtime_ns) == (expected.st_mode, expected.st_mtime_ns)


@pytest.mark.parametrize("server", [nginx, apache])
async def test_over_tls_a_tree_arrives_by_the_courier_too(
    net: Net, started: list[courier.Courier], server: Callable[..., Any]
) -> None:
    source = net.top / "source"
    files = write(source, 500)
    net.ledger.tree(source)
    ca, _ = certificate(net.top, "127.0.0.1")
    port, both = free_port(), ca.removesuffix("pem") + "both"
    extra = {
        nginx: f"listen 127.0.0.1:{port} ssl; ssl_certificate {both}; ssl_certificate_key {both};",
        apache: (
            f"LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so\nListen 127.0.0.1:{port}\n"
            f"<VirtualHost 127.0.0.1:{port}>\nSSLEngine on\nSSLCertificateFile {both}\n</VirtualHost>\n"
        ),
    }[server]
    with server(source, extra=extra) as running:
        net.at(f"https://127.0.0.1:{port}/", ca=ca)
        report = await net.run()
        await asyncio.sleep(0.1)
        log = running.requests()
    assert report.outcome == "complete", report
    assert net.bodies() == files
    assert len(started) == 1
    asked = [request.target for request in log if request.method == "GET"]
    assert len(asked) == len(set(asked)) == 500 + 4, "nothing is asked for twice"
    net.clean()


async def test_every_request_and_every_byte_is_counted(net: Net) -> None:
    source = net.top / "source"
    files = write(source, 200)
    net.ledger.tree(source)
    with nginx(source) as server:
        net.at(server.url)
        report = await net.run()
        await asyncio.sleep(0.1)
        log = server.requests()
    assert report.requests_origin == len(log)
    assert report.bytes_origin == sum(map(len, files.values()))


@pytest.mark.parametrize(
    "habit",
    [
        "keepalive_requests 1;",
        "keepalive_requests 7;",
        "keepalive_timeout 0;",
        "gzip on; gzip_min_length 1; gzip_types *;",
        "location ~ 3$ { return 302 /moved$uri; } location ^~ /moved/ { alias ROOT/; }",
        "location ~ 3$ { chunked_transfer_encoding on; gzip on; gzip_types *; }",
        "add_header X-Long 'LONG';",
    ],
)
async def test_the_habits_of_a_server_cost_no_file(net: Net, habit: str) -> None:
    source = net.top / "source"
    files = write(source, 300)
    net.ledger.tree(source)
    extra = habit.replace("ROOT", str(source)).replace("LONG", "x" * 3000)
    with nginx(source, extra=extra) as server:
        net.at(server.url)
        async with asyncio.timeout(PATIENCE):
            report = await net.run()
        await asyncio.sleep(0.1)
        log = server.requests()
    assert report.outcome == "complete", report
    assert net.bodies() == files
    assert len(log) < 2.5 * len(files)
    net.clean()


async def test_a_tree_in_which_nothing_changed_needs_no_process(
    tree: Tree, started: list[courier.Courier]
) -> None:
    tree.many(100)
    assert (await tree.net.run()).files.origin == 100
    assert (await tree.net.run()).files.unchanged == 100
    assert len(started) == 1


async def test_few_files_are_not_worth_a_process(tree: Tree, started: list[courier.Courier]) -> None:
    tree.many(bulk.WORTH - 1)
    assert (await tree.net.run()).outcome == "complete"
    assert not started
    tree.equal()


async def test_names_of_any_bytes_arrive(net: Net, started: list[courier.Courier]) -> None:
    source = os.fsencode(net.top / "source")
    os.mkdir(source)
    odd = [bytes([byte]) for byte in range(1, 256) if byte not in b"./"]
    odd += [
        b"a b",
        b"100%",
        b"%41",
        b"a#b",
        b"a?b=c",
        b"a&b",
        b"a;b",
        b"~a",
        b"a:b",
        b"\xff\xfe",
        b"\xc3\xa9",
        b"+",
    ]
    for name in odd:
        with open(os.path.join(source, b"x" + name), "wb") as file:
            file.write(b"named " + name)
        os.utime(os.path.join(source, b"x" + name), (AT, AT))
    net.ledger.tree(net.top / "source")
    with nginx(net.top / "source", autoindex_format="json") as server:
        net.at(server.url)
        report = await net.run()
    assert len(started) == 1
    there = net.bodies()
    assert there == {b"x" + name: b"named " + name for name in odd if b"x" + name in there}
    assert len(there) > 180, report.errors[
        :5
    ]  # what nginx's own JSON makes of control characters is its affair


async def test_the_request_is_the_one_that_is_sent_otherwise(tree: Tree) -> None:
    secret = tree.net.top / "secret"
    secret.write_text("me:pass word\n".replace(" ", ""))
    secret.chmod(0o600)
    tree.net.at(tree.server.url, credentials=str(secret), user_agent="Mirr\u00f6r/1.0")
    tree.many(40)
    tree.put("large", b"x" * 300_000)
    assert (await tree.net.run()).outcome == "complete"
    by_target = {r.target: r for r in tree.server.requests}
    ours, theirs = by_target["/f7"], by_target["/large"]
    assert ours.headers == theirs.headers
    assert ours.headers["authorization"].startswith("Basic ")
    assert ours.method == theirs.method == "GET"


async def test_a_file_over_the_limit_is_not_asked_of_the_courier(tree: Tree) -> None:
    tree.net.mirror = replace(tree.net.mirror, limits=Limits(connections=4, file_size=100))
    for i in range(40):
        tree.put(f"f{i}", b"x" * (80 + i))
    report = await tree.net.run()
    assert set(tree.asked()) == {f"/f{i}" for i in range(21)}
    assert report.files.origin == 21


# -- who is not lent anything


@pytest.mark.parametrize("why", ["bandwidth", "debug", "proxy", "dry"])
async def test_nothing_is_lent(
    tree: Tree, started: list[courier.Courier], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    tree.many(40)
    if why == "bandwidth":
        tree.net.mirror = replace(tree.net.mirror, limits=Limits(connections=4, bandwidth=10**9))
    elif why == "debug":
        caplog.set_level(logging.DEBUG, "sideways.origin")
    elif why == "proxy":
        tree.net.at("http://origin.example/", proxy=tree.server.url)
        for target, answer in list(tree.server.answers.items()):
            tree.server.answers["http://origin.example" + target] = answer
    report = await tree.net.run(dry=why == "dry")
    assert report.outcome == "complete", report
    assert not started
    if why != "dry":
        tree.equal()


class _Inner:
    """What `Limited` wraps."""

    def __init__(self) -> None:
        self.properties, self.traffic, self.url = Properties(lends=True), Traffic(), ""
        self.given: list[int] = []

    async def lend(self, most: int) -> Plain | None:
        self.given.append(most)
        return Plain((), None, b"", b"", most, 1.0, 1.0)

    def back(self, lent: Plain) -> None:
        self.given.remove(lent.connections)


@pytest.mark.parametrize(
    ("allowed", "busy", "expected"),
    [([1], 0, 1), ([2], 0, 1), ([4], 0, 3), ([8], 0, 4), ([4], 2, 2), ([8, 2], 0, 1), ([8, 4], 0, 3)],
)
async def test_one_slot_of_a_host_is_kept_for_listings(allowed: list[int], busy: int, expected: int) -> None:
    hosts, inner = Hosts(), _Inner()
    limited = [Limited(inner, "origin", Limits(connections=n), hosts) for n in allowed]  # type: ignore[arg-type]
    slots = hosts.of("origin")
    for _ in range(busy):
        await slots.take()
    lent = await limited[0].lend(4)
    assert lent is not None and lent.connections == expected
    assert (slots.running, slots.lent) == (busy + expected, expected)
    limited[0].back(lent)
    assert (slots.running, slots.lent, inner.given) == (busy, 0, [])


async def test_connections_are_lent_where_no_proxy_is_between() -> None:
    for url, proxy, lends in (
        ("https://origin.example/", None, True),
        ("http://origin.example/", None, True),
        ("http://origin.example/", "http://proxy.example:3128", False),
    ):
        origin = open_origin(OriginSpec(url, proxy=proxy), Limits(), Shared())
        assert origin.properties.lends == lends
        await origin.close()


# -- limits


@pytest.mark.parametrize("connections", [1, 2, 3])
async def test_few_connections_are_enough_for_listings_and_files(net: Net, connections: int) -> None:
    source = net.top / "source"
    files = write(source, 300)
    net.ledger.tree(source)
    net.mirror = replace(net.mirror, limits=Limits(connections=connections))
    with nginx(source) as server:
        net.at(server.url)
        async with asyncio.timeout(PATIENCE):
            report = await net.run()
    assert report.outcome == "complete", report
    assert net.bodies() == files
    net.clean()


async def test_never_more_requests_at_once_than_the_host_allows(tree: Tree) -> None:
    tree.net.mirror = replace(tree.net.mirror, limits=Limits(connections=2))
    tree.many(200)
    open_now = most = 0
    real = tree.server._serve

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            await real(reader, writer)
        finally:
            open_now -= 1

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    tree.net.at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert (await tree.net.run()).outcome == "complete"
    server.close()
    tree.equal()
    assert most <= 2


@pytest.mark.parametrize("connections", [1, 4])
async def test_no_file_is_asked_for_over_connections_that_were_given_back(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, connections: int
) -> None:
    """An errand may end while the disk is looked at for the next one."""
    real = MirrorStore.room_for

    async def slow(self: MirrorStore, size: int, files: int) -> None:
        await asyncio.sleep(0.03)
        await real(self, size, files)

    monkeypatch.setattr(MirrorStore, "room_for", slow)
    monkeypatch.setattr(bulk, "ROOM", (1, 1))
    monkeypatch.setattr(bulk, "SLICE", 20)
    tree.net.mirror = replace(tree.net.mirror, limits=Limits(connections=connections))
    tree.many(200)
    running: list[int] = []
    answer = tree.server._answer

    async def counted(request: Request, writer: asyncio.StreamWriter) -> bool:
        running.append(sum(slots.running for slots in tree.net.shared.hosts.slots.values()))
        return await answer(request, writer)

    monkeypatch.setattr(tree.server, "_answer", counted)
    assert (await tree.net.run()).outcome == "complete"
    assert len(running) == 201 and min(running) >= 1
    tree.net.clean()


@pytest.mark.parametrize("connections", [(1, 1), (2, 8), (4, 4)])
async def test_two_mirrors_of_one_host_do_not_starve_each_other(
    tmp_path: Path, connections: tuple[int, int]
) -> None:
    """While one of them fetches a long directory, the other one gets through: by the order of requests."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = Net(tmp_path / "one"), Net(tmp_path / "two")
    two.shared = one.shared
    async with Hostile() as server:
        trees = [Tree(server, net) for net in (one, two)]
        trees[0].many(3000)
        server.answers["/one/"] = server.answers["/"]
        for i in range(3000):
            server.answers[f"/one/f{i}"] = server.answers.pop(f"/f{i}")

        def when_both_run(body: Answer) -> Answer:
            async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
                while not two.opened:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert isinstance(body, bytes)
                writer.write(body)

            return answer

        for i in range(200, 3000):
            server.answers[f"/one/f{i}"] = when_both_run(server.answers[f"/one/f{i}"])
        trees[1].many(40)
        server.answers["/two/"] = server.answers["/"]
        for i in range(40):
            server.answers[f"/two/f{i}"] = server.answers.pop(f"/f{i}")
        for net, which, limit in zip((one, two), ("one", "two"), connections, strict=True):
            net.at(f"{server.url}{which}/")
            net.mirror = replace(net.mirror, limits=Limits(connections=limit))
        long = asyncio.create_task(one.run())
        while not any("/one/f" in r.target for r in server.requests):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE):
            assert (await two.run()).outcome == "complete"
            assert (await long).outcome == "complete"
        order = [r.target[:5] for r in server.requests if not r.target.endswith("/")]
        assert "/one/" in order[order.index("/two/") :][40:], "the other one had to wait for all of it"
        for made in trees:
            made.equal()
        one.clean()


# -- origins that refuse, change, break


async def test_what_the_courier_cannot_take_comes_all_the_same(tree: Tree) -> None:
    tree.many(100)
    tree.put("chunked", b"hello", chunked(b"hello"))
    tree.put("moved", b"hello there", ok(b"", "Location: /elsewhere", status="302 Found"))
    tree.server.answers["/elsewhere"] = ok(b"hello there")
    tree.put("early", b"early", b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(b"early"))
    report = await tree.net.run()
    assert report.outcome == "complete", report
    tree.equal()
    tree.net.clean()


async def test_a_file_that_changed_since_its_listing_is_looked_at_again(tree: Tree) -> None:
    tree.many(60)
    tree.put("grows", b"short")

    async def grown(request: Request, writer: asyncio.StreamWriter) -> None:
        if tree.files["grows"] == b"short":
            tree.put("grows", b"much longer than it was", tree.server.answers["/grows"])
        writer.write(tree.plain(tree.files["grows"], "Connection: close"))
        await writer.drain()

    tree.server.answers["/grows"] = grown
    report = await tree.net.run()
    assert report.outcome == "complete", report
    tree.equal()


async def test_a_file_that_vanished_is_looked_for_once_more_and_then_a_failure(tree: Tree) -> None:
    tree.many(60)
    tree.put("gone", b"12345", ok(b"no", status="404 Not Found"))
    report = await tree.net.run()
    assert (report.outcome, report.files.failed, report.files.origin) == ("incomplete", 1, 60)
    assert tree.asked()["/f1"] == 1
    tree.net.clean()


async def test_a_time_that_no_record_can_keep_does_not_end_the_pass(tree: Tree) -> None:
    tree.many(60)
    tree.put("late", b"12345", ok(b"12345", "Last-Modified: Fri, 31 Dec 9999 23:59:59 GMT"))
    report = await tree.net.run()
    assert report.outcome == "complete", report
    tree.equal()


async def test_32_an_origin_that_asks_for_patience_gets_it(tree: Tree) -> None:
    tree.many(600)
    busy = ok(b"later", "Retry-After: 3600", status="503 Later")
    for i in range(50, 600):
        tree.server.answers[f"/f{i}"] = busy
    report = await tree.net.run()
    assert report.outcome == "incomplete"
    refused = sum(count for target, count in tree.asked().items() if int(target[2:]) >= 50)
    assert refused <= 64, "of 550, what was in flight, and a few more before the word was heard"
    tree.net.clean()
    tree.net.shared.quiet.until.clear()
    tree.many(600)
    assert (await tree.net.run()).outcome == "complete"
    tree.equal()


async def test_an_origin_that_dies_midway_leaves_what_had_come(tree: Tree) -> None:
    tree.net.mirror = replace(tree.net.mirror, limits=Limits(connections=4, retries=1))
    tree.many(300)

    async def die(request: Request, writer: asyncio.StreamWriter) -> None:
        tree.server._server.close()
        for task in list(tree.server._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        reset(writer)

    good = tree.server.answers["/f200"]
    tree.server.answers["/f200"] = die
    async with asyncio.timeout(PATIENCE):
        report = await tree.net.run()
    assert report.outcome == "incomplete"
    assert report.files.origin + report.files.failed == 300
    assert report.files.origin > 100
    tree.net.clean()
    async with Hostile({**tree.server.answers, "/f200": good}) as again:
        tree.net.at(again.url)
        assert (await tree.net.run()).outcome == "complete"
    tree.equal()


# -- the process


def slowed(tree: Tree, which: str, then: Callable[[], Any]) -> None:
    """Something happens when this file is asked for; it is delivered all the same, a little later."""
    body = tree.files[which]

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        done = then()
        if isinstance(done, Awaitable):
            await done
        await asyncio.sleep(0.1)
        writer.write(tree.plain(body, "Connection: close"))
        await writer.drain()

    tree.server.answers[f"/{which}"] = answer


async def test_a_process_that_dies_costs_one_warning(
    tree: Tree,
    started: list[courier.Courier],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree.many(1500)
    killed: list[int] = []
    left: list[list[str]] = []  # of its temporaries, when all is published; the store's end takes away any
    close = bulk.Bulk.close

    async def closed(self: bulk.Bulk) -> None:
        left.append(tree.net.temporaries())
        await close(self)

    monkeypatch.setattr(bulk.Bulk, "close", closed)

    def kill() -> None:
        if not killed:
            killed.append(started[0]._process.pid)
            os.kill(killed[0], signal.SIGKILL)

    slowed(tree, "f700", kill)
    async with asyncio.timeout(PATIENCE):
        report = await tree.net.run()
    assert killed and report.outcome == "complete", report
    assert left == [[]]
    assert report.files.origin == 1500
    tree.equal()
    tree.net.clean()
    assert [r.message for r in caplog.records if r.name.startswith("cluster")] == [
        "deb: the process for small files is gone"
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_everybody_does_not_reach_the_process(
    tree: Tree, started: list[courier.Courier], number: int
) -> None:
    """A service is stopped by a signal to all of its processes; the pass ends in its own way then. A
    terminal's signal goes to a group, in which the process never is."""
    tree.many(200)
    groups: list[int] = []

    def signalled() -> None:
        groups.append(os.getpgid(started[0]._process.pid))
        os.kill(started[0]._process.pid, number)

    slowed(tree, "f70", signalled)
    assert (await tree.net.run()).files.origin == 200
    assert groups and os.getpgid(0) not in groups
    tree.net.clean()


@pytest.mark.parametrize("error", [OSError(errno.EAGAIN, "fork"), RuntimeError("can't start new thread")])
async def test_a_process_that_cannot_be_had_costs_one_warning(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(process, "_launched", refuse)
    tree.many(600)
    assert (await tree.net.run()).outcome == "complete"
    tree.equal()
    tree.net.clean()
    assert len([r for r in caplog.records if "no process for small files" in r.message]) == 1


async def test_a_process_that_ends_at_once_costs_one_warning(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "_RUN", "raise SystemExit")
    tree.many(600)
    assert (await tree.net.run()).outcome == "complete"
    tree.equal()
    tree.net.clean()
    assert len([r for r in caplog.records if "small files" in r.message]) == 1


async def test_a_process_that_says_nonsense_ends_the_pass_and_no_more(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.many(100)
    monkeypatch.setattr(bulk.Bulk, "_staged", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(PATIENCE):
            await tree.net.run()
    tree.net.clean()


PARTS: list[tuple[type, str]] = [
    (MirrorStore, "room_for"),
    (MirrorStore, "looks"),
    (MirrorStore, "publish_all"),
    (Effects, "_effect"),
    (MirrorStore, "stage_small"),
    (HttpSession, "plain"),
    (Transfer, "listed"),
    (Transfer, "arrived"),
    (Transfer, "publish_all"),
    (Transfer, "_settle"),
    (Claims, "start"),
    (Claims, "progress"),
    (Batcher, "add_all"),
    (courier.Courier, "send"),
    (courier.Courier, "reports"),
    (Limited, "lend"),
    (Limited, "back"),
    (Limited, "wanted"),
    (bulk.Bulk, "_over"),
    (bulk.Bulk, "_file"),
]


@pytest.mark.parametrize(("owner", "method"), PARTS, ids=lambda one: getattr(one, "__name__", one))
async def test_whatever_fails_no_pass_waits_for_ever(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    real, count = getattr(owner, method), 0

    def failing(*args: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise RuntimeError("planted")
        return real(*args, **named)

    monkeypatch.setattr(owner, method, failing)
    monkeypatch.setattr(bulk, "SLICE", 50)
    tree.many(400)
    for i in range(100):
        tree.server.answers[f"/f{i}"] = chunked(tree.files[f"f{i}"])  # these are asked for alone
    with contextlib.suppress(RuntimeError, StoreError):
        async with asyncio.timeout(PATIENCE):
            await tree.net.run_unrecorded()
    monkeypatch.undo()
    assert tree.net.temporaries() == [] and children() == []
    async with asyncio.timeout(PATIENCE):
        again = await tree.net.run()
    assert again.outcome == "complete", again.errors
    tree.equal()


async def test_what_is_in_a_batch_is_not_taken_away_when_the_courier_is_dismissed(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches go on to the disk while what is under way is given up."""
    over, add_all, forget = bulk.Bulk._over, Batcher.add_all, MirrorStore.forget_temporaries
    batchers: list[Batcher] = []
    calls = 0

    def failing(self: bulk.Bulk, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("planted")
        over(self, *args)

    async def adding(self: Batcher, *args: Any) -> None:
        batchers.append(self)
        await add_all(self, *args)

    async def forgetting(self: MirrorStore, names: Any) -> None:
        await forget(self, names)
        with contextlib.suppress(StoreError):
            await batchers[0].flush()

    monkeypatch.setattr(bulk.Bulk, "_over", failing)
    monkeypatch.setattr(Batcher, "add_all", adding)
    monkeypatch.setattr(MirrorStore, "forget_temporaries", forgetting)
    monkeypatch.setattr(bulk, "SLICE", 50)
    tree.many(400)
    with pytest.raises(RuntimeError, match="planted"):
        async with asyncio.timeout(PATIENCE):
            await tree.net.run_unrecorded()
    monkeypatch.undo()
    again = await tree.net.run()
    assert again.outcome == "complete", again.errors
    tree.equal()


# -- a pass that is cut off


@pytest.mark.parametrize(("at", "loop"), [(0, "uvloop"), (40, "asyncio"), (40, "uvloop"), (900, "uvloop")])
def test_a_pass_that_is_cut_off_leaves_nothing(tmp_path: Path, at: int, loop: str) -> None:
    async def story() -> None:
        net = Net(tmp_path)
        async with Hostile() as server:
            tree = Tree(server, net)
            net.at(server.url)
            tree.many(1000)
            task: asyncio.Task[Any]
            slowed(tree, f"f{at}", lambda: task.cancel())
            task = asyncio.create_task(net.run())
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait([task])
            assert task.cancelled()
            net.clean()
            await net.check()
            tree.many(1000)
            assert (await net.run()).outcome == "complete"
            tree.equal()
            net.clean()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop if loop == "asyncio" else Loop) as runner:
        runner.run(story())


@pytest.mark.parametrize("where", ["lend", "start", "room_for", "send", "publish_all"])
async def test_a_pass_may_be_cut_off_at_any_step_of_an_errand(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    owner, method = {
        "lend": (HttpSession, "plain"),
        "start": (process, "_launched"),
        "room_for": (MirrorStore, "room_for"),
        "send": (courier.Courier, "send"),
        "publish_all": (Transfer, "publish_all"),
    }[where]
    real = getattr(owner, method)
    task: asyncio.Task[Any]
    loop = asyncio.get_running_loop()

    async def cut(*args: Any) -> Any:
        task.cancel()
        await asyncio.sleep(0.05)
        return await real(*args)

    def cut_in_thread(*args: Any) -> Any:
        loop.call_soon_threadsafe(task.cancel)
        time.sleep(0.1)
        return real(*args)

    monkeypatch.setattr(owner, method, cut_in_thread if where == "start" else cut)
    tree.many(300)
    task = asyncio.create_task(tree.net.run())
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([task])
    assert task.cancelled()
    tree.net.clean()


async def test_other_addresses_of_the_origin_cost_no_file(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, started: list[courier.Courier]
) -> None:
    """Between two errands a name may lead elsewhere: another process is sent when the first is done."""
    from cluster.origin.http import HttpOrigin

    real, count = HttpOrigin.lend, 0

    async def lend(self: HttpOrigin, most: int) -> Any:
        nonlocal count
        lent = await real(self, most)
        count += 1
        return None if lent is None else replace(lent, silence=lent.silence + count)

    monkeypatch.setattr(HttpOrigin, "lend", lend)
    monkeypatch.setattr(bulk, "SLICE", 20)
    monkeypatch.setattr(bulk, "WAITING", 1)
    tree.many(300)
    async with asyncio.timeout(PATIENCE):
        report = await tree.net.run()
    assert report.outcome == "complete", report
    assert len(started) > 1
    tree.equal()
    tree.net.clean()


# -- this site's disk


async def test_98_a_full_disk_ends_the_pass_with_its_reason(tree: Tree) -> None:
    for i in range(60):
        tree.put(f"f{i}", os.urandom(100_000))
    with mounted("size=4m") as folder:
        tree.net.site = Site("kent", str(folder), tree.net.site.state, reserve=0)
        with pytest.raises(DiskFull, match=r"f\d+: No space left|are kept in reserve") as raised:
            await tree.net.run_unrecorded()
        assert "\n" not in str(raised.value)
        assert os.listdir(folder / ".sideways/tmp/deb") == []
        assert tree.net.slots == 0 and children() == []
        tree.net.site = Site("kent", str(tree.net.top / "data"), str(tree.net.top / "state2"), reserve=0)
    (tree.net.top / "state2").mkdir()


async def test_98_a_disk_with_room_for_what_there_is_and_no_more_gets_all_of_it(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, started: list[courier.Courier]
) -> None:
    """The disk is asked about more than one errand at a time; where it has not so much, about each."""
    asked: list[tuple[int, int]] = []

    async def small(self: MirrorStore, size: int, files: int) -> None:
        asked.append((size, files))
        if files > 50:
            raise DiskFull("kept in reserve")

    monkeypatch.setattr(MirrorStore, "room_for", small)
    monkeypatch.setattr(bulk, "SLICE", 20)
    tree.many(200)
    assert (await tree.net.run()).outcome == "complete"
    assert len(started) == 1
    assert [files for _, files in asked if files <= 50] == [20] * 10
    tree.equal()


async def test_98_a_disk_with_room_is_asked_once_for_many_errands(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = MirrorStore.room_for, 0

    async def counted(self: MirrorStore, size: int, files: int) -> None:
        nonlocal asked
        asked += 1
        await real(self, size, files)

    monkeypatch.setattr(MirrorStore, "room_for", counted)
    monkeypatch.setattr(bulk, "SLICE", 20)
    monkeypatch.setattr(bulk, "ROOM", (2**20, 100))
    tree.many(210)
    assert (await tree.net.run()).outcome == "complete"
    assert asked == 3
    tree.equal()


async def test_98_no_space_left_in_the_process_is_told_by_the_name_of_the_file(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up after its room was looked at."""
    from cluster.store.space import Space

    monkeypatch.setattr(Space, "require", lambda *_: None)
    for i in range(60):
        tree.put(f"f{i}", os.urandom(100_000))
    with mounted("size=2m") as folder:
        tree.net.site = Site("kent", str(folder), tree.net.site.state, reserve=0)
        with pytest.raises(DiskFull, match=r"f\d+: No space left"):
            await tree.net.run_unrecorded()
        assert os.listdir(folder / ".sideways/tmp/deb") == []
        assert tree.net.slots == 0 and children() == []
        tree.net.site = Site("kent", str(tree.net.top / "data"), str(tree.net.top / "state2"), reserve=0)
    (tree.net.top / "state2").mkdir()


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EDQUOT])
async def test_99_a_disk_that_fails_ends_the_pass_with_its_reason(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    planted = (
        "import cluster.store.small as small, os; real = small.write_all\n"
        "def failing(descriptor, data):\n"
        f"    if data == b'33 ' * 34: raise OSError({code}, 'planted')\n"
        "    real(descriptor, data)\n"
        "small.write_all = failing\n"
    )
    run = process._RUN.replace(
        "import sys; sys.path.append(sys.argv[3]); ", "import sys; sys.path.append(sys.argv[3])\n" + planted
    )
    monkeypatch.setattr(process, "_RUN", run)
    tree.many(200)
    with pytest.raises(StoreError, match="f33: " + os.strerror(code)):
        async with asyncio.timeout(PATIENCE):
            await tree.net.run()
    tree.net.clean()


# -- claims


async def test_what_is_fetched_is_claimed_until_it_is_published(tree: Tree) -> None:
    tree.many(300)
    seen: list[tuple[int, int]] = []
    claims = tree.net.claims

    def look() -> None:
        within = claims.within("deb", b"", time.monotonic())
        seen.append((len(within), sum(one.started for one in within)))

    slowed(tree, "f20", look)
    await tree.net.run()
    assert seen[0][0] > 100 and seen[0][1] > 100
    assert not claims.within("deb", b"", time.monotonic())


async def test_a_site_without_siblings_claims_nothing_and_fetches_all_the_same(tree: Tree) -> None:
    tree.many(300)
    claims = tree.net.claims
    claims.kept = False
    seen: list[bool] = []
    slowed(tree, "f20", lambda: seen.append(claims.any("deb")))
    assert (await tree.net.run()).outcome == "complete"
    assert seen == [False]
    tree.equal()


async def test_the_claims_of_what_waits_for_its_turn_are_renewed(tree: Tree) -> None:
    tree.net.mirror = replace(tree.net.mirror, sideways=Sideways(patience=0.3))
    tree.many(100)
    idle: list[float] = []
    claims = tree.net.claims

    async def wait() -> None:
        await asyncio.sleep(0.5)

    async def look() -> None:
        await asyncio.sleep(0.1)
        within = {one.name: one.idle for one in claims.within("deb", b"", time.monotonic())}
        idle.append(within[b"f99"])

    slowed(tree, "f20", wait)
    slowed(tree, "f60", wait)
    slowed(tree, "f90", look)
    await tree.net.run()
    assert idle and idle[0] < 0.6, idle


# -- a parent that is killed


@pytest.mark.parametrize("program", ["program", "carrying"])
@pytest.mark.parametrize("said", [b"", b"\0\0", wire.LENGTH.pack(100) + b"half"])
def test_a_process_whose_master_is_gone_at_once_says_nothing(
    tmp_path: Path, said: bytes, program: str
) -> None:
    ours, theirs = socket.socketpair()
    folder = os.open(tmp_path, os.O_RDONLY)
    arguments = [sys.executable, "-I", "-S", "-c", process._RUN, str(theirs.fileno()), str(folder)]
    run = subprocess.Popen(
        [*arguments, process._PACKAGES, f"cluster.courier.{program}"],
        pass_fds=[theirs.fileno(), folder],
        stderr=subprocess.PIPE,
    )
    theirs.close()
    os.close(folder)
    ours.sendall(said)
    ours.close()
    assert run.communicate(timeout=PATIENCE)[1] == b""
    assert run.returncode == 0


CHILD = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.courier.test_bulk import Net
net = Net(Path(sys.argv[2]))
net.at(sys.argv[3])
asyncio.run(net.run())
"""


async def test_a_process_whose_master_is_killed_ends_and_its_temporaries_go(tmp_path: Path) -> None:
    (tmp_path / "child").mkdir()
    net = Net(tmp_path)
    async with Hostile() as server:
        tree = Tree(server, net)
        tree.many(1200)
        reached, pids = asyncio.Event(), []
        top = tmp_path / "child"

        def kill() -> None:
            pids.extend(courier_of(master.pid))
            master.kill()
            reached.set()

        slowed(tree, "f600", kill)
        root = str(Path(__file__).parents[2])
        master = subprocess.Popen([sys.executable, "-c", CHILD, root, str(top), server.url])  # noqa: ASYNC220
        try:
            async with asyncio.timeout(PATIENCE):
                await reached.wait()
                while any(os.path.exists(f"/proc/{pid}") for pid in pids):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            master.kill()
            master.wait()
        assert len(pids) == 1
        left = os.listdir(top / "data/.sideways/tmp/deb")
        (tmp_path / "again").mkdir()
        again = Net(tmp_path / "again")
        again.site = Site("kent", str(top / "data"), str(top / "state"), reserve=0)
        again.ledger = net.ledger
        again.at(server.url)
        tree.many(1200)
        report = await again.run()
        assert report.outcome == "complete", report
        assert left and os.listdir(top / "data/.sideways/tmp/deb") == []


def courier_of(master: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == master:
                    found.append(int(name))
        except OSError:
            continue
    return found
