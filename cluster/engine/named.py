"""The version that the origin has just named, at a sibling: for files about which it had to be asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cluster.engine.context import Context, Job
from cluster.errors import PeerError
from cluster.model import Facts, Offered
from cluster.peer.client import Sibling
from cluster.plan.source import FromSibling, PutOff, choose, named_so

AGAIN = 0.2  # s between two looks at whether a sibling has read it,
LONGEST = 60.0  # s; a place at the origin is held for so long at most


async def at_a_sibling(
    context: Context, job: Job, facts: Facts
) -> tuple[Sibling, FromSibling] | PutOff | None:
    """A sibling that holds exactly the version of `facts`: the origin named it by the same strong validator
    there, after the second in which that may stand for two. None where nobody does, nor is fetching it.
    """
    siblings = {sibling.name: sibling for sibling in context.siblings if sibling.up}
    entry, sideways = job.entry, context.mirror.sideways
    if not (facts.etag and siblings and sideways.enabled) or facts.size not in (None, entry.size):
        return None

    async def told(sibling: Sibling) -> Offered | None:
        context.report.requests_sideways += 1
        try:
            return await sibling.offered(
                context.mirror.name, job.visit.path, context.answer, first=entry.name, last=entry.name
            )
        except PeerError:
            return None

    answers = [one for one in await asyncio.gather(*map(told, siblings.values())) if one is not None]
    source = choose(
        job.visit.path,
        replace(entry, mtime=facts.mtime or entry.mtime),
        named_so(answers, facts.etag),
        own=context.site,
        trust=sideways.trust,
        patience=sideways.patience,
    )
    if isinstance(source, FromSibling):
        return siblings[source.site], source
    return source if isinstance(source, PutOff) and not source.contested else None


async def when_settled(context: Context, job: Job, facts: Facts) -> tuple[Sibling, FromSibling] | None:
    """The same, when whoever reads it now has read it: sites that took a file in the second of its time all
    ask about it again, often at once, and one body is enough for all. None where this site is to read it.
    """
    clock, mirror = context.clock, context.mirror.name
    directory, name = job.visit.path, job.entry.name
    context.claims.claim(mirror, directory, name, job.entry.row, clock.monotonic())
    until = clock.monotonic() + LONGEST
    while isinstance(found := await at_a_sibling(context, job, facts), PutOff):
        if clock.monotonic() >= until:
            found = None
            break
        await clock.sleep(AGAIN)
    if found is None:
        context.claims.start(mirror, directory, name, clock.monotonic())
    return found
