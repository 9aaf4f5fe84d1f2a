"""What the demo shows: a line per site and mirror while they work, and tables at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table


@dataclass(slots=True)
class Row:
    """One site's pass over one mirror."""

    site: str
    mirror: str
    state: str = "waits"
    files: int = 0
    origin: int = 0
    sideways: int = 0
    seconds: float = 0.0


def size(count: float) -> str:
    """Bytes in decimal megabytes."""
    return f"{count / 1e6:.1f} MB"


class Board:
    """Rows that change while it is open: drawn in place on a terminal, told now and then elsewhere."""

    def __init__(self, title: str, rows: Sequence[Row]) -> None:
        self.rows = {(row.site, row.mirror): row for row in rows}
        self._title = title
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=5, get_renderable=self._table)
        self._terminal = self._console.is_terminal
        self._told = 0.0

    def __enter__(self) -> Self:
        if self._terminal:
            self._live.start()
        else:
            print(self._title, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._live.stop()
        else:
            self._console.print(self._table())

    def event(self, site: str, mirror: str, message: dict[str, Any]) -> None:
        """One event of a pass."""
        row = self.rows[site, mirror]
        if message["event"] == "progress":
            row.state = "works"
            row.files, row.origin, row.sideways = message["files"], message["bytes"], message["sideways"]
        if not self._terminal and time.monotonic() - self._told > 2:
            self._told = time.monotonic()
            busy = [f"{r.site}/{r.mirror} {r.files} files" for r in self.rows.values() if r.state == "works"]
            print("  " + ", ".join(busy), flush=True)

    def result(self, site: str, mirror: str, result: dict[str, Any]) -> None:
        """A pass has ended."""
        row = self.rows[site, mirror]
        row.state = str(result["outcome"])
        row.files = result["files"]["origin"] + result["files"]["sideways"]
        row.origin, row.sideways = result["bytes"]["origin"], result["bytes"]["sideways"]
        row.seconds = result["seconds"]

    def _table(self) -> Table:
        table = Table(title=self._title, title_justify="left")
        for name in ("site", "mirror", "state"):
            table.add_column(name)
        for name in ("files", "from the origin", "sideways", "seconds"):
            table.add_column(name, justify="right")
        for row in self.rows.values():
            seconds = f"{row.seconds:.1f}" if row.seconds else ""
            table.add_row(
                row.site, row.mirror, row.state, str(row.files), size(row.origin), size(row.sideways), seconds
            )
        return table


def summary(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A small table of facts: what, and a column of figures for each further word of `head`."""
    table = Table(title=title, title_justify="left")
    table.add_column(head[0])
    for name in head[1:]:
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(*line)
    Console(highlight=False).print(table)


def say(text: str) -> None:
    print(text, flush=True)


def complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
