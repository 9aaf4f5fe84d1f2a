"""The version that the origin has just named, at a sibling: for files about which it had to be asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cluster.engine.context import Context, Job
from cluster.errors import PeerError
from cluster.model import Facts, Offered
from cluster.peer.client import Sibling
from cluster.plan.source import FromSibling, choose, named_so


async def at_a_sibling(context: Context, job: Job, facts: Facts) -> tuple[Sibling, FromSibling] | None:
    """A sibling that holds exactly the version of `facts`: the origin named it by the same strong validator
    there, after the second in which that may stand for two. None where nobody does.
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
    return (siblings[source.site], source) if isinstance(source, FromSibling) else None
