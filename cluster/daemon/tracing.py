"""After a pass over everything: the site's trace file, where the descriptor asks for one."""

from __future__ import annotations

import asyncio
import logging
import os
import time

from cluster import __version__
from cluster.engine.report import Report
from cluster.errors import StoreError
from cluster.model import Mirror, Site, Told, join, shown
from cluster.plan.tracing import (
    DIRECTORY,
    HIERARCHY,
    LISTED,
    MASTER,
    MAX_HIERARCHY,
    MAX_TRACE,
    Passed,
    architectures,
    file_name,
    hierarchy,
    names,
    serial_of,
    trace,
)
from cluster.store import traces
from cluster.store.mirror import Reader

log = logging.getLogger("sideways.pass")


async def trace_pass(site: Site, mirror: Mirror, scope: bytes, report: Report, trigger: str) -> None:
    """Write it after everything has been published. A pass that failed or is incomplete leaves the old one,
    and so does a disk that cannot take it: the log says so."""
    if mirror.trace.level is Told.NONE or scope or report.outcome not in ("complete", "held"):
        return
    name = file_name(mirror, site)
    try:
        reader = await Reader.open(mirror.name, site)
        try:
            taken = await reader.held(join(DIRECTORY, name)) is not None
            serial = serial_of(await _head(reader, MASTER, MAX_TRACE))
            known = architectures(await reader.having(b"dists", b"Packages", b"Sources"))
            above = await _head(reader, join(DIRECTORY, HIERARCHY), MAX_HIERARCHY)
            traces_here = (await reader.directory(DIRECTORY) or {}).values()
        finally:
            await reader.close()
        if taken:
            log.warning("%s: the origin itself has %s: ours is not served", mirror.name, shown(name))
        passed = Passed(
            ended=time.time(),
            seconds=report.seconds,
            origin=report.origin,
            received=report.bytes_origin + report.bytes_sideways,
            trigger=trigger,
            serial=serial,
            architectures=known,
        )
        text = trace(mirror, site, passed, f"Sideways {__version__}")
        lists = {HIERARCHY: hierarchy(above, mirror, site, passed), LISTED: names(traces_here, name)}
        for each, content in {name: text, **lists}.items():
            await asyncio.to_thread(traces.write, mirror, site, each, content)
    except StoreError as error:
        log.warning("%s: no trace file: %s", mirror.name, error)


async def _head(reader: Reader, path: bytes, size: int) -> bytes:
    """The first bytes of a file of the tree; nothing where it is not there."""
    opened = await reader.open_file(path)
    if opened is None:
        return b""
    descriptor, _ = opened
    try:
        return await asyncio.to_thread(os.pread, descriptor, size, 0)
    finally:
        os.close(descriptor)
