"""A pass in the command's own process, where the site's daemon does not run; siblings are answered too."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from cluster.daemon.lists import list_held
from cluster.daemon.parts import Events, log_report, require_folders, surroundings
from cluster.daemon.sharing import Sharing
from cluster.daemon.tracing import trace_pass
from cluster.engine.passes import run_pass
from cluster.engine.report import Report
from cluster.errors import HookFailed, SidewaysError
from cluster.model import Cluster, Mirror, Site
from cluster.origin.open import Shared
from cluster.peer import keys
from cluster.peer.claims import Claims
from cluster.peer.listings import Listings
from cluster.scheduler.hooks import Ended, around
from cluster.store.mirror import Reader

if TYPE_CHECKING:
    from cluster.peer.lines import Lines
    from cluster.peer.server import PeerServer
    from cluster.peer.siblings import Siblings

LOOKED_FOR = (
    0.8  # s: three round trips to the far end of the world; what a silent sibling costs a pass at most
)

log = logging.getLogger("sideways.pass")


async def foreground_pass(
    cluster: Cluster,
    site: Site,
    mirror: Mirror,
    scope: bytes,
    dry: bool,
    tell: Callable[[dict[str, object]], None],
) -> dict[str, Any]:
    """Run one pass here, with the mirror's hooks around it unless it is a dry one, and return its JSON.

    Raises HookFailed, Locked, StoreError, UsageError, and SidewaysError where a signal ends it.
    """
    require_folders(site)
    claims, listings, shared = Claims(kept=site.peer is not None), Listings(), Shared()
    sharing = Sharing(site.name, shared.hosts, time.monotonic)
    sharing.configure(cluster)
    async with AsyncExitStack() as stack:
        siblings = await _siblings(stack, cluster, site, claims, listings, sharing)
        asked = siblings.of if siblings else lambda mirror: ()
        neighbours = partial(cluster.stored_once, site.name)
        needed = surroundings(site, shared, claims, asked, listings, neighbours)
        telling = asyncio.create_task(sharing.run(), name="budgets")
        stack.callback(telling.cancel)

        async def plain() -> Report:
            if siblings:
                await siblings.looked_for(mirror, LOOKED_FOR)
            events = Events(mirror.name, tell, time.monotonic)
            return await run_pass(needed, mirror, scope=scope, dry=dry, reporter=events)

        work = asyncio.ensure_future(plain() if dry else _hooked(site, mirror, scope, plain))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, work.cancel)
        try:
            report = await work
            log_report(report, scope)
            if not dry:
                await trace_pass(site, mirror, scope, report, "by hand")
                await list_held(site, mirror, scope, report)
            report.notes += _unheard(siblings, mirror)
            return report.as_json()
        except asyncio.CancelledError:
            raise SidewaysError(f"{mirror.name}: interrupted; the next pass goes on from here") from None


def _unheard(siblings: Siblings | None, mirror: Mirror) -> list[str]:
    """Why those siblings that do not answer now were not read from."""
    return [
        f"{sibling.name}: not read from: {sibling.trouble or 'it does not answer'}"
        for sibling in (siblings.of(mirror) if siblings else ())
        if not sibling.up
    ]


async def _hooked(site: Site, mirror: Mirror, scope: bytes, run: Callable[[], Awaitable[Report]]) -> Report:
    """What a daemon does around a pass. Raises what `run` raises, after the hooks for a failure."""
    outcome: Report | SidewaysError = HookFailed(mirror.name)

    async def work() -> Ended:
        nonlocal outcome
        try:
            outcome = await run()
        except SidewaysError as error:
            outcome = error
            return Ended("failed")
        files = outcome.files
        return Ended(outcome.outcome, files.origin + files.sideways + files.deleted)

    await around(mirror, site, scope, work)
    if isinstance(outcome, SidewaysError):
        raise outcome
    return outcome


def _answering() -> tuple[type[Lines], type[PeerServer]]:
    """Loads what a site without siblings has no use for: 50 ms of a command that takes 600."""
    from cluster.peer.lines import Lines
    from cluster.peer.server import PeerServer

    return Lines, PeerServer


async def _siblings(
    stack: AsyncExitStack,
    cluster: Cluster,
    site: Site,
    claims: Claims,
    listings: Listings,
    sharing: Sharing,
) -> Siblings | None:
    """The siblings, and our own answers to them; None where this site has no key (yet)."""
    if site.peer is None or not os.path.exists(keys.key_path(site.state)):
        return None
    from cluster.peer.siblings import Siblings

    siblings = Siblings(site, cluster, time.monotonic)
    siblings.start()
    stack.push_async_callback(siblings.stop)
    lines_class, server_class = await asyncio.to_thread(_answering)  # while the siblings are being asked

    async def open_reader(name: str) -> Reader:
        return await Reader.open(name, site)

    lines = lines_class(site, cluster, siblings, claims, time.monotonic, listings=listings)
    server = server_class(
        site,
        cluster,
        claims=claims,
        open_reader=open_reader,
        wake=lambda _site, _mirror, _path: None,
        clock=time.monotonic,
        seen=siblings.heard,
        lines=lines,
        listings=listings,
    )
    try:
        await server.start()
    except OSError as error:
        log.warning("peer: cannot listen on %s: %s", site.peer.listen, error)
    else:
        stack.push_async_callback(server.stop)
    sharing.connect(lines, siblings)
    lines.start()
    stack.push_async_callback(lines.stop)
    return siblings
