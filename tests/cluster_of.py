"""Real sites over a real origin: daemons as processes of their own, on free ports, with fresh keys.

    with ClusterOf(tmp_path, ["kent", "oslo"]) as cluster:
        cluster.mirror("m", server.url, order="forward")
        await cluster.start()
        results = await cluster.passes("m")
        await cluster.check()

The processes end with the test process, however that ends.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from xml.sax.saxutils import quoteattr

from cluster import control
from cluster.config.load import load
from cluster.errors import SidewaysError
from cluster.model import Cluster, Mirror, Site
from cluster.peer import keys
from tests.invariants import Canary, Ledger, check_invariants, public_root
from tests.servers import free_port, program

READY = 120.0  # s until a daemon answers, on a machine that does much else
SECRET = "canary-pass-4711"  # the origin's password: never in a log, a status or an argument
AT_ONCE = '<delete hold-files="1000000" sightings="1" grace="0s" emptied-after="0s"/>'


class ClusterOf:
    """Sites `names` in `folder`. Use it as a context: leaving it ends every process."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.root, self.names = folder, folder / "cluster", list(names)
        self.ledger, self.canary = Ledger(), Canary(folder / "canary")
        self.ledger.secrets.add(SECRET.encode())
        self.entry: Sequence[str] = ("-m", "cluster")  # how the interpreter is told to be `sideways`
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {name: free_port() for name in names}
        for below in ("config/mirrors", "sites"):
            (self.root / below).mkdir(parents=True)
        (self.root / "config" / "cluster.toml").write_text('name = "test"\n')
        secret = self.root / "origin.password"
        secret.write_text(f"user:{SECRET}\n")
        secret.chmod(0o600)
        for name in names:
            self._site(name)

    def _site(self, name: str) -> None:
        place = self.folder / name
        for below in ("data", "state"):
            (place / below).mkdir(parents=True)
        peer, web = f"127.0.0.1:{self.ports[name]}", f"127.0.0.1:{free_port()}"
        (self.root / "sites" / f"{name}.toml").write_text(
            f'name = "{name}"\ndata = "{place}/data"\nstate = "{place}/state"\nreserve = 0\n'
            f'web = "{web}"\npublic_url = "http://{web}"\n\n'
            f'[peer]\nurl = "https://{peer}"\nlisten = "{peer}"\ncertificate = "{name}.pem"\n'
        )

    def mirror(
        self,
        name: str,
        url: str,
        *,
        order: str = "rendezvous",
        schedule: str = 'paused="yes"',
        extra: str = AT_ONCE,
    ) -> None:
        """Add a descriptor; without another `schedule` passes begin only when they are asked for."""
        credentials = ' credentials="../../origin.password"' if url.startswith("http") else ""
        (self.root / "config" / "mirrors" / f"{name}.xml").write_text(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<mirror name="{name}">\n  <title>{name}</title>\n'
            f"  <path>/{name}</path>\n"
            f'  <origin url={quoteattr(url)} private="yes"{credentials}/>\n'
            f'  <schedule {schedule}/>\n  <walk order="{order}"/>\n  {extra}\n</mirror>\n'
        )

    def order_of(self, site: str, mirror: str, order: str) -> None:
        """This site's own walk order for a mirror."""
        with (self.root / "sites" / f"{site}.toml").open("a") as file:
            file.write(f'\n[mirrors.{mirror}.walk]\norder = "{order}"\n')

    @property
    def cluster(self) -> Cluster:
        return load(str(self.root))

    def site(self, name: str) -> Site:
        return self.cluster.sites[name]

    def definition(self, site: str, mirror: str) -> Mirror:
        return load(str(self.root), site).mirrors[mirror]

    def public(self, site: str, mirror: str) -> Path:
        return Path(os.fsdecode(public_root(self.site(site), self.definition(site, mirror))))

    def log(self, site: str) -> Path:
        return self.folder / f"{site}.log"

    # -- processes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._processes):
            self.stop(name)

    def make_keys(self) -> None:
        for site in self.cluster.sites.values():
            keys.make(site, site.state)

    async def start(self, *names: str) -> None:
        """Start these sites (or all), and wait until they answer and have heard of all that run. (Those that
        ran before may set a sibling that died aside for a minute.)"""
        if not any((self.root / "sites").glob("*.pem")):
            self.make_keys()
        for name in names or self.names:
            self._processes[name] = self.run(["run", "--site", name], self.log(name), root=self.root_of(name))
        for name in names or self.names:
            await self._until(name, lambda answer: answer is not None)
        running = {n for n, p in self._processes.items() if p.poll() is None}
        for name in names or self.names:
            await self._until(
                name, lambda answer, n=name: all(answer["siblings"].get(s) for s in running - {n})
            )

    def root_of(self, _site: str) -> Path:
        """Where a site's daemon reads its configuration."""
        return self.root

    def run(
        self, arguments: Sequence[str], log: Path, *before: str, root: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """`sideways ARGUMENTS` as a process that ends with this one."""
        command = [*before, program("setpriv"), "--pdeathsig", "KILL", sys.executable, *self.entry]
        with log.open("ab") as sink:
            return subprocess.Popen(
                [*command, "-C", str(root or self.root), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    async def _until(self, name: str, satisfied: Any) -> None:
        deadline = time.monotonic() + READY
        while True:
            answer = await control.ask(self.site(name).state, {"command": "siblings"})
            if answer is not None and satisfied(answer):
                return
            assert self._processes[name].poll() is None and time.monotonic() < deadline, (
                f"{name} does not come up: {answer}\n{self.log(name).read_text()[-3000:]}"
            )
            await asyncio.sleep(0.05)

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(12)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    # -- passes

    async def one_pass(self, site: str, mirror: str) -> dict[str, Any]:
        """The result of a pass that the site's daemon runs. Raises SidewaysError where it is cut off."""
        result = await control.ask(self.site(site).state, {"command": "pass", "mirror": mirror, "path": ""})
        assert result is not None, f"{site}: no daemon"
        return result

    async def passes(
        self, mirror: str, sites: Sequence[str] = (), *, may_die: str = ""
    ) -> dict[str, dict[str, Any]]:
        """One pass at each site, begun at the same second."""
        names = list(sites or self.names)
        answers = await asyncio.gather(
            *(self.one_pass(name, mirror) for name in names), return_exceptions=True
        )
        results: dict[str, dict[str, Any]] = {}
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, SidewaysError) and name == may_die:
                continue
            if isinstance(answer, BaseException):
                raise AssertionError(f"{name}: {answer}\n{self.log(name).read_text()[-3000:]}") from answer
            results[name] = answer
        return results

    # -- oracles

    async def check(self, mirror: str, *sites: str, partials: int = 0) -> None:
        """Every invariant at each of these sites (or all)."""
        logs = [self.log(name) for name in self.names]
        for name in sites or self.names:
            await check_invariants(
                self.site(name),
                self.definition(name, mirror),
                self.ledger,
                self.canary,
                logs=logs,
                partials=partials,
            )
            if self.log(name).exists():
                assert "Traceback" not in self.log(name).read_text(), f"{name}: a traceback in its log"


def differences(origin: Path, public: Path, *, links: bool, left_out: Sequence[str] = ()) -> list[str]:
    """What rsync would change to make `public` equal to `origin`: names, contents, times; with `links` also
    links of both kinds. Over HTTP links look like files, and directories have times by the minute."""
    kinds = "-nrlHtci" if links else "-nrLtcOi"
    command = [program("rsync"), kinds, "--delete", *(f"--exclude={name}" for name in left_out)]
    done = subprocess.run([*command, f"{origin}/", f"{public}/"], capture_output=True, check=False)
    told = done.stdout.decode("utf-8", "backslashreplace").splitlines()
    return told if done.returncode == 0 else [*told, done.stderr.decode("utf-8", "replace")]
