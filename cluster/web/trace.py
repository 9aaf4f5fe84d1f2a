"""The site's own trace file in the public tree, and its lists of such files: they lie beside the tree, and
are shown as if they were in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from cluster.model import Held, Mirror, Site, join
from cluster.plan.tracing import DIRECTORY as TRACES
from cluster.plan.tracing import HIERARCHY, LISTED, file_name
from cluster.store import traces
from cluster.store.mirror import Reader

__all__ = ["TRACES", "own_list", "own_trace", "with_own_trace"]

_LISTS = {join(TRACES, name): name for name in (HIERARCHY, LISTED)}


async def own_list(site: Site, mirror: Mirror, path: bytes) -> tuple[int, Held] | None:
    """One of the two lists that each mirror makes of itself, open, where `path` is its name: it stands in the
    place of the origin's."""
    name = _LISTS.get(path)
    return await asyncio.to_thread(traces.opened, mirror, site, name) if name is not None else None


async def own_trace(site: Site, mirror: Mirror, path: bytes) -> tuple[int, Held] | None:
    """The trace file, open, where `path` is its name. Asked for only where the origin has no such name."""
    name = file_name(mirror, site)
    return await asyncio.to_thread(traces.opened, mirror, site, name) if path == join(TRACES, name) else None


async def with_own_trace(site: Site, mirror: Mirror, reader: Reader, page: Sequence[Held]) -> list[Held]:
    """A page of the directory of trace files, with ours where the origin has none of that name, and with our
    lists."""
    own = file_name(mirror, site)
    names = {HIERARCHY, LISTED}
    if await reader.held(join(TRACES, own)) is None:
        names.add(own)
    rows = {one.name: one for one in page}
    for name in names:
        found = await asyncio.to_thread(traces.opened, mirror, site, name)
        if found is not None:
            os.close(found[0])
            rows[name] = found[1]
    return [rows[name] for name in sorted(rows)]
