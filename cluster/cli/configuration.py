"""`check`, `keys` and `list`: what is configured, and what an origin's page says."""

from __future__ import annotations

import os
import sys
import time

import click

from cluster.cli.common import DONE, Setup, counted, emit, json_option, run_to_end, site_option
from cluster.errors import UsageError
from cluster.model import shown


@click.command()
@click.option(
    "--show", "show", metavar="MIRROR", help="The effective values of one mirror, and where each is from."
)
@click.option("--site", "site", metavar="SITE", help="As this site sees it.")
@json_option
@click.pass_obj
def check(setup: Setup, show: str | None, site: str | None, as_json: bool) -> int:
    """Validate the configuration; warn of what will not work.

    All errors of all files at once, each with its line. --show prints every setting of one mirror, and
    which file says so.
    """
    from cluster.config.load import explain, warnings

    cluster = setup.site(site, strict=True)[0] if site else setup.cluster()
    if show is not None:
        if show not in cluster.mirrors:
            known = ", ".join(sorted(cluster.mirrors)) or "none"
            raise UsageError(f"{shown(os.fsencode(show))}: no such mirror; there are: {known}")
        rows = explain(setup.folder, show, site)
        if as_json:
            emit({"mirror": show, "values": [{"key": k, "value": v, "from": w} for k, v, w in rows]})
            return DONE
        width = max(len(key) for key, _, _ in rows)
        for key, value, where in rows:
            print(f"{key:{width}}  {value}    ({where})")
        return DONE
    found = warnings(cluster, now=time.time())
    if as_json:
        emit(
            {
                "cluster": cluster.name,
                "sites": sorted(cluster.sites),
                "mirrors": sorted(cluster.mirrors),
                "warnings": found,
            }
        )
        return DONE
    for line in found:
        print(f"warning: {line}", file=sys.stderr)
    sites, mirrors = counted(len(cluster.sites), "site"), counted(len(cluster.mirrors), "mirror")
    print(f"{cluster.name}: {sites}, {mirrors}: valid")
    return DONE


@click.command()
@site_option
@click.option("--rotate", is_flag=True, help="Replace the key; siblings accept the old certificate as well.")
@click.pass_obj
def keys(setup: Setup, site: str, rotate: bool) -> int:
    """Make the site's key and certificate.

    Prints what siblings need. The key stays in the folder `state`; the certificate is public and belongs
    beside the site's file, at every site.
    """
    from cluster.peer import keys as peer_keys

    _, own = setup.site(site)
    if own.peer is None:
        raise UsageError(f"{site}: its file has no [peer] section, so that it has no siblings to talk to")
    fingerprint, certificate = peer_keys.make(own, own.state, replace=rotate)
    print(f"{site}: key          {peer_keys.key_path(own.state)} (stays here)")
    print(f"{site}: certificate  {certificate} (every sibling needs it, beside sites/{site}.toml)")
    print(f"{site}: SHA-256      {fingerprint}")
    return DONE


@click.command("list")
@click.argument("url")
@click.option("--private", is_flag=True, help="The URL may lead to a private network.")
@json_option
@click.pass_obj
def list_command(setup: Setup, url: str, private: bool, as_json: bool) -> int:
    """Show how the listing at URL is understood.

    Names, sizes (~ is rounded), times and how exact they are, and what is left out. Nothing is stored.
    """
    from cluster.daemon.look import look

    return run_to_end(look(url, private, emit if as_json else None, print))
