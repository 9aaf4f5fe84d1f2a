"""Results as lines for people and as values for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.config.units import shown_duration
from cluster.model import Order
from cluster.simulate.result import Result
from cluster.simulate.scenario import Scenario, Tells
from cluster.simulate.table import Cell


def told(scenario: Scenario, results: Sequence[Result]) -> Iterator[str]:
    """What was asked, what became of each site in the first run, and the means of all."""
    sizes = [size for _, size in scenario.files]
    yield (
        f"{len(scenario.members)} sites, {len(sizes)} files, {_bytes(sum(sizes))}, the largest "
        f"{_bytes(max(sizes))}; {_rules(scenario)}"
    )
    yield ""
    yield (f"{'site':16} {'complete':>10} {'from origin':>12} {'sideways':>10} {'stolen':>7} {'gave way':>9}")
    first = results[0]
    for site in first.sites:
        when = _time(site.finished) if site.finished is not None else f"died {_time(site.died or 0.0)}"
        yield (
            f"{site.name:16} {when:>10} {_bytes(site.origin):>12} {_bytes(site.sideways):>10} "
            f"{site.stolen:>7} {site.gave_way:>9}"
        )
    yield ""
    count = len(results)
    dup = sum(r.dup for r in results) / count
    seconds = sum(r.seconds for r in results) / count
    over = f" (mean of {count} seeds; above, the first)" if count > 1 else ""
    yield (
        f"the origin sends {_bytes(dup * first.unique)}: {dup:.2f} times what it has, where "
        f"{len(scenario.members)} sites alone would take {len(scenario.members):.2f} times{over}"
    )
    yield (
        f"everybody is complete after {_time(seconds)}; no scheme needs less than {_time(first.bound)}: "
        f"{sum(r.times_bound for r in results) / count:.2f} times"
    )


def values(scenario: Scenario, results: Sequence[Result]) -> dict[str, Any]:
    """The same for a program: means, and every run."""
    count = len(results)
    return {
        "sites": [member.name for member in scenario.members],
        "files": len(scenario.files),
        "bytes": scenario.bytes,
        "dup": sum(r.dup for r in results) / count,
        "seconds": sum(r.seconds for r in results) / count,
        "bound": results[0].bound,
        "runs": [
            {
                "seed": seed,
                "origin": run.origin,
                "dup": run.dup,
                "seconds": run.seconds,
                "sites": [
                    {
                        "name": site.name,
                        "finished": site.finished,
                        "died": site.died,
                        "origin": site.origin,
                        "sideways": site.sideways,
                        "stolen": site.stolen,
                        "gave_way": site.gave_way,
                    }
                    for site in run.sites
                ],
            }
            for seed, run in enumerate(results, 1)
        ],
    }


def table_head(sizes: Sequence[int]) -> Iterator[str]:
    """What the columns are."""
    yield "dup: bytes the origin sends for each that it has; t: time until all are complete, in units of the"
    yield "least possible. Means of two seeds; the model and its limits: `sideways simulate --help`"
    yield ""
    yield f"{'':60}" + "".join(f"{f'N={count}':>7}{'t':>6}" for count in sizes)


def table_row(title: str, cells: Sequence[Cell]) -> str:
    return f"{title:60}" + "".join(f"{cell.dup:7.2f}{cell.times_bound:6.2f}" for cell in cells)


def table_values(title: str, cells: Sequence[Cell]) -> dict[str, Any]:
    return {
        "scheme": title,
        "cells": [{"sites": c.sites, "dup": c.dup, "times_bound": c.times_bound} for c in cells],
    }


def _rules(scenario: Scenario) -> str:
    orders = " and ".join(dict.fromkeys(str(scenario.order(i)) for i in range(len(scenario.members))))
    parts = [orders]
    if scenario.tells is Tells.NOTHING:
        parts.append("nothing told")
    else:
        what = "claims" if scenario.tells is Tells.CLAIMS else "complete files only"
        parts.append(f"{what} {f'asked for every {scenario.every:g} s' if scenario.every else 'pushed'}")
    if Order.RENDEZVOUS in [scenario.order(i) for i in range(len(scenario.members))]:
        parts[0] += f" by {scenario.share}"
        parts.append("stealing" if scenario.stealing else "no stealing")
    parts.append("ranges" if scenario.ranges else "no ranges")
    return ", ".join(parts)


def _time(seconds: float) -> str:
    return shown_duration(round(seconds, 1) if seconds < 60 else round(seconds))


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
