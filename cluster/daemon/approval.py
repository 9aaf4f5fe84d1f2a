"""Approving a held deletion plan; it is carried out at once where nobody works on the mirror."""

from __future__ import annotations

import time
from typing import Any

from cluster import control
from cluster.config.units import shown_duration
from cluster.model import Mirror, Site
from cluster.store.mirror import MirrorStore


async def approve_plan(site: Site, mirror: Mirror, digest: str) -> dict[str, Any]:
    """Through the site's daemon where it runs, else here. Raises UsageError for another plan's hash."""
    answer = await control.ask(site.state, {"command": "approve", "mirror": mirror.name, "hash": digest})
    return answer if answer is not None else await approve_here(site, mirror, digest)


async def approve_here(site: Site, mirror: Mirror, digest: str) -> dict[str, Any]:
    """Approve and carry out in this process. Raises Locked where a pass is running."""
    now = int(time.time())
    store = await MirrorStore.open(mirror, site, now)
    try:
        plan = await store.approve(digest, now)
        files, size = await store.delete(plan, now)
        await store.write_status()
    finally:
        await store.close()
    stay = shown_duration(mirror.delete.trash)
    message = f"{files} files ({size} bytes) moved to the trash, where they stay for {stay}"
    return {"mirror": mirror.name, "site": site.name, "files": files, "bytes": size, "message": message}
