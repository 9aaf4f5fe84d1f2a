"""`demo` and `simulate`: a cluster on this machine, and one that is only calculated."""

from __future__ import annotations

from typing import Any

import click

from cluster.cli.common import DONE, Setup, emit, json_option, run_to_end
from cluster.errors import UsageError
from cluster.model import Order


@click.command()
@click.option("--once", is_flag=True, help="Stop at the end; exit 0 only if all trees equal the origin.")
@click.option(
    "--keep", metavar="DIR", help="Work in DIR and leave it there.", type=click.Path(file_okay=False)
)
@click.pass_obj
def demo(setup: Setup, once: bool, keep: str | None) -> int:
    """Show a whole cluster on this machine.

    Three sites race three lone mirrors, then one of them dies and comes back. Takes one to three minutes,
    needs nothing but a checkout, and leaves nothing behind.
    """
    from cluster.demo import run_demo

    return run_to_end(run_demo(setup.folder, once=once, keep=keep))


@click.command()
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
    "--patience", metavar="TIME", help="A claim holds so long without progress.  [configured, or 5s]"
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
    """Calculate what the origin sends, and when all are done.

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
            emit({"schemes": [show.table_values(title, cells) for title, cells in rows(sizes)]})
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
        emit(show.values(runs[0], results))
    else:
        for line in show.told(runs[0], results):
            print(line)
    return DONE
