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
@click.option("--explain", "why", metavar="MIRROR", help="Which rule of this mirror decides for each PATH.")
@click.option("--size", metavar="SIZE", help="With --explain: what the files have, as 4GB.")
@click.option("--age", metavar="AGE", help="With --explain: how old the files are, as 90d or 5y.")
@click.option("--site", "site", metavar="SITE", help="As this site sees it.")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@json_option
@click.pass_obj
def check(
    setup: Setup,
    show: str | None,
    why: str | None,
    size: str | None,
    age: str | None,
    site: str | None,
    paths: tuple[str, ...],
    as_json: bool,
) -> int:
    """Validate the configuration; warn of what will not work.

    All errors of all files at once, each with its line. --show prints every setting of one mirror, and
    which file says so; --explain tells of paths below a mirror whether they are mirrored, and by which
    rule. A PATH with a slash at its end is a directory.
    """
    from cluster.config.load import explain, warnings

    cluster = setup.site(site, strict=True)[0] if site else setup.cluster()
    for named in (show, why):
        if named is not None and named not in cluster.mirrors:
            known = ", ".join(sorted(cluster.mirrors)) or "none"
            raise UsageError(f"{shown(os.fsencode(named))}: no such mirror; there are: {known}")
    if (why is None) != (not paths) or (why is None and (size or age)):
        raise UsageError("--explain MIRROR and paths belong together, and --size and --age to them")
    if why is not None:
        from cluster.cli.deciding import decisions, sentence

        told = decisions(cluster.mirrors[why], paths, size, age, time.time())
        if as_json:
            emit({"mirror": why, "paths": told})
        for row in () if as_json else told:
            print(sentence(row))
        return DONE
    if show is not None:
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
