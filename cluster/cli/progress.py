"""How a pass is shown while it goes on, what it would do, and what came of it."""

from __future__ import annotations

import sys
import time
from typing import Any

from cluster.cli.common import counted, human


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


def show_plan(message: dict[str, Any]) -> None:
    detail = f"  ({message['detail']})" if message.get("detail") else ""
    print(f"{message['action']:14} {message['path']}{detail}")


def print_result(result: dict[str, Any], dry: bool) -> None:
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
        f"{counted(result['directories'], 'directory', 'directories')}, {result['seconds']:.1f} s"
    )
    if result.get("saved"):
        print(f"  {human(result['saved'])} of new files were here already, in older versions or elsewhere")
    if result.get("shared"):
        print(f"  {human(result['shared'])} of new files take no room of their own")
    if result.get("plan"):
        print(
            f"  approve with: sideways deletions --site {result['site']} {result['mirror']} "
            f"--approve {result['plan']}"
        )
