"""`status`, `journal`, `deletions` and `repositories`: what is at this site."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.common import (
    DONE,
    HELD,
    Setup,
    T,
    counted,
    emit,
    human,
    json_option,
    path_of,
    printable,
    run_to_end,
    site_option,
)
from cluster.errors import UsageError
from cluster.model import Mirror, Site, href, shown

if TYPE_CHECKING:
    from cluster.store.mirror import Plan, Reader


@click.command()
@site_option
@click.argument("mirror", required=False)
@click.argument("path", required=False)
@json_option
@click.pass_obj
def status(setup: Setup, site: str, mirror: str | None, path: str | None, as_json: bool) -> int:
    """Freshness, sizes, errors, what is skipped and why.

    All mirrors of the site, what they saved their origins, and what the daemon does now. With MIRROR one
    directory of it: its root, or PATH.
    """
    from cluster.daemon import statuses

    if mirror is None:
        cluster, own = setup.site(site)
        rows = run_to_end(statuses.of_site(cluster, own, time.time()))
        received = run_to_end(statuses.of_sites(own, rows))
        budgets = run_to_end(statuses.of_budgets(own))
        now = run_to_end(statuses.of_now(own))
        if as_json:
            told = [row | {"now": (now or {}).get(row["mirror"])} for row in rows]
            emit({"site": site, "mirrors": told, "received": received, "budgets": budgets})
        else:
            statuses.print_site(rows, now, print, human)
            statuses.print_received(received, print, human)
            statuses.print_budgets(budgets, print)
        return DONE
    _, own, found = setup.mirror(site, mirror)
    facts = run_to_end(statuses.of_directory(own, found, path_of(path), time.time()))
    if as_json:
        emit(facts)
    else:
        statuses.print_directory(facts, print)
    return DONE


@click.command()
@site_option
@click.argument("mirror")
@click.option(
    "--after",
    default=0,
    metavar="N",
    type=click.IntRange(0, 2**63 - 1),
    help="Only what came after record N.",
)
@json_option
@click.pass_obj
def journal(setup: Setup, site: str, mirror: str, after: int, as_json: bool) -> int:
    """What changed at this site, in order."""
    _, own, found = setup.mirror(site, mirror)

    async def show(reader: Reader) -> int:
        records = []
        async for record in reader.journal(after):
            row = {
                "seq": record.seq,
                "at": record.at,
                "action": record.action,
                "name": shown(record.path),
                "href": href(record.path),
                "kind": str(record.kind),
                "size": record.size,
                "sha256": record.sha256.hex() if record.sha256 else None,
                "source": record.source,
            }
            if as_json:
                records.append(row)
            else:
                when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.at))
                print(f"{record.seq:>9} {when} {record.action:8} {record.source:12} {shown(record.path)}")
        if as_json:
            emit({"mirror": mirror, "site": site, "records": records})
        return DONE

    return run_to_end(_reading(own, found, show))


def _hash(said: str, what: str) -> str:
    """Raises UsageError for what is none."""
    if not re.fullmatch(r"[0-9a-f]{64}", said):
        raise UsageError(f"{printable(said)}: {what}'s hash is 64 hexadecimal digits")
    return said


@click.command()
@site_option
@click.argument("mirror")
@click.option("--approve", metavar="HASH", help="Let the older state with this hash be published, once.")
@json_option
@click.pass_obj
def repositories(setup: Setup, site: str, mirror: str, approve: str | None, as_json: bool) -> int:
    """Show which states of repositories are published, or approve a held one that is older."""
    _, own, found = setup.mirror(site, mirror)
    if approve is not None:
        from cluster.daemon.approval import approve_state

        answer = run_to_end(approve_state(own, found, bytes.fromhex(_hash(approve, "a state"))))
        if as_json:
            emit(answer)
        else:
            print(f"{mirror}: {answer['message']}")
        return DONE
    from cluster.daemon.statuses import repository_line

    known = run_to_end(_reading(own, found, lambda reader: reader.repositories()))
    if as_json:
        emit({"mirror": mirror, "site": site, "repositories": known})
    elif not known:
        print(f"{mirror}: no repository has been found in it")
    else:
        for one in known:
            print(repository_line(one))
            if one["held"]:
                print(f"approve with: sideways repositories --site {site} {mirror} --approve {one['held']}")
    return HELD if any(one["held"] for one in known) else DONE


async def _reading(site: Site, mirror: Mirror, work: Callable[[Reader], Awaitable[T]]) -> T:
    from cluster.store.mirror import Reader

    reader = await Reader.open(mirror.name, site)
    try:
        return await work(reader)
    finally:
        await reader.close()


@click.command()
@site_option
@click.argument("mirror")
@click.option("--approve", metavar="HASH", help="Let the held plan with this hash be carried out.")
@json_option
@click.pass_obj
def deletions(setup: Setup, site: str, mirror: str, approve: str | None, as_json: bool) -> int:
    """Show or approve a held deletion plan."""
    _, own, found = setup.mirror(site, mirror)
    if approve is not None:
        from cluster.daemon.approval import approve_plan

        answer = run_to_end(approve_plan(own, found, _hash(approve, "a plan")))
        if as_json:
            emit(answer)
        else:
            print(f"{mirror}: {answer['message']}")
        return DONE
    plan = run_to_end(_reading(own, found, lambda reader: reader.held_plan()))
    if as_json:
        emit({"mirror": mirror, "site": site, "held": _plan_json(plan) if plan else None})
    elif plan is None:
        print(f"{mirror}: no deletions are held")
    else:
        _print_plan(site, mirror, plan)
    return HELD if plan else DONE


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "hash": plan.hash,
        "items": plan.items,
        "files": plan.files,
        "bytes": plan.bytes,
        "because": plan.held_because,
        "sample": [
            {
                "name": shown(p.path),
                "href": href(p.path),
                "kind": str(p.kind),
                "files": p.files,
                "bytes": p.bytes,
                "first_missing": p.first_missing,
                "sightings": p.sightings,
            }
            for p in plan.sample
        ],
    }


def _print_plan(site: str, mirror: str, plan: Plan) -> None:
    size = human(plan.bytes)
    names, files = counted(plan.items, "name"), counted(plan.files, "file")
    print(f"{mirror}: {names} ({files}, {size}) held: {plan.held_because}")
    for planned in plan.sample:
        since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(planned.first_missing))
        print(
            f"  {planned.kind:9} {planned.files:>8} files {human(planned.bytes):>9}  missing since {since}  "
            f"{shown(planned.path)}"
        )
    if plan.items > len(plan.sample):
        print(f"  and {plan.items - len(plan.sample)} more")
    print(f"approve with: sideways deletions --site {site} {mirror} --approve {plan.hash}")
