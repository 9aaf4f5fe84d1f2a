"""Approving what is held for an operator: a plan of deletions, which is carried out at once where nobody
works on the mirror, and a state of a repository that is older than the published one."""

from __future__ import annotations

import time
from typing import Any

from cluster import control
from cluster.config.units import shown_duration
from cluster.model import Mirror, Site, shown
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


async def approve_state(site: Site, mirror: Mirror, older: bytes) -> dict[str, Any]:
    """Let the older state with this root be published: through the site's daemon where it runs, which then
    begins a pass. Raises UsageError where that one is not held."""
    request = {"command": "approve_state", "mirror": mirror.name, "sha256": older.hex()}
    answer = await control.ask(site.state, request)
    return answer if answer is not None else await approve_state_here(site, mirror, older)


async def approve_state_here(site: Site, mirror: Mirror, older: bytes) -> dict[str, Any]:
    """In this process. Raises Locked where a pass is running."""
    store = await MirrorStore.open(mirror, site, int(time.time()))
    try:
        root = await store.repositories.approve(older)
    finally:
        await store.close()
    message = f"{shown(root)}: the next pass publishes the older state, if the origin still has it"
    return {"mirror": mirror.name, "site": site.name, "root": shown(root), "message": message}
