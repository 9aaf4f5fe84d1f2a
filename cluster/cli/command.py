"""The `sideways` command: its subcommands, and what is said of whatever goes wrong in them.

Exit status: 0 done; 1 ran, but something failed or is incomplete; 2 bad usage or bad configuration; 3
deletions or an older state are held.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from cluster import __version__
from cluster.cli.common import DONE, FAILED, USAGE, Setup, emit, printable
from cluster.errors import ConfigError, ConfigErrors, SidewaysError, UnsafeName, UsageError

COMMANDS = {
    "check": "configuration.check",
    "deletions": "showing.deletions",
    "repositories": "showing.repositories",
    "demo": "trying.demo",
    "journal": "showing.journal",
    "keys": "configuration.keys",
    "list": "configuration.list_command",
    "pass": "passing.pass_command",
    "pause": "asking.pause",
    "push": "asking.push",
    "resume": "asking.resume",
    "run": "passing.run",
    "simulate": "trying.simulate",
    "status": "showing.status",
}  # module of this package, and name in it


class Commands(click.Group):
    """Imports a command when it is asked for: to import all of them takes longer than some of them do."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # click's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(".")
        found = getattr(importlib.import_module(f"cluster.cli.{module}"), name)
        assert isinstance(found, click.Command)
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sideways")
@click.option(
    "-C", "folder", default=".", metavar="DIR", help="The folder that holds config/ and sites/.  [this one]"
)
@click.option("-v", "--verbose", is_flag=True, help="Say more: every request and every decision.")
@click.pass_context
def cli(context: click.Context, folder: str, verbose: bool) -> None:
    """Several sites run one public mirror service together.

    Each site mirrors every origin by itself and looks sideways at its siblings before it fetches. Exit
    status: 0 done; 1 something failed or is incomplete; 2 bad usage or configuration; 3 something is held.
    """
    context.obj = Setup(folder, verbose)


def main() -> NoReturn:
    """The `sideways` command."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        status = complain("interrupted", FAILED)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        status = DONE
    except click.ClickException as error:
        status = complain(" ".join(error.format_message().split()), USAGE)
    except (ConfigError, ConfigErrors) as error:
        status = complain(str(error), USAGE)
    except (UsageError, UnsafeName) as error:
        status = complain(str(error), USAGE)
    except SidewaysError as error:
        status = complain(str(error), FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else ""
        status = complain(f"{name}: {error.strerror}" if name else str(error), FAILED)
    except KeyboardInterrupt:
        status = complain("interrupted", FAILED)
    except ModuleNotFoundError as error:
        status = complain(f"{error.name}: this Python package is missing; `make setup` installs it", FAILED)
    except Exception as error:  # noqa: BLE001  # whoever types a command is never shown a traceback
        status = complain(f"a mistake of this program: {_where(error)}: {error!r}", FAILED)
    sys.exit(status if isinstance(status, int) else DONE)


def _where(error: BaseException) -> str:
    """The file and line in which it happened, for a report."""
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"


def complain(text: str, status: int) -> int:
    """Say what is wrong; to whoever asked for JSON, in an object as well."""
    lines = [printable(line) for line in text.splitlines()]
    if "--json" in sys.argv[1:]:
        emit({"errors": lines})
    print("\n".join(lines), file=sys.stderr)
    return status
