"""Sites of ours for the bench: a configuration folder, keys, daemons."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cluster import control
from cluster.config.load import load
from cluster.peer import keys
from tests.bench.measure import Command, Run, Unusable
from tests.servers import free_port

MIRROR = "bench"
READY = 30.0  # s until daemons answer and know each other

_DESCRIPTOR = """<?xml version="1.0" encoding="UTF-8"?>
<mirror name="{mirror}">
  <title>Benchmark</title>
  <path>/{mirror}</path>
  <origin url="{origin}" private="yes"/>
  <schedule every="24h" paused="{paused}"/>
  <walk order="{order}"/>
  <limits connections="{connections}"/>
  {extra}
</mirror>
"""
RELAYED = '<sideways listings="5m"/>'


@dataclass(frozen=True, slots=True)
class Place:
    """One site on this machine."""

    name: str
    configuration: Path
    folder: Path

    @property
    def copy(self) -> Path:
        return self.folder / "data" / MIRROR

    def command(self, verb: str, *arguments: str) -> Command:
        """`sideways VERB --site NAME ...`, as a user starts it."""
        sideways = Path(sys.executable).with_name("sideways")
        return [str(sideways), "-C", str(self.configuration), verb, "--site", self.name, *arguments]

    def one_pass(self) -> Command:
        return self.command("pass", "--json", MIRROR)


def cluster(
    folder: Path,
    origin: str,
    orders: Sequence[str],
    *,
    together: bool = True,
    connections: int = 8,
    paused: bool = True,
    extra: str = "",
) -> list[Place]:
    """One site for each walk order, in `folder`; with keys and addresses when they work `together`. `paused`:
    passes begin only when they are asked for. `extra` goes into the descriptor."""
    configuration = folder / "cluster"
    (configuration / "config" / "mirrors").mkdir(parents=True)
    (configuration / "sites").mkdir()
    (configuration / "config" / "cluster.toml").write_text('name = "bench"\n')
    (configuration / "config" / "mirrors" / f"{MIRROR}.xml").write_text(
        _DESCRIPTOR.format(
            mirror=MIRROR,
            origin=origin,
            order=orders[0],
            paused="yes" if paused else "no",
            connections=connections,
            extra=extra,
        )
    )
    places = [Place(f"site{n}", configuration, folder / f"site{n}") for n in range(1, len(orders) + 1)]
    for place, order in zip(places, orders, strict=True):
        _write_site(place, order, together)
    if together:
        for site in load(str(configuration)).sites.values():
            keys.make(site, site.state)
    return places


def _write_site(place: Place, order: str, together: bool) -> None:
    for name in ("data", "state"):
        (place.folder / name).mkdir(parents=True)
    text = (
        f'name = "{place.name}"\ndata = "{place.folder / "data"}"\nstate = "{place.folder / "state"}"\n'
        f'reserve = "0"\n'
    )
    if together:
        peer = f"127.0.0.1:{free_port()}"
        text += f'[peer]\nurl = "https://{peer}"\nlisten = "{peer}"\ncertificate = "{place.name}.pem"\n'
    text += f'[mirrors.{MIRROR}.walk]\norder = "{order}"\n'
    (place.configuration / "sites" / f"{place.name}.toml").write_text(text)


def sharing(count: int) -> tuple[str, ...]:
    """The walk orders of so many sites that share the work."""
    return ("rendezvous",) * count


def behind(place: Place, origin: int | None = None, siblings: Mapping[str, int] | None = None) -> Place:
    """The same site with a configuration of its own, in which the origin and these siblings are reached at
    other ports: those of links."""
    configuration = place.folder / "cluster"
    shutil.rmtree(configuration, ignore_errors=True)
    shutil.copytree(place.configuration, configuration)
    if origin is not None:
        _other_port(configuration / "config" / "mirrors" / f"{MIRROR}.xml", r'origin url="http', origin)
    for name, port in (siblings or {}).items():
        _other_port(configuration / "sites" / f"{name}.toml", r'url = "https', port)
    return replace(place, configuration=configuration)


def _other_port(file: Path, before: str, port: int) -> None:
    text, found = re.subn(rf"({before}://127\.0\.0\.1:)\d+", rf"\g<1>{port}", file.read_text())
    assert found == 1, f"{file}: {before} stands there {found} times"
    file.write_text(text)


def emptied(place: Place) -> None:
    """A site that was, without its copy and its records; its key stays."""
    shutil.rmtree(place.folder / "data")
    (place.folder / "data").mkdir()
    for entry in (place.folder / "state").iterdir():
        if entry.name.startswith(("marker", MIRROR, "status")):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    subprocess.run(["sync", "-f", place.folder], check=True)


def peer_port(place: Place) -> int:
    """Where its siblings expect this site."""
    peer = load(str(place.configuration)).sites[place.name].peer
    assert peer is not None, "this site was made to work alone"
    return int(peer.listen.rpartition(":")[2])


@contextmanager
def daemons(places: Sequence[Place], *, alone: bool = False) -> Iterator[dict[str, int]]:
    """The sites' daemons, up and (but for `alone`) with every sibling up; yields process ids by site."""
    with ExitStack() as stack:
        running = {place.name: stack.enter_context(_daemon(place)) for place in places}
        asyncio.run(_ready(places, running, alone))
        yield {name: process.pid for name, process in running.items()}


@contextmanager
def _daemon(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    with (place.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *place.command("run")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _ready(places: Sequence[Place], running: dict[str, subprocess.Popen[bytes]], alone: bool) -> None:
    until = time.monotonic() + READY
    for place in places:
        while not await _up(place, alone):
            if running[place.name].poll() is not None or time.monotonic() > until:
                last = (place.folder / "log").read_text("utf-8", "replace").strip().splitlines()[-1:]
                raise Unusable(f"{place.name}: its daemon is not ready: {' '.join(last)}")
            await asyncio.sleep(0.05)


async def _up(place: Place, alone: bool) -> bool:
    """It answers, and its siblings answer it."""
    told = await control.ask(str(place.folder / "state"), {"command": "siblings"})
    return told is not None and (alone or all(told["siblings"].values()))


@contextmanager
def mute(port: int) -> Iterator[None]:
    """A sibling that accepts connections and never answers: the kernel accepts, nobody reads."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
        yield


def require_complete(run: Run) -> dict[str, dict[str, int]]:
    """What a pass says of itself. Raises Unusable unless it was complete."""
    told: dict[str, dict[str, int]] = json.loads(run.out)
    if str(told["outcome"]) != "complete":
        raise Unusable(f"ours: the pass was {told['outcome']}: {told['errors']}")
    return told


def cpu_of(pid: int) -> float:
    """Seconds of user and system time that a process has used, with the children that it has now or has
    waited for: a daemon's courier is one (proc(5))."""
    used = 0.0
    for process in (pid, *_children(pid)):
        with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{process}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
            used += sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return used


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def peak_of(pid: int) -> int:
    """The most memory that a process has held, in bytes (proc(5), VmHWM)."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
