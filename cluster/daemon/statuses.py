"""`sideways status`: what a site's committed records say, read beside whoever writes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from cluster import control
from cluster.errors import NoRecords, SidewaysError, StoreError, UsageError
from cluster.model import Cluster, Failure, Mirror, Site, href, join, shown
from cluster.plan.origins import Health
from cluster.store import received as received_days
from cluster.store.mirror import PassRecord, Reader
from cluster.store.status import directory_status
from cluster.store.summary import LOOKED_BACK, omissions, omitted, summarise
from cluster.web import received
from cluster.web.freshness import freshness

Say = Callable[[str], None]

ANSWER = 2.0  # s that the daemon has to tell what it heard from the others
MAX_ERRORS = 1000  # of a mirror that are looked at: the newest


async def of_site(cluster: Cluster, site: Site, now: float) -> list[dict[str, Any]]:
    """One row per mirror of the site; a mirror that was never begun says so."""
    return [await _of_mirror(site, mirror, now) for mirror in cluster.mirrors_of(site.name)]


async def _of_mirror(site: Site, mirror: Mirror, now: float) -> dict[str, Any]:
    row: dict[str, Any] = {"mirror": mirror.name, "path": mirror.path, "problem": ""}
    try:
        reader = await Reader.open(mirror.name, site)
    except NoRecords as error:
        return row | {"freshness": "never", "problem": str(error)}
    except StoreError as error:
        return row | {"freshness": "unreadable", "problem": str(error)}
    try:
        summary = await summarise(reader)
        newest = await reader.passes(1)
        days, total = await reader.received()
        suspects = await reader.suspects()
        health = await reader.origins()
    finally:
        await reader.close()
    return row | {
        "origins": _origins(mirror, health, now),
        "unfinished": newest[0].started if newest and newest[0].ended is None else None,
        "freshness": freshness(mirror, summary.fresh, now),
        "complete": summary.fresh,
        "files": summary.files,
        "bytes": summary.bytes,
        "outcome": summary.outcome,
        "ended": summary.ended,
        "origin_bytes": summary.origin_bytes,
        "sideways_bytes": summary.sideways_bytes,
        "received": received.facts(days, total, now, received_days.KEPT),
        "errors": summary.errors,
        "held": summary.held,
        "reason": summary.reason,
        "suspects": suspects,
    }


async def of_sites(site: Site, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each site received, as this one knows it: itself from `rows`, the others from its daemon, if that
    answers."""
    sites = {site.name: received.merged(row["received"] for row in rows if not row["problem"])}
    try:
        answer = await asyncio.wait_for(control.ask(site.state, {"command": "received"}), ANSWER)
    except (SidewaysError, TimeoutError):
        answer = None
    return dict(sorted((sites | (answer["sites"] if answer else {})).items()))


async def of_budgets(site: Site) -> list[dict[str, Any]]:
    """How this site stands in the budgets that it shares, as its daemon says; nothing where none answers."""
    try:
        answer = await asyncio.wait_for(control.ask(site.state, {"command": "budgets"}), ANSWER)
    except (SidewaysError, TimeoutError):
        answer = None
    return list(answer["budgets"]) if answer else []


async def of_now(site: Site) -> dict[str, dict[str, Any]] | None:
    """What the site does with each mirror now, as its daemon says; None where none answers."""
    try:
        answer = await asyncio.wait_for(control.ask(site.state, {"command": "now"}), ANSWER)
    except (SidewaysError, TimeoutError):
        return None
    return cast("dict[str, dict[str, Any]]", answer["mirrors"]) if answer else None


async def of_directory(site: Site, mirror: Mirror, path: bytes, now: float) -> dict[str, Any]:
    """Everything about one directory. Raises UsageError where the mirror has no such directory."""
    reader = await Reader.open(mirror.name, site)
    try:
        entries = await reader.directory(path)
        if entries is None:
            raise UsageError(f"{mirror.name}: {shown(path) or '/'}: no such directory here")
        skipped, failures, missing = await reader.notes(path)
        facts = directory_status(
            mirror.name,
            path,
            generated=int(now),
            compared=await reader.compared_at(path),
            entries=entries.values(),
            totals=await reader.totals(path),
            skipped=skipped,
            failures=failures,
            missing=missing,
        )
        below = [
            _failure(join(at, one.name) if one.name else at, one)
            for at, one in await reader.errors(MAX_ERRORS)
            if at != path and (not path or at.startswith(path + b"/"))
        ]
        summary = await summarise(reader)
        suspects = await reader.suspects()
        health = await reader.origins()
        repositories = await reader.repositories()
        passes = await reader.passes(LOOKED_BACK)
    finally:
        await reader.close()
    facts |= {} if path else omissions(passes)
    return cast("dict[str, Any]", facts) | {
        "failures_below": below,
        "site": site.name,
        "freshness": freshness(mirror, summary.fresh, now),
        "outcome": summary.outcome,
        "errors": summary.errors,
        "held": summary.held,
        "reason": summary.reason,
        "suspects": suspects,
        "origins": _origins(mirror, health, now),
        "notes": _notes(passes),
        "repositories": repositories,
    }


def _origins(mirror: Mirror, known: Mapping[str, Health], now: float) -> list[dict[str, Any]]:
    """How each origin of the mirror has done, in the order of the descriptor. `again`: until then others are
    asked before it."""
    told = []
    for spec in mirror.origins:
        health = known.get(spec.url, Health())
        again = health.until(now)
        told.append(
            {
                "url": spec.url,
                "role": str(spec.role),
                "failures": health.failures,
                "error": health.why if health.failures else health.error,
                "again": int(again) if again > now else None,
                "behind": health.behind,
            }
        )
    return told


def _notes(passes: list[PassRecord]) -> list[str]:
    """What the last pass that has ended said besides its counts."""
    last = next((record for record in passes if record.ended is not None), None)
    notes = last.counts.get("notes") if last is not None else None
    return [str(note) for note in notes] if isinstance(notes, list) else []


def _failure(path: bytes, one: Failure) -> dict[str, Any]:
    return {"path": shown(path), "href": href(path), "error": one.error, "at": one.at, "since": one.since}


def when(seconds: float | None) -> str:
    """A time for people, UTC."""
    return "never" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + " UTC"


def print_site(
    rows: list[dict[str, Any]], now: dict[str, dict[str, Any]] | None, say: Say, human: Callable[[float], str]
) -> None:
    """A table, one mirror a line; with a column for the next pass where a daemon said `now`."""
    width = max([6, *(len(row["mirror"]) for row in rows)])
    head = f"{'mirror':{width}}  {'state':11} {'files':>9} {'bytes':>15}"
    say(f"{head}  {'last complete pass':23}  {'last pass':10}  errors" + ("  next pass" if now else ""))
    for row in rows:
        doing = (now or {}).get(row["mirror"])
        if row["problem"]:
            problem = row["problem"].removeprefix(f"{row['mirror']}: ")
            say(f"{row['mirror']:{width}}  {row['freshness']:11} {problem}")
        else:
            state = "held" if row["held"] else row["freshness"]
            line = (
                f"{row['mirror']:{width}}  {state:11} {row['files']:>9} {row['bytes']:>15}  "
                f"{when(row['complete']):23}  {_last(row, doing):10}  {row['errors']}"
            )
            say(f"{line:{width + 85}}  {_next(doing)}" if doing else line)
        for line in _doing(doing, human) + _downstreams(doing) + _remarks(row):
            say(f"{'':{width}}  {line}")


def _next(doing: dict[str, Any]) -> str:
    if doing["paused"]:
        return f"paused: {doing['paused']}"
    return when(doing["next"]) if doing["next"] is not None else "when woken"


def _doing(doing: dict[str, Any] | None, human: Callable[[float], str]) -> list[str]:
    """The pass that is running, a line."""
    at = doing["running"] if doing else None
    if not at:
        return []
    received = f"{human(at['origin_bytes'])} from the origin, {human(at['sideways_bytes'])} sideways"
    return [f"now: a pass since {when(at['started'])}, at /{at['current']}, {received}"]


def _downstreams(doing: dict[str, Any] | None) -> list[str]:
    """How each downstream was told last, a line each."""
    lines = []
    for one in doing.get("downstreams", ()) if doing else ():
        said = one["problem"] or ("being told" if one["waiting"] else "was told")
        at = f" at {when(one['at'])}" if one["at"] else ""
        lines.append(f"downstream {one['name']}: {' '.join(one['words'])}{at}: {said}")
    return lines


def print_received(sites: dict[str, dict[str, Any]], say: Say, human: Callable[[float], str]) -> None:
    """A table, one site a line; nothing where nothing was received lately."""
    sums = {name: told["month"] for name, told in sites.items()}
    if len(sums) > 1:
        sums["all sites"] = received.merged(sites.values())["month"]
    if not any(told["origin"] or told["sideways"] for told in sums.values()):
        return
    width = max(len("last 30 days"), *map(len, sums))
    say(f"\n{'last 30 days':{width}}  {'from origins':>12}  {'sideways':>12}  {'saved':>8}")
    for name, told in sums.items():
        saved = received.percent(told["saved"]) or "-"
        say(f"{name:{width}}  {human(told['origin']):>12}  {human(told['sideways']):>12}  {saved:>8}")


def print_budgets(budgets: list[dict[str, Any]], say: Say) -> None:
    """A table, one budget a line; nothing where nothing is shared."""
    if not budgets:
        return
    width = max(6, *(len(one["host"]) for one in budgets))
    head = f"{'shared':{width}}  {'what':11} {'budget':>7} {'fair':>7} {'allowed':>7} {'in use':>7}"
    say(f"\n{head} {'lent':>7} {'borrowed':>8}  not heard")
    for one in budgets:
        part = one["sort"] == "bandwidth"
        told = [f"{one[name] / 10:.0f} %" if part else one[name] for name in ("budget", "fair", "allowed")]
        told += ["-" if part else one["used"]]
        told += [f"{one[name] / 10:.0f} %" if part else one[name] for name in ("lent", "borrowed")]
        columns = " ".join(f"{text:>{8 if at == 5 else 7}}" for at, text in enumerate(told))
        say(f"{one['host']:{width}}  {one['sort']:11} {columns}  {', '.join(one['silent']) or '-'}")


def _remarks(facts: dict[str, Any]) -> list[str]:
    """What an operator wants to know of the whole mirror, a line each."""
    lines = [f"why: {facts['reason']}"] if facts.get("reason") else []
    origins = facts.get("origins", ())
    for one in origins:
        if one["failures"]:
            behind = one["again"] and len(origins) > 1
            later = f"; others are asked before it until {when(one['again'])}" if behind else ""
            lines.append(f"origin {one['url']}: {one['error']}{later}")
        elif one["behind"] is not None:
            lines.append(f"origin {one['url']}: not followed since {when(one['behind'])}: {one['error']}")
    return lines + [
        f"in doubt: {count} files that came from {site}, which was caught; the next pass compares them with "
        f"the origin's bytes"
        for site, count in facts.get("suspects", {}).items()
    ]


def repository_line(one: dict[str, Any]) -> str:
    """The state of a repository that is published, and why no newer one is."""
    name = f"{one['root']} ({one['label']})" if one["label"] else one["root"]
    state = f"published {when(one['published'])}" if one["published"] is not None else "not published yet"
    trouble = f"; since {when(one['since'])}: {one['trouble']}" if one["trouble"] else ""
    return f"{one['type']} {name}: {state}{trouble}"


def _last(row: dict[str, Any], doing: dict[str, Any] | None) -> str:
    """What became of the last pass. One that has not ended is going on, or was cut off: where no daemon says
    that it runs, a log tells which."""
    if doing and doing["running"]:
        return "running"
    return "not ended" if row["unfinished"] is not None else row["outcome"] or "none"


def print_directory(facts: dict[str, Any], say: Say) -> None:
    """A directory for people: when it was compared, what it holds, what is missing from it and why."""
    compared, totals = facts["compared"], facts["totals"]
    say(f"{facts['mirror']} at {facts['site']}: {facts['path'] or '/'}")
    if compared["at"] is None:
        say("  never compared yet")
    else:
        say(f"  compared {when(compared['at'])} with {compared['origin'] or 'no origin yet'}")
    say(f"  {totals['files']} files, {totals['bytes']} bytes, {totals['directories']} directories below")
    if facts["held"]:
        say(f"  deletions of {facts['held']} files are held: `sideways deletions` shows them")
    for line in _remarks(facts) + [f"last pass: {note}" for note in facts["notes"]]:
        say(f"  {line}")
    for one in facts.get("left_out", ()):
        say(f"  left out  {omitted(one)}: {one['reason']}")
    for rule in facts.get("unused_rules") or ():
        say(f"  this rule has matched nothing: {rule}")
    for line in map(repository_line, facts["repositories"]):
        say(f"  {line}")
    for entry in facts["entries"]:
        size = entry.get("size")
        source = entry.get("source") or ""
        say(f"  {entry['kind']:9} {size if size is not None else '':>14}  {source:12} {entry['name']}")
    for one in facts["skipped"]:
        say(f"  left out  {one['name']}: {one['reason']}")
    for one in facts["missing"]:
        say(f"  missing at the origin since {when(one['since'])}: {one['name']}")
    for one in facts["failures"]:
        say(f"  failed    {one.get('name') or 'this directory'}: {one['error']}")
    for one in facts["failures_below"]:
        say(f"  failed    {one['path']}: {one['error']}")
