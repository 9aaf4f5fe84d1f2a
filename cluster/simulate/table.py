"""The table of schemes: what the origin sends where sites walk and know of each other in different ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cluster.model import Order, value
from cluster.simulate.play import play
from cluster.simulate.result import Result
from cluster.simulate.scenario import Member, Scenario, Share, Tells
from cluster.simulate.trees import made

SIZES = (2, 4, 8, 16)
SEEDS = (1, 2)


@value
class Cell:
    """The mean of some runs: bytes that the origin sent for each it has, and time in units of the bound."""

    sites: int
    dup: float
    times_bound: float


@dataclass(frozen=True, slots=True)
class Row:
    """One scheme. `scenario` has everything but the sites and the tree."""

    title: str
    scenario: Scenario


def _row(title: str, *orders: Order, **rules: object) -> Row:
    base = Scenario((), (), orders=orders, share=Share.FILE, ranges=False, patience=60.0)
    return Row(title, replace(base, **rules))  # type: ignore[arg-type]  # fields by name


FORWARD, BACKWARD = Order.FORWARD, Order.BACKWARD
ROWS = (
    _row("alone", FORWARD, tells=Tells.NOTHING),
    _row("same order, ask for complete files", FORWARD, tells=Tells.HELD),
    _row("same order, and claims on files in flight", FORWARD),
    _row("forward and backward, ask", FORWARD, BACKWARD, tells=Tells.HELD, apart=True),
    _row("forward and backward, claims", FORWARD, BACKWARD, apart=True),
    _row("seeded permutation, ask", Order.SHUFFLED, tells=Tells.HELD),
    _row("seeded permutation, a poll every 30 s that includes claims", Order.SHUFFLED, every=30.0),
    _row("seeded permutation, claims pushed", Order.SHUFFLED),
    _row("rendezvous owner, no stealing, poll every 30 s", Order.RENDEZVOUS, stealing=False, every=30.0),
    _row("rendezvous owner, stealing, no claims", Order.RENDEZVOUS, tells=Tells.HELD),
    _row("rendezvous owner, stealing, claims", Order.RENDEZVOUS),
    _row("rendezvous by directory, stealing, claims", Order.RENDEZVOUS, share=Share.DIRECTORY),
    _row(
        "rendezvous by directory, stealing, claims, ranges",
        Order.RENDEZVOUS,
        share=Share.DIRECTORY,
        ranges=True,
    ),
)


def cell(row: Row, count: int, *, seeds: Sequence[int] = SEEDS, files: int = 1500) -> Cell:
    """One scheme with `count` equal sites: links of 1 Gbit/s, 20 MB/s a connection, 40 GB in 1500 files."""
    members = tuple(Member(f"site{i}") for i in range(count))
    results: list[Result] = []
    for seed in seeds:
        tree = made(files, files * 40 * 10**9 // 1500, 0.02, 1.2, max(1, files // 25), seed)
        results.append(play(replace(row.scenario, members=members, files=tree, seed=seed)))
    return Cell(
        count,
        sum(r.dup for r in results) / len(results),
        sum(r.times_bound for r in results) / len(results),
    )


def table(sizes: Sequence[int] = SIZES) -> Iterator[tuple[str, list[Cell]]]:
    """Row by row, as each is ready: some minutes in all where there are 16 sites."""
    for row in ROWS:
        yield row.title, [cell(row, count) for count in sizes]
