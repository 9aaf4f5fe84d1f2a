"""Table 7: how fast a site copies what a sibling has, beside rsync from a daemon that has it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from tests import servers
from tests.bench import sites, volumes
from tests.bench.alone import OURS, TIMES, Contest, alternating
from tests.bench.link import link
from tests.bench.measure import Bench, Unusable, asked, require_copy, synced, timed
from tests.bench.table import Table
from tests.bench.together import TWO
from tests.bench.trees import Tree

RSYNC, FSYNC = "rsync -a, sync -f", "rsync -a --fsync"
FAR = 0.020  # s one way between two sites: 40 ms there and back
LARGE_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """Some rows: a tree, where copies lie, how far the sibling is, what is demanded beside which peer."""

    tree: str
    disk: bool  # the one that all other tables are measured on; else in memory
    delay: float  # s one way
    peers: tuple[str, ...]
    demanded: str
    limit: float  # times that peer's seconds


CASES = (
    Case("T1", disk=False, delay=0.0, peers=(RSYNC,), demanded=RSYNC, limit=1.6),
    Case("T1", disk=True, delay=0.0, peers=(RSYNC, FSYNC), demanded=FSYNC, limit=0.7),
    Case("T1", disk=False, delay=FAR, peers=(RSYNC,), demanded=RSYNC, limit=1.0),
    Case("T3", disk=False, delay=0.0, peers=(RSYNC,), demanded=RSYNC, limit=1.8),
)


def from_sibling(bench: Bench, table: Table) -> None:
    """Table 7."""
    table.head = ("copy", "contestant", *TIMES, "requests", "file MB sent")
    table.about = (
        "Initial pass as a foreground command at a site whose sibling, a daemon on the same machine, has "
        "it all: listings from the origin, bodies over mutual TLS from the sibling. Beside it rsync from "
        "a daemon over the same tree, which neither encrypts, nor hashes, nor (without `--fsync`) syncs. "
        f"With a round trip it is that to the sibling and to rsync's daemon. {bench.rounds} alternating "
        f"rounds, of T3 at most {LARGE_ROUNDS}."
    )
    for case in CASES:
        tree = bench.tree(case.tree)
        room = 2.2 * tree.bytes + 8192.0 * tree.files + 3e8  # two copies at a time, and their records
        with (volumes.disk if case.disk else volumes.tmpfs)(bench, room) as (where, there):
            contest = _contest(there, tree, case)
            there.fresh("together")
            there.fresh("rsync")
        far = f", {2000 * case.delay:.0f} ms" if case.delay else ""
        table.rows += [(f"{case.tree}, {where}{far}", *row) for row in contest.rows()]
        table.verdicts += contest.against(OURS, case.demanded, case.limit, f"{case.tree}, {where}{far}: time")


def _contest(bench: Bench, tree: Tree, case: Case) -> Contest:
    contest = Contest()
    with _sibling(bench, tree, case.delay) as (nginx, empty, rsync_url):

        def ours() -> None:
            bench.fresh("rsync")
            sites.emptied(empty)
            nginx.forget()
            run = timed(OURS, empty.one_pass(), synced(empty.folder))
            told = sites.require_complete(run)
            require_copy(OURS, tree, empty.copy)
            if told["files"]["sideways"] != tree.files:
                raise Unusable(f"{OURS}: {told['files']['origin']} files came from the origin")
            contest.note(OURS, run, asked(nginx))

        def rsynced(name: str, *options: str) -> None:
            sites.emptied(empty)
            copy = bench.fresh("rsync")
            command = ["rsync", "-a", *options, rsync_url, f"{copy}/"]
            contest.note(name, timed(name, command, *([] if options else [synced(copy)])), None)
            require_copy(name, tree, copy)

        options = {RSYNC: (), FSYNC: ("--fsync",)}
        rounds = min(bench.rounds, LARGE_ROUNDS) if case.tree == "T3" else bench.rounds
        alternating(rounds, [ours, *(partial(rsynced, name, *options[name]) for name in case.peers)])
    return contest


@contextmanager
def _sibling(bench: Bench, tree: Tree, delay: float) -> Iterator[tuple[servers.Server, sites.Place, str]]:
    """The origin, a site that is empty and whose sibling has it all, and where rsync reads the same tree."""
    with servers.nginx(tree.root) as nginx, servers.rsyncd(tree.root) as rsync:
        full, empty = sites.cluster(bench.fresh("together"), nginx.url, TWO)
        sites.require_complete(timed(full.name, full.one_pass()))
        with sites.daemons([full], alone=True), _way((sites.peer_port(full), rsync.port), delay) as ports:
            peer, rsync_port = ports
            yield (
                nginx,
                sites.behind(empty, siblings={full.name: peer}),
                rsync.url.replace(f":{rsync.port}/", f":{rsync_port}/"),
            )


def _way(ports: Sequence[int], delay: float) -> AbstractContextManager[Sequence[int]]:
    return link(ports, delay, math.inf) if delay else nullcontext(ports)
