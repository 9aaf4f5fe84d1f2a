"""What wakes a mirror by itself: a small file at its origin that changes, a local source that is watched."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from cluster.engine.clock import Clock
from cluster.errors import OriginError, UsageError, Vanished
from cluster.model import Facts, OriginSpec, Probe, shown
from cluster.plan.due import fraction

log = logging.getLogger("sideways.scheduler")

AGAIN = 300.0  # s until a source that could not be watched is tried again

Ask = Callable[[str, bytes], Awaitable[Facts]]  # mirror, path; raises OriginError
Watch = Callable[[OriginSpec], AsyncIterator[set[bytes]]]
Wake = Callable[[bytes, str], None]  # path, reason


async def poll(
    mirror: str, site: str, probe: Probe, ask: Ask, wake: Wake, clock: Clock, active: Callable[[], bool]
) -> None:
    """Ask for a file's facts every `probe.every` seconds while `active`, and wake when they differ from the
    last ones.

    What it finds first is what later answers are compared with; sites begin at different times. A file that
    is not there is a fact as well, but only its return wakes; an origin that does not answer tells nothing.
    """
    await clock.sleep(probe.every * fraction(f"{mirror} {shown(probe.path)}", site, 0))
    known: object = None
    while True:
        if not active():
            await clock.sleep(probe.every)
            continue
        try:
            facts = await ask(mirror, probe.path)
        except Vanished:
            known = "absent"
        except (OriginError, UsageError) as error:
            log.info("%s: probe %s: %s", mirror, shown(probe.path), error)
        else:
            found = (facts.size, facts.mtime, facts.etag)
            if known not in (None, found):
                wake(b"", f"{shown(probe.path)} changed at the origin")
            known = found
        await clock.sleep(probe.every)


async def follow(mirror: str, spec: OriginSpec, watch: Watch, wake: Wake, clock: Clock) -> None:
    """Wake for each directory that changes in a local source. A watch that fails is begun anew; what was
    missed meanwhile is the next pass's."""
    while True:
        try:
            async for directories in watch(spec):
                for directory in directories:
                    wake(directory, "the source changed")
        except (OriginError, UsageError) as error:
            log.warning("%s: not watched: %s", mirror, error)
        await clock.sleep(AGAIN)
