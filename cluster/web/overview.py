"""The facts of the whole: which mirrors there are, and how each of them does at each site."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from cluster.errors import SidewaysError
from cluster.model import Mirror, shown
from cluster.store.summary import MirrorSummary, summarise
from cluster.web import received
from cluster.web.context import Context
from cluster.web.directory import Facts, printable
from cluster.web.freshness import freshness

SHOWN_ERRORS = 100  # failed updates of one mirror on the cluster page


async def own_summary(context: Context, mirror: Mirror) -> MirrorSummary:
    """This site's line for one mirror; where its store cannot be read, the reason is the line."""
    try:
        async with context.reading(mirror.name) as reader:
            return await summarise(reader)
    except SidewaysError as error:
        return MirrorSummary(problem=str(error))


async def own_summaries(context: Context) -> dict[str, MirrorSummary]:
    mirrors = context.mirrors()
    lines = await asyncio.gather(*(own_summary(context, mirror) for mirror in mirrors))
    return {mirror.name: line for mirror, line in zip(mirrors, lines, strict=True)}


async def index_facts(context: Context, below: bytes) -> Facts:
    """The mirrors whose public path lies below `below` (no slash at either end; b"" for all)."""
    prefix = b"/" + below + b"/" if below else b"/"
    mirrors = [mirror for mirror in context.mirrors() if (mirror.path + "/").encode().startswith(prefix)]
    lines = await asyncio.gather(*(own_summary(context, mirror) for mirror in mirrors))
    now = context.clock()
    return {
        "site": context.site.name,
        "site_title": context.site.title or context.site.name,
        "contact": context.site.contact,
        "cluster": context.cluster.name,
        "path": shown(prefix),
        "generated": now,
        "mirrors": [
            {
                "name": mirror.name,
                "title": mirror.title or mirror.name,
                "description": mirror.description,
                "homepage": mirror.homepage if mirror.homepage.startswith(("http://", "https://")) else "",
                "category": mirror.category,
                "href": mirror.path.rstrip("/") + "/" if mirror.serve.http else None,
                **_line(context, mirror, line, now),
            }
            for mirror, line in zip(mirrors, lines, strict=True)
        ],
    }


async def cluster_facts(context: Context) -> Facts:
    """Mirrors by sites, as this site knows them: its own from its store, the others' from what they told."""
    own, siblings, now = await own_summaries(context), context.view.siblings(), context.clock()
    sites = []
    for name, site in sorted(context.cluster.sites.items()):
        sibling = siblings.get(name)
        sites.append(
            {
                "name": name,
                "title": site.title or name,
                "url": site.public_url,
                "own": name == context.site.name,
                "up": name == context.site.name or (sibling is not None and sibling.up),
                "told": now if name == context.site.name else sibling.told if sibling else None,
                "problem": sibling.problem if sibling else "",
            }
        )
    mirrors = []
    by_site: dict[str, list[MirrorSummary]] = {name: [] for name in sorted(context.cluster.sites)}
    for mirror in sorted(context.cluster.mirrors.values(), key=lambda mirror: mirror.name):
        lines: dict[str, Facts | None] = {}
        for name in mirror.sites:
            told = siblings[name].mirrors.get(mirror.name) if name in siblings else None
            line = own.get(mirror.name) if name == context.site.name else told
            lines[name] = None if line is None else _line(context, mirror, line, now)
            if line is not None:
                by_site[name].append(line)
        here = mirror.serve.http and context.site.name in mirror.sites
        mirrors.append(
            {
                "name": mirror.name,
                "title": mirror.title or mirror.name,
                "href": mirror.path.rstrip("/") + "/" if here else None,
                "sites": lines,
                **_activity(context, mirror),
            }
        )
    return {
        "cluster": context.cluster.name,
        "title": context.cluster.title or context.cluster.name,
        "site": context.site.name,
        "generated": now,
        "sites": sites,
        "mirrors": mirrors,
        "received": received.cluster_facts(by_site, now),
        "budgets": [asdict(standing) for standing in context.view.budgets()],
        "failures": await _failures(context),
        "config_errors": [printable(error) for error in context.view.config_errors()],
    }


def _line(context: Context, mirror: Mirror, line: MirrorSummary, now: float) -> Facts:
    told = {name: getattr(line, name) for name in MirrorSummary.__slots__ if name != "days"}
    return told | {
        "freshness": freshness(mirror, line.fresh, now),
        "reason": printable(line.reason),
        "received": received.facts(line.days, line.received, now),
    }


def _activity(context: Context, mirror: Mirror) -> Facts:
    """What this site does with the mirror now and next."""
    progress = context.view.running().get(mirror.name)
    running = None if progress is None else {**asdict(progress), "current": "/" + shown(progress.current)}
    carried = context.site.name in mirror.sites
    return {
        "running": running,
        "next_run": context.view.next_run(mirror.name) if carried else None,
        "paused": context.view.paused(mirror.name) if carried else "",
    }


async def _failures(context: Context) -> list[Facts]:
    """The newest failed updates at this site."""
    found = []
    for mirror in context.mirrors():
        try:
            async with context.reading(mirror.name) as reader:
                errors = await reader.errors(SHOWN_ERRORS)
        except SidewaysError:
            continue  # the mirror's own line says so
        for directory, failure in errors:
            path = b"/".join(filter(None, (directory, failure.name)))
            error = printable(failure.error)
            found.append({"mirror": mirror.name, "path": "/" + shown(path), "error": error,
                          "at": failure.at, "since": failure.since})  # fmt: skip
    return sorted(found, key=lambda failure: (-failure["at"], failure["mirror"], failure["path"]))
