"""A cluster of real daemons, an origin that changes, and what may happen to sites and between them.

A seed makes the same story again, but for how long the machine takes for each of its steps. Every `CYCLE` the
story rests: everything is healed, the sites must become equal to the origin, and every oracle is asked.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from cluster import control
from cluster.errors import SidewaysError
from cluster.store.mirror import Reader
from tests.cluster_of import AT_ONCE, SECRET, ClusterOf, differences
from tests.invariants import check_disk
from tests.servers import Server
from tests.soak import accounts
from tests.soak.accounts import Account, Trouble
from tests.soak.changing import Changing
from tests.soak.network import Network, State

CYCLE = 60.0  # s of trouble before a rest
PASSES = 6  # at each site, in which everything must have become equal
UP = 300.0  # s until sites that are well again know of each other
MOST_MEMORY = 400 * 2**20  # bytes resident of one daemon
MOST_FILES = 300  # open in one daemon, when it rests
TRASH = "60s"
SCHEDULE = 'every="60s" jitter="30s"'  # beside pushes, and what siblings publish
POLICY = f"""{AT_ONCE.replace("/>", f' trash="{TRASH}"/>')}
  <sideways patience="5s"/>"""


class Sites(ClusterOf):
    """A cluster in which each site reads a configuration of its own: it finds its siblings behind relays."""

    def __init__(self, folder: Path, names: Sequence[str], network: Network) -> None:
        super().__init__(folder, names)
        self.network = network

    def root_of(self, site: str) -> Path:
        return self.folder / "roots" / site

    def spread(self) -> None:
        """To be called when all mirrors are there and before anything starts."""
        self.make_keys()
        for site in self.names:
            root = self.root_of(site)
            shutil.copytree(self.root, root)
            for other in self.names:
                if other != site:
                    self._behind_a_relay(root / "sites" / f"{other}.toml", site, other)
            (root / "origin.password").write_text(f"{site}:{SECRET}\n")  # the origin's log tells who asked
            (root / "origin.password").chmod(0o600)

    def _behind_a_relay(self, file: Path, site: str, other: str) -> None:
        port = self.network.way((site, other), self.ports[other])
        told = file.read_text()
        direct = f'url = "https://127.0.0.1:{self.ports[other]}"'
        assert direct in told
        file.write_text(told.replace(direct, f'url = "https://127.0.0.1:{port}"'))

    # -- what happens to processes

    def launch(self, name: str) -> None:
        """Without waiting for it."""
        self._processes[name] = self.run(["run", "--site", name], self.log(name), root=self.root_of(name))

    def alive(self) -> list[str]:
        return [name for name, process in self._processes.items() if process.poll() is None]

    def send(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    async def siblings(self, name: str) -> dict[str, bool]:
        answer = await control.ask(self.site(name).state, {"command": "siblings"})
        return answer["siblings"] if answer else {}


class Chaos:
    """One story. `seconds` is how long trouble lasts, all cycles together."""

    def __init__(
        self,
        cluster: Sites,
        origin: Changing,
        server: Server,
        chance: random.Random,
        say: Callable[[str], None],
    ) -> None:
        self.cluster, self.origin, self.server, self.chance = cluster, origin, server, chance
        self.network, self._tell = cluster.network, say
        self.steps: deque[str] = deque(maxlen=60)
        self.number = 0
        self.deaths: list[Trouble] = []
        self.troubles: list[Trouble] = []
        self._open: dict[object, tuple[float, frozenset[str]]] = {}  # troubles that go on
        self._ends: list[tuple[int, str, Callable[[], None]]] = []  # step, what, how a trouble ends
        self._frozen: set[str] = set()
        self._down: set[str] = set()
        self._origin_away = False
        self._began = time.monotonic()
        self._asked: set[asyncio.Task[None]] = set()
        self._read: dict[str, int] = {}  # of each log
        self.largest: dict[str, int] = {}

    def say(self, what: str) -> None:
        line = f"{time.monotonic() - self._began:7.1f} s, step {self.number}: {what}"
        self.steps.append(line)
        self._tell(line)

    # -- trouble

    async def trouble(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.number += 1
            self._end_what_is_over()
            for _ in range(self.chance.randrange(4)):
                self.say(self.origin.step())
            if self.chance.random() < 0.35:
                self._one_trouble()
            if self.chance.random() < 0.7:
                self._push()
            await asyncio.sleep(self.chance.uniform(0.1, 2.0))
            self._look()

    def _end_what_is_over(self, *, all_: bool = False) -> None:
        over = [end for end in self._ends if all_ or end[0] <= self.number]
        self._ends = [end for end in self._ends if end not in over]
        for _, what, act in over:
            self.say(what)
            act()

    def _later(self, what: str, act: Callable[[], None], most: int = 12) -> None:
        self._ends.append((self.number + self.chance.randrange(1, most), what, act))

    def _well(self) -> list[str]:
        return [name for name in self.cluster.names if name not in self._down | self._frozen]

    def _one_trouble(self) -> None:
        kinds: tuple[tuple[Callable[[], None], int], ...] = (
            (self._kill, 4), (self._freeze, 2), (self._stop, 1), (self._partition, 4), (self._one_way, 2),
            (self._origin_leaves, 1),
        )  # fmt: skip
        acts, weights = zip(*kinds, strict=True)
        self.chance.choices(acts, weights)[0]()

    def _one_of_many(self) -> str | None:
        """Somebody who is well, while more than half would stay well without it."""
        well = self._well()
        return self.chance.choice(well) if len(well) > (len(self.cluster.names) + 1) // 2 else None

    def _kill(self) -> None:
        if (name := self._one_of_many()) is None:
            return
        self.say(f"kill {name}")
        self._alive(name)
        self.cluster.kill(name)
        self._dies(name)
        self._down.add(name)
        self.disk(name)
        self._later(f"start {name}", lambda: self._start(name))

    def _stop(self) -> None:
        if (name := self._one_of_many()) is None:
            return
        self.say(f"stop {name}")
        self._alive(name)
        self._dies(name)
        self.cluster.send(name, signal.SIGTERM)
        self._down.add(name)
        self._later(f"start {name} again", lambda: self._again(name), most=6)

    def _again(self, name: str) -> None:
        self.cluster.stop(name)
        self._start(name)

    def _start(self, name: str) -> None:
        self.cluster.launch(name)
        self._down.discard(name)
        self._over(name)

    def _dies(self, name: str) -> None:
        now = time.time()
        self.deaths.append(Trouble(now, now, frozenset({name})))
        self._begins(name)

    def _begins(self, *sites: str) -> None:
        self._open.setdefault(sites, (time.time(), frozenset(sites)))

    def _over(self, *sites: str) -> None:
        begin, who = self._open.pop(sites)
        self.troubles.append(Trouble(begin, time.time(), who))

    def _freeze(self) -> None:
        if (name := self._one_of_many()) is None:
            return
        self.say(f"freeze {name}")
        self._alive(name)
        self.cluster.send(name, signal.SIGSTOP)
        self._frozen.add(name)
        self._begins(name)
        self._later(f"thaw {name}", lambda: self._thaw(name))

    def _thaw(self, name: str) -> None:
        self.cluster.send(name, signal.SIGCONT)
        self._frozen.discard(name)
        self._over(name)

    def _partition(self) -> None:
        self._apart(*self.chance.sample(self.cluster.names, 2), both=True)

    def _one_way(self) -> None:
        self._apart(*self.chance.sample(self.cluster.names, 2), both=False)

    def _apart(self, one: str, other: str, *, both: bool) -> None:
        if self.network.troubled().keys() & {(one, other), (other, one)}:
            return
        state = self.chance.choice([State.CUT, State.HOLE, State.SLOW])
        pairs = [(one, other), (other, one)][: 1 + both]
        self.say(f"{one} {'and' if both else 'to'} {other}: {state.value}")
        self._begins(one, other)
        for pair in pairs:
            self.network.set(pair, state)

        def end() -> None:
            self._over(one, other)
            for pair in pairs:
                self.network.set(pair, State.OPEN)

        self._later(f"{one} {'and' if both else 'to'} {other}: open", end)

    def _origin_leaves(self) -> None:
        if self._origin_away:
            return
        self.say("the origin does not answer")
        self._origin(signal.SIGSTOP)
        self._later("the origin answers", lambda: self._origin(signal.SIGCONT), most=4)

    def _origin(self, number: signal.Signals) -> None:
        self._origin_away = number is signal.SIGSTOP
        for pid in _family(self.server.process.pid):
            os.kill(pid, number)

    def _push(self) -> None:
        well = self._well()
        if not well:
            return
        name = self.chance.choice(well)
        self.say(f"push at {name}")

        async def ask() -> None:
            with suppress(SidewaysError, TimeoutError):
                async with asyncio.timeout(10):
                    await control.ask(
                        self.cluster.site(name).state, {"command": "push", "mirror": "m", "path": ""}
                    )

        task = asyncio.ensure_future(ask())
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    # -- what is looked at all the time

    def _alive(self, name: str) -> None:
        assert name in self.cluster.alive(), f"{name} has ended by itself\n{self._tail(name)}"

    def _look(self) -> None:
        for name in self._well():
            self._alive(name)
            resident = _resident(self.cluster.pid(name))
            self.largest[name] = max(resident, self.largest.get(name, 0))
            assert resident <= MOST_MEMORY, f"{name}: {resident / 2**20:.0f} MiB resident"
        for name in self.cluster.names:
            self._no_traceback(name)

    def _no_traceback(self, name: str) -> None:
        """Only what was not looked at before is read."""
        log = self.cluster.log(name)
        if log.exists():
            with log.open("rb") as file:
                file.seek(self._read.get(name, 0))
                told = file.read()
            self._read[name] = self._read.get(name, 0) + len(told)
            bad = [line for line in told.decode("utf-8", "replace").splitlines() if "Traceback" in line]
            assert not bad, f"{name}: {bad[0]}\n{self._tail(name)}"

    def disk(self, name: str) -> None:
        """What holds in the very moment after a kill."""
        check_disk(
            self.cluster.site(name),
            self.cluster.definition(name, "m"),
            self.cluster.ledger,
            self.cluster.canary,
        )

    def _tail(self, name: str) -> str:
        return self.cluster.log(name).read_text("utf-8", "replace")[-2000:]

    # -- rest

    async def rest(self) -> None:
        """Heal everything, and let nothing change until all sites are equal to the origin. Raises
        AssertionError where they do not become so, or anything is not as it must be."""
        self._end_what_is_over(all_=True)
        self.network.heal()
        self.say("everything is well again")
        await asyncio.gather(*self._asked)
        began = time.monotonic()
        await self._until(self._everybody_answers, "every site answers")
        count = 1
        while told := self._unequal(await self._passes()):
            assert count < PASSES, f"not equal after {count} passes:\n" + "\n".join(told)
            count += 1
        self.say(f"equal after {count} passes and {time.monotonic() - began:.1f} s")
        await self._check()
        self.say(f"all is as it must be; {self.account()}")

    async def _everybody_answers(self) -> bool:
        for name in self.cluster.names:
            self._alive(name)
            if await control.ask(self.cluster.site(name).state, {"command": "siblings"}) is None:
                return False
        return True

    async def _until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        until = time.monotonic() + UP
        while not await holds():
            assert time.monotonic() < until, f"not within {UP:.0f} s: {what}"
            await asyncio.sleep(0.1)

    async def _passes(self) -> dict[str, dict[str, Any]]:
        async with asyncio.timeout(UP):
            return await self.cluster.passes("m")

    def _unequal(self, results: dict[str, dict[str, Any]]) -> list[str]:
        """What is not yet as it should be; the last pass must also have had nothing to do."""
        told = []
        for name, result in results.items():
            files = result["files"]
            if result["outcome"] != "complete":
                told.append(f"{name}: {result['outcome']}: {result.get('errors')}")
            if done := {k: files[k] for k in ("origin", "sideways", "deleted") if files[k]}:
                told.append(f"{name}: was not done: {done}")
            public = self.cluster.public(name, "m")
            origin = Path(os.fsdecode(self.origin.root))
            told += [f"{name}: {line}" for line in differences(origin, public, links=False)[:5]]
        return told

    async def _check(self) -> None:
        await self.cluster.check("m")
        digests = {name: await self._digest(name) for name in self.cluster.names}
        assert len(set(digests.values())) == 1, f"equal trees have different digests: {digests}"
        for name in self.cluster.names:
            site, pid = self.cluster.site(name), self.cluster.pid(name)
            with closing(sqlite3.connect(f"file:{site.state}/m.db?mode=ro", uri=True)) as store:
                assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)], name
                assert not store.execute("PRAGMA foreign_key_check").fetchall(), name
            files = len(os.listdir(f"/proc/{pid}/fd"))
            assert files <= MOST_FILES, f"{name}: {files} open files"
        self.say(
            "memory "
            + ", ".join(f"{name} {_resident(self.cluster.pid(name)) >> 20}" for name in self.cluster.names)
        )

    async def _digest(self, name: str) -> bytes | None:
        reader = await Reader.open("m", self.cluster.site(name))
        try:
            return await reader.digest(b"")
        finally:
            await reader.close()

    def account(self) -> Account:
        log = self.server.folder / "versions.log"
        return accounts.account(
            accounts.read(log.read_text("utf-8", "backslashreplace").splitlines()),
            self.deaths,
            [*self.troubles, *(Trouble(begin, time.time(), who) for begin, who in self._open.values())],
        )


def _family(pid: int) -> list[int]:
    """A process and its children (proc(5))."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [pid, *map(int, file.read().split())]


def _resident(pid: int) -> int:
    """Bytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
