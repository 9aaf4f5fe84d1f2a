"""`push`, `pause` and `resume`: what the running daemon is asked to do."""

from __future__ import annotations

from typing import Any

import click

from cluster.cli.common import DONE, Setup, path_of, printable, run_to_end, site_option
from cluster.errors import SidewaysError, UsageError
from cluster.model import Site, href


@click.command()
@site_option
@click.argument("mirror")
@click.argument("path", required=False)
@click.pass_obj
def push(setup: Setup, site: str, mirror: str, path: str | None) -> int:
    """Ask the running daemon for a pass now."""
    _, own, found = setup.mirror(site, mirror)
    request = {"command": "push", "mirror": found.name, "path": href(path_of(path))}
    answer = run_to_end(_daemon_only(own, request))
    print(f"{mirror}: {answer['message']}")
    return DONE


@click.command()
@site_option
@click.argument("mirror")
@click.option("--origin", metavar="URL", help="Only this origin of the mirror.")
@click.pass_obj
def pause(setup: Setup, site: str, mirror: str, origin: str | None) -> int:
    """Start no pass of MIRROR (or from one of its origins) until `resume`."""
    return _pausing(setup, site, mirror, origin, "pause")


@click.command()
@site_option
@click.argument("mirror")
@click.option("--origin", metavar="URL", help="Only this origin of the mirror.")
@click.pass_obj
def resume(setup: Setup, site: str, mirror: str, origin: str | None) -> int:
    """Undo `pause`."""
    return _pausing(setup, site, mirror, origin, "resume")


def _pausing(setup: Setup, site: str, mirror: str, origin: str | None, command: str) -> int:
    _, own, found = setup.mirror(site, mirror)
    if origin is not None and origin not in [spec.url for spec in found.origins]:
        known = ", ".join(spec.url for spec in found.origins)
        raise UsageError(f"{printable(origin)}: no origin of {mirror}; there are: {known}")
    answer = run_to_end(_daemon_only(own, {"command": command, "mirror": mirror, "origin": origin}))
    print(f"{mirror}: {answer['message']}")
    return DONE


async def _daemon_only(site: Site, request: dict[str, Any]) -> dict[str, Any]:
    from cluster import control

    answer = await control.ask(site.state, request)
    if answer is None:
        raise SidewaysError(
            f"{site.name}: its daemon does not run; start it with `sideways run --site {site.name}`"
        )
    return answer
