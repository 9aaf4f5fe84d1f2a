"""`push`, `pause` and `resume`: what the running daemon is asked to do."""

from __future__ import annotations

from typing import Any

import click

from cluster.caller import ask
from cluster.cli import near
from cluster.cli.common import DONE, Setup, href_of, path_of, printable, site_option
from cluster.errors import SidewaysError, UsageError


@click.command()
@site_option
@click.argument("mirror")
@click.argument("path", required=False)
@click.pass_obj
def push(setup: Setup, site: str, mirror: str, path: str | None) -> int:
    """Ask the running daemon for a pass now.

    Does not wait for it: `pass` does. With PATH only that directory and what is below.
    """
    state = near.state_of(setup.folder, site, mirror) or setup.mirror(site, mirror)[1].state
    request = {"command": "push", "mirror": mirror, "path": href_of(path_of(path))}
    answer = _answer(site, state, request)
    print(f"{mirror}: {answer['message']}")
    return DONE


@click.command()
@site_option
@click.argument("mirror")
@click.option("--origin", metavar="URL", help="Only this origin of the mirror.")
@click.pass_obj
def pause(setup: Setup, site: str, mirror: str, origin: str | None) -> int:
    """Begin no pass of MIRROR until `resume`.

    A pass that runs is interrupted, and goes on from there afterwards. With --origin, only that origin is not
    used. Outlives a restart.
    """
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
    answer = _answer(site, own.state, {"command": command, "mirror": mirror, "origin": origin})
    print(f"{mirror}: {answer['message']}")
    return DONE


def _answer(site: str, state: str, request: dict[str, Any]) -> dict[str, Any]:
    answer = ask(state, request)
    if answer is None:
        raise SidewaysError(f"{site}: its daemon does not run; start it with `sideways run --site {site}`")
    return answer
