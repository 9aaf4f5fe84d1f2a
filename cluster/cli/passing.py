"""`pass` and `run`: a pass in the foreground, and the daemon."""

from __future__ import annotations

from typing import Any

import click

from cluster.cli.common import DONE, FAILED, HELD, Setup, emit, json_option, path_of, run_to_end, site_option
from cluster.cli.progress import Progress, print_result, show_plan
from cluster.model import Cluster, Mirror, Site, href

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
    """One pass over MIRROR (or only over PATH in it) in the foreground, with progress.

    Where the site's daemon runs, it does the pass; otherwise this process does, and answers siblings for
    as long as it runs.
    """
    cluster, own, found = setup.mirror(site, mirror, strict=True)
    from cluster.daemon.logs import to_file

    with to_file(log, verbose=setup.verbose):
        return run_to_end(_pass(cluster, own, found, path_of(path), dry, as_json))


async def _pass(cluster: Cluster, site: Site, mirror: Mirror, scope: bytes, dry: bool, as_json: bool) -> int:
    from cluster import control

    progress = Progress(quiet=as_json or dry)
    planned: list[dict[str, str]] = []

    def event(message: dict[str, Any]) -> None:
        if message.get("event") == "planned":
            planned.append(message)
            if dry and not as_json:
                show_plan(message)
        else:
            progress.event(message)

    request = {"command": "pass", "mirror": mirror.name, "path": href(scope), "dry": dry}
    try:
        result = await control.ask(site.state, request, event)
        if result is None:
            from cluster.daemon.foreground import foreground_pass

            result = await foreground_pass(cluster, site, mirror, scope, dry, event)
    finally:
        progress.end()
    if as_json:
        emit(
            {**result, "planned": [{k: v for k, v in p.items() if k != "event"} for p in planned]}
            if dry
            else result
        )
    else:
        print_result(result, dry)
    return OUTCOMES.get(str(result["outcome"]), FAILED)


@click.command()
@site_option
@click.option("--log", "log", metavar="FILE", type=click.Path(dir_okay=False), help="Append log lines here.")
@click.pass_obj
def run(setup: Setup, site: str, log: str | None) -> int:
    """The site's daemon: schedule, peer API, built-in web server."""
    from cluster.daemon.logs import to_file
    from cluster.daemon.site import run_site

    with to_file(log, verbose=setup.verbose, console=True):
        return run_to_end(run_site(setup.folder, site))
