"""The command line: arguments to calls, exit codes, progress. The only module that prints.

Exit status: 0 done; 1 ran, but something failed or is incomplete; 2 bad usage or bad configuration; 3
deletions are held. Imports are made where they are used: `sideways check` has no need of an HTTP client.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from cluster import __version__
from cluster.errors import ConfigError, ConfigErrors, SidewaysError, UnsafeName, UsageError
from cluster.model import Cluster, Mirror, Order, Site, from_href, href, shown

if TYPE_CHECKING:
    from cluster.store.mirror import Plan, Reader

DONE, FAILED, USAGE, HELD = 0, 1, 2, 3
OUTCOMES = {"complete": DONE, "incomplete": FAILED, "failed": FAILED, "held": HELD}

T = TypeVar("T")


@dataclass(slots=True)
class Setup:
    """What every command gets: where the configuration is, and how much to say."""

    folder: str
    verbose: bool

    def cluster(self, site: str | None = None) -> Cluster:
        """Raises ConfigErrors where any file is not valid."""
        from cluster.config.load import load

        return load(self.folder, site)

    def site(self, name: str, *, strict: bool = False) -> tuple[Cluster, Site]:
        """As much as is valid, or (`strict`) only where everything is. Raises UsageError for a site that is
        not configured, ConfigErrors."""
        from cluster.config.load import load_tolerant

        cluster = self.cluster(name) if strict else load_tolerant(self.folder, name)[0]
        if name not in cluster.sites:
            known = ", ".join(sorted(cluster.sites)) or "none"
            raise UsageError(f"{shown(os.fsencode(name))}: no such site; there are: {known}")
        return cluster, cluster.sites[name]

    def mirror(self, site: str, name: str, *, strict: bool = False) -> tuple[Cluster, Site, Mirror]:
        """Raises UsageError for a mirror that the site does not carry, ConfigErrors as `site`."""
        cluster, own = self.site(site, strict=strict)
        mirrors = {m.name: m for m in cluster.mirrors_of(site)}
        if name not in mirrors:
            known = ", ".join(mirrors) or "none"
            raise UsageError(f"{shown(os.fsencode(name))}: no mirror of {site}; there are: {known}")
        return cluster, own, mirrors[name]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sideways")
@click.option("-C", "folder", default=".", metavar="DIR", help="The folder that holds config/ and sites/.")
@click.option("-v", "--verbose", is_flag=True, help="Say more: every request and every decision.")
@click.pass_context
def cli(context: click.Context, folder: str, verbose: bool) -> None:
    """Several sites run one public mirror service together.

    Each site mirrors every origin by itself and looks sideways at its siblings before it fetches. Exit
    status: 0 done; 1 something failed or is incomplete; 2 bad usage or configuration; 3 deletions are held.
    """
    context.obj = Setup(folder, verbose)


def main() -> NoReturn:
    """The `sideways` command."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        status = _complain("interrupted", FAILED)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        status = DONE
    except click.ClickException as error:
        status = _complain(" ".join(error.format_message().split()), USAGE)
    except (ConfigError, ConfigErrors) as error:
        status = _complain(str(error), USAGE)
    except (UsageError, UnsafeName) as error:
        status = _complain(str(error), USAGE)
    except SidewaysError as error:
        status = _complain(str(error), FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else ""
        status = _complain(f"{name}: {error.strerror}" if name else str(error), FAILED)
    except KeyboardInterrupt:
        status = _complain("interrupted", FAILED)
    except ModuleNotFoundError as error:
        status = _complain(f"{error.name}: this Python package is missing; `make setup` installs it", FAILED)
    except Exception as error:  # noqa: BLE001  # whoever types a command is never shown a traceback
        status = _complain(f"a mistake of this program: {_where(error)}: {error!r}", FAILED)
    sys.exit(status if isinstance(status, int) else DONE)


def _where(error: BaseException) -> str:
    """The file and line in which it happened, for a report."""
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"


def _complain(text: str, status: int) -> int:
    """Say what is wrong; to whoever asked for JSON, in an object as well."""
    lines = [_printable(line) for line in text.splitlines()]
    if "--json" in sys.argv[1:]:
        _emit({"errors": lines})
    print("\n".join(lines), file=sys.stderr)
    return status


def _printable(text: str) -> str:
    """One line without control characters: an argument may hold anything (HAZARDS 145)."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def _run(work: Coroutine[Any, Any, T]) -> T:
    from cluster import eventloop

    return eventloop.run(work)


def _emit(value: object) -> None:
    """One JSON object on standard output and nothing else."""
    json.dump(value, sys.stdout, ensure_ascii=True)
    sys.stdout.write("\n")


def _counted(count: int, noun: str, nouns: str = "") -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or noun + 's'}"


def _path(text: str | None) -> bytes:
    """A path argument: percent-encoded or as typed, relative to the mirror. Raises UsageError."""
    raw = (text or "").strip("/")
    try:
        return from_href(raw) if "%" in raw else from_href(href(os.fsencode(raw)))
    except UnsafeName as error:
        raise UsageError(str(error)) from None


site_option = click.option("--site", "site", required=True, metavar="SITE", help="Which site this is.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object, nothing else.")


# -- configuration -------------------------------------------------------------------------------


@cli.command()
@click.option(
    "--show", "show", metavar="MIRROR", help="The effective values of one mirror, and where each is from."
)
@click.option("--site", "site", metavar="SITE", help="As this site sees it.")
@json_option
@click.pass_obj
def check(setup: Setup, show: str | None, site: str | None, as_json: bool) -> int:
    """Validate cluster, sites and descriptors; warn about what will not work."""
    from cluster.config.load import explain, warnings

    cluster = setup.site(site, strict=True)[0] if site else setup.cluster()
    if show is not None:
        if show not in cluster.mirrors:
            known = ", ".join(sorted(cluster.mirrors)) or "none"
            raise UsageError(f"{shown(os.fsencode(show))}: no such mirror; there are: {known}")
        rows = explain(setup.folder, show, site)
        if as_json:
            _emit({"mirror": show, "values": [{"key": k, "value": v, "from": w} for k, v, w in rows]})
            return DONE
        width = max(len(key) for key, _, _ in rows)
        for key, value, where in rows:
            print(f"{key:{width}}  {value}    ({where})")
        return DONE
    found = warnings(cluster, now=time.time())
    if as_json:
        _emit(
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
    sites, mirrors = _counted(len(cluster.sites), "site"), _counted(len(cluster.mirrors), "mirror")
    print(f"{cluster.name}: {sites}, {mirrors}: valid")
    return DONE


@cli.command()
@site_option
@click.option("--rotate", is_flag=True, help="Replace the key; siblings accept the old certificate as well.")
@click.pass_obj
def keys(setup: Setup, site: str, rotate: bool) -> int:
    """Make the site's key and certificate; print what siblings need."""
    from cluster.peer import keys as peer_keys

    _, own = setup.site(site)
    if own.peer is None:
        raise UsageError(f"{site}: its file has no [peer] section, so that it has no siblings to talk to")
    fingerprint, certificate = peer_keys.make(own, own.state, replace=rotate)
    print(f"{site}: key          {peer_keys.key_path(own.state)} (stays here)")
    print(f"{site}: certificate  {certificate} (every sibling needs it, beside sites/{site}.toml)")
    print(f"{site}: SHA-256      {fingerprint}")
    return DONE


@cli.command("list")
@click.argument("url")
@click.option("--private", is_flag=True, help="The URL may lead to a private network.")
@json_option
@click.pass_obj
def list_command(setup: Setup, url: str, private: bool, as_json: bool) -> int:
    """Show how the listing at URL is understood: names, sizes, times and what is left out."""
    from cluster.daemon.look import look

    return _run(look(url, private, _emit if as_json else None, print))


# -- passes ----------------------------------------------------------------------------------------


@cli.command("pass")
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
        return _run(_pass(cluster, own, found, _path(path), dry, as_json))


async def _pass(cluster: Cluster, site: Site, mirror: Mirror, scope: bytes, dry: bool, as_json: bool) -> int:
    from cluster import control

    progress = Progress(quiet=as_json or dry)
    show_plan = _show_plan if dry and not as_json else None
    planned: list[dict[str, str]] = []

    def event(message: dict[str, Any]) -> None:
        if message.get("event") == "planned":
            planned.append(message)
            if show_plan:
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
        _emit(
            {**result, "planned": [{k: v for k, v in p.items() if k != "event"} for p in planned]}
            if dry
            else result
        )
    else:
        _print_result(result, dry)
    return OUTCOMES.get(str(result["outcome"]), FAILED)


def _show_plan(message: dict[str, Any]) -> None:
    detail = f"  ({message['detail']})" if message.get("detail") else ""
    print(f"{message['action']:14} {message['path']}{detail}")


def _print_result(result: dict[str, Any], dry: bool) -> None:
    files, size = result["files"], result["bytes"]
    for line in result.get("errors", []):
        print(f"error: {line}", file=sys.stderr)
    hidden = result.get("error_count", 0) - len(result.get("errors", []))
    if hidden > 0:
        print(f"error: and {hidden} more; `sideways status` has them all", file=sys.stderr)
    for line in result.get("notes", []):
        print(f"note: {line}")
    failed = result["outcome"] == "failed"
    counts = ", ".join(f"{n} {name}" for name, n in files.items() if n)
    counts = counts or ("nothing could be compared" if failed else "nothing there")
    ended = "failed" if failed else f"{'would be' if dry else 'is'} {result['outcome']}"
    print(f"{result['mirror']} at {result['site']} {ended}: {counts}")
    print(
        f"  {human(size['origin'])} from the origin, {human(size['sideways'])} sideways, "
        f"{human(size['listings'])} of listings; {result['requests']['origin']} origin requests, "
        f"{_counted(result['directories'], 'directory', 'directories')}, {result['seconds']:.1f} s"
    )
    if result.get("saved"):
        print(f"  {human(result['saved'])} of new versions were here already, in older ones")
    if result.get("plan"):
        print(
            f"  approve with: sideways deletions --site {result['site']} {result['mirror']} "
            f"--approve {result['plan']}"
        )


@cli.command()
@site_option
@click.argument("mirror")
@click.argument("path", required=False)
@click.pass_obj
def push(setup: Setup, site: str, mirror: str, path: str | None) -> int:
    """Ask the running daemon for a pass now."""
    _, own, found = setup.mirror(site, mirror)
    request = {"command": "push", "mirror": found.name, "path": href(_path(path))}
    answer = _run(_daemon_only(own, request))
    print(f"{mirror}: {answer['message']}")
    return DONE


@cli.command()
@site_option
@click.argument("mirror")
@click.option("--origin", metavar="URL", help="Only this origin of the mirror.")
@click.pass_obj
def pause(setup: Setup, site: str, mirror: str, origin: str | None) -> int:
    """Start no pass of MIRROR (or from one of its origins) until `resume`."""
    return _pausing(setup, site, mirror, origin, "pause")


@cli.command()
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
        raise UsageError(f"{_printable(origin)}: no origin of {mirror}; there are: {known}")
    answer = _run(_daemon_only(own, {"command": command, "mirror": mirror, "origin": origin}))
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


@cli.command()
@site_option
@click.option("--log", "log", metavar="FILE", type=click.Path(dir_okay=False), help="Append log lines here.")
@click.pass_obj
def run(setup: Setup, site: str, log: str | None) -> int:
    """The site's daemon: schedule, peer API, built-in web server."""
    from cluster.daemon.logs import to_file
    from cluster.daemon.site import run_site

    with to_file(log, verbose=setup.verbose, console=True):
        return _run(run_site(setup.folder, site))


# -- what is there ---------------------------------------------------------------------------------


@cli.command()
@site_option
@click.argument("mirror", required=False)
@click.argument("path", required=False)
@json_option
@click.pass_obj
def status(setup: Setup, site: str, mirror: str | None, path: str | None, as_json: bool) -> int:
    """Freshness, sizes, errors, what is skipped and why."""
    from cluster.daemon import statuses

    if mirror is None:
        cluster, own = setup.site(site)
        rows = _run(statuses.of_site(cluster, own, time.time()))
        received = _run(statuses.of_sites(own, rows))
        budgets = _run(statuses.of_budgets(own))
        if as_json:
            _emit({"site": site, "mirrors": rows, "received": received, "budgets": budgets})
        else:
            statuses.print_site(rows, print)
            statuses.print_received(received, print, human)
            statuses.print_budgets(budgets, print)
        return DONE
    _, own, found = setup.mirror(site, mirror)
    facts = _run(statuses.of_directory(own, found, _path(path), time.time()))
    if as_json:
        _emit(facts)
    else:
        statuses.print_directory(facts, print)
    return DONE


@cli.command()
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
            _emit({"mirror": mirror, "site": site, "records": records})
        return DONE

    return _run(_reading(own, found, show))


async def _reading(site: Site, mirror: Mirror, work: Callable[[Reader], Awaitable[T]]) -> T:
    from cluster.store.mirror import Reader

    reader = await Reader.open(mirror.name, site)
    try:
        return await work(reader)
    finally:
        await reader.close()


@cli.command()
@site_option
@click.argument("mirror")
@click.option("--approve", metavar="HASH", help="Let the held plan with this hash be carried out.")
@json_option
@click.pass_obj
def deletions(setup: Setup, site: str, mirror: str, approve: str | None, as_json: bool) -> int:
    """Show or approve a held deletion plan."""
    _, own, found = setup.mirror(site, mirror)
    if approve is not None:
        if not re.fullmatch(r"[0-9a-f]{64}", approve):
            raise UsageError(f"{_printable(approve)}: a plan's hash is 64 hexadecimal digits")
        from cluster.daemon.approval import approve_plan

        answer = _run(approve_plan(own, found, approve))
        if as_json:
            _emit(answer)
        else:
            print(f"{mirror}: {answer['message']}")
        return DONE
    plan = _run(_reading(own, found, lambda reader: reader.held_plan()))
    if as_json:
        _emit({"mirror": mirror, "site": site, "held": _plan_json(plan) if plan else None})
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
    print(f"{mirror}: {plan.items} names ({plan.files} files, {size}) are held: {plan.held_because}")
    for planned in plan.sample:
        since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(planned.first_missing))
        print(
            f"  {planned.kind:9} {planned.files:>8} files {human(planned.bytes):>9}  missing since {since}  "
            f"{shown(planned.path)}"
        )
    if plan.items > len(plan.sample):
        print(f"  and {plan.items - len(plan.sample)} more")
    print(f"approve with: sideways deletions --site {site} {mirror} --approve {plan.hash}")


@cli.command()
@click.option("--once", is_flag=True, help="Stop at the end; exit 0 only if all trees equal the origin.")
@click.option(
    "--keep", metavar="DIR", help="Work in DIR and leave it there.", type=click.Path(file_okay=False)
)
@click.pass_obj
def demo(setup: Setup, once: bool, keep: str | None) -> int:
    """A whole cluster on this machine: three sites race three lone mirrors, then one of them dies."""
    from cluster.demo import run_demo

    return _run(run_demo(setup.folder, once=once, keep=keep))


@cli.command()
@click.argument("mirror", required=False)
@click.option("--sites", metavar="N|NAMES", help="How many, or kent,oslo,... Else those configured, or 4.")
@click.option("--origin", metavar="RATE", default="1Gbit/s", show_default=True, help="All that it sends.")
@click.option("--up", metavar="RATE", default="1Gbit/s", show_default=True, help="Each site sends.")
@click.option("--down", metavar="RATE", default="1Gbit/s", show_default=True, help="Each site receives.")
@click.option("--link", "links", metavar="SITE:UP[:DOWN]", multiple=True, help="The link of one site.")
@click.option("--connection", metavar="RATE", default="20MB/s", show_default=True, help="One connection.")
@click.option("--latency", metavar="TIME", default="0.02s", show_default=True, help="One way, everywhere.")
@click.option(
    "--slots",
    metavar="N",
    type=click.IntRange(1, 64),
    help="Origin connections of a site.  [configured, or 4]",
)
@click.option(
    "--sideways-slots",
    metavar="N",
    type=click.IntRange(1, 64),
    default=6,
    show_default=True,
    help="Files that a site reads from siblings at once.",
)
@click.option("--files", metavar="N", type=int, default=1500, show_default=True, help="How many files.")
@click.option("--bytes", "bytes", metavar="SIZE", default="40GB", show_default=True, help="All together.")
@click.option(
    "--largest", metavar="SHARE", default="2%", show_default=True, help="The most that one file has of them."
)
@click.option(
    "--tail", metavar="X", type=float, default=1.2, show_default=True, help="Pareto exponent of the sizes."
)
@click.option("--directories", metavar="N", type=int, help="How many.  [one for each 25 files]")
@click.option("--tree", metavar="FOLDER", help="Take names and sizes from a folder instead.")
@click.option("--held", metavar="SITE", help="Take them from what SITE, this machine, holds of MIRROR.")
@click.option(
    "--order",
    "orders",
    type=click.Choice([str(order) for order in Order]),
    multiple=True,
    help="Walk of the first, second, ... site, over again.  [configured, or rendezvous]",
)
@click.option(
    "--by",
    "share",
    type=click.Choice(["directory", "file"]),
    default="directory",
    show_default=True,
    help="What has one owner.",
)
@click.option(
    "--tells",
    type=click.Choice(["nothing", "held", "claims"]),
    default="claims",
    show_default=True,
    help="What sites know of each other.",
)
@click.option("--every", metavar="TIME", help="Sites ask that often, instead of being told at once.")
@click.option(
    "--patience", metavar="TIME", help="A claim holds so long without progress.  [configured, or 1m]"
)
@click.option("--stealing/--no-stealing", default=True, show_default=True, help="When its own work is done.")
@click.option("--ranges/--no-ranges", default=True, show_default=True, help="Large files by 64 MiB ranges.")
@click.option("--spread", metavar="TIME", default="0s", show_default=True, help="From first to last start.")
@click.option(
    "--dies",
    metavar="SITE:SHARE[:TIME]",
    multiple=True,
    help="It dies when it holds so much, and is back after TIME: oslo:30%:10m.",
)
@click.option(
    "--cut",
    "cuts",
    metavar="SITE:SITE:TIME:TIME",
    multiple=True,
    help="From one time to the other these two cannot reach each other: kent:oslo:1m:5m.",
)
@click.option("--slow", metavar="SITE:N", multiple=True, help="Its origin connections are N times slower.")
@click.option("--seeds", metavar="N", type=click.IntRange(1, 100), default=1, show_default=True, help="Runs.")
@click.option("--table", is_flag=True, help="Compare schemes for 2, 4, 8 and 16 sites (or --sites 2,4).")
@json_option
@click.pass_obj
def simulate(setup: Setup, /, table: bool, as_json: bool, **options: Any) -> int:  # noqa: ANN401  # by name, to Asked
    """What will the origin send, and when is everybody done?

    Plays a first copy of a tree with the decisions that real passes make, on simulated links; nothing is
    fetched. With MIRROR, its sites, walk order, connections, bandwidth and patience are those configured.
    Links are fluids that are shared fairly: no TCP, no disks, no listings.
    """
    from cluster.simulate import show
    from cluster.simulate.asked import Asked, counts, scenarios

    asked = Asked(**options)
    if table:
        from cluster.simulate.table import SIZES
        from cluster.simulate.table import table as rows

        if asked != Asked(sites=asked.sites):
            raise UsageError("--table has sites and links of its own: only --sites 2,4 and --json go with it")
        sizes = counts(asked.sites, SIZES)
        if as_json:
            _emit({"schemes": [show.table_values(title, cells) for title, cells in rows(sizes)]})
            return DONE
        for line in show.table_head(sizes):
            print(line)
        for title, cells in rows(sizes):
            print(show.table_row(title, cells), flush=True)
        return DONE
    from cluster.simulate.play import play

    runs = scenarios(setup.folder, asked)
    results = [play(scenario) for scenario in runs]
    if as_json:
        _emit(show.values(runs[0], results))
    else:
        for line in show.told(runs[0], results):
            print(line)
    return DONE


# -- progress --------------------------------------------------------------------------------------


class Progress:
    """One line on standard error that is rewritten, on a terminal; a line every 10 s elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._files = self._bytes = self._sideways = self._directories = 0
        self._last = time.monotonic()
        self._shown = False

    def event(self, message: dict[str, Any]) -> None:
        """Take one event of a pass."""
        match message.get("event"):
            case "progress":
                self._files, self._bytes = message["files"], message["bytes"]
                self._sideways, self._directories = message["sideways"], message["directories"]
        now = time.monotonic()
        if not self._quiet and now - self._last >= (0.2 if self._terminal else 10.0):
            self._last = now
            self._show()

    def _show(self) -> None:
        line = (
            f"{self._directories} directories, {self._files} files, {human(self._bytes)} from the origin, "
            f"{human(self._sideways)} sideways"
        )
        end = "\r" if self._terminal else "\n"
        print(f"{line:78}", end=end, file=sys.stderr, flush=True)
        self._shown = self._terminal

    def end(self) -> None:
        """Leave the terminal's line clean."""
        if self._shown:
            print(" " * 78, end="\r", file=sys.stderr, flush=True)


def human(size: float) -> str:
    """Bytes for people, decimal units: `1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError
