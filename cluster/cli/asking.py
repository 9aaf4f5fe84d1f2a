"""`push`, `pause` and `resume`: what the running daemon is asked to do."""

from __future__ import annotations

import os
from typing import Any

import click

from cluster.caller import ask
from cluster.cli import near
from cluster.cli.common import DONE, Setup, href_of, path_of, printable, site_option
from cluster.errors import SidewaysError, UsageError


@click.command()
@site_option
@click.argument("mirror", required=False)
@click.argument("path", required=False)
@click.option("--from-ssh", is_flag=True, help="Be the forced command of an upstream's ssh key.")
@click.pass_obj
def push(setup: Setup, site: str, mirror: str | None, path: str | None, from_ssh: bool) -> int:
    """Ask the running daemon for a pass now.

    Does not wait for it: `pass` does. With PATH only that directory and what is below. With --from-ssh the
    words of Debian's mirrors are taken from SSH_ORIGINAL_COMMAND; MIRROR is then the only one that this key
    may wake.
    """
    words = ""
    if from_ssh:
        mirror, words = _upstream(mirror, path)
    if mirror is None:
        raise UsageError("MIRROR is missing")
    state = near.state_of(setup.folder, site, mirror) or setup.mirror(site, mirror)[1].state
    request = {"command": "push", "mirror": mirror, "path": href_of(path_of(path)), "words": words}
    answer = _answer(site, state, request)
    print(f"{mirror}: {answer['message']}")
    return DONE


def _upstream(mirror: str | None, path: str | None) -> tuple[str, str]:
    """The mirror that an upstream means, and its words."""
    from cluster.plan.pushing import asked

    command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    try:
        told = asked(command)
    except ValueError as error:
        raise UsageError(f"{printable(command)[:200]!r} {error}") from None
    if path is not None:
        raise UsageError("PATH does not go with --from-ssh")
    if mirror is not None and told.archive not in ("", mirror):
        raise UsageError(f"{told.archive}: this key is for {mirror}")
    if not (mirror or told.archive):
        raise UsageError("no archive is named; give MIRROR, or send sync:archive:NAME")
    return mirror or told.archive, " ".join(told.words)


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
