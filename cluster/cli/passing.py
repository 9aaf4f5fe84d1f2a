"""`pass` and `run`: a pass in the foreground, and the daemon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cluster.caller import ask
from cluster.cli import near
from cluster.cli.common import (
    DONE,
    FAILED,
    HELD,
    Setup,
    emit,
    href_of,
    json_option,
    path_of,
    run_to_end,
    site_option,
)
from cluster.cli.progress import Progress, print_result, show_plan

Event = Callable[[dict[str, Any]], None]

OUTCOMES = {"complete": DONE, "incomplete": FAILED, "failed": FAILED, "held": HELD}


@click.command("pass")
@site_option
@click.argument("mirror")
@click.argument("path", required=False)
@click.option("--dry-run", "dry", is_flag=True, help="Print what would be done; change nothing.")
@click.option(
    "--log", "log", metavar="FILE", type=click.Path(dir_okay=False), help="Append one line per event."
)
@json_option
@click.pass_obj
def pass_command(
    setup: Setup, site: str, mirror: str, path: str | None, dry: bool, log: str | None, as_json: bool
) -> int:
    """Compare MIRROR with its origin and fetch what differs.

    Shows progress and waits for the end. With PATH only that directory and what is below. Where the site's
    daemon runs, it does the pass; otherwise this process does, and answers siblings for as long as it runs.
    """
    planned: list[dict[str, str]] = []
    progress = Progress(quiet=as_json or dry)

    def event(message: dict[str, Any]) -> None:
        if message.get("event") == "planned":
            planned.append(message)
            if dry and not as_json:
                show_plan(message)
        else:
            progress.event(message)

    result = None
    try:
        if log is None and not setup.verbose:
            result = _by_daemon(setup, site, mirror, path, dry, event)
        if result is None:
            result = _by_daemon_or_here(setup, site, mirror, path, dry, log, event)
    finally:
        progress.end()
    if as_json:
        plan = [{k: v for k, v in p.items() if k != "event"} for p in planned]
        emit({**result, "planned": plan} if dry else result)
    else:
        print_result(result, dry)
    return OUTCOMES.get(str(result["outcome"]), FAILED)


def _by_daemon(
    setup: Setup, site: str, mirror: str, path: str | None, dry: bool, event: Event
) -> dict[str, Any] | None:
    """What came of it; None where no daemon runs that has found all files in order."""
    state = near.state_of(setup.folder, site, mirror)
    return None if state is None else ask(state, _request(mirror, path_of(path), dry), event)


def _by_daemon_or_here(
    setup: Setup, site: str, mirror: str, path: str | None, dry: bool, log: str | None, event: Event
) -> dict[str, Any]:
    """What came of it. Raises ConfigErrors and UsageError for what is not in order."""
    from cluster.daemon.logs import to_file

    cluster, own, found = setup.mirror(site, mirror, strict=True)
    with to_file(log, verbose=setup.verbose):
        scope = path_of(path)
        result = ask(own.state, _request(mirror, scope, dry), event)
        if result is None:
            from cluster.daemon.foreground import foreground_pass

            result = run_to_end(foreground_pass(cluster, own, found, scope, dry, event))
    return result


def _request(mirror: str, scope: bytes, dry: bool) -> dict[str, Any]:
    return {"command": "pass", "mirror": mirror, "path": href_of(scope), "dry": dry}


@click.command()
@site_option
@click.option("--log", "log", metavar="FILE", type=click.Path(dir_okay=False), help="Append log lines here.")
@click.pass_obj
def run(setup: Setup, site: str, log: str | None) -> int:
    """The site's daemon: schedule, siblings, web server.

    Runs until SIGTERM or Ctrl-C, and logs to standard error. SIGHUP: read the configuration again.
    """
    from cluster.daemon.logs import to_file
    from cluster.daemon.site import run_site

    with to_file(log, verbose=setup.verbose, console=True):
        return run_to_end(run_site(setup.folder, site))
