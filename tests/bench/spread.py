"""Table 11: how soon a file that the origin publishes is at every site."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from cluster import control
from tests import servers
from tests.bench import sites
from tests.bench.measure import Bench, Started, Unusable
from tests.bench.table import Table, Verdict

COUNT = 8
PUBLISHED = 40  # files, one after the other
SIZES = (2_000, 20_000, 200_000, 5_000_000)  # bytes, in turn
EVERYWHERE = 5.0  # s, of 95 in 100 files
ALLOWED = 120.0  # s that one file may take
PAUSE = 1.5  # s at most from one file to the next
LOOK = 0.005  # s between two looks at the copies


def spread(bench: Bench, table: Table) -> None:
    """Table 11."""
    tree = bench.tree("T1")
    table.head = ("from the push at one site", "median s", "95 % s", "longest s")
    table.about = (
        f"{COUNT} sites that hold T1, {tree.files} files. A file of 2 kB to 5 MB is published at the origin, "
        f"one site in turn is told by `sideways push`, and the others hear of it from their siblings; "
        f"{PUBLISHED} times. A file is at a site when its public name is there."
    )
    origin = bench.fresh("origin") / "tree"
    subprocess.run(["cp", "-al", tree.root, origin], check=True)
    with servers.nginx(origin) as nginx:
        places = sites.cluster(bench.fresh("together"), nginx.url, ["rendezvous"] * COUNT, paused=False)
        with sites.daemons(places):
            for one in [Started(place.name, [place.one_pass()]) for place in places]:
                sites.require_complete(one.wait())
            found = asyncio.run(_all_published(origin, places, bench.fresh("aside")))
    for what, times in (
        ("to the first site that has it", [first for first, _ in found]),
        ("to all of them", [last for _, last in found]),
        ("from the first site to all", [last - first for first, last in found]),
    ):
        table.rows.append((what, *(f"{share(times, part):.2f}" for part in (0.5, 0.95, 1.0))))
    everywhere = share([last for _, last in found], 0.95)
    table.verdicts.append(Verdict("push to all sites, 95 %, s", everywhere, EVERYWHERE))
    for name in ("together", "origin", "aside"):
        bench.fresh(name)


def share(times: Sequence[float], part: float) -> float:
    """The least time that is not exceeded by that part of them."""
    ordered = sorted(times)
    return ordered[max(0, -int(-part * len(ordered) // 1) - 1)]


async def _all_published(
    origin: Path, places: Sequence[sites.Place], aside: Path
) -> list[tuple[float, float]]:
    chance = random.Random(11)
    folders = sorted(folder for folder in origin.rglob("*") if folder.is_dir())
    found = []
    for number in range(PUBLISHED):
        new = aside / "new"
        new.write_bytes(chance.randbytes(SIZES[number % len(SIZES)]))
        path = chance.choice(folders) / f"published-{number:03}"
        new.rename(path)
        found.append(await _seen(path.relative_to(origin), places, places[number % len(places)]))
        await asyncio.sleep(chance.uniform(0.1, PAUSE))
    return found


async def _seen(path: Path, places: Sequence[sites.Place], pushed: sites.Place) -> tuple[float, float]:
    """Seconds from the push until the first site has the file, and until all have it."""
    began, first = time.monotonic(), 0.0
    told = await control.ask(
        str(pushed.folder / "state"), {"command": "push", "mirror": sites.MIRROR, "path": ""}
    )
    if told is None:
        raise Unusable(f"{pushed.name}: no daemon answers")
    missing = [os.fspath(place.copy / path) for place in places]
    while missing:
        missing = [one for one in missing if not os.path.exists(one)]
        now = time.monotonic() - began
        if not first and len(missing) < len(places):
            first = now
        if now > ALLOWED:
            raise Unusable(f"{path}: not at every site after {ALLOWED:.0f} s: {', '.join(missing)}")
        await asyncio.sleep(LOOK)
    return first, now
