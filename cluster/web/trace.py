"""The site's own trace file in the public tree: it lies beside the tree, and is shown as if it were in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from cluster.model import Held, Mirror, Site, join
from cluster.plan.tracing import DIRECTORY as TRACES
from cluster.plan.tracing import file_name
from cluster.store import traces
from cluster.store.mirror import Reader

__all__ = ["TRACES", "own_trace", "with_own_trace"]


async def own_trace(site: Site, mirror: Mirror, path: bytes) -> tuple[int, Held] | None:
    """It, open, where `path` is its name. Asked for only where the origin has no such name."""
    if path != join(TRACES, file_name(mirror, site)):
        return None
    return await asyncio.to_thread(traces.opened, mirror, site)


async def with_own_trace(site: Site, mirror: Mirror, reader: Reader, page: Sequence[Held]) -> list[Held]:
    """A page of the directory of trace files, with ours where the origin has none of that name."""
    if await reader.held(join(TRACES, file_name(mirror, site))) is not None:
        return list(page)
    found = await asyncio.to_thread(traces.opened, mirror, site)
    if found is None:
        return list(page)
    os.close(found[0])
    return sorted([*page, found[1]], key=lambda one: one.name)
